# The schemas in config/ are what the code makes today.

from pathlib import Path

import pytest

from worker.cli.schemas import write
from worker.domain.schemas import documents

CONFIG = Path(__file__).parents[2] / "config"


@pytest.mark.parametrize("name", documents())
def test_the_schema_in_config_is_fresh(name: str) -> None:
    """
    If it is not: ``python -m worker.cli.schemas``.
    """
    assert (CONFIG / name).read_text(encoding="utf-8") == documents()[name]


def test_no_other_schema_lies_there() -> None:
    assert {path.name for path in CONFIG.glob("*.schema.json")} == set(documents())


def test_writing_them_is_one_command(tmp_path: Path) -> None:
    written = write(tmp_path)

    assert {path.name: path.read_text(encoding="utf-8") for path in written} == documents()
