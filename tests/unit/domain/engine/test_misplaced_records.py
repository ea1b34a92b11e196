# A record in the wrong place is carried out, counted by its reason, and told once for each issuer and reason.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.domain.engine_harness import Desk, Record, ban, kick
from worker.domain.admission import MAX_WARNED_ISSUERS
from worker.domain.contract.placement import MAX_TARGETS, Placement, murmur2

if TYPE_CHECKING:
    from collections.abc import Callable

PARTITIONS = 12


def right_place(target: str) -> int:
    """
    Where kafka-python's producer puts this key.
    """
    return (murmur2(target.encode()) & 0x7FFFFFFF) % PARTITIONS


def desk_of_all() -> Desk:
    return Desk(*range(PARTITIONS))


def misplaced(desk: Desk) -> dict[str, int]:
    return {str(reason): count for reason, count in desk.engine.snapshot(desk.now).counts.misplaced.items()}


def send(desk: Desk, partition: int, key: bytes | None, command: dict[str, Any]) -> None:
    """
    The command comes on this partition, under this key.
    """
    record = desk.record(command, partition=partition)
    desk.fetch([Record(record.partition, record.offset, key, record.value)])


def test_a_record_in_its_place_is_nothing_to_speak_of() -> None:
    desk = desk_of_all()
    for number in range(50):
        desk.receive(ban("u", group=f"g{number}"), partition=right_place(f"g{number}"))

    assert misplaced(desk) == {}
    assert desk.events() == []


def test_a_record_without_a_key_is_carried_out_and_warned_of_once_an_issuer() -> None:
    desk = Desk()
    for issuer in ("a", "b", "a"):
        desk.receive(kick("u", room=issuer, issuer=issuer), keyed=False)

    assert [each.fields["issuer"] for each in desk.notices] == ["a", "b"]
    assert desk.events() == ["record.misplaced"] * 2
    assert misplaced(desk) == {"no_key": 3}
    desk.ok()
    assert {each.status.value for each in desk.publish()} == {"succeeded"}


def test_a_bad_record_without_a_key_is_counted_too() -> None:
    desk = Desk()
    desk.receive({"action": "dance"}, keyed=False)

    assert misplaced(desk) == {"no_key": 1}


def test_of_a_bad_record_with_a_key_nothing_is_said() -> None:
    desk = Desk()
    desk.receive({"action": "dance", "group_id": "g"})

    assert misplaced(desk) == {}


@pytest.mark.parametrize(
    "key", [b"user-1", b"", b"G", b'"g"', b" g", b"g\n", b"\x00\x00\x00\x00\x01g", b"\xff"], ids=repr
)
def test_a_key_that_is_not_the_target_is_told(key: bytes) -> None:
    """
    Quoted, framed by a serializer, or of something else: it leads elsewhere than the plain id of another producer.
    """
    desk = Desk()
    send(desk, 0, key, ban("u", issuer="i"))

    (notice,) = desk.notices
    assert (notice.event, notice.level) == ("record.misplaced", "warning")
    assert notice.fields == {"reason": "key_not_target", "issuer": "i", "partition": 0, "offset": 0}


@pytest.mark.parametrize("make", [ban, kick])
def test_a_target_on_two_partitions_is_told(make: Callable[..., dict[str, Any]]) -> None:
    """
    One command_id, one key, two partitions: it is carried out twice, and that must not go unsaid.
    """
    desk = desk_of_all()
    command = make("u", command_id="c")
    target = str(command.get("group_id") or command["room_id"])
    right = right_place(target)
    wrong = (right + 1) % PARTITIONS
    desk.receive(command, partition=right)
    assert misplaced(desk) == {}
    desk.receive(command, partition=wrong)
    desk.receive(command, partition=right)

    assert misplaced(desk) == {"two_partitions": 2}


def test_a_partition_that_murmur2_would_not_choose_is_told_by_the_one_replica_that_sees_it() -> None:
    """
    The other partition is another replica's: nobody sees both.
    """
    wrong = (right_place("g") + 1) % PARTITIONS
    desk = Desk(wrong, partitions=PARTITIONS)
    for _ in range(3):
        desk.receive(ban("u", group="g", issuer="i"), partition=wrong)

    assert misplaced(desk) == {"partitioner": 3}
    assert [(each.event, each.fields["reason"]) for each in desk.notices] == [
        ("record.misplaced", "partitioner")
    ]


def test_after_the_producers_partitioner_is_right_it_is_told_once_more_and_then_no_longer() -> None:
    desk = desk_of_all()
    right = right_place("g")
    desk.receive(ban("u", group="g"), partition=(right + 1) % PARTITIONS)
    for _ in range(5):
        desk.receive(ban("u", group="g"), partition=right)

    assert misplaced(desk) == {"partitioner": 1, "two_partitions": 1}


def test_the_same_name_of_two_apps_is_two_targets() -> None:
    placement = Placement(PARTITIONS)
    record = Record(right_place("g"), 0, b"g", b"")

    assert placement.judge(record, ("main", "g")) is None
    assert (
        placement.judge(Record((record.partition + 1) % PARTITIONS, 0, b"g", b""), ("second", "g"))
        == "partitioner"
    )


def test_however_many_issuers_send_no_keys_so_many_are_warned_of_and_all_are_counted() -> None:
    desk = Desk()
    for issuer in range(MAX_WARNED_ISSUERS + 20):
        desk.receive(kick("u", room=str(issuer), issuer=str(issuer)), keyed=False)

    assert desk.events() == ["record.misplaced"] * MAX_WARNED_ISSUERS
    assert misplaced(desk) == {"no_key": MAX_WARNED_ISSUERS + 20}


def test_only_so_many_targets_are_remembered() -> None:
    placement = Placement(1)
    for number in range(MAX_TARGETS + 10):
        placement.judge(Record(0, number, b"%d" % number, b""), ("main", str(number)))

    assert len(placement) == MAX_TARGETS
