# config/ holds the schemas that the code makes (whether they are fresh: test_pages.py), and no other.

from __future__ import annotations

from pathlib import Path

from config.make_schemas import documents

CONFIG = Path(__file__).parents[2] / "config"


def test_no_other_schema_lies_there() -> None:
    assert {path.name for path in CONFIG.glob("*.schema.json")} == set(documents())
