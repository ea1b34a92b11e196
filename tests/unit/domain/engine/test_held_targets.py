# No permission: the target's own fault, or the configuration's. It is held until another target shows which, and goes on by itself.
#
# When a probe may go is proven in test_breaker.py, what stops a whole app in test_halts.py.

from __future__ import annotations

from tests.unit.domain.engine_harness import Desk, ban, kick, unban
from tests.unit.domain.factories import steps

FORBIDDEN = 10007


def refuse(desk: Desk, target: str) -> None:
    """
    This target's ban is refused for want of permission.
    """
    desk.code(desk.request("ban", target), FORBIDDEN, "no permission")


def held(*targets: str) -> Desk:
    """
    A desk on which these groups were refused for want of permission.
    """
    desk = Desk()
    desk.receive(*(ban("u", group=target, command_id=target) for target in targets))
    for target in targets:
        refuse(desk, target)
    return desk


def test_a_target_without_permission_is_held_and_others_go_on() -> None:
    desk = held("a")
    desk.receive(ban("v", group="a"), ban("v", group="b"))

    assert [each.target for each in desk.out] == ["b"]
    assert desk.engine.halts == []
    assert desk.is_open("a")


def test_a_success_of_another_target_sent_after_it_makes_it_the_targets_fault() -> None:
    desk = held("a")
    desk.wait(0.25)
    desk.receive(ban("v", group="b"))
    desk.ok()

    assert [each.target for each in desk.out] == ["a"], "it is tried once more"
    refuse(desk, "a")
    assert desk.status("a") == "failed"
    error = desk.outcome("a").error
    assert error is not None
    assert error.code == str(FORBIDDEN)


def test_what_was_fixed_in_the_meantime_costs_nobody() -> None:
    desk = held("a")
    desk.wait(0.25)
    desk.receive(ban("v", group="b"))
    desk.ok()
    desk.ok(desk.request(target="a"))

    assert desk.status("a") == "succeeded"


def test_a_success_that_was_sent_before_the_refusal_proves_nothing() -> None:
    desk = Desk()
    desk.receive(ban("v", group="b"), ban("u", group="a", command_id="a"))
    desk.wait(0.25)
    refuse(desk, "a")
    desk.ok(desk.request(target="b"))

    assert desk.out == []
    assert desk.is_open("a")


def test_a_success_of_another_endpoint_proves_nothing() -> None:
    desk = held("a")
    desk.wait(0.25)
    desk.receive(kick("v"))
    desk.ok()

    assert desk.out == []


def test_a_success_of_the_held_target_itself_lets_it_go_on() -> None:
    desk = Desk()
    desk.receive(ban("u", group="a", command_id="c"), ban("v", group="a"))
    refused, good = desk.out
    desk.code(refused, FORBIDDEN)
    assert desk.out == [good]
    desk.ok(good)

    assert [each.users for each in desk.out] == [["u"]]


def test_two_targets_without_permission_halt_the_endpoint() -> None:
    desk = held("a", "b")

    (halt,) = desk.engine.halts
    assert halt.endpoint == "group_open_http_svc/ban_group_member"
    assert (halt.error_code, halt.reason) == (FORBIDDEN, "no permission on 2 targets (10007: no permission)")
    assert desk.events() == ["endpoint.halted"]
    desk.receive(kick("v"))
    assert [each.action for each in desk.out] == ["kick"]


def test_one_target_without_permission_for_five_seconds_halts_the_endpoint() -> None:
    desk = held("a")
    desk.wait(4.75)
    assert desk.engine.halts == []
    desk.wait(0.25)

    assert len(desk.engine.halts) == 1
    assert desk.publish() == []


def test_a_target_that_was_not_refused_yet_is_the_first_probe() -> None:
    desk = held("a", "b")
    desk.receive(ban("v", group="new"))

    assert desk.request().target == "new"
    assert not desk.request().send.probe, "the key is right: no new signature"


