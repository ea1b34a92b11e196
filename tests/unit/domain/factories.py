# Open commands as the engine's stages have them, made by hand: for tests of one stage alone.
#
# Holds no tests, and decides nothing.

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Any, Final

from tests.unit.domain.samples import BAN, SETTINGS, Record, command, encoded, rejected
from worker.domain.contract.error_codes import Verdict, judge
from worker.domain.contract.outcomes import AttemptRecord, Result
from worker.domain.effects import AttemptResult, RestoredPartition
from worker.domain.progress.dedupe import CommandIdBudget, fingerprint_of
from worker.domain.progress.open_commands import MemberQueue, OpenCommand, RejectedRecord
from worker.domain.progress.partitions import Partition

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.domain.contract.outcomes import ResultStatus
    from worker.domain.progress.open_commands import MemberTask

RECEIVED_AT: Final = 100.0


def partition(**changes: Any) -> Partition:
    """A partition that begins at offset 0, with nothing known."""
    restored = RestoredPartition(**{"position": 0, **changes})
    return Partition(3, restored, SETTINGS, RECEIVED_AT, CommandIdBudget(1 << 30))


def open_command(
    fields: dict[str, Any] = BAN, *, offset: int = 42, of: Partition | None = None
) -> OpenCommand:
    """The open command of a record with these fields, its members in queues of their own."""
    value, spec = encoded(fields), command(fields)
    made = OpenCommand(
        Record(value, offset=offset),
        of or partition(),
        RECEIVED_AT,
        spec,
        spec.effect,
        fingerprint_of(spec),
        (spec.app, spec.action.endpoint),
        None,
        len(value),
        len(value),
    )
    made.take_places(MemberQueue((spec.app, spec.target, user)) for user in spec.users)
    return made


def rejected_record(value: bytes, *, offset: int = 42, of: Partition | None = None) -> RejectedRecord:
    """An admitted record that is no command."""
    return RejectedRecord(
        Record(value, offset=offset), of or partition(), RECEIVED_AT, rejected(value), len(value)
    )


def members(*users: str, **changes: Any) -> list[MemberTask]:
    """The members of one command that names these users."""
    return list(open_command({**BAN, "user_ids": list(users), **changes}).tasks)


def give(made: OpenCommand, *results: ResultStatus, **details: Any) -> OpenCommand:
    """The members have these results."""
    for task, status in zip(made.tasks, results, strict=True):
        task.settle(Result(task.user, status, **details))
    return made


def call_attempt(number: int = 1, **changes: Any) -> AttemptRecord:
    """An attempt as the outcome lists it."""
    fields: dict[str, Any] = {
        "call_id": f"call-{number}",
        "endpoint": "group_open_http_svc/ban_group_member",
        "sent_at": "2030-01-01T00:00:00.000Z",
        "elapsed_ms": 31.0,
        "members": 1,
        "request_id": f"request-{number}",
    }
    return AttemptRecord(**{**fields, **changes})


def ended(
    code: int | None, *, sent_at: float = 10.0, ended_at: float = 10.5, status: int | None = 200
) -> AttemptResult:
    """A request that ended like this; without a status there was no answer."""
    verdict = Verdict.TRANSPORT if status is None else judge(status, code)
    return AttemptResult(
        sent_at=sent_at, ended_at=ended_at, verdict=verdict, http_status=status, error_code=code
    )


def steps(do: Callable[[], object]) -> int:
    """How many functions are called by doing it: a cost that does not depend on the machine."""
    seen = 0

    def see(_frame: object, event: str, _argument: object) -> None:
        nonlocal seen
        seen += event in ("call", "c_call")

    before = sys.getprofile()
    gc.disable()  # else callbacks and finalizers of other tests' garbage are counted now and then
    sys.setprofile(see)
    try:
        do()
    finally:
        sys.setprofile(before)
        gc.enable()
    return seen
