# What settings may not be together, although each alone is well: one function for each subject, all of them asked.
#
# Here also: what of kafka-python's options is the worker's own business, and files that must be there at start.
# Not here: what must fit the cluster (topics, partitions): only a connection can tell.

import difflib
import os
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import SecretStr

from worker.domain.actions import ACTIONS, ENDPOINTS
from worker.errors import Problem, SignatureError
from worker.settings import kinds
from worker.settings.kafka import first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from worker.settings.table import Settings

SESSION_TIMEOUT_MS: Final = (6_000, 1_800_000)
"""What brokers allow by default (``group.min.session.timeout.ms``, ``group.max.session.timeout.ms``)."""

_FILES: Final = frozenset({"ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_crlfile"})
_WITH_PASSWORD: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_WITHOUT_PASSWORD: Final = ("GSSAPI", "AWS_MSK_IAM")
"""What kafka-python can do besides: not OAUTHBEARER, for which it wants an object of Python (a test compares)."""
_THE_WORKERS: Final = "leave it out: the worker's promises rest on its own value"
_NO_TEXT: Final = "leave it out: it is an object of Python, which no file can hold"
_OWNED: Final[dict[str, str]] = {
    "bootstrap_servers": "set kafka.bootstrap_servers instead",
    "group_id": "set kafka.group_id instead",
    "group_instance_id": "set kafka.instance_id instead",
    "auto_offset_reset": "set kafka.start instead",
    "enable_auto_commit": "leave it out: offsets are committed in the transaction that publishes the outcomes, and only there",
    "auto_commit_interval_ms": "leave it out: offsets are committed in the transaction that publishes the outcomes",
    "transactional_id": "leave it out (it follows from kafka.group_id and kafka.instance_id): two users of one id would fence each other",
    "allow_auto_create_topics": "leave it out: topics are created by `moderation-worker topics create`",
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
"""Options that nobody else may set, and what to do instead."""


def contradictions(settings: "Settings") -> list[Problem]:
    """
    Every contradiction in settings of which each value is well.
    """
    return list(chain.from_iterable(found(settings) for found in _SUBJECTS))


def _topics(settings: "Settings") -> "Iterator[Problem]":
    kafka = settings.kafka
    if len(kafka.command_topics) != 1:
        yield Problem(
            "kafka.command_topics",
            "name exactly one topic: one release reads one",
            ", ".join(kafka.command_topics) or None,
        )
    names = [
        *(("kafka.command_topics", topic) for topic in kafka.command_topics[:1]),
        ("kafka.outcome_topic", kafka.outcome_topic),
        ("kafka.dead_letter_topic", kafka.dead_letter_topic),
    ]
    for index, (name, topic) in enumerate(names):
        for other, same in names[:index]:
            if topic == same:
                yield Problem(name, f"take another topic: {other} is the same", topic)


def _timing(settings: "Settings") -> "Iterator[Problem]":
    kafka, drain = settings.kafka, settings.drain_seconds
    session, heartbeat, poll = (
        kafka.consumer_seconds(option)
        for option in ("session_timeout_ms", "heartbeat_interval_ms", "max_poll_interval_ms")
    )
    low, high = SESSION_TIMEOUT_MS
    if not low <= session * 1000 <= high:
        yield Problem(
            "kafka.consumer.session_timeout_ms",
            f"give a whole number from {low} to {high}, as brokers demand by default",
            round(session * 1000),
        )
    if drain >= poll:
        yield Problem(
            "drain_seconds",
            f"make it shorter than kafka.consumer.max_poll_interval_ms ({poll:g} s), or Kafka throws the worker out in mid-drain",
            drain,
        )
    limits = {
        "drain_seconds": drain,
        "the session timeout (kafka.consumer.session_timeout_ms)": session,
        "kafka.consumer.max_poll_interval_ms": poll,
    }
    for name, limit in limits.items():
        if kafka.handover_seconds >= limit:
            yield Problem(
                "kafka.handover_seconds", f"make it shorter than {name}, {limit:g} s", kafka.handover_seconds
            )
    if heartbeat * 3 > session:
        yield Problem(
            "kafka.consumer.heartbeat_interval_ms",
            f"make it at most a third of the session timeout ({session:g} s), or one lost heartbeat ends the membership",
            round(heartbeat * 1000),
        )


def _options(settings: "Settings") -> "Iterator[Problem]":
    known = _kafkas_own()
    for part, defaults in known.items():
        for option, value in getattr(settings.kafka, part).items():
            name = f"kafka.{part}.{option}"
            stem = option.removesuffix("_file")
            if option in _OWNED:
                yield Problem(
                    name,
                    _OWNED[option],
                    None if option.startswith(("sasl", "ssl")) else _shown(option, value),
                )
            elif stem != option and stem in kinds.SECRET_OPTIONS:
                yield from _secret_file(name, value, twice=stem in getattr(settings.kafka, part))
            elif option not in defaults:
                elsewhere = [f"kafka.{other}" for other in known if other != part and option in known[other]]
                close = difflib.get_close_matches(
                    option, [item for item in defaults if item not in _OWNED], 1, 0.6
                )
                hint = (
                    f": it belongs to {elsewhere[-1]}"
                    if elsewhere
                    else f": did you mean {close[0]}?"
                    if close
                    else ""
                )
                yield Problem(name, f"kafka-python knows no such option here{hint}")
            elif not _fits(option, value, defaults[option]):
                yield Problem(name, f"give {_wanted(option, defaults[option])}", _shown(option, value))
            elif option in _FILES and not (Path(value).is_file() and os.access(value, os.R_OK)):
                yield Problem(
                    name, "the file cannot be read: check the path and its rights", _shown(option, value)
                )


def _security(settings: "Settings") -> "Iterator[Problem]":
    options = settings.kafka.common
    protocol = options.get("security_protocol", "PLAINTEXT")
    known = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
    if protocol not in known:
        yield Problem(
            "kafka.common.security_protocol",
            f"give one of {', '.join(known)}",
            protocol if isinstance(protocol, str) else None,
        )
        return
    sasl = sorted(option for option in options if option.startswith("sasl_"))
    if sasl and not str(protocol).startswith("SASL"):
        yield Problem(
            "kafka.common.security_protocol",
            f"set SASL_SSL (or SASL_PLAINTEXT): without it {sasl[0]} has no effect",
            protocol,
        )
    if str(protocol).startswith("SASL"):
        yield from _sasl(options, str(protocol))
    tls = sorted(option for option in options if option.startswith("ssl_"))
    if tls and not str(protocol).endswith("SSL"):
        yield Problem(
            "kafka.common.security_protocol",
            f"set SSL or SASL_SSL: without it {tls[0]} has no effect",
            protocol,
        )


def _sasl(options: "dict[str, Any]", protocol: str) -> "Iterator[Problem]":
    mechanism = options.get("sasl_mechanism")
    if mechanism is None:
        yield Problem(
            "kafka.common.sasl_mechanism", f"is missing: {protocol} needs it (SCRAM-SHA-512, PLAIN …)"
        )
    elif mechanism in _WITH_PASSWORD:
        for option in ("sasl_plain_username", "sasl_plain_password"):
            if not {option, f"{option}_file"} & options.keys():
                yield Problem(f"kafka.common.{option}", f"is missing: {mechanism} needs it")
    elif mechanism not in _WITHOUT_PASSWORD:
        known = ", ".join((*_WITH_PASSWORD, *_WITHOUT_PASSWORD))
        yield Problem("kafka.common.sasl_mechanism", f"give one of {known}", mechanism)


def _apps(settings: "Settings") -> "Iterator[Problem]":
    tencent = settings.tencent
    if not tencent.apps:
        yield Problem("tencent.apps", "name at least one app")
    if tencent.apps and tencent.default_app is not None and tencent.default_app not in tencent.apps:
        known = ", ".join(tencent.apps)
        yield Problem(
            "tencent.default_app",
            f"is in no row of tencent.apps: name one of these: {known}",
            tencent.default_app,
        )
    shared = Counter(app.sdk_app_id for app in tencent.apps.values())
    for word, app in tencent.apps.items():
        name = f"tencent.apps.{word}"
        if not kinds.is_app_name(word):
            yield Problem(name, "name the app with 1 to 64 of the characters a-z A-Z 0-9 . _ -")
        if shared[app.sdk_app_id] > 1:
            yield Problem(
                f"{name}.sdk_app_id",
                "two apps have it: Tencent counts the quota per SDKAppID, so they would exceed it together",
                app.sdk_app_id,
            )
        if app.secret_key is not None and app.secret_key_file is not None:
            yield Problem(
                f"{name}.secret_key_file", "give this or secret_key, not both", str(app.secret_key_file)
            )
        elif app.secret_key is None and app.secret_key_file is None:
            yield Problem(
                f"{name}.secret_key_file",
                "give this or secret_key, since without a key nothing can be signed",
            )
        elif app.secret_key_file is not None:
            yield from _key_file(f"{name}.secret_key_file", app.key, _path(app.secret_key_file))
        if (app.region is None) == (app.base_url is None):
            both = app.region is not None
            yield Problem(
                f"{name}.region",
                f"give this or base_url{', not both' if both else ''}",
                app.region and app.region.value,
            )


def _limits(settings: "Settings") -> "Iterator[Problem]":
    limits = settings.limits
    for endpoint, limit in limits.per_endpoint.items():
        name = f"limits.per_endpoint.{endpoint}"
        if endpoint in ACTIONS:
            yield Problem(
                name, f"name the endpoint instead of the action: {ACTIONS[endpoint].endpoint}", limit
            )
        elif endpoint not in ENDPOINTS:
            close = difflib.get_close_matches(endpoint, ENDPOINTS, 1, 0.5)
            meant = f": did you mean {close[0]}?" if close else f"; it knows {', '.join(ENDPOINTS)}"
            yield Problem(name, f"the worker calls no such endpoint{meant}", limit)
    most = max(limits.calls_per_second, *limits.per_endpoint.values(), 0)
    connections = settings.http.max_connections
    if connections is not None and connections < most:
        yield Problem(
            "http.max_connections",
            f"give at least {most}, the permits of an endpoint, or null for as many as those",
            connections,
        )


def _retries(settings: "Settings") -> "Iterator[Problem]":
    give_up = settings.retry.give_up_after_seconds
    if give_up is not None and give_up < settings.http.timeout_seconds:
        yield Problem(
            "retry.give_up_after_seconds",
            f"make it at least http.timeout_seconds ({settings.http.timeout_seconds:g}): one try may take that long",
            give_up,
        )


_SUBJECTS: "Final[tuple[Callable[[Settings], Iterator[Problem]], ...]]" = (
    _topics, _timing, _options, _security, _apps, _limits, _retries,
)  # fmt: skip


def _key_file(name: str, read: "Callable[[], str]", path: str | None) -> "Iterator[Problem]":
    try:
        read()
    except SignatureError as error:
        yield Problem(name, f"put the key there: {error}", path)


def _secret_file(name: str, value: Any, *, twice: bool) -> "Iterator[Problem]":
    if twice:
        yield Problem(
            name, f"give this or {name.removesuffix('_file').rpartition('.')[2]}, not both", _path(value)
        )
        return
    try:
        secret = first_line(value)
    except (OSError, ValueError, TypeError):
        yield Problem(name, "the file cannot be read as text: check the path and its rights", _path(value))
    else:
        if not secret:
            yield Problem(name, "the first line of the file is empty: put the secret there", _path(value))


def _path(value: object) -> str | None:
    """
    A path as it may be shown. Without a slash it may be the secret itself, in the wrong place.
    """
    return str(value) if "/" in str(value) else None


def _kafkas_own() -> dict[str, dict[str, Any]]:
    """
    The options that kafka-python knows, with their defaults, by the part of the settings that they belong to.
    """
    from kafka import KafkaConsumer, KafkaProducer  # noqa: PLC0415 - 0.2 s that `--help` and `simulate` need not pay

    consumer, producer = dict(KafkaConsumer.DEFAULT_CONFIG), dict(KafkaProducer.DEFAULT_CONFIG)
    both = {option: consumer[option] for option in consumer.keys() & producer.keys()}
    return {"consumer": consumer, "producer": producer, "common": both}


def _fits(option: str, value: Any, default: Any) -> bool:
    if isinstance(value, SecretStr):
        return bool(value.get_secret_value())
    if isinstance(default, bool):
        return isinstance(value, bool)
    if _is_count(option, default):
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return isinstance(value, str) and bool(value)


def _wanted(option: str, default: Any) -> str:
    if isinstance(default, bool):
        return "true or false"
    return (
        "a whole number of at least 0"
        if _is_count(option, default)
        else "a text that is not empty, in quotes if it is digits"
    )


def _is_count(option: str, default: Any) -> bool:
    return isinstance(default, int | float) or option.endswith(("_ms", "_bytes"))


def _shown(option: str, value: object) -> object:
    return None if option in kinds.SECRET_OPTIONS or isinstance(value, SecretStr) else value
