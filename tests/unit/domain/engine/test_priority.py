# Urgent commands: they go before what waits, take an earlier command of the same user along, and never take everything.

from __future__ import annotations

import pytest

from tests.unit.domain.engine_harness import EngineHarness, ban, kick, unban

URGENT = "urgent"


def backlog(harness: EngineHarness, number: int = 10) -> None:
    """This many rooms wait, and one permit is out."""
    harness.receive_together(*(ban("u", group=f"g{place}") for place in range(number)))


def order_of(harness: EngineHarness, calls: int) -> list[str]:
    """The targets of the next calls."""
    harness.sent.clear()
    while len(harness.sent) < calls:
        harness.ok()
        harness.wait(1.0)
    return [request.target for request in harness.sent[:calls]]


def slow() -> EngineHarness:
    """One permit a second."""
    return EngineHarness(default_calls_per_second=1, overdue_after=60.0)


def test_an_urgent_command_goes_before_what_waits() -> None:
    harness = slow()
    backlog(harness)

    harness.receive(ban("u", group="now", priority=URGENT))

    assert order_of(harness, 2) == ["now", "g1"]


def test_a_normal_priority_is_the_default_said_aloud() -> None:
    harness = slow()
    backlog(harness, 2)

    harness.receive(ban("u", group="later", priority="normal"))

    assert order_of(harness, 2) == ["g1", "later"]


def test_urgent_ones_take_no_more_than_their_share_while_others_wait() -> None:
    harness = slow()
    backlog(harness)
    harness.receive_together(*(ban("u", group=f"now{place}", priority=URGENT) for place in range(10)))

    assert order_of(harness, 6) == ["now0", "g1", "now1", "g2", "now2", "g3"]


@pytest.mark.parametrize(("share", "urgent"), [(0.25, 2), (0.75, 6)])
def test_the_share_is_a_setting(share: float, urgent: int) -> None:
    harness = EngineHarness(default_calls_per_second=1, overdue_after=60.0, urgent_share=share)
    backlog(harness)
    harness.receive_together(*(ban("u", group=f"now{place}", priority=URGENT) for place in range(10)))

    assert sum(target.startswith("now") for target in order_of(harness, 8)) == urgent


def test_where_nothing_else_waits_urgent_ones_have_all() -> None:
    harness = slow()
    harness.receive_together(*(ban("u", group=f"now{place}", priority=URGENT) for place in range(4)))

    assert order_of(harness, 3) == ["now1", "now2", "now3"]


def test_what_urgent_ones_had_while_nothing_else_waited_is_not_held_against_them() -> None:
    harness = slow()
    harness.receive_together(*(ban("u", group=f"now{place}", priority=URGENT) for place in range(4)))
    backlog(harness, 2)

    assert order_of(harness, 2) == ["now1", "g0"]


def test_users_of_an_urgent_command_share_a_call() -> None:
    harness = slow()
    backlog(harness, 2)
    harness.receive(*(ban(f"u{place}", group="now", priority=URGENT) for place in range(3)))

    harness.ok()
    harness.wait(1.0)

    assert harness.out[0].users == ["u0", "u1", "u2"]


def test_an_earlier_command_of_the_same_user_comes_along_and_goes_first() -> None:
    """Order per user holds whatever is urgent."""
    harness = slow()
    backlog(harness)
    harness.receive(kick("v", room="r"))
    harness.receive(kick("v", room="r", reason="another", priority=URGENT), kick("w", room="r"))

    for _ in range(12):
        harness.ok()
        harness.wait(1.0)

    kicks = [(request.target, request.users) for request in harness.sent if request.target == "r"]
    assert kicks[0] == ("r", ["v"])


def test_an_earlier_command_that_waits_for_a_permit_is_hurried() -> None:
    harness = slow()
    backlog(harness)
    harness.receive(ban("v", group="mine", duration=60))
    harness.receive(unban("v", group="mine", priority=URGENT, not_after="2031-01-01T00:00:00Z"))

    assert order_of(harness, 1) == ["mine"]


