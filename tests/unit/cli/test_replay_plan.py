# Which dead letters are sent again: in order, once, and never past a later command of the same user.

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from msgspec import structs

from tests.unit.cli.test_undo_plan import DECODER, NOW, view
from worker.broker.dead_letter_reader import DeadLetterRecord
from worker.cli.dead_letter_view import format_letter, format_whole, letter_of, report
from worker.cli.dead_letters import _newest
from worker.cli.filters import Filters
from worker.cli.last_command_per_user import CommandMoment
from worker.cli.replay_plan import ReplayCandidate, ReplayPlanner, ReplayRefusal
from worker.domain.contract.command_decoding import Command
from worker.domain.contract.dead_letter_decoding import NotADeadLetter, ParsedDeadLetter
from worker.domain.contract.timestamps import rfc3339

if TYPE_CHECKING:
    from worker.cli.dead_letter_view import DeadLetterView


def found(
    offset: int, *users: str, code: str = "10010", topic: str = "commands", **changes: Any
) -> DeadLetterRecord:
    fields = {
        "command_id": f"c-{offset}",
        "action": "group.ban_group_member",
        "group_id": "g",
        "user_ids": users or ("a",),
        "duration": 60,
        "issuer": "detector",
    }
    omitted = changes.pop("omitted", ())
    given = {name: value for name, value in (fields | changes).items() if value is not None}
    value = json.dumps(given).encode()
    letter = ParsedDeadLetter(
        b"g", value, (), code, "no such group", topic, 0, offset, f"{topic}-0-{offset}", omitted
    )
    at = round((NOW - 1_000 + offset) * 1000)
    return DeadLetterRecord("letters", 1, offset, at, b"g", value, [("x-error-code", code.encode())], letter)


def letter(offset: int, *users: str, **changes: Any) -> DeadLetterView:
    return letter_of(found(offset, *users, **changes), DECODER)


def candidate(dead_letter: DeadLetterView) -> ReplayCandidate:
    found = dead_letter.found
    return ReplayCandidate(found.place, found.timestamp, dead_letter.original, dead_letter.read)


def planner_of(*letters: DeadLetterView, forced: frozenset[ReplayRefusal] = frozenset()) -> ReplayPlanner:
    return ReplayPlanner([candidate(each) for each in letters], "commands", NOW, forced)


def sent(planner: ReplayPlanner) -> list[str]:
    return [each.place for each in planner.finish()]


def refusals(planner: ReplayPlanner) -> list[ReplayRefusal | None]:
    planner.finish()
    return [each.refusal for each in planner.candidates]


def test_letters_go_in_the_order_in_which_their_commands_came() -> None:
    assert sent(planner_of(letter(9), letter(2), letter(10))) == [
        "letters-1-2",
        "letters-1-9",
        "letters-1-10",
    ]


@pytest.mark.parametrize("action", ["group.unban_group_member", "group.ban_group_member"])
def test_a_letter_does_not_overtake_a_later_command_of_its_user(action: str) -> None:
    planner, allowing = (
        planner_of(letter(2, "a"), letter(3, "b"), forced=forced)
        for forced in (frozenset[ReplayRefusal](), frozenset({ReplayRefusal.OVERTAKES}))
    )
    for each in (planner, allowing):
        each.see_outcome(view(5, "a", action=action))

    assert refusals(planner) == [ReplayRefusal.OVERTAKES, None]
    assert planner.candidates[0].detail == "c-5 (commands-0-5)"
    assert sent(allowing) == ["letters-1-2", "letters-1-3"]


def test_a_letter_does_not_overtake_a_command_that_waits() -> None:
    planner = planner_of(letter(2, "a"))
    waiting = letter(8, "a", command_id="new").read
    assert isinstance(waiting, Command)

    planner.see_waiting(waiting, CommandMoment("commands", 0, 8, NOW))

    assert refusals(planner) == [ReplayRefusal.OVERTAKES]
    assert planner.candidates[0].detail == "new (commands-0-8), which waits"


def test_a_command_whose_outcome_lists_no_users_may_have_been_for_any_of_its_room() -> None:
    planner = planner_of(letter(2, "a"), letter(7, "a"), letter(3, "a", group_id="h"))

    for offset, group, status in ((5, "g", "succeeded"), (4, "g", "duplicate"), (9, "h", "failed")):
        cut = view(offset, group_id=group, command_id=f"cut-{offset}", results_omitted=3)
        cut.status = status
        planner.see_outcome(cut)

    assert refusals(planner) == [ReplayRefusal.OVERTAKES, None, None]
    assert planner.candidates[0].detail == "cut-5 (commands-0-5), which does not list its users"


@pytest.mark.parametrize("status", ["failed", "cancelled", "expired"])
def test_what_changed_nothing_is_not_overtaken(status: str) -> None:
    planner = planner_of(letter(2, "a"))

    planner.see_outcome(view(5, "a", status=status))
    planner.see_outcome(view(1, "a"))

    assert refusals(planner) == [None]


