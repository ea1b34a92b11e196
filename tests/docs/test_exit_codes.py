# The table of exit codes is whole: it has each code that a command ends with, and no other.

from __future__ import annotations

from tests.docs.markdown import rows
from worker.cli import shared
from worker.cli.outcomes import NOTHING, WAITS
from worker.runtime import lifecycle

PAGE = "config/running.md"
INTERRUPTED = 130
"""What Typer ends with after Ctrl-C: 128 and the number of SIGINT."""


def test_the_table_has_every_exit_code_and_no_other() -> None:
    told = {int(code): of for code, of, _ in rows(PAGE, "## Exit codes")}

    assert told.keys() == {
        lifecycle.CLEAN,
        shared.FAILED,
        shared.WRONG,
        NOTHING,
        WAITS,
        INTERRUPTED,
    }
    assert lifecycle.FAILED == shared.FAILED
    assert told[NOTHING] == told[WAITS] == "`outcomes`"
