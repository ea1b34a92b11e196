# What an answer means: Tencent's error codes and what HTTP and the transport can do, each with one verdict.
#
# One table. The consequences of a verdict are said at Verdict, and drawn in calls/response_handler.py.
# Sources: the error-code tables of the endpoints' pages and Tencent's "Error Codes" page.

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final


class Verdict(StrEnum):
    """What one answer means for the call that got it."""

    DONE = "done"
    """The call took effect."""
    RETRY = "retry"
    """Transient: the same again, after a backoff."""
    TRANSPORT = "transport"
    """No usable answer (connect error, reset, timeout, 5xx, not JSON): as RETRY, but the endpoint may be down."""
    THROTTLE = "throttle"
    """Too many requests: slow down, then again. Never counts as an attempt."""
    THROTTLE_APP = "throttle_app"
    """The same for every endpoint of the app."""
    RESIGN = "resign"
    """The signature is not accepted: make a new one, then again."""
    LOCKED = "locked"
    """Too many bad signatures: nothing of the app is sent for a minute, then as RESIGN."""
    FATAL = "fatal"
    """The configuration, the account or the plan is wrong: halt the app, fail nothing."""
    FORBIDDEN = "forbidden"
    """No permission, or a refusal by a gateway on the way: the target's fault or the endpoint's. Hold the target until it is known whose."""
    REFUSED = "refused"
    """This request will never be accepted."""
    MEMBER = "member"
    """One member is at fault: search for it. A member alone in its call is refused."""
    AMBIGUOUS = "ambiguous"
    """As MEMBER, but it may be the target's fault: two members alone with the same code make it so."""
    UNKNOWN = "unknown"
    """An unlisted code: a small budget of retries; then as FORBIDDEN until a later request passes, and as MEMBER after that."""
    UNSENT = "unsent"
    """It was not sent: at the last moment the ownership of its partitions, its permit, an order or its commands' time forbade it."""

    @property
    def retry_budget(self) -> RetryBudget:
        """Whether, and how often, the same call is tried again."""
        return _CONSEQUENCES[self].retry_budget

    @property
    def proves_life(self) -> bool:
        """Whether the endpoint did its work: a proof that it lives."""
        return _CONSEQUENCES[self].lives

    @property
    def is_failure(self) -> bool:
        """Whether the breaker counts it: enough of them in a row are an outage."""
        return _CONSEQUENCES[self].fails is not None

    @property
    def fails(self) -> FailureScope | None:
        """What failed, of what the breaker counts."""
        return _CONSEQUENCES[self].fails

    @property
    def slows(self) -> bool:
        """Whether the rate of requests is too high."""
        return _CONSEQUENCES[self].slows

    @property
    def is_transient(self) -> bool:
        """Whether the same may work in a moment, without anybody's doing."""
        return self.is_failure or self.slows

    @property
    def backoff(self) -> float:
        """How many times the usual wait comes before the next attempt, beside what the result itself asks for."""
        return _CONSEQUENCES[self].backoff


class FailureScope(Enum):
    """What has failed, as far as one attempt tells."""

    ENDPOINT = "endpoint"
    """No usable answer came back: every such attempt speaks for an outage."""
    REQUEST = "request"
    """A code came back, so it may be one target's own matter: only codes of several targets speak for an outage."""


class RetryBudget(Enum):
    """How often the same call is tried again for one verdict, as far as its members have anything to say."""

    NEVER = 0
    BRIEFLY = 1
    """Until ``BRIEF_ATTEMPTS`` attempts, whatever the settings say: then the answer is believed."""
    WITHIN_ATTEMPTS = 2
    """Until its members have used up their attempts, or their time."""
    ALWAYS = 3
    """It is no attempt: nothing was wrong with the call."""

    def __bool__(self) -> bool:
        return self is not RetryBudget.NEVER


BRIEF_ATTEMPTS: Final = 3


@dataclass(frozen=True, slots=True)
class _Consequences:
    retry_budget: RetryBudget = RetryBudget.NEVER
    lives: bool = False
    fails: FailureScope | None = None
    slows: bool = False
    backoff: float = 1.0


