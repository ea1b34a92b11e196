# Values that would install and then not work are refused by helm, with the name of the value.

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from helm import make_readme
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

GUARD: dict[str, Any] = {"scope": {"issuer": "*"}, "members": 500, "per_seconds": 60, "then": "paused"}

SCRAM: dict[str, Any] = {"kafka.sasl.mechanism": "SCRAM-SHA-512", "kafka.sasl.existingSecret": "user"}

KEDA: dict[str, Any] = {"autoscaling.enabled": True}

TOPICS: dict[str, Any] = {"topics.create": True}

ALERTS: dict[str, Any] = {"alerts.enabled": True}

SCRAPED: dict[str, Any] = {**ALERTS, "podMonitor.enabled": True, "networkPolicy.enabled": False}


def _variable(name: str) -> dict[str, Any]:
    return {"extraEnv": [{"name": name, "value": "x"}]}


def _token_url(url: str) -> dict[str, Any]:
    return {**TOKENS, "settings.kafka.oauth": {"token_url": url, "client_id": "us"}}


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
    ({"http.proxyCredentials.existingSecret": "proxy"}, "settings.http.proxy is not: set it"),
    ({"settings.http": {"ca_file": "/run/x"}}, "ca_file"),
    (
        {"kafka.tls.client.existingSecret": "client"},
        "kafka.tls.client is set, but kafka.tls.enabled is false: set",
    ),
    (
        {"kafka.tls.ca.existingSecret": "ca"},
        "kafka.tls.ca is set, but kafka.tls.enabled is false: set it to true",
    ),
    ({"kafka.tls.enabled": True, "kafka.tls.client.keyPasswordKey": "p"}, "client.existingSecret is empty"),
    (
        {"kafka.sasl.existingSecret": "user"},
        "kafka.sasl.existingSecret is set, but kafka.sasl.mechanism is empty",
    ),
    (
        {"kafka.sasl.username": "us"},
        "kafka.sasl.username is set, but kafka.sasl.mechanism is empty: set it to",
    ),
    (
        {"kafka.oauth.ca.existingSecret": "ca"},
        "kafka.oauth.ca is set, but kafka.oauth.existingSecret is empty",
    ),
    (
        {**KEDA, "autoscaling.prometheus.authenticationRef": "auth"},
        "autoscaling.prometheus.serverAddress is empty: set it",
    ),
    (
        {"kafka.tls.enabled": True, "settings.kafka.common": {"security_protocol": "PLAINTEXT"}},
        "settings.kafka.common.security_protocol is PLAINTEXT, but kafka.tls",
    ),
    (
        {**SCRAM, "settings.kafka.common": {"sasl_mechanism": "GSSAPI"}},
        "settings.kafka.common.sasl_mechanism is GSSAPI",
    ),
    (
        {"settings.guards": [GUARD], "settings.kafka.control_topic": None},
        "settings.kafka.control_topic is empty",
    ),
    ({"settings.guards": [GUARD], "settings.kafka.control_topic": ""}, "name a topic, guards write to it"),
    ({"settings.drain_seconds": 40}, "a drain would be killed"),
    ({"lifecycle": {"preStop": {"sleep": {"seconds": 6}}}}, "+ lifecycle.preStop.sleep.seconds is 61"),
    ({"terminationGracePeriodSeconds": 54}, "a drain would be killed"),
    ({"terminationMarginSeconds": 0}, "terminationMarginSeconds"),
    ({"replicas": -1}, "replicas"),
    ({"image.tag": "latest"}, "tag"),
    ({"image.digest": "sha256:12"}, "digest"),
    ({"podDisruptionBudget.minAvailable": "half"}, "minAvailable"),
    ({"podDisruptionBudget.maxUnavailable": "120%"}, "maxUnavailable"),
    ({"autoscaling.enabled": True, "autoscaling.maxReplicas": 1}, "autoscaling.maxReplicas is below"),
    (
        {**TOPICS, "topics.partitions": 201},
        "topics.partitions is 201, but settings.limits.calls_per_second is 200",
    ),
    (
        {**TOPICS, "settings.limits.calls_per_second": 10},
        "topics.partitions is 12, but settings.limits.calls",
    ),
    (
        {**TOPICS, "settings.limits": {"per_endpoint": {"group_open_http_svc/ban_group_member": 11}}},
        "settings.limits.per_endpoint.group_open_http_svc/ban_group_member is 11",
    ),
    (
        {**TOPICS, "extraEnv": [{"name": "worker_limits__calls_per_second", "value": "500"}]},
        "extraEnv has WORKER_LIMITS__CALLS_PER_SECOND",
    ),
    ({"networkPolicy.tencentPorts": []}, "tencentPorts"),
    ({"networkPolicy.dnsPorts": []}, "dnsPorts"),
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
    ({"alerts.for": {"ModerationNotReady": "30s1m"}}, "ModerationNotReady"),
    ({"alerts.for": {"ModerationNotReady": ""}}, "ModerationNotReady"),
    ({"podMonitor.interval": "1s1h"}, "interval"),
    ({"lifecycle": {"preStop": {"sleep": "9"}}}, "sleep"),
    ({"lifecycle": {"preStop": {"sleep": {"seconds": "9"}}}}, "seconds"),
    (
        {"kafka.tls.enabled": True, "kafka.tls.client": {"existingSecret": "a", "keyPasswordKey": "a/b"}},
        "keyPasswordKey",
    ),
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
    (
        {"resources.requests.memory": "1Gi"},
        "above the limit of 384Mi that follows from settings.memory.budget_mib",
    ),
    (
        {"resources.requests.memory": "2Gi", "resources.limits.memory": "1Gi"},
        "resources.requests.memory is 2Gi, above the limit of 1Gi: no pod would be admitted",
    ),
    ({"resources.limits.cpu": "200m"}, "resources.requests.cpu is 250m, above the limit of 200m"),
    ({"resources.requests.cpu": 2, "resources.limits.cpu": 1.5}, "resources.requests.cpu is 2, above"),
    ({"settings.server.host": "127.0.0.1"}, "settings.server.host is 127.0.0.1, where probes"),
    ({"settings.server.host": "localhost"}, "settings.server.host is localhost"),
    ({"settings.server.host": "::1"}, "leave it out, or set 0.0.0.0"),
    ({"fullnameOverride": "UPPER"}, 'the objects\' name would be "UPPER" (from fullnameOverride)'),
    ({"fullnameOverride": "a.b"}, "set fullnameOverride to such a name"),
    ({"fullnameOverride": "1st"}, "with a letter first"),
    ({"nameOverride": "Blue"}, '"trust-Blue" (from the release\'s name and nameOverride)'),
    ({"nameOverride": "a b", "fullnameOverride": "blue"}, 'nameOverride is "a b"'),
    (_variable("WORKER_KAFKA__INSTANCE_ID"), "which no two pods share"),
    (_variable("WORKER_kafka__INSTANCE_ID"), "which goes past the chart: it is the pod's name"),
    (
        _variable("WORKER_SERVER__PORT"),
        "extraEnv has WORKER_SERVER__PORT, which goes past the chart: set settings.server",
    ),
    (_variable("WORKER_SERVER__HOST"), "set settings.server.host"),
    (_variable("WORKER_KAFKA__GROUP_ID"), "set settings.kafka.group_id"),
    (_variable("WORKER_KAFKA__COMMAND_TOPICS"), "set settings.kafka.command_topics"),
    (_variable("WORKER_MEMORY__BUDGET_MIB"), "so that the pod's memory follows"),
    (_variable("WORKER_DRAIN_SECONDS"), "set settings.drain_seconds"),
    (_variable("WORKER_CONFIG"), "the settings are those under settings"),
    (_variable("POD_NAME"), "it is the pod's name"),
    (_variable("POD_NAMESPACE"), "it is the pod's namespace"),
    (_variable("WORKER_TENCENT__APPS__MAIN__SECRET_KEY"), "apps.<name>.existingSecret names the Secret"),
    ({**SCRAM, **_variable("WORKER_KAFKA__COMMON__SASL_PLAIN_USERNAME")}, "set kafka.sasl.username"),
    ({**SCRAM, **_variable("WORKER_KAFKA__COMMON__SASL_PLAIN_PASSWORD")}, "kafka.sasl.existingSecret names"),
    ({"settings.memory": None}, "memory"),
    ({"settings.http": None}, "http"),
    ({"hostAliases": [{"ip": "192.0.2.1"}]}, "hostnames"),
    ({"dnsPolicy": "Clusterfirst"}, "dnsPolicy"),
    ({"lifecycle": {"prestop": {}}}, "prestop"),
    ({"revisionHistoryLimit": -1}, "revisionHistoryLimit"),
    ({"runtimeClassName": "gVisor!"}, "runtimeClassName"),
    ({"topics.deadlineSeconds": 0}, "deadlineSeconds"),
    ({"settings.kafka.group_id": "g" * 250}, "group_id"),
    ({**KEDA, "autoscaling.scaleDownSeconds": 0}, "scaleDownSeconds"),
    ({**KEDA, "autoscaling.scaleDownSeconds": 1801}, "scaleDownSeconds"),
    (
        {**ALERTS, "alerts.thresholds.gapOffsets": 20000},
        "alerts.thresholds.gapOffsets is 20000, but no partition goes further than settings.kafka.max_gap, 20000",
    ),
    ({**ALERTS, "settings.kafka.max_gap": 10000}, "settings.kafka.max_gap, 10000: set less"),
    (
        {"podMonitor.enabled": True, "podMonitor.interval": "5s"},
        "podMonitor.scrapeTimeout is 10s, longer than",
    ),
    (
        {
            "serviceMonitor.enabled": True,
            "serviceMonitor.scrapeTimeout": "1m1ms",
            "serviceMonitor.interval": "60s",
        },
        "serviceMonitor.scrapeTimeout is 1m1ms, longer than its interval of 60s",
    ),
    ({**SCRAPED, "podMonitor.interval": "91s"}, "podMonitor.interval is 91s, but alerts compare two scrapes"),
    ({**SCRAPED, "podMonitor.interval": "1h"}, "some would never fire: set at most 90s"),
    (
        {**SCRAPED, "alerts.disabled": ["ModerationPublishingFails"], "podMonitor.interval": "151s"},
        "within 5 minutes, and some would never fire: set at most 150s",
    ),
    ({"alerts.extraLabels": {"app.kubernetes.io/team": "x"}}, "app.kubernetes.io/team"),
    ({"settings.batching.urgent_share": 1}, "urgent_share"),
    ({"settings.kafka.control_topic": "a topic"}, "control_topic"),
    ({"settings.kafka.quota_topic": ".."}, "quota_topic"),
    ({"settings.kafka.quota_topic": "a/b"}, "quota_topic"),
    ({"settings.kafka.dead_letter_topic": ".."}, "dead_letter_topic"),
    (
        {"settings.kafka.outcome_topic": "moderation.commands"},
        "settings.kafka.outcome_topic is moderation.commands, as is settings.kafka.command_topics: use another topic",
    ),
    (
        {"settings.kafka.control_topic": "moderation.quota"},
        "settings.kafka.quota_topic is moderation.quota, as is",
    ),
    ({"settings.http.proxy": "proxy:3128"}, "proxy"),
    ({"settings.http.proxy": "http://proxy"}, "proxy"),
    ({"settings.http.proxy": "https://proxy:3128"}, "proxy"),
    ({"settings.http.proxy": "socks5://proxy:3128"}, "proxy"),
    ({"settings.http.proxy": "http://us:secret@proxy:3128"}, "proxy"),
    ({"settings.kafka.bootstrap_servers": ["SASL_SSL://k:9092"]}, "bootstrap_servers"),
    ({"settings.kafka.bootstrap_servers": ["k:1,l:2"]}, "bootstrap_servers"),
    ({"settings.kafka.bootstrap_servers": ["fd00::1:9092"]}, "bootstrap_servers"),
    ({"settings.kafka.bootstrap_servers": [" k:9092"]}, "bootstrap_servers"),
    ({"apps.main": {**APP, "region": None, "base_url": "http://gateway"}}, "base_url"),
    ({"apps.main": {**APP, "region": None, "base_url": "https://gateway/v4"}}, "base_url"),
    ({"apps.other": APP}, "apps.other.sdk_app_id is that of apps.main: Tencent counts"),
    ({"settings.kafka.consumer": {"session_timeout_ms": 1000}}, "session_timeout_ms"),
    ({"settings.kafka.consumer": {"session_timeout_ms": "15000"}}, "session_timeout_ms"),
    (
        {"settings.drain_seconds": 5},
        "settings.kafka.handover_seconds is 5, but settings.drain_seconds is 5 seconds",
    ),
    (
        {"settings.kafka.handover_seconds": 10, "settings.kafka.consumer": {"session_timeout_ms": 10000}},
        "but settings.kafka.consumer.session_timeout_ms is 10 seconds: make the handover shorter",
    ),
    ({"image.repository": "registry.example.com/x:0.1.0"}, "repository"),
    ({"image.repository": None}, "repository"),
    (_variable("WORKER_KAFKA__BOOTSTRAP_SERVERS"), "so that NetworkPolicy and KEDA follow"),
    ({"settings.kafka.start": "2027-01-15T03:00:00"}, "start"),
    ({"settings.kafka.start": "2027-01-15 03:00:00Z"}, "start"),
    ({"settings.kafka.common": {"api_version": [3, 6]}}, "api_version"),
    # A whole room as JSON, and a name with - or . in it, which the worker reads as _.
    (_variable("WORKER_KAFKA"), "as JSON it may hold WORKER_KAFKA__"),
    (_variable("WORKER_SERVER"), "as JSON it may hold WORKER_SERVER__"),
    (_variable("worker_tencent"), "as JSON it may hold WORKER_TENCENT__DEFAULT_APP"),
    (_variable("WORKER_KAFKA__CONSUMER"), "as JSON it may hold WORKER_KAFKA__CONSUMER__SESSION_TIMEOUT_MS"),
    (_variable("WORKER_TENCENT__APPS"), "set it under apps"),
    (_variable("WORKER_TENCENT__APPS__MAIN"), "set it under apps"),
    (_variable("WORKER_TENCENT__APPS__MAIN__BASE_URL"), "set it under apps, so that NetworkPolicy"),
    (_variable("WORKER_TENCENT__APPS__MAIN__SDK_APP_ID"), "set it under apps"),
    (_variable("WORKER_DRAIN-SECONDS"), "set settings.drain_seconds"),
    (_variable("WORKER_KAFKA__INSTANCE.ID"), "which no two pods share"),
    (_variable("WORKER_KAFKA__HANDOVER_SECONDS"), "set settings.kafka.handover_seconds, so that drain"),
    (_variable("WORKER_KAFKA__CONSUMER__SESSION_TIMEOUT_MS"), "so that the handover is compared with it"),
    ({**ALERTS, **_variable("WORKER_KAFKA__MAX_GAP")}, "so that alerts.thresholds.gapOffsets is"),
    (_variable("WORKER_KAFKA__QUOTA_TOPIC"), "set settings.kafka.quota_topic, so that it is compared"),
    (_variable("WORKER_KAFKA__OAUTH__TOKEN_URL"), "so that NetworkPolicy follows"),
    (_variable("WORKER_KAFKA__AWS_MSK_IAM__REGION"), "so that NetworkPolicy and KEDA follow"),
    (_variable("WORKER_HTTP__PROXY"), "set settings.http.proxy, so that NetworkPolicy follows"),
    ({"settings.kafka.control_topic": None, **_variable("WORKER_GUARDS")}, "set settings.guards and"),
    ({**TOPICS, **_variable("WORKER_LIMITS__PER_ENDPOINT")}, "set settings.limits.per_endpoint"),
    ({**TOPICS, **_variable("WORKER_LIMITS")}, "as JSON it may hold WORKER_LIMITS__"),
    (
        {"kafka.tls.enabled": True, **_variable("WORKER_KAFKA__COMMON__SECURITY_PROTOCOL")},
        "it follows from kafka.tls, kafka.sasl and how the worker signs in",
    ),
    (
        {"kafka.tls.enabled": True, **_variable("WORKER_KAFKA__COMMON__SASL_MECHANISM")},
        "set settings.kafka.common.sasl_mechanism, so that security_protocol follows",
    ),
    (
        {**SCRAM, "kafka.tls.enabled": True, **_variable("WORKER_KAFKA__COMMON__SASL_MECHANISM")},
        "it follows from kafka.tls, kafka.sasl and how the worker signs in",
    ),
    ({"settings.kafka.bootstrap_servers": ["k:65536"]}, "bootstrap_servers"),
    ({"settings.kafka.bootstrap_servers": ["k:0"]}, "bootstrap_servers"),
    # Read as octal, it would be port 0.
    ({"settings.kafka.bootstrap_servers": ["k:09092"]}, "bootstrap_servers"),
    ({"settings.http.proxy": "http://proxy:99999"}, "proxy"),
    ({"apps.main": {**APP, "region": None, "base_url": "https://gateway:70000"}}, "base_url"),
    (_token_url("https://login.example.com:99999/token"), "token_url"),
    (_token_url("http://login.example.com/token"), "token_url"),
    (_token_url("login.example.com/token"), "token_url"),
    (_token_url("https://us:secret@login.example.com/token"), "token_url"),
    (_token_url("https://login.example.com/token#top"), "token_url"),
]


