# Partitions that go, and a worker that stops: what is started is finished, all else is the next owner's.

from __future__ import annotations

from time import process_time

import pytest

from tests.unit.domain.engine_harness import WALL, Desk, ban, kick, unban, users
from worker.domain.contract.codes import Verdict
from worker.domain.contract.times import rfc3339


def test_a_handover_starts_nothing_and_finishes_what_is_started() -> None:
    desk = Desk(default_calls_per_second=1)
    desk.receive(ban("u", group="a", command_id="a"), ban("u", group="b", command_id="b"))
    desk.revoking(0)
    assert not desk.engine.quiet([0])
    desk.ok()
    desk.wait(5.0)

    assert [each.command_id for each in desk.publish()] == ["a"]
    assert len(desk.sent) == 1
    assert desk.engine.quiet([0])
    assert desk.engine.idle


def test_a_handover_finishes_retries_and_searches() -> None:
    desk = Desk()
    desk.receive(ban(*users(4), command_id="c"))
    desk.revoking(0)
    desk.code(desk.request(), 60008)
    desk.ask()
    desk.code(desk.request(), 10019)
    desk.code(desk.request(), 10019)
    desk.ok()
    while desk.out:
        desk.ok()

    assert desk.status("c") == "partially_succeeded"


def test_a_command_of_which_a_part_is_started_is_finished_whole() -> None:
    desk = Desk(default_calls_per_second=1)
    desk.receive(ban(*users(45), command_id="c"))
    desk.revoking(0)
    for _ in range(3):
        desk.ok()
        desk.wait(1.0)

    assert desk.status("c") == "succeeded"


def test_a_command_for_which_a_started_one_waits_is_finished_as_well() -> None:
    desk = Desk(default_calls_per_second=1)
    desk.receive(ban("x", group="busy"))
    desk.receive(
        ban("a", command_id="waits"), unban("a", "z", command_id="c", not_after="2040-01-01T00:00:00Z")
    )
    assert desk.request("unban").users == ["z"]
    desk.revoking(0)
    for _ in range(4):
        desk.ok()
        desk.wait(1.0)

    assert desk.status("waits") == "succeeded"
    assert desk.status("c") == "succeeded"


def test_one_that_rides_on_a_call_is_started_with_it() -> None:
    desk = Desk()
    desk.receive_together(kick("u", command_id="a"), kick("u", command_id="b"))
    desk.revoking(0)
    desk.ok()

    assert {each.command_id for each in desk.publish()} == {"a", "b"}


def test_a_command_behind_a_started_one_is_left_to_the_next_owner() -> None:
    desk = Desk()
    desk.receive(ban("u", command_id="a"), unban("u", command_id="b"))
    desk.revoking(0)
    desk.ok()
    transaction = desk.take()
    desk.commit(transaction)

    assert desk.out == []
    assert transaction.commits[0].offset == 1
    assert desk.engine.open == 0


def test_what_comes_after_the_handover_has_begun_is_not_taken_in() -> None:
    desk = Desk()
    desk.revoking(0)
    desk.receive(ban("u"))

    assert desk.out == []
    assert desk.engine.idle


def test_what_is_told_of_a_partition_that_is_not_ours_changes_nothing() -> None:
    desk = Desk()
    record = desk.record(ban("u"))
    desk.revoked(0)
    desk.fetch([record])
    desk.revoking(0)
    desk.revoked(0)

    assert desk.out == []
    assert desk.engine.quiet([0, 7])
    assert desk.engine.open_of([0, 7]) == 0


def test_a_stopping_worker_starts_nothing_and_goes_idle() -> None:
    desk = Desk(0, 1, default_calls_per_second=2)
    for number in range(4):
        desk.receive(ban("u", group=f"g{number}"), partition=number % 2)
    desk.stop()
    assert desk.engine.open == 2
    desk.ok()
    desk.publish()

    assert desk.engine.idle
    assert len(desk.sent) == 2


def test_a_partition_that_comes_while_the_worker_stops_is_not_worked_on() -> None:
    desk = Desk()
    desk.stop()
    desk.assign(1)
    desk.wait(4.0)
    desk.receive(ban("u"), partition=1)

    assert desk.out == []


def test_under_an_open_breaker_what_is_started_is_given_up_at_once() -> None:
    desk = Desk()
    for number in range(5):
        desk.receive(ban("u", group=f"g{number}"))
        desk.refuse_connection(desk.out[-1])
    desk.receive(kick("v", command_id="fine"))
    desk.revoking(0)

    assert desk.engine.open == 1
    assert desk.engine.snapshot(desk.now).counts.given_up == 5
    desk.ok()
    assert desk.status("fine") == "succeeded"
    assert desk.engine.idle


