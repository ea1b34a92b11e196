# No permission: the target's own fault, or the configuration's. It is held until another target shows which, and goes on by itself.
#
# When a probe may go is proven in test_breaker.py, what stops a whole app in test_halts.py.

from __future__ import annotations

from tests.unit.domain.engine_harness import COOLING_OFF, GRAIN, WALL, EngineHarness, ban, kick, unban
from tests.unit.domain.factories import steps
from worker.domain.contract.timestamps import rfc3339

FORBIDDEN = 10007


def refuse(harness: EngineHarness, target: str) -> None:
    """This target's ban is refused for lack of permission."""
    harness.code(harness.request("ban", target), FORBIDDEN, "no permission")


def held(*targets: str) -> EngineHarness:
    """A harness in which these groups were refused for lack of permission."""
    harness = EngineHarness()
    harness.receive(*(ban("u", group=target, command_id=target) for target in targets))
    for target in targets:
        refuse(harness, target)
    return harness


def test_a_target_without_permission_is_held_and_others_go_on() -> None:
    harness = held("a")
    harness.receive(ban("v", group="a"), ban("v", group="b"))

    assert [each.target for each in harness.out] == ["b"]
    assert harness.engine.halts == []
    assert harness.is_open("a")


def test_a_success_of_another_target_sent_after_it_makes_it_the_targets_fault() -> None:
    harness = held("a")
    harness.wait(0.25)
    harness.receive(ban("v", group="b"))
    harness.ok()

    assert [each.target for each in harness.out] == ["a"], "it is tried once more"
    refuse(harness, "a")
    assert harness.status("a") == "failed"
    error = harness.outcome("a").error
    assert error is not None
    assert error.code == str(FORBIDDEN)


def test_a_held_target_with_nothing_left_to_send_is_forgotten() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", group="a", command_id="a", not_after=rfc3339(WALL + COOLING_OFF + 2.0)))
    refuse(harness, "a")
    harness.wait(4.0)
    assert harness.status("a") == "expired"

    assert not any(endpoint.targets for endpoint in harness.engine._scheduler.endpoints.values())


def test_what_was_fixed_in_the_meantime_costs_nobody() -> None:
    harness = held("a")
    harness.wait(0.25)
    harness.receive(ban("v", group="b"))
    harness.ok()
    harness.ok(harness.request(target="a"))

    assert harness.status("a") == "succeeded"


def test_a_success_that_was_sent_before_the_refusal_proves_nothing() -> None:
    harness = EngineHarness()
    harness.receive(ban("v", group="b"), ban("u", group="a", command_id="a"))
    harness.wait(0.25)
    refuse(harness, "a")
    harness.ok(harness.request(target="b"))

    assert harness.out == []
    assert harness.is_open("a")


def test_a_success_of_another_endpoint_proves_nothing() -> None:
    harness = held("a")
    harness.wait(0.25)
    harness.receive(kick("v"))
    harness.ok()

    assert harness.out == []


def test_a_success_of_the_held_target_itself_lets_it_go_on() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", group="a", command_id="c"), ban("v", group="a"))
    refused, good = harness.out
    harness.code(refused, FORBIDDEN)
    assert harness.out == [good]
    harness.ok(good)

    assert [each.users for each in harness.out] == [["u"]]


def test_two_targets_without_permission_halt_the_endpoint() -> None:
    harness = held("a", "b")

    (halt,) = harness.engine.halts
    assert halt.endpoint == "group_open_http_svc/ban_group_member"
    assert (halt.error_code, halt.reason) == (FORBIDDEN, "no permission on 2 targets (10007: no permission)")
    assert harness.events() == ["endpoint.halted"]
    harness.receive(kick("v"))
    assert [each.action for each in harness.out] == ["kick"]


def test_one_target_without_permission_for_five_seconds_halts_the_endpoint() -> None:
    harness = held("a")
    harness.wait(4.75)
    assert harness.engine.halts == []
    harness.wait(0.25 + 2 * GRAIN)

    assert len(harness.engine.halts) == 1
    assert harness.publish() == []


