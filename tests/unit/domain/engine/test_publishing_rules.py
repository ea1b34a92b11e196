# From results to transactions: what is in one, what its commits say, and what becomes of one that the broker refuses.
#
# The bitmap is proven in test_offset_tracker.py, the sizes of dead letters in test_dead_letter_encoding.py.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.domain.engine_harness import EngineHarness, Record, ban, kick, unban
from tests.unit.domain.factories import steps
from worker.domain.calls.endpoint_state import FILL_SECONDS
from worker.domain.contract.raw_records import OmittedBytes, OmittedHeaders
from worker.domain.effects import LogEvent, OffsetCommit, Transaction
from worker.domain.engine import COMMIT_POSITIONS_SECONDS, HOUSEKEEPING_SECONDS
from worker.domain.progress.outbox import (
    MAX_UNPUBLISHED,
    PER_TRANSACTION,
    PER_TRANSACTION_BYTES,
    SLOW_SECONDS,
    TRIAL_SECONDS,
)
from worker.domain.publish_results import Aborted, Fenced, MetadataRefused, Published

if TYPE_CHECKING:
    from worker.domain.publish_results import PublishResult


def hear(harness: EngineHarness, result: PublishResult) -> None:
    """The engine hears what became of its transaction, as the service's loop tells it."""
    match result:
        case Published():
            harness.engine.published(harness.now)
        case Aborted():
            harness.abort()
        case MetadataRefused():
            harness.refuse_metadata(result.partition)
        case Fenced():
            raise AssertionError(result.reason)


def test_there_is_nothing_to_publish_at_first() -> None:
    harness = EngineHarness()
    harness.receive(ban("u"))

    assert harness.engine.take_transaction(harness.now) is None


def test_an_outcome_goes_with_the_offset_and_the_key_of_its_command() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", command_id="c"))
    harness.ok()
    transaction = harness.take()

    assert [(each.partition, each.key, each.outcome.command_id) for each in transaction.outcomes] == [
        (0, b"g", "c")
    ]
    assert transaction.commits[0].offset == 1
    assert transaction.dead_letters == []


def test_one_transaction_at_a_time() -> None:
    harness = EngineHarness()
    harness.receive(ban("u"), ban("v", group="h"))
    first, second = harness.out
    harness.ok(first)
    harness.take()
    harness.ok(second)
    assert harness.engine.take_transaction(harness.now) is None
    assert harness.engine.unpublished == 2
    hear(harness, Published())

    assert len(harness.take().outcomes) == 1
    assert harness.engine.unpublished == 1


def test_a_command_that_is_done_above_an_open_one_is_committed_below_it() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", group="a"), ban("u", group="b"))
    harness.ok(harness.request(target="b"))
    transaction = harness.take()

    assert transaction.commits[0].offset == 0
    assert transaction.commits[0].metadata


def test_every_partition_of_a_result_is_committed_even_when_its_offset_does_not_move() -> None:
    harness = EngineHarness(0, 1)
    for partition in (0, 1):
        harness.receive(ban("u", group=f"open{partition}"), partition=partition)
        harness.receive(ban("u", group=f"done{partition}"), partition=partition)
    for partition in (0, 1):
        harness.ok(harness.request(target=f"done{partition}"))
    transaction = harness.take()

    assert {number: commit.offset for number, commit in transaction.commits.items()} == {0: 0, 1: 0}


def test_an_aborted_transaction_goes_again_in_the_same_order_before_later_results() -> None:
    harness = EngineHarness()
    for target in "abc":
        harness.receive(ban("u", group=target, command_id=target))
    harness.ok(harness.request(target="b"))
    harness.ok(harness.request(target="a"))
    harness.take()
    harness.ok(harness.request(target="c"))
    hear(harness, Aborted("the group is rebalancing", retry_soon=True))

    assert [each.command_id for each in harness.publish()] == ["b", "a", "c"]


def test_a_failed_command_has_its_outcome_and_its_dead_letter() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", command_id="c"))
    harness.code(harness.request(), 10010, "no such group")
    transaction = harness.take()

    (letter,) = transaction.dead_letters
    assert (letter.outcome_id, letter.error_code, letter.topic) == ("commands-0-0", "10010", "commands")
    assert [each.outcome.status.value for each in transaction.outcomes] == ["failed"]


