# How `moderation-worker outcomes` tells one outcome, or one command that waits, to a person: a few lines each.
#
# Texts only. What an outcome says is never judged or completed here; a field that is not there is not told.

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from worker.terminal import plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

USERS_SHOWN: Final = 10
CALLS_SHOWN: Final = 5
INDENT: Final = "    "


def outcome_told(outcome: Mapping[str, Any], user: str | None = None) -> str:
    """An outcome in a few lines. With ``user``, of its results only theirs."""
    lines = [
        "  ".join(
            filter(
                None,
                (
                    plain(outcome.get("finished_at", "")),
                    plain(outcome.get("status", "")),
                    plain(outcome.get("action", "")),
                    _target(outcome),
                ),
            )
        )
    ]
    lines += [f"{INDENT}{name:<11} {text}" for name, text in _lines(outcome, user)]
    return "\n".join(lines)


def waiting_told(command: Mapping[str, Any], place: str, written_at: float, ahead: int) -> str:
    """A command that had no outcome when it was asked for."""
    since = datetime.fromtimestamp(written_at, UTC).isoformat(timespec="milliseconds")[:-6]
    behind = (
        "it is the oldest open one of its partition"
        if not ahead
        else f"the oldest open one of its partition is {ahead:,} before it"
    )
    command_id, action = plain(command.get("command_id", "?")), plain(command.get("action", "?"))
    return f"no outcome yet  {action}  {_target(command)}\n{INDENT}{'command':<11} {command_id} ({place})\n{INDENT}{'since':<11} {since}Z; {behind}"


def _target(told: Mapping[str, Any]) -> str:
    for name in ("group", "room"):
        if f"{name}_id" in told:
            return f"{name} {plain(told[f'{name}_id'])}"
    return ""


def _lines(outcome: Mapping[str, Any], user: str | None) -> Iterator[tuple[str, str]]:
    issuer = f", of {plain(outcome['issuer'])}" if "issuer" in outcome else ""
    yield (
        "command",
        f"{plain(outcome.get('command_id', ''))} ({plain(outcome.get('outcome_id', ''))}){issuer}",
    )
    took = f"received {plain(outcome.get('received_at', ''))}, queued {outcome.get('queued_ms', 0):,.0f} ms"
    if "calling_ms" in outcome:
        took += f", calls took {outcome['calling_ms']:,.0f} ms"
    yield "times", took
    yield from _results(outcome, user)
    yield from _calls(outcome)
    if "error" in outcome:
        error = outcome["error"]
        where = f" in {plain(error['field'])}" if "field" in error else ""
        yield "error", f"{plain(error.get('code', ''))}{where}: {plain(error.get('message', ''))}"


def _results(outcome: Mapping[str, Any], user: str | None) -> Iterator[tuple[str, str]]:
    alike: defaultdict[str, list[str]] = defaultdict(list)
    for result in outcome.get("results", ()):
        if user is None or result.get("user_id") == user:
            alike[_fate(result)].append(plain(result.get("user_id", "")))
    for fate, users in alike.items():
        more = f" and {len(users) - USERS_SHOWN} more" if len(users) > USERS_SHOWN else ""
        yield "users", f"{', '.join(users[:USERS_SHOWN])}{more}: {fate}"


def _fate(result: Mapping[str, Any]) -> str:
    fate = plain(result.get("status", ""))
    if "request_id" in result:
        fate += f" by RequestId {plain(result['request_id'])}"
    for name in ("duplicate_of", "superseded_by"):
        if name in result:
            fate += f" ({name.replace('_', ' ')} {plain(result[name])})"
    if "error_code" in result:
        fate += f" ({plain(result['error_code'])} {plain(result.get('error_info', ''))}".rstrip() + ")"
    return fate + (", inferred" if result.get("inferred") else "")


def _calls(outcome: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    calls = outcome.get("calls", ())
    for call in calls[:CALLS_SHOWN]:
        yield "call", _call(call)
    more = len(calls) - CALLS_SHOWN + outcome.get("calls_omitted", 0)
    if more > 0:
        yield "calls", f"and {more} more"


def _call(call: Mapping[str, Any]) -> str:
    answer = call.get("error") or f"HTTP {call.get('http_status')}, code {call.get('error_code')}"
    members = call.get("members", 0)
    told = (
        call.get("sent_at", ""),
        call.get("endpoint", ""),
        call.get("request_id") or call.get("call_id", ""),
        f"with {members} member{'s' * (members != 1)}, {call.get('elapsed_ms', 0):,.0f} ms: {answer}",
    )
    return "  ".join(map(plain, told))
