# Open commands as the engine's stages have them, made by hand: for tests of one stage alone.
#
# No test stands here, and nothing that decides.

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from tests.unit.domain.samples import BAN, RULES, Record, command, encoded, rejected
from worker.domain.contract.codes import Verdict, judge
from worker.domain.contract.outcomes import AttemptRecord, Result
from worker.domain.effects import AttemptResult, Restored
from worker.domain.progress.dedupe import IdMemory, fingerprint_of
from worker.domain.progress.open_commands import MemberQueue, MemberTask, OpenCommand, Partition
from worker.domain.snapshots import Counts

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.domain.contract.outcomes import ResultStatus

RECEIVED_AT: Final = 100.0


def partition(**changes: Any) -> Partition:
    """
    A partition that begins at offset 0, with nothing known.
    """
    memory = IdMemory(RULES.memory_budget, Counts())
    return Partition(3, Restored(**{"position": 0, **changes}), RULES, now=RECEIVED_AT, memory=memory)


def open_work(
    fields: dict[str, Any] | bytes = BAN, *, offset: int = 42, of: Partition | None = None
) -> OpenCommand:
    """
    The open command of a record with these fields, its members in lines of their own; of bytes, a rejected one.
    """
    value = fields if isinstance(fields, bytes) else encoded(fields)
    record = Record(value, offset=offset)
    work = OpenCommand(record, of or partition(), RECEIVED_AT)
    if isinstance(fields, bytes):
        work.rejected = rejected(fields)
        return work
    work.command = made = command(fields)
    work.fingerprint = fingerprint_of(made)
    work.what = (made.action.name, made.duration, made.reason)
    work.members = [MemberTask(work, user, MemberQueue((made.app, made.target, user))) for user in made.users]
    work.left = len(work.members)
    return work


def members(*users: str, **changes: Any) -> list[MemberTask]:
    """
    The members of one command that names these users.
    """
    return list(open_work({**BAN, "user_ids": list(users), **changes}).members)


def give(work: OpenCommand, *results: ResultStatus, **details: Any) -> OpenCommand:
    """
    The members have these results.
    """
    for member, status in zip(work.members, results, strict=True):
        member.result = Result(member.user, status, **details)
    work.left = 0
    return work


def call_try(number: int = 1, **changes: Any) -> AttemptRecord:
    """
    A try as the outcome lists it.
    """
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
    """
    A request that ended like this; without a status there was no answer.
    """
    verdict = Verdict.TRANSPORT if status is None else judge(status, code)
    return AttemptResult(
        sent_at=sent_at, ended_at=ended_at, verdict=verdict, http_status=status, error_code=code
    )


def steps(do: Callable[[], object]) -> int:
    """
    How many functions are called by doing it: a cost that does not depend on the machine.
    """
    seen = 0

    def see(_frame: object, event: str, _argument: object) -> None:
        nonlocal seen
        seen += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(see)
    try:
        do()
    finally:
        sys.setprofile(before)
    return seen
