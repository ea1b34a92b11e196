# How the worker signs in to Kafka with tokens: what is missing, contradicts, or cannot be read is refused, each with its remedy.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.certificate import self_signed
from tests.unit.settings.environment import load, minimal, problems
from worker.runtime.options_from_settings import kafka_options
from worker.settings import load as load_from
from worker.settings import secrets_of

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "hunter2-hunter2-hunter2"
TLS = {"security_protocol": "SASL_SSL"}


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "client-secret"
    file.write_text(f"{SECRET}\n")
    return file


def with_oauth(secret: Path, common: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    oauth = {
        "token_url": "https://identity.example/realms/kafka/token",
        "client_id": "moderation-worker",
        "client_secret_file": str(secret),
        **changes,
    }
    given = {name: value for name, value in oauth.items() if value is not None}
    return minimal(kafka={"common": TLS if common is None else common, "oauth": given})


def test_a_client_and_its_secret_are_enough(secret: Path) -> None:
    settings = load(with_oauth(secret))
    options = kafka_options(settings, "name")

    assert SECRET in secrets_of(settings)
    assert options.tokens is not None
    assert SECRET not in repr(options)


def test_without_any_of_it_there_are_no_tokens() -> None:
    assert kafka_options(load(minimal()), "name").tokens is None
    assert kafka_options(load(minimal(kafka={"oauth": None})), "name").tokens is None


@pytest.mark.parametrize(
    ("changes", "setting", "says"),
    [
        ({"token_url": None}, "token_url", "is missing"),
        ({"client_id": None}, "client_id", "is missing"),
        ({"client_secret_file": None}, "client_secret_file", "is missing"),
        ({"token_url": "http://identity.example/token"}, "token_url", "may only go to this machine"),
        ({"token_url": "identity.example/token"}, "token_url", "neither https:// nor http://"),
        ({"token_url": "https://id:secret@identity.example/token"}, "token_url", "credentials"),
        ({"token_url": "https://identity.example/token#x"}, "token_url", "fragment"),
        ({"token_url": "https://identity.example:99999/token"}, "token_url", "port"),
        ({"token_url": "https://identity.example/to ken"}, "token_url", "blank"),
        ({"client_id": "two words"}, "client_id", "visible ASCII"),
        ({"client_id": ""}, "client_id", "visible ASCII"),
        ({"scope": "a  b"}, "scope", "one blank between two"),
        ({"scope": 'a"b'}, "scope", "visible ASCII"),
        ({"scope": "x" * 3_000}, "scope", "too many"),
        ({"extensions": {"auth": "x"}}, "extensions", "auth"),
        ({"extensions": {"a-b": "x"}}, "extensions", "letters"),
        ({"extensions": {"a": "x\x01y"}}, "extensions", "a value"),
        ({"client_secret_file": "/nowhere/secret"}, "client_secret_file", "cannot be read"),
        ({"ca_file": "/nowhere/ca.crt"}, "ca_file", "cannot be read"),
    ],
)
def test_what_is_missing_or_wrong_is_refused_at_its_setting(
    secret: Path, changes: dict[str, Any], setting: str, says: str
) -> None:
    found = problems(with_oauth(secret, **changes))

    assert list(found) == [f"kafka.oauth.{setting}"]
    assert says in str(found[f"kafka.oauth.{setting}"])


@pytest.mark.parametrize(
    "url", ["http://localhost:8080/token", "http://127.0.0.1/t", "http://[::1]:8080/t", "https://[2001:db8::1]/t?a=b"]
)  # fmt: skip
def test_plain_http_may_go_to_this_machine_alone_and_ipv6_is_an_address_as_any(
    secret: Path, url: str
) -> None:
    assert problems(with_oauth(secret, token_url=url)) == {}


@pytest.mark.parametrize("content", ["", "\n", "  \n", "\nsecret"])
def test_a_file_without_a_secret_in_its_first_line_is_refused(secret: Path, content: str) -> None:
    secret.write_text(content)

    password = {
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": "u",
        "sasl_plain_password_file": str(secret),
    }

    found = problems(with_oauth(secret))
    found |= problems(minimal(kafka={"common": {"security_protocol": "SASL_PLAINTEXT", **password}}))

    for setting in ("kafka.oauth.client_secret_file", "kafka.common.sasl_plain_password_file"):
        assert "first line of the file is empty" in found[setting].remedy


def test_a_secret_in_the_place_of_its_file_is_not_shown(secret: Path) -> None:
    found = problems(with_oauth(secret, client_secret_file=SECRET))

    assert list(found) == ["kafka.oauth.client_secret_file"]
    assert SECRET not in str(found["kafka.oauth.client_secret_file"])


@pytest.mark.parametrize(
    ("common", "setting", "says"),
    [
        ({}, "security_protocol", "set SASL_SSL"),
        ({"security_protocol": "SSL"}, "security_protocol", "kafka.oauth has no effect"),
        ({**TLS, "sasl_mechanism": "PLAIN"}, "sasl_mechanism", "leave kafka.oauth out"),
        ({**TLS, "sasl_plain_username": "me"}, "sasl_plain_username", "leave kafka.oauth out"),
        ({**TLS, "sasl_plain_password": SECRET}, "sasl_plain_password", "leave kafka.oauth out"),
    ],
)
def test_what_contradicts_tokens_is_refused(
    secret: Path, common: dict[str, Any], setting: str, says: str
) -> None:
    found = problems(with_oauth(secret, common))

    assert list(found) == [f"kafka.common.{setting}"]
    assert says in found[f"kafka.common.{setting}"].remedy
    assert SECRET not in str(found)


def test_the_mechanism_may_be_named(secret: Path) -> None:
    assert problems(with_oauth(secret, {**TLS, "sasl_mechanism": "OAUTHBEARER"})) == {}


def test_an_authority_that_is_no_pem_is_refused(secret: Path, tmp_path: Path) -> None:
    file = tmp_path / "ca.crt"
    file.write_text("no certificate")
    wrong = problems(with_oauth(secret, ca_file=str(file)))
    file.write_text(self_signed()[0])

    assert list(wrong) == ["kafka.oauth.ca_file"]
    assert problems(with_oauth(secret, ca_file=str(file))) == {}


def test_files_are_found_beside_the_settings_file(secret: Path, tmp_path: Path) -> None:
    config = tmp_path / "worker.yaml"
    config.write_text(
        "kafka: {bootstrap_servers: ['k:9092'], common: {security_protocol: SASL_SSL}, oauth: {token_url: 'https://i.example/t', "
        f"client_id: me, client_secret_file: {secret.name}}}}}\n"
        "tencent: {apps: {main: {sdk_app_id: 1, identifier: a, secret_key: key, region: seoul}}}\n"
    )

    assert load_from(config, {}).kafka.oauth.client_secret_file == secret


def with_msk(common: dict[str, Any] | None = None, region: str = "eu-central-1") -> dict[str, Any]:
    return minimal(kafka={"common": TLS if common is None else common, "aws_msk_iam": {"region": region}})


def test_amazon_msk_needs_a_region_and_tls_and_no_more() -> None:
    assert problems(with_msk()) == {}
    assert kafka_options(load(with_msk()), "name").tokens is not None


def test_amazon_msk_without_its_extra_is_refused_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("worker.settings.kafka_authentication.find_spec", lambda _: None)

    found = problems(with_msk())

    assert list(found) == ["kafka.aws_msk_iam.region"]
    assert "botocore" in found["kafka.aws_msk_iam.region"].remedy
    assert "pip install 'moderation-worker[msk-iam]'" in found["kafka.aws_msk_iam.region"].remedy


@pytest.mark.parametrize(
    ("data", "setting", "says"),
    [
        (with_msk(region="frankfurt"), "aws_msk_iam.region", "an AWS region"),
        (with_msk(region="eu-central-1.evil.example/"), "aws_msk_iam.region", "an AWS region"),
        (with_msk({"security_protocol": "SASL_PLAINTEXT"}), "common.security_protocol", "set SASL_SSL"),
        (with_msk({}), "common.security_protocol", "set SASL_SSL"),
        (with_msk({**TLS, "sasl_mechanism": "AWS_MSK_IAM"}), "common.sasl_mechanism", "leave kafka.aws_msk_iam out"),
        (with_msk({**TLS, "sasl_plain_username": "me"}), "common.sasl_plain_username", "leave kafka.aws_msk_iam out"),
    ],
)  # fmt: skip
def test_what_contradicts_amazon_msk_is_refused(data: dict[str, Any], setting: str, says: str) -> None:
    found = problems(data)

    assert list(found) == [f"kafka.{setting}"]
    assert says in str(found[f"kafka.{setting}"])


def test_two_ways_in_at_once_are_refused(secret: Path) -> None:
    data = with_oauth(secret)
    data["kafka"]["aws_msk_iam"] = {"region": "eu-central-1"}

    assert list(problems(data)) == ["kafka.aws_msk_iam.region"]
