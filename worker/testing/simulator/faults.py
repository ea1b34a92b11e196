# The table of faults: every way in which the simulator can be made to misbehave, one row each.
#
# Flags, the run-time control, its help and the reference page are made from these rows. A fault is described here and
# done in decision.py and, for signatures, auth.py; where it applies (an endpoint, a target, for how long) is kept in fault_store.py.

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from worker.testing.simulator.endpoint_specs import U32_MAX

if TYPE_CHECKING:
    from collections.abc import Collection

LONGEST_SECONDS: Final = 86_400.0
"""A day. No fault lasts longer, so that a typing error cannot become a forgotten fault."""


class FaultValueType(StrEnum):
    """The type of a fault's value, as JSON writes it."""

    SHARE = "a number from 0 to 1"
    SECONDS = "a number of seconds from 0 to 86400"
    COUNT = "an integer from 0 to 4294967295"
    SWITCH = "true or false"
    CHOICE = "one of the named texts"
    NAMES = "a list of strings"
    CODES = "a list of integers from 1 to 4294967295"


@dataclass(frozen=True, slots=True)
class FaultSpec:
    """
    One row of the table.

    Attributes:
        name: As in JSON; the flag has dashes instead of underscores.
        kind: The type.
        default: The value that changes nothing, or the documented one.
        unit: Of the value.
        meaning: What it does.
        choices: The texts of a CHOICE.
        code: The code that a switch gives to every authenticated request; 0 if it works otherwise.

    """

    name: str
    kind: FaultValueType
    default: object
    unit: str
    meaning: str
    choices: tuple[str, ...] = ()
    code: int = 0

    @property
    def type_text(self) -> str:
        """The type in words, with the choices spelled out."""
        if self.kind is FaultValueType.CHOICE:
            return "one of " + ", ".join(self.choices)
        return self.kind.value


@dataclass(frozen=True, slots=True)
class FaultProblem:
    """Why a value was refused: the field at fault, and the remedy."""

    field: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.field}: {self.remedy}"


def _row(
    kind: FaultValueType,
    default: object,
    unit: str,
    meaning: str,
    choices: tuple[str, ...] = (),
    code: int = 0,
) -> Any:
    """Make a field of FaultValues that carries its row."""
    row = FaultSpec("", kind, default, unit, meaning, choices, code)
    return dataclasses.field(default=default, metadata={"row": row})


def _share(meaning: str) -> Any:
    return _row(FaultValueType.SHARE, 0.0, "share", meaning)


def _seconds(default: float, meaning: str) -> Any:
    return _row(FaultValueType.SECONDS, default, "s", meaning)


def _count(default: int, unit: str, meaning: str) -> Any:
    return _row(FaultValueType.COUNT, default, unit, meaning)


def _switch(meaning: str, code: int = 0) -> Any:
    return _row(FaultValueType.SWITCH, False, "", meaning, code=code)


def _names(unit: str, meaning: str) -> Any:
    return _row(FaultValueType.NAMES, frozenset(), unit, meaning)


def _choice(choices: tuple[str, ...], unit: str, meaning: str) -> Any:
    return _row(FaultValueType.CHOICE, choices[0], unit, meaning, choices)


