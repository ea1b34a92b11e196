# Bodies against Tencent's pages: mandatory fields, limits in bytes, the codes of each service.

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.unit.testing.simulator.calls import BAN, KICK, LIVE_UNBAN, SAMPLES, UNBAN, UPDATE
from worker.testing.simulator.body_validation import NOT_JSON, read
from worker.testing.simulator.endpoint_specs import SPECS
from worker.testing.simulator.reference_page import reference

BAD_FIELD = {BAN: 10004, UNBAN: 10004, LIVE_UNBAN: 100002, KICK: 100002, UPDATE: 100002}
TOO_MANY = {BAN: 10005, UNBAN: 10005, LIVE_UNBAN: 100002, KICK: 100002}
MEMBERS = {
    BAN: "Members_Account",
    UNBAN: "Members_Account",
    LIVE_UNBAN: "MemberList_Account",
    KICK: "MemberList_Account",
}
TARGET = {BAN: "GroupId", UNBAN: "GroupId", LIVE_UNBAN: "RoomId", KICK: "RoomId", UPDATE: "RoomId"}
FOUR_BYTES = "😀"


def code_of(endpoint: str, body: dict[str, Any]) -> int:
    refusal = read(SPECS[endpoint], msgspec.json.encode(body)).refusal
    return refusal.code if refusal else 0


def test_there_are_the_five_endpoints_and_no_other() -> None:
    assert set(SPECS) == {BAN, UNBAN, LIVE_UNBAN, KICK, UPDATE}


@pytest.mark.parametrize("endpoint", SAMPLES)
def test_the_pages_own_sample_is_accepted(endpoint: str) -> None:
    assert code_of(endpoint, SAMPLES[endpoint]) == 0


@pytest.mark.parametrize(
    ("endpoint", "name"),
    [
        *((endpoint, name) for endpoint, name in TARGET.items()),
        *((endpoint, name) for endpoint, name in MEMBERS.items()),
        (BAN, "Duration"),
        (KICK, "Reason"),
        (UPDATE, "MemberInfo"),
    ],
)
def test_a_mandatory_field_that_is_missing_is_refused(endpoint: str, name: str) -> None:
    body = {key: value for key, value in SAMPLES[endpoint].items() if key != name}

    assert code_of(endpoint, body) == BAD_FIELD[endpoint]


def test_a_body_that_is_nested_too_deep_is_no_json() -> None:
    refusal = read(SPECS[BAN], b"[" * 100_000).refusal

    assert refusal is not None
    assert refusal.code == NOT_JSON


def test_a_description_may_be_missing() -> None:
    assert code_of(BAN, {key: value for key, value in SAMPLES[BAN].items() if key != "Description"}) == 0


@pytest.mark.parametrize("endpoint", MEMBERS)
def test_twenty_members_pass_and_one_more_has_the_services_own_code(endpoint: str) -> None:
    twenty = [f"u{number}" for number in range(20)]

    assert code_of(endpoint, {**SAMPLES[endpoint], MEMBERS[endpoint]: twenty}) == 0
    assert (
        code_of(endpoint, {**SAMPLES[endpoint], MEMBERS[endpoint]: [*twenty, "one more"]})
        == TOO_MANY[endpoint]
    )


@pytest.mark.parametrize("endpoint", MEMBERS)
@pytest.mark.parametrize(
    "members", [[], "u1", [1], ["u1", None], ["u" * 33], [""], [FOUR_BYTES * 8 + "x"], None, {}]
)
def test_members_that_are_no_list_of_user_ids_are_refused(endpoint: str, members: object) -> None:
    assert code_of(endpoint, {**SAMPLES[endpoint], MEMBERS[endpoint]: members}) == BAD_FIELD[endpoint]


@pytest.mark.parametrize("endpoint", MEMBERS)
def test_a_user_id_of_thirty_two_bytes_passes(endpoint: str) -> None:
    assert code_of(endpoint, {**SAMPLES[endpoint], MEMBERS[endpoint]: ["u" * 32, FOUR_BYTES * 8]}) == 0


@pytest.mark.parametrize("endpoint", TARGET)
def test_a_target_has_one_to_forty_eight_bytes(endpoint: str) -> None:
    tries = ("x" * 48, FOUR_BYTES * 12, "", "x" * 49, FOUR_BYTES * 12 + "x", 7, None)

    codes = [code_of(endpoint, {**SAMPLES[endpoint], TARGET[endpoint]: target}) for target in tries]

    assert codes == [0, 0, *[BAD_FIELD[endpoint]] * 5]


@pytest.mark.parametrize(("duration", "code"), [
    (0, 0), (1, 0), (4_294_967_295, 0), (4_294_967_296, 10004), (-1, 10004), ("60", 10004), (1.5, 10004), (True, 10004), (None, 10004),
])  # fmt: skip
def test_a_duration_is_an_unsigned_integer_of_32_bits(duration: object, code: int) -> None:
    assert code_of(BAN, {**SAMPLES[BAN], "Duration": duration}) == code


@pytest.mark.parametrize(("endpoint", "name"), [(BAN, "Description"), (KICK, "Reason")])
def test_a_reason_has_at_most_a_thousand_bytes(endpoint: str, name: str) -> None:
    tries = ("x" * 1000, FOUR_BYTES * 250, "x" * 1001, FOUR_BYTES * 250 + "x", 7)

    codes = [code_of(endpoint, {**SAMPLES[endpoint], name: reason}) for reason in tries]

    assert codes == [0, 0, *[BAD_FIELD[endpoint]] * 3]


def test_a_kick_with_an_empty_reason_is_refused() -> None:
    assert code_of(KICK, {**SAMPLES[KICK], "Reason": ""}) == 100002


@pytest.mark.parametrize(("info", "code"), [
    ({"Member_Account": "u1"}, 0),
    ({"Member_Account": "u1", "NameCard": "x" * 32, "Role": "Member", "CustomInfo": "x" * 60}, 0),
    ({"Member_Account": "u1", "NameCard": "x" * 33}, 100002),
    ({"Member_Account": "u1", "NameCard": FOUR_BYTES * 8 + "x"}, 100002),
    ({"Member_Account": "u1", "CustomInfo": "x" * 61}, 100002),
    ({"Member_Account": "u1", "Role": "Owner"}, 100002),
    ({"Member_Account": "u1", "NameCard": 7}, 100002),
    ({"Member_Account": "x" * 33}, 100002),
    ({"NameCard": "jack"}, 100002),
    (["u1"], 100002),
])  # fmt: skip
def test_member_info_keeps_its_own_limits(info: object, code: int) -> None:
    assert code_of(UPDATE, {**SAMPLES[UPDATE], "MemberInfo": info}) == code


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff", b'{"GroupId": "\\ud800"}'])
def test_anything_but_a_json_object_has_the_common_code(body: bytes) -> None:
    refusal = read(SPECS[BAN], body).refusal

    assert refusal
    assert refusal.code == NOT_JSON


def test_a_refused_body_still_yields_target_users_and_parameters() -> None:
    body = {"GroupId": "g1", "Members_Account": ["u2", "u1", "u2"], "Duration": -1, "Descripton": "typo"}

    parsed = read(SPECS[BAN], msgspec.json.encode(body))

    assert (parsed.target, parsed.users, parsed.parameters) == ("g1", ("u2", "u1"), {"Duration": -1})
    assert parsed.ignored == ("Descripton",)
    assert parsed.refusal
    assert "Duration" in parsed.refusal.info


def test_the_code_of_a_body_that_is_no_json_is_in_the_reference() -> None:
    assert f"| {NOT_JSON} |" in reference()