@pytest.mark.parametrize(
    ("values", "named"), REFUSED, ids=lambda item: "/".join(item) if isinstance(item, dict) else None
)
def test_bad_values_are_refused_and_named(values: dict[str, Any], named: str) -> None:
    with pytest.raises(chart.RefusedError) as refusal:
        chart.render(values)

    assert named in str(refusal.value)


ALL_ON: dict[str, Any] = {
    **SCRAM, **KEDA, **TOPICS, **ALERTS,
    "kafka.tls": {"enabled": True, "ca": {"existingSecret": "ca"}, "client": {"existingSecret": "client"}},
    "http.ca.existingSecret": "ca",
    "podMonitor.enabled": True,
    "networkPolicy.metricsFrom": [{"namespaceSelector": {}}],
    "dashboard.enabled": True,
    "autoscaling.prometheus.serverAddress": "http://prometheus:9090",
}  # fmt: skip


def _null_paths() -> list[str]:
    values = make_readme.values((chart.folder() / "values.yaml").read_text())
    own = (value for value in values if not value.name.startswith(("settings", "alerts.thresholds.")))
    return [value.name for value in own if value.default != '`""`']


@pytest.mark.parametrize("name", _null_paths())
def test_a_value_that_is_null_is_refused_by_its_name_or_left_out(name: str) -> None:
    """
    Whoever empties a section in a file says null, and Helm takes the chart's own default away: a template would fail at some line.
    """
    over = {path: value for path, value in ALL_ON.items() if not path.startswith(name)}

    try:
        text = yaml.safe_dump_all(chart.render({**over, name: None}).objects)
    except chart.RefusedError as refused:
        said = str(refused)
        assert "nil pointer" not in said
        assert "wrong type" not in said
        assert "yaml: line" not in said
        assert name.rpartition(".")[2] in said
    else:
        assert "<nil>" not in text
        assert not re.search(r"^\s+(- )?(key|ports|image): null$", text, re.MULTILINE)


