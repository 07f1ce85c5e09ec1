{{- /* What the API is to make of the values: an ACME issuer, channels. Empty when
     there is nothing. */ -}}
{{- define "certctl.declared" -}}
{{- $v := .Values.server -}}
{{- $all := dict -}}
{{- with $v.issuer.acme }}{{ if .enabled }}
{{- $rule := dict "type" .challengeType -}}
{{- if .dnsProvider }}{{ $_ := set $rule "provider" .dnsProvider }}{{ $_ := set $rule "config" .dnsConfig }}{{ end -}}
{{- if .dnsPresentScript }}{{ $_ := set $rule "provider" "exec" }}{{ $_ := set $rule "config" (dict "script" "dns") }}{{ end -}}
{{- $settings := dict "directory" .directoryURL "terms_of_service_agreed" true "challenges" (list $rule) -}}
{{- with .email }}{{ $_ := set $settings "contact" (list .) }}{{ end -}}
{{- with .eabKid }}{{ $_ := set $settings "eab_key_id" . }}{{ end -}}
{{- with .caBundle }}{{ $_ := set $settings "ca_bundle" . }}{{ end -}}
{{- if eq .challengeType "dns-01" }}{{ with .dnsPropagationWait }}{{ $_ := set $settings "dns_propagation_wait" . }}{{ end }}{{ end -}}
{{- if .allowPrivateNetworks }}{{ $_ := set $settings "allow_private_networks" true }}{{ end -}}
{{- $secrets := deepCopy .dnsSecrets -}}
{{- with .eabHmac }}{{ $_ := set $secrets "eab_hmac" . }}{{ end -}}
{{- $issuer := dict "name" "acme" "kind" "acme" "settings" $settings -}}
{{- if $secrets }}{{ $_ := set $issuer "secrets" $secrets }}{{ end -}}
{{- $_ := set $all "issuers" (list $issuer) -}}
{{- end }}{{ end -}}
{{- $channels := list -}}
{{- with $v.notifiers.slack }}{{ if .enabled }}
{{- $settings := dict -}}{{ with .channel }}{{ $_ := set $settings "channel" . }}{{ end -}}
{{- $channels = append $channels (dict "name" "slack" "kind" "slack" "settings" $settings "secrets" (dict "url" .webhookUrl)) -}}
{{- end }}{{ end -}}
{{- with $v.notifiers.teams }}{{ if .enabled }}
{{- $channels = append $channels (dict "name" "teams" "kind" "teams" "secrets" (dict "url" .webhookUrl)) -}}
{{- end }}{{ end -}}
{{- with $v.notifiers.pagerduty }}{{ if .enabled }}
{{- $channels = append $channels (dict "name" "pagerduty" "kind" "pagerduty" "secrets" (dict "routing_key" .routingKey)) -}}
{{- end }}{{ end -}}
{{- with $v.notifiers.opsgenie }}{{ if .enabled }}
{{- $channels = append $channels (dict "name" "opsgenie" "kind" "opsgenie" "secrets" (dict "api_key" .apiKey)) -}}
{{- end }}{{ end -}}
{{- if and $v.smtp.enabled $v.smtp.to }}
{{- $channels = append $channels (dict "name" "email" "kind" "email" "settings" (dict "to" $v.smtp.to)) -}}
{{- end -}}
{{- if $channels }}{{ $_ := set $all "channels" $channels }}{{ end -}}
{{- if $all }}{{ toYaml $all }}{{ end -}}
{{- end -}}

{{- define "certctl.secret.declared" -}}
{{- include "certctl.fullname" . }}-declared
{{- end -}}
{{- define "certctl.secret.smtp" -}}
{{- include "certctl.fullname" . }}-smtp
{{- end -}}

{{- /* Environment of workers for mail. */ -}}
{{- define "certctl.smtpEnv" -}}
{{- with .Values.server.smtp }}{{ if .enabled }}
{{- $tls := ternary (ternary "implicit" "starttls" (eq (int .port) 465)) "none" .useTLS -}}
{{- $env := dict "CERTCTL_SMTP_HOST" .host "CERTCTL_SMTP_PORT" (toString .port) "CERTCTL_SMTP_TLS" $tls "CERTCTL_SMTP_FROM" .fromAddress -}}
{{- with .username }}{{ $_ := set $env "CERTCTL_SMTP_USERNAME" . }}{{ end -}}
{{- if .password }}{{ $_ := set $env "CERTCTL_SMTP_PASSWORD_FILE" "/etc/certctl/smtp/password" }}{{ end -}}
{{- toYaml $env -}}
{{- end }}{{ end -}}
{{- end -}}

{{- /* What the worker runs for a DNS record: the script for what is asked. Empty when
     there are no scripts. */ -}}
{{- define "certctl.dnsScript" -}}
{{- with .Values.server.issuer.acme }}{{ if and .enabled .dnsPresentScript -}}
#!/bin/sh
case "$1" in
present) exec {{ .dnsPresentScript }} "$@" ;;
remove) exec {{ default .dnsPresentScript .dnsCleanupScript }} "$@" ;;
esac
echo "neither present nor remove: $1" >&2
exit 2
{{ end }}{{ end -}}
{{- end -}}

{{- /* Its name changes with what it says: a file mounted alone is never renewed. */ -}}
{{- define "certctl.dnsScriptName" -}}
{{- include "certctl.fullname" . }}-dns-{{ include "certctl.dnsScript" . | sha256sum | trunc 8 }}
{{- end -}}
