# What calls change: bans and their end, unbans, kicks, member info.

from __future__ import annotations

from typing import Any

from tests.unit.testing.simulator.calls import APP, BAN, KICK, LIVE_UNBAN, UNBAN, UPDATE, Bench, a_request

EPOCH = 1000.0


def shown(bench: Bench, target: str = "t1") -> dict[str, Any]:
    return bench.world.shown(APP, target, bench.now, EPOCH)


def test_a_ban_holds_for_its_duration() -> None:
    bench = Bench(now=100.0)
    bench.carry_out(a_request(BAN, Duration=60))

    bench.now = 159.9
    during = shown(bench)["group"]["bans"]["u1"]
    bench.now = 160.0
    after = shown(bench)["group"]["bans"]["u1"]

    assert during == {"banned": True, "since": 1100.0, "until": 1160.0, "description": "spam", "seq": 1}
    assert not after["banned"]


def test_a_later_ban_replaces_the_earlier() -> None:
    bench = Bench(now=100.0)
    bench.carry_out(a_request(BAN, Duration=3600))

    bench.carry_out(a_request(BAN, Duration=10, Members_Account=["u1"]))

    bans = shown(bench)["group"]["bans"]
    assert (bans["u1"]["until"], bans["u2"]["until"]) == (1110.0, 4700.0)


def test_an_unban_lifts_the_ban_of_those_it_names() -> None:
    bench = Bench()
    bench.carry_out(a_request(BAN))

    bench.carry_out(a_request(UNBAN, Members_Account=["u1"]))

    assert list(shown(bench)["group"]["bans"]) == ["u2"]
    assert shown(bench)["group"]["unbanned"] == {"u1": 2}


def test_a_ban_after_an_unban_holds() -> None:
    bench = Bench()
    for endpoint in (BAN, UNBAN, BAN):
        bench.carry_out(a_request(endpoint))

    assert list(shown(bench)["group"]["bans"]) == ["u1", "u2"]
    assert shown(bench)["group"]["unbanned"] == {}


def test_a_live_unban_lifts_a_ban_that_the_live_room_had() -> None:
    bench = Bench()
    bench.world.ban_live(APP, "t1", ["u1", "u3"], until=bench.now + 60)

    bench.carry_out(a_request(LIVE_UNBAN))

    assert shown(bench)["room"]["live_bans"] == {"u3": {"banned": True, "until": 1160.0}}
    assert shown(bench)["room"]["live_unbanned"] == {"u1": 1, "u2": 1}


def test_a_group_and_a_room_of_the_same_id_are_two_things() -> None:
    bench = Bench()
    bench.carry_out(a_request(BAN))

    bench.carry_out(a_request(LIVE_UNBAN))

    assert list(shown(bench)["group"]["bans"]) == ["u1", "u2"]


def test_a_kicked_user_is_out_of_the_room_and_cannot_be_kicked_or_changed() -> None:
    bench = Bench()
    bench.carry_out(a_request(KICK))

    assert bench.carry_out(a_request(KICK)).code == 100005
    assert bench.carry_out(a_request(UPDATE)).code == 100005
    assert bench.carry_out(a_request(KICK, MemberList_Account=["u3"])).code == 0
    assert bench.carry_out(a_request(KICK, RoomId="t2")).code == 0
    assert shown(bench)["room"]["members"]["u1"]["kicks"] == 1


def test_a_kicked_user_comes_back_after_the_time_that_the_fault_gives() -> None:
    bench = Bench(now=100.0)
    bench.store.put({"rejoin_after": 10}, 0.0)
    bench.carry_out(a_request(KICK))

    bench.now = 109.9
    early = bench.carry_out(a_request(KICK)).code
    bench.now = 110.0
    back = bench.carry_out(a_request(KICK)).code

    assert (early, back) == (100005, 0)
    assert shown(bench)["room"]["members"]["u1"]["kicks"] == 2


def test_a_user_that_the_control_lets_in_again_can_be_kicked_again() -> None:
    bench = Bench()
    bench.carry_out(a_request(KICK))

    bench.world.rejoin(APP, "t1", ["u1", "nobody"])

    assert bench.carry_out(a_request(KICK, MemberList_Account=["u1"])).code == 0
    assert bench.carry_out(a_request(KICK, MemberList_Account=["u2"])).code == 100005


def test_an_update_changes_only_the_fields_that_it_names() -> None:
    bench = Bench()
    bench.carry_out(a_request(UPDATE))

    bench.carry_out(
        a_request(UPDATE, MemberInfo={"Member_Account": "u1", "NameCard": "joe", "CustomInfo": "x"})
    )

    assert shown(bench)["room"]["members"]["u1"]["info"] == {
        "NameCard": "joe",
        "Role": "Admin",
        "CustomInfo": "x",
    }


def test_a_target_that_no_call_changed_has_no_state() -> None:
    bench = Bench()
    bench.carry_out(a_request(BAN))

    assert shown(bench, "elsewhere") == {"target": "elsewhere", "group": None, "room": None}
    assert bench.world.targets(APP) == {"groups": ["t1"], "rooms": []}
