# The reference page, as text, from the tables: endpoints, faults, the control's routes, the log's fields.
#
# Nothing here is told a second time: what a fault does stands in faults.py, what a line holds in journal.py.

import dataclasses
from typing import TYPE_CHECKING, Final

from worker.simulator.faults import ROWS
from worker.simulator.pages import MEMBERS_PER_CALL, PAGES

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    """
    The reference page, in Markdown.
    """
    return "\n".join(
        (
            "# The local Tencent API: reference",
            "",
            "Made from the simulator's own tables. `moderation-worker simulate --help` says how to start it.",
            "",
            "## Endpoints",
            "",
            *_endpoints(),
            "",
            "## Faults",
            "",
            'Each one is a flag (`--refused-applies all`) and a field of the control (`{"refused_applies": "all"}`).',
            "",
            *_faults(),
            "",
            "## Control",
            "",
            "The narrowest limit wins: endpoint and target, then target, then endpoint, then everything.",
            "A refusal is a 400 with `errors`, each with `field` and `mend`.",
            "",
            *_table(("request", "what it does"), [(f"`{method} {path}`", text) for method, path, text in ROUTES]),
            "",
        )
    )  # fmt: skip


def _endpoints() -> list[str]:
    rows = [
        (
            f"`{page.endpoint}`",
            page.title,
            ", ".join(f"`{rule.name}`" + ("" if rule.mandatory else " (optional)") for rule in page.fields),
            ", ".join(
                str(code)
                for code in dict.fromkeys(
                    code for code in dataclasses.astuple(page.codes) if code is not None
                )
            ),
            "yes" if page.has_request_id else "no",
        )
        for page in PAGES.values()
    ]
    head = (
        "endpoint",
        "Tencent's page",
        f"body (at most {MEMBERS_PER_CALL} members)",
        "codes of its own",
        "RequestId",
    )
    return _table(head, rows)


def _faults() -> list[str]:
    return _table(
        ("fault", "type", "default", "unit", "meaning"),
        [
            (f"`{row.name}`", row.type_text, f"`{_shown(row.default)}`", row.unit, row.meaning)
            for row in ROWS.values()
        ],
    )


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return str(list(value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _table(head: tuple[str, ...], rows: "Sequence[tuple[str, ...]]") -> list[str]:
    lines = [head, tuple("---" for _ in head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
