# What a command asks for is one value, and whatever is made of it takes all of its parts: each field of a command is part of
# its effect, says whom it is about, or is named here as no part of either.

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest

from tests.unit.domain.engine_harness import EngineHarness
from tests.unit.domain.factories import give, open_command
from tests.unit.domain.samples import BAN, KICK, ONE_OF_EACH, SETTINGS, UPDATE, command, without
from worker.domain.contract.actions import ACTIONS
from worker.domain.contract.command_decoding import Command
from worker.domain.contract.command_wire_format import WireCommand
from worker.domain.contract.outcomes import ResultStatus
from worker.domain.contract.parameters import PARAMETERS, MemberInfo, without_reason
from worker.domain.progress.dedupe import fingerprint_of, known_of
from worker.domain.progress.outcome_building import outcome_of

if TYPE_CHECKING:
    from worker.domain.progress.open_commands import OpenCommand

WALL: Final = 1_800_000_000.0
ASKED: Final = {"action", "parameters", "banned_until", "effect"}
WHOM: Final = {"app", "target", "users"}
NEITHER: Final = {"command_id", "not_after", "issued_at", "issuer", "metadata", "traceparent", "urgent"}
"""Fields that a copy of a command, or one that shares its call, may have otherwise."""
UNTIL: Final = {**without(BAN, "duration"), "banned_until": "2030-06-01T00:00:00Z"}
OTHERWISE: Final[dict[str, tuple[dict[str, Any], object]]] = {
    "duration": (BAN, 60),
    "banned_until": (UNTIL, "2030-06-01T00:01:00Z"),
    "reason": (KICK, "another"),
    "member_info": (UPDATE, {"name_card": "jill"}),
}
"""Of each parameter: a command that has it, and another value."""
PARTS: Final[dict[str, object]] = {"name_card": "jill", "role": "Member", "custom_info": ""}
PAIRS: Final = [
    *(pytest.param(one, {**one, name: other}, id=name) for name, (one, other) in OTHERWISE.items()),
    *(
        pytest.param(UPDATE, {**UPDATE, "member_info": {**UPDATE["member_info"], name: value}}, id=name)
        for name, value in PARTS.items()
    ),
    pytest.param(without(BAN, "reason"), BAN, id="a reason, or none"),
]


def ended(fields: dict[str, Any]) -> OpenCommand:
    """The command with its outcome, all of whose users it was applied to."""
    made = open_command(fields)
    give(made, *[ResultStatus.APPLIED for _ in made.tasks])
    made.outcome = outcome_of(made, SETTINGS, 100.0, WALL)
    return made


def test_each_field_of_a_command_is_in_its_effect_or_named_as_no_part_of_it() -> None:
    assert not ASKED & WHOM & NEITHER
    assert {*ASKED, *WHOM, *NEITHER} == set(Command.__struct_fields__)


def test_each_parameter_that_is_written_is_tried_here() -> None:
    taken = {name for action in ACTIONS.values() for name in action.takes}

    assert set(PARAMETERS) == set(OTHERWISE) == taken
    assert set(PARTS) == set(MemberInfo.__struct_fields__)
    assert taken <= set(WireCommand.__struct_fields__)


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_a_parameter_is_part_of_all_that_is_made_of_a_command(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    """Of the effect, what the id stands for, the request and the outcome, and of what a new owner reads from the outcome."""
    first, second = command(one), command(other)

    assert first.effect != second.effect
    assert fingerprint_of(first) != fingerprint_of(second)
    assert first.body(["u"], WALL) != second.body(["u"], WALL)
    outcomes = [ended(each).outcome for each in (one, other)]
    assert outcomes[0] is not None
    assert outcomes[1] is not None
    assert outcomes[0].parameters != outcomes[1].parameters
    known = [known_of(msgspec.json.encode(each)) for each in outcomes]
    assert [each and each.fingerprint for each in known] == [fingerprint_of(first), fingerprint_of(second)]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_commands_that_differ_in_one_parameter_share_neither_call_nor_id(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    harness = EngineHarness()
    one, other = ({**each, "user_ids": ["u"]} for each in (one, other))
    harness.receive_together(one, {**other, "user_ids": ["v"], "command_id": "another"})
    assert [each.users for each in harness.out] == [["u"], ["v"]]

    harness.receive({**other, "command_id": one["command_id"]})
    assert harness.status(one["command_id"]) == "rejected"


@pytest.mark.parametrize("fields", ONE_OF_EACH, ids=lambda each: str(each["action"]))
def test_the_outcome_has_the_parameters_as_they_were_commanded(fields: dict[str, Any]) -> None:
    commanded = {name: value for name, value in fields.items() if name in PARAMETERS}

    assert msgspec.to_builtins(ended(fields).outcome)["parameters"] == commanded


def test_an_instant_is_the_same_however_it_is_written() -> None:
    again = command({**UNTIL, "banned_until": "2030-06-01T02:00:00+02:00"})

    assert again.effect == command(UNTIL).effect
    assert again.parameters != command(UNTIL).parameters


def test_the_end_of_a_ban_is_sent_as_the_seconds_until_then() -> None:
    until = command(UNTIL)
    assert until.banned_until is not None

    sent = msgspec.json.decode(until.body(["u"], until.banned_until - 59.5))
    assert sent["Duration"] == 60


@pytest.mark.parametrize("name", OTHERWISE)
def test_an_effect_without_its_reason_keeps_every_other_parameter(name: str) -> None:
    one, other = OTHERWISE[name]
    effects = {without_reason(command(each).effect) for each in (one, {**one, name: other})}

    assert len(effects) == (1 if name == "reason" else 2)