def test_without_any_values_the_refusal_says_what_to_set() -> None:
    with pytest.raises(chart.RefusedError, match="name the brokers, for example --set"):
        chart.render(base="")


@pytest.mark.parametrize(
    "values",
    [
        {**TOPICS, "topics.partitions": 200},
        {**TOPICS, "topics.partitions": 300, "settings.limits": {"calls_per_second": 300}},
        {**TOPICS, "settings.limits": None},
        {**TOPICS, **KEDA, "autoscaling.maxReplicas": 13},  # KEDA asks for no more pods than have partitions
        {**TOPICS, "topics.partitions": 300, "extraEnvFrom": [{"configMapRef": {"name": "limits"}}]},
        {"extraEnv": [{"name": "pod_name", "value": "x"}]},
        {**KEDA, "autoscaling.maxReplicas": 50},  # the topic is somebody else's, with partitions that the chart does not know
        {"topics.partitions": 500},
        {"settings.server.host": "::"},
        {"fullnameOverride": "a-1"},
        {"nameOverride": "Blue_1.0", "fullnameOverride": "blue"},
        {"resources.requests.memory": "384Mi", "resources.limits.cpu": "250m"},
        {"lifecycle": {"preStop": {"sleep": {"seconds": 5}}}},
        {"lifecycle": {"preStop": {"exec": {"command": ["true"]}}}},
        {"lifecycle": None, "global": None, "tolerations": None, "podDisruptionBudget": None},
        {"alerts.enabled": True, "alerts.disabled": None, "settings.kafka.max_gap": 10001},
        {"alerts.enabled": True, "alerts.disabled": ["ModerationPartitionBlocked"], "settings.kafka.max_gap": 500},
        {"settings.kafka.max_gap": 500, "settings.kafka.consumer": None},
        {"settings.kafka.handover_seconds": 0, "settings.drain_seconds": 1},
        {"enabled": True},
        {"settings.batching.urgent_share": 0.5, "settings.kafka.quota_topic": "", "settings.kafka.control_topic": ""},
        {"settings.kafka.bootstrap_servers": ["a-1.b_c:9092", "192.0.2.1:1", "[fd00::1]:65535"]},
        _token_url("https://login.example.com:8443/realms/a%20b/token?x=1"),
        _token_url("http://localhost:8080/token"),
        {"settings.kafka.oauth": {"token_url": ""}},
        {"settings.kafka.start": "2027-01-15T03:00:00.5+01:00"},
        {"image.repository": "registry.example.com:5000/a/moderation-worker"},
        {"alerts.extraLabels": {"team_1": "x"}},
        {"alerts.enabled": True, "alerts.for": {"ModerationInShadow": "1w2d", "ModerationNotReady": "1h30m"}},
        {**SCRAPED, "podMonitor.interval": "1m30s"},
        {**SCRAPED, "alerts.disabled": ["ModerationPublishingFails"], "podMonitor.interval": "150s"},
        {**SCRAPED, "serviceMonitor.interval": "1h"},
        {**SCRAPED, "alerts.enabled": False, "podMonitor.interval": "1h"},
        {"kafka.tls.enabled": True, "settings.kafka.common": {"security_protocol": "SSL"}},
        _variable("WORKER_KAFKA__COMMON__SASL_PLAIN_PASSWORD"),
        _variable("WORKER_TENCENT__APPS__MAIN__SECRET_KEY_FILE"),
        _variable("WORKER_RETRY__MAX_ATTEMPTS"),
        _variable("WORKER_RETRY"),
        # There is nothing that the chart compares with them.
        _variable("WORKER_LIMITS__CALLS_PER_SECOND"),
        _variable("WORKER_LIMITS__PER_ENDPOINT"),
        _variable("WORKER_LIMITS"),
        _variable("WORKER_GUARDS"),
        _variable("WORKER_KAFKA__MAX_GAP"),
        # Somebody else's variable, though its name begins like the pod's.
        _variable("POD_NAME__X"),
        _variable("WORKER_KAFKA__COMMON"),
        _variable("WORKER_KAFKA__COMMON__SECURITY_PROTOCOL"),
        _variable("WORKER_KAFKA__COMMON__SASL_MECHANISM"),
        {
            "kafka.tls.enabled": True, "settings.kafka.common": {"sasl_mechanism": "SCRAM-SHA-256"},
            **_variable("WORKER_KAFKA__COMMON__SASL_MECHANISM"),
        },
        _variable("WORKER_KAFKA__OAUTH__EXTENSIONS"),
    ],
    ids=str,
)  # fmt: skip
def test_what_a_pod_can_live_with_is_not_refused(values: dict[str, Any]) -> None:
    assert chart.render(values).one("StatefulSet")


def test_a_release_whose_name_no_service_may_have_is_refused() -> None:
    with pytest.raises(chart.RefusedError, match="set fullnameOverride to such a name"):
        chart.render(release="1.2")

    assert chart.render({"fullnameOverride": "blue"}, release="1.2").one("Service")


def test_a_parent_chart_may_pass_its_globals() -> None:
    assert chart.render({"global.region": "eu"}).one("StatefulSet")


def test_room_is_left_for_the_longest_drain_that_the_grace_allows() -> None:
    rendered = chart.render({"settings.drain_seconds": 45, "terminationGracePeriodSeconds": 75})

    assert rendered.pod()["terminationGracePeriodSeconds"] == 75
