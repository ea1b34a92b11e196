# What the broker's adapters are given once, at start: the topics, the group, and how to speak to Kafka.
#
# Values only, already validated by whoever read the settings. Durations are float seconds.
# Not here: how these become kafka-python's arguments (client_config.py).

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from worker.domain.memory import BUDGET_MIB, MEBIBYTE, share

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

RESTORED_AT_ONCE: Final = 2
"""How many partitions are restored at the same time."""
METADATA_MAX_AGE: Final = 60.0
"""Partitions that were added, and topics that were made again, are seen within a minute."""

Start = Literal["earliest", "latest"] | datetime


@dataclass(frozen=True, slots=True)
class KafkaOptions:
    """
    Where the commands are, where outcomes go, and who we are.

    Attributes:
        client_name: This worker's name. With the group it makes the transactional id, so no two live processes may
            share it, and a restarted one should keep it: it ends the transaction that its predecessor left open.
        instance_id: The static member id; None: a dynamic member.
        start: Where to begin in a partition that has no committed offset.
        handover: How long a rebalance waits for what is in flight on the partitions that go.
        handover_margin: Added to it before they are given up without an answer from the listener.
        session_timeout: A member that the broker has not heard for so long is out.
        heartbeat_interval: At most a third of it.
        max_poll_interval: A member that has not polled, or joined a rebalance, for so long is out.
        fence_margin: What a try's way to the server, and a clock's drift, may take out of a proof of membership.
        batch_records: The most records that are handed over at once.
        batches_outstanding: The most batches that are handed over and not yet taken.
        transaction_timeout: After it the broker ends a dead process's transaction, which holds back readers until then.
        publish_timeout: The longest that a transaction is tried before it is aborted; its results are sent again.
        record_bytes: The largest record that is sent, unless ``producer`` says otherwise by ``max_request_size``. Brokers
            refuse 1,048,588 bytes by default, batch overhead included.
        restore_records: How many outcome records of a partition are read back.
        restore_bytes: What may be kept of them in memory, while they are read and after.
        restore_window: How old, in seconds, they may be.
        cloudevents_headers: Whether outcomes carry the ``ce_*`` headers.
        common: Arguments of kafka-python for every client (TLS, SASL). Never shown: it may hold a password.
        consumer: Arguments of kafka-python for the consumer, over ``common``.
        producer: Arguments of kafka-python for the producer, over ``common``.
        file_secrets: What of ``common``, ``consumer`` or ``producer`` is kept in files, as they are now. Asked for each new
            connection, in any thread. Raises OSError or ValueError when a file cannot be read.
        password_source: Where the password is, for people: a file, or the setting's name.

    """

    bootstrap_servers: str
    group_id: str
    command_topic: str
    outcome_topic: str
    dead_letter_topic: str
    client_name: str
    instance_id: str | None = None
    start: Start = "earliest"
    handover: float = 5.0
    handover_margin: float = 2.0
    session_timeout: float = 45.0
    heartbeat_interval: float = 3.0
    max_poll_interval: float = 300.0
    fence_margin: float = 1.0
    batch_records: int = 500
    batches_outstanding: int = 4
    transaction_timeout: float = 10.0
    publish_timeout: float = 15.0
    record_bytes: int = 1_000_000
    restore_records: int = 5_000
    restore_bytes: int = share("ids", BUDGET_MIB * MEBIBYTE) // RESTORED_AT_ONCE
    restore_window: float = 3_600.0
    cloudevents_headers: bool = False
    common: Mapping[str, Any] = field(default_factory=dict, repr=False)
    consumer: Mapping[str, Any] = field(default_factory=dict, repr=False)
    producer: Mapping[str, Any] = field(default_factory=dict, repr=False)
    file_secrets: Callable[[str], Mapping[str, Any]] = field(default=lambda _: {}, repr=False, compare=False)
    password_source: str = "kafka.common.sasl_plain_password"  # noqa: S105 - a name

    def secrets_for(self, part: str) -> Callable[[], Mapping[str, Any]]:
        """For a client of that part: what it takes from files, as they are at each call."""
        return lambda: {**self.file_secrets("common"), **self.file_secrets(part)}

    @property
    def metadata_max_age(self) -> float:
        """How often, in seconds, it is looked at how the topics are."""
        given = self.consumer.get("metadata_max_age_ms", self.common.get("metadata_max_age_ms"))
        return METADATA_MAX_AGE if given is None else float(given) / 1000

    @property
    def record_limit(self) -> int:
        """The largest record that is sent, in bytes: key, value, headers and what the record format adds."""
        return int(self.producer.get("max_request_size", self.record_bytes))

    @property
    def transactional_id(self) -> str:
        """The same for every life of this worker, and of no other."""
        return f"{self.group_id}-{self.client_name}"
