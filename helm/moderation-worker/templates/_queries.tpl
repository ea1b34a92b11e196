{{/* Questions that the chart asks Prometheus. Alerts and dashboard are files; only what depends on the release is here. */}}

{{/*
How many pods there are, while Tencent or the configuration is what limits, for most of the last five minutes; else 0.
More replicas could not call more often then.
*/}}
{{- define "moderation-worker.heldQuery" -}}
{{- $pods := printf "namespace=\"%s\", pod=~\"%s-[0-9]+\"" .Release.Namespace (include "moderation-worker.fullname" .) -}}
count(moderation_worker_ready{ {{- $pods -}} }) * (max(avg_over_time(moderation_worker_limited_by{ {{- $pods -}} , by=~"quota|throttle|breaker|halt"}[5m])) > bool 0.5)
{{- end -}}
