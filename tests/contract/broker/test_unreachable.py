# Kafka cannot be reached: the attempt ends in time, with the reason. No Kafka is needed, only a port.

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
from kafka import KafkaAdminClient, errors

from worker.broker import kafka_private_parts, secured_connection

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SILENT = 0.3
"""Seconds for which kafka-python tries, and then as long again for a handshake that has begun."""


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Takes connections, and never says anything: a frozen broker."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def open_admin(port: int, **arguments: Any) -> KafkaAdminClient:
    servers = f"127.0.0.1:{port}"
    return kafka_private_parts.open_client(
        KafkaAdminClient, {"bootstrap_servers": servers, "bootstrap_timeout_ms": SILENT * 1000, **arguments}
    )


def test_a_broker_that_says_nothing_to_tls_is_given_up(
    silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kafka-python would wait for it in silence, for ever: at the start, and at each reconnection."""
    monkeypatch.setattr(secured_connection, "HANDSHAKE_SECONDS", SILENT)
    began = time.monotonic()

    with pytest.raises(errors.KafkaTimeoutError, match="Handshake failed"):
        open_admin(silent_port, security_protocol="SSL")

    assert time.monotonic() - began < 10 * SILENT


def test_a_port_where_nobody_listens_is_reported(closed_port: int) -> None:
    with pytest.raises(errors.KafkaTimeoutError, match=rf"127\.0\.0\.1:{closed_port}: .*ECONNREFUSED"):
        open_admin(closed_port)


def test_a_certificate_that_is_none_is_reported(silent_port: int, tmp_path: Path) -> None:
    file = tmp_path / "ca.crt"
    file.write_text("not a certificate")

    with pytest.raises(errors.KafkaTimeoutError, match=r"ssl_cafile = '.*ca.crt': this is not a PEM file"):
        open_admin(silent_port, security_protocol="SSL", ssl_cafile=str(file))


def test_a_broker_that_says_nothing_is_reported(silent_port: int) -> None:
    with pytest.raises(errors.KafkaTimeoutError, match="Request timed out"):
        open_admin(silent_port)
