# Which of kafka-python's options may be set, where, and with which others (kafka.common, kafka.consumer, kafka.producer).
#
# The table of the options that only the worker sets is here. Not here: timings that contradict other settings (cross_checks.py),
# what one value may be (kafka_option_values.py), and how the options reach kafka-python (broker/client_config.py).

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, Final

from pydantic import SecretStr

from worker.errors import FileError, SettingProblem
from worker.settings import types
from worker.settings.kafka_authentication import secret_file_problems, sign_in_problems
from worker.settings.kafka_option_values import RULES
from worker.settings.kafka_section import first_line
from worker.tls_file_problems import tls_problems

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from worker.settings.kafka_section import KafkaSettings

_CONNECTION_PREFIXES: Final = ("security_protocol", "sasl_", "ssl_", "proxy_url", "socks5_proxy")
"""Prefixes of the options of a connection. There are more clients than the consumer and the producer, so they are common."""
_PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_THE_WORKERS: Final = "leave it out: the worker's promises depend on its own value"
_NO_TEXT: Final = "leave it out: it is a Python object, which no file can hold"
OWNED: Final[dict[str, str]] = {
    "bootstrap_servers": "set kafka.bootstrap_servers instead",
    "group_id": "set kafka.group_id instead",
    "group_instance_id": "set kafka.instance_id instead",
    "auto_offset_reset": "set kafka.start instead",
    "enable_auto_commit": "leave it out: offsets are committed in the transaction that publishes the outcomes, and only there",
    "auto_commit_interval_ms": "leave it out: offsets are committed in the transaction that publishes the outcomes",
    "transactional_id": "leave it out (it follows from kafka.group_id and kafka.instance_id): two users of one id would fence each other",
    "allow_auto_create_topics": "leave it out: topics are created by `moderation-worker topics create`",
    "ssl_crlfile": "leave it out: this kafka-python fails to load such a list",
    "ssl_ciphers": "leave it out: this kafka-python ignores it",
    **dict.fromkeys(
        (
            "isolation_level", "partition_assignment_strategy", "consumer_timeout_ms", "exclude_internal_topics", "enable_idempotence", "transaction_timeout_ms",
            "acks", "retries", "max_in_flight_requests_per_connection", "check_crcs",
        ),
        _THE_WORKERS,
    ),
    **dict.fromkeys(
        (
            "key_deserializer", "value_deserializer", "key_serializer", "value_serializer", "partitioner", "selector", "kafka_client",
            "metric_reporters", "ssl_context", "sasl_oauth_token_provider", "socket_options", "default_offset_commit_callback",
            "api_version",
        ),
        _NO_TEXT,
    ),
}  # fmt: skip
"""Options that only the worker sets, and what to do instead."""


def option_problems(kafka: KafkaSettings) -> Iterator[SettingProblem]:
    """Yield the options that kafka-python does not have there, that only the worker sets, or whose value is wrong."""
    known = _kafka_pythons_own()
    for part in known:
        given = getattr(kafka, part)
        for option, value in given.items():
            yield from _problems_of(part, option, value, given, known)


def _problems_of(
    part: str, option: str, value: Any, given: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]]
) -> Iterator[SettingProblem]:
    name, stem = f"kafka.{part}.{option}", option.removesuffix("_file")
    if option in OWNED:
        shown = None if option.startswith(("sasl", "ssl")) else _shown(option, value)
        yield SettingProblem(name, OWNED[option], shown)
    elif part != "common" and option.startswith(_CONNECTION_PREFIXES):
        remedy = f"set kafka.common.{option} instead: all clients connect to Kafka in the same way"
        yield SettingProblem(name, remedy)
    elif stem != option and stem in types.SECRET_OPTIONS:
        yield from _secret_file(name, stem, value, twice=stem in given)
    elif option not in known[part]:
        yield SettingProblem(name, f"kafka-python knows no such option here{_meant(option, part, known)}")
    elif not RULES[option].fits(_bare(value)):
        yield SettingProblem(name, f"give {RULES[option].wanted}", _shown(option, value))


def _meant(option: str, part: str, known: Mapping[str, Mapping[str, Any]]) -> str:
    """Return where an option belongs that kafka-python does not have in this part, or which is meant, as the end of a sentence."""
    elsewhere = [f"kafka.{other}" for other in known if other != part and option in known[other]]
    if elsewhere:
        return f": it belongs to {elsewhere[-1]}"
    free = [each for each in known[part] if each not in OWNED]
    family = option.partition("_")[0]  # of sasl_password not ssl_password is meant, which is more like it
    related = [each for each in free if each.partition("_")[0] == family]
    close = [
        *difflib.get_close_matches(option, related, 1, 0.6),
        *difflib.get_close_matches(option, free, 1, 0.6),
    ]
    return f": did you mean {close[0]}?" if close else ""


def security_problems(kafka: KafkaSettings) -> Iterator[SettingProblem]:
    """Yield what is missing for TLS and SASL, and what would have no effect."""
    options = kafka.common
    protocol = options.get("security_protocol", "PLAINTEXT")
    if protocol not in _PROTOCOLS:
        yield SettingProblem(
            "kafka.common.security_protocol",
            f"give one of {', '.join(_PROTOCOLS)}",
            protocol if isinstance(protocol, str) else None,
        )
        return
    yield from sign_in_problems(kafka, str(protocol))
    yield from _tls(kafka)
    tls = sorted(option for option in options if option.startswith("ssl_"))
    if tls and not str(protocol).endswith("SSL"):
        yield SettingProblem(
            "kafka.common.security_protocol",
            f"set SSL or SASL_SSL: without it {tls[0]} has no effect",
            protocol,
        )


def _tls(kafka: KafkaSettings) -> Iterator[SettingProblem]:
    try:
        options = kafka.options()
    except (FileError, TypeError):
        return  # option_problems reports a secret's file that cannot be read
    yield from tls_problems("kafka.common", options)


def _secret_file(name: str, option: str, value: Any, *, twice: bool) -> Iterator[SettingProblem]:
    if twice:
        yield SettingProblem(name, f"give this or {option}, not both", types.shown_path(value))
    elif not isinstance(value, str):
        yield SettingProblem(name, "give the path of a file")
    else:
        found = list(secret_file_problems(name, value))
        yield from found
        if not found and not RULES[option].fits(first_line(value)):
            remedy = f"put {RULES[option].wanted} into the first line of the file"
            yield SettingProblem(name, remedy, types.shown_path(value))


def _kafka_pythons_own() -> dict[str, dict[str, Any]]:
    """Return kafka-python's options with their defaults, by the part of the settings that they belong to."""
    from kafka import KafkaConsumer, KafkaProducer  # noqa: PLC0415 - 0.2 s that `--help` and `simulate` need not pay

    consumer, producer = dict(KafkaConsumer.DEFAULT_CONFIG), dict(KafkaProducer.DEFAULT_CONFIG)
    both = {option: consumer[option] for option in consumer.keys() & producer.keys()}
    return {"consumer": consumer, "producer": producer, "common": both}


def _bare(value: Any) -> Any:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _shown(option: str, value: object) -> object:
    return None if option in types.SECRET_OPTIONS or isinstance(value, SecretStr) else value
