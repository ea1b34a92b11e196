# Guards as an operator writes them: how many members of a scope may be sent in how many seconds, and what follows.
#
# What one guard may be, and what contradicts other settings, is decided here. When a guard trips is not (domain/runaway_guards.py).

from __future__ import annotations

import difflib
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, Annotated, Any, Final

from msgspec import to_builtins
from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from worker.domain.contract.actions import ACTIONS, MEMBERS_PER_CALL
from worker.domain.contract.control_records import SCOPE_FIELDS, OrderState, Scope, scope_fault
from worker.domain.contract.spelling_suggestions import meant_actions
from worker.domain.runaway_guards import ANY, RunawayGuard
from worker.errors import SettingProblem
from worker.settings.types import RuleText

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from worker.settings.model import Settings

MAX_GUARDS: Final = 20
"""Each guard is looked at for every command."""
MAX_MEMBERS: Final = 10_000_000
SECONDS: Final = (1.0, 3_600.0)
VALUE_BYTES: Final = 256
FOLLOWS: Final = tuple(state for state in OrderState if state.row.may_guard_order)
"""The orders that a guard may give."""
_NAMES: Final = ("scope", "members", "per_seconds", "then")


def _guards(value: object) -> tuple[RunawayGuard, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError("it is no list")  # noqa: TRY004 - pydantic collects ValueErrors only
    if len(value) > MAX_GUARDS:
        raise ValueError(f"at most {MAX_GUARDS} guards, and there are {len(value)}")
    return tuple(
        _together(*(partial(_guard, item, f"guard {number}") for number, item in enumerate(value, 1)))
    )


def _together(*reads: Callable[[], Any]) -> list[Any]:
    """Return what each of these reads. Raises ValueError with what all of them have found wrong."""
    made, wrong = [], []
    for read in reads:
        try:
            made.append(read())
        except ValueError as error:
            wrong.append(str(error))
    if wrong:
        raise ValueError("; ".join(wrong))
    return made


def _guard(item: object, where: str) -> RunawayGuard:
    if isinstance(item, RunawayGuard):
        return item
    if not isinstance(item, dict):
        raise ValueError(f"{where} is no mapping")  # noqa: TRY004
    _only(item, _NAMES, where)
    missing = [name for name in _NAMES if name not in item]
    if missing:
        raise ValueError(f"{where} has no {' and no '.join(missing)}")
    scope, members, per_seconds, then = _together(
        partial(_scope, item["scope"], where),
        partial(_bounded, item["members"], int, (1, MAX_MEMBERS), f"{where}: members"),
        partial(_bounded, item["per_seconds"], (int, float), SECONDS, f"{where}: per_seconds"),
        partial(_then, item["then"], where),
    )
    return RunawayGuard(scope, int(members), per_seconds, then)


def _then(value: object, where: str) -> OrderState:
    # Whatever a file can hold: a list has no hash.
    if not isinstance(value, str) or value not in {state.value for state in FOLLOWS}:
        raise ValueError(f"{where}: then is {' or '.join(FOLLOWS)}; to cancel is a person's decision")
    return OrderState(value)


def _bounded(value: object, kind: Any, bounds: tuple[float, float], what: str) -> float:
    low, high = bounds
    if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
        raise ValueError(f"{what} is a {'whole ' * (kind is int)}number from {low:.0f} to {high:,.0f}")
    return value  # type: ignore[return-value]


def _scope(value: object, where: str) -> Scope:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: scope is a mapping of any of {', '.join(SCOPE_FIELDS)}")  # noqa: TRY004
    _only(value, SCOPE_FIELDS, f"{where}: scope")
    for name, text in value.items():
        if not isinstance(text, str) or not 1 <= len(text.encode()) <= VALUE_BYTES:
            raise ValueError(f"{where}: scope.{name} is a text of 1 to {VALUE_BYTES} bytes; quote a number")
        if text != ANY and (fault := scope_fault(name, text)) is not None:
            raise ValueError(f"{where}: scope.{fault}")
    wildcards = [name for name, text in value.items() if text == ANY]
    if len(wildcards) > 1:
        raise ValueError(f'{where}: one field may be "{ANY}", and {" and ".join(wildcards)} are')
    action = value.get("action", ANY)
    if action != ANY and action not in ACTIONS:
        raise ValueError(f"{where}: {no_action(action)}")
    return Scope(**value)


def _only(given: dict[Any, Any], known: tuple[str, ...], where: str) -> None:
    for name in given:
        if name not in known:
            text = str(name)[:VALUE_BYTES]  # it may be a megabyte
            meant = did_you_mean(text, known) or f"; it has {', '.join(known)}"
            raise ValueError(f"{where} has no {text!r}{meant}")


def no_action(name: str) -> str:
    """Return a sentence that there is no action of this name, and which was probably meant."""
    meant = " or ".join(meant_actions(name))
    return f"there is no action {name!r}" + (
        f": did you mean {meant}?" if meant else f"; there are {', '.join(ACTIONS)}"
    )


def did_you_mean(word: str, known: Any) -> str:
    """Return a suggestion as the end of a sentence; empty if nothing is similar."""
    close = difflib.get_close_matches(word, list(known), 1, 0.5)
    return f": did you mean {close[0]}?" if close else ""


Guards = Annotated[
    tuple[RunawayGuard, ...],
    PlainValidator(_guards),
    PlainSerializer(to_builtins),
    WithJsonSchema(
        {
            "type": "array",
            "maxItems": MAX_GUARDS,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": list(_NAMES),
                "properties": {
                    "scope": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {name: {"type": "string", "minLength": 1} for name in SCOPE_FIELDS},
                    },
                    "members": {"type": "integer", "minimum": 1, "maximum": MAX_MEMBERS},
                    "per_seconds": {"type": "number", "minimum": SECONDS[0], "maximum": SECONDS[1]},
                    "then": {"enum": [state.value for state in FOLLOWS]},
                },
            },
        }
    ),
    RuleText(f"a list of at most {MAX_GUARDS} guards {{scope, members, per_seconds, then}}"),
]


