# The one budget of memory: the share of each part, and the bytes of each thing that is kept.
#
# Numbers and the arithmetic on them. What waits or is forgotten when a part is full is decided where the things are kept:
# admission_control.py (commands), progress/dedupe.py (ids, applied states), progress/outbox.py (results).
#
# Each constant is measured: the bytes that Python takes for one thing more, rounded up. `python -m tests.benchmarks.bench_memory` fills a
# worker by them and reports the resident memory.

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from worker.domain.contract.command_decoding import Command
    from worker.domain.contract.outcomes import Outcome
    from worker.domain.contract.raw_records import Record
    from worker.domain.contract.rejections import Rejected

MEBIBYTE: Final = 1024 * 1024
BUDGET_MIB: Final = 160
"""By default. It holds some 45,000 waiting commands of one user, 55,000 applied states and 60,000 ids."""
BASE_MIB: Final = 140
"""
What the process takes besides: Python with its libraries (75), the records that Kafka's clients fetch and send (35), the history of
the page at / (12), requests in flight, and memory that the allocator cannot give back.
"""

PARTS: Final = {"commands": 0.60, "ids": 0.12, "applied": 0.16, "results": 0.12}
"""
The share of each part: backlogs and open commands; known command ids; applied states; outcomes and dead letters that are not published.
"""

POLL_BYTES: Final = 1024 * 1024
"""The most bytes of records that one poll returns, not counting the last record."""
COMMAND_BYTES: Final = 700
"""An open command and its places in the core, without its record, texts and users."""
USER_BYTES: Final = 520
"""One user of a command: its text, its task, and its places in its member queue and its endpoint's queue."""
GROUP_BYTES: Final = 1_700
"""A new group of tasks that may share a call: its target, the group, and their places."""
RECORD_BYTES: Final = 160
"""A record, besides its bytes."""
HEADER_BYTES: Final = 180
"""One header, besides its bytes."""
READ_BYTES: Final = 24_000
"""The most bytes of a record that can be in the texts of a command, by their own bounds, or be carried into a rejected outcome."""
VALUE_BYTES: Final = 50
CONTAINER_BYTES: Final = 150
"""One value, and one object or list, of ``metadata`` as it was read."""
BACKSLASH: Final = ord("\\")
"""As a number it is found in bytes much faster than as a text."""
WIDE: Final = 4
"""Bytes of a character in a text that has one beyond ASCII, at most."""
ID_BYTES: Final = 330
"""A known command id, with texts of usual length."""
APPLIED_BYTES: Final = 480
"""The applied state of one member, with texts of usual length."""
USUAL: Final = 100
"""Bytes of texts that ``ID_BYTES`` and ``APPLIED_BYTES`` include."""
OUTCOME_BYTES: Final = 1_100
RESULT_BYTES: Final = 160
CALL_BYTES: Final = 420
"""An outcome without its command's texts, each of its results, and each of its calls."""


def share(part: str, budget: int) -> int:
    """Return how many bytes of the budget the part may take."""
    return int(budget * PARTS[part])


def record_bytes(record: Record) -> int:
    """Return the bytes of a record that is not decoded yet."""
    headers = record.headers
    size = RECORD_BYTES + len(record.value or b"") + len(record.key or b"")
    if headers:
        size += sum(HEADER_BYTES + len(name) + len(value or b"") for name, value in headers)
    return size


def command_bytes(value: bytes, decoded: Command | Rejected, users: int, *, opens_group: bool) -> int:
    """
    Return the bytes of an open command besides its record: the texts of the record's ``value`` are in memory a second time, decoded.

    ``opens_group``: no tasks wait yet that may share its calls.
    """
    narrow = value.isascii() and (BACKSLASH not in value or b"\\u" not in value)
    size = COMMAND_BYTES + USER_BYTES * users + min(len(value), READ_BYTES) * (1 if narrow else WIDE)
    if opens_group:
        size += GROUP_BYTES
    if decoded.metadata is not None:
        size += VALUE_BYTES * value.count(b",") + CONTAINER_BYTES * (value.count(b"{") + value.count(b"["))
    return size


def outcome_bytes(outcome: Outcome | None) -> int:
    """Return the bytes of an open command's outcome, besides the command."""
    if outcome is None:
        return 0
    return OUTCOME_BYTES + RESULT_BYTES * len(outcome.results) + CALL_BYTES * len(outcome.calls)


def texts_bytes(*texts: str) -> int:
    """Return the bytes of these texts beyond ``USUAL``."""
    together = "".join(texts)
    if together.isascii():
        size = len(together)
    else:
        size = sum(len(text) if text.isascii() else WIDE * len(text) for text in texts)
    return size - USUAL if size > USUAL else 0