_CONSEQUENCES: Final[dict[Verdict, _Consequences]] = {
    Verdict.DONE: _Consequences(lives=True),
    Verdict.RETRY: _Consequences(RetryBudget.WITHIN_ATTEMPTS, fails=FailureScope.REQUEST),
    Verdict.TRANSPORT: _Consequences(RetryBudget.WITHIN_ATTEMPTS, fails=FailureScope.ENDPOINT),
    Verdict.THROTTLE: _Consequences(RetryBudget.ALWAYS, slows=True),
    Verdict.THROTTLE_APP: _Consequences(RetryBudget.ALWAYS, slows=True),
    # Only the signature was at fault, and there is a new one, or will be after the result's `retry_after`.
    Verdict.RESIGN: _Consequences(RetryBudget.ALWAYS, backoff=0.0),
    Verdict.LOCKED: _Consequences(),
    Verdict.FATAL: _Consequences(),
    Verdict.FORBIDDEN: _Consequences(),
    Verdict.REFUSED: _Consequences(lives=True),
    Verdict.MEMBER: _Consequences(lives=True),
    Verdict.AMBIGUOUS: _Consequences(lives=True),
    Verdict.UNKNOWN: _Consequences(RetryBudget.BRIEFLY),
    Verdict.UNSENT: _Consequences(RetryBudget.ALWAYS),
}
"""A row for each verdict. What else follows from it is done by its handler (calls/response_handler.py)."""
assert all(row.fails for row in _CONSEQUENCES.values() if row.retry_budget is RetryBudget.WITHIN_ATTEMPTS), (
    "the breaker counts attempts: one that fails nothing would be tried again without end"
)

_TABLE: Final[dict[Verdict, tuple[int, ...]]] = {
    Verdict.DONE: (0,),
    Verdict.RETRY: (
        10002, 100001, 60008, 60013, 60014, 70169, 70202, 70500, 20004, 20005, 90992, 90994, 90995, 91000, 100102, 80003, 10056,
    ),
    Verdict.THROTTLE: (60007, 60018, 60019, 10006, 100012, 10023, 22006, 90057),
    Verdict.THROTTLE_APP: (60011,),
    Verdict.RESIGN: (70001, 70003, 70005, 70052, 60004, 60005, 60025, 10008, 20002),
    Verdict.LOCKED: (70050,),
    Verdict.FATAL: (
        60002, 60006, 60009, 60010, 60012, 60016, 60017, 60020, 60021, 60026, 60027, 70002, 70009, 70013, 70014, 70016, 70020,
        70051, 70403, 72001, 80005, 90009, 100007, 100013, 10003, 10012, 10026, 10058, 10059, 11000,
        60028,  # the trial plan's volume of 24 hours: a halt, which probes and resumes by itself, is what waiting that long needs
    ),
    Verdict.FORBIDDEN: (10007, 100006),
    Verdict.REFUSED: (60003, 60015, 70206, 70402, 10005, 10010, 10011, 10015, 10016, 100004, 100015, 100020, 90001),
    Verdict.MEMBER: (10019, 70107, 100005, 100016, 100017, 20003, 90048, 90012),
    Verdict.AMBIGUOUS: (10004, 100002),
}  # fmt: skip

VERDICTS: Final[dict[int, Verdict]] = {code: verdict for verdict, codes in _TABLE.items() for code in codes}

_CLIENT_ERRORS: Final[dict[int, Verdict]] = {
    408: Verdict.TRANSPORT,
    429: Verdict.THROTTLE,
}
"""HTTP's own refusals. Any other comes from a wrong address, a proxy or a gateway: everybody's fault, unless another target passes."""

LOCK_SECONDS: Final = 60.0
"""70050: after too many bad signatures nothing of the app is accepted for so long."""

ALREADY: Final[dict[tuple[str, int], str]] = {
    ("room.kick_user_out", 100005): "the user is not in the room",
    ("group.ban_group_member", 100016): "the user is banned already",
}
"""Codes that say, of a member alone, that the wished state already holds: (action, code) -> why."""

KEY_CODES: Final = frozenset({70002, 70009})
"""Fatal codes about the key alone: they say nothing of a key that has replaced it in the meantime."""

