{{/*
The worker's settings file, and the refusals that a schema cannot express. The chart decides what depends on the pod (paths of
secrets, TLS, SASL); everything else is passed through under the worker's own names.
*/}}

{{- define "moderation-worker.directory" -}}/etc/moderation-worker{{- end -}}
{{- define "moderation-worker.secretsDirectory" -}}{{ include "moderation-worker.directory" . }}/secrets{{- end -}}

{{/* Refuses what would install and then not work. */}}
{{- define "moderation-worker.validate" -}}
{{- $settings := .Values.settings -}}
{{- if not $settings.kafka.bootstrap_servers -}}
{{- fail "settings.kafka.bootstrap_servers is empty: name the brokers, for example --set 'settings.kafka.bootstrap_servers={broker:9092}'" -}}
{{- end -}}
{{- if not .Values.apps -}}
{{- fail "apps is empty: name at least one Tencent app with sdk_app_id, identifier, region (or base_url) and existingSecret" -}}
{{- end -}}
{{- $default := $settings.tencent.default_app -}}
{{- if and $default (not (hasKey .Values.apps $default)) -}}
{{- fail (printf "settings.tencent.default_app is %q, but apps has no such name" $default) -}}
{{- end -}}
{{- $needed := addf $settings.drain_seconds .Values.terminationMarginSeconds -}}
{{- if lt (float64 .Values.terminationGracePeriodSeconds) (float64 $needed) -}}
{{- fail (printf "terminationGracePeriodSeconds is %v, but settings.drain_seconds + terminationMarginSeconds is %v: a drain would be killed" .Values.terminationGracePeriodSeconds $needed) -}}
{{- end -}}
{{- if and .Values.kafka.sasl.mechanism (not .Values.kafka.sasl.existingSecret) -}}
{{- fail "kafka.sasl.existingSecret is empty: name the Secret with the password" -}}
{{- end -}}
{{- if and .Values.kafka.oauth.existingSecret .Values.kafka.sasl.mechanism -}}
{{- fail "kafka.oauth and kafka.sasl are both set: a client signs in with a token or with a password" -}}
{{- end -}}
{{- $given := list -}}
{{- range $settings.kafka.oauth -}}
{{- $given = append $given . -}}
{{- end -}}
{{- if ne (empty .Values.kafka.oauth.existingSecret) (empty (compact $given)) -}}
{{- fail "kafka.oauth.existingSecret (the client's secret) and settings.kafka.oauth (token_url, client_id) need each other" -}}
{{- end -}}
{{- if and .Values.http.proxyCredentials.existingSecret (not $settings.http.proxy) -}}
{{- fail "http.proxyCredentials is set, but settings.http.proxy is not" -}}
{{- end -}}
{{- if $settings.kafka.aws_msk_iam.region -}}
{{- if or .Values.kafka.sasl.mechanism .Values.kafka.oauth.existingSecret -}}
{{- fail "settings.kafka.aws_msk_iam and kafka.sasl or kafka.oauth are both set: there is one way to sign in" -}}
{{- end -}}
{{- if not .Values.kafka.tls.enabled -}}
{{- fail "settings.kafka.aws_msk_iam is set, but kafka.tls.enabled is false: Amazon MSK takes an IAM sign-in only with TLS" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (not .Values.autoscaling.authenticationRef) -}}
{{- if .Values.kafka.oauth.existingSecret -}}
{{- fail "autoscaling.authenticationRef is empty: with kafka.oauth, name a TriggerAuthentication of your own that signs KEDA in (sasl, username, password, oauthTokenEndpointUri, scopes)" -}}
{{- else if $settings.kafka.aws_msk_iam.region -}}
{{- fail "autoscaling.authenticationRef is empty: with settings.kafka.aws_msk_iam, name a TriggerAuthentication of your own that says whose role KEDA takes (podIdentity)" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.kafka.tls.client.existingSecret (not .Values.kafka.tls.enabled) -}}
{{- fail "kafka.tls.client is set, but kafka.tls.enabled is false" -}}
{{- end -}}
{{- range $value := list "commonLabels" "podLabels" -}}
{{- range $label, $_ := get $.Values $value -}}
{{- if has $label (list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" "app.kubernetes.io/version" "app.kubernetes.io/managed-by" "helm.sh/chart") -}}
{{- fail (printf "%s has %s, which the chart sets itself: pods are selected by such labels" $value $label) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $needed = add $settings.memory.budget_mib (include "moderation-worker.baseMib" .) -}}
{{- with dig "limits" "memory" "" .Values.resources -}}
{{- $given := include "moderation-worker.mebibytes" . -}}
{{- if and $given (lt (int64 $given) $needed) -}}
{{- fail (printf "resources.limits.memory is %v, but settings.memory.budget_mib and the process itself need %dMi: leave it out, and it follows from the budget" . $needed) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.podMonitor.enabled .Values.serviceMonitor.enabled -}}
{{- fail "podMonitor and serviceMonitor are both enabled: every pod would be scraped twice, and every sum be doubled" -}}
{{- end -}}
{{- with .Values.networkPolicy -}}
{{- if and .enabled (not .metricsFrom) (not .extraIngress) (or $.Values.podMonitor.enabled $.Values.serviceMonitor.enabled) -}}
{{- fail "networkPolicy.metricsFrom is empty, so Prometheus cannot scrape: name who may, for example --set-json 'networkPolicy.metricsFrom=[{\"namespaceSelector\":{\"matchLabels\":{\"kubernetes.io/metadata.name\":\"monitoring\"}}}]'" -}}
{{- end -}}
{{- end -}}
{{- $alerts := list -}}
{{- range ($.Files.Get "files/alerts.yaml" | fromYaml).groups -}}
{{- range .rules -}}
{{- $alerts = append $alerts .alert -}}
{{- end -}}
{{- end -}}
{{- range $value, $names := dict "disabled" .Values.alerts.disabled "for" (keys .Values.alerts.for) -}}
{{- range $names -}}
{{- if not (has . $alerts) -}}
{{- fail (printf "alerts.%s names %s, which is none of the alerts: %s" $value . (join ", " $alerts)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (lt (int .Values.autoscaling.maxReplicas) (int .Values.autoscaling.minReplicas)) -}}
{{- fail "autoscaling.maxReplicas is below autoscaling.minReplicas" -}}
{{- end -}}
{{- end -}}

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

{{- define "moderation-worker.kafkaCommon" -}}
{{- $tls := .Values.kafka.tls -}}
{{- $sasl := .Values.kafka.sasl -}}
{{- $secrets := include "moderation-worker.secretsDirectory" . -}}
{{- $common := dict -}}
{{- $signsIn := or $sasl.mechanism .Values.kafka.oauth.existingSecret .Values.settings.kafka.aws_msk_iam.region -}}
{{- if or $tls.enabled $signsIn -}}
{{- $_ := set $common "security_protocol" (printf "%s%s" (ternary "SASL_" "" (not (empty $signsIn))) (ternary "SSL" "PLAINTEXT" $tls.enabled)) -}}
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
{{- toYaml (merge $common .Values.settings.kafka.common) -}}
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
