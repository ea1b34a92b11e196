{{/* The port of an address; empty without one, and for one of the pod itself, where no policy is in the way. */}}
{{- define "moderation-worker.port" -}}
{{- if and . (not (regexMatch "^[a-z]+://(localhost|127[.]0[.]0[.]1|\\[::1\\])(:|/|$)" .)) -}}
{{- with regexFind "^[a-z]+://[^/]*:[0-9]+(/|$)" . -}}
{{ regexFind "[0-9]+/?$" . | trimSuffix "/" }}
{{- else -}}
443
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Where pods may go: DNS, the brokers, HTTPS, where tokens come from (a provider, or AWS). The same for workers and for the job that makes topics. */}}
{{- define "moderation-worker.egress" -}}
{{- with .Values.networkPolicy -}}
{{- $ports := .kafkaPorts -}}
{{- if not $ports -}}
{{- range $.Values.settings.kafka.bootstrap_servers -}}
{{- $ports = append $ports (regexFind "[0-9]+$" . | int) -}}
{{- end -}}
{{- end -}}
- ports:
    {{- range .dnsPorts }}
    - port: {{ . }}
      protocol: UDP
    - port: {{ . }}
      protocol: TCP
    {{- end }}
- ports:
    {{- range uniq $ports }}
    - port: {{ . }}
      protocol: TCP
    {{- end }}
  {{- with .kafkaTo }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- $open := list -}}
{{- $named := append .tencentPorts (include "moderation-worker.port" $.Values.settings.http.proxy) -}}
{{- range $.Values.apps -}}
{{- $named = append $named (include "moderation-worker.port" .base_url) -}}
{{- end -}}
{{- range $named -}}
{{- $open = append $open (int .) -}}
{{- end }}
- ports:
    {{- range compact $open | uniq }}
    - port: {{ . }}
      protocol: TCP
    {{- end }}
  {{- with .tencentTo }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- with include "moderation-worker.port" $.Values.settings.kafka.oauth.token_url | default (empty $.Values.settings.kafka.aws_msk_iam.region | ternary "" "443") }}
- ports:
    - port: {{ . }}
      protocol: TCP
  {{- with $.Values.networkPolicy.tokensTo }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- with .extraEgress }}
{{ toYaml . }}
{{- end }}
{{- end -}}
{{- end -}}
