# kafka-python's arguments, made from our options: one table for each kind of client.
#
# Later ones override earlier ones: our defaults, the operator's `common`, the operator's options for that client, and
# last what the promises rest on, which nobody may change. Nothing is opened here.

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

from worker.errors import SettingProblem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.broker.options import KafkaOptions

MEGABYTE: Final = 1024 * 1024
REQUEST_TIMEOUT_MS: Final = 15_000
"""A broker that hangs is noticed after this time instead of kafka-python's 30 s."""
QUOTA_TIMEOUT_MS: Final = 1_000
"""A message of the quota topic is worth nothing after a second."""
RECONNECT_MAX_MS: Final = 2_000
"""kafka-python's 30 s would lengthen every outage of a broker."""
IDLE_MS: Final = 180_000
"""Below the four minutes after which load balancers silently drop a connection; the next request would wait until it times out."""
BOOTSTRAP_TIMEOUT_MS: Final = 10_000
"""How long one attempt to reach the cluster may take; the caller retries."""
LINGER_MS: Final = 5
"""How long a record waits for others to fill its batch up."""
FLUSHED_LINGER_MS: Final = 100
"""
The same for the publisher, where a flush ends the wait. It appends the records of a transaction in less time, so as a rule each
partition has one batch, and not one for every few milliseconds.
"""

OAUTHBEARER: Final = "OAUTHBEARER"


@dataclass(frozen=True, slots=True)
class _Relation:
    """
    A relation between timeouts that kafka-python demands: its constructor raises otherwise.

    Attributes:
        less: The options whose sum must be less than ``more``.
        equal: Whether the sum may also be equal.

    """

    less: tuple[str, ...]
    more: str
    equal: bool = False


_CONSUMER_RELATIONS: Final = (
    _Relation(("fetch_max_wait_ms",), "request_timeout_ms"),
    _Relation(("request_timeout_ms",), "connections_max_idle_ms"),
)
_PRODUCER_RELATIONS: Final = (
    _Relation(("linger_ms", "request_timeout_ms"), "delivery_timeout_ms", equal=True),
)


def contradictions(options: KafkaOptions) -> list[SettingProblem]:
    """Return the timeouts that kafka-python would not accept together, each under the name of the operator's setting."""
    clients: tuple[tuple[str, Mapping[str, Any], Any, Mapping[str, Any], tuple[_Relation, ...]], ...] = (
        ("consumer", options.consumer, KafkaConsumer, consumer_arguments(options), _CONSUMER_RELATIONS),
        ("common", {}, KafkaConsumer, reader_arguments(options), _CONSUMER_RELATIONS),
        ("producer", options.producer, KafkaProducer, producer_arguments(options), _PRODUCER_RELATIONS),
    )
    found: dict[str, SettingProblem] = {}
    for part, own, kind, arguments, relations in clients:
        values = {**kind.DEFAULT_CONFIG, **arguments}
        for relation in relations:
            less, more = sum(values[name] for name in relation.less), values[relation.more]
            if less < more or (relation.equal and less == more):
                continue
            option = next(
                (name for name in (*relation.less, relation.more) if name in own or name in options.common),
                relation.more,
            )
            sides = f"{' and '.join(relation.less)} ({less} ms)", f"{relation.more} ({more} ms)"
            setting = f"kafka.{part if option in own else 'common'}.{option}"
            remedy = f"kafka-python wants {sides[0]} below {sides[1]}"
            found.setdefault(setting, SettingProblem(setting, remedy, values[option]))
    return list(found.values())


