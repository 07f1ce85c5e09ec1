{{- /* Environment of a server process: what the chart sets, and server.env over it.
     Takes root, role and add, which holds for this role only. */ -}}
{{- define "certctl.env" -}}
{{- $v := .root.Values -}}
{{- $env := dict
  "CERTCTL_ROLES" .role
  "CERTCTL_API_URL" (include "certctl.apiURL" .root)
  "CERTCTL_PKI_URL" (include "certctl.pkiURL" .root)
  "CERTCTL_NATS_URL" (include "certctl.natsURL" .root)
  "CERTCTL_NATS_REPLICAS" (ternary ($v.nats.replicas | int | toString) (ternary "3" "1" (ge (len $v.nats.external.nodes) 3)) $v.nats.enabled)
  "CERTCTL_LOG_LEVEL" $v.server.logging.level
  "CERTCTL_LOG_FORMAT" $v.server.logging.format -}}
{{- with $v.nats.advertise }}{{ $_ := set $env "CERTCTL_NATS_ADVERTISE" (join "," .) }}{{ end -}}
{{- if $v.postgresql.enabled -}}
{{- $_ := set $env "CERTCTL_DATABASE_URL" (printf "postgres://%s@%s-postgres:5432/%s?passfile=/etc/certctl/database/pgpass" ($v.postgresql.auth.username | urlquery) (include "certctl.fullname" .root) ($v.postgresql.auth.database | urlquery)) -}}
{{- else if not (hasKey $v.server.env "CERTCTL_DATABASE_URL") -}}
{{- $_ := set $env "CERTCTL_DATABASE_URL_FILE" (printf "/etc/certctl/database/%s" $v.externalDatabase.key) -}}
{{- end -}}
{{- $env = mergeOverwrite $env .add $v.server.env -}}
{{- range $name := keys $env | sortAlpha }}
{{- $value := get $env $name }}
- {name: {{ $name }}, value: {{ ternary $value (toJson $value) (kindIs "string" $value) | quote }}}
{{- end }}
{{- end -}}

{{- /* Whether the database's Secret is mounted, and what of it. */ -}}
{{- define "certctl.databaseVolume" -}}
{{- if .Values.postgresql.enabled }}
- name: database
  secret: {secretName: {{ include "certctl.secret.database" . }}, defaultMode: 0440, items: [{key: pgpass, path: pgpass}]}
{{- else if .Values.externalDatabase.existingSecret }}
- name: database
  secret: {secretName: {{ include "certctl.secret.database" . }}, defaultMode: 0440, items: [{key: {{ .Values.externalDatabase.key | quote }}, path: {{ .Values.externalDatabase.key | quote }}}]}
{{- end }}
{{- end -}}
{{- define "certctl.databaseMount" -}}
{{- if or .Values.postgresql.enabled .Values.externalDatabase.existingSecret }}
- {name: database, mountPath: /etc/certctl/database, readOnly: true}
{{- end }}
{{- end -}}

{{- /* A Deployment of one role. Takes root, component, role, values (of the role),
     env (of this role only). */ -}}
{{- define "certctl.role" -}}
{{- $root := .root -}}
{{- $api := eq .role "api" -}}
{{- $signer := eq .role "signer" -}}
{{- $declared := and $api (include "certctl.declared" $root) -}}
{{- $proofs := and $api $root.Values.server.issuer.acme.enabled (eq $root.Values.server.issuer.acme.challengeType "http-01") -}}
{{- $mail := and (eq .role "worker") $root.Values.server.smtp.enabled $root.Values.server.smtp.password -}}
{{- $scripts := and (eq .role "worker") (include "certctl.dnsScript" $root) -}}
{{- if $scripts }}{{ $_ := set .env "CERTCTL_ACME_DNS_EXEC_DIR" "/etc/certctl/dns" }}{{ end -}}
{{- $image := $root.Values.server.image -}}
{{- if eq .role "worker" }}{{ $image = include "certctl.workerImage" $root | fromYaml }}{{ end -}}
{{- if $declared }}{{ $_ := set .env "CERTCTL_DECLARE" "/etc/certctl/declared/declared.yaml" }}{{ end -}}
{{- if $proofs }}{{ $_ := set .env "CERTCTL_ACME_HTTP_LISTEN" "0.0.0.0:8081" }}{{ end -}}
{{- if eq .role "worker" }}{{ $_ := mergeOverwrite .env (include "certctl.smtpEnv" $root | fromYaml) }}{{ end -}}
{{- $env := merge .env (dict
  "CERTCTL_NATS_CA_FILE" "/etc/certctl/bus/ca.crt"
  "CERTCTL_KEK_SECRETS" "/etc/certctl/shared-keys/kek-secrets.key"
  "CERTCTL_DEBUG_LISTEN" "127.0.0.1:8090") -}}
{{- $metrics := and (not $api) $root.Values.monitoring.podMonitor.enabled -}}
{{- if $metrics }}{{ $_ := set $env "CERTCTL_METRICS_LISTEN" "0.0.0.0:9090" }}{{ end -}}
{{- $scaled := and (hasKey .values "autoscaling") (dig "autoscaling" "enabled" false .values) -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "certctl.fullname" $root }}-{{ .component }}
  labels:
    {{- include "certctl.labels" . | nindent 4 }}
