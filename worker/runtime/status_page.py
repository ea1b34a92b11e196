# The page at `/`: its text (page.html), and the two JSON answers that it asks for: what is now, and a look-up.
#
# The answers are for the page and no part of the contract. Every text of a record is cut and made printable here, and the page sets
# it as text. Nothing is computed while nobody looks, and once a second at most. Not here: HTTP (status_server.py), what was
# published (recent_outcomes.py), the quota's past (recent_quota_use.py).

from __future__ import annotations

import base64
import hashlib
import re
import time
from importlib import resources
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import msgspec

from worker.domain.contract.outcomes import Status
from worker.domain.contract.visible_text import printable, shown
from worker.domain.engine_snapshot import EngineSnapshot, EventCounts
from worker.runtime.recent_outcomes import KEPT_BYTES, SPAN_SECONDS, SPANS
from worker.runtime.recent_quota_use import SECONDS, RecentQuotaUse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from worker.domain.contract.outcomes import Result, Worker
    from worker.domain.engine_snapshot import EndpointSnapshot, OrderSnapshot
    from worker.runtime.metrics import LoopSnapshot
    from worker.runtime.recent_outcomes import (
        RecentFailure,
        RecentOutcome,
        RecentOutcomes,
        RoomKey,
        RoomStatistics,
    )
    from worker.runtime.status_server import ReadinessObstacle

FRESH_SECONDS: Final = 0.9
"""One answer serves all who ask within this time."""
LISTED: Final = 10
"""Rooms in each table, and users of an outcome that was looked up."""
FOUND: Final = 20
"""Outcomes that a look-up shows."""
ENDPOINTS: Final = 60
"""Endpoints that are drawn, the busiest first: each takes 2 kB of an answer."""
PARTITIONS: Final = 200
CONTROLS: Final = 50
SENTENCE: Final = 600
"""The most characters of a text that are shown."""

NOTHING: Final = EngineSnapshot((), (), (), 0, 0, {}, EventCounts())
"""Before the first look at the engine."""

_inline: Final = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL).findall


