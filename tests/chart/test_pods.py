# What the pods are allowed, where they run, how they stop, and what is mounted into them.

from __future__ import annotations

import pytest
import yaml
from typer.testing import CliRunner

from tests.chart import chart
from worker.cli.app import app
from worker.domain.memory_budget import BASE_MIB, BUDGET_MIB
from worker.settings.core_defaults import CORE
from worker.settings.kafka_section import KafkaSettings

USES = [path.name.removesuffix("-values.yaml") for path in chart.uses()]

pytestmark = pytest.mark.usefixtures("helm")


def test_a_pod_keeps_its_name_so_a_restart_is_no_rebalance() -> None:
    """The name is the static member id and the transactional id: it fences the pod's own past."""
    rendered = chart.render()
    env = {item["name"]: item for item in rendered.container()["env"]}

    assert env["POD_NAME"]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
    assert env["POD_NAMESPACE"]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.namespace"
    assert env["WORKER_KAFKA__INSTANCE_ID"]["value"] == "$(POD_NAMESPACE).$(POD_NAME)"
    assert list(env).index("POD_NAME") < list(env).index("WORKER_KAFKA__INSTANCE_ID"), (
        "only earlier ones are expanded"
    )


def test_pods_start_together_and_are_replaced_one_by_one() -> None:
    spec = chart.render().one("StatefulSet")["spec"]

    assert spec["podManagementPolicy"] == "Parallel"
    assert spec["updateStrategy"] == {"type": "RollingUpdate"}
    assert spec["minReadySeconds"] > 0
    assert spec["replicas"] == 2


def test_the_stateful_set_names_its_headless_service_and_both_select_the_pods() -> None:
    rendered = chart.render()
    stateful_set, service = rendered.one("StatefulSet"), rendered.one("Service")
    labels = stateful_set["spec"]["template"]["metadata"]["labels"]

    assert stateful_set["spec"]["serviceName"] == service["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None"
    for selector in (service["spec"]["selector"], stateful_set["spec"]["selector"]["matchLabels"]):
        assert selector.items() <= labels.items()


def test_the_test_pod_is_not_selected_as_a_worker() -> None:
    rendered = chart.render()

    selector = rendered.one("StatefulSet")["spec"]["selector"]["matchLabels"]

    assert not selector.items() <= rendered.one("Pod")["metadata"]["labels"].items()


@pytest.mark.parametrize("use", USES)
def test_every_pod_may_do_nothing_that_it_does_not_need(use: str) -> None:
    for spec in chart.render(base=use).pod_specs():
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] == 10001
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        own = [item for item in spec["containers"] if item["name"] in {"worker", "check", "topics"}]
        assert own
        for container in own:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_memory_is_reserved_whole_and_processors_are_not_limited() -> None:
    """A CPU limit throttles in slices, and heartbeats stall; memory beyond the request would be someone else's."""
    resources = chart.render().container()["resources"]

    assert resources["limits"] == {"memory": resources["requests"]["memory"]}
    assert "cpu" in resources["requests"]


@pytest.mark.parametrize(
    ("values", "resources"),
    [
        ({}, {"requests": {"cpu": "250m", "memory": "384Mi"}, "limits": {"memory": "384Mi"}}),
        (
            {"settings.memory.budget_mib": 1000},
            {"requests": {"cpu": "250m", "memory": "1440Mi"}, "limits": {"memory": "1440Mi"}},
        ),
        (
            {"resources": {"requests": {"cpu": 1}, "limits": {"memory": "1Gi", "cpu": 2}}},
            {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"memory": "1Gi", "cpu": 2}},
        ),
        (
            {"resources.requests.memory": "300Mi", "resources.limits.memory": "320Mi"},
            {"requests": {"cpu": "250m", "memory": "300Mi"}, "limits": {"memory": "320Mi"}},
        ),
    ],
)
def test_memory_follows_from_the_budget_unless_it_is_given(
    values: dict[str, object], resources: chart.Object
) -> None:
    rendered = chart.render({"topics.create": True, **values})

    for spec in rendered.pod_specs():
        assert spec["containers"][0]["resources"] == resources


def test_the_budget_and_what_the_process_takes_besides_are_the_workers_own() -> None:
    names = (chart.folder() / "templates" / "_pod.tpl").read_text()
    values = yaml.safe_load((chart.folder() / "values.yaml").read_text())

    assert f'{{{{- define "moderation-worker.baseMib" -}}}}{BASE_MIB}{{{{- end -}}}}' in names
    assert values["settings"]["memory"] == {"budget_mib": BUDGET_MIB}


@pytest.mark.parametrize("use", USES)
def test_the_grace_is_longer_than_the_drain_and_its_margin(use: str) -> None:
    rendered = chart.render(base=use)

    assert rendered.pod()["terminationGracePeriodSeconds"] >= rendered.settings()["drain_seconds"] + 30


