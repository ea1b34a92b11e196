{{- define "moderation-worker.heldQuery" -}}
x
{{- end -}}
