# What the engine tells of itself: pictures for metrics, and how its parts are printed in a failure.

from __future__ import annotations

import gc
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING

from tests.unit.domain.engine_harness import ENDPOINT_OF, EngineHarness, ban, kick, users

if TYPE_CHECKING:
    from worker.domain.engine import Engine
    from worker.domain.engine_snapshot import EndpointSnapshot


def endpoint_of(harness: EngineHarness, action: str) -> EndpointSnapshot:
    """The picture of one endpoint of the default app."""
    endpoints = harness.engine.snapshot(harness.now).endpoints
    return next(each for each in endpoints if (each.app, each.endpoint) == ("main", ENDPOINT_OF[action]))


def test_there_is_a_picture_of_each_endpoint_of_each_app() -> None:
    endpoints = EngineHarness().engine.snapshot(1000.0).endpoints

    assert {(each.app, each.endpoint) for each in endpoints} == {
        (app, endpoint) for app in ("main", "second") for endpoint in ENDPOINT_OF.values()
    }


def test_an_endpoint_without_work_is_limited_by_nothing() -> None:
    endpoint = endpoint_of(EngineHarness(), "ban")

    assert (endpoint.limited_by, endpoint.waiting, endpoint.calls, endpoint.oldest_age) == (
        "nothing",
        0,
        0,
        0.0,
    )
    assert (endpoint.permits_used, endpoint.permits_granted, endpoint.permits_owned) == (0, 200, 200)
    assert endpoint.throttle_factor == 1.0


def test_a_picture_tells_what_waits_and_how_long() -> None:
    harness = EngineHarness(default_calls_per_second=1)
    harness.receive(ban("x", group="busy"))
    harness.receive(ban(*users(3)))
    harness.wait(7.0)
    endpoint = endpoint_of(harness, "ban")

    assert (endpoint.waiting, endpoint.calls, endpoint.oldest_age, endpoint.permits_used) == (3, 1, 7.0, 1)
    assert endpoint.limited_by == "quota"


def test_a_replica_without_a_partition_owns_no_permit() -> None:
    harness = EngineHarness(settled=False)
    endpoint = endpoint_of(harness, "ban")

    assert (endpoint.permits_owned, endpoint.throttle_factor) == (0, 1.0)


def test_a_picture_tells_of_each_partition() -> None:
    harness = EngineHarness(0, 1, max_gap=2)
    harness.receive(*(kick("u", room=f"r{number}") for number in range(3)), partition=1)
    harness.ok(harness.out[1])
    harness.publish()
    idle, busy = harness.engine.snapshot(harness.now).partitions

    assert (idle.partition, idle.open, idle.gap, idle.backlog, idle.known_ids) == (0, 0, 0, 0, 0)
    assert (busy.partition, busy.open, busy.gap, busy.backlog, busy.known_ids) == (1, 1, 2, 1, 1)


def test_no_part_is_printed_longer_for_more_work() -> None:
    """An assertion that fails prints what it is about: with 60,000 open commands that must still be a line."""

    def longest(commands: int) -> dict[str, int]:
        harness = EngineHarness(default_calls_per_second=1)
        harness.receive_together(*(ban(*users(20), group=f"g{number % 3}") for number in range(commands)))
        harness.timeout(harness.out[0])
        lengths: dict[str, int] = {}
        for part in parts_of(harness.engine):
            text = repr(part)
            assert "\n" not in text
            lengths[type(part).__name__] = max(len(text), lengths.get(type(part).__name__, 0))
        return lengths

    few, many = longest(3), longest(60)

    assert {"Engine", "Outbox", "EndpointState", "TargetQueue", "MemberTask"} <= set(many)
    assert {name: many[name] for name in few if many[name] > few[name] + 10} == {}


def parts_of(engine: Engine) -> list[object]:
    """What the engine is made of, as far as references lead, and prints itself."""
    seen: dict[int, object] = {}
    queue: list[object] = [engine]
    while queue:
        part = queue.pop()
        if id(part) in seen or isinstance(part, type | ModuleType | FunctionType):
            continue
        seen[id(part)] = part
        queue += gc.get_referents(part)
    return [part for part in seen.values() if prints_itself(type(part))]


def prints_itself(kind: type) -> bool:
    """Whether it is a class of the core with a printed form that a person wrote: a dataclass's own is wrapped."""
    written = vars(kind).get("__repr__")
    return (
        kind.__module__.startswith("worker.domain")
        and written is not None
        and not hasattr(written, "__wrapped__")
    )


def test_targets_without_work_are_forgotten() -> None:
    harness = EngineHarness()
    harness.receive(ban("u"))
    harness.ok()
    harness.wait(2.0)

    assert all(
        not endpoint.queue.targets and not endpoint.targets
        for endpoint in harness.engine._scheduler.endpoints.values()
    )