@pytest.mark.parametrize("use", USES)
def test_every_mount_has_its_volume_and_only_tmp_can_be_written(use: str) -> None:
    for spec in chart.render(base=use).pod_specs():
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        for container in spec["containers"]:
            for mount in container.get("volumeMounts", []):
                assert mount["name"] in volumes
                if mount["name"] in {"config", "secrets"}:
                    assert mount["readOnly"] is True
                assert "subPath" not in mount, "a changed Secret would never arrive"
        assert "emptyDir" in volumes["tmp"]


def test_changed_settings_replace_the_pods_and_the_same_settings_do_not() -> None:
    def checksum(**values: object) -> str:
        template = chart.render(values).one("StatefulSet")["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/settings"])

    assert checksum() == checksum()
    assert checksum() != checksum(**{"settings.drain_seconds": 20})
    assert checksum() != checksum(**{"apps.main.identifier": "root"})


def test_a_new_chart_version_alone_replaces_no_pod() -> None:
    labels = chart.render().one("StatefulSet")["spec"]["template"]["metadata"]["labels"]

    assert "helm.sh/chart" not in labels


def test_pods_spread_over_zones_and_hosts_by_their_own_labels() -> None:
    rendered = chart.render()
    labels = rendered.one("StatefulSet")["spec"]["selector"]["matchLabels"]

    spread = rendered.pod()["topologySpreadConstraints"]

    assert [item["topologyKey"] for item in spread] == [
        "topology.kubernetes.io/zone",
        "kubernetes.io/hostname",
    ]
    assert all(item["labelSelector"] == {"matchLabels": labels} for item in spread)


@pytest.mark.parametrize(("given", "kept"), [(None, False), ({}, True)])
def test_a_spread_whose_selector_is_null_gets_the_workers(given: dict[str, str] | None, kept: bool) -> None:
    """Null chooses no pod at all: they would stand anywhere. An empty one chooses all, which somebody may mean."""
    spread = {
        "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": given,
    }  # fmt: skip
    rendered = chart.render({"topologySpreadConstraints": [spread]})

    (found,) = rendered.pod()["topologySpreadConstraints"]

    assert found["labelSelector"] == (given if kept else rendered.one("StatefulSet")["spec"]["selector"])


@pytest.mark.parametrize("probe", ["startup", "liveness", "readiness"])
def test_a_probe_of_which_every_number_is_null_has_kubernetes_own(probe: str) -> None:
    numbers = ("periodSeconds", "timeoutSeconds", "failureThreshold")

    container = chart.render({f"probes.{probe}.{name}": None for name in numbers}).container()

    assert container[f"{probe}Probe"].keys() == {"httpGet"}


def test_a_spread_with_its_own_selector_keeps_it() -> None:
    (spread,) = chart.render(base="everything").pod()["topologySpreadConstraints"]

    assert spread["labelSelector"] == {"matchLabels": {"example.com/tier": "backend"}}


def test_what_an_operator_adds_to_a_pod_arrives() -> None:
    rendered = chart.render(base="everything")
    pod, container = rendered.pod(), rendered.container()

    assert {"name": "WORKER_RETRY__MAX_ATTEMPTS", "value": "4"} in container["env"]
    assert container["envFrom"] == [{"configMapRef": {"name": "proxy", "optional": True}}]
    assert {"name": "spare", "mountPath": "/var/spare"} in container["volumeMounts"]
    assert [item["name"] for item in pod["containers"]] == ["worker", "sidecar"]
    assert [item["name"] for item in pod["initContainers"]] == ["wait"]
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert pod["nodeSelector"] == {"kubernetes.io/os": "linux"}
    assert pod["tolerations"][0]["key"] == "dedicated"
    assert "podAntiAffinity" in pod["affinity"]
    assert container["lifecycle"] == {"preStop": {"sleep": {"seconds": 5}}}
    assert rendered.one("StatefulSet")["spec"]["revisionHistoryLimit"] == 3
    assert pod["serviceAccountName"] == "existing"
    assert not rendered.all("ServiceAccount")
    template = rendered.one("StatefulSet")["spec"]["template"]["metadata"]
    assert template["annotations"]["example.com/owner"] == "trust"
    assert template["labels"]["example.com/tier"] == "backend"


def test_where_pods_run_holds_for_every_pod_of_the_release() -> None:
    """For those of hooks too: a cluster that admits one runtime class admits no pod without it."""
    specs = [*chart.render(base="everything").pod_specs()]

    assert len(specs) == 3
    for pod in specs:
        assert pod["priorityClassName"] == "system-cluster-critical"
        assert pod["runtimeClassName"] == "gvisor"
        assert pod["schedulerName"] == "other-scheduler"
        assert pod["hostAliases"] == [{"ip": "192.0.2.1", "hostnames": ["kafka.internal"]}]
        assert pod["dnsPolicy"] == "Default"
        assert pod["dnsConfig"]["options"] == [{"name": "ndots", "value": "1"}]
        assert pod["serviceAccountName"] == "existing"


