# KEDA: the names of its parameters are its own, the numbers make sense, and more pods are asked for only where they help.

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.chart import chart, metric_names

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("helm")

SCALED = ["scram-keda", "mtls-two-apps"]


def test_an_authentication_of_your_own_replaces_the_charts() -> None:
    rendered = chart.render(base="oauth-proxy")

    trigger = rendered.one("ScaledObject")["spec"]["triggers"][0]

    assert trigger["authenticationRef"] == {"name": "keda-kafka"}
    assert not rendered.all("TriggerAuthentication")


def test_keda_signs_in_with_iam_as_the_worker_does(triggers: dict[str, dict[str, Any]]) -> None:
    """KEDA reads the region from the trigger alone; whose role it takes is in the authentication of your own."""
    values = {
        "kafka.tls.enabled": True,
        "settings.kafka.aws_msk_iam.region": "eu-central-1",
        "autoscaling.enabled": True,
        "autoscaling.authenticationRef": "keda-msk",
    }

    rendered = chart.render(values)

    (trigger,) = rendered.one("ScaledObject")["spec"]["triggers"]
    given = {name: trigger["metadata"][name] for name in ("sasl", "saslTokenProvider", "awsRegion", "tls")}
    assert given == {
        "sasl": "oauthbearer", "saslTokenProvider": "aws_msk_iam", "awsRegion": "eu-central-1", "tls": "enable",
    }  # fmt: skip
    for name, value in given.items():
        known = triggers["kafka"][name]
        assert known["metadataVariableReadable"]
        assert value in known.get("allowedValue", [value])
    assert trigger["authenticationRef"] == {"name": "keda-msk"}
    assert not rendered.all("TriggerAuthentication")


def _scaled(base: str = "scram-keda", **values: object) -> dict[str, Any]:
    rendered = chart.render({f"autoscaling.{name}": value for name, value in values.items()}, base=base)
    return dict(rendered.one("ScaledObject")["spec"])


@pytest.fixture(scope="module")
def triggers(keda: Path) -> dict[str, dict[str, Any]]:
    """KEDA's own list: each trigger type with its parameters."""
    listed = json.loads((keda / "schema" / "generated" / "scalers-schema.json").read_text())["scalers"]
    return {item["type"]: {each["name"]: each for each in item["parameters"]} for item in listed}


@pytest.mark.parametrize("use", SCALED)
def test_every_trigger_and_parameter_is_one_of_kedas(use: str, triggers: dict[str, dict[str, Any]]) -> None:
    for trigger in _scaled(use)["triggers"]:
        assert trigger["type"] in triggers
        for name, value in trigger["metadata"].items():
            assert name in triggers[trigger["type"]], name
            known = triggers[trigger["type"]][name]
            assert known.get("metadataVariableReadable"), f"{name} is not read from the trigger"
            assert isinstance(value, str), f"{name}: KEDA takes texts"
            assert value in known.get("allowedValue", [value])


@pytest.mark.parametrize("use", SCALED)
def test_every_secret_parameter_is_one_of_kedas(use: str, triggers: dict[str, dict[str, Any]]) -> None:
    rendered = chart.render(base=use)
    spec = rendered.one("TriggerAuthentication")["spec"]
    env = {item["name"] for item in rendered.container()["env"]}

    for item in [*spec.get("secretTargetRef", []), *spec.get("env", [])]:
        known = triggers["kafka"][item["parameter"]]
        assert known.get("triggerAuthenticationVariableReadable"), item["parameter"]
    for item in spec.get("env", []):
        assert item["name"] in env
        assert item["containerName"] == "worker"


def test_keda_watches_the_topic_and_group_that_the_worker_reads() -> None:
    rendered = chart.render(base="scram-keda")
    kafka = rendered.settings()["kafka"]

    metadata = rendered.one("ScaledObject")["spec"]["triggers"][0]["metadata"]

    assert metadata["bootstrapServers"] == ",".join(kafka["bootstrap_servers"])
    assert metadata["consumerGroup"] == kafka["group_id"]
    assert [metadata["topic"]] == kafka["command_topics"]
    assert metadata["offsetResetPolicy"] == "earliest", "the worker begins there too"
    assert metadata["limitToPartitionsWithLag"] == "true"
    assert metadata["sasl"] == "scram_sha512"
    assert metadata["tls"] == "enable"


def test_keda_watches_the_group_that_follows_from_the_release() -> None:
    rendered = chart.render(base="mtls-two-apps")

    metadata = rendered.one("ScaledObject")["spec"]["triggers"][0]["metadata"]

    assert metadata["consumerGroup"] == rendered.settings()["kafka"]["group_id"] != ""