def test_a_second_urgent_command_hurries_what_came_between_in_the_order_of_receipt() -> None:
    harness = slow()
    backlog(harness)
    for reason, priority in (("a", URGENT), ("b", "normal"), ("c", URGENT)):
        harness.receive(kick("v", room="r", reason=reason, priority=priority))

    for _ in range(12):
        harness.ok()
        harness.wait(1.0)

    kicks = [place for place, request in enumerate(harness.sent) if request.target == "r"]
    assert [harness.sent[place].body["Reason"] for place in kicks] == ["a", "b", "c"]
    assert kicks[-1] < len(harness.sent) - 1  # before the last of those that came first


def test_what_waits_for_an_answer_to_an_earlier_command_goes_as_soon_as_it_is_here() -> None:
    harness = slow()
    harness.receive(ban("v", group="mine", duration=60))
    backlog(harness)
    harness.receive(unban("v", group="mine", priority=URGENT, not_after="2031-01-01T00:00:00Z"))

    assert order_of(harness, 1) == ["mine"]


def test_a_repeat_that_is_urgent_hurries_the_one_on_whose_call_it_is() -> None:
    harness = slow()
    backlog(harness)
    harness.receive(ban("v", group="mine"))
    harness.receive(ban("v", group="mine", priority=URGENT))

    assert order_of(harness, 1) == ["mine"]


def test_what_is_urgent_is_no_part_of_what_an_id_stands_for() -> None:
    """A producer that sends a command once more, as urgent, has not misused its id."""
    harness = EngineHarness()
    harness.receive(ban("u", command_id="c"))
    harness.ok()
    harness.publish()

    harness.receive(ban("u", command_id="c", priority=URGENT))
    harness.publish()

    assert harness.published.outcomes[-1].status.value == "duplicate"


@pytest.mark.parametrize(
    ("priority", "code"),
    [("URGENT", "out_of_range"), ("", "out_of_range"), (1, "wrong_type"), (None, "wrong_type")],
)
def test_another_priority_is_refused_by_name(priority: object, code: str) -> None:
    harness = EngineHarness()

    harness.receive(ban("u", priority=priority))
    harness.publish()

    error = harness.published.outcomes[0].error
    assert error is not None
    assert (error.code, error.field) == (code, "priority")


def test_a_right_priority_beside_a_wrong_field_is_not_to_blame() -> None:
    harness = EngineHarness()

    harness.receive(ban("u", priority=URGENT, issuer=7))
    harness.publish()

    error = harness.published.outcomes[0].error
    assert error is not None
    assert (error.field, error.also) == ("issuer", ())


def test_a_target_that_hangs_holds_its_urgent_commands_too() -> None:
    """A bound of a room is there for the others."""
    harness = EngineHarness(default_calls_per_second=16)
    harness.receive_together(*(kick("u", room="r", reason=f"{place}") for place in range(8)))
    assert len(harness.out) == 1
    harness.receive_together(
        *(kick(f"v{place}", room="r", reason=f"{place}", priority=URGENT) for place in range(4))
    )

    assert len(harness.out) == 2


def test_a_suspect_that_rests_is_hurried_and_goes_on_resting() -> None:
    harness = EngineHarness(default_calls_per_second=50)
    harness.receive_together(kick("bad", "b", "c", "d", "e", "f", room="r"))
    harness.code(harness.request(), 10019)
    harness.code(harness.request(), 10019)
    harness.receive(kick("f", room="r", reason="another", priority=URGENT))

    while harness.out:
        request = harness.out[0]
        if "bad" in request.users:
            harness.code(request, 10019)
        else:
            harness.ok(request)
    harness.wait(3.0)
    harness.publish()

    assert [each.status.value for each in harness.published.outcomes] == ["partially_succeeded", "succeeded"]
