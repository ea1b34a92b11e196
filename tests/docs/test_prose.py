# What the documents say can be done can be done: their commands, targets, links and names are those of the code.

from __future__ import annotations

import re
import shlex
from typing import Any, Final

import pytest
import typer.main

from tests.docs.markdown import ROOT, anchors, code, lines, links, text
from worker.cli.app import app
from worker.runtime.log_events import EVENTS
from worker.runtime.metric_table import PREFIX, ROWS
from worker.settings.setting_rows import find, rows, table_of_rows

DOCUMENTS: Final = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("*.md", "config/*.md", "helm/**/*.md")
    for path in ROOT.glob(pattern)
)
TARGETS: Final = set(re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE))
SECTIONS: Final = {row.path[0] for row in rows() if row.section is not None}
SETTING: Final = re.compile(r"[a-z_]+(\.([a-z_]+|<name>))+(?<!\.py|\.md)(?<!\.yaml)")
SUFFIXES: Final = ("_bucket", "_sum", "_count")

documents = pytest.mark.parametrize("page", DOCUMENTS)


def test_there_are_documents_to_look_at() -> None:
    assert len(DOCUMENTS) >= 4


@documents
def test_every_target_of_make_exists(page: str) -> None:
    for line in [*lines(page), *code(page)]:
        for target in re.findall(r"(?:^|[;&(]\s*)make ([a-z][a-z-]*)", line):
            assert target in TARGETS, line


@documents
def test_every_command_exists_with_its_options(page: str) -> None:
    for line in [*lines(page), *code(page)]:
        for words in re.findall(r"(?:^|[|;&$]\s*|-- )(?:moderation-worker|mw|apart) ([^|;&`]+)", line):
            assert_parsed(shlex.split(words, comments=True), line)


def assert_parsed(words: list[str], line: str) -> None:
    command: Any = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    if not words or words[0] in {"…", "$@"}:
        return
    assert not getattr(command, "commands", None) or words[0].startswith("-"), line
    known = {
        name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)
    } | {"--help", "-h"}
    assert {word.partition("=")[0] for word in words if word.startswith("-") and word != "-"} <= known, line


@documents
def test_every_link_leads_somewhere(page: str) -> None:
    for link in links(page):
        file, _, anchor = link.partition("#")
        there = ((ROOT / page).parent / file).resolve() if file else ROOT / page
        assert there.exists(), link
        assert not anchor or anchor in anchors(str(there.relative_to(ROOT))), link


@documents
def test_every_metric_exists(page: str) -> None:
    names = {row.name for row in ROWS} | {
        f"{row.name}{end}" for row in ROWS if row.type == "histogram" for end in SUFFIXES
    }
    for name in re.findall(rf"\b{PREFIX}[a-z_]+\b", text(page)):
        assert name in names


@pytest.mark.parametrize("page", [page for page in DOCUMENTS if not page.endswith("/README.md")])
def test_every_setting_exists(page: str) -> None:
    """
    A name in backticks whose first word is a section's is a setting's, an option of Kafka, an event, or no name at all. The
    chart's README names the chart's values, which the chart's own tests hold.
    """
    table = table_of_rows()
    for word in [*lines(page), *code(page)]:
        name = word.removeprefix("settings.")
        if not SETTING.fullmatch(name) or name.partition(".")[0] not in SECTIONS or name in EVENTS:
            continue
        words = tuple(name.split("."))
        above = find(table, words[:-1])
        assert find(table, words) is not None or (above is not None and above.holds_kafka_options), name


@documents
def test_every_variable_of_a_setting_exists(page: str) -> None:
    table = table_of_rows()
    for variable in re.findall(r"\bWORKER_([A-Z_]+__[A-Z_]+)\b", text(page)):
        words = tuple(variable.lower().split("__"))
        row = find(table, words) or find(table, words[:-1])
        assert row is not None, variable
