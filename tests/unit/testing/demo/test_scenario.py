# The load: the same for the same seed, with everything that the promises are about.

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from worker.testing.checker.contract import ENDPOINTS, TARGET_FIELDS
from worker.testing.checker.evidence import ExpectedFate
from worker.testing.demo.malformed_records import MEGABYTE, REPLACED, WITHOUT_ID
from worker.testing.demo.scenario import REPEAT_WITHIN, ROOMS, plan

RAID = plan(10_000, seed=1)
GOOD = [record for record in RAID.records if record.effect is not None]
BAD = [record for record in RAID.records if record.effect is None]


def test_the_same_seed_makes_the_same_raid_and_another_seed_another() -> None:
    assert plan(500, 7) == plan(500, 7)
    assert plan(500, 7) != plan(500, 8)


def test_two_bad_records_come_on_top_of_each_hundred_commands() -> None:
    assert (len(GOOD), len(BAD)) == (10_000, 200)


def test_every_action_is_commanded_and_every_room_is_raided() -> None:
    assert {record.effect.action for record in GOOD if record.effect} == set(ENDPOINTS)
    assert len({record.target for record in GOOD}) == ROOMS


def test_rooms_are_popular_by_zipfs_law() -> None:
    sizes = sorted(Counter(record.target for record in GOOD).values(), reverse=True)

    assert sizes[0] == pytest.approx(2 * sizes[1], rel=0.2)
    assert sizes[0] == pytest.approx(10 * sizes[9], rel=0.3)


def test_every_kind_of_bad_record_is_in_it() -> None:
    kinds = {record.kind for record in BAD}

    assert kinds == {row[0] for row in REPLACED} | {row[0] for row in WITHOUT_ID} | {"a megabyte"}
    assert [len(record.value or b"") for record in BAD if record.kind == "a megabyte"] == [MEGABYTE]


def test_a_command_says_what_the_checker_believes_that_it_says() -> None:
    for record in GOOD:
        body = msgspec.json.decode(record.value or b"")
        assert record.effect is not None
        assert (body["command_id"], body["action"]) == (record.command_id, record.effect.action)
        assert tuple(body["user_ids"]) == record.users
        assert body[TARGET_FIELDS[record.effect.action]] == record.target
        assert (body.get("duration"), body.get("reason")) == (record.effect.duration, record.effect.reason)
        assert ("banned_until" in body) == (record.effect.until is not None)
        assert ("not_after" in body) == (record.fate is ExpectedFate.EXPIRED)


def test_a_repeated_id_repeats_the_whole_record_under_the_same_key_and_not_too_late() -> None:
    last: dict[str | None, int] = {}
    repeats = 0
    keyed = [record for record in GOOD if record.key is not None]
    for place, record in enumerate(keyed):
        before = last.get(record.command_id)
        if before is not None:
            repeats += 1
            assert record is keyed[before]
            assert place - before <= REPEAT_WITHIN
        last[record.command_id] = place
    assert repeats == pytest.approx(300, rel=0.3)


def test_bad_users_are_a_fiftieth_of_all_users() -> None:
    users = {user for record in GOOD for user in record.users}

    assert len(RAID.bad_users) == pytest.approx(len(users) / 50, rel=0.3)
    assert set(RAID.bad_users) < users


def test_some_users_are_banned_unbanned_and_banned_again() -> None:
    lines: dict[tuple[str, str], list[str]] = {}
    for record in GOOD:
        for user in record.users if record.effect else ():
            lines.setdefault((record.target, user), []).append(record.effect.action if record.effect else "")
    sequence = ["group.ban_group_member", "group.unban_group_member", "group.ban_group_member"]

    assert sum(_holds(line, sequence) for line in lines.values()) > 100


def test_some_commands_name_more_members_than_a_call_may_carry() -> None:
    sizes = Counter(len(record.users) for record in GOOD)

    assert sizes[1] > 9000
    assert sum(count for size, count in sizes.items() if size > 20) > 50


def test_records_without_a_key_name_users_that_no_other_record_names() -> None:
    keyless = [record for record in GOOD if record.key is None]
    others = {user for record in GOOD if record.key is not None for user in record.users}

    assert keyless
    assert others.isdisjoint(user for record in keyless for user in record.users)


def _holds(line: list[str], sequence: list[str]) -> bool:
    steps = iter(line)
    return all(step in steps for step in sequence)
