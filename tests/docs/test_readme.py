# The README and the pages behind it say what the program does: each command line can be parsed by the program, each file is
# there, each example is one that the program takes or makes. That the outcomes are real is seen in tests/process/test_readme.py.

from __future__ import annotations

import json
import re
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import typer.main
import yaml

from tests.certificate import self_signed
from tests.docs.markdown import ROOT, blocks, command_lines, prose, rows, text
from worker.cli.app import app
from worker.domain.contract.actions import ACTIONS
from worker.domain.contract.command_decoding import Command, CommandDecoder
from worker.domain.contract.dead_letter_encoding import DeadLetter, fit
from worker.domain.contract.field_checks import FIELDS
from worker.domain.contract.outcomes import Outcome, Status, Worker
from worker.domain.contract.rejections import REJECTIONS
from worker.domain.engine_settings import EngineSettings
from worker.settings import load
from worker.settings.setting_rows import rows as settings
from worker.testing.checker.evidence import ViolationKind
from worker.testing.demo.summary import MEANINGS

if TYPE_CHECKING:
    from pathlib import Path

README = "README.md"
CONTRACT = "config/contract.md"
RUNNING = "config/running.md"
LOCAL_API = "config/local-api.md"
PAGES = (README, CONTRACT, RUNNING, LOCAL_API)
KEY = "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e"
JSON = [json.loads(block) for block in blocks(CONTRACT, "json")]
LINES = [words for page in PAGES for words in command_lines(page)]
COMMANDS = [each for each in JSON if "user_ids" in each]
OUTCOMES = [each for each in JSON if "status" in each]


def test_each_replica_that_systemd_keeps_has_a_port_of_its_own() -> None:
    """However many there are: what tells them apart is the port itself."""
    (unit,) = blocks(RUNNING, "ini")
    (port,) = re.findall("^Environment=WORKER_SERVER__PORT=(.+)$", unit, re.MULTILINE)
    names = re.findall(r"moderation-worker@(\w+)", unit)

    assert len(names) == 2
    assert port == "%i"
    assert all(1024 <= int(name) < 65536 for name in names)


def parsed_by_the_program(words: list[str]) -> None:
    """Whether the program takes these words. It is not run: a wrong name or value raises here."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("moderation-worker", list(words), resilient_parsing=True)
    while hasattr(command, "commands"):
        name, command, words = command.resolve_command(context, list(words))
        context = command.make_context(name, list(words), parent=context)


def ours(words: list[str]) -> list[str] | None:
    """The words after the program's name, also in a line of Docker, without where its output goes."""
    called = [
        place for place, word in enumerate(words) if word.removeprefix(".venv/bin/") == "moderation-worker"
    ]
    if not called:
        return None
    return list(takewhile(lambda word: word not in {">", "&"}, words[called[0] + 1 :]))


PROGRAM = [line for words in LINES if (line := ours(words)) is not None and line != ["."]]


@pytest.mark.parametrize("words", PROGRAM, ids=" ".join)
def test_every_command_line_is_one_that_the_program_takes(words: list[str]) -> None:
    parsed_by_the_program(words)


def test_every_command_of_the_program_is_shown() -> None:
    command: Any = typer.main.get_command(app)

    assert {words[0] for words in PROGRAM} | {"demo"} == set(command.commands)


@pytest.mark.parametrize("words", [words for words in LINES if words[0] == "make"], ids=" ".join)
def test_every_make_target_is_there_and_takes_what_it_is_given(words: list[str]) -> None:
    target, *variables = words[1:]

    assert re.search(rf"^{target}:", text("Makefile"), re.MULTILINE)
    for variable in variables:
        name, _, value = variable.partition("=")
        assert f"$({name})" in text("Makefile") or f"$(or $({name})" in text("Makefile")
        if name == "DEMO":
            parsed_by_the_program(["demo", *value.split()])
        else:
            assert (ROOT / value.split()[0]).exists()


@pytest.mark.parametrize("block", [block for page in PAGES for block in blocks(page, "yaml")])
def test_every_settings_file_is_accepted(block: str, tmp_path: Path) -> None:
    """Except for files that exist on a real machine only. What shows one section alone is completed."""
    file = tmp_path / "file"
    file.write_text(KEY)
    authority = tmp_path / "ca.crt"
    authority.write_text(self_signed()[0])
    block = re.sub(r"_cafile: /\S+", f"_cafile: {authority}", re.sub(r"_file: /\S+", f"_file: {file}", block))
    apps = {"main": {"sdk_app_id": 1, "identifier": "a", "secret_key": KEY, "region": "seoul"}}
    data = {"tencent": {"apps": apps}} | yaml.safe_load(block)
    path = tmp_path / "worker.yaml"
    path.write_text(yaml.safe_dump(data))

    load(path, {})


