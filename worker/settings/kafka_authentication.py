# How the worker signs in to Kafka: a password, a token (kafka.oauth, kafka.aws_msk_iam), Kerberos; what is missing for it, and
# what contradicts it.
#
# Secrets' files and packages are looked for, nothing is connected. Not here: the other options of kafka-python
# (kafka_option_checks.py), and how a token is fetched (broker/oauth.py).

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from worker.errors import FileError, SettingProblem
from worker.settings import types
from worker.settings.kafka_section import first_line
from worker.tls_file_problems import authority_problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.settings.kafka_section import KafkaSettings

WITH_PASSWORD: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
MSK_IAM: Final = "pip install 'moderation-worker[msk-iam]'"
WITHOUT_PASSWORD: Final = {"GSSAPI": "gssapi", "AWS_MSK_IAM": "botocore"}
"""kafka-python's other mechanisms and the packages that they need."""
OAUTHBEARER: Final = "OAUTHBEARER"
_PASSWORDS: Final = ("sasl_plain_username", "sasl_plain_password", "sasl_plain_password_file")
_MECHANISM: Final = "kafka.common.sasl_mechanism"
_PROTOCOL: Final = "kafka.common.security_protocol"


def sign_in_problems(kafka: KafkaSettings, protocol: str) -> Iterator[SettingProblem]:
    """Yield what is missing for the sign-in, and what would have no effect. ``protocol`` is a valid security_protocol."""
    options = kafka.common
    signs_in = protocol.startswith("SASL")
    if kafka.oauth.given:
        yield from _oauth(kafka, signs_in=signs_in)
        if kafka.aws_msk_iam.region is not None:
            yield SettingProblem(
                "kafka.aws_msk_iam.region",
                "leave it out, or leave kafka.oauth out: there is one way to sign in",
            )
        return
    if kafka.aws_msk_iam.region is not None:
        yield from _aws_msk_iam(options, protocol)
        return
    sasl = sorted(option for option in options if option.startswith("sasl_"))
    if sasl and not signs_in:
        remedy = f"set SASL_SSL (or SASL_PLAINTEXT): without it {sasl[0]} has no effect"
        yield SettingProblem(_PROTOCOL, remedy, protocol)
    if signs_in:
        yield from _password(options, protocol)


def _password(options: dict[str, Any], protocol: str) -> Iterator[SettingProblem]:
    mechanism = options.get("sasl_mechanism")
    if mechanism is None:
        remedy = f"is missing: {protocol} needs it (SCRAM-SHA-512, PLAIN …), or kafka.oauth"
        yield SettingProblem(_MECHANISM, remedy)
    elif mechanism in WITH_PASSWORD:
        for option in _PASSWORDS[:2]:
            if not {option, f"{option}_file"} & options.keys():
                yield SettingProblem(f"kafka.common.{option}", f"is missing: {mechanism} needs it")
    elif mechanism == OAUTHBEARER:
        remedy = f"is missing: {mechanism} needs the settings of kafka.oauth"
        yield SettingProblem("kafka.oauth.token_url", remedy)
    elif mechanism in WITHOUT_PASSWORD:
        yield from _package_of(mechanism, protocol)
    else:
        known = ", ".join((*WITH_PASSWORD, OAUTHBEARER, *WITHOUT_PASSWORD))
        yield SettingProblem(_MECHANISM, f"give one of {known}", mechanism)


def _package_of(mechanism: str, protocol: str) -> Iterator[SettingProblem]:
    package = WITHOUT_PASSWORD[mechanism]
    if find_spec(package) is None:
        how = f": {MSK_IAM}" if package == "botocore" else ""
        remedy = f"{mechanism} needs Python's package {package}, which is not installed here{how}"
        yield SettingProblem(_MECHANISM, remedy, mechanism)
    elif mechanism == "AWS_MSK_IAM" and protocol != "SASL_SSL":
        yield SettingProblem(_PROTOCOL, f"set SASL_SSL: {mechanism} needs it", protocol)


def _oauth(kafka: KafkaSettings, *, signs_in: bool) -> Iterator[SettingProblem]:
    oauth = kafka.oauth
    for word in ("token_url", "client_id", "client_secret_file"):
        if getattr(oauth, word) is None:
            yield SettingProblem(f"kafka.oauth.{word}", "is missing: kafka.oauth needs it")
    yield from _with_tokens("kafka.oauth", kafka.common, signs_in=signs_in)
    if oauth.client_secret_file is not None:
        yield from secret_file_problems("kafka.oauth.client_secret_file", str(oauth.client_secret_file))
    if oauth.ca_file is not None:
        yield from authority_problem("kafka.oauth.ca_file", str(oauth.ca_file))


def _aws_msk_iam(options: dict[str, Any], protocol: str) -> Iterator[SettingProblem]:
    if find_spec("botocore") is None:
        yield SettingProblem(
            "kafka.aws_msk_iam.region",
            f"it needs Python's package botocore, which is not installed here: {MSK_IAM}",
        )
    if protocol != "SASL_SSL":
        yield SettingProblem(
            _PROTOCOL,
            "set SASL_SSL: Amazon MSK takes an IAM sign-in only with TLS",
            options.get("security_protocol"),
        )
    yield from _with_tokens("kafka.aws_msk_iam", options, signs_in=True)


def _with_tokens(section: str, options: dict[str, Any], *, signs_in: bool) -> Iterator[SettingProblem]:
    """Yield what contradicts a sign-in with tokens, which the settings of ``section`` ask for."""
    if not signs_in:
        remedy = f"set SASL_SSL (or SASL_PLAINTEXT): without it {section} has no effect"
        yield SettingProblem(_PROTOCOL, remedy, options.get("security_protocol"))
    mechanism = options.get("sasl_mechanism", OAUTHBEARER)
    if mechanism != OAUTHBEARER:
        yield SettingProblem(
            _MECHANISM, f"leave it out, or leave {section} out, which signs in with {OAUTHBEARER}", mechanism
        )
    else:
        for option in options:
            if option in _PASSWORDS:
                remedy = f"leave it out, or leave {section} out, which signs in without a password"
                yield SettingProblem(f"kafka.common.{option}", remedy)


def secret_file_problems(name: str, path: str, *, holds_pair: bool = False) -> Iterator[SettingProblem]:
    """Yield why the file that the setting ``name`` gives holds no secret, or no user:password if it must."""
    shown = types.shown_path(path)
    try:
        secret = first_line(path)
    except FileError as error:
        yield SettingProblem(name, f"the file cannot be read ({error}): check the path and its rights", shown)
    else:
        if not secret.strip():
            yield SettingProblem(name, "the first line of the file is empty: put the secret there", shown)
        elif holds_pair and not (secret.partition(":")[0].strip() and ":" in secret and secret.isprintable()):
            yield SettingProblem(name, "put user:password into the first line of the file", shown)