def test_keda_scales_the_stateful_set_and_helm_leaves_its_count_alone() -> None:
    rendered = chart.render(base="scram-keda")
    stateful_set = rendered.one("StatefulSet")

    target = rendered.one("ScaledObject")["spec"]["scaleTargetRef"]

    assert target == {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "name": stateful_set["metadata"]["name"],
    }
    assert "replicas" not in stateful_set["spec"]


def test_pods_come_quickly_and_go_one_by_one() -> None:
    """Each one that goes costs a rebalance: a static member's partitions wait for the session timeout."""
    spec = _scaled(scaleDownSeconds=900)
    down = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]

    assert down == {
        "stabilizationWindowSeconds": 900,
        "policies": [{"type": "Pods", "value": 1, "periodSeconds": 900}],
    }
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (3, 12)


def test_without_a_prometheus_lag_alone_counts() -> None:
    spec = _scaled("mtls-two-apps")

    assert [trigger["type"] for trigger in spec["triggers"]] == ["kafka"]
    assert "scalingModifiers" not in spec["advanced"]


def test_while_the_quota_limits_the_count_is_held() -> None:
    spec = _scaled(lagThreshold=500)
    lag, held = spec["triggers"]
    modifiers = spec["advanced"]["scalingModifiers"]

    assert (lag["name"], held["name"]) == ("lag", "held")
    assert modifiers == {
        "formula": "held > 0 ? held * 500 : lag",
        "target": "500",
        "metricType": "AverageValue",
    }


@pytest.mark.parametrize("threshold", [1_000_000, 2_500_000, 10_000_000])
def test_a_large_threshold_is_written_as_the_whole_number_that_keda_reads(threshold: int) -> None:
    spec = _scaled(lagThreshold=threshold)

    assert spec["triggers"][0]["metadata"]["lagThreshold"] == str(threshold)
    assert spec["advanced"]["scalingModifiers"]["target"] == str(threshold)
    assert spec["advanced"]["scalingModifiers"]["formula"] == f"held > 0 ? held * {threshold} : lag"


def test_the_question_to_prometheus_is_about_metrics_that_exist() -> None:
    (_, held) = _scaled()["triggers"]

    assert not list(metric_names.wrong_in(held["metadata"]["query"]))


@pytest.mark.parametrize(
    ("limiting", "ready", "answer"),
    [
        ("quota", 2, 2),
        ("lent", 2, 2),
        ("pause", 2, 2),
        ("throttle", 2, 2),
        ("breaker", 2, 2),
        ("halt", 1, 2),
        ("nothing", 2, 0),
        ("publishing", 2, 0),
        ("target", 2, 0),
    ],
)
def test_prometheus_answers_with_the_pods_while_more_would_not_help(
    promtool: Path, tmp_path: Path, limiting: str, ready: int, answer: int
) -> None:
    """promtool computes the chart's own question over series of two pods of this release and one of another."""
    (_, held) = _scaled()["triggers"]
    rule = {"groups": [{"name": "keda", "rules": [{"record": "held", "expr": held["metadata"]["query"]}]}]}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rule))
    pod = f'namespace="{chart.NAMESPACE}", pod="{chart.FULL_NAME}'
    series = [
        {"series": f'moderation_worker_ready{{{pod}-0"}}', "values": "1x60"},
        {"series": f'moderation_worker_ready{{{pod}-1"}}', "values": f"{int(ready == 2)}x60"},
        {"series": f'moderation_worker_ready{{{pod}-other-0"}}', "values": "1x60"},
        {"series": f'moderation_worker_limited_by{{{pod}-0", by="{limiting}"}}', "values": "1x60"},
        {"series": f'moderation_worker_limited_by{{{pod}-1", by="quota"}}', "values": "0x60"},
        {"series": f'moderation_worker_limited_by{{{pod}-other-0", by="quota"}}', "values": "1x60"},
    ]
    expected = [{"labels": "{}", "value": answer}]
    case = {
        "interval": "15s",
        "input_series": series,
        "promql_expr_test": [
            {"expr": held["metadata"]["query"], "eval_time": "10m", "exp_samples": expected}
        ],
    }
    written = {"rule_files": [str(tmp_path / "rules.yaml")], "evaluation_interval": "15s", "tests": [case]}
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(written))

    done = subprocess.run(
        [promtool, "test", "rules", str(tmp_path / "tests.yaml")], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