@pytest.mark.parametrize("status", ["succeeded", "failed", "duplicate"])
def test_a_command_that_came_again_already_is_not_sent_once_more(status: str) -> None:
    """Also after a replay: the same replay given twice sends nothing the second time."""
    planner = planner_of(letter(2, "a"), letter(3, "b"))

    planner.see_outcome(
        view(9, "a", status="failed", command_id="c-2") if status == "failed" else view(9, command_id="c-2")
    )
    planner.see_outcome(view(3, "b", status="failed", command_id="c-3"))

    assert refusals(planner) == [ReplayRefusal.AGAIN, None]


@pytest.mark.parametrize("waits", [False, True])
def test_what_an_interrupted_replay_has_sent_does_not_hold_up_the_rest_of_the_user(waits: bool) -> None:
    """The same replay again sends the rest, which is behind what was sent; not what was before it."""
    planner = planner_of(letter(2, "a"), letter(3, "a"), letter(4, "a"), letter(5, "b"))

    copy = letter(3, "a").read
    assert isinstance(copy, Command)
    if waits:
        planner.see_waiting(copy, CommandMoment("commands", 0, 30, NOW))
    else:
        planner.see_outcome(view(30, "a", command_id="c-3"))

    assert refusals(planner) == [ReplayRefusal.OVERTAKES, ReplayRefusal.AGAIN, None, None]


def test_a_copy_that_lists_no_users_does_not_hold_up_the_rest_of_its_room() -> None:
    planner = planner_of(letter(2, "a"), letter(3, "a"), letter(4, "a"))

    planner.see_outcome(view(30, command_id="c-3", results_omitted=3))

    assert refusals(planner) == [ReplayRefusal.OVERTAKES, ReplayRefusal.AGAIN, None]
    assert planner.candidates[0].detail == "c-3 (commands-0-3), which does not list its users"


def test_a_copy_that_failed_for_one_user_does_not_hold_up_the_rest_of_the_others() -> None:
    """It has a new letter, and still stands where its command first came."""
    again = structs.replace(letter(20, "a", "b"), read=letter(2, "a", "b").read)
    planner = planner_of(letter(2, "a", "b"), letter(3, "a"), again)

    planner.see_outcome(view(20, "a", command_id="c-2", status="partially_succeeded"))

    assert sent(planner) == ["letters-1-20", "letters-1-3"]


def test_what_failed_once_more_does_not_overtake_what_was_sent_behind_it() -> None:
    """A ban and the unban after it were replayed, and the ban failed again: sent now, it would undo the unban."""
    again = structs.replace(letter(20, "a"), read=letter(2, "a").read)
    planner = planner_of(letter(2, "a"), letter(3, "a"), again)

    planner.see_outcome(view(20, "a", command_id="c-2", status="failed"))
    planner.see_outcome(view(21, "a", command_id="c-3"))

    assert refusals(planner) == [ReplayRefusal.AGAIN, ReplayRefusal.AGAIN, ReplayRefusal.OVERTAKES]


def test_what_failed_once_more_goes_before_what_came_behind_it() -> None:
    """A replay of a ban and the unban after it was interrupted, and the ban failed again: the unban went first."""
    again = structs.replace(letter(20, "a"), read=letter(2, "a").read)
    planner = planner_of(letter(2, "a"), letter(3, "a"), again)

    planner.see_outcome(view(20, "a", command_id="c-2", status="failed"))

    assert sent(planner) == ["letters-1-20", "letters-1-3"]


def test_a_copy_that_waits_is_a_copy() -> None:
    planner = planner_of(letter(2, "a"))
    copy = letter(2, "a").read
    assert isinstance(copy, Command)

    planner.see_waiting(copy, CommandMoment("commands", 0, 7, NOW))

    assert refusals(planner) == [ReplayRefusal.AGAIN]


def test_of_several_letters_of_one_command_the_last_is_sent() -> None:
    planner = planner_of(letter(2, command_id="x"), letter(5, command_id="x"))

    assert refusals(planner) == [ReplayRefusal.AGAIN, None]
    assert planner.candidates[0].detail == "its dead letter is letters-1-5"


def rejected_view(offset: int, command_id: str, code: str) -> Any:
    """The outcome of a rejected command."""
    seen = view(offset, command_id=command_id, error={"code": code})
    return structs.replace(seen, status="rejected")


def test_a_letter_under_anothers_id_is_never_sent_and_takes_no_others_place() -> None:
    """Forced, it would be rejected again each time; the letter of the command whose id it is goes, in its turn."""
    letters = (
        letter(2, command_id="x"),
        letter(5, command_id="x", code="command_id_reused"),
        letter(6),
    )
    planner = planner_of(*letters, forced=frozenset({ReplayRefusal.REJECTED}))
    planner.see_outcome(rejected_view(5, "x", "command_id_reused"))

    assert refusals(planner) == [None, ReplayRefusal.OTHERS_ID, None]
    assert sent(planner) == ["letters-1-2", "letters-1-6"]


