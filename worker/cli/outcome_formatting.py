# How `moderation-worker outcomes` shows one outcome, or one waiting command, to a person: a few lines each.
#
# Text only. What an outcome says is never judged or completed here; a missing field is not shown.

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

import msgspec

from worker.cli.filters import IDS, WAITING, users_of
from worker.domain.contract.command_decoding import Command
from worker.domain.contract.timestamps import rfc3339
from worker.printable_text import plain, plain_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from worker.broker.command_history import SearchGaps, WaitingCommand
    from worker.broker.options import KafkaOptions
    from worker.cli.filters import Filters
    from worker.domain.contract.rejections import Rejected

LATEST_MS: Final = 4_102_444_800_000
"""The year 2100, in milliseconds since 1970. A later timestamp is in another unit."""
STRANGE_SHOWN: Final = 2_000
"""The most characters shown of an outcome that another program wrote."""
STRANGE: Final = (TypeError, ValueError, AttributeError, LookupError, OverflowError, RecursionError)
"""What showing such a one may raise: it has other types, numbers beyond any float, or levels without end."""
TOO_DEEP: Final = "a record that is nested too deeply to be shown"
UNKNOWN_TIME: Final = "an unknown time"
USERS_SHOWN: Final = 10
CALLS_SHOWN: Final = 5
INDENT: Final = "    "


def outcome_in(value: bytes) -> Any:
    """Return an outcome as a JSON object; as text if another program wrote into it what is none."""
    try:
        return msgspec.json.decode(value)
    except (ValueError, RecursionError):
        return value.decode("utf-8", "replace")


def json_line(value: bytes) -> str:
    """Return an outcome as it is in Kafka, as one line that no terminal takes for anything but text."""
    return plain_json(value.decode("utf-8", "replace"))


def format_outcome(outcome: Any, user: Sequence[str] | None = None) -> str:
    """Return an outcome in a few lines, with only the results of these users if given. Another program's record is shown as it is."""
    try:
        return _outcome(outcome, user)
    except STRANGE:
        return strange_record(outcome)


def strange_record(outcome: Any) -> str:
    """Return another program's record as text, cut."""
    try:
        text = plain(outcome)
    except RecursionError:
        return TOO_DEEP
    return text if len(text) <= STRANGE_SHOWN else f"{text[:STRANGE_SHOWN]}…"


def _outcome(outcome: Mapping[str, Any], user: Sequence[str] | None) -> str:
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


def waiting_report(read: Command | Rejected, waiting: WaitingCommand) -> dict[str, Any]:
    """Return a command that had no outcome at the time of the lookup, as a JSON object without the fields that it lacks."""
    record = waiting.record
    targets: dict[str, str | None] = {"group_id": None, "room_id": None}
    if isinstance(read, Command):
        targets[read.action.target.value] = read.target
    else:
        targets |= {"group_id": read.group_id, "room_id": read.room_id}
    report = {
        "status": WAITING,
        "outcome_id": waiting.place,
        "command_id": read.command_id,
        "action": read.action.name if isinstance(read, Command) else read.action,
        **targets,
        "user_ids": users_of(read),
        "issuer": read.issuer,
        "written_at": instant(record.timestamp),
        "ahead": waiting.ahead,
        "held_from": waiting.held_from,
        "source": {"topic": record.topic, "partition": record.partition, "offset": record.offset},
    }
    return {name: value for name, value in report.items() if value not in (None, ())}


def format_waiting(report: Mapping[str, Any]) -> str:
    """Return a report of a waiting command in a few lines."""
    since = report.get("written_at", f"{UNKNOWN_TIME}: its timestamp is not one that Kafka knows")
    behind = (
        f"the oldest open command of its partition is {report['ahead']:,} before it"
        if report["ahead"]
        else "it is the oldest open command of its partition"
    )
    if "held_from" in report:
        behind = (
            "the worker cannot read it yet: it is held by a transaction that is open since offset "
            f"{report['held_from']} of its partition, which its producer must end"
        )
    command_id, action = plain(report.get("command_id", "?")), plain(report.get("action", "?"))
    return (
        f"no outcome yet  {action}  {_target(report)}\n"
        f"{INDENT}{'command':<11} {command_id} ({report['outcome_id']})\n"
        f"{INDENT}{'since':<11} {since}; {behind}"
    )


