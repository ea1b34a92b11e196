# Makes Kafka records of outcomes and dead letters: topic, partition, key, value, headers.
#
# Values in, values out: nothing is sent here. What a dead letter keeps of its original is decided in
# domain/contract/dead_letter_encoding.py, what an outcome omits to fit in domain/contract/outcome_fitting.py.

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct, structs

from worker.domain.contract.dead_letter_encoding import fit
from worker.domain.contract.outcome_fitting import key_omitted, shorter_forms
from worker.domain.contract.raw_records import OmittedBytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.broker.options import KafkaOptions
    from worker.domain.contract.dead_letter_encoding import DeadLetter
    from worker.domain.contract.outcomes import Outcome
    from worker.domain.effects import OutgoingOutcome, Transaction

RECORD_BYTES: Final = 128
HEADER_BYTES: Final = 16
"""Upper bounds of what the record format adds to key, value and headers (lengths, the batch's header): once, and per header."""
CE_TYPE: Final = "moderation.command."
"""The CloudEvents type of an outcome, before its status."""

NO_LIMITS: Final[Mapping[str, int]] = {}

_encoder: Final = msgspec.json.Encoder()


class ProducerRecord(Struct, frozen=True):
    """
    One record for the producer.

    Attributes:
        partition: None if the key decides.
        outcome_id: The outcome id of its command.
        is_shortened: Whether more was omitted than a reader of the topic expects: an outcome's history, or a record's key.

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
        """The bytes of key, value and headers."""
        size = len(self.key or b"") + len(self.value or b"")
        for name, value in self.headers:
            size += len(name) + len(value)
        return size


def producer_records(
    transaction: Transaction, options: KafkaOptions, limits: Mapping[str, int] = NO_LIMITS
) -> list[ProducerRecord]:
    """
    Return all records of one transaction, none larger than its topic's limit: what does not fit is omitted.

    ``limits`` has the topics whose brokers accept less than ``options.record_limit``; none is below ``SMALLEST_LIMIT``.
    """
    outcome_limit = limits.get(options.outcome_topic, options.record_limit)
    letter_limit = limits.get(options.dead_letter_topic, options.record_limit)
    return [
        *(_outcome(outgoing, options, outcome_limit) for outgoing in transaction.outcomes),
        *(_dead_letter(letter, options, letter_limit) for letter in transaction.dead_letters),
    ]


def _outcome(outgoing: OutgoingOutcome, options: KafkaOptions, limit: int) -> ProducerRecord:
    key_is_whole = not isinstance(outgoing.key, OmittedBytes)
    record = _outcome_record(outgoing, outgoing.outcome, options, has_key=key_is_whole)
    if _bytes(record) <= limit:
        return record if key_is_whole else structs.replace(record, is_shortened=True)
    for form, has_key in shorter_forms(outgoing.outcome, has_key=key_is_whole and outgoing.key is not None):
        record = _outcome_record(outgoing, form, options, has_key=has_key)
        if _bytes(record) <= limit:
            break
    return structs.replace(record, is_shortened=True)


def _bytes(record: ProducerRecord) -> int:
    return record.size + RECORD_BYTES + HEADER_BYTES * len(record.headers)


def _outcome_record(
    outgoing: OutgoingOutcome, outcome: Outcome, options: KafkaOptions, *, has_key: bool
) -> ProducerRecord:
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
    return ProducerRecord(
        topic=options.outcome_topic,
        partition=outgoing.partition,
        key=outgoing.key if has_key else None,
        value=_encoder.encode(outcome),
        headers=headers,
        outcome_id=outcome.outcome_id,
    )


def _dead_letter(letter: DeadLetter, options: KafkaOptions, limit: int) -> ProducerRecord:
    fitted = fit(letter, limit)
    return ProducerRecord(
        topic=options.dead_letter_topic,
        partition=None,
        key=fitted.key,
        value=fitted.value,
        headers=fitted.headers,
        outcome_id=letter.outcome_id,
        is_shortened=any(name == "x-key-omitted" for name, _ in fitted.headers),
    )
