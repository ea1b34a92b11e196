# Orders, end to end: two replicas on a real Kafka, and a detector that has gone mad among others.
#
# TEST_FLOOD makes the flood longer (50000, say) than the default run has time for; the quota is Tencent's then.

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest
from kafka import KafkaConsumer, TopicPartition

from tests.process.environment import LATENCY, Environment, command
from worker.domain.contract.placement_check import partition_of
from worker.testing.checker.contract import BAN, KICK, LIVE_UNBAN, UNBAN, UPDATE, SeenMemberInfo
from worker.testing.checker.evidence import Interruption, ViolationKind
from worker.testing.checker.evidence_check import check
from worker.testing.demo.environment import PARTITIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Cluster
    from worker.testing.checker.evidence import PlannedRecord, PublishedOutcome

FLOOD: Final = int(os.environ.get("TEST_FLOOD", "4000"))
OTHERS: Final = FLOOD // 5
QUOTA: Final = 200 if FLOOD > 10_000 else 24
"""So that a small flood, too, lasts for longer than an operator needs."""
EFFECTIVE: Final = 2.0
"""Within this many seconds an order holds on all replicas."""
ROOMS: Final = 12
STALL: Final = 0.2
REASON: Final = ("--reason", "bans everybody", "--by", "alice")

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240 + FLOOD // 100)]


def of_issuer(issuer: str, number: int, room: str | None = None) -> PlannedRecord:
    """A ban of a user of its own, by an issuer whose name the user's begins with."""
    name = f"{issuer}-{number}"
    planned = command(BAN, room or f"group-{number % ROOMS}", name, name, duration=600)
    value = msgspec.json.decode(planned.value or b"")
    return replace(planned, value=msgspec.json.encode({**value, "issuer": issuer}))


def flood() -> list[PlannedRecord]:
    """A mad detector among others: five of its bans for one of theirs."""
    each = FLOOD // OTHERS
    return [
        planned
        for number in range(OTHERS)
        for planned in (
            *(of_issuer("mad", number * each + more) for more in range(each)),
            of_issuer("calm", number),
        )
    ]


@contextlib.contextmanager
def flooded(kafka: Cluster, **settings: Any) -> Iterator[Environment]:
    """Two replicas that are ready."""
    settings = {"limits": {"calls_per_second": QUOTA}, **settings}
    with Environment(kafka.bootstrap_servers, *LATENCY) as run:
        for replica in [run.stage.start_worker(settings) for _ in range(2)]:
            run.stage.wait_until_ready(replica)
        yield run


