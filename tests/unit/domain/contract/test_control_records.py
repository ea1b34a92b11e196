# The records of the control topic: what is written can be read back, and a record that is not understood entirely changes nothing.

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from worker.domain.contract.control_records import (
    MAX_KEY_BYTES,
    MAX_VALUE_BYTES,
    NO_ORDER,
    ControlRecord,
    Order,
    OrderState,
    Scope,
    UnreadableControl,
    control_value,
    read_control,
    scope_fault,
)

ORDER = Order(OrderState.PAUSED, "it bans everybody", "alice", "2030-01-31T12:00:00Z")
TEXTS = st.none() | st.text(min_size=1, max_size=12).filter(lambda text: scope_fault("target", text) is None)


@given(TEXTS, st.sampled_from([None, "live.unban_member"]), TEXTS, TEXTS)
def test_what_is_written_is_read(
    app: str | None, action: str | None, issuer: str | None, target: str | None
) -> None:
    scope = Scope(app, action, issuer, target)
    assert read_control(scope.key, control_value(ORDER)) == ControlRecord(scope, ORDER)
    assert read_control(scope.key, None) == ControlRecord(scope, None)


def test_a_scope_has_one_key() -> None:
    assert Scope(app="main", action="live.unban_member", issuer="Ωx").key == (
        '{"action":"live.unban_member","app":"main","issuer":"Ωx"}'.encode()
    )
    assert Scope().key == b"{}"


def test_a_scope_reads_as_what_it_covers() -> None:
    assert str(Scope()) == "everything"
    assert str(Scope(app="main", issuer="x")) == "app main, issuer x"


@pytest.mark.parametrize(
    "key",
    [
        None,
        b"",
        b"[]",
        b"nonsense",
        b"\xff",
        b"null",
        b'{"issuer": "x"}',
        b'{"issuer":"x","app":"main"}',
        b'{"issuer":""}',
        b'{"issuer":null}',
        b'{"issuer":7}',
        b'{"isuer":"x"}',
        b'{"action":"group.ban"}',
        b'{"issuer":"' + b"x" * MAX_KEY_BYTES + b'"}',
        b"[" * 1000,
        '{"issuer":"x\u200b"}'.encode(),
        b'{"target":"x "}',
        b'{"target":"' + b"x" * 49 + b'"}',
    ],
)
def test_a_key_that_is_no_scope_changes_nothing(key: bytes | None) -> None:
    """An unknown field must not widen the scope to everything, and a second spelling of a key would outlive its tombstone."""
    assert isinstance(read_control(key, control_value(ORDER)), UnreadableControl)
    assert isinstance(read_control(key, None), UnreadableControl)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"paused",
        b"[]",
        b'{"state":"paused"}',
        b'{"state":"stopped","reason":"r","by":"b","at":"2030-01-31T12:00:00Z"}',
        b'{"state":"paused","reason":"r","by":"b","at":"now"}',
        b'{"state":"paused","reason":"r","by":"b","at":"2030-01-31T12:00:00Z","until":"soon"}',
        b'{"state":"paused","reason":"r","by":"b","at":"2030-01-31T12:00:00Z","untill":"2030-02-01T12:00:00Z"}',
        b'{"state":"paused","reason":"r","by":"b","at":"2030-01-31T12:00:00Z","state":"cancel"}',
        b' {"state":"paused","reason":"r","by":"b","at":"2030-01-31T12:00:00Z","\\u0073tate":"cancel"}',
        b'{"state":"paused","reason":"r","reason":"r","by":"b","at":"2030-01-31T12:00:00Z"}',
        b'{"state":"paused","reason":"' + b"r" * MAX_VALUE_BYTES + b'","by":"b","at":"2030-01-31T12:00:00Z"}',
    ],
)
def test_a_value_that_is_no_order_changes_nothing(value: bytes) -> None:
    """Of a misspelt end the pause would never end, and of two states the last was obeyed: a pause cancelled commands."""
    assert isinstance(read_control(b"{}", value), UnreadableControl)


@pytest.mark.parametrize("name", ["at", "until"])
def test_a_time_that_is_none_is_told_with_its_name(name: str) -> None:
    read = read_control(b"{}", control_value(structs.replace(ORDER, **{name: "soon"})))

    assert isinstance(read, UnreadableControl)
    assert read.reason.startswith(f"its value cannot be read: {name} is 'soon': it is not RFC 3339")


def test_a_scope_that_no_command_can_have_is_told_why() -> None:
    """An id that was pasted with what nobody sees: the pause was reported as done, and stopped nothing."""
    read = read_control(Scope(issuer="detector-7\u200b").key, control_value(ORDER))

    assert read == UnreadableControl(
        "its key is for no command: issuer holds the invisible character U+200B (ZERO WIDTH SPACE) at character 10: take it out"
    )


def test_only_a_person_may_order_what_ends_commands_that_may_be_right() -> None:
    assert {state: state.row.may_guard_order for state in OrderState} == {
        OrderState.CANCEL: False,
        OrderState.PAUSED: True,
        OrderState.SHADOW: True,
    }


@pytest.mark.parametrize("state", OrderState)
def test_an_order_lets_its_commands_wait_or_ends_them_or_simulates_them(state: OrderState) -> None:
    policy = state.row.policy

    assert [policy.waits, policy.ends_at_once, policy.simulates].count(True) == policy.withholds


def test_no_request_carries_the_commands_of_an_order() -> None:
    assert all(state.row.policy.withholds for state in OrderState)
    assert not NO_ORDER.withholds


def test_a_drain_waits_for_no_paused_command() -> None:
    assert [state for state in OrderState if not state.row.policy.holds_up_drain] == [OrderState.PAUSED]


def test_only_shadow_holds_for_a_command_to_its_end() -> None:
    assert [state for state in OrderState if state.row.policy.is_final] == [OrderState.SHADOW]
