# The simulator's log: one JSON line for each request, from which a checker can judge a whole run.
#
# RequestLine and AppliedLaterLine define the format. No UserSig, key or URL may ever get here. Lines are only collected in
# this module; the server writes them to the file, at least every FLUSH_SECONDS.

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from worker.testing.simulator.chat_state import StateChange
    from worker.testing.simulator.decision import Reaction

FLUSH_SECONDS: Final = 0.2
"""How long a line may wait in memory."""


class RequestLine(msgspec.Struct, frozen=True, tag_field="kind", tag="request"):
    """
    One request, written when its exchange ended: lines are in the order of the ends, so sort them by ``seq``.

    A request that is never answered is written when it is read. What is in flight at a stop is written at the stop.

    Attributes:
        kind: ``"request"``.
        seq: The request's number, from 1, in the order in which requests were read.
        at: When its last byte was read from the socket: seconds of the simulator's monotonic clock (on one machine the
            same clock as every process's). The quota counts these stamps.
        wall: The same moment, in seconds since 1970.
        sdkappid: 0 when the URL names no known app.
        endpoint: ``group_open_http_svc/ban_group_member``.
        target: The GroupId or RoomId, or null when the body has none.
        users: The members named, in order, without repeats.
        parameters: ``Duration``, ``Description``, ``Reason``, ``MemberInfo`` as they were sent.
        http_status: Null when no answer was sent (a fault, or the client had disconnected).
        error_code: The answer's ErrorCode; null without an answer, for a 502, and for an answer that was cut.
        request_id: The answer's RequestId; null likewise, and from the group service.
        applied: The users for whom the request had taken effect when this line was written. May be a part of ``users``
            even when error_code is not 0 (fault ``refused_applies``), and all of them when http_status is null.
        applied_at: When, on the clock of ``at``; null when not (yet). Between ``at`` and ``answered_at``.
        applies_later: True when it takes effect after this line: an AppliedLaterLine with the same ``seq`` follows then
            (unless the client never disconnects, or the simulator is stopped first).
        answered_at: When the exchange ended, on the clock of ``at``; null when it never does (a hang).
        fault: The fault that decided the end (``outage``, ``transient``, ``bad_users``, …), or null.
        ignored: Fields of the body that the endpoint's page does not document.

    """

    seq: int
    at: float
    wall: float
    sdkappid: int
    endpoint: str
    target: str | None
    users: tuple[str, ...]
    parameters: dict[str, Any]
    http_status: int | None
    error_code: int | None
    request_id: str | None
    applied: tuple[str, ...]
    applied_at: float | None
    applies_later: bool
    answered_at: float | None
    fault: str | None
    ignored: tuple[str, ...]


class AppliedLaterLine(msgspec.Struct, frozen=True, tag_field="kind", tag="applied"):
    """
    A request took effect after its own line was written.

    Attributes:
        kind: ``"applied"``.
        seq: The number of the request.
        sdkappid, endpoint, target: As in the request's line.
        applied: All users for whom it took effect.
        applied_at: When, on the clock of ``at``.

    """

    seq: int
    sdkappid: int
    endpoint: str
    target: str
    applied: tuple[str, ...]
    applied_at: float


_ENCODER: Final = msgspec.json.Encoder()


class RequestLog:
    """Collects lines: as bytes until they are written, and the last ``keep`` as values, for a test in the same process."""

    def __init__(self, keep: int, *, to_file: bool) -> None:
        self.lines: deque[RequestLine | AppliedLaterLine] = deque(maxlen=keep)
        self._to_file = to_file
        self._waiting: list[bytes] = []

    def __repr__(self) -> str:
        return f"<RequestLog {len(self._waiting)} lines to write>"

    def request(
        self, reaction: Reaction, *, sent: bool, ended_at: float | None, applied_at: float | None
    ) -> None:
        """Add the line of a request whose exchange has ended. ``sent``: whether its answer could still be sent."""
        effect = reaction.effect
        self._add(
            RequestLine(
                reaction.seq, reaction.at, reaction.wall, reaction.app, reaction.endpoint,
                reaction.parsed.target, reaction.parsed.users, reaction.parsed.parameters,
                reaction.http_status if sent else None,
                reaction.code if sent else None,
                reaction.request_id if sent else None,
                effect.users if effect and applied_at is not None else (),
                applied_at,
                effect is not None and applied_at is None,
                ended_at, reaction.fault, reaction.parsed.ignored,
            )
        )  # fmt: skip

    def applied(self, effect: StateChange, endpoint: str, at: float) -> None:
        """Add the line for a request that took effect after its own line."""
        self._add(AppliedLaterLine(effect.seq, effect.app, endpoint, effect.target, effect.users, at))

    def take(self) -> bytes:
        """Return the bytes to write, and forget them."""
        waiting, self._waiting = self._waiting, []
        return b"".join(waiting)

    def _add(self, line: RequestLine | AppliedLaterLine) -> None:
        self.lines.append(line)
        if self._to_file:
            self._waiting.append(_ENCODER.encode(line) + b"\n")
