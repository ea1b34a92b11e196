# Partitions that go, and a worker that stops: what was started is finished, and the rest is left to the next owner.

from __future__ import annotations

from time import process_time

import pytest

from tests.unit.domain.engine_harness import WALL, EngineHarness, ban, kick, unban, users
from tests.unit.domain.factories import steps
from worker.domain import revocation
from worker.domain.contract.error_codes import Verdict
from worker.domain.contract.timestamps import rfc3339
from worker.domain.progress.commit_metadata import slice_free_in_ms

BAD_USER = 10019


def test_a_handover_starts_nothing_and_finishes_what_is_started() -> None:
    harness = EngineHarness(default_calls_per_second=1)
    harness.receive(ban("u", group="a", command_id="a"), ban("u", group="b", command_id="b"))
    harness.revoking(0)
    assert not harness.engine.quiet([0])
    harness.ok()
    harness.wait(5.0)

    assert [each.command_id for each in harness.publish()] == ["a"]
    assert len(harness.sent) == 1
    assert harness.engine.quiet([0])
    assert harness.engine.idle


def test_a_handover_finishes_retries_and_searches() -> None:
    harness = EngineHarness()
    harness.receive(ban(*users(4), command_id="c"))
    harness.revoking(0)
    harness.code(harness.request(), 60008)
    harness.request_permit()
    harness.code(harness.request(), BAD_USER)
    harness.code(harness.request(), BAD_USER)
    harness.ok()
    while harness.out:
        harness.ok()

    assert harness.status("c") == "partially_succeeded"


def test_a_command_of_which_a_part_is_started_is_finished_whole() -> None:
    harness = EngineHarness(default_calls_per_second=1)
    harness.receive(ban(*users(45), command_id="c"))
    harness.revoking(0)
    for _ in range(3):
        harness.ok()
        harness.wait(1.0)

    assert harness.status("c") == "succeeded"


def test_a_command_for_which_a_started_one_waits_is_finished_as_well() -> None:
    harness = EngineHarness(default_calls_per_second=1)
    harness.receive(ban("x", group="busy"))
    harness.receive(
        ban("a", command_id="waits"), unban("a", "z", command_id="c", not_after="2040-01-01T00:00:00Z")
    )
    assert harness.request("unban").users == ["z"]
    harness.revoking(0)
    for _ in range(4):
        harness.ok()
        harness.wait(1.0)

    assert harness.status("waits") == "succeeded"
    assert harness.status("c") == "succeeded"


def test_one_that_rides_on_a_call_is_started_with_it() -> None:
    harness = EngineHarness()
    harness.receive_together(kick("u", command_id="a"), kick("u", command_id="b"))
    harness.revoking(0)
    harness.ok()

    assert {each.command_id for each in harness.publish()} == {"a", "b"}


def test_a_command_behind_a_started_one_is_left_to_the_next_owner() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", command_id="a"), unban("u", command_id="b"))
    harness.revoking(0)
    harness.ok()
    transaction = harness.take()
    harness.commit(transaction)

    assert harness.out == []
    assert transaction.commits[0].offset == 1
    assert harness.engine.open_count == 0


def test_what_comes_after_the_handover_has_begun_is_not_taken_in() -> None:
    harness = EngineHarness()
    harness.revoking(0)
    harness.receive(ban("u"))
    harness.publish()

    assert harness.out == []
    assert harness.engine.idle


def test_news_of_a_partition_that_is_not_ours_changes_nothing() -> None:
    harness = EngineHarness()
    record = harness.record(ban("u"))
    harness.revoked(0)
    harness.fetch([record])
    harness.revoking(0)
    harness.revoked(0)

    assert harness.out == []
    assert harness.engine.quiet([0, 7])
    assert harness.engine.count_open([0, 7]) == 0


def test_a_stopping_worker_starts_nothing_and_goes_idle() -> None:
    harness = EngineHarness(0, 1, default_calls_per_second=2)
    for number in range(4):
        harness.receive(ban("u", group=f"g{number}"), partition=number % 2)
    harness.stop()
    assert harness.engine.open_count == 2
    harness.ok()
    harness.publish()

    assert harness.engine.idle
    assert len(harness.sent) == 2