def consumer_arguments(options: KafkaOptions) -> dict[str, Any]:
    """Return the arguments of the command consumer, except the assignor, which belongs to one consumer (assignor.py)."""
    return _arguments(
        KafkaConsumer,
        options,
        ours={
            "client_id": f"{options.client_name}-commands",
            "session_timeout_ms": _ms(options.session_timeout),
            "heartbeat_interval_ms": _ms(options.heartbeat_interval),
            "max_poll_interval_ms": _ms(options.max_poll_interval),
            "max_poll_records": options.batch_records,
            # Per broker. Fetching further ahead gains nothing, and it counts towards memory.BASE_MIB.
            "fetch_max_bytes": 4 * MEGABYTE,
            "max_partition_fetch_bytes": MEGABYTE // 2,
            "metadata_max_age_ms": _ms(options.metadata_max_age),
        },
        own=options.consumer,
        fixed={
            "group_id": options.group_id,
            "group_instance_id": options.instance_id,
            "enable_auto_commit": False,
            "auto_offset_reset": "none",  # an offset out of range is logged, not skipped silently
            "isolation_level": "read_committed",  # else OffsetFetch would not wait for a dead owner's transaction
        },
    )


def producer_arguments(options: KafkaOptions) -> dict[str, Any]:
    """Return the arguments of the transactional producer."""
    arguments = _producer_arguments(options)
    if "linger_ms" not in options.producer:
        left = arguments["delivery_timeout_ms"] - arguments["request_timeout_ms"]
        arguments["linger_ms"] = max(LINGER_MS, min(FLUSHED_LINGER_MS, left))
    return arguments


def _producer_arguments(options: KafkaOptions) -> dict[str, Any]:
    return _arguments(
        KafkaProducer,
        options,
        ours={
            "client_id": f"{options.client_name}-outcomes",
            "compression_type": "lz4",
            "batch_size": 256 * 1024,
            "linger_ms": LINGER_MS,
            "retry_backoff_ms": 5,  # nearly every transaction waits it, while the previous one's markers are written
            "request_timeout_ms": REQUEST_TIMEOUT_MS,
            "delivery_timeout_ms": 4 * REQUEST_TIMEOUT_MS,
            "max_block_ms": _ms(options.publish_timeout),
            "max_request_size": options.record_limit,
        },
        own=options.producer,
        fixed={
            "transactional_id": options.transactional_id,
            "transaction_timeout_ms": _ms(options.transaction_timeout),
            "enable_idempotence": True,
            "acks": "all",
        },
    )


def command_producer_arguments(options: KafkaOptions) -> dict[str, Any]:
    """Return the arguments of the producer of commands: idempotent, and in no transaction that the worker's could collide with."""
    arguments = _producer_arguments(options)
    for name in ("transactional_id", "transaction_timeout_ms"):
        del arguments[name]
    if "linger_ms" not in options.producer:  # a common one may be longer than its delivery timeout allows
        arguments["linger_ms"] = LINGER_MS
    return {**arguments, "client_id": f"{options.client_name}-sender"}


def reader_arguments(options: KafkaOptions) -> dict[str, Any]:
    """Return the arguments of a consumer that looks up the group's offsets and reads outcomes, and never joins the group."""
    return _arguments(
        KafkaConsumer,
        options,
        ours={
            "client_id": f"{options.client_name}-restore",
            "fetch_max_bytes": 4 * MEGABYTE,
            "max_partition_fetch_bytes": 4 * MEGABYTE,
            "retry_backoff_ms": 50,
            "request_timeout_ms": REQUEST_TIMEOUT_MS,
        },
        fixed={
            "group_id": options.group_id,
            "enable_auto_commit": False,
            "auto_offset_reset": "none",
            "isolation_level": "read_committed",
        },
    )


def control_arguments(options: KafkaOptions) -> dict[str, Any]:
    """Return the arguments of a consumer of the control topic, which is in no group."""
    return _arguments(
        KafkaConsumer,
        options,
        ours={
            "client_id": f"{options.client_name}-control",
            "fetch_max_bytes": MEGABYTE,
            "max_partition_fetch_bytes": MEGABYTE,
            "retry_backoff_ms": 50,
            "request_timeout_ms": REQUEST_TIMEOUT_MS,
        },
        fixed={
            "group_id": None,
            "enable_auto_commit": False,
            "auto_offset_reset": "none",
            # An order must not wait for a transaction that somebody else has left open in this topic.
            "isolation_level": "read_uncommitted",
            "fetch_max_wait_ms": 500,  # below the two seconds in which an order takes effect
            "metadata_max_age_ms": 5_000,  # so soon a recreated topic is noticed
        },
    )


