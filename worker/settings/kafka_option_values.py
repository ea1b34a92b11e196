# What each of kafka-python's options may be, if an operator may set it: one table.
#
# kafka-python accepts nearly anything, and fails later with a traceback, a hang, or a loop without a pause. A test compares
# the table with kafka-python's own list of options. Not here: options that nobody may set, and options that contradict each
# other (kafka_option_checks.py).

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from worker.settings import addresses

if TYPE_CHECKING:
    from collections.abc import Callable

INT32: Final = 2**31 - 1
"""The largest number that these fields of Kafka's protocol can hold."""
TEXT_BYTES: Final = 1_024
SECRET_CHARACTERS: Final = 65_536


@dataclass(frozen=True, slots=True)
class OptionRule:
    """
    What one option may be.

    Attributes:
        wanted: What a value must be, as the end of "give …".
        fits: Returns whether a value is valid, whatever YAML or JSON can hold.

    """

    wanted: str
    fits: Callable[[Any], bool]


def _whole(low: int, high: int = INT32) -> OptionRule:
    return OptionRule(
        f"a whole number from {low} to {high}",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high,
    )


def _text(max_bytes: int = TEXT_BYTES) -> OptionRule:
    return OptionRule(
        f"a text of 1 to {max_bytes} bytes without control characters, in quotes if it is digits",
        lambda value: isinstance(value, str) and 0 < len(value.encode()) <= max_bytes and value.isprintable(),
    )


def _one_of(*choices: str | None) -> OptionRule:
    *others, last = ("null" if choice is None else choice for choice in choices)
    return OptionRule(
        f"{', '.join(others)} or {last}",
        lambda value: (value is None or isinstance(value, str)) and value in choices,
    )


def _proxy(value: Any) -> bool:
    try:
        addresses.proxy(value)
    except (ValueError, TypeError, AttributeError):
        return False
    return True


_FLAG: Final = OptionRule("true or false", lambda value: isinstance(value, bool))
_SECRET: Final = OptionRule(
    "a text that is not empty, in quotes if it is digits",
    lambda value: isinstance(value, str) and 0 < len(value) <= SECRET_CHARACTERS and "\0" not in value,
)
_PROXY: Final = OptionRule("socks5://host:port or http://host:port, perhaps with user:password@", _proxy)
_TIME: Final = _whole(1)
_BYTES: Final = _whole(1_024)

RULES: Final[dict[str, OptionRule]] = {
    "batch_size": _whole(0),
    "bootstrap_timeout_ms": _TIME,
    "client_dns_lookup": _one_of("use_all_dns_ips", "resolve_canonical_bootstrap_servers_only"),
    "client_id": _text(249),
    "client_rack": _text(),
    "compression_type": _one_of(None, "gzip", "snappy", "lz4", "zstd"),
    "connections_max_idle_ms": _TIME,
    "delivery_timeout_ms": _TIME,
    "enable_incremental_fetch_sessions": _FLAG,
    "fetch_max_bytes": _BYTES,
    "fetch_max_wait_ms": _whole(0),
    "fetch_min_bytes": _whole(1),
    "heartbeat_interval_ms": _TIME,
    "linger_ms": _whole(0),
    "max_block_ms": _TIME,
    "max_partition_fetch_bytes": _BYTES,
    "max_poll_interval_ms": _TIME,
    "max_poll_records": _whole(1, 100_000),
    "max_request_size": _BYTES,
    "metadata_max_age_ms": _whole(100),
    "metric_group_prefix": _text(),
    "metrics_enabled": _FLAG,
    "metrics_num_samples": _whole(1, 1_000),
    "metrics_sample_window_ms": _TIME,
    "proxy_url": _PROXY,
    "receive_buffer_bytes": _BYTES,
    "receive_message_max_bytes": _BYTES,
    "reconnect_backoff_max_ms": _TIME,
    "reconnect_backoff_ms": _TIME,
    "request_timeout_ms": _TIME,
    "retry_backoff_ms": _TIME,
    "sasl_kerberos_domain_name": _text(),
    "sasl_kerberos_name": _text(),
    "sasl_kerberos_service_name": _text(),
    "sasl_mechanism": _text(),
    "sasl_plain_password": _SECRET,
    "sasl_plain_username": _text(),
    "security_protocol": _text(),
    "send_buffer_bytes": _BYTES,
    "session_timeout_ms": _TIME,
    "socks5_proxy": _PROXY,
    "ssl_cafile": _text(4_096),
    "ssl_certfile": _text(4_096),
    "ssl_check_hostname": _FLAG,
    "ssl_keyfile": _text(4_096),
    "ssl_password": _SECRET,
}
