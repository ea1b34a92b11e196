# How much of a load was carried out as it came, and how many requests went, from the topics' and the API's own stamps.
#
# Pure. A load is paced, so its rate is kept as long as no backlog of it grows: that is measured here, because a busy
# machine stands still for a moment now and then, which moves single effects out of a window and makes no backlog.

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from worker.testing.checker.evidence import LoggedRequest, ProducedCommand

MOMENT = 1.5
"""Seconds: longer than permits need to come back."""


def kept(
    sent: Iterable[ProducedCommand],
    requests: Iterable[LoggedRequest],
    which: Callable[[str, str], bool],
    begin: float,
    end: float,
) -> float:
    """
    The share of its rate that a part of the load kept between ``begin`` and ``end`` (seconds since 1970).

    ``which(action, target)`` tells that part. It is 1 less the growth of the backlog by what was produced; a backlog is
    taken at its lowest within the moment before, so that a pause of the machine is none, and batches that leave each second
    are none.
    """
    made = sorted(
        one.at
        for one in sent
        for _ in one.planned.users
        if one.planned.effect and which(one.planned.effect.action, one.planned.target)
    )
    done = sorted(
        at
        for request in requests
        if which(request.effect.action, request.target)
        for at, _ in request.applied.values()
    )
    produced = bisect_right(made, end) - bisect_right(made, begin)
    assert produced, "nothing of it was produced in that time"
    return 1.0 - (_backlog(made, done, end) - _backlog(made, done, begin)) / produced


def _backlog(made: Sequence[float], done: Sequence[float], at: float) -> int:
    return min(
        bisect_right(made, moment) - bisect_right(done, moment)
        for moment in (at, *(stamp for stamp in done if at - MOMENT <= stamp <= at))
    )
