{{/* Names and labels of every object. The worker's settings are in _settings.tpl, what is refused in _refusals.tpl, the container in _pod.tpl. */}}

{{/* A text as a label takes it: 63 bytes at most, the last a letter or digit. */}}
{{- define "moderation-worker.label" -}}
{{- regexReplaceAll "[-._]+$" (trunc 63 .) "" -}}
{{- end -}}

{{- define "moderation-worker.name" -}}
{{- include "moderation-worker.label" (default .Chart.Name .Values.nameOverride) -}}
{{- end -}}

{{/* At most 52 bytes: a StatefulSet's pods append "-0", and its revision hash must still fit into a label of 63. */}}
{{- define "moderation-worker.fullname" -}}
{{- $name := include "moderation-worker.name" . -}}
{{- $full := .Values.fullnameOverride -}}
{{- if not $full -}}
{{- $full = contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- end -}}
{{- regexReplaceAll "-+$" (trunc 52 $full) "" -}}
{{- end -}}

{{- define "moderation-worker.selectorLabels" -}}
app.kubernetes.io/name: {{ include "moderation-worker.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{/* What the worker's own pods carry beyond the selector's labels of old: the pod of `helm test` is none of them. */}}
{{- define "moderation-worker.workerLabels" -}}
{{ include "moderation-worker.selectorLabels" . }}
app.kubernetes.io/component: worker
{{- end -}}

{{/* An object's own labels; those that an operator gives come after them. */}}
{{- define "moderation-worker.labels" -}}
{{ include "moderation-worker.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | include "moderation-worker.label" }}
{{- end -}}

{{/* An object's metadata; called with (dict "root" $ "name" … "labels" … "annotations" …), all but the root optional. */}}
{{- define "moderation-worker.metadata" -}}
{{- $root := .root -}}
name: {{ .name | default (include "moderation-worker.fullname" $root) | quote }}
namespace: {{ $root.Release.Namespace | quote }}
labels:
  {{- include "moderation-worker.labels" $root | nindent 2 }}
  {{- with .component }}
  app.kubernetes.io/component: {{ . }}
  {{- end }}
  {{- with merge (dict) (.labels | default dict) $root.Values.commonLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- $annotations := merge (dict) (.annotations | default dict) $root.Values.commonAnnotations -}}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "moderation-worker.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "moderation-worker.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* The account of the job that makes topics: one of its own before an install, when the release's is not there. */}}
{{- define "moderation-worker.topicsAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{ include "moderation-worker.fullname" . }}-topics
{{- else -}}
{{ include "moderation-worker.serviceAccountName" . }}
{{- end -}}
{{- end -}}

{{- define "moderation-worker.image" -}}
{{- $registry := dig "imageRegistry" "" (.Values.global | default dict) | default .Values.image.registry -}}
{{- with .Values.image -}}
{{- with $registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What a pod's template carries; called with (dict "root" $ "component" … "annotations" …). */}}
{{- define "moderation-worker.podMetadata" -}}
{{- $root := .root -}}
labels:
  {{- include "moderation-worker.selectorLabels" $root | nindent 2 }}
  app.kubernetes.io/component: {{ .component }}
  app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
  {{- with merge (dict) $root.Values.podLabels $root.Values.commonLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (.annotations | default dict) $root.Values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
