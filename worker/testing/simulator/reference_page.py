# The reference page, as text, from the tables: endpoints, faults, the control's routes, the log's fields.
#
# It repeats nothing: faults.py says what a fault does, request_log.py what a line holds.

from __future__ import annotations

import dataclasses
import inspect
from typing import TYPE_CHECKING, Final

from worker.testing.simulator.api_answer import INFO
from worker.testing.simulator.endpoint_specs import (
    GROUP_LIST,
    GROUP_LIST_PER_SECOND,
    MEMBER_FIELDS,
    MEMBERS_PER_CALL,
    SERVICES,
    SPECS,
    USER_BYTES,
    ServiceCodes,
)
from worker.testing.simulator.faults import ROWS
from worker.testing.simulator.request_log import AppliedLaterLine, RequestLine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.testing.simulator.endpoint_specs import BodyField

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
            " them, and `for_seconds` to let them expire. `null` removes a value. All or none is set."
        ),
    ),
    ("DELETE", "/__control/faults", "Returns to the faults of the start."),
    (
        "GET",
        "/__control/state",
        "With `?target=`: bans and their ends, members, kicks, member info. Without: the ids of all targets changed so far.",
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
            " longest stall of the simulator's event loop and its time."
        ),
    ),
    ("DELETE", "/__control/stats", "Resets all figures."),
    ("POST", "/__control/keys", 'Rotates keys: `{"keys": ["new", "old"]}`. All of them are accepted.'),
)
"""(method, path, what it does)."""


def reference() -> str:
    """Return the reference page, in Markdown."""
    sections = (
        ("# The local Tencent API: reference", _INTRODUCTION, ""),
        ("## Endpoints", _ENDPOINTS, _endpoints()),
        ("## Codes", "The codes of each service, and those that all share.", _codes()),
        ("## Faults", _FAULTS, _faults()),
        (
            "## Control",
            _CONTROL,
            _table(("request", "what it does"), [(f"`{m} {path}`", text) for m, path, text in ROUTES]),
        ),
        (
            "## Log",
            _LOG,
            "\n\n".join(f"```text\n{inspect.getdoc(line)}\n```" for line in (RequestLine, AppliedLaterLine)),
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
    'Each is a flag (`--refused-applies all`) and a field of the control (`{"refused_applies": "all"}`).'
)
_CONTROL: Final = (
    "The narrowest limit wins: endpoint and target, then target, then endpoint, then everything.\n"
    "A refusal is a 400 with `errors`, each with `field` and `remedy`."
)
_LOG: Final = "`--log FILE` writes one JSON line for each request, and one for each effect that comes after its request's line."


def _endpoints() -> str:
    rows = [
        (
            f"`{spec.endpoint}`",
            spec.title,
            "; ".join(_field(rule) for rule in spec.fields),
            "yes" if spec.has_request_id else "no",
        )
        for spec in SPECS.values()
    ]
    member = ("inside `MemberInfo`", "", "; ".join(_field(rule) for rule in MEMBER_FIELDS), "")
    reads = (
        f"`{GROUP_LIST}`",
        f"Getting All Groups in an App ({GROUP_LIST_PER_SECOND} a second; `check --tencent` calls it)",
        "`Limit` (optional)",
        "no",
    )
    return _table(("endpoint", "Tencent's page", "body", "RequestId"), [*rows, member, reads])


def _field(rule: BodyField) -> str:
    limits = [
        "" if rule.mandatory else "optional",
        "" if rule.max_bytes is None else f"at most {rule.max_bytes} bytes",
        " or ".join(rule.choices),
    ]
    note = ", ".join(limit for limit in limits if limit)
    return f"`{rule.name}`" + (f" ({note})" if note else "")


def _codes() -> str:
    names = [(field.name, field.name.replace("_", " ")) for field in dataclasses.fields(ServiceCodes)]
    rows = [
        (label, *(str(getattr(codes, name) or "") for codes in SERVICES.values())) for name, label in names
    ]
    own = {code for codes in SERVICES.values() for code in dataclasses.astuple(codes)}
    common = [(str(code), text) for code, text in sorted(INFO.items()) if code not in own]
    return _table(("what", *SERVICES), rows) + "\n\n" + _table(("code of all services", "what"), common)


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