@dataclass(frozen=True, slots=True)
class FaultValues:
    """
    One value for every fault. The defaults are a healthy, patient Tencent.

    A share is drawn for each request from the seeded random source, unless its row says otherwise.
    """

    limit: int = _count(
        200,
        "requests",
        "Requests of one app that an endpoint takes in any rolling second; one more is refused with 60007 and not applied.",
    )
    latency: float = _seconds(0.0, "Mean time from reading a request to answering it.")
    latency_jitter: float = _share(
        "How far a latency may be from the mean: drawn uniformly from latency*(1-jitter) to latency*(1+jitter)."
    )
    apply_point: str = _choice(
        ("read", "random", "answer"),
        "moment",
        "When a request takes effect: when it is read, at a random moment of its latency, or with its answer.",
    )

    bad_users: float = _share(
        "Users without an account, chosen by a hash of the seed and the user id: 10019 in groups, 70107 in rooms."
    )
    bad_user_list: frozenset[str] = _names("user ids", "Users without an account, by name.")
    bad_user_code: int = _count(
        0, "code", "The code for a user without an account; 0 is the service's own (10019 or 70107)."
    )
    missing_users: float = _share(
        "Users that are in no room, chosen by a hash: 100005 for a kick or an update."
    )
    missing_user_list: frozenset[str] = _names("user ids", "Users that are in no room, by name.")
    refused_applies: str = _choice(
        ("none", "part", "all"),
        "members",
        "What a call that is refused for a bad member has applied: nothing, to a random part of the good members, or to all.",
    )
    rejoin_after: float = _seconds(0.0, "A kicked user is back in the room after this time; 0: never.")
    unknown_targets: frozenset[str] = _names(
        "group and room ids", "Targets that do not exist: 10010 for a group, 100004 for a room."
    )

    transient: float = _share("Requests that are answered with a transient code and not applied.")
    transient_codes: tuple[int, ...] = _row(
        FaultValueType.CODES, (), "codes", "The codes to draw from; none: the service's own internal error (10002 or 100001).",
    )  # fmt: skip
    answer_code: int = _count(0, "code", "Every request gets this code and is not applied; 0: off.")

    drop_before: float = _share("Requests whose connection is closed without an answer, not applied.")
    drop_after: float = _share(
        "Requests whose connection is closed without an answer, after they were applied."
    )
    bad_gateway: float = _share("Requests answered with HTTP 502 and a page of HTML, not applied.")
    bad_gateway_after: float = _share("The same, after they were applied.")
    hang: float = _share("Requests that are never answered and never applied; the connection stays open.")
    cut_body: float = _share("Requests that are applied, and whose answer is cut in the middle of its body.")
    slow_apply: float = _share(
        "Requests whose answer is lost and that take effect afterwards, at a random moment within slow_apply_seconds."
    )
    slow_apply_seconds: float = _seconds(
        2.9, "The longest time from the lost answer to the effect. Tencent's own budget for a request is 3 s."
    )
    slow_apply_end: str = _choice(
        ("reset", "hang"),
        "end",
        "How that answer is lost: the connection is reset, or it hangs until the client gives up (the time runs from then).",
    )
    outage: str = _choice(
        ("none", "502", "refuse", "hang"),
        "way",
        "Every request fails and nothing is applied: 502 (HTML), refuse (no connections; limited to an endpoint or a"
        " target, a reset as soon as the request is read, since the port is shared) or hang (no answer).",
    )

    signature_expired: bool = _switch("Every UserSig counts as expired: 70001.", 70001)
    wrong_key: bool = _switch("Every UserSig counts as made with another app's key: 70009.", 70009)
    lock_after: int = _count(
        0,
        "signatures",
        "This many refused signatures within a minute lock an app for a minute: 70050. 0: never.",
    )
    wrong_region: bool = _switch("The app is not in this data centre: 60026.", 60026)
    not_admin: bool = _switch("The identifier is no app administrator: 60010.", 60010)
    plan_expired: bool = _switch("The app's plan has run out: 60020.", 60020)
    plan_lacks_api: bool = _switch("The app's plan does not have this API: 72001.", 72001)
    app_throttled: bool = _switch("The app as a whole calls too often: 60011.", 60011)
    switch_off: bool = _switch(
        "Banning of group members is switched off in the console: 10007 from the group service."
    )
    forbidden: bool = _switch("No permission: 10007 from the group service, 100006 from the others.")


ROWS: Final[dict[str, FaultSpec]] = {
    field.name: dataclasses.replace(field.metadata["row"], name=field.name)
    for field in dataclasses.fields(FaultValues)
}
"""The table, in order."""


def read(name: str, value: object) -> tuple[object, FaultProblem | None]:
    """Return the value to set for a JSON value, or the problem with it."""
    row = ROWS.get(name)
    if row is None:
        return None, FaultProblem(name, f"there is no such fault; there are: {', '.join(ROWS)}")
    valid = _validated(row, value)
    if valid is None:
        return None, FaultProblem(name, f"must be {row.type_text}")
    return valid, None


def _validated(row: FaultSpec, value: object) -> object:
    # Return None for another type. bool is an int in Python, and is refused wherever a number is expected.
    valid: object = None
    match row.kind:
        case FaultValueType.SWITCH if isinstance(value, bool):
            valid = value
        case FaultValueType.CHOICE if value in row.choices:
            valid = value
        case FaultValueType.COUNT if _is_int(value) and 0 <= value <= U32_MAX:
            valid = value
        case FaultValueType.NAMES if _is_list(value) and all(isinstance(name, str) for name in value):
            valid = frozenset(value)
        case FaultValueType.CODES if _is_list(value) and all(
            _is_int(code) and 0 < code <= U32_MAX for code in value
        ):
            valid = tuple(value)
        case FaultValueType.SHARE if is_number(value) and 0 <= value <= 1:
            valid = float(value)
        case FaultValueType.SECONDS if is_number(value) and 0 <= value <= LONGEST_SECONDS:
            valid = float(value)
        case _:
            pass
    return valid


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """Return whether a JSON value is a number; true and false are not."""
    return isinstance(value, float) or _is_int(value)


def _is_list(value: object) -> TypeGuard[Collection[object]]:
    return isinstance(value, (list, tuple, set, frozenset))


def problems_of(faults: FaultValues) -> list[FaultProblem]:
    """Return what is wrong with values that a program has set."""
    read_all = (read(name, getattr(faults, name))[1] for name in ROWS)
    return [problem for problem in read_all if problem]


def is_chosen(user: str, share: float, seed: int, what: str) -> bool:
    """
    Return whether a user belongs to the share that ``seed`` chooses, always the same.

    ``what`` is the name of the fault, so that two faults choose different users.
    """
    if share <= 0:
        return False
    digest = hashlib.blake2b(f"{seed}/{what}/{user}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64
