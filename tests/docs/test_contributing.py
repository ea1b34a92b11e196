# CONTRIBUTING and CHANGELOG speak of files, commands and numbers that there are, and the row that is shown is one that works.

from __future__ import annotations

import hashlib
import re
from typing import Any, Final

import pytest

from tests.docs.markdown import ROOT, blocks, code, command_lines, rows, tables, text
from tests.docs.test_readme import Shown
from worker import __version__
from worker.domain.contract import actions
from worker.domain.contract.actions import Action
from worker.domain.contract.command_decoding import Command, CommandDecoder
from worker.domain.contract.outcomes import Worker
from worker.domain.engine_settings import EngineSettings

PAGE: Final = "CONTRIBUTING.md"
PLACES: Final = sorted({
    place for page in ("CONTRIBUTING.md", "GUARANTEES.md", "ARCHITECTURE.md", "README.md") for place in code(page)
    if re.fullmatch(r"\.?(worker|tests|config|helm)(/[\w.-]+)+/?|[A-Z]\w+(\.md)?|[\w.-]+\.(toml|txt|yaml)", place)
    and (ROOT / place.split("/")[0]).exists()
})  # fmt: skip
"""Everything between backticks that looks like a file of the repository."""
WISHES: Final = [row for table in tables(PAGE, "## I want to …") for row in table]


@pytest.mark.parametrize("place", PLACES)
def test_every_file_that_is_named_is_there(place: str) -> None:
    assert (ROOT / place).exists()


def test_there_are_files_to_look_for() -> None:
    assert len(PLACES) > 50


def test_every_folder_of_tests_is_in_the_table() -> None:
    listed = set(re.findall(r"`tests/(\w+)`", " ".join(cells[0] for cells in rows(PAGE, "## Tests"))))
    there = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name[0] not in "._"}

    assert there <= listed


def test_every_wish_leads_somewhere_in_a_few_words() -> None:
    """A cell that is longer holds several wishes: give each a row."""
    for _, where in WISHES:
        assert re.search(r"`[\w./-]+`", where)
        assert len(where) <= 500, where


def test_no_wish_is_there_twice() -> None:
    wishes = [wish for wish, _ in WISHES]

    assert sorted(wishes) == sorted(set(wishes))


def test_what_a_wish_names_in_a_file_is_in_that_file() -> None:
    """Functions, classes and constants, in parentheses behind the file."""
    named = [
        (place, name)
        for _, where in WISHES
        for place, inside in re.findall(r"`([\w./-]+\.\w+)` \(([^()]*)\)", where)
        for name in re.findall(r"`(?:\w+\.)*(\w*[A-Z_]\w*)`", inside)
    ]

    assert len(named) > 30
    assert [
        (place, name) for place, name in named if not re.search(rf"\b{name}\b", (ROOT / place).read_text())
    ] == []


@pytest.mark.parametrize(
    "words", [words for words in command_lines(PAGE) if any("pytest" in word for word in words)], ids=" ".join
)
def test_every_test_that_is_run_is_there(words: list[str]) -> None:
    assert all((ROOT / word).exists() for word in words if word.startswith("tests/"))


def test_the_row_that_is_shown_makes_a_new_action_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the decoder and into Tencent's body, with nothing else changed."""
    (shown,) = blocks(PAGE, "python")
    row: Any = eval(shown, vars(actions))  # noqa: S307 - our own page
    assert isinstance(row, Action)
    assert row.name not in actions.ACTIONS, "it is there now: show another one"
    monkeypatch.setitem(actions.ACTIONS, row.name, row)
    decoder = CommandDecoder(EngineSettings("t", 6, {"main": "administrator"}, "main", Worker("w", "0")))
    command = decoder.decode(
        Shown(b'{"command_id":"1","action":"live.ban_member","room_id":"r","user_ids":["u"],"duration":60}')
    )

    assert isinstance(command, Command)
    body = command.body(command.users, 0.0)
    assert body == b'{"RoomId":"r","MemberList_Account":["u"],"Duration":60}'


def test_the_changelog_knows_the_version() -> None:
    assert re.search(
        rf"^## \[{re.escape(__version__)}\]|^To be {re.escape(__version__)}\b",
        text("CHANGELOG.md"),
        re.MULTILINE,
    )


def test_the_changelog_keeps_its_format() -> None:
    headings = re.findall(r"^#+ .+$", text("CHANGELOG.md"), re.MULTILINE)
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}

    assert headings[0] == "# Changelog"
    for heading in headings[1:]:
        release = re.fullmatch(
            r"## \[(Unreleased|\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d|\d+\.\d+\.\d+)\]?.*", heading
        )
        assert release or heading.removeprefix("### ") in kinds, heading


def test_the_license_is_the_apache_license_to_the_letter() -> None:
    """The digest is that of the text that the Apache Software Foundation publishes."""
    published = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"

    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == published
