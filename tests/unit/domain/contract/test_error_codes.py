# Tencent's codes and HTTP's statuses: what each one means for the call that got it.

from __future__ import annotations

import re

import pytest

from worker.domain.contract.actions import ACTIONS
from worker.domain.contract.error_codes import (
    _TABLE,
    ALREADY,
    REMEDIES,
    VERDICTS,
    RetryBudget,
    Verdict,
    is_foreign,
    is_platform,
    judge,
    remedy,
)
from worker.settings.setting_rows import rows

# What Tencent's documentation says of each code, one row for each statement, and what follows from that. It is read off the
# pages and not off the worker's table, which sorts by verdict.
SAID: list[tuple[str, str, Verdict]] = [
    ("group: success", "0", Verdict.DONE),
    ("group: internal error, or a conflict of writes; try again", "10002 10056", Verdict.RETRY),
    ("group: no interface of this name", "10003", Verdict.FATAL),
    ("group: invalid parameter", "10004", Verdict.AMBIGUOUS),
    ("group: too many accounts in one request", "10005", Verdict.REFUSED),
    ("group: too frequent", "10006 10023", Verdict.THROTTLE),
    ("group: no permission", "10007", Verdict.FORBIDDEN),
    ("group: the signature is not verified", "10008", Verdict.RESIGN),
    ("group: no such group, or dissolved", "10010 10015", Verdict.REFUSED),
    ("group: the body cannot be parsed", "10011", Verdict.REFUSED),
    ("group: the app's own callback refuses it", "10016", Verdict.REFUSED),
    ("group: the operator's identifier is invalid", "10012", Verdict.FATAL),
    ("group: no such account", "10019", Verdict.MEMBER),
    ("group: the app may not use this command, or its plan does not include it", "10026 10058 10059 11000", Verdict.FATAL),
    ("message: no such account", "20003 90012 90048", Verdict.MEMBER),
    ("message: internal error, network error; try again", "20004 20005 80003 90992 90994 90995 91000", Verdict.RETRY),
    ("message: authentication failed", "20002", Verdict.RESIGN),
    ("message: too frequent", "22006 90057", Verdict.THROTTLE),
    ("message: an administrator is required", "80005 90009", Verdict.FATAL),
    ("message: the body cannot be parsed", "90001", Verdict.REFUSED),
    ("access: the URL is malformed, or names nothing", "60002 60009 60012", Verdict.FATAL),
    ("access: the body cannot be parsed, or is not what it should be", "60003 60015", Verdict.REFUSED),
    ("access: account or signature is wrong", "60004 60005 60025", Verdict.RESIGN),
    ("access: no such app, disabled, or in another region", "60006 60016 60017 60026 60027", Verdict.FATAL),
    ("access: too frequent", "60007 60018 60019", Verdict.THROTTLE),
    ("access: too frequent, counted for the whole app", "60011", Verdict.THROTTLE_APP),
    ("access: timeout, or an answer that cannot be parsed", "60008 60013 60014", Verdict.RETRY),
    ("access: an administrator is required", "60010", Verdict.FATAL),
    ("access: no plan, or its volume is used up", "60020 60028", Verdict.FATAL),
    ("access: this address may not call", "60021", Verdict.FATAL),
    ("account: the signature is expired or not verified", "70001 70003 70005 70052", Verdict.RESIGN),
    ("account: the signature is another app's or identifier's, or its key is unknown", "70002 70009 70013 70014 70016 70020", Verdict.FATAL),
    ("account: too many bad signatures", "70050", Verdict.LOCKED),
    ("account: blocked, no administrator, or without a plan", "70051 70403 72001", Verdict.FATAL),
    ("account: not imported", "70107", Verdict.MEMBER),
    ("account: internal error, timeout; try again", "70169 70202 70500", Verdict.RETRY),
    ("account: invalid parameter", "70206 70402", Verdict.REFUSED),
    ("room: internal error; try again", "100001 100102", Verdict.RETRY),
    ("room: invalid parameter", "100002", Verdict.AMBIGUOUS),
    ("room: no such room, or it is not one of that kind", "100004 100015 100020", Verdict.REFUSED),
    ("room: of this user it cannot be done: not a member, banned, muted", "100005 100016 100017", Verdict.MEMBER),
    ("room: no permission", "100006", Verdict.FORBIDDEN),
    ("room: no plan", "100007 100013", Verdict.FATAL),
    ("room: too frequent", "100012", Verdict.THROTTLE),
]  # fmt: skip
PAGES = {
    "group.ban_group_member": (10002, 10003, 10004, 10005, 10007),
    "group.unban_group_member": (10002, 10003, 10004, 10005, 10007),
    "live.unban_member": (100001, 100002, 100004),
    "room.kick_user_out": (100001, 100002, 100004, 100005, 100006),
    "room.update_room_member_info": (100001, 100002, 100004, 100005, 100006),
}