@pytest.mark.parametrize("value", [None, b"", b"{", b"[]", b'{"action": 1}'])
def test_a_record_without_a_readable_id_has_a_dead_letter_and_no_outcome(value: bytes | None) -> None:
    harness = EngineHarness()
    harness.fetch([Record(0, 0, b"k", value)])
    transaction = harness.take()

    assert transaction.outcomes == []
    assert len(transaction.dead_letters) == 1
    assert transaction.commits[0].offset == 1
    harness.commit(transaction)
    assert harness.engine.idle


def test_bad_input_is_rejected_at_once_with_the_field() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", command_id="c", bogus=1))

    outcome = harness.outcome("c")

    assert outcome.status.value == "rejected"
    assert outcome.error is not None
    assert outcome.error.field == "bogus"
    assert outcome.attempts == 0


def test_the_trace_of_a_command_goes_with_its_outcome() -> None:
    trace = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    harness = EngineHarness()
    record = harness.record(kick("u"))
    harness.fetch([Record(0, record.offset, record.key, record.value, (("traceparent", trace),))])
    harness.ok()

    assert [each.traceparent for each in harness.take().outcomes] == [trace.decode()]


def test_a_partition_that_was_never_committed_is_committed_where_it_begins() -> None:
    harness = EngineHarness(settled=False)
    harness.revoked(0)
    harness.assign(0, 17, fresh=True)
    transaction = harness.take()

    assert (transaction.outcomes, transaction.commits[0].offset) == ([], 17)
    hear(harness, Aborted("a broker is away"))
    assert harness.take().commits[0].offset == 17
    hear(harness, Published())
    assert harness.engine.take_transaction(harness.now) is None


@pytest.mark.parametrize("under_way", [True, False])
def test_the_beginning_of_a_partition_that_has_gone_is_not_committed(under_way: bool) -> None:
    harness = EngineHarness(settled=False)
    harness.revoked(0)
    harness.assign(0, 17, fresh=True)
    if under_way:
        harness.take()
    harness.revoked(0)
    if under_way:
        hear(harness, Aborted("it is another's", retry_soon=True))

    assert harness.engine.take_transaction(harness.now) is None


def test_a_broker_that_takes_less_metadata_is_given_less() -> None:
    harness = EngineHarness(max_gap=8)
    for number in range(8):
        harness.receive(ban("u", group=f"g{number}"))
    harness.ok(harness.request(target="g7"))
    harness.take()
    hear(harness, MetadataRefused(0))

    assert harness.engine.take_transaction(harness.now) is None, (
        "it is four above the oldest open one: that must go first"
    )
    assert harness.engine.unpublished == 1
    for number in range(7):
        harness.ok(harness.request(target=f"g{number}"))
    assert len(harness.publish()) == 8
    assert harness.engine.idle


def test_what_is_far_above_the_gap_is_published_once_the_gap_has_moved() -> None:
    harness = EngineHarness(max_gap=8)
    for number in range(8):
        harness.receive(ban("u", group=f"g{number}", command_id=f"g{number}"))
    harness.ok(harness.request(target="g5"))
    harness.ok(harness.request(target="g7"))
    harness.take()
    hear(harness, MetadataRefused(0))
    harness.ok(harness.request(target="g0"))
    harness.ok(harness.request(target="g1"))

    assert [each.command_id for each in harness.publish()] == ["g0", "g1", "g5"]
    harness.ok(harness.request(target="g2"))
    harness.ok(harness.request(target="g3"))
    assert [each.command_id for each in harness.publish()] == ["g2", "g3", "g7"]


def test_what_is_far_above_the_gap_is_not_overtaken_by_a_later_command_of_its_member() -> None:
    """A crash between the two transactions would do the earlier one again, after the later one."""
    harness = EngineHarness(max_gap=8_000)
    harness.receive(ban("u", group="oldest", command_id="oldest"))
    far = [ban("u", command_id="earlier"), unban("u", command_id="later")]
    far += [ban("v", group="many") for _ in range(PER_TRANSACTION)]
    harness.fetch(
        [Record(0, 5_000 + place, b"k", harness.record(command).value) for place, command in enumerate(far)]
    )
    harness.wait(FILL_SECONDS)
    harness.ok(harness.request(target="g"))
    harness.take()
    hear(harness, MetadataRefused(0))
    harness.ok(harness.request(target="oldest"))
    transaction = harness.take()
    harness.ok()
    harness.commit(transaction)

    assert [each.outcome.command_id for each in harness.take().outcomes][:2] == ["earlier", "later"]


