{{- /* What cannot work is refused here, with what to do. */ -}}
{{- define "certctl.validate" -}}
{{- $v := .Values -}}
{{- if ne $v.server.auth.type "api-key" -}}
{{- fail (printf "server.auth.type is %q: the API knows api-key" $v.server.auth.type) -}}
{{- end -}}
{{- if not (or $v.server.auth.apiKey $v.server.auth.existingSecret) -}}
{{- fail "there is no API key: set server.auth.apiKey, for example to the output of openssl rand -hex 32, or server.auth.existingSecret" -}}
{{- end -}}
{{- if not $v.server.issuer.local.enabled -}}
{{- fail "server.issuer.local.enabled is false: the local issuer signs the platform's own certificates and cannot be off; certificates name their issuer" -}}
{{- end -}}
{{- if ne $v.server.keygen.mode "agent" -}}
{{- fail (printf "server.keygen.mode is %q: keys are made on the nodes that use them (agent), or by who sends a CSR; the server makes none" $v.server.keygen.mode) -}}
{{- end -}}
{{- with $v.server.issuer.acme }}{{ if .enabled }}
{{- if not .directoryURL -}}
{{- fail "server.issuer.acme.directoryURL is missing: it names the CA, by the URL of its directory or as letsencrypt, letsencrypt-staging, zerossl, google" -}}
{{- end -}}
{{- if ne (empty .eabKid) (empty .eabHmac) -}}
{{- fail "server.issuer.acme.eabKid and eabHmac belong together" -}}
{{- end -}}
{{- if and (eq .challengeType "dns-01") (not .dnsProvider) (not .dnsPresentScript) -}}
{{- fail "server.issuer.acme.dnsProvider is missing: who writes the TXT records of dns-01? A provider, or dnsPresentScript" -}}
{{- end -}}
{{- if and .dnsPropagationWait (ne .challengeType "dns-01") -}}
{{- fail "server.issuer.acme.dnsPropagationWait is for challengeType dns-01: nothing is written into the DNS for another" -}}
{{- end -}}
{{- if and .dnsCleanupScript (not .dnsPresentScript) -}}
{{- fail "server.issuer.acme.dnsCleanupScript is set without dnsPresentScript" -}}
{{- end -}}
{{- if .dnsPresentScript -}}
{{- if or .dnsProvider (ne .challengeType "dns-01") -}}
{{- fail "server.issuer.acme.dnsPresentScript is for challengeType dns-01, in place of dnsProvider" -}}
{{- end -}}
{{- if not (or .scripts .scriptsVolume) -}}
{{- fail "server.issuer.acme.dnsPresentScript is set, and nothing is at /scripts: set scripts or scriptsVolume" -}}
{{- end -}}
{{- end -}}
{{- end }}{{ end -}}
{{- if and $v.server.smtp.enabled (not (and $v.server.smtp.host $v.server.smtp.fromAddress)) -}}
{{- fail "server.smtp.host and server.smtp.fromAddress are both needed for mails" -}}
{{- end -}}
{{- if and $v.server.smtp.enabled $v.server.smtp.username (not $v.server.smtp.useTLS) -}}
{{- fail "server.smtp.useTLS is off: a password is never sent without TLS" -}}
{{- end -}}
{{- range $name, $secret := dict "slack" "webhookUrl" "teams" "webhookUrl" "pagerduty" "routingKey" "opsgenie" "apiKey" -}}
{{- $notifier := get $v.server.notifiers $name -}}
{{- if and $notifier.enabled (not (get $notifier $secret)) -}}
{{- fail (printf "server.notifiers.%s.%s is missing" $name $secret) -}}
{{- end -}}
{{- end -}}
{{- with $v.worker.autoscaling }}{{ if and .enabled (eq .type "keda") (not .keda.serverAddress) -}}
{{- fail "worker.autoscaling.keda.serverAddress is missing: it is the URL of the Prometheus that scrapes the API" -}}
{{- end }}{{ end -}}
{{- if and (include "certctl.dnsScript" .) (contains "@" $v.server.image.tag) (not (or $v.worker.image.repository $v.worker.image.tag)) -}}
{{- fail (printf "server.image.tag is %q: that one image has no variant with a shell, which DNS scripts need: set worker.image.tag to it" $v.server.image.tag) -}}
{{- end -}}
{{- if and $v.monitoring.podMonitor.enabled (hasKey $v.server.env "CERTCTL_METRICS_LISTEN") -}}
{{- fail "server.env.CERTCTL_METRICS_LISTEN and monitoring.podMonitor.enabled are both set: what Prometheus is told to ask is port 9090" -}}
{{- end -}}
{{- if and $v.server.tls.existingSecret $v.server.tls.certManager.enabled -}}
{{- fail "server.tls.existingSecret and server.tls.certManager.enabled are both set: the API has one certificate" -}}
{{- end -}}
{{- if not (or $v.server.tls.generate $v.server.tls.existingSecret $v.server.tls.certManager.enabled) -}}
{{- fail "the API has no certificate: set server.tls.existingSecret or server.tls.certManager.enabled, or leave server.tls.generate on" -}}
{{- end -}}
{{- if and $v.server.tls.certManager.enabled (not $v.server.tls.certManager.issuerRef.name) -}}
{{- fail "server.tls.certManager.issuerRef.name is missing: it names the Issuer that signs the API's certificate" -}}
{{- end -}}
{{- if $v.postgresql.enabled -}}
{{- if not (or $v.postgresql.auth.password $v.postgresql.auth.existingSecret) -}}
{{- fail "the database has no password: set postgresql.auth.password or postgresql.auth.existingSecret" -}}
{{- end -}}
{{- else if not (or $v.externalDatabase.existingSecret (hasKey $v.server.env "CERTCTL_DATABASE_URL")) -}}
{{- fail "there is no database: set externalDatabase.existingSecret or server.env.CERTCTL_DATABASE_URL, or leave postgresql.enabled on" -}}
{{- end -}}
{{- if not (or $v.nats.enabled (and $v.nats.external.urls $v.nats.external.nodes $v.nats.external.caSecret)) -}}
{{- fail "there is no bus: set nats.external.urls, nodes and caSecret, or leave nats.enabled on" -}}
{{- end -}}
{{- end -}}
