# Metrics of the engine, moved by what moves them in a worker: the real engine is driven, and only then observed.
#
# What each is called, and that nothing is served beside the table, is in test_metrics.py.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.domain.engine_harness import ENDPOINT_OF, EngineHarness, ban, kick, users
from worker.domain.calls.replica_lending import LoanGrant, LoanRequest, decode, encode
from worker.runtime.metric_table import PREFIX
from worker.runtime.metrics import LoopSnapshot, Metrics

if TYPE_CHECKING:
    from collections.abc import Callable

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def backlog(harness: EngineHarness) -> None:
    """One call is out, and three users of another group wait for its permit."""
    harness.receive(ban("x", group="busy"), ban(*users(3)))
    harness.wait(7.0)


def bad_member(harness: EngineHarness) -> None:
    """One of four users is at fault, and the search for it ends."""
    harness.receive(kick("a", "b", "c", "bad"))
    while harness.out:
        request = harness.out[0]
        if "bad" in request.users and len(request.users) > 1:
            harness.code(request, 10019)
        else:
            harness.ok(request)


def refused_search(harness: EngineHarness) -> None:
    """A batch is refused for one of its members."""
    harness.receive(kick("a", "b", "c", "bad"))
    harness.code(harness.request(), 10019)


def outage(harness: EngineHarness) -> None:
    """Five requests in a row, each to another group, are not answered."""
    harness.receive(*(ban("u", group=f"g{number}") for number in range(5)))
    for request in list(harness.out):
        harness.timeout(request)


def halt(harness: EngineHarness) -> None:
    """One call waits for its backoff when another one hears that the key is wrong."""
    harness.receive(ban("u", group="g"), ban("u", group="h"))
    harness.code(harness.request(target="g"), 10002)
    harness.code(harness.request(target="h"), 70009)


def throttling(harness: EngineHarness) -> None:
    harness.receive(ban("u"))
    harness.code(harness.request(), 60007)


def repeat(harness: EngineHarness) -> None:
    """A command is carried out and published, and its id comes once more."""
    for _ in range(2):
        harness.receive(kick("u", command_id="c"))
        harness.ok()
        harness.publish()


def done(harness: EngineHarness) -> None:
    harness.receive(ban("u"))
    harness.ok()
    harness.publish()


def out_of_order(harness: EngineHarness) -> None:
    """The second of two commands is done before the first one."""
    harness.receive(kick("u", room="r"), kick("u", room="s"), kick("u", room="t"))
    harness.ok(harness.request(target="s"))


def left_behind(harness: EngineHarness) -> None:
    """A partition is to be handed over while the endpoint of its started commands is down."""
    outage(harness)
    harness.revoking(0)


def gone(harness: EngineHarness) -> None:
    harness.revoking(0)
    harness.revoked(0)


def unpublished(harness: EngineHarness) -> None:
    harness.receive(ban("u"))
    harness.ok()


BANS = f"group/1/{ENDPOINT_OF['ban']}"


def lends(harness: EngineHarness) -> None:
    """Another replica asks for permits."""
    harness.hear_quota_messages(encode(LoanRequest(BANS, "b", 1, 5, {})))


def borrows(harness: EngineHarness) -> None:
    """More waits than the permits allow, and another replica has some to lend."""
    backlog(harness)
    request = decode(harness.quota_messages[-1])
    assert isinstance(request, LoanRequest)
    harness.hear_quota_messages(encode(LoanGrant(BANS, "l", request.borrower, request.number, 5)))


CAUSES: list[tuple[str, dict[str, str], Callable[[EngineHarness], None]]] = [
    ("misplaced_records_total", {"reason": "no_key"}, lambda h: h.receive(ban("u"), keyed=False)),
    ("splits_total", {}, refused_search),
    ("inferred_total", {}, bad_member),
    ("recalled_total", {}, halt),
    ("given_up_total", {}, left_behind),
    ("waiting_members", {}, backlog),
    ("oldest_waiting_seconds", {}, backlog),
    ("work_seconds", {}, backlog),
    ("limited_by", {"by": "quota"}, backlog),
    ("limited_by", {"by": "breaker"}, outage),
    ("limited_by", {"by": "halt"}, halt),
    ("open_calls", {}, lambda h: h.receive(ban("u"))),
    ("permits_used", {}, lambda h: h.receive(ban("u"))),
    ("permits_granted", {}, throttling),
    ("throttle_factor", {}, throttling),
    ("permits_owned", {}, gone),
    ("permits_lent", {}, lends),
    ("permits_borrowed", {}, borrows),
    ("strange_quota_messages_total", {}, lambda h: h.hear_quota_messages(b"what?")),
    ("breaker_open", {}, outage),
    ("breaker_openings_total", {}, outage),
    ("halted", {}, halt),
    ("dedupe_hits_total", {"kind": "command_id"}, repeat),
    ("known_ids", {}, done),
    ("known_effects", {}, done),
    ("open_commands", {}, lambda h: h.receive(ban("u"))),
    ("gap_offsets", {}, out_of_order),
    ("unpublished_commands", {}, unpublished),
    ("memory_bytes", {"part": "commands"}, lambda h: h.receive(ban("u"))),
]  # fmt: skip
"""A series, and what moves it: a fresh engine shows another value."""


def series(harness: EngineHarness, metrics: Metrics) -> Series:
    metrics.observe(harness.engine.snapshot(harness.now), LoopSnapshot(0.1, ready=True))
    parse: Any = text_string_to_metric_families  # it has no types
    return {
        (sample.name.removeprefix(PREFIX), tuple(sorted(sample.labels.items()))): sample.value
        for family in parse(metrics.text().decode())
        for sample in family.samples
        if sample.name.startswith(PREFIX)
    }


def total(found: Series, name: str, labels: dict[str, str]) -> float:
    values = [
        value
        for (key, given), value in found.items()
        if key == name and labels.items() <= dict(given).items()
    ]
    return sum(values)


@pytest.mark.parametrize(
    ("name", "labels", "happens"), CAUSES, ids=lambda part: part if isinstance(part, str) else ""
)
def test_a_metric_of_the_engine_moves_with_its_cause(
    name: str, labels: dict[str, str], happens: Callable[[EngineHarness], None]
) -> None:
    limit = 1 if happens in (backlog, borrows) else 50
    harness = EngineHarness(default_calls_per_second=limit, quota_pools={"main": "group/1"})
    metrics = Metrics(["main", "second"])
    before = total(series(harness, metrics), name, labels)

    happens(harness)

    assert total(series(harness, metrics), name, labels) != before
