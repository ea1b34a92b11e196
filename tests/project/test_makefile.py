# Which environment the Makefile takes for its own. That it can be made: tests/install.

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from typing import TYPE_CHECKING

import pytest

from tests.project.locks import ROOT

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is missing")


def make(clone: Path, *words: str) -> str:
    """What make says in this folder."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        ["make", *words], cwd=clone, env=clean, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )  # fmt: skip
    return done.stdout


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with an environment, as far as the Makefile looks at it."""
    folder = tmp_path / "a clöne"
    folder.mkdir()
    shutil.copy(ROOT / "Makefile", folder)
    venv.create(folder / ".venv", symlinks=True)
    (folder / ".venv" / "bin" / "pip").write_text(f"#!{folder}/.venv/bin/python\n")
    return folder


def is_kept(clone: Path) -> bool:
    return "up to date" in make(clone, "-n", ".venv/pyvenv.cfg")


def test_an_environment_is_kept_where_it_was_made(clone: Path) -> None:
    assert is_kept(clone)


def test_an_environment_is_made_again_in_a_copied_clone(clone: Path) -> None:
    """The copy checked, and ran, the code of the first clone; in a moved one no program could be started."""
    copy = clone.with_name("copy")
    shutil.copytree(clone, copy, symlinks=True)

    assert not is_kept(copy)


def test_an_environment_of_an_old_python_is_made_again(clone: Path) -> None:
    """Whoever had named one once was stuck with it, whatever Python was found later."""
    (clone / ".venv" / "bin" / "python").unlink()
    _old_python(clone / ".venv" / "bin" / "python")

    assert not is_kept(clone)


@pytest.mark.parametrize("there", [True, False])
def test_a_python_that_is_too_old_or_missing_is_refused_before_anything_is_made(
    tmp_path: Path, there: bool
) -> None:
    """The first made an environment in which nothing can be installed, and of the other it was said that it has no venv."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    old = tmp_path / "python"
    if there:
        _old_python(old)

    said = make(tmp_path, ".venv/pyvenv.cfg", f"PYTHON={old}")

    assert "make needs Python >= 3.11: install it, or make PYTHON=/path/to/python" in said
    assert not (tmp_path / ".venv").exists()


def _old_python(path: Path) -> None:
    script = f"""#!/bin/sh
shift
exec '{sys.executable}' -c "import sys; sys.version_info = (3, 10)
$1"
"""
    path.write_text(script)
    path.chmod(0o755)