class StatusPage:
    """
    Serves the data of the page.

    ``observe`` passes on the current snapshot; ``obstacles`` returns why the worker is not ready.
    """

    def __init__(
        self,
        worker: Worker,
        recent: RecentOutcomes,
        *,
        obstacles: Callable[[], Sequence[ReadinessObstacle]],
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._worker = worker
        self._recent = recent
        self._obstacles = obstacles
        self._clock = clock
        self._wall = wall
        self._began = clock()
        self._quota_use = RecentQuotaUse()
        self._snapshot = NOTHING
        self._lags: Mapping[int, int] = {}
        self._status = b""
        self._made_at = float("-inf")
        self.html: Final = resources.files("worker.runtime").joinpath("page.html").read_bytes()
        self.policy: Final = _content_policy(self.html.decode())

    def observe(self, snapshot: EngineSnapshot, loop_snapshot: LoopSnapshot) -> None:
        """Take what is now, once a second."""
        self._snapshot = snapshot
        self._lags = loop_snapshot.lags
        self._quota_use.sample(snapshot)

    def status(self) -> bytes:
        """Return what is now, as JSON."""
        now = self._clock()
        if now >= self._made_at + FRESH_SECONDS:
            self._made_at = now
            self._status = msgspec.json.encode(self._now(now))
        return self._status

    def find(self, text: str) -> bytes:
        """Return the latest outcomes of a command, user, room or RequestId, as JSON."""
        found = list(islice(self._recent.find(text), FOUND + 1))
        return msgspec.json.encode(
            {
                "found": [_found(each, text) for each in found[:FOUND]],
                "more": len(found) > FOUND,
                "kept": self._recent.kept,
                "oldest_at": self._recent.oldest_at,
            }
        )

    def _now(self, now: float) -> dict[str, Any]:
        obstacles = self._obstacles()
        return {
            "worker": {"name": printable(self._worker.name), "version": self._worker.version},
            "at": self._wall(),
            "uptime_seconds": round(now - self._began),
            "ready": not obstacles,
            "obstacles": [
                {"reason": _sentence(each.reason), "remedy": _sentence(each.remedy)} for each in obstacles
            ],
            **self._engine(now),
            **self._outcomes(now),
            "failures": [_failure(each) for each in reversed(self._recent.failures)],
            "kept": {
                "outcomes": self._recent.kept,
                "oldest_at": self._recent.oldest_at,
                "bytes": self._recent.bytes,
                "most_bytes": KEPT_BYTES,
            },
        }

    def _engine(self, now: float) -> dict[str, Any]:
        snapshot = self._snapshot
        halted = {(halt.app, halt.endpoint): halt for halt in snapshot.halts}
        busiest = sorted(
            snapshot.endpoints, key=lambda each: (-each.permits_used - each.waiting, each.app, each.endpoint)
        )
        drawn = sorted(busiest[:ENDPOINTS], key=lambda each: (each.app, each.endpoint))
        partitions = sorted(snapshot.partitions, key=lambda each: -self._lags.get(each.partition, 0))
        return {
            "seconds": SECONDS,
            "endpoints": [
                self._endpoint(
                    each, halted.get((each.app, each.endpoint)) or halted.get((each.app, None)), now
                )
                for each in drawn
            ],
            "endpoints_omitted": len(busiest) - len(drawn),
            "partitions": [
                {
                    "partition": each.partition,
                    "lag": self._lags.get(each.partition),
                    "open": each.open,
                    "gap": each.gap,
                    "backlog": each.backlog,
                }
                for each in sorted(partitions[:PARTITIONS], key=lambda each: each.partition)
            ],
            "partitions_omitted": max(0, len(partitions) - PARTITIONS),
            "controls": [_order(each) for each in snapshot.orders[:CONTROLS]],
            "controls_omitted": max(0, len(snapshot.orders) - CONTROLS),
            "unpublished": snapshot.unpublished,
        }

    def _endpoint(self, state: EndpointSnapshot, halt: Any, now: float) -> dict[str, Any]:
        return {
            "app": printable(state.app),
            "endpoint": state.endpoint,
            "limited_by": state.limited_by,
            "used": state.permits_used,
            "granted": state.permits_granted,
            "owned": state.permits_owned,
            "lent": state.permits_lent,
            "borrowed": state.permits_borrowed,
            "throttle_factor": round(state.throttle_factor, 2),
            "waiting": state.waiting,
            "oldest_seconds": round(state.oldest_age, 1),
            "calls": state.calls,
            "breaker_open": state.breaker_open,
            "breaker_openings": state.breaker_openings,
            "halt": None
            if halt is None
            else {
                "reason": _sentence(halt.reason),
                "remedy": _sentence(halt.remedy),
                "code": halt.error_code,
                "seconds": round(now - halt.since),
            },
            "past": {
                "used": self._quota_use.used(state),
                "granted": self._quota_use.granted(state),
                "limited_by": self._quota_use.limited_by(state),
            },
        }

    def _outcomes(self, now: float) -> dict[str, Any]:
        recent, totals = self._recent.statuses(now), self._recent.totals
        rooms, uncounted = self._recent.rooms(now)
        slowest = sorted(rooms.items(), key=lambda item: -item[1].longest_ms)[:LISTED]
        failing = sorted(
            ((key, room) for key, room in rooms.items() if room.undone),
            key=lambda item: (-item[1].undone, -item[1].longest_ms),
        )[:LISTED]
        return {
            "outcomes": [
                {"status": status.value, "recent": recent.get(status, 0), "total": totals.get(status, 0)}
                for status in Status
            ],
            "recent_seconds": SPANS * SPAN_SECONDS,
            "slowest": _rooms(slowest),
            "failing": _rooms(failing),
            "rooms_uncounted": uncounted,
        }

    def __repr__(self) -> str:
        return f"<StatusPage of {self._recent!r}>"


def _order(active: OrderSnapshot) -> dict[str, Any]:
    return {
        "scope": _sentence(str(active.scope)),
        "state": active.order.state.value,
        "commands": active.commands,
        "by": printable(active.order.by),
        "reason": _sentence(active.order.reason),
        "at": printable(active.order.at),
        "until": printable(active.order.until),
    }


def _rooms(rooms: Iterable[tuple[RoomKey, RoomStatistics]]) -> list[dict[str, Any]]:
    return [
        {
            "app": printable(app),
            "room": printable(target),
            "commands": room.commands,
            "undone": room.undone,
            "mean_ms": round(room.total_ms / room.commands),
            "longest_ms": round(room.longest_ms),
        }
        for (app, target), room in rooms
    ]


def _failure(failure: RecentFailure) -> dict[str, Any]:
    return {
        "at": failure.finished_at,
        "status": failure.status,
        "code": printable(failure.code),
        "message": _sentence(failure.message),
        "command_id": printable(failure.command_id),
        "outcome_id": printable(failure.outcome_id),
        "action": printable(failure.action),
        "app": printable(failure.app),
        "room": printable(failure.target),
        "issuer": printable(failure.issuer),
        "request_id": printable(failure.request_id),
        "users": failure.users,
    }


def _found(recent: RecentOutcome, text: str) -> dict[str, Any]:
    # The user that was asked for comes first: a command may name a hundred.
    results = sorted(recent.results, key=lambda result: result.user_id != text)
    return {
        "at": recent.finished_at,
        "status": recent.status.value,
        "command_id": printable(recent.command_id),
        "outcome_id": printable(recent.outcome_id),
        "action": printable(recent.action),
        "app": printable(recent.app),
        "room": printable(recent.target),
        "issuer": printable(recent.issuer),
        "took_ms": round(recent.took_ms),
        "code": None if recent.error is None else printable(recent.error.code),
        "message": None if recent.error is None else _sentence(recent.error.message),
        "request_ids": [printable(each) for each in recent.request_ids[-LISTED:]],
        "results": [_result(each) for each in results[:LISTED]],
        "users": len(recent.results) or len(recent.user_ids),
    }


def _result(result: Result) -> dict[str, Any]:
    return {
        "user": printable(result.user_id),
        "status": result.status.value,
        "code": result.error_code,
        "info": _sentence(result.error_info),
        "request_id": printable(result.request_id),
    }


def _sentence(text: str | None) -> str | None:
    return None if text is None else shown(text, quoted=False, most=SENTENCE)


def _content_policy(html: str) -> str:
    """Return the Content-Security-Policy under which the page's own script and style run, and nothing else does or is loaded."""
    hashes: dict[str, list[str]] = {"script": [], "style": []}
    for kind, text in _inline(html):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        hashes[kind].append(f"'sha256-{digest}'")
    return (
        f"default-src 'none'; script-src {' '.join(hashes['script'])}; style-src {' '.join(hashes['style'])}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
