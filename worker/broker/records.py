# From an outcome or a dead letter to the record that Kafka gets: topic, partition, key, value, headers.
#
# Values in, values out: nothing is sent here. How a dead letter keeps its original is decided in domain/contract/deadletters.py.

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from worker.domain.contract.deadletters import fit

if TYPE_CHECKING:
    from worker.broker.options import KafkaOptions
    from worker.domain.contract.deadletters import DeadLetter
    from worker.domain.effects import Outgoing, Transaction

RECORD_BYTES: Final = 128
HEADER_BYTES: Final = 16
"""At least what the record format adds to key, value and headers (lengths, the batch's header), once and for each header."""
CE_TYPE: Final = "moderation.command."
"""The CloudEvents type of an outcome, before its status."""

_encoder: Final = msgspec.json.Encoder()


class Sending(Struct, frozen=True):
    """
    One record on its way.

    Attributes:
        partition: None lets the key decide.
        outcome_id: Of the command that it is about.

    """

    topic: str
    partition: int | None
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    outcome_id: str
    is_dead_letter: bool

    @property
    def size(self) -> int:
        """Bytes of key, value and headers."""
        headers = sum(len(name) + len(value) for name, value in self.headers)
        return len(self.key or b"") + len(self.value or b"") + headers


def sendings(transaction: Transaction, options: KafkaOptions) -> list[Sending]:
    """All records of one transaction. A dead letter always fits; an outcome may be too large."""
    return [
        *(_outcome(outgoing, options) for outgoing in transaction.outcomes),
        *(_dead_letter(letter, options) for letter in transaction.dead_letters),
    ]


def fits(sending: Sending, options: KafkaOptions) -> bool:
    """Whether the record is small enough to be sent."""
    overhead = RECORD_BYTES + HEADER_BYTES * len(sending.headers)
    return sending.is_dead_letter or sending.size + overhead <= options.record_limit


def _outcome(outgoing: Outgoing, options: KafkaOptions) -> Sending:
    outcome = outgoing.outcome
    headers = [
        ("command_id", outcome.command_id.encode("utf-8", "replace")),
        ("status", outcome.status.encode()),
    ]
    if outgoing.traceparent is not None:
        headers.append(("traceparent", outgoing.traceparent.encode("utf-8", "replace")))
    if options.cloudevents_headers:
        headers += [
            ("ce_specversion", b"1.0"),
            ("ce_id", outcome.outcome_id.encode()),
            ("ce_source", f"/moderation-worker/{options.group_id}".encode()),
            ("ce_type", (CE_TYPE + outcome.status).encode()),
            ("ce_time", outcome.finished_at.encode()),
            ("content-type", b"application/json"),
        ]
    return Sending(
        topic=options.outcome_topic,
        partition=outgoing.partition,
        key=outgoing.key,
        value=_encoder.encode(outcome),
        headers=headers,
        outcome_id=outcome.outcome_id,
        is_dead_letter=False,
    )


def _dead_letter(letter: DeadLetter, options: KafkaOptions) -> Sending:
    fitted = fit(letter, min(options.record_limit, letter.most_bytes or options.record_limit))
    return Sending(
        topic=options.dead_letter_topic,
        partition=None,
        key=fitted.key,
        value=fitted.value,
        headers=fitted.headers,
        outcome_id=letter.outcome_id,
        is_dead_letter=True,
    )
