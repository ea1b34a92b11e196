# A record in the wrong place is carried out, counted by its reason, and logged once for each issuer and reason.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.domain.engine_harness import EngineHarness, Record, ban, kick
from worker.domain.admission_control import MAX_MISPLACED_WARNINGS
from worker.domain.contract.placement_check import MAX_TARGETS, PlacementCheck, murmur2

if TYPE_CHECKING:
    from collections.abc import Callable

PARTITIONS = 12


def right_place(target: str) -> int:
    """Where kafka-python's producer puts this key."""
    return (murmur2(target.encode()) & 0x7FFFFFFF) % PARTITIONS


def desk_of_all() -> EngineHarness:
    return EngineHarness(*range(PARTITIONS))


def misplaced(harness: EngineHarness) -> dict[str, int]:
    return {
        str(reason): count for reason, count in harness.engine.snapshot(harness.now).counts.misplaced.items()
    }


def send(harness: EngineHarness, partition: int, key: bytes | None, command: dict[str, Any]) -> None:
    """The command comes on this partition, under this key."""
    record = harness.record(command, partition=partition)
    harness.fetch([Record(record.partition, record.offset, key, record.value)])


def test_a_record_in_its_place_is_nothing_to_speak_of() -> None:
    harness = desk_of_all()
    for number in range(50):
        harness.receive(ban("u", group=f"g{number}"), partition=right_place(f"g{number}"))

    assert misplaced(harness) == {}
    assert harness.events() == []


def test_a_record_without_a_key_is_carried_out_and_warned_of_once_an_issuer() -> None:
    harness = EngineHarness()
    for issuer in ("a", "b", "a"):
        harness.receive(kick("u", room=issuer, issuer=issuer), keyed=False)

    assert [each.fields["issuer"] for each in harness.log_events] == ["a", "b"]
    assert harness.events() == ["record.misplaced"] * 2
    assert misplaced(harness) == {"no_key": 3}
    harness.ok()
    assert {each.status.value for each in harness.publish()} == {"succeeded"}


def test_a_bad_record_without_a_key_is_counted_too() -> None:
    harness = EngineHarness()
    harness.receive({"action": "dance"}, keyed=False)

    assert misplaced(harness) == {"no_key": 1}


def test_of_a_bad_record_with_a_key_nothing_is_said() -> None:
    harness = EngineHarness()
    harness.receive({"action": "dance", "group_id": "g"})

    assert misplaced(harness) == {}


@pytest.mark.parametrize(
    "key", [b"user-1", b"", b"G", b'"g"', b" g", b"g\n", b"\x00\x00\x00\x00\x01g", b"\xff"], ids=repr
)
def test_a_key_that_is_not_the_target_is_logged(key: bytes) -> None:
    """Quoted, framed by a serializer, or of something else: it leads elsewhere than the plain id of another producer."""
    harness = EngineHarness()
    send(harness, 0, key, ban("u", issuer="i"))

    (notice,) = harness.log_events
    assert (notice.event, notice.level) == ("record.misplaced", "warning")
    assert notice.fields == {"reason": "key_not_target", "issuer": "i", "partition": 0, "offset": 0}


@pytest.mark.parametrize("make", [ban, kick])
def test_a_target_on_two_partitions_is_logged(make: Callable[..., dict[str, Any]]) -> None:
    """One command_id, one key, two partitions: it is carried out twice, and that must not go unsaid."""
    harness = desk_of_all()
    command = make("u", command_id="c")
    target = str(command.get("group_id") or command["room_id"])
    right = right_place(target)
    wrong = (right + 1) % PARTITIONS
    harness.receive(command, partition=right)
    assert misplaced(harness) == {}
    harness.receive(command, partition=wrong)
    harness.receive(command, partition=right)

    assert misplaced(harness) == {"two_partitions": 2}


def test_a_partition_that_murmur2_would_not_choose_is_logged() -> None:
    """The other partition is another replica's: nobody sees both."""
    wrong = (right_place("g") + 1) % PARTITIONS
    harness = EngineHarness(wrong, partitions=PARTITIONS)
    for _ in range(3):
        harness.receive(ban("u", group="g", issuer="i"), partition=wrong)

    assert misplaced(harness) == {"partitioner": 3}
    assert [(each.event, each.fields["reason"]) for each in harness.log_events] == [
        ("record.misplaced", "partitioner")
    ]


def test_a_partitioner_that_is_fixed_is_logged_once_more_and_no_longer() -> None:
    harness = desk_of_all()
    right = right_place("g")
    harness.receive(ban("u", group="g"), partition=(right + 1) % PARTITIONS)
    for _ in range(5):
        harness.receive(ban("u", group="g"), partition=right)

    assert misplaced(harness) == {"partitioner": 1, "two_partitions": 1}


def test_the_same_name_of_two_apps_is_two_targets() -> None:
    placement = PlacementCheck(PARTITIONS)
    record = Record(right_place("g"), 0, b"g", b"")

    assert placement.judge(record, ("main", "g")) is None
    assert (
        placement.judge(Record((record.partition + 1) % PARTITIONS, 0, b"g", b""), ("second", "g"))
        == "partitioner"
    )


def test_however_many_issuers_send_no_keys_so_many_are_warned_of_and_all_are_counted() -> None:
    harness = EngineHarness()
    for issuer in range(MAX_MISPLACED_WARNINGS + 20):
        harness.receive(kick("u", room=str(issuer), issuer=str(issuer)), keyed=False)

    assert harness.events() == ["record.misplaced"] * MAX_MISPLACED_WARNINGS
    assert misplaced(harness) == {"no_key": MAX_MISPLACED_WARNINGS + 20}


def test_only_so_many_targets_are_remembered() -> None:
    placement = PlacementCheck(1)
    for number in range(MAX_TARGETS + 10):
        placement.judge(Record(0, number, b"%d" % number, b""), ("main", str(number)))

    assert len(placement) == MAX_TARGETS
