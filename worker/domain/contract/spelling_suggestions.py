# What was meant by a name that is not quite right: of a field, of an action.
#
# A guess is only ever named in a sentence. Nothing is carried out by it.

from __future__ import annotations

from difflib import get_close_matches
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from worker.domain.contract.actions import ACTIONS

if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST: Final = 64
"""Characters. Longer names are no misspelt ones, and comparing them takes time."""

_OTHER_NAMES: Final = {
    "command_id": ("id", "commandid", "requestid", "messageid", "uuid", "ceid", "idempotencykey"),
    "action": ("command", "type", "cmd", "operation", "op", "method", "actionname", "actiontype", "endpoint"),
    "group_id": ("group", "gid", "groupno", "groupids"),
    "room_id": ("room", "rid", "roomno", "liveroomid", "roomids"),
    "user_ids": (
        *("user", "users", "uid", "uids", "userid", "usersid", "userlist", "members", "memberid", "memberids"),
        *("membersaccount", "memberlistaccount", "memberaccount", "memberlist", "account", "accounts", "targets"),
    ),
    "duration": ("seconds", "durationseconds", "bantime", "banduration", "banseconds", "ttl", "durationms", "mutetime"),
    "banned_until": ("until", "banuntil", "bannedtill", "banneduntiltime", "banend", "bantill"),
    "reason": ("description", "banreason", "comment", "note", "message", "why"),
    "member_info": ("info", "memberinfos", "userinfo", "member"),
    "app": ("sdkappid", "appid", "appname", "application"),
    "not_after": ("expiresat", "expires", "expiry", "deadline", "validuntil", "expiration"),
    "priority": ("prio", "urgency", "urgent", "importance"),
    "issued_at": ("timestamp", "createdat", "time", "ts", "cetime", "issuedtime", "date", "sentat"),
    "issuer": ("source", "sender", "issuedby", "cesource", "producer", "origin"),
    "metadata": ("meta", "extra", "context", "attributes", "tags", "labels", "details", "properties"),
    "name_card": ("namecard", "card", "nickname", "nick", "name"),
    "role": ("memberrole",),
    "custom_info": ("custom", "customdata", "custominformation"),
}  # fmt: skip
"""What else a field is called, elsewhere or by mistake, if anything: Tencent's own names among them. Small letters and digits only."""


def meant_field(name: str, known: tuple[str, ...]) -> str | None:
    """Return the one of the ``known`` fields that is probably meant by ``name``."""
    return _meant_field(name[: LONGEST + 1], known)


def meant_actions(name: str) -> tuple[str, ...]:
    """Return the actions that are probably meant by ``name``: in other letters, without the service, or only resembling."""
    return _meant_actions(name[: LONGEST + 1])


@lru_cache(maxsize=256)
def _meant_field(name: str, known: tuple[str, ...]) -> str | None:
    bare = _bare(name)
    for field in known:
        if bare == _bare(field):
            return field
    for field in known:
        if bare in _OTHER_NAMES.get(field, ()):
            return field
    near = get_close_matches(name.lower(), known, n=1)
    return near[0] if near else None


@lru_cache(maxsize=256)
def _meant_actions(name: str) -> tuple[str, ...]:
    bare = _bare(name)
    # A ban must not be taken for an unban, nor what is done to a room for what is done to a group, however alike the names are.
    named = {row.target for action, row in ACTIONS.items() if _service(action) in bare}
    alike = {
        action: row
        for action, row in ACTIONS.items()
        if bare
        and all((undoing in bare) is (undoing in action) for undoing in _UNDOING)
        and (not named or row.target in named)
    }
    for matches in (
        [action for action in alike if _bare(action) == bare],
        [action for action, row in alike.items() if _bare(row.endpoint) in bare],
        [action for action in alike if bare in _short_forms(action)],
    ):
        if matches:
            return tuple(matches)
    written = name.lower().strip()
    verb = written.rpartition(".")[2].partition("_")[0]
    # Most of a name is its target: two that resemble each other may do something else to it.
    same_verb = [action for action in alike if get_close_matches(verb, [_verb(action)], cutoff=0.65)]
    return tuple(get_close_matches(written, same_verb, n=1, cutoff=0.75))


def _bare(name: str) -> str:
    """Return a name without what spellings differ in: ``userIds``, ``user-ids`` and ``USER_IDS`` are the same."""
    return "".join(character for character in name.casefold() if character.isalnum())


def _short_forms(action: str) -> Iterable[str]:
    """Return ``ban``, ``groupban``, ``bangroupmember`` … for ``group.ban_group_member``."""
    service, _, command = action.partition(".")
    verb = _verb(action)
    return verb, service + verb, verb + service, verb + "member", verb + "user", _bare(command)


def _service(action: str) -> str:
    return action.partition(".")[0]


def _verb(action: str) -> str:
    return action.partition(".")[2].partition("_")[0]


_UNDOING: Final = tuple({verb: None for action in ACTIONS if (verb := _verb(action)).startswith("un")})
"""The verbs that say the opposite of another one, as "unban" does of "ban"."""