def test_what_comes_after_one_that_is_given_up_is_left_with_it() -> None:
    """
    The next owner bans the user again: an unban that it believes to be done would be undone.
    """
    desk = Desk()
    desk.receive(ban(*users(21), command_id="earlier"))
    rest, first = sorted(desk.out, key=lambda request: len(request.users))
    desk.ok(first)
    desk.receive(unban("u0", command_id="later"), *(ban("x", group=f"g{number}") for number in range(4)))
    for number in range(4):
        desk.refuse_connection(desk.request(target=f"g{number}"))
    desk.revoking(0)
    desk.refuse_connection(rest)
    assert "breaker.opened" in desk.events()
    desk.ok(desk.request("unban"))

    assert desk.publish() == []
    assert desk.engine.quiet([0])


def test_under_a_halt_what_is_started_is_given_up_at_once() -> None:
    desk = Desk()
    desk.receive(ban("u"))
    desk.revoking(0)
    desk.code(desk.request(), 70013)

    assert desk.engine.idle
    assert desk.engine.snapshot(desk.now).counts.given_up == 1


def test_a_probe_that_is_out_at_a_handover_is_answered_into_the_void() -> None:
    desk = Desk()
    desk.receive(ban("u"))
    desk.code(desk.request(), 70013)
    desk.wait(1.0)
    desk.revoking(0)
    assert desk.engine.idle
    desk.ok()

    assert desk.publish() == []
    assert desk.engine.halts == []


def test_an_answer_after_the_partition_has_gone_publishes_nothing() -> None:
    desk = Desk()
    desk.receive(ban("u", "v"))
    desk.revoked(0)
    desk.ok()

    assert desk.publish() == []
    assert desk.engine.snapshot(desk.now).memory["commands"] == 0


def test_a_call_of_a_partition_that_has_gone_is_not_tried_again() -> None:
    desk = Desk()
    desk.receive(ban("u"))
    desk.revoked(0)
    desk.code(desk.request(), 60008)

    assert desk.waiting == []
    assert desk.out == []


def test_a_call_in_its_backoff_ends_when_all_its_commands_have_gone() -> None:
    desk = Desk(0, 1)
    desk.receive(ban("u"))
    desk.code(desk.request(), 60008)
    desk.revoked(0)
    desk.ask()

    assert desk.out == []
    assert desk.recalled == [desk.sent[0].call_id]


def test_of_a_call_in_its_backoff_the_commands_that_are_ours_go_on() -> None:
    desk = Desk(0, 1, default_calls_per_second=2, max_wait=60.0)
    desk.receive(ban("x", group="b0"), ban("x", group="b1"))
    desk.receive(ban("u"), partition=0)
    desk.receive(ban("v", command_id="v"), partition=1)
    desk.ok()
    desk.wait(1.0)
    assert desk.request().users == ["u", "v"]
    desk.code(desk.request(), 60008)
    desk.revoked(0)
    desk.ask()
    desk.wait(1.0)

    assert desk.request().users == ["v"]
    desk.ok()
    assert desk.status("v") == "succeeded"


def test_a_half_of_a_search_whose_command_has_gone_ends_the_search() -> None:
    desk = Desk(0, 1, default_calls_per_second=2, max_wait=60.0)
    desk.receive(ban("x", group="b0"), ban("x", group="b1"))
    desk.receive(ban("u"), partition=0)
    desk.receive(ban("v", command_id="v"), partition=1)
    desk.ok()
    desk.wait(1.0)
    desk.code(desk.request(), 10019)
    assert desk.request().users == ["u"]
    desk.code(desk.request(), 60008)
    desk.revoked(0)
    desk.ask()
    desk.wait(2.0)

    assert desk.request().users == ["v"]


def test_the_heir_of_a_call_is_the_command_that_rode_on_it() -> None:
    desk = Desk(0, 1, default_calls_per_second=2)
    desk.receive(kick("x", room="b0"), kick("x", room="b1"))
    desk.receive(kick("u", command_id="leader"), partition=0)
    desk.receive(kick("u", command_id="rider"), kick("u", command_id="third"), partition=1)
    desk.revoked(0)
    desk.ok()
    desk.wait(3.0)

    assert desk.request().users == ["u"]
    desk.ok()
    assert desk.status("rider") == desk.status("third") == "succeeded"


def test_one_that_rode_on_a_call_goes_on_alone_when_the_other_has_gone_and_its_call_failed() -> None:
    desk = Desk(0, 1)
    leader, rider = desk.record(kick("u")), desk.record(kick("u", command_id="rider"), partition=1)
    desk.fetch([leader, rider])
    desk.revoked(0)
    desk.code(desk.request(), 60008)
    desk.wait(1.0)
    desk.ok()

    assert desk.status("rider") == "succeeded"


def test_one_that_rides_may_go_and_leaves_the_other() -> None:
    desk = Desk(0, 1)
    leader, rider = desk.record(kick("u", command_id="leader")), desk.record(kick("u"), partition=1)
    desk.fetch([leader, rider])
    desk.revoked(1)
    desk.ok()

    assert [each.command_id for each in desk.publish()] == ["leader"]