def order_arguments(options: KafkaOptions) -> dict[str, Any]:
    """Return the arguments of a producer of the control topic: each order is in all replicas before it counts as written."""
    arguments = _arguments(
        KafkaProducer,
        options,
        ours={
            "client_id": f"{options.client_name}-orders",
            "request_timeout_ms": REQUEST_TIMEOUT_MS,
            "delivery_timeout_ms": 2 * REQUEST_TIMEOUT_MS,
            "max_block_ms": REQUEST_TIMEOUT_MS,
        },
        fixed={"acks": "all", "enable_idempotence": True, "linger_ms": 0},
    )
    # kafka-python takes no less, and a longer request timeout must not keep an order from being given.
    arguments["delivery_timeout_ms"] = max(arguments["delivery_timeout_ms"], arguments["request_timeout_ms"])
    return arguments


def quota_reader_arguments(options: KafkaOptions) -> dict[str, Any]:
    """Return the arguments of the consumer of the quota topic, which is in no group and never looks back."""
    return _arguments(
        KafkaConsumer,
        options,
        ours={
            "client_id": f"{options.client_name}-quota",
            "fetch_max_bytes": MEGABYTE,
            "max_partition_fetch_bytes": MEGABYTE,
            "retry_backoff_ms": 50,
            "request_timeout_ms": REQUEST_TIMEOUT_MS,
            "metadata_max_age_ms": _ms(options.metadata_max_age),
        },
        fixed={
            "group_id": None,
            "enable_auto_commit": False,
            "auto_offset_reset": "latest",
            "isolation_level": "read_uncommitted",
            "fetch_min_bytes": 1,
        },
    )


def quota_writer_arguments(options: KafkaOptions) -> dict[str, Any]:
    """Return the arguments of the producer of the quota topic: at once or never, since a late message is worthless."""
    return _arguments(
        KafkaProducer,
        options,
        ours={"client_id": f"{options.client_name}-quota"},
        fixed={
            "request_timeout_ms": QUOTA_TIMEOUT_MS,
            "delivery_timeout_ms": QUOTA_TIMEOUT_MS + 1,
            "max_block_ms": QUOTA_TIMEOUT_MS,
            "acks": 1,
            "retries": 0,
            "linger_ms": 0,
            "enable_idempotence": False,
        },
    )


def admin_arguments(options: KafkaOptions) -> dict[str, Any]:
    """Return the arguments of the client that inspects and creates topics."""
    return _arguments(
        KafkaAdminClient,
        options,
        ours={"client_id": f"{options.client_name}-admin", "request_timeout_ms": REQUEST_TIMEOUT_MS},
    )


def _arguments(
    kind: Any,
    options: KafkaOptions,
    *,
    ours: Mapping[str, Any],
    own: Mapping[str, Any] | None = None,
    fixed: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """
    Return the arguments of one client. Later ones override: ``ours``, the operator's ``common``, ``own``, ``fixed``.

    ``own`` are the operator's options for that client, which is of the class ``kind``.
    """
    known = kind.DEFAULT_CONFIG
    shared = {name: value for name, value in options.common.items() if name in known}
    signed_in = (
        {}
        if options.tokens is None
        else {"sasl_mechanism": OAUTHBEARER, "sasl_oauth_token_provider": options.tokens}
    )
    return {
        "bootstrap_servers": options.bootstrap_servers,
        "bootstrap_timeout_ms": BOOTSTRAP_TIMEOUT_MS,
        "reconnect_backoff_max_ms": RECONNECT_MAX_MS,
        "connections_max_idle_ms": IDLE_MS,
        **_off("metrics_enabled", known),  # they cost CPU for each record, and nobody reads them
        **ours,
        **shared,
        **(own or {}),
        **(fixed or {}),
        **_off("allow_auto_create_topics", known),
        **signed_in,
    }


def _off(option: str, known: Mapping[str, Any]) -> dict[str, bool]:
    return {option: False} if option in known else {}


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
