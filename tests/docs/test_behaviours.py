# The index of behaviours leads from every rule of the core to its tests, and leaves no test out.

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.docs import behaviours
from tests.docs.behaviours import CORE, RULES, TESTS

if TYPE_CHECKING:
    from tests.docs.behaviours import TestFile

FILES = behaviours.test_files()
PAGE = behaviours.page()


def test_every_file_of_the_core_is_below_a_rule_and_every_rule_has_files() -> None:
    named = {f"{CORE}/{name}.py" for names in RULES.values() for name in names}

    assert named == {file.path for file in FILES if file.path.startswith(CORE)}
    assert all(RULES.values())


def test_every_link_of_the_index_leads_somewhere() -> None:
    anchors = set(re.findall(r'<a id="([^"]+)">', PAGE))

    assert set(re.findall(r"\(#([^)]+)\)", PAGE)) <= anchors
    assert all((TESTS / link).is_file() for link in re.findall(r"^### \[.+\]\((.+)\)$", PAGE, re.MULTILINE))


def test_a_test_is_one_line_however_many_cases_it_has() -> None:
    lines = [line for line in PAGE.splitlines() if line.startswith("- ")]
    functions = [
        name
        for file in FILES
        for name in re.findall(
            r"^(?:async )?def (test_\w+)", (TESTS / file.path).read_text(encoding="utf-8"), re.MULTILINE
        )
    ]

    assert len(lines) == len(functions) > 1000


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.path)
def test_a_file_of_tests_opens_with_what_it_shows(file: TestFile) -> None:
    assert len(file.opening.split()) >= 4, f"{file.path} does not say what it shows"


def test_no_claim_is_too_long_to_be_scanned() -> None:
    """The reason belongs into the docstring."""
    claims = {behaviour.claim for file in FILES for behaviour in file.behaviours}

    assert [claim for claim in claims if len(f"test_{claim}") > 86] == []