def test_a_long_backlog_is_left_in_many_events_and_nothing_new_leaves_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Answers are heard in between: a permit comes back a second after that, and the next owner waits for the last one."""
    monkeypatch.setattr(revocation, "MEMBERS_AT_ONCE", 10)
    harness = EngineHarness(0, 1, default_calls_per_second=4)
    harness.receive(*(ban(*users(5), group=f"g{number}", command_id=f"c{number}") for number in range(10)))
    started = list(harness.out)
    assert len(started) == 4

    harness.revoking(0)
    harness.receive(kick("later"), partition=1)
    assert harness.engine.open_count == 10 + 1 - 4
    assert harness.out == started
    assert harness.engine.wake_at < harness.now
    harness.wait(0.001)

    assert harness.engine.open_count == 4 + 1
    assert harness.out[4:] == [harness.request("kick")]
    for request in started:
        harness.ok(request)
    harness.publish()
    assert harness.engine.quiet([0])


def test_a_long_backlog_of_which_all_name_one_user_is_left_in_many_events_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(revocation, "MEMBERS_AT_ONCE", 10)
    harness = EngineHarness(0, default_calls_per_second=1)
    for number in range(9):
        harness.receive(ban("raider", *users(4, f"{number}-"), group="g", command_id=f"c{number}"))
    assert len(harness.out) == 1

    harness.revoking(0)
    assert harness.engine.open_count == 7
    harness.wait(0.001)

    assert harness.engine.open_count == 1


def test_a_partition_that_goes_before_its_backlog_is_left_holds_up_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(revocation, "MEMBERS_AT_ONCE", 1)
    harness = EngineHarness(0, 1, 2, default_calls_per_second=6)
    for partition in (0, 1):
        harness.receive(
            *(ban("u", group=f"{partition}-{number}") for number in range(9)), partition=partition
        )
    started = len(harness.out)

    harness.revoking(0, 1)
    harness.revoked(0)
    harness.receive(kick("later"), partition=2)
    assert len(harness.out) == started  # there is more to be left of partition 1
    assert harness.engine.count_open([1]) > 1
    harness.revoked(1)
    harness.wait(1.1)

    assert harness.request("kick") in harness.out


def test_those_that_share_calls_are_left_in_time_however_many_a_member_has() -> None:
    """Each that rides on another's call knows that other: looked for, it would cost as much as there are of them."""

    def seconds(pairs: int) -> float:
        harness = EngineHarness(default_calls_per_second=10)
        harness.receive(kick("u", reason="first"))
        for number in range(pairs):
            reason = f"r{number % 2}"
            harness.receive_together(kick("u", reason=reason), kick("u", reason=reason))
        began = process_time()
        harness.revoked(0)
        return process_time() - began

    few, many = (min(seconds(pairs) for _ in range(3)) for pairs in (500, 4_000))
    assert many < 25 * few  # eight times as long, with room for a busy machine; it was more than fifty times


def test_a_handover_does_not_wait_for_results_that_it_can_commit_no_more() -> None:
    """They lie too far above commands that are left to the next owner, which carries them out again in any case."""
    harness = EngineHarness(0, 1, default_calls_per_second=2, max_gap=40)
    for partition in (0, 1):
        harness.receive(kick("x", room=f"first-{partition}"), partition=partition)
        waiting = [
            harness.record(kick("u", room=f"r{partition}-{number}"), partition=partition)
            for number in range(30)
        ]
        harness.fetch([*waiting, harness.record({"oops": 1}, partition=partition)])
        for _ in range(2):
            harness.engine._partitions[partition].shorten_metadata()
    for request in list(harness.out):
        harness.ok(request)
    harness.publish()
    assert harness.engine.unpublished == 2

    harness.revoking(0)
    harness.publish()
    harness.wait(1.1)
    harness.publish()

    assert harness.engine.quiet([0])
    assert harness.engine.unpublished == 1  # of the one that stays: its gap will close
    assert (
        harness.engine.snapshot(harness.now).counts.given_up == 0
    )  # a record that is no command was not begun


