# Shadow: all is done but the request, and nothing of it has a part in what is sent.

from __future__ import annotations

import json
from random import Random
from time import process_time
from typing import Any, Final

import msgspec
import pytest

from tests.unit.domain.engine_harness import EngineHarness, ban, kick, live_unban, unban, update, users
from worker.domain.progress.dedupe import remembered

MAD = {"issuer": "mad"}
AMBIGUOUS: Final = 10004
BAD_USER: Final = 10019
UNLIKE: Final = (
    "status",
    "received_at",
    "finished_at",
    "queued_ms",
    "calling_ms",
    "attempts",
    "request_id",
    "request_ids",
)
"""What of an outcome and its results is of the moment, or of the answer."""
encode = msgspec.json.Encoder().encode


def mad(*who: str, **fields: Any) -> dict[str, Any]:
    return ban(*who, **MAD, **fields)


def test_a_whole_worker_in_shadow_sends_nothing_and_shows_the_batches() -> None:
    harness = EngineHarness(shadow=True, default_calls_per_second=2)
    harness.receive_together(*(ban(user, command_id=user) for user in users(45)))
    outcomes = harness.publish()
    assert len(outcomes) == 40, "as fast as it could have been sent"
    harness.wait(1.0)
    assert not harness.sent
    outcomes += harness.publish()
    assert {each.status.value for each in outcomes} == {"simulated"}
    assert [each.calls[0].members for each in outcomes] == [20] * 20 + [20] * 20 + [5] * 5
    assert all(each.attempts == 1 and each.calls[0].request_id is None for each in outcomes)
    assert not harness.published.dead_letters
    (order,) = harness.engine.snapshot(harness.now).orders
    assert order.order.by == "settings"


def test_permits_are_counted_as_if_it_were_sent() -> None:
    harness = EngineHarness(shadow=True, default_calls_per_second=1)
    harness.receive(ban("u", command_id="a"), ban("v", command_id="b"))
    assert harness.status("a") == "simulated"
    assert harness.is_open("b")
    assert harness.engine.snapshot(harness.now).endpoints[0].waiting == 1
    harness.wait(1.0)
    assert harness.status("b") == "simulated"


def test_those_that_are_sent_have_every_second_permit() -> None:
    harness = EngineHarness(default_calls_per_second=2)
    harness.order("shadow", **MAD)
    harness.receive_together(*(mad("u", group=f"m{number}") for number in range(4)))
    harness.receive_together(*(ban("u", group=f"g{number}") for number in range(4)))
    for _ in range(8):
        harness.wait(1.0)
        harness.ok()
    assert [each.status.value for each in harness.publish()].count("simulated") == 4
    assert len(harness.sent) == 4


def test_those_that_are_sent_have_every_second_permit_of_each_second_of_a_raid() -> None:
    """
    A backlog of more than a second's permits leaves evenly. Permits that are free meanwhile are not shadow's: half of them at each event
    would leave it one permit in a hundred.
    """
    harness = EngineHarness(default_calls_per_second=20)
    harness.order("shadow", **MAD)
    harness.receive_together(*(mad("u", group=f"m{number}") for number in range(400)))
    harness.receive_together(*(ban(*users(20), group=f"g{number}") for number in range(100)))
    for _ in range(300):
        harness.wait(0.01)
        while harness.out:
            harness.ok()

    assert 25 <= len(harness.sent) <= 40


def test_shadow_goes_on_at_its_pace_where_what_is_sent_cannot_leave() -> None:
    """
    A room that hangs, say: its backlog is no reason to wait for anything else. What is never settled holds up its partition.
    """
    harness = EngineHarness(default_calls_per_second=40)
    harness.order("shadow", **MAD)
    harness.receive_together(*(ban(*users(20, f"{number}-"), group="hangs") for number in range(50)))
    harness.receive_together(*(mad("u", group=f"m{number}") for number in range(100)))
    for _ in range(5):
        harness.wait(1.0)

    assert len(harness.out) < 10
    assert [each.status.value for each in harness.publish()].count("simulated") == 100


