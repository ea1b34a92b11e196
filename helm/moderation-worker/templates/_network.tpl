{{/* Where pods may go: DNS, the brokers, HTTPS. The same for workers and for the job that makes topics. */}}
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
- ports:
    {{- range .tencentPorts }}
    - port: {{ . }}
      protocol: TCP
    {{- end }}
  {{- with .tencentTo }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- with .extraEgress }}
{{ toYaml . }}
{{- end }}
{{- end -}}
{{- end -}}
