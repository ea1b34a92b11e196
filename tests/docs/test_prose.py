# What the documents say can be done can be done: their commands, targets, links and names are those of the code.

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import typer.main

from tests.docs.pages import ROOT
from worker.cli import app
from worker.runtime.events import EVENTS
from worker.runtime.metric_table import PREFIX, ROWS
from worker.settings.rows import find, rows, table_of_rows

DOCUMENTS: Final = sorted(
    path for pattern in ("*.md", "config/*.md", "helm/**/*.md", "docs/**/*.md") for path in ROOT.glob(pattern)
)
TARGETS: Final = set(
    re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
)
SECTIONS: Final = {row.path[0] for row in rows() if row.section is not None}
SETTING: Final = re.compile(r"[a-z_]+(\.([a-z_]+|<name>))+(?<!\.py|\.md)(?<!\.yaml)")
SUFFIXES: Final = ("_bucket", "_sum", "_count")


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


documents = pytest.mark.parametrize("path", DOCUMENTS, ids=named)


def code(path: Path) -> Iterator[str]:
    """
    Every line of a fenced block, and everything between backticks.
    """
    text = path.read_text(encoding="utf-8")
    fenced = re.findall(r"^```[a-z]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    for block in fenced:
        yield from block.replace("\\\n", " ").splitlines()
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def test_there_are_documents_to_look_at() -> None:
    assert len(DOCUMENTS) >= 4


@documents
def test_every_target_of_make_exists(path: Path) -> None:
    for line in code(path):
        for target in re.findall(r"(?:^|[;&(]\s*)make ([a-z][a-z-]*)", line):
            assert target in TARGETS, line


@documents
def test_every_command_exists_with_its_options(path: Path) -> None:
    for line in code(path):
        for words in re.findall(r"(?:^|[|;&$]\s*)moderation-worker ([^|;&`]+)", line):
            assert_parsed(shlex.split(words, comments=True), line)


def assert_parsed(words: list[str], line: str) -> None:
    command: Any = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    if not words or words[0] == "…":
        return
    assert not getattr(command, "commands", None) or words[0].startswith("-"), line
    known = {
        name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)
    } | {"--help", "-h"}
    assert {word.partition("=")[0] for word in words if word.startswith("-")} <= known, line


@documents
def test_every_link_leads_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, target


@documents
def test_every_metric_exists(path: Path) -> None:
    names = {row.name for row in ROWS} | {
        f"{row.name}{end}" for row in ROWS if row.type == "histogram" for end in SUFFIXES
    }
    for name in re.findall(rf"\b{PREFIX}[a-z_]+\b", path.read_text(encoding="utf-8")):
        assert name in names


@pytest.mark.parametrize(
    "path", [path for path in DOCUMENTS if path.name != "README.md" or path.parent == ROOT], ids=named
)
def test_every_setting_exists(path: Path) -> None:
    """
    A name in backticks whose first word is a section's is a setting's, an option of Kafka, an event, or no name at all. The
    chart's README names the chart's values, which the chart's own tests hold.
    """
    table = table_of_rows()
    for text in code(path):
        name = text.removeprefix("settings.")
        if not SETTING.fullmatch(name) or name.partition(".")[0] not in SECTIONS or name in EVENTS:
            continue
        words = tuple(name.split("."))
        above = find(table, words[:-1])
        assert find(table, words) is not None or (above is not None and above.options), name


@documents
def test_every_variable_of_a_setting_exists(path: Path) -> None:
    table = table_of_rows()
    for variable in re.findall(r"\bWORKER_([A-Z_]+__[A-Z_]+)\b", path.read_text(encoding="utf-8")):
        words = tuple(variable.lower().split("__"))
        row = find(table, words) or find(table, words[:-1])
        assert row is not None, variable
