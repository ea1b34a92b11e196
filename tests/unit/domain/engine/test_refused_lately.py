# A user that was refused lately shares no call, so that a repeat costs one call and the others nothing.

from __future__ import annotations

from tests.unit.domain.engine_harness import EngineHarness, ban, unban, users

NO_ACCOUNT = 10019


def refused(harness: EngineHarness, user: str) -> None:
    harness.receive(ban(user))
    harness.code(harness.request(), NO_ACCOUNT)
    harness.publish()


def test_a_user_that_was_refused_lately_goes_alone_and_the_others_in_whole_batches() -> None:
    harness = EngineHarness()
    refused(harness, "bad")
    harness.receive_together(*(unban(user) for user in [*users(10), "bad", *users(10, "v")]))
    assert [each.users for each in harness.out] == [[*users(10), *users(10, "v")], ["bad"]]
    for request in list(harness.out):
        if request.users == ["bad"]:
            harness.code(request, NO_ACCOUNT)
        else:
            harness.ok(request)
    assert len(harness.sent) == 3
    assert [each.status.value for each in harness.publish()].count("failed") == 1


def test_several_of_them_go_alone_each() -> None:
    harness = EngineHarness()
    for user in ("a", "b"):
        refused(harness, user)
    harness.receive_together(unban("a"), unban("b"))
    assert [each.users for each in harness.out] == [["a"], ["b"]]


def test_one_that_passes_shares_a_call_again() -> None:
    harness = EngineHarness()
    refused(harness, "u")
    harness.receive(unban("u"))
    harness.ok()
    harness.receive_together(ban("u"), ban("v"))
    assert harness.request().users == ["u", "v"]


def test_after_a_while_it_shares_a_call_again() -> None:
    harness = EngineHarness()
    refused(harness, "u")
    harness.wait(601.0)
    harness.receive_together(ban("u"), ban("v"))
    assert harness.request().users == ["u", "v"]


def test_one_that_waits_long_goes_before_a_full_batch() -> None:
    """Nobody starves: what has waited longest goes first, alone or not."""
    harness = EngineHarness(default_calls_per_second=2)
    refused(harness, "bad")
    harness.wait(1.0)
    harness.receive(ban("x", group="h"), ban("y", group="i"))
    harness.receive(unban("bad"))
    harness.wait(1.5)
    harness.receive_together(*(unban(user) for user in users(20)))
    harness.ok()
    harness.wait(1.0)
    assert ["bad"] in [each.users for each in harness.sent]
