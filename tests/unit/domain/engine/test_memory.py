# P10: all that is kept is counted, and what does not fit waits or is forgotten. Nobody starves of it.

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.domain.engine_harness import EngineHarness, Record, ban, kick, unban
from worker.domain.admission_control import MAX_SHARED_KEYS
from worker.domain.contract.command_decoding import MAX_ALIKE as TEXTS
from worker.domain.contract.command_decoding import MAX_EFFECTS, Command
from worker.domain.engine import HOUSEKEEPING_SECONDS
from worker.domain.memory_budget import COMMAND_BYTES, GROUP_BYTES, PARTS, RECORD_BYTES, USER_BYTES, share

ONE = COMMAND_BYTES + USER_BYTES + GROUP_BYTES + RECORD_BYTES + 320
"""Somewhat more than an open command of one user, alone in its group."""
FOR_TWO = int(2 * ONE / PARTS["commands"])


def held(harness: EngineHarness, part: str = "commands") -> int:
    """Bytes that the part takes."""
    return harness.engine.snapshot(harness.now).memory[part]


def test_the_parts_share_all_of_the_budget() -> None:
    assert sum(PARTS.values()) == pytest.approx(1.0)


def test_open_commands_are_bounded_and_the_rest_waits() -> None:
    harness = EngineHarness(memory_budget=2 * FOR_TWO)
    harness.receive(*(kick("u", room=f"r{number}") for number in range(20)))

    assert len(harness.out) == 4
    assert harness.paused == {0}
    while harness.out:
        harness.ok()
        harness.publish()
    assert len(harness.published.outcomes) == 20
    assert held(harness) == 0
    assert harness.paused == set()


@pytest.mark.parametrize("part", ["key", "value", "headers"])
def test_whatever_a_record_brings_is_counted(part: str) -> None:
    """Six hundred commands with headers of 900 kB took 1.4 GB, and 3 MB of it were counted."""
    harness = EngineHarness(memory_budget=10_000_000)
    for number in range(60):
        record = harness.record(kick("u", room=f"r{number}"))
        much = b" " * 900_000
        values: dict[str, Any] = {"key": record.key, "value": record.value, "headers": ()}
        values |= (
            {"headers": (("name", much),)} if part == "headers" else {part: (values[part] or b"") + much}
        )
        harness.fetch([Record(0, record.offset, **values)])

    assert 0 < len(harness.out) <= 6
    assert held(harness) > 60 * 900_000


def test_commands_that_come_together_cost_no_more_than_one_by_one() -> None:
    """Counted as if each stood alone, a fetch of a busy room took more than twice of the memory that it takes."""
    together, one_by_one = (
        EngineHarness(default_calls_per_second=1),
        EngineHarness(default_calls_per_second=1),
    )
    commands = [ban(f"u{number}") for number in range(50)]
    together.receive_together(*commands)
    one_by_one.receive(*commands)

    assert held(together) <= held(one_by_one)


def test_a_record_larger_than_all_memory_gets_through_alone() -> None:
    harness = EngineHarness(memory_budget=1_000)
    harness.receive(*(kick("u", room=f"r{number}") for number in range(3)))
    for _ in range(3):
        harness.ok(harness.request())
        harness.publish()

    assert len(harness.published.outcomes) == 3


def test_one_partition_does_not_take_the_memory_of_another() -> None:
    harness = EngineHarness(0, 1, memory_budget=4 * FOR_TWO)
    harness.receive(*(ban("u", group=f"g{number}") for number in range(20)), partition=0)
    assert len(harness.out) == 6
    harness.receive(*(kick("u", room=f"r{number}") for number in range(20)), partition=1)

    assert len([each for each in harness.out if each.action == "kick"]) == 2
    while harness.out:
        harness.ok()
        harness.publish()
    assert len(harness.published.outcomes) == 40