def test_what_is_near_the_gap_again_is_not_overtaken_by_what_becomes_near_next() -> None:
    """Transactions that are small, on a slow link, left the earlier command behind; a crash would have done it after the later one."""
    harness = EngineHarness(max_gap=32)
    commands = {
        0: kick("v", room="r1", command_id="gap"),
        8: kick("v", room="r2", command_id="near"),
        12: kick("v", room="r3", command_id="near too"),
        15: ban("u", command_id="earlier"),
        16: unban("u", command_id="later"),
        17: kick("v", room="r4", command_id="last"),
    }
    for offset, command in commands.items():
        harness.fetch([Record(0, offset, b"k", harness.record(command).value)])
        harness.ok()
    for _ in range(2):
        harness.take()
        harness.refuse_metadata(0)
    for _ in range(2):
        harness.take()
        harness.abort(took_too_long=True)

    published = [each.command_id for each in harness.publish()]

    assert published == ["gap", "near", "near too", "earlier", "later", "last"]


def test_refused_metadata_of_a_partition_that_has_gone_only_aborts() -> None:
    harness = EngineHarness(0, 1)
    harness.receive(ban("u", command_id="c"), partition=1)
    harness.ok()
    harness.take()
    harness.revoked(0)
    hear(harness, MetadataRefused(0))

    assert [each.command_id for each in harness.publish()] == ["c"]


def test_a_transaction_has_at_most_so_many_commands() -> None:
    harness = EngineHarness()
    harness.fetch([Record(0, offset, b"k", None) for offset in range(PER_TRANSACTION + 1)])

    assert len(harness.take().dead_letters) == PER_TRANSACTION
    harness.engine.published(harness.now)
    assert len(harness.take().dead_letters) == 1


def test_a_transaction_holds_only_so_many_bytes() -> None:
    """A thousand dead letters of a megabyte would never pass within the transaction's timeout."""
    harness = EngineHarness()
    harness.fetch([Record(0, offset, b"k", b"{" * 1_000_000) for offset in range(20)])

    sizes = []
    while (transaction := harness.engine.take_transaction(harness.now)) is not None:
        sizes.append(len(transaction.dead_letters))
        harness.commit(transaction)

    assert sum(sizes) == 20
    assert max(sizes) * 1_000_000 <= PER_TRANSACTION_BYTES + 1_000_000