def test_a_target_that_was_not_refused_yet_is_the_first_probe() -> None:
    harness = held("a", "b")
    harness.receive(ban("v", group="new"))

    assert harness.request().target == "new"
    assert not harness.request().send.probe, "the key is right: no new signature"


def test_while_thousands_of_targets_are_held_what_happens_elsewhere_costs_no_more() -> None:
    """
    An endpoint that was not enabled for a night has held all its groups: looking through them at every event would leave
    the others no time.
    """

    def cost(targets: int) -> int:
        harness = held(*(f"g{number}" for number in range(targets)))
        for _ in range(5):
            harness.wait(1.0)
            harness.code(harness.request("ban"), FORBIDDEN)
        harness.receive(kick("u", room="r"))
        harness.wait(1.5)
        return steps(lambda: harness.ok(harness.request("kick"))) + steps(
            lambda: harness.engine.tick(harness.now, harness.wall)
        )

    assert cost(150) < cost(15) + 50


def test_a_fresh_target_that_comes_while_all_others_are_held_is_probed_at_once() -> None:
    harness = held("a", "b")
    for _ in range(5):
        harness.wait(1.0)
        harness.code(harness.request(), FORBIDDEN)
    harness.wait(2.5)
    assert harness.out == []
    harness.receive(ban("v", group="fresh"))

    assert [each.target for each in harness.out] == ["fresh"]


def test_a_fresh_target_that_passes_ends_the_halt_and_condemns_the_others() -> None:
    harness = held("a", "b")
    harness.events()
    harness.wait(0.25)
    harness.receive(ban("v", group="new"))
    harness.ok()
    assert harness.events() == ["endpoint.resumed"]
    assert sorted(each.target for each in harness.out) == ["a", "b"]
    refuse(harness, "a")
    refuse(harness, "b")

    assert [harness.status(each) for each in "ab"] == ["failed", "failed"]
    assert harness.engine.halts == []


def test_fresh_targets_that_are_refused_as_well_stay_held() -> None:
    harness = held("a", "b")
    for target in "cde":
        harness.receive(ban("v", group=target, command_id=target))
        harness.wait(1.0)
        if harness.out and harness.out[0].target == target:
            refuse(harness, target)
        else:
            refuse(harness, harness.request().target)

    assert len(harness.engine.halts) == 1
    assert harness.publish() == []


def test_without_a_fresh_target_the_held_ones_are_probes_in_turn() -> None:
    harness = held("a", "b")
    probed = []
    for _ in range(4):
        harness.wait(1.0)
        probed.append(harness.request().target)
        harness.code(harness.request(), FORBIDDEN)

    assert sorted(probed[:2]) == ["a", "b"]
    assert probed[2:] == probed[:2]


def test_a_target_that_hangs_takes_not_every_turn_of_the_held_ones() -> None:
    """
    It was never refused, so it is worth more as a probe, each time; and those that are held went nowhere, as long as it hung.
    """
    harness = held("a", "b")
    harness.receive(ban("v", group="hangs"))
    probed = []
    for _ in range(12):
        harness.wait(10.0)
        for request in list(harness.out):
            probed.append(request.target)
            harness.timeout(request)

    assert {"a", "b"} <= set(probed)


def test_a_held_target_that_passes_as_a_probe_lets_all_go_on() -> None:
    harness = held("a", "b")
    harness.wait(1.0)
    probe = harness.request()
    harness.ok(probe)

    assert harness.engine.halts == []
    harness.ok()
    assert [harness.status(each) for each in "ab"] == ["succeeded", "succeeded"]


def test_an_endpoints_halt_is_ended_by_a_members_refusal_too() -> None:
    harness = held("a", "b")
    harness.wait(1.0)
    harness.code(harness.request(), 10019)

    assert harness.engine.halts == []
    harness.ok()
    assert [harness.status(each) for each in ("a", "b")] == ["failed", "succeeded"]