def test_each_endpoint_takes_turns_with_shadow_by_itself() -> None:
    harness = EngineHarness(default_calls_per_second=1)
    harness.order("shadow", **MAD)
    harness.receive_together(
        *(kind(kind.__name__, group=f"m{number}", **MAD) for number in range(9) for kind in (ban, unban))
    )
    harness.receive_together(
        *(kind(kind.__name__, group=f"g{number}") for number in range(9) for kind in (ban, unban))
    )
    for _ in range(8):
        harness.wait(1.0)
        while harness.out:
            harness.ok()

    sent = [request.action for request in harness.sent]
    assert sent.count("ban") == sent.count("unban") == 4


def test_it_waits_for_nothing_but_permits() -> None:
    """An endpoint that is down for what is sent must not be probed with what is not."""
    harness = EngineHarness()
    harness.order("shadow", **MAD)
    harness.receive(*(ban("u", group=f"g{number}") for number in range(5)))
    for request in list(harness.out):
        harness.timeout(request)
    harness.receive(mad("u", command_id="a"))
    assert harness.status("a") == "simulated"


def test_it_leaves_no_trace_of_its_id() -> None:
    harness = EngineHarness(default_calls_per_second=1)
    harness.order("shadow", **MAD)
    harness.receive(mad("u", command_id="x"))
    harness.receive(mad("v", command_id="y"))
    harness.resume(**MAD)
    harness.receive(mad("w", command_id="y"))
    for _ in range(3):
        harness.wait(1.0)
        harness.ok()
    assert sorted(each.status.value for each in harness.publish()) == ["simulated", "simulated", "succeeded"]
    harness.receive(mad("z", command_id="x"))
    harness.wait(1.0)
    harness.ok()
    assert [each.status.value for each in harness.publish()] == ["succeeded"]


def test_among_themselves_commands_in_shadow_repeat_each_other_as_those_that_are_sent_do() -> None:
    """It shows what would have happened: a copy, and another command with the same effect, would have needed no call."""
    harness = EngineHarness()
    harness.order("shadow", **MAD)
    harness.receive(mad("u", command_id="x"), mad("u", command_id="x"), mad("u", command_id="y"))
    first, *others = harness.publish()
    harness.receive(mad("u", command_id="x"), mad("v", command_id="x"))
    *later, reused = harness.publish()
    assert {each.status.value for each in (first, *others, *later)} == {"simulated"}
    assert [each.duplicate_of for each in (*others, *later)] == [first.outcome_id] * 3
    assert [len(each.calls) for each in (first, *others, *later)] == [1, 0, 0, 0]
    assert reused.error is not None
    assert reused.error.code == "command_id_reused"


def test_an_event_in_shadow_is_repeated_as_one_that_is_sent() -> None:
    harness = EngineHarness(shadow=True)
    harness.receive(kick("u", command_id="a"), kick("u", command_id="b"))
    assert [len(each.calls) for each in harness.publish()] == [1, 1]


def test_it_leaves_no_trace_of_its_effect() -> None:
    harness = EngineHarness()
    harness.order("shadow", **MAD)
    harness.receive(mad("u", command_id="a"), ban("u", command_id="b"))
    harness.ok()
    assert harness.status("a") == "simulated"
    assert harness.status("b") == "succeeded"
    harness.receive(ban("v", command_id="c"))
    harness.ok()
    harness.receive(mad("v", command_id="d"))
    assert harness.status("d") == "simulated"
    assert harness.outcome("d").duplicate_of == harness.outcome("c").outcome_id


def test_it_neither_supersedes_nor_coalesces_with_what_is_sent_nor_the_other_way_round() -> None:
    harness = EngineHarness(default_calls_per_second=1)
    harness.order("shadow", **MAD)
    harness.receive(ban("first"))
    harness.receive_together(
        ban("u", command_id="a"),
        unban("u", command_id="b", **MAD),
        ban("u", command_id="c"),
        unban("u", command_id="d"),
        ban("u", command_id="e", **MAD),
    )
    for _ in range(5):
        harness.ok()
        harness.wait(1.0)
    assert [harness.status(each) for each in "abcde"] == [
        "superseded",
        "simulated",
        "superseded",
        "succeeded",
        "simulated",
    ]
    assert harness.result("b", "u").superseded_by == harness.outcome("e").outcome_id


