# Faults to put into the chart on purpose, one at a time: each must turn the tests red that it names.
#
# A check that cannot fail is a defect: these show that the checks can. How they are applied stands in test_faults.py.

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
        new: What stands there instead.
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
        """
        For a test's id.
        """
        return f"{self.file.rpartition('/')[2]}: {' '.join(self.new.split())[:60] or 'gone'}"


_STATEFUL_SET: Final = "templates/statefulset.yaml"
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
        'serviceName: {{ include "moderation-worker.fullname" . }}',
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
    Fault("templates/networkpolicy.yaml", "protocol: UDP", "protocol: udp", _INSTALLS, cluster=True),
    Fault("templates/podmonitor.yaml", "interval: {{ .interval }}", "intervall: {{ .interval }}", _INSTALLS, cluster=True),
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
    Fault("values.yaml", "  limits:\n    memory: 384Mi", "  limits:\n    memory: 512Mi", ("test_pods.py", "memory_is_reserved")),
    Fault("values.yaml", "terminationMarginSeconds: 30", "terminationMarginSeconds: 5", ("test_settings.py", "margin_beyond")),
    Fault("templates/_settings.tpl", "{{- if lt (float64 .Values.term", "{{- if gt 0.0 (float64 .Values.term", ("test_refusals.py", "bad_values")),
    Fault(_STATEFUL_SET, "args: [run]", "args: [start]", ("test_pods.py", "every_command_that_a_pod_runs")),
    Fault(
        _STATEFUL_SET,
        '{{ include "moderation-worker.settings" . | sha256sum }}',
        '"always-the-same"',
        ("test_pods.py", "changed_settings_replace"),
    ),
    Fault(_STATEFUL_SET, '(hasKey $constraint "labelSelector")', "(true)", ("test_pods.py", "pods_spread")),
    # probes and ports
    Fault(
        _STATEFUL_SET,
        "livenessProbe:\n            httpGet:\n              path: /livez",
        "livenessProbe:\n            httpGet:\n              path: /readyz",
        ("test_settings.py", "liveness_asks_only"),
    ),
    Fault("templates/podmonitor.yaml", "path: /metrics", "path: /prometheus", ("test_settings.py", "probe_and_scrape")),
    Fault("templates/podmonitor.yaml", "- port: http", "- port: metrics", ("test_monitoring.py", "own_path_and_port")),
    Fault("templates/podmonitor.yaml", "honorLabels: true", "honorLabels: false", ("test_monitoring.py", "renamed")),
    Fault(_STATEFUL_SET, "containerPort: {{ .Values.settings.server.port }}", "containerPort: 9000", ("test_settings.py", "probes_name")),
    # settings and secrets
    Fault("templates/_settings.tpl", '"ssl_cafile"', '"ssl_ca_file"', ("test_settings.py", "worker_accepts")),
    Fault("templates/_settings.tpl", '"secret_key_file"', '"secretKeyFile"', ("test_settings.py", "worker_accepts")),
    Fault("templates/_pod.tpl", "path: apps/{{ $name }}/secret-key", "path: apps/{{ $name }}/key", ("test_secrets.py", "file_that_the_settings_name")),
    Fault("templates/_pod.tpl", "defaultMode: 0440", "defaultMode: 0444", ("test_secrets.py", "readable_by_the_group")),
    Fault("values.yaml", "group_id: moderation-worker", "group_id: moderation", ("test_settings.py", "changes_none_of_the_workers_defaults")),
    Fault("values.schema.json", '"maximum": 22776', '"maximum": 50000', ("test_settings.py", "draws_the_workers_bounds")),
    Fault("values.schema.json", '"handover_seconds"', '"handover"', ("test_settings.py", "can_be_set_by_the_chart")),
    Fault(
        "values.schema.json",
        '"type": "object",\n  "additionalProperties": false,\n  "properties": {\n    "global"',
        '"type": "object",\n  "properties": {\n    "global"',
        ("test_refusals.py", "bad_values"),
    ),
    # disruption and network
    Fault(
        "templates/poddisruptionbudget.yaml",
        'if not (kindIs "invalid" .minAvailable)',
        "if .minAvailable",
        ("test_disruption.py", "pods_that_must_stay"),
    ),
    Fault("templates/networkpolicy.yaml", "policyTypes: [Ingress, Egress]", "policyTypes: [Ingress]", ("test_network.py", "only_the_metrics_port")),
    Fault("templates/networkpolicy.yaml", "{{- range uniq $ports }}", "{{- range list 9092 }}", ("test_network.py", "bootstrap_servers")),
    # scaling
    Fault("templates/scaledobject.yaml", "- type: kafka", "- type: apache-kafka-topic", ("test_scaling.py", "trigger_and_parameter")),
    Fault("templates/scaledobject.yaml", "limitToPartitionsWithLag:", "limitToPartitionWithLag:", ("test_scaling.py", "trigger_and_parameter")),
    Fault("templates/scaledobject.yaml", "kind: StatefulSet", "kind: Deployment", ("test_scaling.py", "scales_the_stateful_set")),
    Fault("templates/_queries.tpl", "quota|throttle|breaker|halt", "throttle|breaker|halt", ("test_scaling.py", "prometheus_answers")),
    # alerts, runbook, dashboard
    Fault("files/alerts.yaml", "(moderation_worker_lag_records) > 0", "(moderation_worker_lag_records > 0", ("test_alerts.py", "promtool_finds_no_fault")),
    Fault("files/alerts.yaml", "(moderation_worker_halted) == 1", "(moderation_worker_halted) == 2", ("test_alerts.py", "fires_when_it_must")),
    Fault("files/alerts.yaml", "< 12 * 3600", "< 48 * 3600", ("test_alerts.py", "fires_when_it_must")),
    Fault("files/alerts.yaml", "(moderation_worker_breaker_open)", "(moderation_worker_breaker_opened)", ("test_alerts.py", "only_what_the_worker_exposes")),
    Fault("files/alerts.yaml", "min by (namespace, job, app) (", "min by (namespace, job, room) (", ("test_alerts.py", "only_what_the_worker_exposes")),
    Fault("files/alerts.yaml", "RUNBOOK.md#moderationhalted", "RUNBOOK.md#halted", ("test_alerts.py", "is_complete")),
    Fault("RUNBOOK.md", "## ModerationHalted\n", "## Halted\n", ("test_alerts.py", "paragraph_in_the_runbook")),
    Fault("RUNBOOK.md", "offset.out_of_range", "offset.lost", ("test_runbook.py", "log_events")),
    Fault("files/dashboard.json", "sum(moderation_worker_lag_records{", "sum(moderation_worker_lag{", ("test_dashboard.py", "only_what_the_worker_exposes or table_makes")),
    Fault("files/dashboard.json", "sum(moderation_worker_lag_records{", "sum((moderation_worker_lag_records{", ("test_dashboard.py", "promtool_understands")),
    # versions and words
    Fault("Chart.yaml", 'kubeVersion: ">=1.27.0-0"', 'kubeVersion: ">=1.28.0-0"', ("test_rendering.py", "oldest_and_the_newest and minimal")),
    Fault("Chart.yaml", 'appVersion: "0.1.0"', 'appVersion: "0.2.0"', ("test_rendering.py", "one_version")),
    Fault("values.yaml", "# -- Most pods;", "# -- The most pods;", ("test_docs.py", "table_of_values")),
    Fault("README.md", "--set apps.main.region=singapore", "--set apps.main.zone=singapore", ("test_docs.py", "commands_of_the_readme"), cluster=True),
)  # fmt: skip
"""Applied one at a time."""