def test_while_thousands_of_targets_are_held_what_happens_elsewhere_costs_no_more() -> None:
    """
    An endpoint that was not enabled for a night has held all its groups: looking through them at every event would leave
    the others no time.
    """

    def cost(targets: int) -> int:
        desk = held(*(f"g{number}" for number in range(targets)))
        for _ in range(5):
            desk.wait(1.0)
            desk.code(desk.request("ban"), FORBIDDEN)
        desk.receive(kick("u", room="r"))
        desk.wait(1.5)
        return steps(lambda: desk.ok(desk.request("kick"))) + steps(
            lambda: desk.engine.tick(desk.now, desk.wall)
        )

    assert cost(150) < cost(15) + 50


def test_a_fresh_target_that_comes_while_all_others_are_held_is_probed_at_once() -> None:
    desk = held("a", "b")
    for _ in range(5):
        desk.wait(1.0)
        desk.code(desk.request(), FORBIDDEN)
    desk.wait(2.5)
    assert desk.out == []
    desk.receive(ban("v", group="fresh"))

    assert [each.target for each in desk.out] == ["fresh"]


def test_a_fresh_target_that_passes_ends_the_halt_and_condemns_the_others() -> None:
    desk = held("a", "b")
    desk.events()
    desk.wait(0.25)
    desk.receive(ban("v", group="new"))
    desk.ok()
    assert desk.events() == ["endpoint.resumed"]
    assert sorted(each.target for each in desk.out) == ["a", "b"]
    refuse(desk, "a")
    refuse(desk, "b")

    assert [desk.status(each) for each in "ab"] == ["failed", "failed"]
    assert desk.engine.halts == []


def test_fresh_targets_that_are_refused_as_well_stay_held() -> None:
    desk = held("a", "b")
    for target in "cde":
        desk.receive(ban("v", group=target, command_id=target))
        desk.wait(1.0)
        if desk.out and desk.out[0].target == target:
            refuse(desk, target)
        else:
            refuse(desk, desk.request().target)

    assert len(desk.engine.halts) == 1
    assert desk.publish() == []


def test_without_a_fresh_target_the_held_ones_are_probes_in_turn() -> None:
    desk = held("a", "b")
    probed = []
    for _ in range(4):
        desk.wait(1.0)
        probed.append(desk.request().target)
        desk.code(desk.request(), FORBIDDEN)

    assert sorted(probed[:2]) == ["a", "b"]
    assert probed[2:] == probed[:2]


def test_a_held_target_that_passes_as_a_probe_lets_all_go_on() -> None:
    desk = held("a", "b")
    desk.wait(1.0)
    probe = desk.request()
    desk.ok(probe)

    assert desk.engine.halts == []
    desk.ok()
    assert [desk.status(each) for each in "ab"] == ["succeeded", "succeeded"]


def test_an_endpoints_halt_is_ended_by_a_members_refusal_too() -> None:
    desk = held("a", "b")
    desk.wait(1.0)
    desk.code(desk.request(), 10019)

    assert desk.engine.halts == []
    desk.ok()
    assert [desk.status(each) for each in ("a", "b")] == ["failed", "succeeded"]


def test_an_endpoints_probe_without_an_answer_keeps_the_halt() -> None:
    desk = held("a", "b")
    desk.wait(1.0)
    desk.timeout(desk.request())

    assert len(desk.engine.halts) == 1


def test_an_endpoints_halt_lasts_no_time_of_the_members() -> None:
    desk = Desk(give_up_after=10.0)
    desk.receive(ban("u", group="a"), ban("u", group="b", command_id="b"))
    for target in "ab":
        refuse(desk, target)
    desk.wait(600.0)
    desk.ok(desk.request(target="a"))
    desk.refuse_connection(desk.request(target="b"))
    assert desk.waiting, "it is not given up"
    desk.ask()
    desk.ok()

    assert desk.status("b") == "succeeded"


def test_a_refusal_of_what_was_sent_before_the_remedy_holds_nothing() -> None:
    desk = Desk()
    desk.receive(*(ban("u", group=target, command_id=target) for target in "abc"))
    refuse(desk, "a")
    refuse(desk, "b")
    desk.wait(1.0)
    desk.ok(next(each for each in desk.out if each.target != "c"))
    refuse(desk, "c")
    desk.ok()

    assert desk.status("c") == "succeeded"