def test_a_copy_that_passed_in_shadow_does_not_hide_that_its_id_was_carried_out() -> None:
    """Done, then a copy that was waiting when the shadow came, then another copy: it must not be carried out a second time."""
    harness = EngineHarness()
    harness.receive(mad("u", command_id="x"))
    harness.receive(mad("u", command_id="x"))
    harness.order("shadow", **MAD)
    harness.resume(**MAD)
    harness.receive(mad("u", command_id="x"))
    harness.ok()
    assert len(harness.sent) == 1
    statuses = [each.status.value for each in harness.publish()]
    assert statuses == ["succeeded", "simulated", "duplicate"]
    harness.receive(mad("u", command_id="x"))
    assert [each.status.value for each in harness.publish()] == ["duplicate"]


def test_what_was_only_simulated_under_an_id_that_is_sent_is_not_done_for_it() -> None:
    """Else the id, sent again, would never be carried out for that member."""
    harness = EngineHarness(default_calls_per_second=1)
    for command_id, first in (("a", "u"), ("b", "w")):
        harness.receive(update(first, "v", command_id=command_id, role="Member"))
        harness.order("shadow", target="r")
        harness.ok()
        harness.wait(5.0)
        harness.resume(target="r")
    before = harness.outcome("b")
    assert [(each.status, each.duplicate_of) for each in before.results] == [
        ("applied", None),
        ("simulated", None),
    ]
    restored = remembered(before)
    assert restored is not None
    assert restored.done is not None
    assert "v" not in restored.done

    harness.wait(120.0)
    harness.receive(update("w", "v", command_id="b", role="Member"))
    harness.ok()

    assert [request.users for request in harness.sent][-1] == ["v"]
    assert [each.status for each in harness.publish()[-1].results] == ["duplicate", "applied"]


def test_what_waits_when_the_shadow_comes_parts_from_those_that_are_sent() -> None:
    """Another issuer's ban of the same user was to go with it: it must go."""
    harness = EngineHarness(default_calls_per_second=1)
    harness.receive(ban("first"))
    harness.receive_together(
        mad("u", command_id="a"),
        ban("u", command_id="b"),
        mad("u", command_id="c"),
        ban("u", command_id="d"),
        unban("u", command_id="e"),
    )
    harness.order("shadow", **MAD)
    for _ in range(5):
        harness.ok()
        harness.wait(1.0)
    assert [harness.status(each) for each in "abcde"] == [
        "superseded",
        "superseded",
        "superseded",
        "superseded",
        "succeeded",
    ]
    harness.order("paused", issuer="nobody")
    harness.resume(**MAD)
    harness.receive(ban("busy", group="h"))
    harness.receive_together(
        mad("u", command_id="f"), ban("u", command_id="g"), mad("u", command_id="h"), ban("u", command_id="i")
    )
    harness.order("shadow", **MAD)
    for _ in range(5):
        harness.ok()
        harness.wait(1.0)
    assert [harness.status(each) for each in "fghi"] == ["simulated", "succeeded", "simulated", "succeeded"]


def test_one_that_was_to_go_with_a_ban_in_shadow_is_sent_though_that_ban_needs_no_call() -> None:
    """For those in shadow the user was banned a moment ago."""
    harness = EngineHarness(default_calls_per_second=1)
    harness.order("shadow", **MAD)
    harness.receive(mad("u"))
    harness.resume(**MAD)
    harness.wait(1.0)
    harness.receive(ban("first"))
    harness.receive_together(mad("u", command_id="a"), ban("u", command_id="b"))
    harness.order("shadow", **MAD)
    for _ in range(3):
        harness.ok()
        harness.wait(1.0)
    assert [harness.status(each) for each in "ab"] == ["simulated", "succeeded"]


def test_one_that_was_to_go_with_a_ban_in_shadow_is_not_undone_by_an_unban_in_shadow() -> None:
    harness = EngineHarness()
    harness.order("paused", issuer="paused")
    harness.receive(kick("u", issuer="paused", room="g"))
    harness.receive(mad("u", command_id="a"), ban("u", command_id="b"))
    harness.order("shadow", **MAD)
    harness.receive(unban("u", **MAD))
    harness.resume(issuer="paused")
    harness.ok()
    harness.ok()
    assert [harness.status(each) for each in "ab"] == ["simulated", "succeeded"]