def test_a_command_of_another_partition_does_not_wait_for_one_that_has_gone() -> None:
    """
    One (target, user) on two partitions: the producer's keys are not as they should be, but nothing hangs for it.
    """
    desk = Desk(0, 1)
    desk.receive(ban("u", "w", command_id="gone"), partition=0)
    desk.receive(unban("v", group="h", command_id="other"), partition=1)
    desk.receive(unban("u", command_id="behind"), partition=1)
    desk.ok(desk.request("unban"))
    desk.code(desk.request("ban"), 10019)
    desk.code(desk.request("ban"), 10019)
    desk.ok(desk.request("unban"))
    assert desk.is_open("behind"), "it is done, and the earlier one is not"
    desk.revoked(0)

    assert desk.status("behind") == "succeeded"


def test_a_transaction_under_way_when_its_partition_goes_is_forgotten_if_it_is_aborted() -> None:
    desk = Desk(0, 1)
    desk.receive(ban("u", group="a", command_id="gone"), partition=0)
    desk.receive(ban("u", group="b", command_id="ours"), partition=1)
    desk.ok()
    desk.take()
    desk.revoked(0)
    desk.abort()

    assert [each.command_id for each in desk.publish()] == ["ours"]


def test_a_transaction_under_way_when_its_partition_goes_may_be_committed() -> None:
    desk = Desk(0, 1)
    desk.receive(ban("u", group="a"), partition=0)
    desk.receive(ban("u", group="b"), partition=1)
    desk.ok()
    transaction = desk.take()
    desk.revoked(0)
    desk.commit(transaction)

    assert desk.engine.idle
    assert desk.engine.snapshot(desk.now).memory["commands"] == 0


def test_a_result_that_waits_to_be_published_is_forgotten_when_its_partition_goes() -> None:
    desk = Desk()
    desk.receive(ban("u"))
    desk.ok()
    assert desk.engine.unpublished == 1
    desk.revoked(0)

    assert desk.engine.unpublished == 0
    assert desk.engine.transaction() is None


def test_a_paused_partition_is_not_resumed_while_it_goes() -> None:
    desk = Desk(max_gap=1)
    desk.receive(ban("u"), ban("v", group="h"))
    assert desk.paused == {0}
    desk.revoking(0)
    desk.ok()
    desk.publish()

    assert desk.paused == {0}


@pytest.mark.parametrize("verdict", [Verdict.DONE, Verdict.MEMBER])
def test_a_member_behind_one_of_a_partition_that_has_gone_goes_on(verdict: Verdict) -> None:
    desk = Desk(0, 1)
    desk.receive(ban("u"), partition=0)
    desk.receive(unban("u", command_id="ours"), partition=1)
    desk.revoked(0)
    desk.end(desk.request(), verdict, error_code=10019)
    desk.wait(4.0)
    desk.ok()

    assert desk.status("ours") == "succeeded"


def test_an_expiring_command_that_has_gone_is_no_business_any_more() -> None:
    desk = Desk(default_calls_per_second=1)
    desk.receive(kick("x", room="busy"), kick("u", not_after=rfc3339(WALL + 8.0)))
    desk.revoked(0)
    desk.wait(10.0)

    assert desk.publish() == []


def test_a_partition_that_goes_takes_along_what_waits_for_its_commands() -> None:
    desk = Desk()
    desk.receive(ban("u", "v"), unban("u"), unban("v"))
    desk.revoked(0)
    desk.ok()
    desk.wait(4.0)

    assert desk.out == []
    assert desk.publish() == []
    assert desk.engine.open == 0


def test_one_that_rides_on_a_waiting_command_may_go_while_an_earlier_one_is_on_its_way() -> None:
    desk = Desk(0, 1)
    desk.receive(kick("u", command_id="first"), kick("u", command_id="second"), partition=0)
    desk.receive(kick("u"), partition=1)
    desk.revoked(1)
    desk.ok()
    desk.ok()

    assert [each.command_id for each in desk.publish()] == ["first", "second"]


def test_a_handover_takes_no_longer_for_a_command_because_thousands_ride_on_one_call() -> None:
    """
    Detectors go on reporting a user while the app is halted. Were each looked for among all others, a handover of 20,000
    such commands would stop the loop for ten seconds.
    """

    def seconds(riding: int) -> float:
        desk = Desk()
        desk.receive(ban("x", group="halted"))
        desk.code(desk.request(), 70009)
        desk.receive_together(*(ban("u") for _ in range(riding)))
        assert desk.engine.snapshot(desk.now).counts.coalesced == riding - 1
        began = process_time()
        desk.revoking(0)
        ended = process_time()
        assert desk.engine.open == 0
        return ended - began

    few, many = (min(seconds(riding) for _ in range(3)) for riding in (1_000, 8_000))
    assert many < 25 * few  # eight times as long, with room for a busy machine; it was fifty times
