# The chart on a real API server: installed, upgraded, rolled back and removed by helm, its pods judged by the server's own
# admission under PodSecurity `restricted`. No kubelet runs here: what a pod then does is the image tests' to show.

from __future__ import annotations

import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.chart import chart

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.chart.cluster import Answer, Cluster

KINDS = {
    "ConfigMap": "configmaps",
    "Job": "jobs",
    "NetworkPolicy": "networkpolicies",
    "Pod": "pods",
    "ServiceAccount": "serviceaccounts",
}
"""The kinds of hooks, as the server's paths spell them."""
JOB_SECONDS = 60.0

USES = [path.name.removesuffix("-values.yaml") for path in chart.uses()]


@pytest.fixture(scope="session")
def operators(api: Cluster, keda: Path, prometheus_operator: Path) -> Cluster:
    """The server with the kinds of KEDA and of the Prometheus Operator."""
    crds = sorted((keda / "config" / "crd" / "bases").glob("keda.sh_*.yaml"))
    samples = prometheus_operator / "example" / "prometheus-operator-crd"
    crds += [
        samples / f"monitoring.coreos.com_{name}.yaml"
        for name in ("podmonitors", "prometheusrules", "servicemonitors")
    ]
    for path in crds:
        made = yaml.safe_load(path.read_text())
        answer = api.ask("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", made)
        assert answer.status in {201, 409}, answer.reason
        spec = made["spec"]
        served = next(version["name"] for version in spec["versions"] if version["served"])
        api.await_path(f"/apis/{spec['group']}/{served}/{spec['names']['plural']}")
    sandbox = {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": "gvisor"},
        "handler": "runsc",
    }
    assert api.ask("/apis/node.k8s.io/v1/runtimeclasses", sandbox).status in {201, 409}
    return api


@pytest.fixture
def namespace(api: Cluster) -> str:
    """A new namespace that admits only pods of the restricted kind."""
    name = f"moderation-{secrets.token_hex(4)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    assert api.ask("/api/v1/namespaces", made).status == 201
    return name


def _helm(api: Cluster, namespace: str, *arguments: str) -> str:
    return chart.helm(*arguments, "--namespace", namespace, **api.environment())


def _install(api: Cluster, namespace: str, use: str, *more: str) -> str:
    """Without hooks: helm would wait for a job that nothing here runs. They are judged in a test of their own."""
    where = [chart.RELEASE, str(chart.folder()), "--values", str(chart.use(use))]
    return _helm(api, namespace, "install", *where, "--no-hooks", *more)


def _stored(api: Cluster, namespace: str) -> dict[str, Any]:
    (found,) = api.ask(f"/apis/apps/v1/namespaces/{namespace}/statefulsets").body["items"]
    return dict(found)


def _judged(api: Cluster, namespace: str, metadata: dict[str, Any], spec: dict[str, Any]) -> Answer:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {**metadata, "name": "judged"}, "spec": spec}
    return api.ask(f"/api/v1/namespaces/{namespace}/pods?dryRun=All&fieldValidation=Strict", pod)


@pytest.mark.parametrize("use", USES)
def test_every_use_installs_and_the_server_admits_its_pods(
    operators: Cluster, namespace: str, use: str
) -> None:
    """PodSecurity judges pods, not StatefulSets: so the stored template is asked for as a pod."""
    _install(operators, namespace, use)

    template = _stored(operators, namespace)["spec"]["template"]
    answer = _judged(operators, namespace, {"labels": template["metadata"]["labels"]}, template["spec"])
    assert answer.status == 201, answer.reason


@pytest.mark.parametrize("use", USES)
def test_the_server_admits_the_pods_of_hooks(operators: Cluster, namespace: str, use: str) -> None:
    _install(operators, namespace, use)
    hooks = list(yaml.safe_load_all(_helm(operators, namespace, "get", "hooks", chart.RELEASE)))

    assert "test" in {hook["metadata"]["annotations"]["helm.sh/hook"] for hook in hooks}
    for hook in hooks:
        pod = hook["spec"]["template"] if hook["kind"] == "Job" else hook
        if hook["kind"] in {"Job", "Pod"}:
            answer = _judged(operators, namespace, {"labels": pod["metadata"]["labels"]}, pod["spec"])
            assert answer.status == 201, answer.reason
        groups = {"Job": "/apis/batch/v1", "NetworkPolicy": "/apis/networking.k8s.io/v1"}
        group, kind = groups.get(hook["kind"], "/api/v1"), KINDS[hook["kind"]]
        path = f"{group}/namespaces/{namespace}/{kind}?dryRun=All&fieldValidation=Strict"
        answer = operators.ask(path, hook)
        assert answer.status == 201, answer.reason


def test_a_pod_that_may_write_its_root_as_root_would_not_be_admitted(
    operators: Cluster, namespace: str
) -> None:
    """The judge judges: else every pod would pass."""
    _install(
        operators,
        namespace,
        "minimal",
        "--set-json",
        'podSecurityContext={"runAsNonRoot":false,"runAsUser":0}',
    )

    template = _stored(operators, namespace)["spec"]["template"]

    answer = _judged(operators, namespace, {"labels": template["metadata"]["labels"]}, template["spec"])
    assert answer.status == 403
    assert "violates PodSecurity" in answer.reason