def test_one_that_was_to_go_with_a_cancelled_ban_does_not_go_with_its_heir_in_shadow() -> None:
    harness = EngineHarness(default_calls_per_second=1)
    harness.order("shadow", **MAD)
    harness.receive(mad("u"))
    harness.resume(**MAD)
    harness.wait(1.0)
    harness.receive(ban("first"))
    harness.receive_together(
        ban("u", command_id="a", issuer="worse"), mad("u", command_id="b"), ban("u", command_id="c")
    )
    harness.order("shadow", **MAD)
    harness.order("cancel", issuer="worse")
    for _ in range(3):
        harness.ok()
        harness.wait(1.0)
    assert [harness.status(each) for each in "abc"] == ["cancelled", "simulated", "succeeded"]


def test_what_was_to_go_with_one_that_is_sent_parts_from_it_when_the_shadow_comes() -> None:
    harness = EngineHarness(default_calls_per_second=1, effect_window=0.0)
    harness.receive(ban("first"))
    harness.receive_together(
        ban("u", command_id="a"),
        mad("u", command_id="b"),
        ban("u", command_id="c"),
        mad("u", command_id="d"),
    )
    harness.order("shadow", **MAD)
    for _ in range(3):
        harness.ok()
        harness.wait(1.0)
    assert [harness.status(each) for each in "abcd"] == ["succeeded", "simulated", "succeeded", "simulated"]
    assert [harness.outcome(each).calls[0].call_id.count("shadow") for each in "abcd"] == [0, 1, 0, 1]


def test_what_goes_into_shadow_on_a_call_parts_from_the_others_if_that_comes_to_nothing() -> None:
    harness = EngineHarness(default_calls_per_second=1, effect_window=0.0)
    harness.receive(ban("first"))
    harness.receive_together(ban("u", command_id="a", issuer="paused"), mad("u", command_id="b"))
    harness.ok()
    harness.wait(1.0)
    harness.order("shadow", **MAD)
    harness.order("paused", issuer="paused")
    harness.code(harness.request(), 10002)
    harness.wait(1.0)
    harness.resume(issuer="paused")
    for _ in range(3):
        harness.ok()
        harness.wait(1.0)
    assert [harness.status(each) for each in "ab"] == ["succeeded", "simulated"]


def test_one_in_shadow_that_waits_costs_no_order_more_for_those_that_have_its_effect() -> None:
    """It waits for the end of a request without an answer. Behind it are commands of a scope that is paused and resumed."""

    def seconds(number: int) -> float:
        harness = EngineHarness(supersede=False)
        harness.receive(unban("u"))
        request = harness.request()
        harness.order("shadow", **MAD)
        harness.receive_together(*(mad("u") for _ in range(number)))
        harness.receive_together(*(ban("u", issuer="b", duration=10 + each) for each in range(number)))
        harness.timeout(request)
        harness.request_permit()
        harness.code(harness.request("unban"), BAD_USER)
        began = process_time()
        harness.order("paused", issuer="b")
        return process_time() - began

    few, many = (min(seconds(number) for _ in range(3)) for number in (250, 2_000))
    assert many < 25 * few  # eight times as long, with room for a busy machine; it was sixty times


def test_what_is_on_its_way_when_the_shadow_comes_is_reported_as_what_it_was() -> None:
    harness = EngineHarness()
    harness.receive(mad("u", command_id="a"), mad("v", command_id="b"), mad("w", command_id="c"))
    harness.order("shadow", **MAD)
    first, second, third = harness.out
    harness.ok(first)
    harness.code(second, 10002)
    harness.timeout(third)
    assert [harness.status(each) for each in "abc"] == ["succeeded", "simulated", "failed"]
    assert len(harness.sent) == 3


def test_what_may_have_been_applied_is_not_simulated_although_another_in_shadow_was() -> None:
    harness = EngineHarness()
    harness.order("shadow", **MAD)
    harness.receive(mad("u", command_id="a"), ban("u", command_id="b", issuer="worse"))
    harness.timeout(harness.request())
    harness.order("shadow", issuer="worse")
    assert [harness.status(each) for each in "ab"] == ["simulated", "failed"]


def test_a_search_for_whose_fault_it_is_leaves_out_what_went_into_shadow_meanwhile() -> None:
    harness = EngineHarness()
    harness.receive_together(ban("a"), ban("b"), ban("c"), mad("d", command_id="d"), ban("e", command_id="e"))
    for _ in range(3):
        harness.code(harness.request(), AMBIGUOUS)  # the batch, a and b of it, and then a alone
    harness.code(harness.request(), AMBIGUOUS)  # the rest: now b is asked for alone
    harness.order("shadow", **MAD)

    harness.code(harness.request(), AMBIGUOUS)

    assert [harness.status(each) for each in "de"] == ["simulated", "failed"]
    assert harness.result("e", "e").inferred