def test_what_was_carried_out_and_can_be_committed_no_more_counts_as_given_up() -> None:
    harness = EngineHarness(max_gap=40)
    harness.order("paused", issuer="mad")
    harness.receive(kick("u", issuer="mad"), *(kick("u", room=f"r{number}") for number in range(30)))
    for _ in range(2):
        harness.engine._partitions[0].shorten_metadata()
    while harness.out:
        harness.ok()
    harness.publish()
    stranded = harness.engine.unpublished
    assert stranded

    harness.revoking(0)

    assert harness.engine.snapshot(harness.now).counts.given_up == stranded


def test_what_is_not_started_is_not_given_up_behind_a_gate_while_it_waits_to_be_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing of it is on its way: the handover is as clean as without it."""
    monkeypatch.setattr(revocation, "MEMBERS_AT_ONCE", 1)
    harness = EngineHarness(0, 1)
    for number in range(5):
        harness.receive(ban("u", group=f"g{number}"), partition=1)
        harness.refuse_connection(harness.out[-1])
    harness.receive(*(ban("u", group=f"h{number}") for number in range(3)))

    harness.revoking(0)
    harness.wait(0.01)

    assert harness.engine.snapshot(harness.now).counts.given_up == 0
    assert slice_free_in_ms(harness.take().commits[0].metadata) is not None


def test_a_partition_that_comes_while_the_worker_stops_is_not_worked_on() -> None:
    harness = EngineHarness()
    harness.stop()
    harness.assign(1)
    harness.wait(4.0)
    harness.receive(ban("u"), partition=1)

    assert harness.out == []


def test_under_an_open_breaker_what_is_started_is_given_up_at_once() -> None:
    harness = EngineHarness()
    for number in range(5):
        harness.receive(ban("u", group=f"g{number}"))
        harness.refuse_connection(harness.out[-1])
    harness.receive(kick("v", command_id="fine"))
    harness.revoking(0)

    assert harness.engine.open_count == 1
    assert harness.engine.snapshot(harness.now).counts.given_up == 5
    harness.ok()
    assert harness.status("fine") == "succeeded"
    assert harness.engine.idle


def test_what_comes_after_one_that_is_given_up_is_left_with_it() -> None:
    """The next owner bans the user again: an unban that it believes to be done would be undone."""
    harness = EngineHarness()
    harness.receive(ban(*users(21), command_id="earlier"))
    rest, first = sorted(harness.out, key=lambda request: len(request.users))
    harness.ok(first)
    harness.receive(unban("u0", command_id="later"), *(ban("x", group=f"g{number}") for number in range(4)))
    for number in range(4):
        harness.refuse_connection(harness.request(target=f"g{number}"))
    harness.revoking(0)
    harness.refuse_connection(rest)
    assert "breaker.opened" in harness.events()
    harness.ok(harness.request("unban"))

    assert harness.publish() == []
    assert harness.engine.quiet([0])


def test_under_a_halt_what_is_started_is_given_up_at_once() -> None:
    harness = EngineHarness()
    harness.receive(ban("u"))
    harness.revoking(0)
    harness.code(harness.request(), 70013)

    assert harness.engine.idle
    assert harness.engine.snapshot(harness.now).counts.given_up == 1


def test_a_probe_that_is_out_at_a_handover_is_answered_into_the_void() -> None:
    harness = EngineHarness()
    harness.receive(ban("u"))
    harness.code(harness.request(), 70013)
    harness.wait(1.0)
    harness.revoking(0)
    assert harness.engine.idle
    harness.ok()

    assert harness.publish() == []
    assert harness.engine.halts == []


def test_an_answer_after_the_partition_has_gone_publishes_nothing() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", "v"))
    harness.revoked(0)
    harness.ok()

    assert harness.publish() == []
    assert harness.engine.snapshot(harness.now).memory["commands"] == 0


def test_what_is_on_its_way_when_its_partition_goes_and_comes_back_is_waited_for() -> None:
    """Its answer may take longer than the wait after an assignment, and what comes later must not overtake it."""
    harness = EngineHarness()
    harness.receive(ban("u"))
    harness.revoked(0)
    harness.assign(0, position=1)
    harness.wait(4.0)
    harness.receive(unban("u", command_id="later"))
    assert [each.action for each in harness.out] == ["ban"]

    harness.ok()

    assert [each.action for each in harness.out] == ["unban"]


def test_what_still_waits_for_a_connection_when_its_partition_goes_may_not_leave() -> None:
    """
    A replica that had stood still sent what had been permitted before, when it was a member again: the next owner had begun.
    """
    harness = EngineHarness(0, 1)
    harness.receive(ban("u", group="a"), partition=0)
    harness.receive(ban("u", group="b"), partition=1)
    going, staying = (harness.request(target=each).call_id for each in "ab")
    assert harness.engine.may_send(going, harness.now)
    harness.revoked(0)

    assert not harness.engine.may_send(going, harness.now)
    assert harness.engine.may_send(staying, harness.now)
    harness.ok(harness.request(target="b"))
    assert not harness.engine.may_send(staying, harness.now)


def test_a_call_of_a_partition_that_has_gone_is_not_tried_again() -> None:
    harness = EngineHarness()
    harness.receive(ban("u"))
    harness.revoked(0)
    harness.code(harness.request(), 60008)

    assert harness.waiting == []
    assert harness.out == []


def test_a_call_in_its_backoff_ends_when_all_its_commands_have_gone() -> None:
    """A replica that has no partition any more has no permit either: the call was open until it got one again."""
    harness = EngineHarness()
    harness.receive(ban("u"))
    harness.code(harness.request(), 60008)
    harness.revoked(0)

    assert harness.cancelled == [harness.sent[0].call_id]
    assert not any(endpoint.calls for endpoint in harness.engine.snapshot(harness.now).endpoints)


def test_a_call_that_waits_for_its_permit_ends_when_all_its_commands_have_gone() -> None:
    harness = EngineHarness(default_calls_per_second=1)
    harness.receive(ban("u"))
    harness.code(harness.request(), 60008)
    harness.request_permit()
    harness.revoked(0)

    assert harness.cancelled == [harness.sent[0].call_id]
    assert not any(endpoint.calls for endpoint in harness.engine.snapshot(harness.now).endpoints)


def test_what_comes_after_a_call_whose_commands_have_gone_does_not_wait_for_its_backoff() -> None:
    harness = EngineHarness()
    harness.receive(unban("u", "v"))
    harness.code(harness.request(), 60008)
    harness.revoked(0)
    harness.assign(0)
    harness.wait(3.0)
    harness.receive(ban("u", command_id="c"))

    assert harness.request("ban").users == ["u"]


def test_of_a_call_in_its_backoff_the_commands_that_are_ours_go_on() -> None:
    harness = EngineHarness(0, 1, default_calls_per_second=2, overdue_after=60.0)
    harness.receive(ban("x", group="b0"), ban("x", group="b1"))
    harness.receive(ban("u"), partition=0)
    harness.receive(ban("v", command_id="v"), partition=1)
    harness.ok()
    harness.wait(1.0)
    assert harness.request().users == ["u", "v"]
    harness.code(harness.request(), 60008)
    harness.revoked(0)
    harness.request_permit()
    harness.wait(1.0)

    assert harness.request().users == ["v"]
    harness.ok()
    assert harness.status("v") == "succeeded"


def test_a_half_of_a_search_whose_command_has_gone_ends_the_search() -> None:
    harness = EngineHarness(0, 1, default_calls_per_second=2, overdue_after=60.0)
    harness.receive(ban("x", group="b0"), ban("x", group="b1"))
    harness.receive(ban("u"), partition=0)
    harness.receive(ban("v", command_id="v"), partition=1)
    harness.ok()
    harness.wait(1.0)
    harness.code(harness.request(), BAD_USER)
    assert harness.request().users == ["u"]
    harness.code(harness.request(), 60008)
    harness.revoked(0)
    harness.wait(2.0)

    assert harness.request().users == ["v"]


def test_the_heir_of_a_call_is_the_command_that_rode_on_it() -> None:
    harness = EngineHarness(0, 1, default_calls_per_second=2)
    harness.receive(kick("x", room="b0"), kick("x", room="b1"))
    harness.receive(kick("u", command_id="leader"), partition=0)
    harness.receive(kick("u", command_id="rider"), kick("u", command_id="third"), partition=1)
    harness.revoked(0)
    harness.ok()
    harness.wait(3.0)

    assert harness.request().users == ["u"]
    harness.ok()
    assert harness.status("rider") == harness.status("third") == "succeeded"


def test_a_coalesced_task_goes_on_alone_when_the_other_has_gone() -> None:
    """The call that carried both has failed."""
    harness = EngineHarness(0, 1)
    leader, rider = harness.record(kick("u")), harness.record(kick("u", command_id="rider"), partition=1)
    harness.fetch([leader, rider])
    harness.revoked(0)
    harness.code(harness.request(), 60008)
    harness.wait(1.0)
    harness.ok()

    assert harness.status("rider") == "succeeded"


def test_one_that_rides_may_go_and_leaves_the_other() -> None:
    harness = EngineHarness(0, 1)
    leader, rider = harness.record(kick("u", command_id="leader")), harness.record(kick("u"), partition=1)
    harness.fetch([leader, rider])
    harness.revoked(1)
    harness.ok()

    assert [each.command_id for each in harness.publish()] == ["leader"]


def test_a_command_does_not_wait_for_one_of_another_partition() -> None:
    """
    One (target, user) on two partitions: the producer's keys are not as they should be. A crash puts each back to a place of its own.
    """
    harness = EngineHarness(0, 1)
    harness.receive(ban("u", "w", command_id="elsewhere"), partition=0)
    harness.receive(unban("u", command_id="behind"), partition=1)
    harness.code(harness.request("ban"), BAD_USER)
    harness.code(harness.request("ban"), BAD_USER)
    harness.ok(harness.request("unban"))
    assert harness.is_open("elsewhere")
    assert harness.status("behind") == "succeeded"
    harness.revoked(0)

    assert harness.engine.idle


@pytest.mark.parametrize("is_before", [True, False])
def test_what_was_misplaced_goes_without_breaking_the_order_of_what_was_not(is_before: bool) -> None:
    """
    The command that comes third, before or after the handover, has its result while the first one waits for the second user.
    """
    harness = EngineHarness(0, 1, supersede=False)
    harness.order("paused", issuer="slow")
    harness.receive(kick("v", issuer="slow"))
    harness.receive(kick("u", "v", command_id="first", reason="first"))
    harness.ok()
    harness.receive(kick("u", reason="second", issuer="slow"), partition=1)
    third = kick("u", command_id="third", reason="third")
    if is_before:
        harness.receive(third)
    harness.revoked(1)
    if not is_before:
        harness.receive(third)
    harness.ok()
    assert harness.publish() == []
    harness.resume(issuer="slow")
    harness.ok()
    harness.ok()

    assert [each.command_id for each in harness.publish()][1:] == ["first", "third"]


def test_what_comes_after_one_that_is_given_up_is_left_with_it_over_a_misplaced_one() -> None:
    """The first command waits for a paused one when its partition is closing. The third one has its result."""
    harness = EngineHarness(0, 1, supersede=False)
    harness.order("paused", issuer="slow")
    harness.receive(kick("v", issuer="slow"))
    harness.receive(kick("u", "v", reason="first"))
    harness.ok()
    harness.receive(kick("u", command_id="second", reason="second"), partition=1)
    harness.ok()
    harness.receive(kick("u", reason="third"))
    harness.ok()
    harness.revoking(0)

    assert [each.command_id for each in harness.publish()] == ["second"]
    assert harness.engine.count_open([0]) == 0


def test_a_transaction_under_way_when_its_partition_goes_is_forgotten_if_it_is_aborted() -> None:
    harness = EngineHarness(0, 1)
    harness.receive(ban("u", group="a", command_id="gone"), partition=0)
    harness.receive(ban("u", group="b", command_id="ours"), partition=1)
    harness.ok()
    harness.take()
    harness.revoked(0)
    harness.abort()

    assert [each.command_id for each in harness.publish()] == ["ours"]
    assert harness.engine.snapshot(harness.now).memory["results"] == 0


def test_a_transaction_under_way_when_its_partition_goes_may_be_committed() -> None:
    harness = EngineHarness(0, 1)
    harness.receive(ban("u", group="a"), partition=0)
    harness.receive(ban("u", group="b"), partition=1)
    harness.ok()
    transaction = harness.take()
    harness.revoked(0)
    harness.commit(transaction)

    assert harness.engine.idle
    assert harness.engine.snapshot(harness.now).memory["commands"] == 0


def test_a_result_that_waits_to_be_published_is_forgotten_when_its_partition_goes() -> None:
    harness = EngineHarness()
    harness.receive(ban("u"))
    harness.ok()
    assert harness.engine.unpublished == 1
    harness.revoked(0)

    assert harness.engine.unpublished == 0
    assert harness.engine.take_transaction(harness.now) is None


def test_a_paused_partition_is_not_resumed_while_it_goes() -> None:
    harness = EngineHarness(max_gap=1)
    harness.receive(ban("u"), ban("v", group="h"))
    assert harness.paused == {0}
    harness.revoking(0)
    harness.ok()
    harness.publish()

    assert harness.paused == {0}


@pytest.mark.parametrize("verdict", [Verdict.DONE, Verdict.MEMBER])
def test_a_member_behind_one_of_a_partition_that_has_gone_goes_on(verdict: Verdict) -> None:
    harness = EngineHarness(0, 1)
    harness.receive(ban("u"), partition=0)
    harness.receive(unban("u", command_id="ours"), partition=1)
    harness.revoked(0)
    harness.end(harness.request(), verdict, error_code=BAD_USER)
    harness.wait(4.0)
    harness.ok()

    assert harness.status("ours") == "succeeded"


def test_an_expiring_command_that_has_gone_is_no_business_any_more() -> None:
    harness = EngineHarness(default_calls_per_second=1)
    harness.receive(kick("x", room="busy"), kick("u", not_after=rfc3339(WALL + 8.0)))
    harness.revoked(0)
    harness.wait(10.0)

    assert harness.publish() == []


def test_a_partition_that_goes_takes_along_what_waits_for_its_commands() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", "v"), unban("u"), unban("v"))
    harness.revoked(0)
    harness.ok()
    harness.wait(4.0)

    assert harness.out == []
    assert harness.publish() == []
    assert harness.engine.open_count == 0


def test_one_that_rides_on_a_waiting_command_may_go_while_an_earlier_one_is_on_its_way() -> None:
    harness = EngineHarness(0, 1)
    harness.receive(kick("u", command_id="first"), kick("u", command_id="second"), partition=0)
    harness.receive(kick("u"), partition=1)
    harness.revoked(1)
    harness.ok()
    harness.ok()

    assert [each.command_id for each in harness.publish()] == ["first", "second"]


def test_a_handover_takes_no_longer_for_a_command_because_thousands_ride_on_one_call() -> None:
    """
    Detectors go on reporting a user while the app is halted. Were each looked for among all others, a handover of 20,000
    such commands would stop the loop for ten seconds.
    """

    def seconds(riding: int) -> float:
        harness = EngineHarness()
        harness.receive(ban("x", group="halted"))
        harness.code(harness.request(), 70009)
        harness.receive_together(*(ban("u") for _ in range(riding)))
        assert harness.engine.snapshot(harness.now).counts.coalesced == riding - 1
        began = process_time()
        harness.revoking(0)
        while harness.engine.open_count:
            harness.wait(0.001)
        return process_time() - began

    few, many = (min(seconds(riding) for _ in range(3)) for riding in (1_000, 8_000))
    assert many < 25 * few  # eight times as long, with room for a busy machine; it was fifty times


def test_those_that_ride_on_a_call_go_before_it_with_their_partition() -> None:
    """Were the oldest dropped first, each would leave the call to the next one, which goes at once as well."""

    def cost(*who: str) -> int:
        harness = EngineHarness()
        harness.order("paused", target="g")
        harness.receive_together(*(ban(user) for user in who))
        return steps(lambda: harness.revoked(0))

    assert cost(*["u"] * 100) <= cost(*users(100))