def format_nothing_found(
    filters: Filters, since: str, gaps: SearchGaps, options: KafkaOptions, *, with_waiting: bool
) -> str:
    """
    Return a sentence that nothing was found, and what that proves: a command "never came" only if everything kept was searched.

    ``with_waiting`` says that commands without an outcome were looked for too.
    """
    outcome_topic, command_topic = options.outcome_topic, options.command_topic
    lines = [f"no outcome of {filters} since {plain(since)}"]
    only_waiting = set(filters.traits.get("status", ())) == {WAITING}
    if only_waiting:
        lines = [f"no command of {filters}; outcomes were not looked at"]
    elif with_waiting:
        lines[0] += ", and no such command waits"
    elif any(name in filters.traits for name in IDS):
        lines[0] += "; what waits was not looked at"
    if gaps.older and not only_waiting:
        lines.append(f"{outcome_topic} has older outcomes, which were not searched: give a longer --since")
    if gaps.deleted and not only_waiting:
        lines.append(
            f"{outcome_topic} has deleted outcomes because of their age: what became of older commands is not known"
        )
    for partition, (first, end) in sorted(gaps.skipped.items()):
        lines.append(
            f"{command_topic}[{partition}] has lost the commands at offsets {first} to {end - 1}: how they ended is not known"
        )
    if len(lines) == 1 and with_waiting and "status" not in filters.traits:
        deleted = ", or Kafka deleted it before it was read (event offset.out_of_range)"
        lines.append(
            f"everything in {outcome_topic} and {command_topic} was searched: it never came, "
            "or what was searched for could not be read in it (see the dead letters)"
            f"{deleted if gaps.commands_deleted else ''}"
        )
    return "\n".join(lines)


def instant(milliseconds: int) -> str | None:
    """Return a timestamp as text; None if it is not a time in milliseconds, as some producers write none or another unit."""
    return rfc3339(milliseconds / 1000) if 0 <= milliseconds < LATEST_MS else None


def _target(outcome: Mapping[str, Any]) -> str:
    for name in ("group", "room"):
        if f"{name}_id" in outcome:
            return f"{name} {plain(outcome[f'{name}_id'])}"
    return ""


def _lines(outcome: Mapping[str, Any], user: Sequence[str] | None) -> Iterator[tuple[str, str]]:
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
        yield "error", _problem(error)
        for further in error.get("also", ()):
            yield "also", _problem(further)


def _problem(error: Mapping[str, Any]) -> str:
    where = f" in {plain(error['field'])}" if "field" in error else ""
    return f"{plain(error.get('code', ''))}{where}: {plain(error.get('message', ''))}"


def _results(outcome: Mapping[str, Any], user: Sequence[str] | None) -> Iterator[tuple[str, str]]:
    alike: defaultdict[str, list[str]] = defaultdict(list)
    for named in outcome.get("user_ids", ()):  # of a rejected command, which has no results
        if not user or named in user:
            alike["nothing was sent"].append(plain(named))
    for result in outcome.get("results", ()):
        if not user or result.get("user_id") in user:
            alike[_result_text(result)].append(plain(result.get("user_id", "")))
    for text, users in alike.items():
        more = f" and {len(users) - USERS_SHOWN} more" if len(users) > USERS_SHOWN else ""
        yield "users", f"{', '.join(users[:USERS_SHOWN])}{more}: {text}"


def _result_text(result: Mapping[str, Any]) -> str:
    text = plain(result.get("status", ""))
    if "request_id" in result:
        text += f" by RequestId {plain(result['request_id'])}"
    for name in ("duplicate_of", "superseded_by"):
        if name in result:
            text += f" ({name.replace('_', ' ')} {plain(result[name])})"
    why = " ".join(plain(result[name]) for name in ("error_code", "error_info") if name in result)
    if why:
        text += f" ({why})"
    return text + (", inferred" if result.get("inferred") else "")


def _calls(outcome: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    calls = outcome.get("calls", ())
    for call in calls[:CALLS_SHOWN]:
        yield "call", _call(call)
    more = len(calls) - CALLS_SHOWN + outcome.get("calls_omitted", 0)
    if more > 0:
        yield "calls", f"and {more} more"


_ANSWER: Final = (("HTTP", "http_status"), ("code", "error_code"))


def _call(call: Mapping[str, Any]) -> str:
    answers = (f"{word} {call[field]}" for word, field in _ANSWER if call.get(field) is not None)
    answer = call.get("error") or ", ".join(answers) or "not sent"
    members = call.get("members", 0)
    columns = (
        call.get("sent_at", ""),
        call.get("endpoint", ""),
        call.get("request_id") or call.get("call_id", ""),
        f"with {members} member{'s' * (members != 1)}, {call.get('elapsed_ms', 0):,.0f} ms: {answer}",
    )
    return "  ".join(map(plain, columns))
