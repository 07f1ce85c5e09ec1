{{- define "certctl.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- /* The prefix of all names: the release's, with the chart's when it lacks it. The
     longest suffix has 26 characters. */ -}}
{{- define "certctl.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 37 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "certctl.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 37 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 37 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Labels that a pod is found by; takes root and component. */ -}}
{{- define "certctl.selector" -}}
app.kubernetes.io/name: {{ include "certctl.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- /* What selects the pods of all roles but the API. */ -}}
{{- define "certctl.roles" -}}
matchLabels:
  app.kubernetes.io/name: {{ include "certctl.name" . }}
  app.kubernetes.io/instance: {{ .Release.Name }}
matchExpressions:
  - {key: app.kubernetes.io/component, operator: In, values: [worker, signer, scheduler]}
{{- end -}}

{{- define "certctl.labels" -}}
{{ include "certctl.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "certctl.image" -}}
{{- printf "%s:%s" .image.repository (default .root.Chart.AppVersion .image.tag) | quote }}
imagePullPolicy: {{ .image.pullPolicy }}
{{- end -}}

{{- /* That of workers: worker.image over server.image, whose variant with a shell it
     is where DNS scripts run. */ -}}
{{- define "certctl.workerImage" -}}
{{- $own := .Values.worker.image -}}
{{- $of := .Values.server.image -}}
{{- $tag := default .Chart.AppVersion $of.tag -}}
{{- if include "certctl.dnsScript" . }}{{ $tag = printf "%s-shell" $tag }}{{ end -}}
{{- if $own.repository }}{{ $tag = .Chart.AppVersion }}{{ end -}}
{{- toYaml (dict "repository" (default $of.repository $own.repository) "tag" (default $tag $own.tag) "pullPolicy" (default $of.pullPolicy $own.pullPolicy)) -}}
{{- end -}}

{{- define "certctl.serviceAccount" -}}
{{- default (include "certctl.fullname" .) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "certctl.setupAccount" -}}
{{- include "certctl.serviceAccount" . }}-setup
{{- end -}}

{{- /* Names of Secrets. */ -}}
{{- define "certctl.secret.apiKey" -}}
{{- default (printf "%s-server" (include "certctl.fullname" .)) .Values.server.auth.existingSecret -}}
{{- end -}}
{{- define "certctl.secret.keys" -}}
{{- default (printf "%s-keys" (include "certctl.fullname" .)) .Values.keys.existingSecret -}}
{{- end -}}
{{- define "certctl.secret.sharedKeys" -}}
{{- default (printf "%s-shared-keys" (include "certctl.fullname" .)) .Values.keys.existingSharedSecret -}}
{{- end -}}
{{- define "certctl.secret.tls" -}}
{{- include "certctl.fullname" . }}-tls
{{- end -}}
{{- define "certctl.secret.apiTLS" -}}
{{- if .Values.server.tls.existingSecret -}}
{{- .Values.server.tls.existingSecret -}}
{{- else if .Values.server.tls.certManager.enabled -}}
{{- include "certctl.fullname" . }}-server-tls
{{- else -}}
{{- include "certctl.secret.tls" . -}}
{{- end -}}
{{- end -}}
{{- define "certctl.secret.bus" -}}
{{- include "certctl.fullname" . }}-bus
{{- end -}}
{{- define "certctl.secret.agent" -}}
{{- include "certctl.fullname" . }}-agent
{{- end -}}
{{- define "certctl.secret.database" -}}
{{- if .Values.postgresql.enabled -}}
{{- default (printf "%s-postgres" (include "certctl.fullname" .)) .Values.postgresql.auth.existingSecret -}}
{{- else -}}
{{- .Values.externalDatabase.existingSecret -}}
{{- end -}}
{{- end -}}

{{- /* Where things are reached. */ -}}
{{- define "certctl.host" -}}
{{- printf "%s-%s.%s.svc" (include "certctl.fullname" .root) .component .root.Release.Namespace -}}
{{- end -}}
{{- define "certctl.apiURL" -}}
{{- default (printf "https://%s:%v" (include "certctl.host" (dict "root" . "component" "server")) .Values.server.port) .Values.server.url -}}
{{- end -}}
{{- define "certctl.pkiURL" -}}
{{- if .Values.pki.host -}}
http://{{ .Values.pki.host }}
{{- else -}}
{{- $port := .Values.pki.service.port | int -}}
http://{{ include "certctl.host" (dict "root" . "component" "pki") }}{{ if ne $port 80 }}:{{ $port }}{{ end }}
{{- end -}}
{{- end -}}
{{- define "certctl.natsNode" -}}
{{- printf "%s-nats-%d.%s-nats-headless.%s.svc.%s" (include "certctl.fullname" .root) (.n | int) (include "certctl.fullname" .root) .root.Release.Namespace .root.Values.clusterDomain -}}
{{- end -}}
{{- define "certctl.natsURL" -}}
{{- if not .Values.nats.enabled -}}
{{- join "," .Values.nats.external.urls -}}
{{- else -}}
tls://{{ include "certctl.host" (dict "root" . "component" "nats") }}:4222
{{- end -}}
{{- end -}}

{{- /* Security contexts: what the restricted profile asks for. */ -}}
{{- define "certctl.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .user | int64 }}
runAsGroup: {{ .user | int64 }}
fsGroup: {{ .user | int64 }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}
{{- define "certctl.containerSecurity" -}}
{{- $safe := dict "allowPrivilegeEscalation" false "readOnlyRootFilesystem" true "capabilities" (dict "drop" (list "ALL")) -}}
{{- toYaml (mergeOverwrite $safe (deepCopy .)) -}}
{{- end -}}

{{- define "certctl.pullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "certctl.placement" -}}
{{- with .nodeSelector }}
nodeSelector:
{{ toYaml . | indent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
{{ toYaml . }}
{{- end }}
{{- end -}}