def test_an_endpoints_probe_without_an_answer_keeps_the_halt() -> None:
    harness = held("a", "b")
    harness.wait(1.0)
    harness.timeout(harness.request())

    assert len(harness.engine.halts) == 1


def test_an_endpoints_halt_lasts_no_time_of_the_members() -> None:
    harness = EngineHarness(give_up_after=10.0)
    harness.receive(ban("u", group="a"), ban("u", group="b", command_id="b"))
    for target in "ab":
        refuse(harness, target)
    harness.wait(600.0)
    harness.ok(harness.request(target="a"))
    harness.refuse_connection(harness.request(target="b"))
    assert harness.waiting, "it is not given up"
    harness.request_permit()
    harness.ok()

    assert harness.status("b") == "succeeded"


def test_a_refusal_of_what_was_sent_before_the_remedy_holds_nothing() -> None:
    harness = EngineHarness()
    harness.receive(*(ban("u", group=target, command_id=target) for target in "abc"))
    refuse(harness, "a")
    refuse(harness, "b")
    harness.wait(1.0)
    harness.ok(next(each for each in harness.out if each.target != "c"))
    refuse(harness, "c")
    harness.ok()

    assert harness.status("c") == "succeeded"


def test_a_call_under_way_when_its_targets_fault_was_shown_goes_once_more() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", group="a", command_id="first"), ban("v", group="a", command_id="second"))
    first, second = harness.out
    harness.code(first, FORBIDDEN)
    harness.wait(0.25)
    harness.receive(ban("x", group="b"))
    harness.ok(harness.request(target="b"))
    harness.code(second, FORBIDDEN)
    assert harness.is_open("second")
    for request in [each for each in harness.out if each.target == "a"]:
        harness.code(request, FORBIDDEN)
    for request in [each for each in harness.out if each.target == "a"]:
        harness.code(request, FORBIDDEN)

    assert [harness.status(each) for each in ("first", "second")] == ["failed", "failed"]


def test_the_proof_of_a_targets_fault_is_good_for_five_seconds() -> None:
    harness = held("a")
    harness.wait(0.25)
    harness.receive(ban("v", group="b"))
    harness.ok()
    harness.wait(5.25)
    refuse(harness, "a")

    assert harness.is_open("a"), "it is held again"
    assert harness.engine.halts == []


def test_a_proof_is_good_for_the_refusal_that_it_was_about() -> None:
    """A group that is not permitted is no reason to fail its commands while a gateway answers 404 to everybody."""
    harness = held("a")
    harness.wait(0.25)
    harness.receive(ban("v", group="b"))
    harness.ok()
    harness.code(harness.request(target="a"), None, status=404)

    assert harness.is_open("a")
    harness.wait(0.25)
    harness.receive(ban("v", group="c"))
    harness.ok(harness.request(target="c"))
    harness.ok()
    assert harness.status("a") == "succeeded"


def test_of_several_refusals_the_proof_is_of_the_one_that_it_was_about() -> None:
    """Two calls of the group are under way when the gateway begins to answer 404: neither must fail for it."""
    harness = EngineHarness()
    harness.receive(ban("u", group="a", command_id="c"), ban("v", group="a", command_id="d"))
    for request in list(harness.out):
        harness.code(request, FORBIDDEN)
    harness.wait(0.25)
    harness.receive(ban("v", group="b"))
    harness.ok()
    harness.receive(ban("w", group="a", duration=60, command_id="e"))
    assert [each.target for each in harness.out] == ["a", "a"]
    for request in list(harness.out):
        harness.code(request, None, status=404)

    assert all(harness.is_open(each) for each in "cde")


def test_a_success_proves_nothing_of_a_refusal_that_came_after_it_was_sent() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", group="a", command_id="c"), ban("v", group="a", command_id="d"))
    first, second = harness.out
    harness.code(first, FORBIDDEN)
    harness.wait(0.25)
    harness.receive(ban("v", group="b"))
    harness.code(second, None, status=404)
    harness.ok()
    assert [each.target for each in harness.out] == ["a"]
    harness.code(harness.request(), None, status=404)

    assert all(harness.is_open(each) for each in "cd")