def order(run: Environment, name: str, *arguments: str) -> str:
    """An operator's command, which must end well; what it prints."""
    config = str(run.stage.folder / "worker-1.yaml")
    done = subprocess.run(
        [sys.executable, "-m", "worker", name, "--config", config, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def written_at(run: Environment) -> float:
    """When the newest record of the control topic was written, in seconds since 1970: the command itself ends later."""
    place = TopicPartition(run.stage.topics.control, 0)
    consumer = KafkaConsumer(bootstrap_servers=run.stage.bootstrap_servers, auto_offset_reset="earliest")
    with contextlib.closing(consumer):
        consumer.assign([place])
        end = consumer.end_offsets([place])[place]
        last = 0.0
        while consumer.position(place) < end:
            for record in consumer.poll(1000).get(place, ()):
                last = record.timestamp / 1000
    return last


def in_force(run: Environment) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in order(run, "control", "--json").splitlines()]


def of(run: Environment, issuer: str) -> list[PublishedOutcome]:
    return [one for one in run.outcomes if one.body.command_id.startswith(issuer)]


def called_after(run: Environment, moment: float, issuer: str = "mad") -> list[float]:
    """How many seconds after the moment requests with a user of the issuer came in."""
    return [
        each.read_at - moment
        for each in run.requests()
        if each.read_at > moment and any(user.startswith(issuer) for user in each.users)
    ]


def assert_clean(run: Environment) -> None:
    stall = run.control("GET", "stats")["longest_stall_seconds"]
    run.end()
    report = check(replace(run.evidence(), ordered=frozenset({"cancelled", "simulated"})))
    if stall > STALL:  # its stamps were late
        report.counts[ViolationKind.OVER_QUOTA] = 0
    assert report.clean, report.examples


def test_a_paused_detector_sends_nothing_from_two_seconds_on_and_ends_cancelled(kafka: Cluster) -> None:
    """The others go on meanwhile, a restart in between releases nothing, and after the resume no flood follows."""
    with flooded(kafka) as run:
        run.send(flood())
        run.play_until(lambda: len(of(run, "mad")) > FLOOD // 10, 60.0, "under way")
        order(run, "pause", "--issuer", "mad", *REASON)
        paused = written_at(run)

        run.play_until(lambda: len(of(run, "calm")) == OTHERS, 60.0 + FLOOD / 100, "done with the others")
        run.play(max(0.0, paused + EFFECTIVE + 1.0 - time.time()))
        assert [late for late in called_after(run, paused) if late > EFFECTIVE] == []
        sent = len(of(run, "mad"))
        assert sent < FLOOD
        assert {one.body.status for one in run.outcomes} == {"succeeded"}
        (listed,) = in_force(run)
        assert (listed["state"], listed["by"], listed["reason"]) == ("paused", "alice", "bans everybody")
        assert (listed["held"], listed["held_complete"]) == (FLOOD - sent, True)
        report = readiness(run)
        assert report["ready"] is True
        assert (report["orders"][0]["scope"], report["orders"][0]["by"]) == ("issuer mad", "alice")

        begin = time.time()
        run.stage.replicas[1].terminate()
        run.stage.replicas[1].wait(30.0)
        run.stage.wait_until_ready(run.stage.start_worker({"limits": {"calls_per_second": QUOTA}}))
        run.play(4.0)
        run.breaks.append(Interruption(begin, time.time()))
        assert [late for late in called_after(run, paused) if late > EFFECTIVE] == []
        assert len(of(run, "mad")) == sent

        order(run, "cancel", "--issuer", "mad", "--reason", "all of it was wrong", "--by", "bob")
        run.play_to_the_end()
        assert Counter(one.body.status for one in of(run, "mad")) == {
            "succeeded": sent,
            "cancelled": FLOOD - sent,
        }
        last = of(run, "mad")[-1].body
        assert last.error is not None
        assert (last.error.code, "bob" in last.error.message) == ("cancelled", True)

        order(run, "resume", "--issuer", "mad", "--reason", "fixed")
        assert in_force(run) == []
        run.play(EFFECTIVE)
        run.send([of_issuer("mad", FLOOD + number) for number in range(20)])
        run.play_to_the_end()
        assert Counter(one.body.status for one in of(run, "mad"))["succeeded"] == sent + 20
        assert_clean(run)


def test_a_guard_stops_a_detector_by_itself_on_both_replicas(kafka: Cluster) -> None:
    """One replica notices, and writes it down for the other; nothing is lost, and the others are not touched."""
    limit = FLOOD // 8
    guard = {"scope": {"issuer": "*"}, "members": limit, "per_seconds": 30, "then": "paused"}
    calm = [of_issuer("calm", number) for number in range(limit // 2)]
    with flooded(kafka, guards=[guard]) as run:
        run.send([*calm, *(of_issuer("mad", number) for number in range(FLOOD))])
        run.play_until(
            lambda: any(run.events("guard.tripped", replica) for replica in range(2)), 60.0, "tripped"
        )
        run.play_until(
            lambda: all(run.metric("moderation_worker_controls", replica) == 1 for replica in range(2)),
            30.0,
            "followed by both replicas",
        )
        tripped = written_at(run)
        run.play_until(lambda: len(of(run, "calm")) == len(calm), 60.0, "done with the others")
        run.play(max(0.0, tripped + EFFECTIVE + 1.0 - time.time()))

        assert [late for late in called_after(run, tripped) if late > EFFECTIVE] == []
        sent = len(of(run, "mad"))
        assert limit <= sent < FLOOD
        (listed,) = in_force(run)
        assert (listed["scope"], listed["state"], listed["by"]) == ({"issuer": "mad"}, "paused", "guard")
        assert listed["held"] == FLOOD - sent

        order(run, "cancel", "--issuer", "mad", *REASON)
        run.play_to_the_end()
        assert Counter(one.body.status for one in of(run, "mad"))["cancelled"] == FLOOD - sent
        assert_clean(run)


GAP: Final = 100
"""The smallest kafka.max_gap."""


def behind(issuer: str, room: str, begin: int) -> list[PlannedRecord]:
    """One ban by an issuer, and in the same room twice as many by others as may go on behind it."""
    return [
        of_issuer(issuer, begin, room),
        *(of_issuer("calm", begin + number, room) for number in range(1, 2 * GAP + 1)),
    ]


def test_what_waits_behind_a_pause_goes_on_until_the_gap_is_full_and_is_freed(kafka: Cluster) -> None:
    """Both ways out: a cancel and a resume. The worker is ready all the while, and says which partitions stand."""
    rooms = {partition_of(room.encode(), PARTITIONS): room for room in map("room-{}".format, range(50))}
    held, (first, second, free) = sorted(rooms)[:2], [rooms[place] for place in sorted(rooms)[:3]]
    with Environment(kafka.bootstrap_servers, *LATENCY) as run:
        run.stage.wait_until_ready(run.stage.start_worker({"kafka": {"max_gap": GAP}}))
        for issuer in ("mad", "wild"):
            order(run, "pause", "--issuer", issuer, *REASON)
        run.play_until(lambda: run.metric("moderation_worker_controls") == 2, 30.0, "followed")

        run.send([*behind("mad", first, 0), *behind("wild", second, 1_000), *behind("calm", free, 2_000)])
        run.play_until(
            lambda: readiness(run).get("held_up", {}).get("partitions") == held, 60.0, "held up by both"
        )
        run.play_until(lambda: len(run.outcomes) == 2 * (GAP - 1) + 2 * GAP + 1, 60.0, "at the gap")
        assert run.metric("moderation_worker_gap_offsets") == 2 * GAP
        assert readiness(run)["ready"] is True
        assert [each["held"] for each in in_force(run)] == [1, 1]

        order(run, "cancel", "--issuer", "mad", "--reason", "wrong")
        order(run, "resume", "--issuer", "wild", "--reason", "fixed")
        run.play_to_the_end()
        assert run.statuses() == {"cancelled": 1, "succeeded": 6 * GAP + 2}
        run.play_until(lambda: "held_up" not in readiness(run), 30.0, "freed, and said to be")
        assert_clean(run)


def readiness(run: Environment) -> dict[str, Any]:
    report: dict[str, Any] = msgspec.json.decode(run.ask("/readyz")[1])
    return report


def raid() -> list[PlannedRecord]:
    """Commands of each action, some to several users, and one with bad input."""
    info = SeenMemberInfo(name_card="card")
    return [
        each
        for number in range(60)
        for each in (
            command(BAN, f"g-{number % 5}", [f"u-{number}", f"v-{number}"], f"ban-{number}", duration=600),
            command(UNBAN, f"g-{number % 5}", f"w-{number}", f"unban-{number}"),
            command(LIVE_UNBAN, f"r-{number % 5}", f"x-{number}", f"live-{number}"),
            command(KICK, f"r-{number % 5}", f"y-{number}", f"kick-{number}", reason="spam"),
            command(UPDATE, f"r-{number % 5}", f"z-{number}", f"update-{number}", info=info),
        )
    ]


def test_a_worker_in_shadow_does_all_but_the_requests(kafka: Cluster) -> None:
    """What it publishes is what it would publish live, except status, times and ids of Tencent's."""
    seen = {}
    for name, settings in (("shadow", {"shadow": True}), ("live", {})):
        with Environment(kafka.bootstrap_servers, *LATENCY) as run:
            run.stage.wait_until_ready(run.stage.start_worker(settings))
            run.send(raid())
            run.play_to_the_end()
            seen[name] = {one.body.command_id: one.body for one in run.outcomes}
            if name == "shadow":
                assert run.requests() == []
                assert run.statuses() == {"simulated": len(raid())}
                report = msgspec.json.decode(run.ask("/readyz")[1])
                assert (report["orders"][0]["state"], report["orders"][0]["by"]) == ("shadow", "settings")
            assert_clean(run)

    assert seen["shadow"].keys() == seen["live"].keys()
    for command_id, live in seen["live"].items():
        assert _comparable(seen["shadow"][command_id]) == _comparable(live)


def _comparable(outcome: Any) -> tuple[object, ...]:
    return (
        outcome.action,
        outcome.group_id,
        outcome.room_id,
        outcome.metadata,
        [result.user_id for result in outcome.results],
        sorted(call.endpoint for call in outcome.calls),
        outcome.error,
    )
