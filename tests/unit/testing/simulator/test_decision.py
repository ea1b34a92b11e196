# Decisions: authentication, the code of each fault, how an exchange ends, what is applied, and the order of it all.

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.unit.testing.simulator.calls import (
    APP,
    BAN,
    KICK,
    LIVE_UNBAN,
    SAMPLES,
    UNBAN,
    UPDATE,
    Bench,
    a_query,
    a_request,
    signed,
)  # fmt: skip
from worker.testing.simulator.auth import ApiRequest
from worker.testing.simulator.decision import ExchangeEnd
from worker.testing.simulator.faults import FaultValues, is_chosen
from worker.testing.simulator.signature import SimulatedApp

if TYPE_CHECKING:
    from worker.testing.simulator.decision import Reaction

WITH_REQUEST_ID = {LIVE_UNBAN, KICK, UPDATE}
ROUNDS = 400


def answer_of(reaction: Reaction) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(reaction.payload)
    return found


@pytest.mark.parametrize("endpoint", SAMPLES)
def test_a_good_request_is_answered_and_applied(endpoint: str) -> None:
    reaction = Bench().decide(a_request(endpoint))

    assert (reaction.exchange_end, reaction.http_status, reaction.code) == (ExchangeEnd.ANSWER, 200, 0)
    assert reaction.effect
    assert reaction.effect.users == (("u1",) if endpoint == UPDATE else ("u1", "u2"))


@pytest.mark.parametrize("endpoint", SAMPLES)
@pytest.mark.parametrize("code", [0, 60007])
def test_only_live_and_room_answers_carry_a_request_id(endpoint: str, code: int) -> None:
    bench = Bench(FaultValues(limit=0 if code else 200))

    reaction = bench.decide(a_request(endpoint))

    answer = answer_of(reaction)
    assert answer["ErrorCode"] == code
    assert answer["ActionStatus"] == ("FAIL" if code else "OK")
    assert answer.get("RequestId") == reaction.request_id
    assert (reaction.request_id is not None) == (endpoint in WITH_REQUEST_ID)


def test_each_answer_has_a_request_id_of_its_own() -> None:
    bench = Bench()

    ids = {bench.decide(a_request(LIVE_UNBAN)).request_id for _ in range(100)}

    assert len(ids) == 100


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"contenttype": None}, 60002),
        ({"contenttype": "xml"}, 60002),
        ({"random": None}, 60002),
        ({"random": "4294967296"}, 60002),
        ({"random": "-1"}, 60002),
        ({"random": "²"}, 60002),
        ({"sdkappid": None}, 60012),
        ({"sdkappid": "x"}, 60006),
        ({"sdkappid": "1400009999"}, 70020),
        ({"identifier": None}, 60004),
        ({"identifier": ""}, 60004),
        ({"usersig": None}, 70002),
        ({"usersig": "x"}, 70003),
        ({"usersig": signed(key="another")}, 70009),
        ({"identifier": "somebody"}, 70013),
        ({"usersig": signed(app=APP + 1)}, 70014),
        ({"usersig": signed(expire=1)}, 70001),
        ({"identifier": "somebody", "usersig": signed(identifier="somebody")}, 60010),
        ({"random": "0"}, 0),
    ],
)
def test_an_invalid_url_is_refused_with_its_code(query: dict[str, str | None], code: int) -> None:
    reaction = Bench().decide(query=a_query(**query))

    assert reaction.code == code
    assert (reaction.effect is None) == (code != 0)


def test_only_post_is_allowed() -> None:
    assert Bench().decide(replace(a_request(), method="GET")).code == 60002


@pytest.mark.parametrize(
    ("endpoint", "code"),
    [
        ("group_open_http_svc/ban_group_members", 10003),
        ("live_engine_http_srv/nothing", 60009),
        ("nothing/ban_group_member", 60009),
        ("", 60009),
    ],
)
def test_an_unknown_command_is_refused(endpoint: str, code: int) -> None:
    assert Bench().decide(ApiRequest("POST", endpoint, a_query(), b"{}")).code == code


def test_what_the_quota_refuses_is_not_applied() -> None:
    bench = Bench(FaultValues(limit=2))

    reactions = [bench.decide() for _ in range(3)]

    assert [reaction.code for reaction in reactions] == [0, 0, 60007]
    assert reactions[2].effect is None


def test_the_quota_counts_each_endpoint_and_each_app_alone() -> None:
    bench = Bench(FaultValues(limit=1))
    bench.authenticator.add_app(SimulatedApp(APP + 1, ("k",)))
    other_app = replace(
        a_request(), query=a_query(sdkappid=str(APP + 1), usersig=signed(key="k", app=APP + 1))
    )

    codes = [
        bench.decide(request).code
        for request in (a_request(BAN), a_request(UNBAN), other_app, a_request(BAN))
    ]

    assert codes == [0, 0, 0, 60007]


def test_a_request_with_a_bad_signature_uses_no_quota_but_is_counted_as_read() -> None:
    bench = Bench(FaultValues(limit=1))

    bench.decide(query=a_query(usersig="x"))

    assert bench.decide().code == 0
    assert bench.decider.counters[APP, BAN].read.highest == 2


