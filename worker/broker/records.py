# From an outcome or a dead letter to the record that Kafka gets: topic, partition, key, value, headers.
#
# Values in, values out: nothing is sent here. How a dead letter keeps its original is decided in domain/contract/deadletters.py.

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct, structs

from worker.domain.contract.deadletters import fit
from worker.domain.contract.outcome_fitting import key_omitted, shorter
from worker.domain.contract.records import Omitted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.broker.options import KafkaOptions
    from worker.domain.contract.deadletters import DeadLetter
    from worker.domain.contract.outcomes import Outcome
    from worker.domain.effects import Outgoing, Transaction

RECORD_BYTES: Final = 128
HEADER_BYTES: Final = 16
"""At least what the record format adds to key, value and headers (lengths, the batch's header), once and for each header."""
CE_TYPE: Final = "moderation.command."
"""The CloudEvents type of an outcome, before its status."""

NO_LIMITS: Final[Mapping[str, int]] = {}

_encoder: Final = msgspec.json.Encoder()


class Sending(Struct, frozen=True):
    """
    One record on its way.

    Attributes:
        partition: None lets the key decide.
        outcome_id: Of the command that it is about.
        is_shortened: More of it was left out than a reader of the topic expects: an outcome's history, or a record's key.

    """

    topic: str
    partition: int | None
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    outcome_id: str
    is_shortened: bool = False

    @property
    def size(self) -> int:
        """Bytes of key, value and headers."""
        headers = sum(len(name) + len(value) for name, value in self.headers)
        return len(self.key or b"") + len(self.value or b"") + headers


def sendings(
    transaction: Transaction, options: KafkaOptions, limits: Mapping[str, int] = NO_LIMITS
) -> list[Sending]:
    """
    All records of one transaction, none larger than its topic's limit: what does not fit is left out.

    ``limits`` has the topics whose brokers take less than ``options.record_limit``; none is below ``SMALLEST_LIMIT``.
    """
    outcomes = limits.get(options.outcome_topic, options.record_limit)
    letters = limits.get(options.dead_letter_topic, options.record_limit)
    return [
        *(_outcome(outgoing, options, outcomes) for outgoing in transaction.outcomes),
        *(_dead_letter(letter, options, letters) for letter in transaction.dead_letters),
    ]


def _outcome(outgoing: Outgoing, options: KafkaOptions, limit: int) -> Sending:
    whole = not isinstance(outgoing.key, Omitted)
    sending = _outcome_record(outgoing, outgoing.outcome, options, has_key=whole)
    if _bytes(sending) <= limit:
        return sending if whole else structs.replace(sending, is_shortened=True)
    for form, has_key in shorter(outgoing.outcome, has_key=whole and outgoing.key is not None):
        sending = _outcome_record(outgoing, form, options, has_key=has_key)
        if _bytes(sending) <= limit:
            break
    return structs.replace(sending, is_shortened=True)


def _bytes(sending: Sending) -> int:
    return sending.size + RECORD_BYTES + HEADER_BYTES * len(sending.headers)


def _outcome_record(outgoing: Outgoing, outcome: Outcome, options: KafkaOptions, *, has_key: bool) -> Sending:
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
    if not has_key and outgoing.key is not None:
        headers += key_omitted(outgoing.key)
    return Sending(
        topic=options.outcome_topic,
        partition=outgoing.partition,
        key=outgoing.key if has_key else None,
        value=_encoder.encode(outcome),
        headers=headers,
        outcome_id=outcome.outcome_id,
    )


def _dead_letter(letter: DeadLetter, options: KafkaOptions, limit: int) -> Sending:
    fitted = fit(letter, limit)
    return Sending(
        topic=options.dead_letter_topic,
        partition=None,
        key=fitted.key,
        value=fitted.value,
        headers=fitted.headers,
        outcome_id=letter.outcome_id,
        is_shortened=any(name == "x-key-omitted" for name, _ in fitted.headers),
    )
