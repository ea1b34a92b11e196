# Benchmarks in processes of their own: started, awaited, ended in order, and what they said.
#
# A measure that cannot be had is an error of its own here, so that a table shows it as missing. Not here: what is measured.

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

CHILD_DEADLINE: Final = 300.0
CHILD_STOP: Final = 20.0
MOST_SHOWN: Final = 200
"""Characters of what a process said last."""


class NotMeasuredError(Exception):
    """Something that is needed is not here; the message says what."""


def child(module: str, *words: str, codes: Sequence[int] = (0,)) -> Any:
    """
    Runs a benchmark in a process of its own, and returns the JSON of its last line. It ends with this one, in order.
    Raises NotMeasuredError with the last line that it wrote.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", module, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=CHILD_DEADLINE)
    except subprocess.TimeoutExpired as exc:
        _end(process)
        raise NotMeasuredError(f"{module} took longer than {CHILD_DEADLINE:.0f} s") from exc
    except BaseException:
        _end(process)
        raise
    if process.returncode not in codes:
        last = (err.strip() or out.strip() or "no output").splitlines()[-1][:MOST_SHOWN]
        raise NotMeasuredError(
            f"{module.rpartition('.')[2]} {' '.join(words)} ended with {process.returncode}: {last}"
        )
    return json.loads(out.splitlines()[-1])


def _end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)  # it ends what it has started
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(CHILD_STOP)
    process.kill()
    process.wait()
