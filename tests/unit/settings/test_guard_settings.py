# Guards in the settings: a wrong one is reported with its number, its field and what to write instead.

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.settings.environment import load, minimal, problems
from worker.domain.contract.control_records import OrderState, Scope
from worker.runtime.options_from_settings import kafka_options

if TYPE_CHECKING:
    from collections.abc import Mapping

GUARD = {"scope": {"issuer": "*"}, "members": 500, "per_seconds": 60, "then": "paused"}


def remedy(guard: object, **sections: Any) -> str:
    """The one thing that is wrong with a guard."""
    (problem,) = problems(minimal(guards=[guard], **sections)).values()
    return str(problem)


def test_a_guard_is_read_from_a_file_and_from_a_variable() -> None:
    in_file = load(minimal(guards=[GUARD]))
    in_variable = load(
        minimal(),
        {
            "WORKER_GUARDS": '[{"scope": {"issuer": "*"}, "members": 500, "per_seconds": 60, "then": "paused"}]'
        },
    )

    (guard,) = in_file.guards
    assert (guard.scope, guard.members, guard.per_seconds) == (Scope(issuer="*"), 500, 60)
    assert guard.then is OrderState.PAUSED
    assert in_variable.guards == in_file.guards


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"scope": {"isuer": "*"}}, "guard 1: scope has no 'isuer': did you mean issuer?"),
        ({"scope": {"zone": "u"}}, "it has app, action, issuer, target"),
        ({"scope": {"issuer": "*", "target": "*"}}, 'one field may be "*", and issuer and target are'),
        ({"scope": {"issuer": ""}}, "scope.issuer is a text of 1 to 256 bytes"),
        ({"scope": {"target": 7}}, "scope.target is a text of 1 to 256 bytes; quote a number"),
        ({"scope": "issuer"}, "scope is a mapping of any of app, action, issuer, target"),
        ({"scope": {"action": "group.ban"}}, "did you mean group.ban_group_member?"),
        ({"scope": {"action": "dance"}}, "there are group.ban_group_member"),
        ({"then": "cancel"}, "then is paused or shadow; to cancel is a person's decision"),
        ({"then": "stop"}, "then is paused or shadow"),
        ({"then": ["paused"]}, "then is paused or shadow"),
        ({"then": {"state": "paused"}}, "then is paused or shadow"),
        ({"then": None}, "then is paused or shadow"),
        ({"scope": {"issuer": ["x"]}}, "scope.issuer is a text of 1 to 256 bytes"),
        ({"scope": {"action": {"x": 1}}}, "scope.action is a text of 1 to 256 bytes"),
        ({"members": [100]}, "members is a whole number from 1"),
        ({"members": 10**400}, "members is a whole number from 1"),
        ({"members": 0}, "members is a whole number from 1"),
        ({"members": 1.5}, "members is a whole number from 1"),
        ({"members": True}, "members is a whole number from 1"),
        ({"per_seconds": 0}, "per_seconds is a number from 1 to 3,600"),
        ({"per_seconds": 1e-323}, "per_seconds is a number from 1 to 3,600"),
        ({"per_seconds": float("nan")}, "per_seconds is a number from 1 to 3,600"),
        ({"per_seconds": 3601}, "per_seconds is a number from 1 to 3,600"),
        ({"per_seconds": "60"}, "per_seconds is a number from 1 to 3,600"),
        ({"per_secs": 60}, "guard 1 has no 'per_secs': did you mean per_seconds?"),
        ({"scope": {"issuer": "detector\u200b"}}, "scope.issuer holds the invisible character U+200B"),
        ({"scope": {"target": "g" * 49}}, "scope.target has 49 bytes in UTF-8, and 48 are allowed"),
        ({"scope": {"target": "g "}}, "scope.target ends with a blank"),
    ],
)
def test_what_is_wrong_with_a_guard_is_said_with_what_to_write(
    change: Mapping[str, object], sentence: str
) -> None:
    assert sentence in remedy({**GUARD, **change})


def test_everything_that_is_wrong_with_the_guards_is_said_at_once() -> None:
    wrong = {"scope": {"issuer": 5}, "members": 0, "per_seconds": "1m", "then": "stop"}

    (problem,) = problems(minimal(guards=[wrong, 7, GUARD, {**GUARD, "then": "cancel"}])).values()

    parts = (
        "guard 1: scope.issuer",
        "guard 1: members",
        "guard 1: per_seconds",
        "guard 1: then",
        "guard 2 is",
        "guard 4: then",
    )
    assert [part for part in parts if part not in problem.remedy] == []


