# What everybody is refused for is nobody's fault: an unlisted code, or a status of something on the way to Tencent. Nothing
# dies for it before something else has passed; then the one at fault is found.
#
# How long a target is held, and how it is probed, is proven in test_held_targets.py for a lack of permission.

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.domain.engine_harness import EngineHarness, ban, users
from worker.domain.contract.timestamps import rfc3339
from worker.domain.progress.open_commands import OpenCommand

Answer = dict[str, Any]
CODES: list[Answer] = [{"code": code} for code in (10999, -1, 500, 1, 2**31 - 1)]
PLATFORM: list[Answer] = [{"code": 60999}, {"code": 79999}]
STATUSES: list[Answer] = [
    {"code": None, "status": status}
    for status in (400, 401, 403, 404, 405, 409, 413, 414, 422, 431, 451, 499)
]
OTHERS: list[Answer] = [
    {"code": None, "status": status} for status in (200, 204, 301, 302, 307, 308, 408, 500, 502, 503)
]
ALL = pytest.mark.parametrize("answer", [*CODES, *PLATFORM, *STATUSES, *OTHERS], ids=str)
HELD = pytest.mark.parametrize("answer", [*CODES, *STATUSES], ids=str)


def answer_all(harness: EngineHarness, answer: Answer, rounds: int = 8) -> None:
    """Every request gets this answer, and every call that may be tried again is."""
    for _ in range(rounds):
        for request in list(harness.out):
            harness.code(request, **answer)
        for call_id in list(harness.waiting):
            if call_id in harness.waiting:
                harness.request_permit(call_id)
        harness.wait(1.0)


def bring_to_an_end(harness: EngineHarness) -> None:
    """Everything passes from now on."""
    for _ in range(60):
        harness.ok()
        while harness.waiting:
            harness.request_permit(harness.waiting[0])
        harness.wait(1.0)


@ALL
@pytest.mark.parametrize("targets", [1, 2, 20])
def test_what_everybody_is_refused_for_fails_nobody(answer: Answer, targets: int) -> None:
    """A gateway that answers 413, or a code that Tencent added yesterday: 500 of 500 commands were dead within seconds."""
    harness = EngineHarness()
    harness.receive(*(ban(*users(3), group=f"g{number}") for number in range(targets)))
    answer_all(harness, answer)

    assert harness.publish() == []
    bring_to_an_end(harness)
    assert {each.status.value for each in harness.publish()} == {"succeeded"}
    assert len(harness.published.outcomes) == targets


@HELD
def test_two_targets_that_are_refused_with_no_success_between_halt_the_endpoint(answer: Answer) -> None:
    harness = EngineHarness()
    harness.receive(ban("u", group="a"), ban("u", group="b"))
    answer_all(harness, answer, rounds=3)

    (halt,) = harness.engine.halts
    assert halt.endpoint == "group_open_http_svc/ban_group_member"
    assert halt.error_code == answer["code"]
    assert str(answer.get("status", answer["code"])) in halt.reason + halt.remedy
    assert "endpoint.halted" in harness.events()


@pytest.mark.parametrize("gone", ["expired", "paused"])
def test_an_unlisted_code_is_not_believed_sooner_because_nobody_is_left_to_try_again(gone: str) -> None:
    """One such answer to a command that was paused meanwhile halted the app: another target had got one as well."""
    harness = EngineHarness()
    expiry = {"not_after": rfc3339(harness.wall + 2.0)} if gone == "expired" else {}
    harness.receive(ban("u", group="a"), ban("u", group="b", issuer="mad", **expiry))
    harness.code(harness.request(target="a"), 60999)
    if gone == "expired":
        harness.be_busy(5.0)
    else:
        harness.order("paused", issuer="mad")
    harness.code(harness.request(target="b"), 60999)

    assert harness.engine.halts == []
    assert len(harness.waiting) == 1, "the other's is tried again"


@HELD
def test_a_single_target_that_is_refused_halts_the_endpoint_after_five_seconds(answer: Answer) -> None:
    harness = EngineHarness()
    harness.receive(ban("u", group="a", command_id="c"))
    answer_all(harness, answer, rounds=12)

    assert len(harness.engine.halts) == 1
    assert harness.is_open("c")


@HELD
def test_a_target_at_fault_fails_once_another_one_has_passed(answer: Answer) -> None:
    harness = EngineHarness()
    harness.receive(ban("u", group="a", command_id="c"))
    for number in range(8):
        harness.wait(0.5)
        harness.receive(ban("v", group=f"other{number}"))
        for request in list(harness.out):
            if request.target == "a":
                harness.code(request, **answer)
            else:
                harness.ok(request)
        while harness.waiting:
            harness.request_permit(harness.waiting[0])

    assert harness.status("c") == "failed"
    assert harness.engine.halts == []


