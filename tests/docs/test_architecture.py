# ARCHITECTURE.md shows the house as it is: every file of the core stands in its table, and no file that is gone.

from __future__ import annotations

from tests.docs.markdown import ROOT, text

DOMAIN = ROOT / "worker" / "domain"
TABLE = text("ARCHITECTURE.md").partition("Inside the domain are three rooms")[2].partition("## ")[0]


def test_every_file_of_the_core_stands_in_the_table() -> None:
    files = {path.name for path in DOMAIN.rglob("*.py") if path.name != "__init__.py"}
    told = {word for word in TABLE.split("`") if word.endswith(".py")}

    assert told == files


def test_every_room_of_the_core_stands_in_the_table() -> None:
    rooms = {f"{path.name}/" for path in DOMAIN.iterdir() if (path / "__init__.py").exists()}
    told = {word for word in TABLE.split("`") if word.endswith("/")}

    assert told == rooms
