# The parameters of commands, in one place: all that a command asks for besides its action, target and users.
#
# All users of parameters take them from here whole: tasks share a call, an id is recognised and a repeat is found by their value
# (`effect_of`), the outcome gives them as they were commanded, and the request is made of them (actions.py). Not here: how they are
# written (command_wire_format.py), what each must look like (field_checks.py), which action takes which (actions.py).

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import astuple

EffectKey = tuple[object, ...]
"""Equal for two commands of which one does as well as the other: the action and its parameters, by value."""


class MemberInfo(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What ``room.update_room_member_info`` sets; at least one of the three."""

    name_card: str | None = None
    role: Literal["Admin", "Member"] | None = None
    custom_info: str | None = None


class Parameters(Struct, frozen=True, omit_defaults=True):
    """The command's parameters, as commanded."""

    duration: int | None = None
    banned_until: str | None = None
    reason: str | None = None
    member_info: MemberInfo | None = None


PARAMETERS: Final = Parameters.__struct_fields__
NO_PARAMETERS: Final = Parameters()
_BANNED_UNTIL, _REASON = (1 + PARAMETERS.index(name) for name in ("banned_until", "reason"))


def effect_of(action: str, parameters: Parameters, banned_until: float | None) -> EffectKey:
    """
    Return the effect of a command, to be compared with others.

    ``banned_until`` is the parameter of that name in seconds since 1970: one instant may be written in several ways.
    """
    effect = (action, *astuple(parameters))
    return effect if banned_until is None else _with(effect, _BANNED_UNTIL, banned_until)


def without_reason(effect: EffectKey) -> EffectKey:
    """Return the effect without its reason."""
    return _with(effect, _REASON, None)


def _with(effect: EffectKey, place: int, value: object) -> EffectKey:
    return (*effect[:place], value, *effect[place + 1 :])