def test_after_a_transaction_that_took_too_long_the_next_is_half_as_large() -> None:
    """The same size again would take too long again, for ever."""
    harness = EngineHarness()
    harness.fetch([Record(0, offset, b"k", None) for offset in range(12 * PER_TRANSACTION)])

    sizes = [len(harness.take().dead_letters)]
    for _ in range(2):
        harness.abort(took_too_long=True)
        sizes.append(len(harness.take().dead_letters))
    harness.engine.published(harness.now, SLOW_SECONDS + 1)
    sizes.append(len(harness.take().dead_letters))
    while sizes[-1] < PER_TRANSACTION:
        harness.engine.published(harness.now, 0.1)
        sizes.append(len(harness.take().dead_letters))

    assert sizes[:4] == [PER_TRANSACTION, PER_TRANSACTION // 2, PER_TRANSACTION // 4, PER_TRANSACTION // 8]
    assert sizes[4] == PER_TRANSACTION // 8 * 5 // 4


def test_transactions_that_were_not_full_make_the_next_no_larger() -> None:
    """They say nothing of how long a larger one takes."""
    harness = EngineHarness()
    harness.receive(*({"oops": 1} for _ in range(8)))
    harness.take()
    harness.abort(took_too_long=True)
    harness.publish()
    for _ in range(9):
        harness.receive({"oops": 1})
        harness.publish()
    harness.receive(*({"oops": 1} for _ in range(8)))

    assert len(harness.take().dead_letters) < 8


def test_however_often_it_takes_too_long_one_command_goes() -> None:
    harness = EngineHarness()
    harness.fetch([Record(0, offset, b"k", None) for offset in range(5)])

    for _ in range(5):
        last = harness.take()
        harness.abort(took_too_long=True)

    assert len(last.dead_letters) == 1


def refuse_letters(harness: EngineHarness) -> None:
    """The next transaction is refused for its dead letters alone."""
    assert harness.take().dead_letters
    harness.abort(dead_letters_refused=True)


def test_without_a_dead_letter_topic_outcomes_that_need_none_go_on() -> None:
    """One bad record would stop the outcomes of everybody."""
    harness = EngineHarness()
    harness.receive(ban("administrator", command_id="bad"), ban("u", command_id="good"))
    harness.ok()
    refuse_letters(harness)

    published = [each.command_id for each in harness.publish()]

    assert published == ["good"]
    assert harness.engine.take_transaction(harness.now) is None
    assert harness.engine.unpublished == 1


def test_what_waits_for_the_dead_letter_topic_is_tried_alone_and_then_all_goes() -> None:
    harness = EngineHarness()
    harness.receive(*(ban("administrator", command_id=f"bad-{number}") for number in range(3)))
    refuse_letters(harness)
    harness.publish()

    harness.wait(TRIAL_SECONDS)
    first = harness.take()
    harness.abort(dead_letters_refused=True)
    harness.publish()
    harness.wait(TRIAL_SECONDS)
    again = [each.command_id for each in harness.publish()]

    assert [each.outcome.command_id for each in first.outcomes] == ["bad-0"]
    assert again == ["bad-0", "bad-1", "bad-2"]


def test_a_later_command_of_the_same_member_waits_with_it() -> None:
    """Finished before the earlier one, it would be undone after a crash."""
    harness = EngineHarness()
    harness.receive(ban("u", command_id="failed"))
    harness.code(harness.request(), 10010, "no such group")
    harness.receive(unban("u", "w", command_id="later"), ban("v", group="h", command_id="other"))
    harness.ok()
    refuse_letters(harness)

    published = [each.command_id for each in harness.publish()]
    harness.wait(TRIAL_SECONDS)

    assert published == ["other"]
    assert [each.command_id for each in harness.publish()] == ["failed", "later"]


def test_what_goes_again_is_not_put_behind_what_is_held_back_meanwhile() -> None:
    """Finished after the later commands of its member, it would be done again after a crash."""
    harness = EngineHarness(supersede=False)
    harness.receive(ban("administrator", command_id="bad"))
    refuse_letters(harness)
    assert not harness.publish()
    harness.receive(ban("u", command_id="first"))
    harness.ok()
    harness.receive(ban("u", duration=7, command_id="failed"))
    harness.code(harness.request(), 10010)
    harness.receive(unban("u", command_id="last"))
    harness.ok()
    assert [each.outcome.command_id for each in harness.take().outcomes] == ["first"]
    harness.abort()

    assert [each.command_id for each in harness.publish()] == ["first"]
    harness.wait(TRIAL_SECONDS)
    assert [each.command_id for each in harness.publish()] == ["bad", "failed", "last"]


def test_a_dead_letter_too_far_above_the_gap_is_not_the_one_that_is_tried() -> None:
    """The broker would refuse each trial for its metadata, and the gap, which waits behind it, would never close."""
    harness = EngineHarness(max_gap=50)
    harness.receive(kick("u", command_id="gap"))
    harness.fetch([[harness.record({"oops": 1, "command_id": "far"}) for _ in range(40)][-1]])
    refuse_letters(harness)
    assert not harness.publish()
    harness.code(harness.request(), 10010)
    assert not harness.publish()
    for _ in range(2):
        harness.engine._partitions[0].shorten_metadata()

    harness.wait(TRIAL_SECONDS)

    assert [each.command_id for each in harness.publish()] == ["gap", "far"]


def test_what_was_far_above_the_gap_goes_after_an_earlier_dead_letter_of_its_member() -> None:
    """When dead letters were taken again it came first, and a crash would have done the earlier command again, after it."""
    harness = EngineHarness(max_gap=8, supersede=False)
    harness.order("cancel", issuer="mad")
    harness.receive(ban("x", issuer="mad", command_id="gap"), kick("y"), kick("z"))
    harness.receive(ban("u", issuer="mad", command_id="earlier"), kick("w"), kick("v"))
    harness.receive(unban("u", command_id="later"))
    refuse_letters(harness)
    harness.ok()
    harness.take()
    harness.refuse_metadata(0)
    harness.publish()
    harness.wait(TRIAL_SECONDS)
    trial = harness.take()
    assert [each.outcome.command_id for each in trial.outcomes] == ["gap"]
    harness.commit(trial)
    refuse_letters(harness)

    published = [each.command_id for each in harness.publish()]

    assert "later" not in published
    harness.wait(TRIAL_SECONDS)
    assert [each.command_id for each in harness.publish()] == ["earlier", "later"]


def test_of_those_far_above_the_gap_the_earlier_command_of_a_member_goes_first() -> None:
    """It may have become far later, as the broker took less and less."""
    harness = EngineHarness(max_gap=16, supersede=False)
    harness.receive(kick("v", command_id="gap"), kick("w", room="other", command_id="other"))
    commands = ban("u", command_id="earlier"), unban("u", command_id="later")
    harness.fetch(
        [Record(0, 7 + place, b"g", harness.record(each).value) for place, each in enumerate(commands)]
    )
    harness.code(harness.request("ban"), 10010)
    refuse_letters(harness)
    harness.engine._partitions[0].shorten_metadata()
    harness.ok(harness.request("unban"))
    assert not harness.publish(), "it is eight above the oldest open one"
    harness.ok(harness.request(target="other"))
    harness.take()
    harness.refuse_metadata(0)
    assert [each.command_id for each in harness.publish()] == ["other"]
    harness.ok()

    assert [each.command_id for each in harness.publish()] == ["gap"]
    harness.wait(TRIAL_SECONDS)
    assert [each.command_id for each in harness.publish()] == ["earlier", "later"]


def test_dead_letters_that_are_refused_hold_up_no_other_partition_however_many() -> None:
    """What one producer writes into one partition while that topic is away must not stop all the others."""
    harness = EngineHarness(0, 1, memory_budget=2 * 1024 * 1024)
    harness.receive({"oops": 1})
    refuse_letters(harness)
    for _ in range(30):
        harness.fetch([harness.record({"oops": 1, "command_id": f"x{number}"}) for number in range(20)])
        while (transaction := harness.engine.take_transaction(harness.now)) is not None:
            if transaction.dead_letters:
                harness.abort(dead_letters_refused=True)
            else:
                harness.commit(transaction)
    assert harness.paused == {0}

    harness.receive(ban("u", command_id="other"), partition=1)
    harness.ok()
    assert [each.command_id for each in harness.publish()] == ["other"]

    harness.wait(TRIAL_SECONDS)
    harness.publish()
    assert harness.paused == set()
    assert harness.engine.unpublished == 0


def test_once_refused_dead_letters_are_put_aside_the_backlogs_of_other_partitions_go_on() -> None:
    """They waited until that topic was back: nothing else would be committed, and only a commit had them admitted."""
    harness = EngineHarness(0, 1)
    harness.fetch([Record(0, offset, b"k", None) for offset in range(MAX_UNPUBLISHED)])
    harness.receive(ban("u", command_id="other"), partition=1)
    refuse_letters(harness)
    assert harness.engine.take_transaction(harness.now) is None
    assert (harness.out, harness.paused) == ([], {0, 1})

    harness.wait(HOUSEKEEPING_SECONDS)
    harness.ok()

    assert [each.command_id for each in harness.publish()] == ["other"]
    assert harness.paused == set()


def test_a_transaction_costs_the_same_however_much_is_held_back() -> None:
    """With 9,000 held back, each looked at all of them, which took the loop 25 ms."""
    harness = EngineHarness()

    def cost(held_back: int) -> int:
        harness.receive(*(ban("administrator") for _ in range(held_back)))
        harness.publish()
        harness.receive(kick("u"))
        harness.ok()
        return steps(harness.publish)

    harness.receive({"oops": 1})
    refuse_letters(harness)
    few = cost(1)
    assert cost(1000) < few + 100


@pytest.mark.parametrize("probing", [False, True])
def test_what_waits_for_the_dead_letter_topic_goes_with_its_partition(probing: bool) -> None:
    harness = EngineHarness()
    harness.receive(ban("administrator"))
    refuse_letters(harness)
    harness.publish()
    if probing:
        harness.wait(TRIAL_SECONDS)

    harness.revoked(0)

    assert harness.engine.unpublished == 0
    assert harness.engine.take_transaction(harness.now) is None


def test_nothing_new_is_called_while_too_much_waits_to_be_published() -> None:
    harness = EngineHarness()
    harness.fetch([Record(0, offset, b"k", None) for offset in range(MAX_UNPUBLISHED)])
    harness.fetch([Record(0, MAX_UNPUBLISHED, b"k", harness.record(ban("u")).value)])
    assert harness.out == []
    assert harness.limited_by("ban") == "publishing"
    transaction = harness.take()
    harness.wait(1.0)
    assert harness.out == [], "what is under way is not published yet"
    harness.commit(transaction)

    assert len(harness.out) == 1


def test_a_record_too_far_above_the_oldest_open_one_waits_and_pauses_its_partition() -> None:
    harness = EngineHarness(max_gap=2)
    harness.receive(*(ban("u", group=f"g{number}") for number in range(4)))
    assert len(harness.out) == 2
    assert harness.paused == {0}
    harness.ok(harness.out[0])
    harness.publish()
    assert len(harness.out) == 2
    assert harness.paused == {0}
    harness.ok(harness.out[0])
    harness.publish()

    assert harness.paused == set()


def test_with_nothing_open_the_consumers_position_is_committed_once_in_five_seconds() -> None:
    """Behind the last record of a transactional producer lies its marker, which was reported as lag for ever."""
    harness = EngineHarness(0, 1)
    harness.receive(ban("u"))
    harness.ok()
    harness.publish()
    harness.engine.reached({0: 2, 1: 5, 7: 9})
    harness.wait(HOUSEKEEPING_SECONDS)
    first = harness.take()
    hear(harness, Published())
    harness.engine.reached({0: 3})
    harness.wait(HOUSEKEEPING_SECONDS)
    soon = harness.engine.take_transaction(harness.now)
    harness.wait(COMMIT_POSITIONS_SECONDS)
    second = harness.take()
    hear(harness, Published())
    harness.wait(3 * COMMIT_POSITIONS_SECONDS)

    assert first == Transaction([], [], {0: OffsetCommit(2, ""), 1: OffsetCommit(5, "")})
    assert soon is None
    assert second == Transaction([], [], {0: OffsetCommit(3, "")})
    assert harness.engine.take_transaction(harness.now) is None


def test_a_position_is_not_committed_while_something_is_open_or_waits_to_be_admitted() -> None:
    """What it passes would be taken for done."""
    harness = EngineHarness(0, 1, max_gap=1)
    harness.receive(ban("u"), ban("v"))
    harness.engine.reached({0: 2})
    harness.wait(2 * COMMIT_POSITIONS_SECONDS)

    assert harness.engine.take_transaction(harness.now) is None
    harness.ok()
    assert harness.take().commits[0].offset == 1


def test_a_partition_that_goes_commits_no_position_any_more() -> None:
    harness = EngineHarness()
    harness.revoking(0)
    harness.commit(harness.take())  # its clean handover
    harness.engine.reached({0: 2})
    harness.wait(2 * COMMIT_POSITIONS_SECONDS)

    assert harness.engine.take_transaction(harness.now) is None


def test_a_position_never_passes_what_a_partition_that_goes_had_in_its_backlog() -> None:
    """It is the next owner's, and was committed as done with the last outcome."""
    harness = EngineHarness(max_gap=1)
    harness.receive(ban("u"), ban("v"))
    harness.revoking(0)
    harness.engine.reached({0: 2})
    harness.ok()

    assert harness.take().commits[0].offset == 1


def test_foreign_metadata_is_logged_and_counted_once_an_assignment() -> None:
    harness = EngineHarness(settled=False)
    harness.revoked(0)
    harness.assign(0, 5, foreign="AQAAAZrJQvWA")
    harness.wait(3.0)

    assert harness.log_events == [
        LogEvent(
            "kafka.foreign_metadata",
            "warning",
            {"topic": harness.settings.topic, "partition": 0, "excerpt": "AQAAAZrJQvWA"},
        )
    ]
    assert harness.engine.snapshot(harness.now).counts.foreign_metadata == 1


UNREAD_HEADERS: Any = OmittedHeaders(300_000_000, "ab" * 32)


@pytest.mark.parametrize(
    "unread",
    [
        Record(0, 0, b"k", OmittedBytes(300_000_000, "ab" * 32)),
        Record(0, 0, OmittedBytes(300_000_000, "ab" * 32), b"{}"),
        Record(0, 0, b"k", b"{}", UNREAD_HEADERS),
        Record(
            0,
            0,
            None,
            OmittedBytes(9, "ab" * 32, "the batch cannot be read from here on"),
            (("x-batch-records", b"2"),),
        ),
    ],
)
def test_a_record_that_was_not_read_is_logged_and_dead_lettered(unread: Record) -> None:
    harness = EngineHarness()
    harness.fetch([unread])
    transaction = harness.take()

    assert "record.not_read" in harness.events()
    assert [letter.error_code for letter in transaction.dead_letters] == ["not_read"]
    assert transaction.commits[0].offset == 1