spec:
  {{- if not $scaled }}
  replicas: {{ .values.replicas }}
  {{- end }}
  selector:
    matchLabels:
      {{- include "certctl.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "certctl.labels" . | nindent 8 }}
    spec:
      serviceAccountName: {{ include "certctl.serviceAccount" $root }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      {{- with include "certctl.pullSecrets" $root | trim }}{{ . | nindent 6 }}{{ end }}
      securityContext:
        {{- include "certctl.podSecurity" (dict "user" 1000) | nindent 8 }}
      {{- if and $api $root.Values.podAntiAffinity }}
      affinity:
        podAntiAffinity:
          {{- toYaml $root.Values.podAntiAffinity | nindent 10 }}
      {{- end }}
      {{- with include "certctl.placement" .values | trim }}{{ . | nindent 6 }}{{ end }}
      containers:
        - name: {{ .component }}
          image: {{ include "certctl.image" (dict "root" $root "image" $image) | nindent 10 | trim }}
          args: [serve]
          env:
            {{- include "certctl.env" (dict "root" $root "role" .role "add" $env) | trim | nindent 12 }}
          {{- if $api }}
          ports:
            - {name: https, containerPort: {{ $root.Values.server.port }}}
            - {name: pki, containerPort: 8080}
            {{- if $proofs }}
            - {name: acme, containerPort: 8081}
            {{- end }}
          startupProbe: {httpGet: {path: /health, port: https, scheme: HTTPS}, periodSeconds: 2, failureThreshold: 90}
          livenessProbe: {httpGet: {path: /health, port: https, scheme: HTTPS}, periodSeconds: 10, timeoutSeconds: 5}
          readinessProbe: {httpGet: {path: /ready, port: https, scheme: HTTPS}, periodSeconds: 5, timeoutSeconds: 5}
          {{- else }}
          {{- if $metrics }}
          ports:
            - {name: metrics, containerPort: 9090}
          {{- end }}
          startupProbe: {exec: {command: [/certctl-server, health]}, periodSeconds: 2, timeoutSeconds: 6, failureThreshold: 90}
          livenessProbe: {exec: {command: [/certctl-server, health]}, periodSeconds: 20, timeoutSeconds: 6}
          readinessProbe: {exec: {command: [/certctl-server, health]}, periodSeconds: 10, timeoutSeconds: 6}
          {{- end }}
          resources:
            {{- toYaml .values.resources | nindent 12 }}
          securityContext:
            {{- include "certctl.containerSecurity" $root.Values.server.securityContext | nindent 12 }}
          volumeMounts:
            - {name: data, mountPath: /var/lib/certctl}
            - {name: shared-keys, mountPath: /etc/certctl/shared-keys, readOnly: true}
            - {name: bus, mountPath: /etc/certctl/bus, readOnly: true}
            {{- with include "certctl.databaseMount" $root | trim }}{{ . | nindent 12 }}{{ end }}
            {{- if $signer }}
            - {name: keys, mountPath: /etc/certctl/keys, readOnly: true}
            {{- end }}
            {{- if $api }}
            - {name: tls, mountPath: /etc/certctl/tls, readOnly: true}
            - {name: api-key, mountPath: /etc/certctl/api-key, readOnly: true}
            {{- end }}
            {{- if $declared }}
            - {name: declared, mountPath: /etc/certctl/declared, readOnly: true}
            {{- end }}
            {{- if $scripts }}
            - {name: dns, mountPath: /etc/certctl/dns/dns, subPath: dns, readOnly: true}
            - {name: scripts, mountPath: /scripts, readOnly: true}
            {{- end }}
            {{- if $mail }}
            - {name: smtp, mountPath: /etc/certctl/smtp, readOnly: true}
            {{- end }}
      volumes:
        - {name: data, emptyDir: {sizeLimit: 64Mi}}
        - name: shared-keys
          secret:
            secretName: {{ include "certctl.secret.sharedKeys" $root }}
            defaultMode: 0440
            items: [{key: kek-secrets.key, path: kek-secrets.key}{{ if or $api $signer }}, {key: kek-pki.key, path: kek-pki.key}{{ end }}]
        - name: bus
          secret:
            secretName: {{ include "certctl.secret.bus" $root }}
            defaultMode: 0440
            items: [{key: ca.crt, path: ca.crt}{{ if not $signer }}, {key: {{ .role }}.creds, path: {{ .role }}.creds}{{ end }}]
        {{- with include "certctl.databaseVolume" $root | trim }}{{ . | nindent 8 }}{{ end }}
        {{- if $signer }}
        - name: keys
          secret: {secretName: {{ include "certctl.secret.keys" $root }}, defaultMode: 0440, items: [{key: kek-ca.key, path: kek-ca.key}]}
        {{- end }}
        {{- if $api }}
        - {name: tls, secret: {secretName: {{ include "certctl.secret.apiTLS" $root }}, defaultMode: 0440}}
        - name: api-key
          secret: {secretName: {{ include "certctl.secret.apiKey" $root }}, defaultMode: 0440, items: [{key: api-key, path: api-key}]}
        {{- end }}
        {{- if $declared }}
        - {name: declared, secret: {secretName: {{ include "certctl.secret.declared" $root }}, defaultMode: 0440}}
        {{- end }}
        {{- if $scripts }}
        - {name: dns, configMap: {name: {{ include "certctl.dnsScriptName" $root }}, defaultMode: 0555}}
        - name: scripts
          {{- toYaml (default (dict "configMap" (dict "name" (printf "%s-scripts" (include "certctl.fullname" $root)) "defaultMode" 365)) $root.Values.server.issuer.acme.scriptsVolume) | nindent 10 }}
        {{- end }}
        {{- if $mail }}
        - {name: smtp, secret: {secretName: {{ include "certctl.secret.smtp" $root }}, defaultMode: 0440}}
        {{- end }}
{{- end -}}
