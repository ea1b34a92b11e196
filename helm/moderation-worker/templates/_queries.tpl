{{/* Questions that the chart asks Prometheus. Alerts and dashboard are files; only what depends on the release is here. */}}

{{/* Which series are those of this release's pods: what stands between the braces. */}}
{{- define "moderation-worker.podSeries" -}}
namespace="{{ .Release.Namespace }}", pod=~"{{ include "moderation-worker.fullname" . }}-[0-9]+"
{{- end -}}

{{/*
An expression of files/alerts.yaml, which knows no release, with each metric in it narrowed to this release's pods. Called with
(dict "root" $ "expression" …).
*/}}
{{- define "moderation-worker.narrowed" -}}
{{- $series := include "moderation-worker.podSeries" .root -}}
{{- regexReplaceAll "\\b((?:moderation_worker|process)_[a-z_]+)" .expression (printf "${1}{%s}" $series) | replace "}{" ", " -}}
{{- end -}}

{{/*
How many pods there are, while Tencent, the configuration or a person is what limits, for most of the last five minutes; else 0.
More replicas could not call more often then.
*/}}
{{- define "moderation-worker.heldQuery" -}}
{{- $pods := include "moderation-worker.podSeries" . -}}
count(moderation_worker_ready{ {{- $pods -}} }) * (max(avg_over_time(moderation_worker_limited_by{ {{- $pods -}} , by=~"quota|lent|throttle|breaker|halt|pause"}[5m])) > bool 0.5)
{{- end -}}
