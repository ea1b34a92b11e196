# Makes tests/BEHAVIOURS.md: what each test claims, as a sentence made of its name, by rule and by file.
#
# The rules of the core are a table here, because a rule has tests in several files. All else is read off the files: the
# comment that opens each, the names of its tests, and the first line of their docstrings. No test is here.

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
TESTS: Final = ROOT / "tests"
CORE: Final = "unit/domain"

RULES: Final[dict[str, tuple[str, ...]]] = {
    "What is a command, and what is refused": (
        "contract/test_command_decoding",
        "contract/test_rejections",
        "contract/test_foreign_format_hints",
        "contract/test_spelling_suggestions",
        "contract/test_visible_text",
        "contract/test_timestamps",
        "contract/test_cloudevent_envelope",
        "contract/test_command_decoding_fuzzed",
        "contract/test_fuzzed_records",
        "contract/test_linear_time",
        "engine/test_rejected_records",
    ),
    "Actions and their requests": (
        "contract/test_actions",
        "contract/test_parameters",
        "contract/test_json_schemas",
    ),
    "Error codes, verdicts and remedies": ("contract/test_error_codes",),
    "Order": ("engine/test_order", "progress/test_member_ordering", "test_state_transitions"),
    "Orders of an operator": (
        "contract/test_control_records",
        "engine/test_pause",
        "engine/test_cancel",
        "engine/test_shadow",
        "engine/test_guards",
        "test_operator_orders",
    ),
    "Users refused lately": ("calls/test_recently_refused_users", "engine/test_refused_lately"),
    "Placement of records": ("contract/test_placement_check", "engine/test_misplaced_records"),
    "Deduplication: the same id or effect again": (
        "engine/test_repeated_ids",
        "engine/test_repeated_effects",
        "engine/test_expired_repeats",
        "progress/test_dedupe",
    ),
    "Superseding: an unban after a ban": ("engine/test_superseding", "progress/test_open_commands"),
    "Expiry and delays": ("engine/test_expiry", "progress/test_deadline_heap", "test_wall_clock"),
    "Batching": (
        "engine/test_batching",
        "engine/test_priority",
        "calls/test_endpoint_queue",
        "calls/test_age_heap",
    ),
    "The user at fault in a refused batch": (
        "engine/test_bad_members",
        "calls/test_bad_member_search",
        "calls/test_adaptive_batch",
    ),
    "Quota and throttling": ("engine/test_quota", "engine/test_pacing", "calls/test_rate_limiter"),
    "Lending of permits": ("engine/test_lending", "calls/test_replica_lending"),
    "Outages and the breaker": ("engine/test_outages", "calls/test_gates"),
    "Halts: wrong configuration": ("engine/test_halts", "calls/test_gates"),
    "No permission, and unlisted codes": ("engine/test_held_targets", "engine/test_refusals_of_all"),
    "Rebalances, drain and handover": (
        "engine/test_handover",
        "engine/test_clean_handovers",
        "progress/test_partitions",
        "progress/test_clean_handover",
    ),
    "Offsets, commits and restarts": (
        "progress/test_offset_tracker",
        "progress/test_commit_metadata",
        "progress/test_lost_commit_recovery",
    ),
    "Outcomes and dead letters": (
        "contract/test_outcomes",
        "contract/test_outcome_fitting",
        "contract/test_dead_letter_encoding",
        "contract/test_dead_letter_decoding",
        "progress/test_outcome_building",
    ),
    "Publishing": ("engine/test_publishing_rules",),
    "Memory": ("engine/test_memory", "progress/test_partitioned_budget", "engine/test_garbage"),
    "What the engine shows": (
        "engine/test_example",
        "engine/test_snapshot",
    ),
}
"""The rules of the core, each with the files of tests/unit/domain that prove it."""

_INTRODUCTION: Final = """\
# What is tested

Made from the tests by `make docs`: each line is the name of a test, with the reason that its docstring gives. To find the
test of a rule of the core, begin with the table; else search this page for a word.
"""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One test function: its name as a sentence, and why it matters, or an empty text."""

    claim: str
    reason: str


@dataclass(frozen=True, slots=True)
class TestFile:
    """
    One file of tests.

    Attributes:
        path: Below tests/, with slashes.
        opening: The first paragraph of the comment that opens it.

    """

    __test__ = False

    path: str
    opening: str
    behaviours: tuple[Behaviour, ...]


def test_files() -> tuple[TestFile, ...]:
    """Every file of tests: the core first, then folder by folder."""
    paths = [path.relative_to(TESTS).as_posix() for path in TESTS.rglob("test_*.py")]
    return tuple(_read(path) for path in sorted(paths, key=_place))


test_files.__test__ = False  # type: ignore[attr-defined]


def _place(path: str) -> tuple[bool, bool, str, str]:
    folder, _, name = path.rpartition("/")
    return not folder.startswith(CORE), not folder.startswith("unit/"), folder, name


def _read(path: str) -> TestFile:
    text = (TESTS / path).read_text(encoding="utf-8")
    found: list[Behaviour] = []
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            docstring = ast.get_docstring(node) or ""
            found.append(Behaviour(_sentence(node.name), docstring.partition("\n\n")[0].replace("\n", " ")))
    return TestFile(path, _opening(text), tuple(found))


def _sentence(name: str) -> str:
    words = name.removeprefix("test_").replace("_", " ")
    return f"{words[:1].upper()}{words[1:]}."


def _opening(text: str) -> str:
    lines: list[str] = []
    for line in text.splitlines():
        words = line.removeprefix("#").strip()
        if not line.startswith("#") or not words:
            break
        lines.append(words)
    return " ".join(lines)


def page() -> str:
    """The text of tests/BEHAVIOURS.md."""
    lines = [_INTRODUCTION, "## Rules of the core", "", "| rule | files |", "|---|---|"]
    for rule, names in RULES.items():
        links = ", ".join(f"[{name.rpartition('/')[2]}](#{_anchor(f'{CORE}/{name}.py')})" for name in names)
        lines.append(f"| {rule} | {links} |")
    folder = ""
    for file in test_files():
        above, _, name = file.path.rpartition("/")
        if above != folder:
            folder = above
            lines += ["", f"## tests/{folder}"]
        lines += ["", f'<a id="{_anchor(file.path)}"></a>', f"### [{name}]({file.path})", ""]
        lines += [_plain(file.opening), ""] if file.opening else []
        lines += [_line(behaviour) for behaviour in file.behaviours]
    return "\n".join(lines).rstrip() + "\n"


def _line(behaviour: Behaviour) -> str:
    return f"- {behaviour.claim}" + (f" *{_plain(behaviour.reason)}*" if behaviour.reason else "")


def _anchor(path: str) -> str:
    return path.removesuffix(".py").replace("/", "-").replace("_", "-")


def _plain(text: str) -> str:
    """Text of a comment as Markdown shows it word by word."""
    for mark in ("\\", "*", "_", "<", "["):
        text = text.replace(mark, f"\\{mark}")
    return text.replace("``", "").replace("`", "")