@pytest.mark.parametrize(("fault", "codes"), [
    ({"signature_expired": True}, (70001, 70001, 70001)),
    ({"wrong_key": True}, (70009, 70009, 70009)),
    ({"wrong_region": True}, (60026, 60026, 60026)),
    ({"not_admin": True}, (60010, 60010, 60010)),
    ({"plan_expired": True}, (60020, 60020, 60020)),
    ({"plan_lacks_api": True}, (72001, 72001, 72001)),
    ({"app_throttled": True}, (60011, 60011, 60011)),
    ({"switch_off": True}, (10007, 0, 0)),
    ({"forbidden": True}, (10007, 100006, 100006)),
    ({"unknown_targets": ["t1"]}, (10010, 100004, 100004)),
    ({"bad_user_list": ["u2"]}, (10019, 70107, 70107)),
    ({"bad_users": 1.0}, (10019, 70107, 70107)),
    ({"bad_users": 1.0, "bad_user_code": 100005}, (100005, 100005, 100005)),
    ({"missing_user_list": ["u2"]}, (0, 0, 100005)),
    ({"missing_users": 1.0}, (0, 0, 100005)),
    ({"transient": 1.0}, (10002, 100001, 100001)),
    ({"transient": 1.0, "transient_codes": [60014]}, (60014, 60014, 60014)),
    ({"answer_code": 12345}, (12345, 12345, 12345)),
])  # fmt: skip
def test_a_fault_gives_its_documented_code_and_applies_nothing(
    fault: dict[str, Any], codes: tuple[int, ...]
) -> None:
    bench = Bench()
    assert bench.store.put(fault, 0.0) == []

    reactions = [bench.decide(a_request(endpoint)) for endpoint in (BAN, LIVE_UNBAN, KICK)]

    assert tuple(reaction.code for reaction in reactions) == codes
    assert [reaction.effect is None for reaction in reactions] == [code != 0 for code in codes]
    assert all(
        reaction.fault in {*fault, "bad_users", "missing_users"} for reaction in reactions if reaction.code
    )


@pytest.mark.parametrize(("fault", "exchange_end", "status", "applied"), [
    ({"drop_before": 1.0}, ExchangeEnd.CLOSE, None, False),
    ({"drop_after": 1.0}, ExchangeEnd.CLOSE, None, True),
    ({"bad_gateway": 1.0}, ExchangeEnd.ANSWER, 502, False),
    ({"bad_gateway_after": 1.0}, ExchangeEnd.ANSWER, 502, True),
    ({"hang": 1.0}, ExchangeEnd.HANG, None, False),
    ({"cut_body": 1.0}, ExchangeEnd.CUT, 200, True),
    ({"slow_apply": 1.0}, ExchangeEnd.RESET, None, True),
    ({"slow_apply": 1.0, "slow_apply_end": "hang"}, ExchangeEnd.HANG, None, True),
    ({"outage": "502"}, ExchangeEnd.ANSWER, 502, False),
    ({"outage": "refuse"}, ExchangeEnd.RESET, None, False),
    ({"outage": "hang"}, ExchangeEnd.HANG, None, False),
])  # fmt: skip
def test_each_connection_fault_ends_the_exchange_in_its_own_way(
    fault: dict[str, Any], exchange_end: ExchangeEnd, status: int | None, applied: bool
) -> None:
    bench = Bench()
    assert bench.store.put(fault, 0.0) == []

    reaction = bench.decide(a_request(LIVE_UNBAN))

    assert (reaction.exchange_end, reaction.http_status, reaction.effect is not None) == (
        exchange_end,
        status,
        applied,
    )
    assert reaction.fault == next(iter(fault))
    if (exchange_end, status) != (ExchangeEnd.ANSWER, 200):
        assert (reaction.code, reaction.request_id) == (None, None)
    if status == 502:
        assert reaction.payload.startswith(b"<html>")


def test_only_a_refused_connection_is_reset_without_latency() -> None:
    waits = [
        Bench(FaultValues(outage=exchange_end, latency=0.5)).decide().answer_after
        for exchange_end in ("refuse", "502")
    ]

    assert waits == [0.0, 0.5]


def test_a_fault_limited_to_a_target_hits_no_other() -> None:
    bench = Bench()
    bench.store.put({"outage": "hang", "target": "t1", "endpoint": BAN}, 0.0)

    ways = [
        bench.decide(request).exchange_end
        for request in (a_request(BAN), a_request(BAN, GroupId="t2"), a_request(UNBAN))
    ]

    assert ways == [ExchangeEnd.HANG, ExchangeEnd.ANSWER, ExchangeEnd.ANSWER]


def test_a_slow_effect_comes_after_the_lost_answer_and_within_its_time() -> None:
    bench = Bench(FaultValues(latency=0.5, slow_apply=1.0, slow_apply_seconds=2.9, limit=ROUNDS))

    reactions = [bench.decide() for _ in range(ROUNDS)]

    waits = [reaction.apply_after - reaction.answer_after for reaction in reactions]
    assert min(waits) >= 0
    assert 2.5 < max(waits) <= 2.9