def test_each_action_is_shown_by_a_command_and_its_outcome() -> None:
    assert [command["action"] for command in COMMANDS] == list(ACTIONS)
    assert [outcome["command_id"] for outcome in OUTCOMES[: len(ACTIONS)]] == [
        command["command_id"] for command in COMMANDS
    ]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command["action"])
def test_every_command_shown_is_one_that_the_worker_takes(command: dict[str, Any]) -> None:
    decoder = CommandDecoder(EngineSettings("t", 6, {"main": "administrator"}, "main", Worker("w", "0")))

    decoded = decoder.decode(Shown(json.dumps(command).encode()))

    assert isinstance(decoded, Command)


@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: outcome["outcome_id"])
def test_every_outcome_shown_has_the_fields_and_values_of_one(outcome: dict[str, Any]) -> None:
    """What a shortened one leaves out is taken from the one that is whole."""
    whole = {name: OUTCOMES[0][name] for name in OUTCOMES[0] if name not in ("metadata", "calls")} | outcome

    read = msgspec.convert(whole, Outcome)

    assert msgspec.to_builtins(read) == whole


def test_a_rejection_that_is_shown_has_a_code_that_there_is() -> None:
    codes = [outcome["error"]["code"] for outcome in OUTCOMES if "error" in outcome]

    assert codes
    assert set(codes) <= set(REJECTIONS)


def test_every_field_of_a_command_is_in_the_table_and_no_other() -> None:
    named = " ".join(cells[0] for cells in rows(CONTRACT, "## Fields of a command"))

    assert re.findall(r"`(\w+)`", named) == list(FIELDS)


def test_every_status_is_in_the_table_and_no_other() -> None:
    named = [cells[0].strip("`") for cells in rows(CONTRACT, "## What a status means")]

    assert sorted(named) == sorted(Status)


def test_the_headers_of_dead_letters_are_those_that_are_written() -> None:
    large = Shown(b"x" * 5000, key=b"x" * 5000, headers=(("h", b"x" * 5000),))
    null = Shown(None, key=None, headers=(("h", None),))
    letters = [DeadLetter(each, "commands", "commands-3-3", "unknown_field", "why") for each in (large, null)]
    written = {name for each in letters for name, _ in fit(each, 4096).headers} - {"h"}

    named = re.findall(r"`(x-[a-z0-9-]+)[`:]", text(CONTRACT))

    assert set(named) == written


def test_every_promise_is_there_in_order() -> None:
    assert [cells[0] for cells in rows(README, "## The promises")] == [
        f"P{number}" for number in range(1, 13)
    ]


def test_the_settings_to_decide_first_have_the_defaults_that_the_page_gives() -> None:
    defaults = {row.name: row.default for row in settings()}

    for name, given, _ in rows(RUNNING, "## Settings"):
        default = defaults[name.strip("`")]
        shown = "none" if default == [] or default == () else str(default)  # noqa: PLR1714 - whichever kind it is
        assert given.strip("`") in (shown, shown.removesuffix(".0")), name


def test_what_the_demo_prints_is_what_it_prints() -> None:
    """The figures are of one run; the words are the program's."""
    printed = blocks(README, "")[1]
    faults = {fault.value for fault in ViolationKind}

    statuses = re.findall(r"^  ([a-z_]+) +[\d,]+   (.+)$", printed, re.MULTILINE)
    promises = re.findall(r"^  (.+?) +0 ✓$", printed, re.MULTILINE)

    assert len(statuses) >= 5
    assert all(MEANINGS[status] == meaning for status, meaning in statuses)
    assert len(promises) >= 5
    assert set(promises) <= faults


def test_the_readme_is_short_and_its_example_is_the_contracts() -> None:
    """A newcomer reads it whole, or not at all. What it shows is the first command of the contract, shortened."""
    command, outcome = (json.loads(block) for block in blocks(README, "json"))

    assert len(text(README).splitlines()) <= 200
    assert len(text(README).split()) <= 1300
    assert command.items() <= COMMANDS[0].items()
    assert outcome.items() <= OUTCOMES[0].items()


@pytest.mark.parametrize("page", PAGES)
def test_no_word_of_it_is_left_to_be_written(page: str) -> None:
    assert not re.search(r"\b(TODO|TBD|FIXME|XXX)\b", prose(page))


class Shown(msgspec.Struct, frozen=True):
    """A record with nothing but a value, unless more is said."""

    value: bytes | None
    key: bytes | None = None
    partition: int = 3
    offset: int = 3
    headers: tuple[tuple[str, bytes | None], ...] = ()
