# Secrets come from Secrets that exist, as files, and from nowhere else.

from __future__ import annotations

import json
import re

import pytest
import yaml

from tests.chart import chart

USES = [path.name.removesuffix("-values.yaml") for path in chart.uses()]

pytestmark = pytest.mark.usefixtures("helm")


def _mounted(rendered: chart.Rendered) -> dict[str, tuple[str, str]]:
    """Each mounted secret file: its path, and the Secret and key that it comes from."""
    root = next(m["mountPath"] for m in rendered.container()["volumeMounts"] if m["name"] == "secrets")
    volume = next(v for v in rendered.pod()["volumes"] if v["name"] == "secrets")
    return {
        f"{root}/{item['path']}": (source["secret"]["name"], item["key"])
        for source in volume["projected"]["sources"]
        for item in source["secret"]["items"]
    }


@pytest.mark.parametrize("use", USES)
def test_the_chart_makes_no_secret_and_writes_none_into_the_settings(use: str) -> None:
    rendered = chart.render(base=use)

    assert not rendered.all("Secret")
    written = yaml.safe_dump(rendered.settings())
    for name in ("secret_key:", "sasl_plain_password:", "ssl_password:"):
        assert name not in written


@pytest.mark.parametrize("use", USES)
def test_every_secret_file_that_the_settings_name_is_mounted(use: str) -> None:
    rendered = chart.render(base=use)

    named = re.findall(r"/etc/moderation-worker/secrets/[^\s\"]+", json.dumps(rendered.settings()))

    assert set(named) == set(_mounted(rendered))


def test_each_app_gets_its_own_key() -> None:
    mounted = _mounted(chart.render(base="mtls-two-apps"))

    assert mounted["/etc/moderation-worker/secrets/apps/main/secret-key"] == ("tencent-chat", "main")
    assert mounted["/etc/moderation-worker/secrets/apps/staging.eu/secret-key"] == ("tencent-chat", "staging")


def test_scram_over_tls_is_set_up_with_files() -> None:
    rendered = chart.render(base="scram-keda")
    common, mounted = rendered.settings()["kafka"]["common"], _mounted(rendered)

    assert common["security_protocol"] == "SASL_SSL"
    assert common["sasl_mechanism"] == "SCRAM-SHA-512"
    assert mounted[common["sasl_plain_password_file"]] == ("kafka-user", "password")
    assert mounted[common["ssl_cafile"]] == ("kafka-ca", "ca.crt")
    env = {item["name"]: item for item in rendered.container()["env"]}
    reference = env["WORKER_KAFKA__COMMON__SASL_PLAIN_USERNAME"]["valueFrom"]["secretKeyRef"]
    assert reference == {"name": "kafka-user", "key": "username"}


def test_a_client_certificate_is_set_up_with_files() -> None:
    rendered = chart.render(base="mtls-two-apps")
    common, mounted = rendered.settings()["kafka"]["common"], _mounted(rendered)

    assert common["security_protocol"] == "SSL"
    assert mounted[common["ssl_certfile"]] == ("kafka-client", "tls.crt")
    assert mounted[common["ssl_keyfile"]] == ("kafka-client", "tls.key")
    assert mounted[common["ssl_password_file"]] == ("kafka-client", "password")


@pytest.mark.parametrize(
    ("tls", "mechanism", "protocol"),
    [
        (False, "", None),
        (True, "", "SSL"),
        (False, "PLAIN", "SASL_PLAINTEXT"),
        (True, "PLAIN", "SASL_SSL"),
    ],
)
def test_the_security_protocol_follows_from_tls_and_sasl(
    tls: bool, mechanism: str, protocol: str | None
) -> None:
    user = "user" if mechanism else ""
    rendered = chart.render(
        {"kafka.tls.enabled": tls, "kafka.sasl.mechanism": mechanism, "kafka.sasl.existingSecret": user}
    )

    assert rendered.settings()["kafka"]["common"].get("security_protocol") == protocol


def test_a_mechanism_of_ones_own_signs_in_over_the_charts_tls() -> None:
    """`SSL` would say that nobody signs in, and the worker refuses a mechanism beside it."""
    rendered = chart.render(
        {"kafka.tls.enabled": True, "settings.kafka.common": {"sasl_mechanism": "GSSAPI"}}
    )

    assert rendered.settings()["kafka"]["common"] == {
        "security_protocol": "SASL_SSL", "sasl_mechanism": "GSSAPI",
    }  # fmt: skip


def test_secret_files_are_readable_by_the_group_alone() -> None:
    pod = chart.render().pod()
    volume = next(v for v in pod["volumes"] if v["name"] == "secrets")

    assert volume["projected"]["defaultMode"] == 0o440
    assert pod["securityContext"]["fsGroup"] == 10001


def test_tokens_and_a_proxy_are_set_up_with_files() -> None:
    rendered = chart.render(base="oauth-proxy")
    settings, mounted = rendered.settings(), _mounted(rendered)

    assert settings["kafka"]["common"] == {"security_protocol": "SASL_SSL"}
    assert mounted[settings["kafka"]["oauth"]["client_secret_file"]] == ("kafka-client", "client-secret")
    assert mounted[settings["kafka"]["oauth"]["ca_file"]] == ("internal-ca", "ca.crt")
    assert mounted[settings["http"]["proxy_credentials_file"]] == ("proxy", "credentials")
    assert mounted[settings["http"]["ca_file"]] == ("internal-ca", "ca.crt")
    assert {name: settings["kafka"]["oauth"][name] for name in ("client_id", "scope")} == {
        "client_id": "moderation", "scope": "kafka",
    }  # fmt: skip


def test_iam_signs_in_over_tls_without_a_secret() -> None:
    rendered = chart.render({"kafka.tls.enabled": True, "settings.kafka.aws_msk_iam.region": "eu-west-1"})

    kafka = rendered.settings()["kafka"]
    assert kafka["common"] == {"security_protocol": "SASL_SSL"}
    assert kafka["aws_msk_iam"] == {"region": "eu-west-1"}
    assert [name for name in _mounted(rendered) if "/kafka/" in name] == []
    assert "aws_msk_iam" not in chart.render().settings()["kafka"]
