# What everybody is refused for is nobody's fault: a code of no table, or a status of something on the way to Tencent. Nothing
# dies for it before something else has passed; then the one at fault is found.
#
# How long a target is held, and how it is probed, is proven in test_held_targets.py for a lack of permission.

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.domain.engine_harness import Desk, ban, users
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


def answer_all(desk: Desk, answer: Answer, rounds: int = 8) -> None:
    """
    Every request gets this answer, and every call that may be tried again is.
    """
    for _ in range(rounds):
        for request in list(desk.out):
            desk.code(request, **answer)
        for call_id in list(desk.waiting):
            if call_id in desk.waiting:
                desk.ask(call_id)
        desk.wait(1.0)


def bring_to_an_end(desk: Desk) -> None:
    """
    Everything passes from now on.
    """
    for _ in range(60):
        desk.ok()
        while desk.waiting:
            desk.ask(desk.waiting[0])
        desk.wait(1.0)


@ALL
@pytest.mark.parametrize("targets", [1, 2, 20])
def test_what_everybody_is_refused_for_fails_nobody(answer: Answer, targets: int) -> None:
    """
    A gateway that answers 413, or a code that Tencent added yesterday: 500 of 500 commands were dead within seconds.
    """
    desk = Desk()
    desk.receive(*(ban(*users(3), group=f"g{number}") for number in range(targets)))
    answer_all(desk, answer)

    assert desk.publish() == []
    bring_to_an_end(desk)
    assert {each.status.value for each in desk.publish()} == {"succeeded"}
    assert len(desk.told.outcomes) == targets


@HELD
def test_two_targets_that_are_refused_with_no_success_between_halt_the_endpoint(answer: Answer) -> None:
    desk = Desk()
    desk.receive(ban("u", group="a"), ban("u", group="b"))
    answer_all(desk, answer, rounds=3)

    (halt,) = desk.engine.halts
    assert halt.endpoint == "group_open_http_svc/ban_group_member"
    assert halt.error_code == answer["code"]
    assert str(answer.get("status", answer["code"])) in halt.reason + halt.remedy
    assert "endpoint.halted" in desk.events()


@HELD
def test_a_single_target_that_is_refused_halts_the_endpoint_after_five_seconds(answer: Answer) -> None:
    desk = Desk()
    desk.receive(ban("u", group="a", command_id="c"))
    answer_all(desk, answer, rounds=12)

    assert len(desk.engine.halts) == 1
    assert desk.is_open("c")


@HELD
def test_a_target_at_fault_fails_once_another_one_has_passed(answer: Answer) -> None:
    desk = Desk()
    desk.receive(ban("u", group="a", command_id="c"))
    for number in range(8):
        desk.wait(0.5)
        desk.receive(ban("v", group=f"other{number}"))
        for request in list(desk.out):
            if request.target == "a":
                desk.code(request, **answer)
            else:
                desk.ok(request)
        while desk.waiting:
            desk.ask(desk.waiting[0])

    assert desk.status("c") == "failed"
    assert desk.engine.halts == []


@pytest.mark.parametrize("answer", CODES, ids=str)
def test_in_a_stream_of_one_room_a_strange_user_is_found_by_smaller_and_smaller_probes(
    answer: Answer,
) -> None:
    """
    No other room can show that the endpoint works; but what passes of this one does.
    """
    desk = Desk()
    desk.receive(ban(*users(20), group="a", command_id="c"))
    for _ in range(400):
        for request in list(desk.out):
            if "u7" in request.users:
                desk.code(request, **answer)
            else:
                desk.ok(request)
        while desk.waiting:
            desk.ask(desk.waiting[0])
        desk.wait(0.5)

    (open_command,) = desk.engine._partitions[0].open.values()
    assert isinstance(open_command, OpenCommand)
    results = [each for each in open_command.tasks if each.result is None]
    assert [each.user for each in results] in ([], ["u7"]), "at most the strange one still waits"
    if results:
        desk.receive(ban("v", group="b"))
        for _ in range(20):
            for request in list(desk.out):
                if request.target == "a":
                    desk.code(request, **answer)
                else:
                    desk.ok(request)
            while desk.waiting:
                desk.ask(desk.waiting[0])
            desk.wait(0.5)
    assert desk.results("c") == {each: "failed" if each == "u7" else "applied" for each in users(20)}


