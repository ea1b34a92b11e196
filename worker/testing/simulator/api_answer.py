# The answer to one request: its code, to whom it applies, and the fault behind it. And the texts of the codes.
#
# The codes are Tencent's, from the endpoints' pages and the common table of error codes. When each one is used is
# defined in endpoint_specs.py, in the table of faults and where a rule is checked.

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

INFO: Final[dict[int, str]] = {
    60002: "the request's URL is malformed",
    60003: "the body is no JSON object",
    60004: "the URL names no account",
    60006: "the SDKAppID is not valid",
    60007: "too many requests to this API",
    60009: "the URL names no resource",
    60010: "an app administrator is required",
    60011: "too many requests of this app",
    60012: "the URL names no SDKAppID",
    60020: "the plan has expired",
    60026: "the app does not belong to this data centre",
    70001: "the UserSig has expired",
    70002: "the UserSig is empty",
    70003: "the UserSig cannot be read",
    70009: "the UserSig was not made with this app's key",
    70013: "the UserSig was made for another identifier",
    70014: "the UserSig was made for another SDKAppID",
    70020: "the SDKAppID does not exist here",
    70050: "too many invalid UserSigs: try again in a minute",
    72001: "the plan does not have this API",
    10002: "internal error, try again",
    100001: "internal error, try again",
    10003: "there is no such command",
    10007: "not enough permission",
    100006: "not enough permission",
    10010: "the group does not exist",
    100004: "the room does not exist",
    10019: "the account does not exist",
    70107: "the account was not imported",
    100005: "not a member of the room",
}
"""The texts of our answers. The wording is ours: do not parse it."""


@dataclass(frozen=True, slots=True)
class ApiAnswer:
    """
    The answer to one request.

    Attributes:
        code: The ErrorCode of its answer; 0 for success.
        info: The ErrorInfo.
        applied: The users to whom it applies; a refused request may apply to some.
        fault: The name of the fault that caused it, if any.
        more: Further members of its answer.

    """

    code: int
    info: str = ""
    applied: tuple[str, ...] = ()
    fault: str | None = None
    more: Mapping[str, object] = field(default_factory=dict)


def refused(code: int, fault: str | None = None) -> ApiAnswer:
    """Return a refusal with this code, applied to no user."""
    return ApiAnswer(code, INFO.get(code, "as configured in the simulator"), fault=fault)
