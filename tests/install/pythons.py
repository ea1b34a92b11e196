# The Pythons that the project claims, as far as they are on this machine. No test is here.
#
# Run as a program (`python -m tests.install.pythons`) it says which are found.

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from tests.project.locks import PYTHONS


@cache
def found() -> dict[str, Path]:
    """Each claimed Python that is here: on the path, or kept by pyenv. Each brings the pip that it was released with."""
    candidates = {python: [*_candidates(python)] for python in PYTHONS}
    return {
        python: next(path for path in paths if _is(path, python))
        for python, paths in candidates.items()
        if any(_is(path, python) for path in paths)
    }


def _candidates(python: str) -> list[Path]:
    name = f"python{python}"
    kept = sorted((Path.home() / ".pyenv" / "versions").glob(f"{python}.*/bin/{name}"))
    on_path = shutil.which(name)
    return [Path(sys.base_prefix) / "bin" / name, *kept, *([Path(on_path)] if on_path else [])]


@cache
def _is(path: Path, python: str) -> bool:
    """Whether a program is that Python and can make environments: a shim may be neither."""
    script = f"import sys, venv, ensurepip; sys.exit('%d.%d' % sys.version_info[:2] != '{python}')"
    return (
        path.exists()
        and subprocess.run([path, "-c", script], capture_output=True, check=False).returncode == 0
    )


if __name__ == "__main__":
    for python in PYTHONS:
        print(f"Python {python}:", found().get(python, "not found, so not tried"))  # noqa: T201 - a program's answer
