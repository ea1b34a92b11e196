# Reads the simulator's log file as evidence: one JSON line per request, and one for each effect that came later.
#
# It reads only what the checker needs; worker/testing/simulator/request_log.py documents the format.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from worker.testing.checker.contract import ACTIONS, CommandedEffect, SeenMemberInfo
from worker.testing.checker.evidence import LoggedRequest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class _LogLine(msgspec.Struct, frozen=True):
    kind: str
    seq: int
    endpoint: str
    target: str | None
    applied: tuple[str, ...]
    applied_at: float | None
    at: float = 0.0
    wall: float = 0.0
    users: tuple[str, ...] = ()
    parameters: dict[str, Any] = {}
    error_code: int | None = None
    request_id: str | None = None


def read_log(path: Path) -> tuple[LoggedRequest, ...]:
    """Return the requests in a log file, in the order in which they were read."""
    with path.open("rb") as file:
        return requests_of(file)


def requests_of(lines: Iterable[bytes]) -> tuple[LoggedRequest, ...]:
    """
    Return the requests in lines of the log, except those that change nothing of a member.

    Raises ValueError when one at an endpoint that the checker does not know has taken effect: it could not be judged.
    """
    decode = msgspec.json.Decoder(_LogLine).decode
    requests: dict[int, _LogLine] = {}
    later: dict[int, _LogLine] = {}
    for text in lines:
        line = decode(text)
        if line.endpoint in ACTIONS:
            (requests if line.kind == "request" else later)[line.seq] = line
        elif line.applied_at is not None:
            raise ValueError(
                f"the checker knows no {line.endpoint}: add it to ENDPOINTS in checker/contract.py"
            )
    return tuple(_request(requests[seq], later.get(seq)) for seq in sorted(requests))


def _request(line: _LogLine, later: _LogLine | None) -> LoggedRequest:
    done = line if line.applied_at is not None else later
    applied = {}
    if done is not None and done.applied_at is not None:
        at = done.applied_at + line.wall - line.at
        applied = dict.fromkeys(done.applied, (at, line.seq))
    return LoggedRequest(
        read_at=line.wall,
        endpoint=line.endpoint,
        target=line.target or "",
        users=line.users,
        effect=_effect(line),
        code=line.error_code,
        request_id=line.request_id,
        applied=applied,
    )


def _effect(line: _LogLine) -> CommandedEffect:
    given = line.parameters
    info = given.get("MemberInfo")
    return CommandedEffect(
        ACTIONS[line.endpoint],
        duration=given.get("Duration"),
        reason=given.get("Description", given.get("Reason")),
        info=SeenMemberInfo(info.get("NameCard"), info.get("Role"), info.get("CustomInfo"))
        if isinstance(info, dict)
        else None,
    )
