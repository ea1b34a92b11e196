{{/* How a pod is scraped; called with podMonitor or serviceMonitor. */}}
{{- define "moderation-worker.endpoint" -}}
port: http
path: /metrics
# Without it the operator's own label "endpoint" (the port's name) would rename the worker's.
honorLabels: true
interval: {{ .interval }}
scrapeTimeout: {{ .scrapeTimeout }}
{{- with .relabelings }}
relabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