@pytest.mark.parametrize("use", USES)
def test_a_release_is_upgraded_rolled_back_and_removed(operators: Cluster, namespace: str, use: str) -> None:
    _install(operators, namespace, use)
    first = _stored(operators, namespace)

    chart_and_values = [str(chart.folder()), "--values", str(chart.use(use))]
    _helm(
        operators,
        namespace,
        "upgrade",
        chart.RELEASE,
        *chart_and_values,
        "--no-hooks",
        "--set",
        "settings.drain_seconds=11",
    )
    second = _stored(operators, namespace)
    _helm(operators, namespace, "rollback", chart.RELEASE, "1", "--no-hooks")
    third = _stored(operators, namespace)
    _helm(operators, namespace, "uninstall", chart.RELEASE, "--no-hooks")

    def checksum(item: dict[str, Any]) -> str:
        return str(item["spec"]["template"]["metadata"]["annotations"]["checksum/settings"])

    assert checksum(first) != checksum(second)
    assert checksum(first) == checksum(third)
    assert first["metadata"]["uid"] == third["metadata"]["uid"], "it was replaced instead of changed"
    assert operators.ask(f"/apis/apps/v1/namespaces/{namespace}/statefulsets").body["items"] == []


def test_switching_to_keda_leaves_the_count_of_pods_to_it(operators: Cluster, namespace: str) -> None:
    """Helm applies on the server's side: did it still own the field, each upgrade would undo what KEDA scaled."""
    _install(operators, namespace, "minimal", "--set", "replicas=4")

    chart_and_values = [str(chart.folder()), "--values", str(chart.use("minimal"))]
    _helm(
        operators, namespace, "upgrade", chart.RELEASE, *chart_and_values, "--set", "autoscaling.enabled=true"
    )

    owners = [
        item["manager"]
        for item in _stored(operators, namespace)["metadata"]["managedFields"]
        if "f:replicas" in item.get("fieldsV1", {}).get("f:spec", {})
    ]
    assert "helm" not in owners


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ('podLabels={"not a label!":"x"}', "not a label!"),
        (
            'resources={"requests":{"ephemeral-storage":"2Gi"},"limits":{"ephemeral-storage":"1Gi"}}',
            "must be less than or equal to ephemeral-storage limit",
        ),
        ('extraVolumeMounts=[{"name":"nowhere","mountPath":"/x"}]', "nowhere"),
        ('extraEnv=[{"name":"A","valu":"x"}]', "valu"),
        ('tolerations=[{"operator":"Sometimes"}]', "Sometimes"),
        ('networkPolicy.kafkaTo=[{"ipBlock":{"cidr":"10.0.0.0/99"}}]', "10.0.0.0/99"),
        ('updateStrategy={"type":"Recreate"}', "Recreate"),
    ],
)
def test_the_server_refuses_what_the_chart_cannot_know(
    api: Cluster, namespace: str, values: str, named: str
) -> None:
    with pytest.raises(chart.RefusedError) as refusal:
        _install(api, namespace, "minimal", "--set-json", values)

    assert named in str(refusal.value)


def test_two_releases_share_a_namespace(api: Cluster, namespace: str) -> None:
    """One release per app isolates apps: their objects must not meet."""
    _install(api, namespace, "minimal")

    chart_and_values = [str(chart.folder()), "--values", str(chart.use("minimal"))]
    _helm(api, namespace, "install", "other", *chart_and_values)

    listed = api.ask(f"/apis/apps/v1/namespaces/{namespace}/statefulsets").body["items"]
    selectors = [item["spec"]["selector"]["matchLabels"] for item in listed]
    assert len(selectors) == 2
    assert selectors[0] != selectors[1]


@dataclass(frozen=True)
class AtTheJob:
    """What is in the namespace at the moment when the job of the topics is made, and that job."""

    job: dict[str, Any]
    accounts: set[str]
    configs: set[str]
    policies: list[dict[str, Any]]


def _end_the_job(api: Cluster, namespace: str) -> AtTheJob:
    """As the job's controller would, with success, as soon as there is one; helm waits for it."""

    def listed(group: str, kind: str) -> list[dict[str, Any]]:
        return list(api.ask(f"{group}/namespaces/{namespace}/{kind}").body["items"])

    until = time.monotonic() + JOB_SECONDS
    while not (jobs := listed("/apis/batch/v1", "jobs")):
        assert time.monotonic() < until, "helm made no job"
        time.sleep(0.05)  # the poll's period
    (job,) = jobs
    found = AtTheJob(
        job,
        {item["metadata"]["name"] for item in listed("/api/v1", "serviceaccounts")},
        {item["metadata"]["name"] for item in listed("/api/v1", "configmaps")},
        listed("/apis/networking.k8s.io/v1", "networkpolicies"),
    )
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    ended = [
        {"type": kind, "status": "True", "lastProbeTime": now, "lastTransitionTime": now, "reason": "Test"}
        for kind in ("SuccessCriteriaMet", "Complete")
    ]
    status = {"startTime": now, "completionTime": now, "succeeded": 1, "conditions": ended}
    path = f"/apis/batch/v1/namespaces/{namespace}/jobs/{job['metadata']['name']}/status"
    answer = api.ask(path, {"status": status}, method="PATCH")
    assert answer.status == 200, answer.reason
    return found


