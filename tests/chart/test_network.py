# What may come in and go out: metrics in; DNS, brokers and HTTPS out.

from __future__ import annotations

import pytest

from tests.chart import chart

pytestmark = pytest.mark.usefixtures("helm")

ANYBODY: list[chart.Object] = [{"namespaceSelector": {}}]


def _policy(base: str = "minimal", **values: object) -> chart.Object:
    rendered = chart.render({f"networkPolicy.{name}": value for name, value in values.items()}, base=base)
    return dict(rendered.one("NetworkPolicy")["spec"])


def _ports(rules: list[chart.Object]) -> set[tuple[int, str]]:
    return {(port["port"], port["protocol"]) for rule in rules for port in rule["ports"]}


def test_nobody_comes_in_uninvited_and_only_known_ports_are_reached() -> None:
    """`ingress: []` denies all; a rule without `from` would let everybody in."""
    spec = _policy()

    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert spec["ingress"] == []
    assert _ports(spec["egress"]) == {(53, "UDP"), (53, "TCP"), (9092, "TCP"), (443, "TCP")}


@pytest.mark.parametrize(
    ("servers", "ports"),
    [
        (["a:9092", "b:9092"], [9092]),
        (["a:9092", "b:19092"], [9092, 19092]),
        (["[fd00::1]:9094"], [9094]),
    ],
)
def test_the_brokers_ports_are_those_of_the_bootstrap_servers(servers: list[str], ports: list[int]) -> None:
    rendered = chart.render({"settings.kafka.bootstrap_servers": servers})

    _, kafka, _ = rendered.one("NetworkPolicy")["spec"]["egress"]

    assert [port["port"] for port in kafka["ports"]] == ports


def test_named_broker_ports_win() -> None:
    _, kafka, _ = _policy(kafkaPorts=[9095])["egress"]

    assert kafka["ports"] == [{"port": 9095, "protocol": "TCP"}]


def test_peers_narrow_each_rule_on_its_own() -> None:
    spec = _policy(base="mtls-two-apps")
    dns, kafka, tencent = spec["egress"]

    assert spec["ingress"][0]["from"][0]["namespaceSelector"]["matchLabels"] == {
        "kubernetes.io/metadata.name": "monitoring"
    }
    assert "to" not in dns
    assert kafka["to"][0]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "kafka"}
    assert tencent["to"] == [{"ipBlock": {"cidr": "203.0.113.0/24"}}]
    assert _ports([tencent]) == {(443, "TCP"), (8443, "TCP")}


def test_further_rules_are_added() -> None:
    spec = _policy(base="everything")

    assert spec["ingress"][-1] == {"from": [{"podSelector": {}}]}
    assert spec["egress"][-1] == {"ports": [{"port": 4317, "protocol": "TCP"}]}


def test_the_policy_covers_every_pod_of_the_release() -> None:
    rendered = chart.render({"topics.create": True})
    selector = rendered.one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"]

    pods = [*rendered.pod_metadata()]
    assert len(pods) == 3
    for metadata in pods:
        assert selector.items() <= metadata["labels"].items()


def test_the_open_port_follows_the_settings() -> None:
    rendered = chart.render({"settings.server.port": 9100, "networkPolicy.metricsFrom": ANYBODY})

    (rule,) = rendered.one("NetworkPolicy")["spec"]["ingress"]

    assert rule["from"] == ANYBODY
    assert _ports([rule]) == {(9100, "TCP")}


def test_the_job_has_a_policy_of_its_own_that_allows_what_the_workers_may_and_nothing_in() -> None:
    rendered = chart.render(base="mtls-two-apps")
    (own,) = (item for item in rendered.all("NetworkPolicy") if item["metadata"]["name"].endswith("-topics"))
    selector = own["spec"]["podSelector"]["matchLabels"]

    chosen = [item for item in rendered.pod_metadata() if selector.items() <= item["labels"].items()]

    assert [item["labels"]["app.kubernetes.io/component"] for item in chosen] == ["topics"]
    assert own["spec"]["ingress"] == []
    assert own["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert own["spec"]["egress"] == rendered.one("NetworkPolicy")["spec"]["egress"]


def test_a_proxy_and_the_provider_of_tokens_are_reached_at_their_ports() -> None:
    _, _, tencent, tokens = _policy(base="oauth-proxy")["egress"]

    assert _ports([tencent]) == {(443, "TCP"), (3128, "TCP")}
    assert tencent["to"] == [{"podSelector": {"matchLabels": {"app": "proxy"}}}]
    assert _ports([tokens]) == {(8443, "TCP")}
    assert tokens["to"] == [{"ipBlock": {"cidr": "203.0.113.0/24"}}]


@pytest.mark.parametrize(
    ("address", "ports"),
    [
        ("http://proxy.example.com:3128", [443, 3128]),
        ("http://[fd00::1]:3128/", [443, 3128]),
        ("http://proxy.example.com:443", [443]),
        ("http://127.0.0.1:3128", [443]),
    ],
)
def test_a_proxy_is_reached_at_its_port(address: str, ports: list[int]) -> None:
    rendered = chart.render({"settings.http": {"proxy": address}})

    _, _, tencent = rendered.one("NetworkPolicy")["spec"]["egress"]

    assert [port["port"] for port in tencent["ports"]] == ports


@pytest.mark.parametrize(
    ("address", "ports"),
    [
        ("https://gateway.example.com:8443", [443, 8443]),
        ("https://[fd00::1]:8443/", [443, 8443]),
        ("https://gateway.example.com", [443]),
        ("https://gateway.example.com:443", [443]),
        ("http://127.0.0.1:8080", [443]),
        ("http://localhost:8080", [443]),
        ("http://[::1]:8080", [443]),
        ("https://localhost.example.com:8443", [443, 8443]),
    ],
)
def test_an_apps_own_address_is_reached_at_its_port(address: str, ports: list[int]) -> None:
    """No policy is between the containers of a pod: what listens there needs no port."""
    app = {"sdk_app_id": 1, "identifier": "us", "existingSecret": {"name": "a", "key": "k"}}

    rendered = chart.render({"apps.own": {**app, "base_url": address}})

    _, _, tencent = rendered.one("NetworkPolicy")["spec"]["egress"]
    assert [port["port"] for port in tencent["ports"]] == ports


@pytest.mark.parametrize("peers", [[], [{"ipBlock": {"cidr": "203.0.113.0/24"}}]])
def test_with_iam_the_service_that_gives_credentials_is_reached(peers: list[chart.Object]) -> None:
    """Also where Tencent's side is narrowed to some addresses: STS is none of them."""
    values = {
        "kafka.tls.enabled": True,
        "settings.kafka.aws_msk_iam.region": "eu-central-1",
        "networkPolicy.tencentTo": ANYBODY,
        "networkPolicy.tokensTo": peers,
    }

    _, _, _, tokens = chart.render(values).one("NetworkPolicy")["spec"]["egress"]

    assert _ports([tokens]) == {(443, "TCP")}
    assert tokens.get("to", []) == peers
