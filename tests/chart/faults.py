# Faults to put into the chart on purpose, one at a time: each must turn the tests red that it names.
#
# A check that cannot fail is a defect: these show that the checks can. test_faults.py applies them.

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Fault:
    """
    One fault.

    Attributes:
        file: Where it goes, in the chart.
        old: The text that is there once.
        new: What replaces it.
        caught_by: The tests that must fail: a file of this folder and an expression for ``-k``.
        cluster: Whether they ask the API server.

    """

    file: str
    old: str
    new: str
    caught_by: tuple[str, str]
    cluster: bool = False

    @property
    def name(self) -> str:
        """For a test's id."""
        return f"{self.file.rpartition('/')[2]}: {' '.join(self.new.split())[:60] or 'gone'}"


_STATEFUL_SET: Final = "templates/statefulset.yaml"
_REFUSALS: Final = "templates/_refusals.tpl"
_INSTALLS: Final = ("test_install.py", "every_use_installs and scram")

FAULTS: Final = (
    # identity and selection
    Fault(
        "templates/service.yaml",
        '{{- include "moderation-worker.workerLabels" . | nindent 4 }}',
        "app: nobody",
        ("test_pods.py", "names_its_headless_service"),
    ),
    Fault(
        _STATEFUL_SET,
        'serviceName: {{ include "moderation-worker.fullname" . | quote }}',
        "serviceName: other",
        ("test_pods.py", "names_its_headless_service"),
    ),
    Fault(
        "templates/_pod.tpl",
        "value: $(POD_NAMESPACE).$(POD_NAME)",
        "value: $(HOSTNAME)",
        ("test_pods.py", "a_pod_keeps_its_name"),
    ),
    Fault(
        "templates/_pod.tpl",
        "fieldPath: metadata.name\n",
        "fieldPath: metadata.uid\n",
        ("test_pods.py", "a_pod_keeps_its_name"),
    ),
    Fault(
        _STATEFUL_SET,
        "podManagementPolicy: Parallel",
        "podManagementPolicy: OrderedReady",
        ("test_pods.py", "pods_start_together"),
    ),
    Fault(
        "templates/tests/check.yaml",
        '"component" "check"',
        '"component" "worker"',
        ("test_pods.py", "test_pod_is_not_selected"),
    ),
    # what only a real server refuses
    Fault(_STATEFUL_SET, "podManagementPolicy:", "podManagmentPolicy:", _INSTALLS, cluster=True),
    Fault(_STATEFUL_SET, "apiVersion: apps/v1", "apiVersion: apps/v1beta2", _INSTALLS, cluster=True),
    Fault("templates/poddisruptionbudget.yaml", "policy/v1", "policy/v1beta1", _INSTALLS, cluster=True),
    Fault("templates/_network.tpl", "protocol: UDP", "protocol: udp", _INSTALLS, cluster=True),
    Fault("templates/_monitor.tpl", "interval: {{ .interval }}", "intervall: {{ .interval }}", _INSTALLS, cluster=True),
    Fault("templates/scaledobject.yaml", "minReplicaCount: {{ .minReplicas }}", "minReplicas: {{ .minReplicas }}", _INSTALLS, cluster=True),
    Fault("templates/prometheusrule.yaml", "groups:\n", "group:\n", _INSTALLS, cluster=True),
    Fault("templates/_pod.tpl", "  - name: tmp\n    mountPath: /tmp", "  - name: temp\n    mountPath: /tmp", _INSTALLS, cluster=True),
    Fault("values.yaml", "  seccompProfile:\n    type: RuntimeDefault\n", "", _INSTALLS, cluster=True),
    Fault("values.yaml", "    drop: [ALL]", "    drop: [NET_RAW]", _INSTALLS, cluster=True),
    Fault("templates/topics.yaml", "restartPolicy: Never", "restartPolicy: Always", ("test_install.py", "hooks and mtls"), cluster=True),
    # what a pod may do, and how it ends
    Fault("values.yaml", "runAsUser: 10001", "runAsUser: 1000", ("test_pods.py", "may_do_nothing")),
    Fault("values.yaml", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", ("test_pods.py", "may_do_nothing")),
    Fault(
        "templates/_pod.tpl",
        "automountServiceAccountToken: false",
        "automountServiceAccountToken: true",
        ("test_pods.py", "may_do_nothing"),
    ),
    Fault("templates/_pod.tpl", ' (dict "memory" $memory) -}}', ' (dict "memory" "256Mi") -}}', ("test_pods.py", "memory_is_reserved")),
    Fault("templates/_pod.tpl", "(mul $needed 5)", "(mul $needed 4)", ("test_pods.py", "memory_follows")),
    Fault("templates/_pod.tpl", '.baseMib" -}}140', '.baseMib" -}}100', ("test_pods.py", "what_the_process_takes")),
    Fault(_REFUSALS, "(lt (int64 $given) $needed)", "(lt (int64 $given) 0)", ("test_refusals.py", "bad_values and memory")),
    Fault("templates/_pod.tpl", "runtimeClassName: {{", "runtimeClass: {{", ("test_pods.py", "where_pods_run")),
    Fault(_STATEFUL_SET, "{{ .Values.revisionHistoryLimit }}", "10", ("test_pods.py", "adds_to_a_pod")),
    Fault("values.yaml", "terminationMarginSeconds: 30", "terminationMarginSeconds: 5", ("test_settings.py", "margin_beyond")),
    Fault(_REFUSALS, "{{- if lt (float64 .Values.term", "{{- if gt 0.0 (float64 .Values.term", ("test_refusals.py", "bad_values")),
    Fault(_STATEFUL_SET, "args: [run]", "args: [start]", ("test_pods.py", "every_command_that_a_pod_runs")),
    Fault(
        _STATEFUL_SET,
        '(include "moderation-worker.settings" . | sha256sum)',
        '"always-the-same"',
        ("test_pods.py", "changed_settings_replace"),
    ),
    Fault(_STATEFUL_SET, '(index $constraint "labelSelector")', '"x"', ("test_pods.py", "pods_spread")),
    # probes and ports
    Fault(
        _STATEFUL_SET,
        "livenessProbe:\n            httpGet:\n              path: /livez",
        "livenessProbe:\n            httpGet:\n              path: /readyz",
        ("test_settings.py", "liveness_asks_only"),
    ),
    Fault("templates/_monitor.tpl", "path: /metrics", "path: /prometheus", ("test_settings.py", "probe_and_scrape")),
    Fault("templates/_monitor.tpl", "port: http", "port: metrics", ("test_monitoring.py", "own_path_and_port")),
    Fault("templates/service.yaml", ' "component" "worker"', "", ("test_monitoring.py", "service_monitor_selects")),
    Fault("templates/_monitor.tpl", "honorLabels: true", "honorLabels: false", ("test_monitoring.py", "renamed")),
    Fault(_STATEFUL_SET, "containerPort: {{ .Values.settings.server.port }}", "containerPort: 9000", ("test_settings.py", "probes_name")),
    # settings and secrets
    Fault("templates/_settings.tpl", '"ssl_cafile"', '"ssl_ca_file"', ("test_settings.py", "worker_accepts")),
    Fault("templates/_settings.tpl", '"secret_key_file"', '"secretKeyFile"', ("test_settings.py", "worker_accepts")),
    Fault("templates/_pod.tpl", "path: apps/{{ $name }}/secret-key", "path: apps/{{ $name }}/key", ("test_secrets.py", "file_that_the_settings_name")),
    Fault("templates/_pod.tpl", "defaultMode: 0440", "defaultMode: 0444", ("test_secrets.py", "readable_by_the_group")),
    Fault("values.yaml", "outcome_topic: moderation.outcomes", "outcome_topic: outcomes", ("test_settings.py", "changes_none_of_the_workers_defaults")),
    # the group: two releases have two, and an upgrade keeps its own
    Fault("templates/_settings.tpl", 'printf "%s.%s" .Release.Namespace $name', 'printf "%s%s" "" $name', ("test_settings.py", "two_groups")),
    Fault("templates/_settings.tpl", "{{- else if .Release.IsInstall -}}", "{{- else if true -}}", ("test_settings.py", "cannot_ask_the_cluster")),
    Fault("templates/_settings.tpl", '{{- with dig "kafka" "group_id"', '{{- with dig "kafka" "group"', ("test_install.py", "keeps_its_group"), cluster=True),
    Fault("templates/_settings.tpl", "{{- if or $others (not $known) -}}", "{{- if not $known -}}", ("test_install.py", "keeps_its_group"), cluster=True),
    Fault("templates/scaledobject.yaml", '{{ include "moderation-worker.groupId" $ | quote }}', "{{ $kafka.group_id | quote }}", ("test_scaling.py", "follows_from_the_release")),
    # the topics job: what it needs is there before it
    Fault("templates/topics.yaml", "(merge (dict) $first .Values.serviceAccount.annotations)", "(dict)", ("test_install.py", "denies_everything and made"), cluster=True),
    Fault("templates/topics.yaml", "app.kubernetes.io/component: topics", "app.kubernetes.io/component: worker", ("test_install.py", "denies_everything and made"), cluster=True),
    Fault("templates/topics.yaml", '"helm.sh/hook-weight" "-10"', '"helm.sh/hook-weight" "10"', ("test_pods.py", "what_it_needs_before_it")),
    Fault("templates/topics.yaml", "  activeDeadlineSeconds: {{ .Values.topics.deadlineSeconds }}\n", "", ("test_pods.py", "what_it_needs_before_it")),
    Fault("templates/topics.yaml", 'serviceAccountName: {{ include "moderation-worker.topicsAccountName" . | quote }}', "serviceAccountName: default", ("test_pods.py", "what_it_needs_before_it or that_exists_where")),
    Fault("values.schema.json", '"maximum": 22680', '"maximum": 50000', ("test_settings.py", "draws_the_workers_bounds")),
    Fault("values.schema.json", '"handover_seconds"', '"handover"', ("test_settings.py", "can_be_set_by_the_chart")),
    Fault(
        "values.schema.json",
        '"type": "object",\n  "additionalProperties": false,\n  "properties": {\n    "enabled"',
        '"type": "object",\n  "properties": {\n    "enabled"',
        ("test_refusals.py", "bad_values"),
    ),
    Fault("templates/_pod.tpl", "path: http/proxy-credentials", "path: http/proxy", ("test_secrets.py", "file_that_the_settings_name and oauth")),
    Fault("templates/_settings.tpl", '"client_secret_file" (printf', '"client_secret" (printf', ("test_settings.py", "worker_accepts and oauth")),
    Fault("templates/_settings.tpl", '{{- range $topic := list "control_topic" "quota_topic" -}}', '{{- range $topic := list "control_topic" -}}', ("test_settings.py", "null_to_the_worker and quota")),
    # what is refused: each sentence has its case
    Fault(_REFUSALS, "{{- if not .tls.enabled -}}", "{{- if false -}}", ("test_refusals.py", "bad_values and kafka.tls.ca")),
    Fault(_REFUSALS, "{{- if and (or .sasl.existingSecret .sasl.username)", "{{- if and (or .sasl.username)", ("test_refusals.py", "bad_values and sasl.existingSecret")),
    Fault(_REFUSALS, "{{- if and .oauth.ca.existingSecret", "{{- if and false", ("test_refusals.py", "bad_values and oauth.ca")),
    Fault(_REFUSALS, "{{- if and (gt $partitions (int $limit))", "{{- if and (gt $partitions 1000)", ("test_refusals.py", "bad_values and topics.create")),
    Fault(_REFUSALS, '.callsPerSecond" -}}200', '.callsPerSecond" -}}500', ("test_pods.py", "limit_that_values")),
    Fault(_REFUSALS, "(gt (int64 $asked) (int64 $most))", "false", ("test_refusals.py", "bad_values and requests")),
    Fault(_REFUSALS, '(list "0.0.0.0" "::")', '(list "0.0.0.0" "::" "127.0.0.1")', ("test_refusals.py", "bad_values and host")),
    Fault(_REFUSALS, "^[a-z]([-a-z0-9]*", "^[A-Z]*[a-z]*([-a-z0-9]*", ("test_refusals.py", "bad_values and Override")),
    Fault(_REFUSALS, "WORKER_SERVER__PORT: set settings.server.port, so that probes, Service and NetworkPolicy follow\n", "", ("test_refusals.py", "bad_values and extraEnv")),
    Fault(_REFUSALS, '(and (hasPrefix "WORKER_" $name) (hasPrefix', "(and true (hasPrefix", ("test_refusals.py", "can_live_with and extraEnv")),
    Fault(_REFUSALS, "{{- if .Values.topics.create }}", "{{- if true }}", ("test_refusals.py", "can_live_with and extraEnv")),
    Fault(_REFUSALS, "{{- if .Values.alerts.enabled }}", "{{- if true }}", ("test_refusals.py", "can_live_with and extraEnv")),
    Fault(_REFUSALS, '(get $common "security_protocol") "SSL"', '"" "SSL"', ("test_refusals.py", "bad_values and extraEnv")),
    Fault(_REFUSALS, "{{- if not .Values.settings.kafka.control_topic }}", "{{- if true }}", ("test_refusals.py", "can_live_with and extraEnv")),
    Fault(_REFUSALS, " .Values.terminationMarginSeconds $sleep -}}", " .Values.terminationMarginSeconds -}}", ("test_refusals.py", "bad_values and lifecycle")),
    Fault("templates/tests/check.yaml", '"before-hook-creation"', '"before-hook-creation,hook-succeeded"', ("test_pods.py", "until_its_logs")),
    Fault(_REFUSALS, "(ge $gap $most)", "(ge $gap 30000)", ("test_refusals.py", "bad_values and gapOffsets")),
    Fault(_REFUSALS, "{{- if and $topic (hasKey $topics $topic) -}}", "{{- if false -}}", ("test_refusals.py", "bad_values and outcome_topic")),
    Fault(_REFUSALS, "(float64 $handover) (float64 $seconds)", "0.0 1.0", ("test_refusals.py", "bad_values and drain")),
    Fault(_REFUSALS, "{{- if hasKey $ids $id -}}", "{{- if false -}}", ("test_refusals.py", "bad_values and apps.other")),
    Fault(_REFUSALS, '"m" 60000', '"m" 1000', ("test_monitoring.py", "as_long_as")),
    Fault(_REFUSALS, '.maxGap" -}}20000', '.maxGap" -}}20001', ("test_pods.py", "limit_that_values")),
    Fault(_REFUSALS, "(mul $minutes 30000)", "7200000", ("test_refusals.py", "bad_values and podMonitor")),
    Fault(_REFUSALS, "| ternary 5 3 -}}", "| ternary 3 3 -}}", ("test_refusals.py", "can_live_with and PublishingFails")),
    Fault("values.schema.json", '"exclusiveMaximum": 1', '"lt": 1', ("test_settings.py", "would_pass_over")),
    Fault("values.schema.json", '"probes",\n    "resources",', '"resources",', ("test_refusals.py", "is_null and probes")),
    # disruption and network
    Fault("templates/_network.tpl", '(include "moderation-worker.port" .base_url)', '""', ("test_network.py", "own_address or peers_narrow")),
    Fault("templates/_network.tpl", "{{- if and . (not (regexMatch", '{{- if and . (not (eq "" ', ("test_network.py", "own_address")),
    Fault("templates/_network.tpl", 'with include "moderation-worker.port" $.Values.settings.kafka.oauth.token_url |', 'with "443" |', ("test_network.py", "at_their_ports")),
    Fault(
        "templates/poddisruptionbudget.yaml",
        'if not (kindIs "invalid" .minAvailable)',
        "if .minAvailable",
        ("test_disruption.py", "pods_that_must_stay"),
    ),
    Fault("templates/networkpolicy.yaml", "policyTypes: [Ingress, Egress]", "policyTypes: [Ingress]", ("test_network.py", "comes_in_uninvited")),
    Fault("templates/networkpolicy.yaml", "  ingress: []", "  ingress: [{}]", ("test_network.py", "comes_in_uninvited")),
    Fault(_REFUSALS, "(not .metricsFrom) (not .extraIngress)", "(not .enabled)", ("test_refusals.py", "bad_values and metricsFrom")),
    Fault("templates/_network.tpl", "{{- range uniq $ports }}", "{{- range list 9092 }}", ("test_network.py", "bootstrap_servers")),
    # scaling
    Fault("templates/scaledobject.yaml", "- type: kafka", "- type: apache-kafka-topic", ("test_scaling.py", "trigger_and_parameter")),
    Fault("templates/scaledobject.yaml", "limitToPartitionsWithLag:", "limitToPartitionWithLag:", ("test_scaling.py", "trigger_and_parameter")),
    Fault("templates/scaledobject.yaml", "kind: StatefulSet", "kind: Deployment", ("test_scaling.py", "scales_the_stateful_set")),
    Fault("templates/scaledobject.yaml", "saslTokenProvider: aws_msk_iam", "saslTokenProvider: msk_iam", ("test_scaling.py", "signs_in_with_iam")),
    Fault("templates/_settings.tpl", " .Values.kafka.oauth.existingSecret .Values.settings.kafka.aws_msk_iam.region (", " .Values.kafka.oauth.existingSecret (", ("test_secrets.py", "iam_signs_in")),
    Fault("templates/_network.tpl", '"" "443"', '"" ""', ("test_network.py", "with_iam")),
    Fault("templates/_queries.tpl", "quota|lent|throttle|breaker|halt|pause", "quota|throttle|breaker|halt|pause", ("test_scaling.py", "prometheus_answers")),
    # alerts, runbook, dashboard
    Fault("files/alerts.yaml", "(moderation_worker_lag_records) > 0", "(moderation_worker_lag_records > 0", ("test_alerts.py", "promtool_finds_no_fault")),
    Fault("files/alerts.yaml", "(moderation_worker_halted) == 1", "(moderation_worker_halted) == 2", ("test_alerts.py", "fires_when_it_must")),
    Fault("files/alerts.yaml", "            and on (namespace, job, pod, instance) time() - process_start_time_seconds < 3600\n", "", ("test_alerts.py", "fires_when_it_must")),
    Fault("files/alerts.yaml", " or time() - process_start_time_seconds < 900", "", ("test_alerts.py", "fires_when_it_must")),
    Fault("files/alerts.yaml", "moderation_worker_build_info offset 15m or ", "", ("test_alerts.py", "fires_when_it_must")),
    Fault("files/alerts.yaml", 'state="shadow", ordered_by="operator"', 'state="shadow"', ("test_alerts.py", "fires_when_it_must")),
    Fault("files/alerts.yaml", "last_over_time((", "max_over_time((", ("test_alerts.py", "fires_when_it_must")),
    Fault("files/alerts.yaml", ")[15m:15s]) > 0\n        for: 1h", ")[1m:15s]) > 0\n        for: 1h", ("test_alerts.py", "fires_when_it_must")),
    Fault("files/alerts.yaml", ")[15m:15s]) > 0\n        labels:", ")[1m:15s]) > 0\n        labels:", ("test_alerts.py", "fires_when_it_must")),
    Fault("files/alerts.yaml", '"operator"}\n              and on (namespace, job, pod, instance) moderation_worker_ready == 1\n', '"operator"}\n', ("test_alerts.py", "fires_when_it_must")),
    Fault("files/alerts.yaml", '"guard"}\n              and on (namespace, job, pod, instance) moderation_worker_ready == 1\n', '"guard"}\n', ("test_alerts.py", "fires_when_it_must")),
    Fault("files/alerts.yaml", "< 43200", "< 172800", ("test_alerts.py", "fires_when_it_must or same_thresholds")),
    Fault("files/alerts.yaml", "expr: |\n          max by (namespace, job) (moderation_worker_control_oldest", "expr: max by (namespace, job) (moderation_worker_control_oldest", ("test_alerts.py", "every_threshold")),
    Fault("files/alerts.yaml", "# throttledShare", "# throttled", ("test_alerts.py", "same_thresholds or are_values")),
    Fault("templates/prometheusrule.yaml", '"expr" $expression', '"expr" $rule.expr', ("test_alerts.py", "thresholds_and_durations")),
    Fault("templates/_queries.tpl", "(?:moderation_worker|process)_", "(?:moderation_worker)_", ("test_alerts.py", "of_this_releases_pods")),
    Fault("templates/_queries.tpl", 'namespace="{{ .Release.Namespace }}", pod', "pod", ("test_alerts.py", "its_own_alerts_alone")),
    Fault("templates/prometheusrule.yaml", '(dict "statefulset" $name) ', "", ("test_alerts.py", "its_own_alerts_alone")),
    Fault("templates/prometheusrule.yaml", 'helm/moderation-worker/RUNBOOK.md" $.Chart.Home $.Chart.AppVersion', 'helm/%s/RUNBOOK.md" $.Chart.Home $.Chart.AppVersion $.Chart.Name', ("test_alerts.py", "that_of_its_version")),
    Fault("templates/prometheusrule.yaml", "blob/v%s/", "blob/%s/", ("test_alerts.py", "that_of_its_version")),
    Fault("files/alerts.yaml", "(moderation_worker_breaker_open)", "(moderation_worker_breaker_opened)", ("test_alerts.py", "only_what_the_worker_exposes")),
    Fault("files/alerts.yaml", "min by (namespace, job, app) (", "min by (namespace, job, room) (", ("test_alerts.py", "only_what_the_worker_exposes")),
    Fault("files/alerts.yaml", "RUNBOOK.md#moderationhalted", "RUNBOOK.md#halted", ("test_alerts.py", "is_complete")),
    Fault("RUNBOOK.md", "## ModerationHalted\n", "## Halted\n", ("test_alerts.py", "paragraph_in_the_runbook")),
    Fault("RUNBOOK.md", "moderation.commands:PARTITION", "moderation.commands", ("test_runbook.py", "one_partition")),
    Fault("RUNBOOK.md", '-l "app.kubernetes.io/instance=$RELEASE"\n', "-l app.kubernetes.io/name=moderation-worker\n", ("test_runbook.py", "is_overridden")),
    Fault("RUNBOOK.md", '[ -n "${2:-}" ] && echo "$2" || kubectl', "kubectl", ("test_runbook.py", "ask_says_that")),
    Fault("RUNBOOK.md", "offset.out_of_range", "offset.lost", ("test_runbook.py", "log_events")),
    Fault("files/dashboard.json", "sum(moderation_worker_lag_records{", "sum(moderation_worker_lag{", ("test_dashboard.py", "only_what_the_worker_exposes or table_makes")),
    Fault("files/dashboard.json", "/ moderation_worker_memory_budget_bytes", "/ on (pod, part) moderation_worker_memory_budget_bytes", ("test_dashboard.py", "what_there_is or table_makes")),
    Fault("files/dashboard.json", "sum(moderation_worker_lag_records{", "sum((moderation_worker_lag_records{", ("test_dashboard.py", "promtool_understands")),
    # labels, images, versions and words
    Fault("templates/_names.tpl", "merge (dict) $root.Values.podLabels $root.Values.commonLabels", "$root.Values.commonLabels", ("test_rendering.py", "for_pods_stand")),
    Fault("templates/_names.tpl", "(.labels | default dict) $root.Values.commonLabels", "$root.Values.commonLabels (.labels | default dict)", ("test_rendering.py", "given_twice")),
    Fault("templates/_names.tpl", 'dig "imageRegistry" "" (.Values.global | default dict) | default .Values.image.registry', ".Values.image.registry", ("test_rendering.py", "parents_wins")),
    Fault("templates/_names.tpl", "{{ .Release.Name | quote }}", "{{ .Release.Name }}", ("test_rendering.py", "stays_a_name")),
    Fault("templates/_names.tpl", "{{ .repository }}@{{ .digest }}", "{{ .repository }}:{{ .digest }}", ("test_rendering.py", "digest_wins or parents_wins")),
    Fault("Chart.yaml", "home: https://github.com/moderation-worker/", "home: https://github.com/somebody/", ("test_rendering.py", "who_makes_it")),
    Fault("Chart.yaml", 'kubeVersion: ">=1.27.0-0"', 'kubeVersion: ">=1.28.0-0"', ("test_rendering.py", "oldest_and_the_newest and minimal")),
    Fault("Chart.yaml", 'appVersion: "0.1.0"', 'appVersion: "0.2.0"', ("test_rendering.py", "one_version")),
    Fault("values.yaml", "# -- Most pods;", "# -- The most pods;", ("test_docs.py", "table_of_values")),
    Fault("README.md", "--set apps.main.region=singapore", "--set apps.main.zone=singapore", ("test_docs.py", "commands_of_the_readme"), cluster=True),
)  # fmt: skip
"""Applied one at a time."""
