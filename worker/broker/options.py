# What the broker's adapters get once, at start: the topics, the group, and how to connect to Kafka.
#
# Values only, already validated when the settings were read. Durations are float seconds.
# How these become kafka-python's arguments is not here (client_config.py).

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from worker.domain.memory_budget import BUDGET_MIB, MEBIBYTE, share

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from worker.broker.access_token_cache import AccessTokenCache

RESTORED_AT_ONCE: Final = 2
"""How many partitions are restored concurrently."""
METADATA_MAX_AGE: Final = 60.0
"""New partitions and recreated topics are noticed within a minute."""

Start = Literal["earliest", "latest"] | datetime


@dataclass(frozen=True, slots=True)
class KafkaOptions:
    """
    Where commands come from, where outcomes go, and who this worker is.

    Attributes:
        client_name: This worker's name. It is part of the transactional id, so no two live processes may share it, and a
            restarted process should keep it: it then ends the transaction that its predecessor left open.
        control_topic: Where operators' orders are; None: none are looked for.
        quota_topic: Where replicas lend permits to each other; None: they do not.
        instance_id: The static member id; None for a dynamic member.
        start: Where to begin in a partition that has no committed offset.
        handover: How long a rebalance waits for calls in flight on the revoked partitions.
        handover_margin: Added to it before the partitions are given up without an answer from the listener.
        session_timeout: The broker removes a member that it has not heard from for this long.
        heartbeat_interval: At most a third of the session timeout.
        max_poll_interval: A member that has not polled or joined a rebalance for this long is removed.
        fence_margin: Subtracted from a proof of membership, for an attempt's way to the server and clock drift.
        batch_records: The most records that are delivered at once.
        batches_outstanding: The most batches that are delivered and not acknowledged (``Consumer.acknowledge``).
        transaction_timeout: The broker aborts a dead process's transaction after it; until then readers are held back.
        publish_timeout: A transaction that takes longer is aborted, and its results are published again.
        record_bytes: The largest record that is sent, unless ``producer`` has a ``max_request_size``. Brokers refuse more
            than 1,048,588 bytes by default, batch overhead included.
        restore_records: How many outcome records of a partition are read back.
        restore_bytes: How much memory they may take, while they are read and after.
        restore_window: Their greatest age, in seconds.
        cloudevents_headers: Whether outcomes carry the ``ce_*`` headers.
        common: kafka-python's arguments for every client (TLS, SASL). Never shown: it may contain a password.
        consumer: kafka-python's arguments for the consumer, which override ``common``.
        producer: kafka-python's arguments for the producer, which override ``common``.
        file_secrets: Returns the current content of the secret files of ``common``, ``consumer`` or ``producer``. Called for
            each new connection, on any thread. Raises FileError, which names the file that cannot be read.
        sign_in_remedy: What to do when a broker refuses the sign-in; it names the file of the password or of the client.
        tokens: The access tokens of OAUTHBEARER, which all clients of the process share; None without.

    """

    bootstrap_servers: str
    group_id: str
    command_topic: str
    outcome_topic: str
    dead_letter_topic: str
    client_name: str
    control_topic: str | None = None
    quota_topic: str | None = None
    instance_id: str | None = None
    start: Start = "earliest"
    handover: float = 5.0
    handover_margin: float = 2.0
    session_timeout: float = 15.0
    heartbeat_interval: float = 0.3
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
    sign_in_remedy: str = "put the right password into kafka.common.sasl_plain_password; it is read again at each new connection"
    tokens: AccessTokenCache | None = field(default=None, repr=False, compare=False)

    def secrets_for(self, part: str) -> Callable[[], Mapping[str, Any]]:
        """Return a function that reads the secret files of a client of that part, at each call."""
        return lambda: {**self.file_secrets("common"), **self.file_secrets(part)}

    @property
    def metadata_max_age(self) -> float:
        """How often the topics' metadata is refreshed, in seconds."""
        given = self.consumer.get("metadata_max_age_ms", self.common.get("metadata_max_age_ms"))
        return METADATA_MAX_AGE if given is None else float(given) / 1000

    @property
    def record_limit(self) -> int:
        """The largest record that is sent, in bytes: key, value, headers and the overhead of the record format."""
        return int(self.producer.get("max_request_size", self.record_bytes))

    @property
    def transactional_id(self) -> str:
        """The transactional id: the same after each restart of this worker, and of no other worker."""
        return f"{self.group_id}-{self.client_name}"