def test_a_copy_that_was_rejected_again_is_not_sent_once_more() -> None:
    planner = planner_of(letter(2, command_id="x"), forced=frozenset({ReplayRefusal.REJECTED}))
    planner.see_outcome(rejected_view(9, "x", "protected_user"))

    assert refusals(planner) == [ReplayRefusal.AGAIN]


def test_a_rejected_slip_under_its_id_does_not_keep_a_failed_command_back() -> None:
    planner = planner_of(letter(2, command_id="x"))
    planner.see_outcome(rejected_view(9, "x", "missing_field"))

    assert sent(planner) == ["letters-1-2"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"topic": "elsewhere"}, ReplayRefusal.OTHER_TOPIC),
        ({"omitted": ("value",)}, ReplayRefusal.INCOMPLETE),
        ({"omitted": ("key",)}, ReplayRefusal.INCOMPLETE),
        ({"duration": None}, ReplayRefusal.REJECTED),
        ({"duration": None, "banned_until": rfc3339(NOW - 1)}, ReplayRefusal.OVER),
        ({"not_after": rfc3339(NOW - 1)}, ReplayRefusal.OVER),
    ],
    ids=str,
)
def test_what_cannot_succeed_is_not_sent(changes: dict[str, Any], why: ReplayRefusal) -> None:
    planner = planner_of(letter(2, **changes))

    assert refusals(planner) == [why]
    assert planner.candidates[0].detail
    assert planner.all_refused


def test_what_would_be_rejected_is_sent_if_it_must_be() -> None:
    planner = planner_of(letter(2, duration=None), forced=frozenset({ReplayRefusal.REJECTED}))

    assert sent(planner) == ["letters-1-2"]


def test_a_record_of_another_program_is_refused_with_a_reason() -> None:
    foreign = letter_of(
        DeadLetterRecord("letters", 0, 1, 0, None, b"?", [], NotADeadLetter("it has no header x-error-code")),
        DECODER,
    )

    assert refusals(planner_of(foreign)) == [ReplayRefusal.NO_LETTER]
    assert foreign.matches(Filters()) is True
    assert foreign.matches(Filters.of(issuer="detector")) is False
    assert "it has no header x-error-code" in format_letter(foreign)
    assert report(foreign, whole=False)["status"] == "no letter"


def test_few_letters_are_looked_for_by_their_bytes() -> None:
    assert planner_of(letter(2)).terms == [[b'"c-2"', b'"g"']]
    assert planner_of(*(letter(offset, group_id=f"g{offset}") for offset in range(40))).terms == []


@pytest.mark.parametrize(
    ("code", "status"), [("10010", "failed"), ("not_json", "rejected"), ("cancelled", "cancelled")]
)
def test_the_status_of_a_letter_follows_from_its_code(code: str, status: str) -> None:
    each = letter(2, code=code)

    assert each.status == status
    assert each.matches(Filters.of(status=status, error_code=code, issuer="detector", user="a", target="g"))
    assert not each.matches(Filters.of(status=status, user="b"))


@pytest.mark.parametrize("name", ["c-2", "commands-0-2", "letters-1-2"])
def test_a_letter_is_named_by_its_command_its_outcome_or_its_place(name: str) -> None:
    assert name in letter(2).names
    assert name not in letter(3).names


def test_a_letter_is_shown_whole_and_bounded() -> None:
    whole = format_whole(letter(2, reason="x" * 900))
    binary = letter_of(
        DeadLetterRecord(
            "letters", 0, 1, 0, b"\xff", b"\x1b[31m" + b"\xff" * 100_000, [], NotADeadLetter("none")
        ),
        DECODER,
    )

    assert '          "group_id": "g",' in whole
    assert "header      x-error-code: 10010" in whole
    assert "\x1b" not in format_whole(binary)
    assert len(format_whole(binary)) < 25_000
    assert report(binary, whole=True)["key"] == {"base64": "/w=="}


def test_of_letters_of_one_millisecond_the_one_with_the_higher_offset_is_newer() -> None:
    """Their places were compared as texts, in which 10 is before 9."""
    letters = [letter_of(structs.replace(found(offset), timestamp=0), DECODER) for offset in (9, 10, 100)]

    assert [each.found.offset for each in _newest(iter(letters), 2)] == [100, 10]


@pytest.mark.parametrize("milliseconds", [-1, 1_800_000_000_000_000])
def test_a_record_whose_timestamp_is_no_time_is_shown_without_one(milliseconds: int) -> None:
    """Some producers write microseconds, or nothing."""
    strange = letter_of(msgspec.structs.replace(found(1), timestamp=milliseconds), DECODER)

    assert "an unknown time" in format_letter(strange)
    assert "written_at" not in report(strange, whole=False)
