# The figures of a run: counts, how full the calls were, how long it took.
#
# Pure. Nothing is judged (evidence_check.py) or printed (the demo's summary.py) here.

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from worker.testing.checker.contract import ENDPOINTS, outcome_id
from worker.testing.checker.evidence_check import highest_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.testing.checker.evidence import Evidence


@dataclass(frozen=True, slots=True)
class EndpointFigures:
    """
    What one endpoint received.

    Attributes:
        calls: All requests that it read.
        refused: Requests answered with a code other than 0, or not at all.
        members: Members to whom something was applied.
        members_per_call: Members named per request, on average.
        highest_second: The most requests in any rolling second.

    """

    action: str
    calls: int
    refused: int
    members: int
    members_per_call: float
    highest_second: int


@dataclass(frozen=True, slots=True)
class RunFigures:
    """
    What the summary shows.

    Attributes:
        seconds: From the first command to the last outcome.
        median: The median time from a command to its outcome, in seconds.
        slow: The 95th percentile of that time.

    """

    statuses: dict[str, int]
    dead_letters: int
    endpoints: tuple[EndpointFigures, ...]
    seconds: float
    median: float
    slow: float


def figures(evidence: Evidence) -> RunFigures:
    """Count what is in the topics and in the API's log."""
    begun = {outcome_id(evidence.topic, one.partition, one.offset): one.at for one in evidence.sent}
    waits = sorted(
        one.at - begun[one.body.outcome_id] for one in evidence.outcomes if one.body.outcome_id in begun
    )
    first = min(begun.values(), default=0.0)
    last = max((one.at for one in evidence.outcomes), default=first)
    statuses = Counter(one.body.status for one in evidence.outcomes)
    return RunFigures(
        dict(statuses.most_common()),
        len(evidence.letters),
        _endpoints(evidence),
        last - first,
        percentile(waits, 0.5),
        percentile(waits, 0.95),
    )


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of the values does not exceed; 0 for no values."""
    return ordered[max(0, ceil(len(ordered) * share) - 1)] if ordered else 0.0


def _endpoints(evidence: Evidence) -> tuple[EndpointFigures, ...]:
    highest = highest_seconds(evidence.requests)
    found = []
    for action, endpoint in ENDPOINTS.items():
        requests = [one for one in evidence.requests if one.endpoint == endpoint]
        if requests:
            named = sum(len(one.users) for one in requests)
            refused = sum(one.code != 0 for one in requests)
            applied = sum(len(one.applied) for one in requests)
            found.append(
                EndpointFigures(
                    action, len(requests), refused, applied, named / len(requests), highest[endpoint]
                )
            )
    return tuple(found)
