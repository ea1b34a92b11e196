# The table of exit codes is whole: it has each code that a command ends with, and no other.

from __future__ import annotations

from tests.docs.markdown import rows
from worker.cli import shared
from worker.runtime import shutdown

PAGE = "config/running.md"


def test_the_table_has_every_exit_code_and_no_other() -> None:
    codes = {value for name, value in vars(shared).items() if name.isupper() and isinstance(value, int)}

    assert {int(code) for code, _, _ in rows(PAGE, "## Exit codes")} == {shutdown.CLEAN, *codes}
    assert shutdown.FAILED == shared.FAILED