def test_a_call_under_way_when_its_targets_fault_was_shown_goes_once_more() -> None:
    desk = Desk()
    desk.receive(ban("u", group="a", command_id="first"), ban("v", group="a", command_id="second"))
    first, second = desk.out
    desk.code(first, FORBIDDEN)
    desk.wait(0.25)
    desk.receive(ban("x", group="b"))
    desk.ok(desk.request(target="b"))
    desk.code(second, FORBIDDEN)
    assert desk.is_open("second")
    for request in [each for each in desk.out if each.target == "a"]:
        desk.code(request, FORBIDDEN)
    for request in [each for each in desk.out if each.target == "a"]:
        desk.code(request, FORBIDDEN)

    assert [desk.status(each) for each in ("first", "second")] == ["failed", "failed"]


def test_the_proof_of_a_targets_fault_is_good_for_five_seconds() -> None:
    desk = held("a")
    desk.wait(0.25)
    desk.receive(ban("v", group="b"))
    desk.ok()
    desk.wait(5.25)
    refuse(desk, "a")

    assert desk.is_open("a"), "it is held anew"
    assert desk.engine.halts == []


def test_a_proof_is_good_for_the_refusal_that_it_was_about() -> None:
    """
    A group that is not permitted is no reason to fail its commands while a gateway answers 404 to everybody.
    """
    desk = held("a")
    desk.wait(0.25)
    desk.receive(ban("v", group="b"))
    desk.ok()
    desk.code(desk.request(target="a"), None, status=404)

    assert desk.is_open("a")
    desk.wait(0.25)
    desk.receive(ban("v", group="c"))
    desk.ok(desk.request(target="c"))
    desk.ok()
    assert desk.status("a") == "succeeded"


def test_what_was_proven_of_a_target_is_good_until_something_of_it_passes() -> None:
    desk = held("a")
    desk.wait(0.25)
    desk.receive(ban("v", group="b"))
    desk.ok()
    desk.ok(desk.request(target="a"))
    desk.receive(ban("w", group="a", command_id="w"))
    refuse(desk, "a")

    assert desk.is_open("w")


def test_targets_that_were_shown_to_be_at_fault_are_no_witnesses_against_the_endpoint() -> None:
    desk = held("a")
    desk.wait(0.25)
    desk.receive(ban("v", group="b"))
    desk.ok()
    desk.wait(5.25)
    refuse(desk, "a")
    desk.receive(ban("w", group="c"))
    refuse(desk, "c")

    assert desk.engine.halts == [], "one witness, and one that was at fault itself"


def test_a_hold_takes_the_waiting_calls_of_its_target_back() -> None:
    desk = Desk()
    desk.receive(ban("u", group="a"), ban("v", group="a"), ban("w", group="b"))
    first, second, other = desk.out
    desk.code(other, 60007)
    desk.code(first, 60007)
    assert len(desk.waiting) == 2
    desk.code(second, FORBIDDEN)

    assert desk.recalled == [first.call_id]
    assert desk.waiting == [other.call_id]


def test_a_try_of_a_held_target_is_not_repeated() -> None:
    desk = Desk()
    desk.receive(ban("u", group="a"), ban("v", group="a"))
    first, second = desk.out
    desk.code(first, FORBIDDEN)
    desk.code(second, 60008)

    assert desk.waiting == []


def test_a_search_of_a_held_target_does_not_go_on() -> None:
    desk = Desk()
    desk.receive(ban("u", group="a"), ban("v", "w", group="a"))
    first, second = desk.out
    desk.code(first, FORBIDDEN)
    desk.code(second, 10019)

    assert desk.out == []
    assert desk.limited_by("ban") == "target"


def test_a_held_target_with_nothing_left_to_send_is_held_no_longer() -> None:
    desk = Desk()
    desk.receive(ban("u", group="a", command_id="a", not_after="2030-03-17T17:46:44Z"))
    refuse(desk, "a")
    desk.wait(10.0)

    assert desk.status("a") == "expired"
    assert desk.engine.halts == []
    desk.receive(ban("v", group="a"))
    assert len(desk.out) == 1


def test_an_undone_command_of_a_held_target_holds_nothing_up() -> None:
    desk = held("a")
    desk.receive(unban("u", group="a", command_id="unban"))

    assert [each.action for each in desk.out] == []
    desk.wait(5.0)
    assert len(desk.engine.halts) == 1