def test_what_was_proven_of_a_target_is_good_until_something_of_it_passes() -> None:
    harness = held("a")
    harness.wait(0.25)
    harness.receive(ban("v", group="b"))
    harness.ok()
    harness.ok(harness.request(target="a"))
    harness.receive(ban("w", group="a", command_id="w"))
    refuse(harness, "a")

    assert harness.is_open("w")


def test_targets_that_were_shown_to_be_at_fault_are_no_witnesses_against_the_endpoint() -> None:
    harness = held("a")
    harness.wait(0.25)
    harness.receive(ban("v", group="b"))
    harness.ok()
    harness.wait(5.25)
    refuse(harness, "a")
    harness.receive(ban("w", group="c"))
    refuse(harness, "c")

    assert harness.engine.halts == [], "one witness, and one that was at fault itself"


def test_one_held_after_another_by_their_own_faults_do_not_put_off_the_halt() -> None:
    """Nothing was applied for five seconds, whoever was refused since."""
    harness = held("a")
    harness.receive(ban("u", group="b"))
    harness.wait(0.25)
    harness.receive(ban("v", group="c"))
    harness.ok(harness.request(target="c"))
    harness.wait(5.25)
    refuse(harness, "a")
    harness.wait(4.0)
    refuse(harness, "b")

    harness.wait(2.0)

    assert len(harness.engine.halts) == 1


def test_a_target_not_refused_yet_is_the_next_probe_again_after_one_without_an_answer() -> None:
    harness = held("a", "b")
    for _ in range(5):
        harness.wait(1.0)
        refuse(harness, harness.request().target)
    harness.wait(2.5)
    harness.receive(ban("v", group="fresh"))
    harness.timeout(harness.request(target="fresh"))

    harness.wait(1.5)

    assert [each.target for each in harness.out] == ["fresh"]


def test_a_hold_takes_the_waiting_calls_of_its_target_back() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", group="a"), ban("v", group="a"), ban("w", group="b"))
    first, second, other = harness.out
    harness.code(other, 60007)
    harness.code(first, 60007)
    assert len(harness.waiting) == 2
    harness.code(second, FORBIDDEN)

    assert harness.cancelled == [first.call_id]
    assert harness.waiting == [other.call_id]


def test_a_try_of_a_held_target_is_not_repeated() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", group="a"), ban("v", group="a"))
    first, second = harness.out
    harness.code(first, FORBIDDEN)
    harness.code(second, 60008)

    assert harness.waiting == []


def test_a_search_of_a_held_target_does_not_go_on() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", group="a"), ban("v", "w", group="a"))
    first, second = harness.out
    harness.code(first, FORBIDDEN)
    harness.code(second, 10019)

    assert harness.out == []
    assert harness.limited_by("ban") == "target"


def test_a_held_target_with_nothing_left_to_send_is_held_no_longer() -> None:
    harness = EngineHarness()
    harness.receive(ban("u", group="a", command_id="a", not_after="2030-03-17T17:46:44Z"))
    refuse(harness, "a")
    harness.wait(10.0)

    assert harness.status("a") == "expired"
    assert harness.engine.halts == []
    harness.receive(ban("v", group="a"))
    assert len(harness.out) == 1


def test_a_held_target_whose_last_command_expires_halts_nothing_though_the_loop_is_late() -> None:
    """A halt with nothing to probe would keep the worker unready until another command comes."""
    harness = EngineHarness()
    harness.receive(ban("u", group="a", command_id="a", not_after=rfc3339(WALL + 6.0)))
    refuse(harness, "a")
    harness.be_busy(7.0)
    harness.wait(0.0)

    assert harness.engine.halts == []
    assert harness.status("a") == "expired"


def test_an_undone_command_of_a_held_target_holds_nothing_up() -> None:
    harness = held("a")
    harness.receive(unban("u", group="a", command_id="unban"))

    assert [each.action for each in harness.out] == []
    harness.wait(6.0)
    assert len(harness.engine.halts) == 1