def test_a_refused_request_is_never_slow_because_it_changes_nothing() -> None:
    reaction = Bench(FaultValues(slow_apply=1.0, forbidden=True)).decide()

    assert (reaction.exchange_end, reaction.code) == (ExchangeEnd.ANSWER, 10007)


@pytest.mark.parametrize(("choice", "applied"), [("none", set()), ("all", {"u1", "u3"})])
def test_a_call_refused_for_a_bad_member_has_applied_what_was_chosen(choice: str, applied: set[str]) -> None:
    bench = Bench(FaultValues(bad_user_list=frozenset({"u2"}), refused_applies=choice))

    reaction = bench.decide(a_request(BAN, Members_Account=["u1", "u2", "u3"]))

    assert reaction.code == 10019
    assert set(reaction.effect.users if reaction.effect else ()) == applied


def test_a_call_refused_for_a_bad_member_may_have_applied_any_part_of_the_good_ones() -> None:
    bench = Bench(FaultValues(bad_user_list=frozenset({"u2"}), refused_applies="part", limit=ROUNDS))

    reactions = [bench.decide(a_request(BAN, Members_Account=["u1", "u2", "u3"])) for _ in range(ROUNDS)]

    parts = Counter(reaction.effect.users if reaction.effect else () for reaction in reactions)
    assert set(parts) == {(), ("u1",), ("u3",), ("u1", "u3")}
    assert all(reaction.code == 10019 for reaction in reactions)


def test_the_first_bad_member_of_the_request_gives_the_code() -> None:
    bench = Bench(FaultValues(bad_user_list=frozenset({"bad"}), missing_user_list=frozenset({"gone"})))

    codes = [
        bench.decide(a_request(KICK, MemberList_Account=users)).code
        for users in (["u", "gone", "bad"], ["bad", "gone"])
    ]

    assert codes == [100005, 70107]


def test_bad_users_are_those_that_the_seed_chooses() -> None:
    bench = Bench(FaultValues(bad_users=0.3, limit=ROUNDS), seed=5)
    users = [f"user-{number}" for number in range(ROUNDS)]

    refused = [user for user in users if bench.decide(a_request(BAN, Members_Account=[user])).code]

    assert refused == [user for user in users if is_chosen(user, 0.3, 5, "bad_users")]


def test_the_same_seed_makes_the_same_choices() -> None:
    faults = FaultValues(
        latency=0.1, latency_jitter=1.0, transient=0.3, drop_after=0.2, hang=0.1, limit=ROUNDS
    )

    first, same, other = [
        [bench.decide() for _ in range(ROUNDS)] for bench in (Bench(faults, seed=seed) for seed in (3, 3, 4))
    ]

    assert first == same
    assert first != other


def test_a_share_is_met_over_many_requests() -> None:
    bench = Bench(FaultValues(transient=0.25, limit=2000))

    codes = Counter(bench.decide().code for _ in range(2000))

    assert 400 < codes[10002] < 600


def test_a_latency_lies_within_its_jitter_and_around_its_mean() -> None:
    bench = Bench(FaultValues(latency=0.1, latency_jitter=0.5, limit=ROUNDS))

    latencies = [bench.decide().answer_after for _ in range(ROUNDS)]

    assert 0.05 <= min(latencies) < 0.06
    assert 0.14 < max(latencies) <= 0.15
    assert sum(latencies) / ROUNDS == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize(
    ("point", "least", "most"), [("read", 0.0, 0.0), ("answer", 0.1, 0.1), ("random", 0.0, 0.1)]
)
def test_a_request_takes_effect_at_the_chosen_moment(point: str, least: float, most: float) -> None:
    bench = Bench(FaultValues(latency=0.1, apply_point=point, limit=ROUNDS))

    moments = [bench.decide().apply_after for _ in range(ROUNDS)]

    assert all(least <= moment <= most for moment in moments)
    assert (len(set(moments)) > 1) == (point == "random")


def test_too_many_bad_signatures_lock_the_app_for_a_minute() -> None:
    bench = Bench(FaultValues(lock_after=3))
    for _ in range(3):
        bench.decide(query=a_query(usersig="x"))

    codes = []
    for bench.now in (100.0, 159.9, 160.0):
        codes.append(bench.decide().code)

    assert codes == [70050, 70050, 0]


def test_bad_signatures_more_than_a_minute_apart_lock_nothing() -> None:
    bench = Bench(FaultValues(lock_after=2))
    for bench.now in (0.0, 61.0, 122.0):
        bench.decide(query=a_query(usersig="x"))

    assert bench.decide().code == 0


def test_an_outage_precedes_everything_else() -> None:
    bench = Bench(FaultValues(outage="502", limit=0, wrong_key=True))

    assert bench.decide().http_status == 502


def test_no_reaction_shows_a_signature() -> None:
    usersig = signed()

    reactions = [Bench().decide(query=a_query(usersig=given)) for given in (usersig, usersig[:-4])]

    assert usersig[:20] not in repr(reactions)
    assert usersig[:20] not in repr(a_request())