@pytest.mark.parametrize(
    ("said", "code", "verdict"),
    [(said, int(code), verdict) for said, codes, verdict in SAID for code in codes.split()],
)
def test_a_code_means_what_tencents_page_says_of_it(said: str, code: int, verdict: Verdict) -> None:
    assert judge(200, code) is verdict, said


def test_no_other_code_has_a_verdict() -> None:
    listed = [int(code) for _, codes, _ in SAID for code in codes.split()]

    assert sorted(listed) == sorted(VERDICTS)


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
    """Tencent answers 200 for everything: another status comes from something in between, whatever its body says."""
    assert judge(status, code) is verdict


def test_no_verdict_is_tried_again_and_proves_that_the_endpoint_lives() -> None:
    """What the endpoint decided, it decides again."""
    assert [verdict for verdict in Verdict if verdict.retry_budget and verdict.proves_life] == []


def test_only_a_call_that_was_not_refused_for_good_is_tried_again() -> None:
    again = {verdict.value: verdict.retry_budget for verdict in Verdict if verdict.retry_budget}

    assert again == {
        "retry": RetryBudget.WITHIN_ATTEMPTS,
        "transport": RetryBudget.WITHIN_ATTEMPTS,
        "throttle": RetryBudget.ALWAYS,
        "throttle_app": RetryBudget.ALWAYS,
        "resign": RetryBudget.ALWAYS,
        "unsent": RetryBudget.ALWAYS,
        "unknown": RetryBudget.BRIEFLY,
    }


def test_only_a_call_whose_signature_was_refused_goes_again_without_a_wait() -> None:
    assert [verdict for verdict in Verdict if verdict.retry_budget and not verdict.backoff] == [
        Verdict.RESIGN
    ]


def test_what_passes_by_itself_are_failures_and_throttling() -> None:
    assert {verdict.value for verdict in Verdict if verdict.is_transient} == {
        "retry",
        "transport",
        "throttle",
        "throttle_app",
    }


def test_what_may_be_an_outage_is_an_attempt_and_no_proof_of_life() -> None:
    failures = {verdict for verdict in Verdict if verdict.is_failure}

    assert failures == {Verdict.RETRY, Verdict.TRANSPORT}
    assert {verdict.retry_budget for verdict in failures} == {RetryBudget.WITHIN_ATTEMPTS}
    assert [
        verdict for verdict in Verdict if verdict.slows and (verdict.proves_life or verdict.is_failure)
    ] == []


def test_only_what_the_endpoint_itself_decided_proves_that_it_lives() -> None:
    assert {verdict.value for verdict in Verdict if verdict.proves_life} == {
        "done",
        "refused",
        "member",
        "ambiguous",
    }


def test_a_wished_state_holds_already_only_by_codes_that_blame_one_member() -> None:
    """In a batch the same code must lead to a search for that member, never to a success of all."""
    assert set(ALREADY) == {("room.kick_user_out", 100005), ("group.ban_group_member", 100016)}
    for action, code in ALREADY:
        assert action in ACTIONS
        assert judge(200, code) is Verdict.MEMBER


def test_every_code_that_can_halt_has_a_remedy_of_its_own_and_no_other_code() -> None:
    """The general sentence sends an operator to a page of Tencent's, at night."""
    can_halt = {Verdict.FATAL, Verdict.FORBIDDEN, Verdict.RESIGN, Verdict.LOCKED}

    assert set(REMEDIES) == {code for code, verdict in VERDICTS.items() if verdict in can_halt}


@pytest.mark.parametrize(("code", "text"), REMEDIES.items())
def test_a_remedy_says_what_to_do_and_names_only_settings_that_there_are(code: int, text: str) -> None:
    settings = {row.path[-1] for row in rows()}
    words = re.findall(r"[a-z_]+", text)

    assert re.search(r"\b(check|enable|use|open|upgrade|buy|allow|set|make|must)\b", text)
    assert {word for word in words if "_" in word} <= settings
    assert str(code) not in text


def test_the_remedy_of_an_unlisted_code_names_it_and_says_where_to_look() -> None:
    assert "error code 60999" in remedy(60999)


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
def test_what_answers_in_tencents_place_differs_from_an_outage(
    status: int | None, code: int | None, foreign: bool
) -> None:
    assert is_foreign(judge(status, code), status) is foreign
