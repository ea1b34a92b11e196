# What may come back from one request: one sample of everything that the table of codes tells apart, and what networks do.
#
# Nothing here knows what an engine makes of it.

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct

from worker.domain.contract.error_codes import Verdict, judge
from worker.domain.effects import AttemptResult

if TYPE_CHECKING:
    from tests.property.requests import Request


class Answer(Struct, frozen=True):
    """An answer, or what kept it away. ``verdict`` is given where it does not follow from the status and the code."""

    name: str
    code: int | None = None
    status: int | None = 200
    error: str | None = None
    end_unknown: bool = False
    retry_after: float | None = None
    verdict: Verdict | None = None

    def as_try(self, request: Request, request_id: str, ended_at: float) -> AttemptResult:
        """What the client tells of it."""
        return AttemptResult(
            sent_at=request.left_at,
            ended_at=max(ended_at, request.left_at),
            verdict=self.verdict or judge(self.status, self.code),
            http_status=self.status,
            error_code=self.code,
            error_info=self.name,
            request_id=request_id,
            error=self.error,
            end_unknown=self.end_unknown,
            retry_after=self.retry_after,
        )

    def __repr__(self) -> str:
        return self.name


DONE: Final = Answer("done", 0)
ANSWERS: Final = (
    DONE,
    Answer("busy", 10002),
    Answer("connection refused", status=None, error="connect"),
    Answer("timed out", status=None, error="timeout", end_unknown=True),
    Answer("gateway", status=502, error="http", end_unknown=True),
    Answer("no such user", 10019),
    Answer("not in the room", 100005),
    Answer("member or target", 10004),
    Answer("no permission", 10007),
    Answer("turned away", status=403, error="http"),
    Answer("refused", 10010),
    Answer("wrong key", 70009),
    Answer("too many", 60007, retry_after=2.0),
    Answer("too many of the app", 60011),
    Answer("signature expired", 70001),
    Answer("signature never accepted", 70003, verdict=Verdict.FATAL),
    Answer("locked", 70050),
    Answer("unheard of", 31337),
    Answer("unheard of, of the platform", 60999),
    Answer("not sent", status=None, error="fenced", verdict=Verdict.UNSENT),
)
REFUSALS: Final = tuple(each for each in ANSWERS if each.code in (10019, 100005, 10004, 10007, 31337, 60999))
"""Those that speak of a member or a target, or may."""