@pytest.mark.parametrize("answer", CODES, ids=str)
def test_in_a_stream_of_one_room_a_strange_user_is_found_by_smaller_and_smaller_probes(
    answer: Answer,
) -> None:
    """No other room can show that the endpoint works; but what passes of this one does."""
    harness = EngineHarness()
    harness.receive(ban(*users(20), group="a", command_id="c"))
    for _ in range(400):
        for request in list(harness.out):
            if "u7" in request.users:
                harness.code(request, **answer)
            else:
                harness.ok(request)
        while harness.waiting:
            harness.request_permit(harness.waiting[0])
        harness.wait(0.5)

    (open_command,) = harness.engine._partitions[0].open_records.values()
    assert isinstance(open_command, OpenCommand)
    results = [each for each in open_command.tasks if each.result is None]
    assert [each.user for each in results] in ([], ["u7"]), "at most the strange one still waits"
    if results:
        harness.receive(ban("v", group="b"))
        for _ in range(20):
            for request in list(harness.out):
                if request.target == "a":
                    harness.code(request, **answer)
                else:
                    harness.ok(request)
            while harness.waiting:
                harness.request_permit(harness.waiting[0])
            harness.wait(0.5)
    assert harness.results("c") == {each: "failed" if each == "u7" else "applied" for each in users(20)}


@pytest.mark.parametrize("answer", CODES, ids=str)
@pytest.mark.parametrize("refusal", [10019, 10010, 10004])
def test_a_refusal_of_another_kind_does_not_end_a_halt_for_an_unlisted_code(
    answer: Answer, refusal: int
) -> None:
    harness = EngineHarness()
    harness.receive(ban("u", group="a", command_id="a"), ban("u", group="b", command_id="b"))
    answer_all(harness, answer, rounds=3)
    harness.receive(ban("v", group="c"))
    while not harness.out or harness.request().target != "c":
        for request in list(harness.out):
            harness.code(request, **answer)
        harness.wait(1.0)
    harness.code(harness.request(), refusal)

    assert len(harness.engine.halts) == 1
    assert harness.is_open("a")
    assert harness.is_open("b")


def test_an_outage_that_begins_in_the_middle_of_a_search_fails_nobody() -> None:
    harness = EngineHarness()
    harness.receive(ban(*users(20), command_id="c"))
    harness.code(harness.request(), 10019)
    harness.ok()
    answer_all(harness, {"code": 10999})
    assert harness.is_open("c")

    bring_to_an_end(harness)
    assert harness.status("c") == "succeeded"


def test_smaller_probes_pass_what_is_too_large_for_something_on_the_way() -> None:
    harness = EngineHarness()
    harness.receive(ban(*users(20), command_id="c"))
    for _ in range(300):
        for request in list(harness.out):
            if len(request.users) > 6:
                harness.code(request, None, status=413)
            else:
                harness.ok(request)
        harness.wait(0.5)

    assert harness.status("c") == "succeeded"


@pytest.mark.parametrize(
    ("status", "info"), [(302, "HTTP 302 to login.example.com: somebody"), (200, ""), (307, "")]
)
def test_what_answers_in_tencents_place_has_a_remedy_and_ends_readiness(status: int, info: str) -> None:
    harness = EngineHarness()
    harness.receive(*(ban("u", group=f"g{number}") for number in range(5)))
    for request in list(harness.out):
        harness.code(request, None, info, status=status, error="http")

    (opened,) = harness.log_events
    reason = info or f"HTTP {status}"
    assert opened.event == "breaker.opened"
    assert opened.fields["http_status"] == status
    assert opened.fields["reason"] == (info or None)
    (halt,) = harness.engine.halts
    assert (halt.reason, halt.remedy) == (reason, opened.fields["remedy"])
    assert "base_url" in halt.remedy

    harness.wait(1.0)
    harness.ok(harness.request())
    assert harness.engine.halts == []


@pytest.mark.parametrize("status", [None, 500, 502, 503])
def test_an_outage_that_may_pass_leaves_the_worker_ready(status: int | None) -> None:
    harness = EngineHarness()
    harness.receive(*(ban("u", group=f"g{number}") for number in range(5)))
    for request in list(harness.out):
        if status is None:
            harness.timeout(request)
        else:
            harness.code(request, None, f"HTTP {status}", status=status, error="http")

    (opened,) = harness.log_events
    assert (opened.event, opened.fields["remedy"]) == ("breaker.opened", None)
    assert harness.engine.halts == []


def test_the_remedy_is_that_of_what_answers_now() -> None:
    """The outage begins with a broken line and ends in a sign-in page."""
    harness = EngineHarness()
    harness.receive(*(ban("u", group=f"g{number}") for number in range(5)))
    for request in list(harness.out):
        harness.timeout(request)
    assert harness.engine.halts == []
    harness.wait(1.0)
    harness.code(harness.request(), None, status=302)

    assert [halt.reason for halt in harness.engine.halts] == ["HTTP 302"]
