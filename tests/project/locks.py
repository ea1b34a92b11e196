# The locked requirement files, read: what each pins, and what is claimed to work with them. No test is here.

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Final

from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).parents[2]
PROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

BUILD: Final = "requirements-build.txt"
LOCKS: Final = {
    "requirements.txt": (),
    "requirements-demo.txt": ("demo",),
    "requirements-msk-iam.txt": ("msk-iam",),
    "requirements-dev.txt": ("demo", "msk-iam"),
}
"""Each lock, and the extras of the project that it is for. The build's comes before each of them."""

BENCH: Final = "requirements-bench.txt"
"""What the benchmarks compare with, beside the project: an environment of its own, which nothing else needs."""

PYTHONS: Final = tuple(
    found[1]
    for classifier in PROJECT["project"]["classifiers"]
    if (found := re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", classifier))
)
"""The Pythons that the project claims to work on."""


def pins(name: str) -> dict[str, str]:
    """What a lock pins: each project by its canonical name, with its version."""
    found = re.findall(r"^([\w.-]+)==(\S+) \\$", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
    return {canonicalize_name(project): version for project, version in found}