REMEDIES: Final[dict[int, str]] = {
    10003: "the endpoint does not exist here: check base_url",
    10007: "enable banning of group members in the console, use an app administrator, and check the group's type",
    10008: "check the secret key and identifier: the group service does not accept the signature",
    10012: "the identifier is not valid: use an app administrator as the console spells it",
    10026: "Tencent has disabled this command for the app: open a ticket with Tencent",
    10058: "the plan does not include this for the group: upgrade the Chat plan, or enable the feature in the console",
    10059: "the feature is not enabled for the app: enable it in the console",
    11000: "the app may not use this: upgrade the Chat plan, or enable the feature in the console",
    20002: "check the secret key and identifier: the message service does not accept the signature",
    60002: "the request's URL is malformed: check base_url",
    60004: "check identifier and the secret key: account or signature is not accepted",
    60005: "check identifier and the secret key: account or signature is not accepted",
    60006: "check sdk_app_id",
    60009: "check base_url, sdk_app_id and the app's status in the console",
    60010: "the identifier must be an app administrator",
    60012: "check sdk_app_id",
    60016: "the app is disabled: enable it in the console, and check for unpaid bills",
    60017: "requests of the app are disabled: check sdk_app_id and the app's status in the console",
    60020: "buy or renew the Chat plan that this API needs",
    60021: "allow this address in the console's list of server addresses",
    60025: "check the secret key and identifier: the signature is not accepted",
    60026: "check sdk_app_id and region: the app is not in this data centre",
    60027: "check sdk_app_id and region, and the app's status in the console: it may not call this API",
    60028: "the trial plan's volume of 24 hours is used up: upgrade the plan or wait",
    70001: "a new signature counts as expired: set the clock of this machine",
    70002: "check the secret key and sdk_app_id",
    70003: "check the secret key: the signature is not accepted",
    70005: "check the secret key: the signature is not accepted",
    70009: "check the secret key: it does not belong to this app",
    70013: "the signature was made for another identifier: check identifier",
    70014: "the signature was made for another app: check sdk_app_id",
    70016: "check region: the app's key is not in this data centre",
    70020: "check sdk_app_id and region: the app does not exist in this data centre",
    70050: "check the secret key and identifier: Tencent locks the app for a minute after too many bad signatures",
    70051: "the identifier is blocked: use another app administrator",
    70052: "check the secret key and the clock of this machine: the signature is not valid any more",
    70403: "the identifier must be an app administrator",
    72001: "buy or renew the Chat plan that this API needs",
    80005: "check the identifier's rights",
    90009: "the identifier must be an app administrator",
    100006: "make the configured identifier an app administrator",
    100007: "buy or renew the plan that the live and room API needs",
    100013: "the plan does not cover this use of the live and room API: upgrade it in the console",
}
"""What an operator should do about a code that halts, of each one that can; ``remedy`` speaks for unlisted ones."""

_HTTP_REMEDIES: Final[tuple[tuple[int, int, str], ...]] = (
    (
        200,
        300,
        "something answers that is not Tencent's API: check base_url, DNS, and any proxy or gateway on the way",
    ),
    (
        300,
        400,
        "something on the way redirects: check base_url, and sign in to or go round the proxy or gateway that answers",
    ),
    (407, 408, "a proxy on the way asks for credentials: let the worker reach Tencent without it"),
    (
        413,
        414,
        "something on the way refuses bodies of this size: raise the limit of the proxy or gateway that answers",
    ),
)
"""From a status, to another one (exclusive), what an operator should do; ``remedy`` speaks for all others."""


def judge(http_status: int | None, error_code: int | None) -> Verdict:
    """
    Return the verdict on one attempt.

    ``http_status`` is None when there was no answer at all; ``error_code`` is None when the body held none that could be read.
    Tencent answers 200 for everything but network errors, so any other status comes from something in between.
    """
    if http_status is None:
        return Verdict.TRANSPORT
    if 400 <= http_status < 500:
        return _CLIENT_ERRORS.get(http_status, Verdict.FORBIDDEN)
    if error_code is None or http_status >= 500 or not 200 <= http_status < 300:
        return Verdict.TRANSPORT
    return VERDICTS.get(error_code, Verdict.UNKNOWN)


def is_foreign(verdict: Verdict, http_status: int | None) -> bool:
    """Return whether something that is not Tencent answers in its place, and will go on to: a redirect, or a 200 with another body."""
    return verdict is Verdict.TRANSPORT and http_status is not None and 200 <= http_status < 400


def is_platform(error_code: int) -> bool:
    """Return whether an unknown code is of the platform's own ranges (60xxx access, 70xxx account), which speak of the app."""
    return 60000 <= error_code < 80000


def remedy(error_code: int | None, http_status: int | None = None) -> str:
    """Return what an operator should do about a code that halts."""
    if error_code is None:
        status = http_status or 0
        special = (text for first, beyond, text in _HTTP_REMEDIES if first <= status < beyond)
        return next(special, f"HTTP status {http_status}: check base_url, and any proxy on the way")
    return REMEDIES.get(
        error_code, f"look up error code {error_code} in Tencent's error-code table, and fix what it names"
    )