def test_a_guard_that_follows_in_a_list_hides_no_other_problem() -> None:
    """A list has no hash: looking for it among what may follow ended in a traceback, and nothing else was reported."""
    found = problems(minimal(guards=[GUARD | {"then": ["paused"]}], log={"level": "loud"}))

    assert set(found) == {"guards", "log.level"}
    assert set(problems(minimal(log={"level": "loud"}), {"WORKER_GUARDS": json.dumps([GUARD | {"then": []}])})) == set(found)  # fmt: skip


@pytest.mark.parametrize("guard", [{"x" * 50_000: 1}, GUARD | {"scope": {"x" * 50_000: "y"}}])
def test_a_name_of_a_guard_that_is_a_megabyte_is_cut(guard: dict[str, object]) -> None:
    assert len(remedy(guard)) < 1_000


@pytest.mark.parametrize("guard", ["all", 7, None, []])
def test_what_is_no_guard_at_all_is_refused(guard: object) -> None:
    assert "guard 1 is no mapping" in remedy(guard)


@pytest.mark.parametrize("missing", ["scope", "members", "per_seconds", "then"])
def test_what_a_guard_lacks_is_named(missing: str) -> None:
    guard = {name: value for name, value in GUARD.items() if name != missing}

    assert f"guard 1 has no {missing}" in remedy(guard)


@pytest.mark.parametrize("guards", ["all", {"scope": {}}, 3])
def test_what_is_no_list_is_refused(guards: object) -> None:
    (problem,) = problems(minimal(guards=guards)).values()

    assert problem.name == "guards"


def test_more_guards_than_can_be_looked_at_for_each_command_are_refused() -> None:
    (problem,) = problems(minimal(guards=[GUARD] * 21)).values()

    assert "at most 20 guards, and there are 21" in problem.remedy


def test_a_guard_that_one_full_call_would_trip_is_refused() -> None:
    assert "give at least 20" in remedy({**GUARD, "members": 19})
    assert problems(minimal(guards=[{**GUARD, "members": 20}])) == {}


def test_an_action_of_one_member_a_call_may_have_a_lower_limit() -> None:
    guard = {**GUARD, "members": 1, "scope": {"action": "room.update_room_member_info"}}

    assert problems(minimal(guards=[guard])) == {}


@pytest.mark.parametrize(
    ("scope", "most"),
    [
        ({"action": "group.ban_group_member"}, 200 * 20 * 60),
        ({"action": "room.update_room_member_info", "issuer": "*"}, 200 * 60),
        ({"action": "*"}, 200 * 20 * 60),
        ({"issuer": "*"}, (4 * 200 * 20 + 200) * 60),
    ],
)
def test_a_guard_that_the_quota_keeps_from_tripping_is_refused(scope: dict[str, str], most: int) -> None:
    at_most = {**GUARD, "scope": scope, "members": most}

    assert problems(minimal(guards=[at_most])) == {}
    assert f"give at most {most:,}" in remedy({**at_most, "members": most + 1})


def test_the_quota_of_the_endpoint_itself_counts() -> None:
    limits = {"per_endpoint": {"group_open_http_svc/ban_group_member": 400}}
    guard = {**GUARD, "scope": {"action": "group.ban_group_member"}, "members": 400 * 20 * 60}

    assert problems(minimal(guards=[guard], limits=limits)) == {}
    assert "give at most 480,000" in remedy({**guard, "members": 480_001}, limits=limits)


def test_a_guard_needs_a_topic_to_write_to() -> None:
    found = problems(minimal(guards=[GUARD], kafka={"control_topic": None}))

    assert "guards write what they decide to it" in found["kafka.control_topic"].remedy


def test_an_app_that_is_not_configured_is_named_with_the_one_that_was_meant() -> None:
    assert "did you mean main?" in remedy({**GUARD, "scope": {"app": "mian"}})
    assert problems(minimal(guards=[{**GUARD, "scope": {"app": "*"}}])) == {}


@pytest.mark.parametrize("value", ["", None])
def test_an_empty_control_topic_switches_the_feature_off(value: str | None) -> None:
    settings = load(minimal(kafka={"control_topic": value}))

    assert kafka_options(settings, "name").control_topic is None
    assert load(minimal(), {"WORKER_KAFKA__CONTROL_TOPIC": ""}).kafka.control_topic is None
    assert load(minimal()).kafka.control_topic == "moderation.control"


def test_the_control_topic_is_none_of_the_other_topics() -> None:
    found = problems(minimal(kafka={"control_topic": "moderation.outcomes"}))

    assert "kafka.outcome_topic is the same" in found["kafka.control_topic"].remedy
