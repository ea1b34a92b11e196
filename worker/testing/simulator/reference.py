# The reference page, as text, from the tables: endpoints, faults, the control's routes, the log's fields.
#
# Nothing here is told a second time: what a fault does stands in faults.py, what a line holds in request_log.py.

from __future__ import annotations

import dataclasses
import inspect
from typing import TYPE_CHECKING, Final

from worker.testing.simulator.answer_codes import INFO
from worker.testing.simulator.endpoint_specs import (
    MEMBER_FIELDS,
    MEMBERS_PER_CALL,
    PAGES,
    SERVICES,
    USER_BYTES,
    Codes,
)
from worker.testing.simulator.faults import ROWS
from worker.testing.simulator.request_log import AppliedLine, RequestLine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.testing.simulator.endpoint_specs import Field

ROUTES: Final = (
    ("GET", "/__control/healthz", "Answers while the simulator runs."),
    (
        "GET",
        "/__control/faults",
        "The table of faults with the values in force, and what was set at run time.",
    ),
    (
        "PATCH",
        "/__control/faults",
        (
            "Sets faults (POST does the same): one JSON object of fault names and values, with `endpoint` and `target` to limit"
            " them, and `for_seconds` to let them end by themselves. `null` takes a value back. All or none is set."
        ),
    ),
    ("DELETE", "/__control/faults", "Back to the faults of the start."),
    (
        "GET",
        "/__control/state",
        "With `?target=`: who is banned until when, members, kicks, member info. Without: the ids of all targets touched.",
    ),
    (
        "POST",
        "/__control/state",
        'Seeds a room: `{"target": "room1", "live_bans": {"user1": 3600}, "rejoin": ["user2"]}`.',
    ),
    (
        "GET",
        "/__control/stats",
        (
            "Requests by endpoint and code, the most requests in any rolling second by endpoint and app, members applied, the"
            " longest stall of the simulator's own loop and when it was."
        ),
    ),
    ("DELETE", "/__control/stats", "Begins all measures anew."),
    ("POST", "/__control/keys", 'Rotates keys: `{"keys": ["new", "old"]}`. All of them are accepted.'),
)
"""(method, path, what it does)."""


def reference() -> str:
    """The reference page, in Markdown."""
    sections = (
        ("# The local Tencent API: reference", _INTRODUCTION, ""),
        ("## Endpoints", _ENDPOINTS, _endpoints()),
        ("## Codes", "What each service answers; the door's own codes are the same for all.", _codes()),
        ("## Faults", _FAULTS, _faults()),
        (
            "## Control",
            _CONTROL,
            _table(("request", "what it does"), [(f"`{m} {path}`", text) for m, path, text in ROUTES]),
        ),
        (
            "## Log",
            _LOG,
            "\n\n".join(f"```text\n{inspect.getdoc(line)}\n```" for line in (RequestLine, AppliedLine)),
        ),
    )
    return "\n\n".join(part for section in sections for part in section if part) + "\n"


_INTRODUCTION: Final = (
    "Made from the simulator's own tables. `moderation-worker simulate --help` says how to start it.\n"
    "Every group, room and user exists, and every user is in every room, unless a fault says otherwise."
)
_ENDPOINTS: Final = (
    f"`POST /v4/<endpoint>?sdkappid=…&identifier=…&usersig=…&random=…&contenttype=json`. A call names at most"
    f" {MEMBERS_PER_CALL} members of at most {USER_BYTES} bytes each. Sizes are bytes of UTF-8."
)
_FAULTS: Final = (
    'Each one is a flag (`--refused-applies all`) and a field of the control (`{"refused_applies": "all"}`).'
)
_CONTROL: Final = (
    "The narrowest limit wins: endpoint and target, then target, then endpoint, then everything.\n"
    "A refusal is a 400 with `errors`, each with `field` and `remedy`."
)
_LOG: Final = "`--log FILE` writes one JSON line for each request, and one for each effect that came after its request's line."


def _endpoints() -> str:
    rows = [
        (
            f"`{page.endpoint}`",
            page.title,
            "; ".join(_field(rule) for rule in page.fields),
            "yes" if page.has_request_id else "no",
        )
        for page in PAGES.values()
    ]
    member = ("inside `MemberInfo`", "", "; ".join(_field(rule) for rule in MEMBER_FIELDS), "")
    return _table(("endpoint", "Tencent's page", "body", "RequestId"), [*rows, member])


def _field(rule: Field) -> str:
    limits = [
        "" if rule.mandatory else "optional",
        "" if rule.max_bytes is None else f"at most {rule.max_bytes} bytes",
        " or ".join(rule.choices),
    ]
    told = ", ".join(limit for limit in limits if limit)
    return f"`{rule.name}`" + (f" ({told})" if told else "")


def _codes() -> str:
    names = [(field.name, field.name.replace("_", " ")) for field in dataclasses.fields(Codes)]
    rows = [(told, *(str(getattr(codes, name) or "") for codes in SERVICES.values())) for name, told in names]
    own = {code for codes in SERVICES.values() for code in dataclasses.astuple(codes)}
    door = [(str(code), text) for code, text in sorted(INFO.items()) if code not in own]
    return _table(("what", *SERVICES), rows) + "\n\n" + _table(("code of the door", "what"), door)


def _faults() -> str:
    return _table(
        ("fault", "type", "default", "unit", "meaning"),
        [
            (f"`{row.name}`", row.type_text, f"`{_shown(row.default)}`", row.unit, row.meaning)
            for row in ROWS.values()
        ],
    )


def _shown(value: object) -> str:
    if isinstance(value, (tuple, frozenset)):
        return str(list(value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