def test_once_in_shadow_a_command_stays_there() -> None:
    harness = EngineHarness(default_calls_per_second=1)
    harness.order("shadow", **MAD)
    harness.receive(mad("u"), mad("v", command_id="a"))
    harness.resume(**MAD)
    harness.wait(1.0)
    assert harness.status("a") == "simulated"


def test_what_was_in_shadow_is_forgotten_with_its_target() -> None:
    harness = EngineHarness(shadow=True)
    harness.receive(*(ban("u", group=f"g{number}") for number in range(10)))
    harness.publish()
    harness.wait(2.0)
    assert all(not each.shadow_queue.targets for each in harness.engine._scheduler.endpoints.values())


def test_nothing_is_read_back_from_an_outcome_in_shadow() -> None:
    """What a new owner reads in the outcome topic must agree with what the old one remembered."""
    harness = EngineHarness(shadow=True)
    harness.receive(ban("u", command_id="x"))
    outcome = harness.outcome("x")
    assert remembered(outcome) is None
    assert harness.engine._partitions[0].find("x", harness.wall) is None


def test_one_whose_time_is_over_leaves_no_trace_either() -> None:
    """Reported as `expired`, its id would be known after a restart, and the same id for something else would be refused."""
    harness = EngineHarness(default_calls_per_second=1)
    harness.order("shadow", **MAD)
    harness.receive(mad("u"), mad("v", command_id="x", banned_until="2030-03-17T17:46:44.500Z"))
    harness.wait(3.0)
    outcome = harness.outcome("x")
    assert outcome.status.value == "simulated"
    assert "would have expired" in str(outcome.results[0].error_info)
    assert not outcome.calls
    assert remembered(outcome) is None


def _offset(outcome: dict[str, Any]) -> int:
    offset: int = outcome["source"]["offset"]
    return offset


def raid(harness: EngineHarness, seed: int) -> list[dict[str, Any]]:
    """
    A raid of which every request is answered at once. Returns its outcomes, except statuses, times, RequestIds, and how its batches
    fell: that hangs on when each user's earlier call was answered.
    """
    random = Random(seed)
    for number in range(60):
        batch = []
        for place in range(random.randint(1, 12)):
            make = random.choice([ban, unban, live_unban, kick, update])
            who = random.sample(users(8), random.randint(1, 4))
            command_id = f"c{random.choice([number, number - 1])}-{place}"
            more = {"name_card": "x"} if make is update else {}
            batch.append(make(*who, command_id=command_id, **more))
        harness.receive_together(*batch)
        while harness.out:
            harness.ok()
        harness.wait(random.choice([0.0, 0.5, 7.0, 61.0]))
    outcomes = sorted((json.loads(encode(each)) for each in harness.publish()), key=_offset)
    for outcome in outcomes:
        outcome["calls"] = bool(outcome.get("calls"))
        for each in (outcome, *outcome.get("results", ())):
            for name in UNLIKE:
                each.pop(name, None)
    return outcomes


def test_a_follower_in_shadow_parts_from_a_call_that_waits_to_be_tried_again() -> None:
    """The order came while nothing was on its way, so no later request carries it."""
    harness = EngineHarness()
    harness.receive_together(ban("u", command_id="good"), mad("u", command_id="mad"))
    harness.code(harness.request(), 10002)

    harness.order("shadow", **MAD)
    harness.request_permit()
    harness.ok()
    harness.wait(1.0)

    assert [request.users for request in harness.sent] == [["u"], ["u"]]
    assert (harness.status("good"), harness.status("mad")) == ("succeeded", "simulated")


@pytest.mark.parametrize("seed", range(5))
def test_shadow_shows_what_would_have_been(seed: int) -> None:
    """The outcomes of a raid in shadow are those of the raid: the same repeats, needless commands, rejections and calls."""
    live, shadow = EngineHarness(), EngineHarness(shadow=True)
    assert raid(shadow, seed) == raid(live, seed)
    assert live.sent
    assert not shadow.sent