def guard_problems(settings: Settings) -> Iterator[SettingProblem]:
    """Yield what the other settings make of the guards: without a topic to write to, or never or always tripping."""
    if settings.guards and settings.kafka.control_topic is None:
        yield SettingProblem(
            "kafka.control_topic", "name a topic: guards write what they decide to it, for all replicas"
        )
    for number, guard in enumerate(settings.guards, 1):
        name = f"guards[{number}]"
        apps = settings.tencent.apps
        if guard.scope.app not in {None, ANY, *apps}:
            meant = did_you_mean(guard.scope.app or "", apps)
            yield SettingProblem(f"{name}.scope.app", f"is not in tencent.apps{meant}", guard.scope.app)
            continue
        full_call, quota = _call_size(guard), _quota_of(settings, guard)
        if guard.members < full_call:
            remedy = (
                f"give at least {full_call}: a single full call has that many, so this guard would trip on it"
            )
            yield SettingProblem(f"{name}.members", remedy, guard.members)
        elif guard.members > quota:
            remedy = (
                f"give at most {quota:,}: the quota lets no more members through in {guard.per_seconds:g} s, "
                "so this guard would never trip"
            )
            yield SettingProblem(f"{name}.members", remedy, guard.members)


def _actions(guard: RunawayGuard) -> list[str]:
    return list(ACTIONS) if guard.scope.action in {None, ANY} else [str(guard.scope.action)]


def _call_size(guard: RunawayGuard) -> int:
    return max(ACTIONS[name].members_per_call for name in _actions(guard))


def _quota_of(settings: Settings, guard: RunawayGuard) -> int:
    """Return the most members of one counter that the quota lets through in the guard's time."""
    limits, endpoints = settings.limits, {ACTIONS[name].endpoint for name in _actions(guard)}
    seconds = ceil(guard.per_seconds)  # the quota holds for any rolling second, so for a part of one as well
    members_per_endpoint = [
        MEMBERS_PER_CALL[endpoint] * limits.per_endpoint.get(endpoint, limits.calls_per_second) * seconds
        for endpoint in endpoints
    ]
    apps = len(settings.tencent.apps) if guard.scope.app is None else 1
    return apps * (max(members_per_endpoint) if guard.scope.action == ANY else sum(members_per_endpoint))
