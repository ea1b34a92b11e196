{{/*
What would install and then not work, as far as no schema can say it: each is refused with a sentence that says what to set.
*/}}

{{- define "moderation-worker.validate" -}}
{{- $settings := .Values.settings -}}
{{- include "moderation-worker.validateNames" . -}}
{{- include "moderation-worker.validateSecrets" . -}}
{{- include "moderation-worker.validatePod" . -}}
{{- include "moderation-worker.validateVariables" . -}}
{{- if not $settings.kafka.bootstrap_servers -}}
{{- fail "settings.kafka.bootstrap_servers is empty: name the brokers, for example --set 'settings.kafka.bootstrap_servers={broker:9092}'" -}}
{{- end -}}
{{- if not .Values.apps -}}
{{- fail "apps is empty: name at least one Tencent app with sdk_app_id, identifier, region (or base_url) and existingSecret" -}}
{{- end -}}
{{- $ids := dict -}}
{{- range $name, $app := .Values.apps -}}
{{- $id := int64 $app.sdk_app_id | toString -}}
{{- if hasKey $ids $id -}}
{{- fail (printf "apps.%s.sdk_app_id is that of apps.%s: Tencent counts the quota for each SDKAppID, so together they would exceed it" $name (get $ids $id)) -}}
{{- end -}}
{{- $_ := set $ids $id $name -}}
{{- end -}}
{{- $topics := dict -}}
{{- range $name := list "command_topics" "outcome_topic" "dead_letter_topic" "control_topic" "quota_topic" -}}
{{- $topic := get $settings.kafka $name -}}
{{- if kindIs "slice" $topic -}}{{- $topic = first $topic -}}{{- end -}}
{{- if and $topic (hasKey $topics $topic) -}}
{{- fail (printf "settings.kafka.%s is %s, as is settings.kafka.%s: use another topic" $name $topic (get $topics $topic)) -}}
{{- end -}}
{{- $_ := set $topics (default "" $topic) $name -}}
{{- end -}}
{{- $session := divf (get ($settings.kafka.consumer | default dict) "session_timeout_ms" | default 15000) 1000 -}}
{{- $handover := dig "handover_seconds" (include "moderation-worker.handoverSeconds" .) $settings.kafka -}}
{{- range $name, $seconds := dict "settings.drain_seconds" $settings.drain_seconds "settings.kafka.consumer.session_timeout_ms" $session -}}
{{- if ge (float64 $handover) (float64 $seconds) -}}
{{- fail (printf "settings.kafka.handover_seconds is %v, but %s is %v seconds: make the handover shorter" $handover $name $seconds) -}}
{{- end -}}
{{- end -}}
{{- $default := $settings.tencent.default_app -}}
{{- if and $default (not (hasKey .Values.apps $default)) -}}
{{- fail (printf "settings.tencent.default_app is %q, but apps has no such name" $default) -}}
{{- end -}}
{{- if and $settings.guards (not $settings.kafka.control_topic) -}}
{{- fail "settings.guards are set, but settings.kafka.control_topic is empty: name a topic, guards write to it what they decide" -}}
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
{{- if and .Values.podMonitor.enabled .Values.serviceMonitor.enabled -}}
{{- fail "podMonitor and serviceMonitor are both enabled: every pod would be scraped twice, and every sum be doubled" -}}
{{- end -}}
{{- $minutes := has "ModerationPublishingFails" (.Values.alerts.disabled | default list) | ternary 5 3 -}}
{{- range $monitor := list "podMonitor" "serviceMonitor" -}}
{{- with get $.Values $monitor -}}
{{- if and .enabled .interval .scrapeTimeout (gt (include "moderation-worker.milliseconds" .scrapeTimeout | int64) (include "moderation-worker.milliseconds" .interval | int64)) -}}
{{- fail (printf "%s.scrapeTimeout is %s, longer than its interval of %s: the Prometheus Operator would not scrape" $monitor .scrapeTimeout .interval) -}}
{{- end -}}
{{- if and $.Values.alerts.enabled .enabled .interval (gt (include "moderation-worker.milliseconds" .interval | int64) (mul $minutes 30000)) -}}
{{- fail (printf "%s.interval is %s, but alerts compare two scrapes within %d minutes, and some would never fire: set at most %ds" $monitor .interval $minutes (mul $minutes 30)) -}}
{{- end -}}
{{- end -}}
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
{{- $gap := int64 .Values.alerts.thresholds.gapOffsets -}}
{{- $most := get $settings.kafka "max_gap" | default (include "moderation-worker.maxGap" .) | int64 -}}
{{- if and .Values.alerts.enabled (ge $gap $most) (not (has "ModerationPartitionBlocked" (.Values.alerts.disabled | default list))) -}}
{{- fail (printf "alerts.thresholds.gapOffsets is %d, but no partition goes further than settings.kafka.max_gap, %d: set less (half of it, say), or the alert never fires" $gap $most) -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (lt (int .Values.autoscaling.maxReplicas) (int .Values.autoscaling.minReplicas)) -}}
{{- fail "autoscaling.maxReplicas is below autoscaling.minReplicas" -}}
{{- end -}}
{{- if .Values.topics.create -}}
{{- include "moderation-worker.validatePartitions" . -}}
{{- end -}}
{{- end -}}

