# The simulator's log as evidence: read exactly as the simulator writes it.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from worker.testing.checker.contract import BAN, ENDPOINTS, UPDATE, CommandedEffect, SeenMemberInfo
from worker.testing.checker.simulator_log import read_log, requests_of
from worker.testing.simulator.request_log import AppliedLaterLine, RequestLine

if TYPE_CHECKING:
    from pathlib import Path


def line(seq: int, **fields: Any) -> RequestLine:
    given: dict[str, Any] = {
        "seq": seq, "at": 10.0 + seq, "wall": 1000.0 + seq, "sdkappid": 1, "endpoint": ENDPOINTS[BAN], "target": "room",
        "users": ("a", "b"), "parameters": {"Duration": 60, "Description": "spam"}, "http_status": 200, "error_code": 0,
        "request_id": None, "applied": ("a", "b"), "applied_at": 10.5 + seq, "applies_later": False,
        "answered_at": 11.0 + seq, "fault": None, "ignored": (),
    }  # fmt: skip
    return RequestLine(**(given | fields))


def read(*lines: RequestLine | AppliedLaterLine) -> Any:
    return requests_of([msgspec.json.encode(one) for one in lines])


def test_a_request_is_read_with_its_effect_at_the_time_of_the_wall_clock() -> None:
    (request,) = read(line(1))

    assert request.effect == CommandedEffect(BAN, 60, reason="spam")
    assert (request.read_at, request.code, request.users) == (1001.0, 0, ("a", "b"))
    assert request.applied == {"a": (1001.5, 1), "b": (1001.5, 1)}


def test_an_effect_that_came_after_its_line_is_joined_to_its_request() -> None:
    lost = line(2, applied=(), applied_at=None, applies_later=True, http_status=None, error_code=None)
    late = AppliedLaterLine(2, 1, ENDPOINTS[BAN], "room", ("a",), 14.0)

    (request,) = read(late, lost)

    assert request.applied == {"a": (1004.0, 2)}
    assert request.code is None


def test_requests_come_in_the_order_in_which_they_were_read() -> None:
    assert [request.read_at for request in read(line(3), line(1), line(2))] == [1001.0, 1002.0, 1003.0]


def test_an_update_is_read_field_by_field() -> None:
    info = {"Member_Account": "a", "NameCard": "guest", "Role": "Member"}
    (request,) = read(
        line(1, endpoint=ENDPOINTS[UPDATE], users=("a",), parameters={"MemberInfo": info}, request_id="Id")
    )

    assert request.effect == CommandedEffect(UPDATE, info=SeenMemberInfo("guest", "Member"))
    assert request.request_id == "Id"


@pytest.mark.parametrize(
    ("given", "reason"), [({}, None), ({"Description": ""}, ""), ({"Description": "a"}, "a")]
)
def test_an_empty_reason_is_not_the_same_as_none(given: dict[str, str], reason: str | None) -> None:
    banned = line(1, parameters={"Duration": 60, **given})

    (request,) = requests_of([msgspec.json.encode(banned)])

    assert request.effect == CommandedEffect(BAN, 60, reason=reason)


def test_requests_that_change_nothing_are_left_out(tmp_path: Path) -> None:
    log = tmp_path / "calls.jsonl"
    group_list = line(1, endpoint="group_open_http_svc/get_appid_group_list", applied=(), applied_at=None)
    log.write_bytes(msgspec.json.encode(group_list) + b"\n" + msgspec.json.encode(line(2)) + b"\n")

    assert [request.endpoint for request in read_log(log)] == [ENDPOINTS[BAN]]


def test_an_effect_at_an_endpoint_that_the_checker_does_not_know_is_an_error() -> None:
    late = AppliedLaterLine(2, 1, "live_engine_http_srv/ban_member", "room", ("a",), 14.0)

    for unknown in (line(1, endpoint=late.endpoint), late):
        with pytest.raises(ValueError, match="the checker knows no live_engine_http_srv/ban_member: add it"):
            requests_of([msgspec.json.encode(unknown)])
