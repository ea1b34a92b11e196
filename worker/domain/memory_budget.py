# The one budget of memory: what each part of it may take, and what the things that are kept cost.
#
# Numbers and the arithmetic on them. Who waits or is forgotten when a part is full is decided where the things are kept:
# admission_control.py (commands), progress/dedupe.py (ids, applied states), progress/outbox.py (results).
#
# Each constant is measured: what Python gives for one thing more, rounded up. `python -m tests.benchmarks.bench_memory` fills
# a worker by them and says what is resident.

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from worker.domain.contract.command_decoding import Command
    from worker.domain.contract.outcomes import Outcome
    from worker.domain.contract.raw_records import Record
    from worker.domain.contract.rejections import Rejected

MEBIBYTE: Final = 1024 * 1024
BUDGET_MIB: Final = 160
"""By default. What fits: some 45,000 commands of one user that wait, 55,000 applied states, 60,000 ids."""
BASE_MIB: Final = 140
"""
What the process takes besides: Python with its libraries (75), what Kafka's clients fetch and send (35), what the
page at / remembers (12), calls on their way, and what the allocator cannot give back.
"""

PARTS: Final = {"commands": 0.60, "ids": 0.12, "applied": 0.16, "results": 0.12}
"""
The share of each part: the records that wait and the open commands; the command ids that are known; the effects that need no
second call; the outcomes and dead letters that are not published.
"""

POLL_BYTES: Final = 1024 * 1024
"""The most bytes of records that one poll returns, not counting the last one."""
COMMAND_BYTES: Final = 700
"""An open command with all that knows it, without its record, texts and users."""
USER_BYTES: Final = 520
"""One user of it: its text, its task, its place in its own queue and in that of its endpoint."""
GROUP_BYTES: Final = 1_700
"""The first that waits of those that may share a call: the target, the group, and their places."""
RECORD_BYTES: Final = 160
"""A record, besides its bytes."""
HEADER_BYTES: Final = 180
"""One header, besides its bytes."""
READ_BYTES: Final = 24_000
"""The most of a record that can be in the texts of a command, by their own bounds, or be carried into a rejected outcome."""
VALUE_BYTES: Final = 50
CONTAINER_BYTES: Final = 150
"""One value, and one object or list, of ``metadata`` as it was read."""
BACKSLASH: Final = ord("\\")
"""As a number it is found in bytes much faster than as a text."""
WIDE: Final = 4
"""Bytes of a character in a text that has one beyond ASCII, at most."""
ID_BYTES: Final = 330
"""A command id and what is known of it, with texts of usual length."""
APPLIED_BYTES: Final = 480
"""The effect that was applied to one user, with texts of usual length."""
USUAL: Final = 100
"""Bytes of texts that ``ID_BYTES`` and ``APPLIED_BYTES`` hold already."""
OUTCOME_BYTES: Final = 1_100
RESULT_BYTES: Final = 160
CALL_BYTES: Final = 420
"""An outcome without its command's own texts, each of its results, and each of its calls."""


def share(part: str, budget: int) -> int:
    """Return how many bytes of the budget the part may take."""
    return int(budget * PARTS[part])


def record_bytes(record: Record) -> int:
    """Return what a record takes that nobody has read yet."""
    headers = record.headers
    size = RECORD_BYTES + len(record.value or b"") + len(record.key or b"")
    if headers:
        size += sum(HEADER_BYTES + len(name) + len(value or b"") for name, value in headers)
    return size


def command_bytes(value: bytes, decoded: Command | Rejected, users: int, *, opens_group: bool) -> int:
    """
    Return what an open command takes besides its record, of this ``value``: its texts stand in memory as they were read, too.

    ``opens_group``: nothing waits yet that may share its calls.
    """
    narrow = value.isascii() and (BACKSLASH not in value or b"\\u" not in value)
    size = COMMAND_BYTES + USER_BYTES * users + min(len(value), READ_BYTES) * (1 if narrow else WIDE)
    if opens_group:
        size += GROUP_BYTES
    if decoded.metadata is not None:
        size += VALUE_BYTES * value.count(b",") + CONTAINER_BYTES * (value.count(b"{") + value.count(b"["))
    return size


def outcome_bytes(outcome: Outcome | None) -> int:
    """Return what the outcome of an open command takes, besides that."""
    if outcome is None:
        return 0
    return OUTCOME_BYTES + RESULT_BYTES * len(outcome.results) + CALL_BYTES * len(outcome.calls)


def texts_bytes(*texts: str) -> int:
    """Return what these texts take beyond ``USUAL``."""
    together = "".join(texts)
    if together.isascii():
        size = len(together)
    else:
        size = sum(len(text) if text.isascii() else WIDE * len(text) for text in texts)
    return size - USUAL if size > USUAL else 0