{{/* Names and labels that the API server would refuse, some of them only once other objects are made. */}}
{{- define "moderation-worker.validateNames" -}}
{{- $name := include "moderation-worker.fullname" . -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) -}}
{{- fail (printf "the objects' name would be %q (%s): a Service needs small letters, digits and -, with a letter first: set fullnameOverride to such a name" $name (empty .Values.fullnameOverride | ternary "from the release's name and nameOverride" "from fullnameOverride")) -}}
{{- end -}}
{{- with .Values.nameOverride -}}
{{- if not (regexMatch "^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$" .) -}}
{{- fail (printf "nameOverride is %q, but it is the label app.kubernetes.io/name: use letters, digits, -, _ and ., with a letter or digit first and last" .) -}}
{{- end -}}
{{- end -}}
{{- range $value := list "commonLabels" "podLabels" -}}
{{- range $label, $_ := get $.Values $value -}}
{{- if has $label (list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" "app.kubernetes.io/version" "app.kubernetes.io/managed-by" "helm.sh/chart") -}}
{{- fail (printf "%s has %s, which the chart sets itself: pods are selected by such labels" $value $label) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A Secret or a name of one's own that nothing would use, and a Secret that is missing. */}}
{{- define "moderation-worker.validateSecrets" -}}
{{- with .Values.kafka -}}
{{- $client := .tls.client | default dict -}}
{{- if not .tls.enabled -}}
{{- range $name, $part := dict "ca" (.tls.ca | default dict) "client" $client -}}
{{- if $part.existingSecret -}}
{{- fail (printf "kafka.tls.%s is set, but kafka.tls.enabled is false: set it to true, or the worker would talk to the brokers without TLS" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $client.keyPasswordKey (not $client.existingSecret) -}}
{{- fail "kafka.tls.client.keyPasswordKey is set, but kafka.tls.client.existingSecret is empty: name the Secret with the certificate and its key" -}}
{{- end -}}
{{- if and .sasl.mechanism (not .sasl.existingSecret) -}}
{{- fail "kafka.sasl.existingSecret is empty: name the Secret with the password" -}}
{{- end -}}
{{- if and (or .sasl.existingSecret .sasl.username) (not .sasl.mechanism) -}}
{{- fail (printf "kafka.sasl.%s is set, but kafka.sasl.mechanism is empty: set it to PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512, or the worker would not sign in" (empty .sasl.existingSecret | ternary "username" "existingSecret")) -}}
{{- end -}}
{{- if and .oauth.ca.existingSecret (not .oauth.existingSecret) -}}
{{- fail "kafka.oauth.ca is set, but kafka.oauth.existingSecret is empty: name the Secret with the client's secret, and set settings.kafka.oauth (token_url, client_id)" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.http.proxyCredentials.existingSecret (not .Values.settings.http.proxy) -}}
{{- fail "http.proxyCredentials is set, but settings.http.proxy is not: set it to the proxy's address, as http://host:port" -}}
{{- end -}}
{{- with .Values.autoscaling.prometheus -}}
{{- if and .authenticationRef (not .serverAddress) -}}
{{- fail "autoscaling.prometheus.authenticationRef is set, but autoscaling.prometheus.serverAddress is empty: set it to the address of the Prometheus" -}}
{{- end -}}
{{- end -}}
{{- range $option, $value := include "moderation-worker.kafkaCommonOwn" . | fromYaml -}}
{{- $given := get $.Values.settings.kafka.common $option -}}
{{- if and $given (ne (toString $given) (toString $value)) -}}
{{- fail (printf "settings.kafka.common.%s is %v, but kafka.tls, kafka.sasl and how the worker signs in make it %v: leave it out" $option $given $value) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What a pod could not live with: probes that do not reach it, too little time or memory. */}}
{{- define "moderation-worker.validatePod" -}}
{{- $settings := .Values.settings -}}
{{- if not (has $settings.server.host (list "0.0.0.0" "::")) -}}
{{- fail (printf "settings.server.host is %v, where probes and Prometheus do not reach every pod: leave it out, or set 0.0.0.0 or \"::\"" $settings.server.host) -}}
{{- end -}}
{{- $sleep := dig "preStop" "sleep" "seconds" 0 (.Values.lifecycle | default dict) -}}
{{- $needed := addf $settings.drain_seconds .Values.terminationMarginSeconds $sleep -}}
{{- if lt (float64 .Values.terminationGracePeriodSeconds) (float64 $needed) -}}
{{- fail (printf "terminationGracePeriodSeconds is %v, but settings.drain_seconds + terminationMarginSeconds%s is %v: a drain would be killed" .Values.terminationGracePeriodSeconds (empty $sleep | ternary "" " + lifecycle.preStop.sleep.seconds") $needed) -}}
{{- end -}}
{{- $needed = add $settings.memory.budget_mib (include "moderation-worker.baseMib" .) -}}
{{- with dig "limits" "memory" "" .Values.resources -}}
{{- $given := include "moderation-worker.mebibytes" . -}}
{{- if and $given (lt (int64 $given) $needed) -}}
{{- fail (printf "resources.limits.memory is %v, but settings.memory.budget_mib and the process itself need %dMi: leave it out, and it follows from the budget" . $needed) -}}
{{- end -}}
{{- end -}}
{{- $resources := include "moderation-worker.resources" . | fromYaml -}}
{{- range $kind, $measure := dict "memory" "moderation-worker.mebibytes" "cpu" "moderation-worker.millicores" -}}
{{- $request := dig "requests" $kind "" $resources -}}
{{- $limit := dig "limits" $kind "" $resources -}}
{{- if and $request $limit -}}
{{- $asked := include $measure $request -}}
{{- $most := include $measure $limit -}}
{{- if and $asked $most (gt (int64 $asked) (int64 $most)) -}}
{{- fail (printf "resources.requests.%s is %v, above the limit of %v%s: no pod would be admitted; raise resources.limits.%s, or leave the request out" $kind $request $limit (dig "limits" $kind "" $.Values.resources | empty | ternary " that follows from settings.memory.budget_mib" "") $kind) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Variables that go past the chart, alone or as JSON of what holds them. */}}
{{- define "moderation-worker.validateVariables" -}}
{{- $own := include "moderation-worker.ownVariables" . | fromYaml -}}
{{- range .Values.extraEnv -}}
{{- $name := get . "name" | toString -}}
{{- if hasPrefix "WORKER_" (upper $name) -}}{{- $name = regexReplaceAll "[-.]" (upper $name) "_" -}}{{- end -}}
{{- $remedy := "" -}}
{{- range $variable, $instead := $own -}}
{{- if or (eq $name $variable) (and (hasPrefix "WORKER_" $name) (hasPrefix (printf "%s__" $variable) $name)) -}}
{{- $remedy = $instead -}}
{{- else if hasPrefix (printf "%s__" $name) $variable -}}
{{- $remedy = printf "as JSON it may hold %s: give what else is in it by variables of their own, or under settings" $variable -}}
{{- end -}}
{{- end -}}
{{- if regexMatch "^WORKER_TENCENT__APPS__.+__SECRET_KEY$" $name -}}
{{- $remedy = "apps.<name>.existingSecret names the Secret that holds it" -}}
{{- else if or (regexMatch "^WORKER_TENCENT__APPS__.+__(SDK_APP_ID|BASE_URL)$" $name) (and (hasPrefix "WORKER_TENCENT__APPS" $name) (lt (splitList "__" $name | len) 4)) -}}
{{- $remedy = "set it under apps, so that NetworkPolicy and the checks of apps follow" -}}
{{- end -}}
{{- if $remedy -}}
{{- fail (printf "extraEnv has %s, which goes past the chart: %s" $name $remedy) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Variables that would change behind the chart's back what it goes by itself, each with what to do instead. */}}
{{- define "moderation-worker.ownVariables" -}}
POD_NAME: it is the pod's name
POD_NAMESPACE: it is the pod's namespace
WORKER_CONFIG: the settings are those under settings
WORKER_KAFKA__INSTANCE_ID: it is the pod's name, which no two pods share
WORKER_KAFKA__BOOTSTRAP_SERVERS: set settings.kafka.bootstrap_servers, so that NetworkPolicy and KEDA follow
WORKER_KAFKA__GROUP_ID: set settings.kafka.group_id
WORKER_KAFKA__COMMAND_TOPICS: set settings.kafka.command_topics
{{- range $topic := list "outcome_topic" "dead_letter_topic" "control_topic" "quota_topic" }}
WORKER_KAFKA__{{ upper $topic }}: set settings.kafka.{{ $topic }}, so that it is compared with the other topics
{{- end }}
WORKER_KAFKA__CONSUMER__SESSION_TIMEOUT_MS: set settings.kafka.consumer.session_timeout_ms, so that the handover is compared with it
WORKER_KAFKA__HANDOVER_SECONDS: set settings.kafka.handover_seconds, so that drain and session timeout are compared with it
{{- if .Values.alerts.enabled }}
WORKER_KAFKA__MAX_GAP: set settings.kafka.max_gap, so that alerts.thresholds.gapOffsets is compared with it
{{- end }}
WORKER_KAFKA__OAUTH__TOKEN_URL: set settings.kafka.oauth.token_url, so that NetworkPolicy follows
WORKER_KAFKA__AWS_MSK_IAM__REGION: set settings.kafka.aws_msk_iam.region, so that NetworkPolicy and KEDA follow
WORKER_TENCENT__DEFAULT_APP: set settings.tencent.default_app, so that it is one of apps
{{- if not .Values.settings.kafka.control_topic }}
WORKER_GUARDS: set settings.guards and settings.kafka.control_topic, so that there is a topic for what they decide
{{- end }}
WORKER_HTTP__PROXY: set settings.http.proxy, so that NetworkPolicy follows
WORKER_SERVER__HOST: set settings.server.host
WORKER_SERVER__PORT: set settings.server.port, so that probes, Service and NetworkPolicy follow
{{- if .Values.topics.create }}
WORKER_LIMITS__CALLS_PER_SECOND: set settings.limits.calls_per_second, so that topics.partitions is compared with it
WORKER_LIMITS__PER_ENDPOINT: set settings.limits.per_endpoint, so that topics.partitions is compared with it
{{- end }}
WORKER_MEMORY__BUDGET_MIB: set settings.memory.budget_mib, so that the pod's memory follows
WORKER_DRAIN_SECONDS: set settings.drain_seconds, so that terminationGracePeriodSeconds is compared with it
{{- $common := include "moderation-worker.kafkaCommonOwn" . | fromYaml }}
{{- range $option, $_ := $common }}
WORKER_KAFKA__COMMON__{{ upper $option }}: it follows from kafka.tls, kafka.sasl and how the worker signs in
{{- end }}
{{- if eq (get $common "security_protocol") "SSL" }}
WORKER_KAFKA__COMMON__SASL_MECHANISM: set settings.kafka.common.sasl_mechanism, so that security_protocol follows
{{- end }}
{{- if .Values.kafka.sasl.mechanism }}
WORKER_KAFKA__COMMON__SASL_PLAIN_USERNAME: set kafka.sasl.username
WORKER_KAFKA__COMMON__SASL_PLAIN_PASSWORD: kafka.sasl.existingSecret names the Secret that holds it
{{- end }}
{{- end -}}

{{/* Partitions of the topics that the job makes: `topics create` refuses more than the lowest limit. */}}
{{- define "moderation-worker.validatePartitions" -}}
{{- $partitions := int .Values.topics.partitions -}}
{{- $given := .Values.settings.limits | default dict -}}
{{- $limits := dict "settings.limits.calls_per_second" ($given.calls_per_second | default (include "moderation-worker.callsPerSecond" .)) -}}
{{- range $endpoint, $limit := $given.per_endpoint -}}
{{- $_ := set $limits (printf "settings.limits.per_endpoint.%s" $endpoint) $limit -}}
{{- end -}}
{{- range $name, $limit := $limits -}}
{{- if and (gt $partitions (int $limit)) (not $.Values.extraEnvFrom) -}}
{{- fail (printf "topics.partitions is %d, but %s is %d, and each partition owns a slice of it: give at most as many partitions, or raise the limit if Tencent has raised yours" $partitions $name (int $limit)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The worker's own default of settings.limits.calls_per_second. */}}
{{- define "moderation-worker.callsPerSecond" -}}200{{- end -}}

{{/* The worker's own default of settings.kafka.max_gap. */}}
{{- define "moderation-worker.maxGap" -}}20000{{- end -}}

{{/* The worker's own default of settings.kafka.handover_seconds. */}}
{{- define "moderation-worker.handoverSeconds" -}}5{{- end -}}

{{/* A duration, such as 1m30s, in milliseconds. */}}
{{- define "moderation-worker.milliseconds" -}}
{{- $sum := 0 -}}
{{- range regexFindAll "[0-9]+(ms|[smhdw])" . -1 -}}
{{- $sum = add $sum (mul (regexFind "^[0-9]+" . | int64) (get (dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 "d" 86400000 "w" 604800000) (regexFind "[a-z]+$" .))) -}}
{{- end -}}
{{ $sum }}
{{- end -}}