@pytest.mark.parametrize("answer", CODES, ids=str)
@pytest.mark.parametrize("refusal", [10019, 10010, 10004])
def test_a_refusal_of_another_kind_does_not_end_a_halt_for_a_code_of_no_table(
    answer: Answer, refusal: int
) -> None:
    desk = Desk()
    desk.receive(ban("u", group="a", command_id="a"), ban("u", group="b", command_id="b"))
    answer_all(desk, answer, rounds=3)
    desk.receive(ban("v", group="c"))
    while not desk.out or desk.request().target != "c":
        for request in list(desk.out):
            desk.code(request, **answer)
        desk.wait(1.0)
    desk.code(desk.request(), refusal)

    assert len(desk.engine.halts) == 1
    assert desk.is_open("a")
    assert desk.is_open("b")


def test_an_outage_that_begins_in_the_middle_of_a_search_fails_nobody() -> None:
    desk = Desk()
    desk.receive(ban(*users(20), command_id="c"))
    desk.code(desk.request(), 10019)
    desk.ok()
    answer_all(desk, {"code": 10999})
    assert desk.is_open("c")

    bring_to_an_end(desk)
    assert desk.status("c") == "succeeded"


def test_smaller_probes_pass_what_is_too_large_for_something_on_the_way() -> None:
    desk = Desk()
    desk.receive(ban(*users(20), command_id="c"))
    for _ in range(300):
        for request in list(desk.out):
            if len(request.users) > 6:
                desk.code(request, None, status=413)
            else:
                desk.ok(request)
        desk.wait(0.5)

    assert desk.status("c") == "succeeded"


@pytest.mark.parametrize(
    ("status", "info"), [(302, "HTTP 302 to login.example.com: somebody"), (200, ""), (307, "")]
)
def test_what_answers_in_tencents_place_is_told_with_a_remedy_and_the_worker_is_not_ready(
    status: int, info: str
) -> None:
    desk = Desk()
    desk.receive(*(ban("u", group=f"g{number}") for number in range(5)))
    for request in list(desk.out):
        desk.code(request, None, info, status=status, error="http")

    (opened,) = desk.notices
    reason = info or f"HTTP {status}"
    assert opened.event == "breaker.opened"
    assert opened.fields["http_status"] == status
    assert opened.fields["reason"] == (info or None)
    (halt,) = desk.engine.halts
    assert (halt.reason, halt.remedy) == (reason, opened.fields["remedy"])
    assert "base_url" in halt.remedy

    desk.wait(1.0)
    desk.ok(desk.request())
    assert desk.engine.halts == []


@pytest.mark.parametrize("status", [None, 500, 502, 503])
def test_an_outage_that_may_pass_leaves_the_worker_ready(status: int | None) -> None:
    desk = Desk()
    desk.receive(*(ban("u", group=f"g{number}") for number in range(5)))
    for request in list(desk.out):
        if status is None:
            desk.timeout(request)
        else:
            desk.code(request, None, f"HTTP {status}", status=status, error="http")

    (opened,) = desk.notices
    assert (opened.event, opened.fields["remedy"]) == ("breaker.opened", None)
    assert desk.engine.halts == []


def test_the_remedy_is_that_of_what_answers_now() -> None:
    """
    The outage begins with a broken line and ends in a sign-in page.
    """
    desk = Desk()
    desk.receive(*(ban("u", group=f"g{number}") for number in range(5)))
    for request in list(desk.out):
        desk.timeout(request)
    assert desk.engine.halts == []
    desk.wait(1.0)
    desk.code(desk.request(), None, status=302)

    assert [halt.reason for halt in desk.engine.halts] == ["HTTP 302"]