@pytest.mark.parametrize("account", ["made by the chart", "existing"])
def test_the_topics_job_can_run_in_a_namespace_that_denies_everything(
    operators: Cluster, namespace: str, account: str
) -> None:
    """
    Helm waits for the job before it makes anything else: what the job needs must be there at that moment, on the first install
    and on an upgrade, and be gone afterwards. A policy that denies all is in force meanwhile.
    """
    nothing: dict[str, Any] = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    denies = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "deny"},
        "spec": nothing,
    }
    assert (
        operators.ask(f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies", denies).status
        == 201
    )
    if account == "existing":
        made = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "existing"}}
        assert operators.ask(f"/api/v1/namespaces/{namespace}/serviceaccounts", made).status == 201
    own = ["--set=serviceAccount.create=false,serviceAccount.name=existing"] if account == "existing" else []
    values = ["--values", str(chart.use("mtls-two-apps")), *own]

    for command in ("install", "upgrade"):
        words = [command, chart.RELEASE, str(chart.folder()), *values, "--timeout=2m"]
        with ThreadPoolExecutor(1) as pool:
            helm = pool.submit(_helm, operators, namespace, *words)
            found = _end_the_job(operators, namespace)
            helm.result()

        pod = found.job["spec"]["template"]
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        assert pod["spec"]["serviceAccountName"] in found.accounts
        assert volumes["config"]["configMap"]["name"] in found.configs
        allowing = [
            policy for policy in found.policies if _chooses(policy, pod) and policy["spec"].get("egress")
        ]
        ports = {
            port["port"] for policy in allowing for rule in policy["spec"]["egress"] for port in rule["ports"]
        }
        assert {53, 9093} <= ports
        answer = _judged(operators, namespace, {"labels": pod["metadata"]["labels"]}, pod["spec"])
        assert answer.status == 201, answer.reason
        left = operators.ask(f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies").body[
            "items"
        ]
        assert {item["metadata"]["name"] for item in left} == {"deny", chart.FULL_NAME}
        assert operators.ask(f"/apis/batch/v1/namespaces/{namespace}/jobs").body["items"] == []


def _chooses(policy: dict[str, Any], pod: dict[str, Any]) -> bool:
    wanted = policy["spec"]["podSelector"].get("matchLabels", {})
    return bool(wanted.items() <= pod["metadata"]["labels"].items())


def _group(api: Cluster, namespace: str) -> str:
    held = api.ask(f"/api/v1/namespaces/{namespace}/configmaps/{chart.FULL_NAME}").body["data"]
    return str(yaml.safe_load(held["worker.yaml"])["kafka"]["group_id"])


def test_a_release_that_runs_keeps_its_group_when_the_value_is_gone(api: Cluster, namespace: str) -> None:
    """It was the default of the chart before: with another group the worker would not find its commits."""
    _install(api, namespace, "minimal", "--set=settings.kafka.group_id=moderation-worker")
    before = _group(api, namespace)

    words = ["upgrade", chart.RELEASE, str(chart.folder()), "--values", str(chart.use("minimal"))]
    for _ in range(2):
        printed = _helm(api, namespace, *words, "--reset-values")
        assert _group(api, namespace) == before == "moderation-worker"
        assert "NOTICE: settings.kafka.group_id is empty" in printed
        assert "settings.kafka.group_id: moderation-worker" in printed
    with pytest.raises(chart.RefusedError, match=f"its StatefulSet is {chart.FULL_NAME}, not blue"):
        _helm(api, namespace, *words, "--set=fullnameOverride=blue")
    named = _helm(api, namespace, *words, "--set=settings.kafka.group_id=other")
    assert _group(api, namespace) == "other"
    assert "NOTICE" not in named


def test_a_first_install_that_failed_before_anything_ran_may_be_upgraded(
    api: Cluster, namespace: str
) -> None:
    """Its job could not reach Kafka, say: there is no group to keep yet."""
    where = [chart.RELEASE, str(chart.folder()), "--values", str(chart.use("minimal"))]
    with pytest.raises(chart.RefusedError):
        _helm(api, namespace, "install", *where, "--set=topics.create=true", "--timeout=2s")

    _helm(api, namespace, "upgrade", "--install", *where)

    assert _group(api, namespace) == f"{namespace}.{chart.FULL_NAME}"


@pytest.fixture(autouse=True)
def _removed(api: Cluster, namespace: str) -> Iterator[None]:
    """Objects that have no namespace of their own to vanish with would meet in the next test."""
    yield
    _helm(api, namespace, "uninstall", chart.RELEASE, "--ignore-not-found")