def test_a_partition_that_comes_has_its_part_though_memory_is_full() -> None:
    harness = EngineHarness(0, memory_budget=4 * FOR_TWO)
    harness.receive(*(ban("u", group=f"g{number}") for number in range(20)))
    harness.assign(1)
    harness.wait(3.0)
    harness.receive(kick("u"), partition=1)

    assert harness.request("kick").target == "r"


def test_when_memory_is_full_nothing_more_is_fetched_of_any_partition() -> None:
    """Else each of a hundred partitions would bring some batches more."""
    harness = EngineHarness(0, 1, 2, memory_budget=FOR_TWO)
    harness.receive(*(kick("u", room=f"r{number}") for number in range(4)))

    assert harness.paused == {0, 1, 2}
    while harness.out:
        harness.ok()
        harness.publish()
    assert harness.paused == set()


def test_a_partition_that_takes_all_there_is_leaves_the_others_their_parts() -> None:
    """It may be stuck: its commands are paused, or the dead letters of its records are refused."""
    harness = EngineHarness(0, 1, memory_budget=20 * 1024 * 1024)
    harness.order("paused", issuer="mad")
    while 0 not in harness.paused:
        harness.receive(*(kick("u", issuer="mad", metadata={"text": "x" * 15_000}) for _ in range(20)))
    assert harness.engine._admission.memory.is_full

    assert harness.paused == {0}
    harness.receive(kick("v", command_id="other"), partition=1)
    harness.ok()
    assert harness.status("other") == "succeeded"


def test_what_waits_to_be_admitted_is_counted() -> None:
    harness = EngineHarness(memory_budget=FOR_TWO)
    harness.receive(*(kick("u", room=f"r{number}") for number in range(3)))
    before = held(harness)
    record = harness.record(kick("u"))
    harness.fetch([Record(0, record.offset, record.key, record.value, (("name", b" " * 5_000),))])

    assert held(harness) > before + 5_000
    harness.revoking(0)
    harness.ok()
    harness.publish()
    harness.revoked(0)
    assert held(harness) == 0


def test_the_memory_that_a_partition_frees_as_it_closes_is_used_by_the_others() -> None:
    """They waited until something was committed, perhaps for as long as the handover."""
    harness = EngineHarness(0, 1, memory_budget=8 * FOR_TWO)
    harness.order("paused", issuer="mad")
    harness.receive(*(kick("u", room=f"r{number}", issuer="mad") for number in range(20)), partition=1)
    harness.receive(*(ban("u", group=f"g{number}", issuer="mad") for number in range(20)))
    admitted = harness.engine.count_open([0])
    harness.revoking(1)

    harness.wait(HOUSEKEEPING_SECONDS)

    assert harness.engine.count_open([0]) > admitted


def test_of_a_lost_partition_nothing_is_held() -> None:
    harness = EngineHarness(0, 1, memory_budget=FOR_TWO)
    harness.receive(*(kick("u", room=f"r{number}") for number in range(9)), partition=1)
    harness.revoked(1)

    assert held(harness) == 0
    assert held(harness, "ids") == 0


def test_a_record_is_kept_no_longer_than_it_may_be_dead_lettered() -> None:
    harness = EngineHarness()
    record = harness.record(kick("u", room="good"))
    harness.fetch([Record(0, record.offset, b"its key", (record.value or b"") + b" " * 9_000)])
    harness.receive(kick("u", room="bad"))
    good, bad = harness.out
    before = held(harness)
    harness.ok(good)
    harness.code(bad, 10010, "no such room")

    assert before - held(harness) > 9_000
    transaction = harness.take()
    assert [each.key for each in transaction.outcomes] == [b"its key", b"bad"]
    assert [letter.record.value is None for letter in transaction.dead_letters] == [False]