def test_without_values_the_cluster_decides_where_and_how_pods_run() -> None:
    pod = chart.render().pod()

    for name in (
        "priorityClassName",
        "runtimeClassName",
        "schedulerName",
        "hostAliases",
        "dnsPolicy",
        "dnsConfig",
    ):
        assert name not in pod
    assert "lifecycle" not in chart.render().container()


def test_the_topics_job_has_what_it_needs_before_it_and_a_deadline() -> None:
    """
    Before an install nothing of the release is there, not its account, its policy or its ConfigMap: all are made by hooks, and
    by their weight before the job.
    """
    rendered = chart.render(base="mtls-two-apps")
    job = rendered.job()
    pod = job["spec"]["template"]["spec"]
    config = next(volume["configMap"]["name"] for volume in pod["volumes"] if volume["name"] == "config")
    hooks = [item for item in rendered.objects if "pre-install" in _annotations(item).get("helm.sh/hook", "")]
    before = {
        (item["kind"], item["metadata"]["name"]): item
        for item in hooks
        if int(_annotations(item).get("helm.sh/hook-weight", 0)) < 0
    }

    assert {_annotations(item)["helm.sh/hook"] for item in hooks} == {"pre-install,pre-upgrade"}
    assert before.keys() == {
        ("ConfigMap", config), ("ServiceAccount", pod["serviceAccountName"]), ("NetworkPolicy", config),
    }  # fmt: skip
    assert yaml.safe_load(before["ConfigMap", config]["data"]["worker.yaml"]) == rendered.settings()
    assert before["ServiceAccount", pod["serviceAccountName"]]["automountServiceAccountToken"] is False
    assert pod["containers"][0]["args"] == ["topics", "create", "--partitions=24", "--replication-factor=3"]
    assert job["spec"]["activeDeadlineSeconds"] == 240, "less than the five minutes that helm waits"


def test_the_topics_jobs_account_may_be_known_to_a_cloud_as_the_workers_is() -> None:
    (own,) = (
        item
        for item in chart.render(
            {"topics.create": True, "serviceAccount.annotations": {"example.com/role": "kafka"}}
        ).all("ServiceAccount")
        if item["metadata"]["name"].endswith("-topics")
    )

    assert own["metadata"]["annotations"]["example.com/role"] == "kafka"


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("callsPerSecond", CORE.default_calls_per_second),
        ("maxGap", CORE.max_gap),
        ("handoverSeconds", KafkaSettings.model_fields["handover_seconds"].default),
    ],
)
def test_the_limit_that_values_are_compared_with_is_the_workers_own(name: str, default: float) -> None:
    text = (chart.folder() / "templates" / "_refusals.tpl").read_text()

    assert f'{{{{- define "moderation-worker.{name}" -}}}}{default:g}{{{{- end -}}}}' in text


def test_the_topics_job_runs_as_the_account_that_exists_where_none_is_made() -> None:
    rendered = chart.render(base="everything")

    assert rendered.job()["spec"]["template"]["spec"]["serviceAccountName"] == "existing"
    assert not rendered.all("ServiceAccount")


def test_the_pod_of_helm_test_stays_until_its_logs_are_fetched() -> None:
    """Helm 3 fetches them (`--logs`) only after the hook's deletion, and a test that succeeded would end with an error."""
    (pod,) = chart.render().all("Pod")

    assert _annotations(pod)["helm.sh/hook"] == "test"
    assert _annotations(pod)["helm.sh/hook-delete-policy"] == "before-hook-creation"


def _annotations(item: chart.Object) -> dict[str, str]:
    return dict(item["metadata"].get("annotations", {}))


@pytest.mark.parametrize("use", USES)
def test_every_command_that_a_pod_runs_is_one_of_the_programs(use: str) -> None:
    for spec in chart.render(base=use).pod_specs():
        for container in spec["containers"]:
            if "args" in container:
                words = [word for word in container["args"] if not word.startswith("-")]
                flags = [word.partition("=")[0] for word in container["args"] if word.startswith("-")]
                done = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "200"})
                assert done.exit_code == 0, done.output
                assert all(flag in done.output for flag in flags)


def test_the_release_has_an_account_without_a_token() -> None:
    rendered = chart.render()

    account = rendered.one("ServiceAccount")

    assert account["automountServiceAccountToken"] is False
    assert rendered.pod()["serviceAccountName"] == account["metadata"]["name"]
