# Values that would install and then not work are refused by helm, with the name of the value.

from __future__ import annotations

from typing import Any

import pytest

from tests.chart import chart

pytestmark = pytest.mark.usefixtures("helm")

APP: dict[str, Any] = {
    "sdk_app_id": 1400000000,
    "identifier": "administrator",
    "region": "singapore",
    "existingSecret": {"name": "tencent-chat", "key": "secret-key"},
}

TOKENS: dict[str, Any] = {
    "kafka.oauth.existingSecret": "client",
    "settings.kafka.oauth": {"token_url": "https://login.example.com/token", "client_id": "us"},
}

IAM: dict[str, Any] = {"kafka.tls.enabled": True, "settings.kafka.aws_msk_iam": {"region": "eu-central-1"}}

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"replcas": 3}, "replcas"),
    ({"settings.kafka.bootstrap_server": ["kafka:9092"]}, "bootstrap_server"),
    ({"settings.kafka.bootstrap_servers": []}, "settings.kafka.bootstrap_servers is empty"),
    ({"settings.kafka.bootstrap_servers": ["kafka"]}, "bootstrap_servers"),
    ({"settings.kafka.command_topics": ["one", "two"]}, "command_topics"),
    ({"settings.kafka.command_topics": ["a topic"]}, "command_topics"),
    ({"settings.kafka.instance_id": "worker"}, "instance_id"),
    ({"settings.kafka.common": {"sasl_plain_password": "secret"}}, "sasl_plain_password"),
    ({"settings.limits.calls_per_second": 0}, "calls_per_second"),
    ({"settings.limits.window_from": "reply"}, "window_from"),
    ({"settings.http.timeout_seconds": 3}, "timeout_seconds"),
    ({"settings.dedup": {"window_seconds": 60}}, "dedup"),
    ({"settings.server.port": 80}, "port"),
    ({"settings.log.level": "verbose"}, "level"),
    ({"settings.tencent.apps": {"main": APP}}, "apps"),
    ({"settings.tencent.default_app": "other"}, "default_app"),
    ({"apps": None}, "apps is empty"),
    ({"apps.main.region": "mars"}, "region"),
    ({"apps.main.base_url": "https://gateway.example.com"}, "apps/main"),
    ({"apps.main.secret_key": "secret"}, "secret_key"),
    ({"apps.main.existingSecret": {"name": "tencent-chat"}}, "key"),
    ({"apps.main.sdk_app_id": "1400000000"}, "sdk_app_id"),
    ({"apps": {"a/b": APP}}, "a/b"),
    ({"kafka.sasl.mechanism": "GSSAPI"}, "mechanism"),
    ({"kafka.sasl.mechanism": "PLAIN"}, "kafka.sasl.existingSecret is empty"),
    ({"kafka.oauth.existingSecret": "client"}, "need each other"),
    ({"settings.kafka.oauth": {"client_id": "us"}}, "need each other"),
    ({"settings.kafka.oauth": {"client_secret_file": "/run/x"}}, "client_secret_file"),
    (
        {**TOKENS, "kafka.sasl.mechanism": "PLAIN", "kafka.sasl.existingSecret": "user"},
        "kafka.oauth and kafka.sasl are both set",
    ),
    ({**TOKENS, "autoscaling.enabled": True}, "autoscaling.authenticationRef is empty"),
    ({**IAM, "autoscaling.enabled": True}, "whose role KEDA takes"),
    ({**IAM, "kafka.tls.enabled": False}, "takes an IAM sign-in only with TLS"),
    ({**IAM, **TOKENS}, "there is one way to sign in"),
    ({**IAM, "kafka.sasl.mechanism": "PLAIN", "kafka.sasl.existingSecret": "user"}, "there is one way"),
    ({**IAM, "settings.kafka.aws_msk_iam": {"region": "Frankfurt"}}, "region"),
    ({"http.proxyCredentials.existingSecret": "proxy"}, "settings.http.proxy is not"),
    ({"settings.http": {"ca_file": "/run/x"}}, "ca_file"),
    ({"kafka.tls.client.existingSecret": "client"}, "kafka.tls.enabled is false"),
    ({"settings.drain_seconds": 40}, "a drain would be killed"),
    ({"terminationGracePeriodSeconds": 54}, "a drain would be killed"),
    ({"terminationMarginSeconds": 0}, "terminationMarginSeconds"),
    ({"replicas": -1}, "replicas"),
    ({"image.tag": "latest"}, "tag"),
    ({"image.digest": "sha256:12"}, "digest"),
    ({"podDisruptionBudget.minAvailable": "half"}, "minAvailable"),
    ({"podDisruptionBudget.maxUnavailable": "120%"}, "maxUnavailable"),
    ({"autoscaling.enabled": True, "autoscaling.maxReplicas": 1}, "autoscaling.maxReplicas is below"),
    ({"networkPolicy.tencentPorts": []}, "tencentPorts"),
    ({"networkPolicy.kafkaPorts": ["9092"]}, "kafkaPorts"),
    ({"podMonitor.interval": "15"}, "interval"),
    ({"serviceMonitor.interval": "15"}, "interval"),
    ({"podMonitor.enabled": True}, "networkPolicy.metricsFrom is empty"),
    ({"serviceMonitor.enabled": True}, "networkPolicy.metricsFrom is empty"),
    (
        {"podMonitor.enabled": True, "serviceMonitor.enabled": True, "networkPolicy.enabled": False},
        "scraped twice",
    ),
    ({"alerts.disable": ["X"]}, "disable"),
    ({"alerts.disabled": ["ModerationNotReal"]}, "alerts.disabled names ModerationNotReal"),
    ({"alerts.for": {"ModerationNotReal": "5m"}}, "alerts.for names ModerationNotReal"),
    ({"alerts.for": {"ModerationNotReady": "5"}}, "ModerationNotReady"),
    ({"alerts.thresholds.restart": 3}, "restart"),
    ({"alerts.thresholds.restarts": "3"}, "restarts"),
    ({"alerts.thresholds.restarts": None}, "restarts"),
    ({"alerts.thresholds.throttledShare": 5}, "throttledShare"),
    ({"alerts.runbookUrl": "RUNBOOK.md"}, "runbookUrl"),
    ({"commonLabels": {"app.kubernetes.io/instance": "x"}}, "commonLabels has app.kubernetes.io/instance"),
    ({"podLabels": {"app.kubernetes.io/component": "x"}}, "podLabels has app.kubernetes.io/component"),
    ({"image.registry": "registry example"}, "registry"),
    ({"global.imageRegistry": "registry example"}, "imageRegistry"),
    ({"resources.limits.memory": "299Mi"}, "resources.limits.memory is 299Mi"),
    ({"resources.limits.memory": "0.25Gi"}, "need 300Mi"),
    ({"resources.limits.memory": 300000000}, "need 300Mi"),
    ({"settings.memory.budget_mib": 2000, "resources.limits.memory": "2G"}, "need 2140Mi"),
    ({"settings.memory": None}, "memory"),
    ({"settings.http": None}, "http"),
    ({"hostAliases": [{"ip": "192.0.2.1"}]}, "hostnames"),
    ({"dnsPolicy": "Clusterfirst"}, "dnsPolicy"),
    ({"lifecycle": {"prestop": {}}}, "prestop"),
    ({"revisionHistoryLimit": -1}, "revisionHistoryLimit"),
    ({"runtimeClassName": "gVisor!"}, "runtimeClassName"),
    ({"topics.deadlineSeconds": 0}, "deadlineSeconds"),
    ({"settings.kafka.group_id": "g" * 250}, "group_id"),
]


@pytest.mark.parametrize(
    ("values", "named"), REFUSED, ids=lambda item: "/".join(item) if isinstance(item, dict) else None
)
def test_bad_values_are_refused_and_named(values: dict[str, Any], named: str) -> None:
    with pytest.raises(chart.RefusedError) as refusal:
        chart.render(values)

    assert named in str(refusal.value)


def test_without_any_values_the_refusal_says_what_to_set() -> None:
    with pytest.raises(chart.RefusedError, match="name the brokers, for example --set"):
        chart.render(base="")


def test_a_parent_chart_may_pass_its_globals() -> None:
    assert chart.render({"global.region": "eu"}).one("StatefulSet")


def test_room_is_left_for_the_longest_drain_that_the_grace_allows() -> None:
    rendered = chart.render({"settings.drain_seconds": 45, "terminationGracePeriodSeconds": 75})

    assert rendered.pod()["terminationGracePeriodSeconds"] == 75