def test_results_that_cannot_be_published_are_bounded_by_their_memory() -> None:
    """Results must be published before more calls are made, and no more is admitted than can be published."""
    harness = EngineHarness(memory_budget=100_000)
    for number in range(60):
        harness.receive(kick("u", room=f"r{number}"))
        harness.ok()

    assert held(harness, "results") < share("results", 100_000) + 2_000
    assert len(harness.sent) < 15
    assert harness.paused == {0}
    while harness.out or harness.engine.unpublished:
        harness.publish()
        harness.ok()
    assert len(harness.published.outcomes) == 60
    assert held(harness, "results") == 0


def test_what_was_admitted_is_not_called_while_too_much_waits_to_be_published() -> None:
    harness = EngineHarness(default_calls_per_second=1, memory_budget=300_000)
    harness.receive(kick("u", room="first"), kick("u", room="second"))
    harness.fetch([Record(0, 2 + number, b"k", b'{"command_id": "c%d"}' % number) for number in range(40)])
    harness.ok(harness.request(target="first"))
    harness.wait(5.0)
    assert harness.out == []
    harness.publish()

    assert harness.request().target == "second"


@pytest.mark.parametrize(("reasons_matter", "most"), [(True, MAX_EFFECTS), (False, MAX_SHARED_KEYS)])
def test_equal_commands_share_what_is_equal_in_them_whatever_came_between(
    reasons_matter: bool, most: int
) -> None:
    harness = EngineHarness(default_calls_per_second=1, overdue_after=60.0, reasons_matter=reasons_matter)
    harness.receive(ban("first"), *(ban("u", duration=1 + number) for number in range(most + 2)))
    harness.receive(ban("second"), ban("third"))
    harness.ok()
    harness.wait(1.0)

    assert harness.request().users == ["second", "third"]
    assert len(harness.engine._admission._shared_keys) <= MAX_SHARED_KEYS + 1


def test_ids_and_effects_are_forgotten_oldest_first_and_counted() -> None:
    harness = EngineHarness(memory_budget=100_000)
    for number in range(200):
        harness.receive(unban("u", group=f"g{number}", command_id=f"id-{number}"))
        harness.ok()
        harness.publish()

    counts = harness.engine.snapshot(harness.now).counts
    assert 0 < held(harness, "ids") <= share("ids", 100_000)
    assert 0 < held(harness, "applied") <= share("applied", 100_000)
    assert counts.forgotten_ids > 100
    assert counts.forgotten_effects > 100
    harness.wait(1.0)
    harness.receive(unban("u", group="g199", command_id="id-199"), unban("u", group="g199"))
    harness.receive(unban("u", group="g0", command_id="id-0"))
    harness.ok()
    assert [each.status.value for each in harness.publish()] == ["duplicate", "duplicate", "succeeded"]


def test_a_record_that_would_fit_now_does_not_overtake_those_that_wait_to_fit() -> None:
    """What it overtakes would be taken for done."""
    harness = EngineHarness(0, 1, memory_budget=FOR_TWO * 3 // 2)
    harness.receive(ban("u"), unban("u"))
    harness.receive(kick("u", room="open"), kick("u", room="first", command_id="first"), partition=1)
    assert 1 in harness.paused
    harness.revoking(0)
    harness.receive(kick("u", room="second", command_id="second"), partition=1)
    harness.revoked(0)
    harness.ok()

    assert [harness.status(each) for each in ("first", "second")] == ["succeeded", "succeeded"]


def test_texts_that_commands_have_in_common_are_kept_once() -> None:
    harness = EngineHarness()
    decoder = harness.engine._admission._decoder

    def read(reason: str) -> Command:
        made = decoder.decode(harness.record(kick("u", room="a room", issuer="an issuer", reason=reason)))
        assert isinstance(made, Command)
        return made

    first, again = read("spam"), read("spam")
    assert again.target is first.target
    assert again.issuer is first.issuer
    assert again.parameters is first.parameters
    assert again.effect is first.effect
    for number in range(TEXTS + 2):
        read(f"{number}")
    assert read("spam").parameters.reason == "spam"
