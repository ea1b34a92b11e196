{{/*
The worker's settings file. The chart decides what depends on the pod (paths of secrets, TLS, SASL); everything else is passed
through under the worker's own names. What is refused is in _refusals.tpl.
*/}}

{{- define "moderation-worker.directory" -}}/etc/moderation-worker{{- end -}}
{{- define "moderation-worker.secretsDirectory" -}}{{ include "moderation-worker.directory" . }}/secrets{{- end -}}

{{/*
The consumer group. Where no value names one: that of the release as it runs, so that an upgrade never changes it (another group
has other commits); for a new release its namespace and full name.
*/}}
{{- define "moderation-worker.groupId" -}}
{{- $name := include "moderation-worker.fullname" . -}}
{{- $derived := printf "%s.%s" .Release.Namespace $name -}}
{{- if .Values.settings.kafka.group_id -}}
{{ .Values.settings.kafka.group_id }}
{{- else if .Release.IsInstall -}}
{{ $derived }}
{{- else -}}
{{- $running := dig "data" "worker.yaml" "" (lookup "v1" "ConfigMap" .Release.Namespace $name) | fromYaml -}}
{{- $known := lookup "v1" "Secret" .Release.Namespace (printf "sh.helm.release.v1.%s.v%d" .Release.Name (sub .Release.Revision 1)) -}}
{{- with dig "kafka" "group_id" "" $running -}}
{{ . }}
{{- else -}}
{{/* Nothing of the release is there, and the cluster can be asked: its first install failed before anything ran. */}}
{{- $others := list -}}
{{- range (lookup "apps/v1" "StatefulSet" .Release.Namespace "").items -}}
{{- if eq (dig "metadata" "labels" "app.kubernetes.io/instance" "" .) $.Release.Name -}}
{{- $others = append $others .metadata.name -}}
{{- end -}}
{{- end -}}
{{- if or $others (not $known) -}}
{{- fail (printf "settings.kafka.group_id is empty, and the group of the running release cannot be read%s: set it to that group (a release that never ran: %s); with another one the worker would not find its commits" (empty $others | ternary "" (printf " (its StatefulSet is %s, not %s)" (join ", " $others) $name)) $derived) -}}
{{- end -}}
{{ $derived }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The options of every Kafka client that follow from the chart's own values. */}}
{{- define "moderation-worker.kafkaCommonOwn" -}}
{{- $tls := .Values.kafka.tls -}}
{{- $sasl := .Values.kafka.sasl -}}
{{- $secrets := include "moderation-worker.secretsDirectory" . -}}
{{- $common := dict -}}
{{- $signsIn := or $sasl.mechanism .Values.kafka.oauth.existingSecret .Values.settings.kafka.aws_msk_iam.region (and $tls.enabled (get .Values.settings.kafka.common "sasl_mechanism")) -}}
{{- if or $tls.enabled $signsIn -}}
{{- $_ := set $common "security_protocol" (printf "%s%s" (ternary "SASL_" "" (not (empty $signsIn))) (ternary "PLAINTEXT" "SSL" (empty $tls.enabled))) -}}
{{- end -}}
{{- if and $tls.enabled $tls.ca.existingSecret -}}
{{- $_ := set $common "ssl_cafile" (printf "%s/kafka/ca.crt" $secrets) -}}
{{- end -}}
{{- if and $tls.enabled $tls.client.existingSecret -}}
{{- $_ := set $common "ssl_certfile" (printf "%s/kafka/tls.crt" $secrets) -}}
{{- $_ := set $common "ssl_keyfile" (printf "%s/kafka/tls.key" $secrets) -}}
{{- if $tls.client.keyPasswordKey -}}
{{- $_ := set $common "ssl_password_file" (printf "%s/kafka/tls.key.password" $secrets) -}}
{{- end -}}
{{- end -}}
{{- with $sasl.mechanism -}}
{{- $_ := set $common "sasl_mechanism" . -}}
{{- end -}}
{{- if $sasl.mechanism -}}
{{- $_ := set $common "sasl_plain_password_file" (printf "%s/kafka/sasl-password" $secrets) -}}
{{- end -}}
{{- toYaml $common -}}
{{- end -}}

{{- define "moderation-worker.kafkaCommon" -}}
{{- toYaml (merge (include "moderation-worker.kafkaCommonOwn" . | fromYaml) .Values.settings.kafka.common) -}}
{{- end -}}

{{- define "moderation-worker.tencentApps" -}}
{{- $apps := dict -}}
{{- range $name, $app := .Values.apps -}}
{{- $path := printf "%s/apps/%s/secret-key" (include "moderation-worker.secretsDirectory" $) $name -}}
{{- $_ := set $apps $name (merge (dict "secret_key_file" $path) (omit $app "existingSecret")) -}}
{{- end -}}
{{- toYaml $apps -}}
{{- end -}}

{{- define "moderation-worker.settings" -}}
{{- $settings := deepCopy .Values.settings -}}
{{- $_ := set $settings.kafka "group_id" (include "moderation-worker.groupId" .) -}}
{{- $_ := set $settings.kafka "common" (include "moderation-worker.kafkaCommon" . | fromYaml) -}}
{{- $_ := set $settings.tencent "apps" (include "moderation-worker.tencentApps" . | fromYaml) -}}
{{/* Helm takes a null of somebody's values out, with its key, and the worker would look for its own default: null is said anew. */}}
{{- range $topic := list "control_topic" "quota_topic" -}}
{{- $_ := set $settings.kafka $topic (default nil (get $settings.kafka $topic)) -}}
{{- end -}}
{{- if not $settings.tencent.default_app -}}
{{- $_ := unset $settings.tencent "default_app" -}}
{{- end -}}
{{- $secrets := include "moderation-worker.secretsDirectory" . -}}
{{- if .Values.kafka.oauth.existingSecret -}}
{{- $_ := set $settings.kafka.oauth "client_secret_file" (printf "%s/kafka/oauth-client-secret" $secrets) -}}
{{- if .Values.kafka.oauth.ca.existingSecret -}}
{{- $_ := set $settings.kafka.oauth "ca_file" (printf "%s/kafka/oauth-ca.crt" $secrets) -}}
{{- end -}}
{{- else -}}
{{- $_ := unset $settings.kafka "oauth" -}}
{{- end -}}
{{- if not $settings.kafka.aws_msk_iam.region -}}
{{- $_ := unset $settings.kafka "aws_msk_iam" -}}
{{- end -}}
{{- if .Values.http.proxyCredentials.existingSecret -}}
{{- $_ := set $settings.http "proxy_credentials_file" (printf "%s/http/proxy-credentials" $secrets) -}}
{{- end -}}
{{- if .Values.http.ca.existingSecret -}}
{{- $_ := set $settings.http "ca_file" (printf "%s/http/ca.crt" $secrets) -}}
{{- end -}}
{{/* An empty room means the worker's own defaults. */}}
{{- range $room, $knobs := $settings -}}
{{- if and (kindIs "map" $knobs) (empty $knobs) -}}
{{- $_ := unset $settings $room -}}
{{- end -}}
{{- end -}}
{{- toYaml $settings -}}
{{- end -}}
