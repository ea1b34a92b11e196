# Which faults are in force: limits, times, refusals.

from __future__ import annotations

import pytest

from tests.unit.testing.simulator.calls import BAN, KICK
from worker.testing.simulator.fault_store import FaultStore, shuts_itself_out
from worker.testing.simulator.faults import ROWS, FaultValues, FaultValueType, is_chosen, problems_of, read


def test_unset_faults_are_as_at_the_start() -> None:
    assert FaultStore(FaultValues(latency=0.5)).at(BAN, "g1", 0.0) == FaultValues(latency=0.5)


def test_the_narrowest_limit_wins_in_whatever_order_they_are_set() -> None:
    store = FaultStore(FaultValues())

    store.put({"answer_code": 4, "endpoint": BAN, "target": "g1"}, 0.0)
    store.put({"answer_code": 3, "target": "g1"}, 0.0)
    store.put({"answer_code": 2, "endpoint": BAN}, 0.0)
    store.put({"answer_code": 1}, 0.0)

    found = [
        store.at(*scope, 0.0).answer_code for scope in ((BAN, "g1"), (KICK, "g1"), (BAN, "g2"), (KICK, "g2"))
    ]
    assert found == [4, 3, 2, 1]


def test_a_temporary_fault_reverts_to_the_value_before_it() -> None:
    store = FaultStore(FaultValues())
    store.put({"latency": 1.0}, 0.0)

    store.put({"latency": 2.0, "for_seconds": 10}, 5.0)

    assert [store.at(BAN, "g1", now).latency for now in (5.0, 14.9, 15.0, 99.0)] == [2.0, 2.0, 1.0, 1.0]


def test_a_lasting_value_replaces_a_temporary_one() -> None:
    store = FaultStore(FaultValues())
    store.put({"outage": "hang", "for_seconds": 60}, 0.0)

    store.put({"outage": "none"}, 1.0)

    assert store.at(None, None, 2.0).outage == "none"
    assert store.next_change(2.0) is None


def test_null_removes_what_the_same_limit_had_set() -> None:
    store = FaultStore(FaultValues())
    store.put({"outage": "502", "latency": 1.0}, 0.0)
    store.put({"outage": "hang", "target": "g1"}, 0.0)

    store.put({"outage": None, "target": "g1"}, 0.0)
    store.put({"latency": None}, 0.0)

    assert store.at(BAN, "g1", 0.0) == FaultValues(outage="502")
    assert [rule["fault"] for rule in store.rules(0.0)] == ["outage"]


def test_an_expired_fault_is_no_longer_shown() -> None:
    store = FaultStore(FaultValues())
    store.put({"outage": "502", "target": "g1", "for_seconds": 10}, 0.0)

    shown = [(rule["target"], rule["seconds_left"]) for rule in store.rules(4.0)]

    assert shown == [("g1", 6.0)]
    assert store.rules(10.0) == []


def test_clearing_returns_to_the_faults_of_the_start() -> None:
    store = FaultStore(FaultValues(latency=0.5))
    store.put({"latency": 9.0, "endpoint": BAN}, 0.0)

    store.clear()

    assert store.at(BAN, "g1", 0.0) == FaultValues(latency=0.5)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"outge": "502"}, "outge"),
        ({"outage": "503"}, "outage"),
        ({"transient": 1.1}, "transient"),
        ({"transient": float("nan")}, "transient"),
        ({"transient": True}, "transient"),
        ({"limit": 1.5}, "limit"),
        ({"limit": -1}, "limit"),
        ({"latency": "1"}, "latency"),
        ({"latency": 1e9}, "latency"),
        ({"switch_off": 1}, "switch_off"),
        ({"bad_user_list": "u1"}, "bad_user_list"),
        ({"bad_user_list": [1]}, "bad_user_list"),
        ({"transient_codes": [True]}, "transient_codes"),
        ({"latency": 1, "endpoint": "ban_group_member"}, "endpoint"),
        ({"latency": 1, "endpoint": []}, "endpoint"),
        ({"latency": 1, "target": 7}, "target"),
        ({"latency": 1, "for_seconds": 0}, "for_seconds"),
        ({"latency": 1, "for_seconds": "x"}, "for_seconds"),
        ({"target": "g1"}, "faults"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name_with_a_remedy(given: dict[str, object], field: str) -> None:
    (problem,) = FaultStore(FaultValues()).put(given, 0.0)

    assert problem.field == field
    assert problem.remedy


def test_all_is_set_or_nothing() -> None:
    store = FaultStore(FaultValues())

    problems = store.put({"latency": 1.0, "outage": "no", "limit": -1}, 0.0)

    assert [problem.field for problem in problems] == ["outage", "limit"]
    assert store.at(BAN, "g1", 0.0) == FaultValues()


def test_refusing_connections_without_an_end_is_refused() -> None:
    assert shuts_itself_out({"outage": "refuse"})
    assert not shuts_itself_out({"outage": "refuse", "for_seconds": 1})
    assert not shuts_itself_out({"outage": "refuse", "endpoint": BAN})
    assert not shuts_itself_out({"outage": "502"})


@pytest.mark.parametrize("row", ROWS.values(), ids=str)
def test_every_row_takes_its_own_default_and_says_what_it_means(row: object) -> None:
    assert row in ROWS.values()
    name = next(name for name, other in ROWS.items() if other is row)

    assert read(name, ROWS[name].default) == (ROWS[name].default, None)
    assert ROWS[name].meaning.endswith(".")
    assert bool(ROWS[name].choices) == (ROWS[name].kind is FaultValueType.CHOICE)


def test_values_that_a_program_has_set_are_checked_as_well() -> None:
    assert [problem.field for problem in problems_of(FaultValues(transient=2.0, outage="x"))] == [
        "transient",
        "outage",
    ]
    assert problems_of(FaultValues()) == []


def test_a_share_of_users_is_chosen_by_the_seed_alone() -> None:
    users = [f"user-{number}" for number in range(10_000)]

    chosen = {user for user in users if is_chosen(user, 0.02, 7, "bad_users")}

    assert 150 < len(chosen) < 250
    assert chosen == {user for user in users if is_chosen(user, 0.02, 7, "bad_users")}
    assert chosen != {user for user in users if is_chosen(user, 0.02, 8, "bad_users")}
    assert chosen != {user for user in users if is_chosen(user, 0.02, 7, "missing_users")}
    assert chosen < {user for user in users if is_chosen(user, 0.1, 7, "bad_users")}
