# Tencent's codes and HTTP's statuses: what each one means for the call that got it.

from __future__ import annotations

import pytest

from worker.domain.contract.actions import ACTIONS
from worker.domain.contract.codes import (
    _TABLE,
    ALREADY,
    REMEDIES,
    VERDICTS,
    Again,
    Verdict,
    is_foreign,
    is_platform,
    judge,
    remedy,
)

# Written down once more from Tencent's error-code tables, so that no code changes its verdict unseen.
EXPECTED = {
    "done": "0",
    "retry": "10002 100001 60008 60013 60014 70169 70202 70500 20004 20005 90992 90994 90995 91000 100102 80003 10056",
    "throttle": "60007 60018 60019 10006 100012 10023 22006 90057",
    "throttle_app": "60011",
    "resign": "70001 70003 70005 70052 60004 60005 60025 10008 20002",
    "locked": "70050",
    "fatal": "60002 60006 60009 60010 60012 60016 60017 60020 60021 60026 60027 60028 70002 70009 70013 70014 70016 70020 "
    "70051 70403 72001 80005 90009 100007 100013 10003 10012 10026 10058 10059 11000",
    "forbidden": "10007 100006",
    "refused": "60003 60015 70206 70402 10005 10010 10011 10015 10016 100004 100015 100020 90001",
    "member": "10019 70107 100005 100016 100017 20003 90048 90012",
    "ambiguous": "10004 100002",
}
PAGES = {
    "group.ban_group_member": (10002, 10003, 10004, 10005, 10007),
    "group.unban_group_member": (10002, 10003, 10004, 10005, 10007),
    "live.unban_member": (100001, 100002, 100004),
    "room.kick_user_out": (100001, 100002, 100004, 100005, 100006),
    "room.update_room_member_info": (100001, 100002, 100004, 100005, 100006),
}


@pytest.mark.parametrize(
    ("code", "verdict"),
    [(int(code), verdict) for verdict, codes in EXPECTED.items() for code in codes.split()],
)
def test_each_known_code_has_its_verdict(code: int, verdict: str) -> None:
    assert judge(200, code) == verdict


def test_no_other_code_has_a_verdict() -> None:
    assert set(VERDICTS) == {int(code) for codes in EXPECTED.values() for code in codes.split()}


def test_no_code_has_two_verdicts() -> None:
    listed = [code for codes in _TABLE.values() for code in codes]

    assert len(listed) == len(set(listed))


@pytest.mark.parametrize(("action", "codes"), PAGES.items())
def test_every_code_on_an_endpoints_own_page_is_known(action: str, codes: tuple[int, ...]) -> None:
    assert action in ACTIONS
    assert set(codes) <= set(VERDICTS)


@pytest.mark.parametrize("code", [1, -1, 59999, 60999, 79999, 2**31])
def test_a_code_that_is_in_no_table_is_unknown(code: int) -> None:
    assert judge(200, code) is Verdict.UNKNOWN


@pytest.mark.parametrize(("code", "platform"), [(59999, False), (60000, True), (79999, True), (80000, False)])
def test_codes_from_60000_to_79999_speak_of_the_app(code: int, platform: bool) -> None:
    assert is_platform(code) is platform


@pytest.mark.parametrize(
    ("status", "code", "verdict"),
    [
        (None, None, Verdict.TRANSPORT),
        (200, None, Verdict.TRANSPORT),
        (204, 0, Verdict.DONE),
        (302, 0, Verdict.TRANSPORT),
        (100, 0, Verdict.TRANSPORT),
        (400, None, Verdict.FORBIDDEN),
        (413, None, Verdict.FORBIDDEN),
        (401, None, Verdict.FORBIDDEN),
        (404, 0, Verdict.FORBIDDEN),
        (499, None, Verdict.FORBIDDEN),
        (408, None, Verdict.TRANSPORT),
        (429, None, Verdict.THROTTLE),
        (500, 0, Verdict.TRANSPORT),
        (502, None, Verdict.TRANSPORT),
        (503, 10002, Verdict.TRANSPORT),
    ],
)
def test_a_status_other_than_200_never_speaks_for_tencent(
    status: int | None, code: int | None, verdict: Verdict
) -> None:
    """
    Tencent answers 200 for everything: another status comes from something in between, whatever its body says.
    """
    assert judge(status, code) is verdict


def test_a_verdict_never_both_asks_for_the_same_again_and_proves_that_the_endpoint_did_its_work() -> None:
    assert [verdict for verdict in Verdict if verdict.again and verdict.answered] == []


def test_only_a_call_that_was_not_refused_for_good_is_tried_again() -> None:
    again = {verdict.value: verdict.again for verdict in Verdict if verdict.again}

    assert again == {
        "retry": Again.WITHIN_ATTEMPTS,
        "transport": Again.WITHIN_ATTEMPTS,
        "throttle": Again.ALWAYS,
        "throttle_app": Again.ALWAYS,
        "resign": Again.ALWAYS,
        "unsent": Again.ALWAYS,
        "unknown": Again.BRIEFLY,
    }


def test_what_may_be_an_outage_is_an_attempt_and_no_proof_of_life() -> None:
    failures = {verdict for verdict in Verdict if verdict.is_failure}

    assert failures == {Verdict.RETRY, Verdict.TRANSPORT}
    assert {verdict.again for verdict in failures} == {Again.WITHIN_ATTEMPTS}
    assert [
        verdict for verdict in Verdict if verdict.slows and (verdict.answered or verdict.is_failure)
    ] == []


def test_only_what_the_endpoint_itself_decided_proves_that_it_lives() -> None:
    assert {verdict.value for verdict in Verdict if verdict.answered} == {
        "done",
        "refused",
        "member",
        "ambiguous",
    }


def test_a_wished_state_holds_already_only_by_codes_that_blame_one_member() -> None:
    """
    In a batch the same code must lead to a search for that member, never to a success of all.
    """
    assert set(ALREADY) == {("room.kick_user_out", 100005), ("group.ban_group_member", 100016)}
    for action, code in ALREADY:
        assert action in ACTIONS
        assert judge(200, code) is Verdict.MEMBER


def test_every_remedy_is_for_a_code_that_can_halt() -> None:
    can_halt = {Verdict.FATAL, Verdict.FORBIDDEN, Verdict.RESIGN, Verdict.LOCKED}

    assert {judge(200, code) for code in REMEDIES} <= can_halt


@pytest.mark.parametrize(
    "code", sorted(code for code, verdict in VERDICTS.items() if verdict is Verdict.FATAL)
)
def test_every_code_that_halts_has_a_remedy(code: int) -> None:
    assert len(remedy(code)) > 10


def test_the_remedy_of_a_code_without_one_of_its_own_says_where_to_look() -> None:
    assert "60027" in remedy(60027)


@pytest.mark.parametrize(
    ("status", "part"),
    [
        (404, "HTTP status 404: check base_url"),
        (200, "not Tencent's API"),
        (302, "redirects"),
        (307, "redirects"),
        (407, "credentials"),
        (413, "bodies of this size"),
        (None, "HTTP status None"),
    ],
)
def test_the_remedy_of_a_status_says_what_answers(status: int | None, part: str) -> None:
    assert part in remedy(None, status)


@pytest.mark.parametrize(
    ("status", "code", "foreign"),
    [
        (200, None, True),
        (302, 0, True),
        (200, 0, False),
        (502, None, False),
        (None, None, False),
        (404, None, False),
    ],
)
def test_what_answers_in_tencents_place_is_told_from_an_outage(
    status: int | None, code: int | None, foreign: bool
) -> None:
    assert is_foreign(judge(status, code), status) is foreign
