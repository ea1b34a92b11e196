# Every file that is made from the code: its path and what makes it. `make docs` writes them all. No test is here.
#
# The version is one of the things that are made: it is written in worker/__init__.py, and from there goes wherever a file
# that no Python reads must name it.

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from config import make_asyncapi, make_schemas, make_settings, make_tables
from helm import make_schema
from tests.docs import behaviours
from worker import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROOT: Final = Path(__file__).parents[2]

VERSIONED: Final = {
    "Dockerfile": r"^ARG VERSION=(.+)$",
    "helm/moderation-worker/Chart.yaml": r'^(?:version: |appVersion: ")([\w.]+)',
    "helm/moderation-worker/README.md": r"moderation-worker:([\w.]+)(?=[ `\n])",
    "SECURITY.md": r"(?:worker:|tags/v)([\w.]+)",
    "config/contract.md": r'"worker": \{"name": "[^"]+", "version": "([^"]+)"',
    "tests/kind/values.yaml": r"moderation-worker:([\w.]+)$",
    ".github/workflows/ci.yaml": r"moderation-worker:([\w.]+) ",
}
"""Files that name the version, and where."""


def _with_version(name: str) -> str:
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.sub(
        VERSIONED[name], lambda place: place[0].replace(place[1], __version__), text, flags=re.MULTILINE
    )


PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "config/worker.example.yaml": make_settings.example,
    "config/settings.md": make_settings.page,
    "helm/moderation-worker/values.schema.json": make_schema.schema,
    "config/asyncapi.yaml": make_asyncapi.document,
    "config/metrics.md": make_tables.metrics,
    "config/events.md": make_tables.events,
    "tests/BEHAVIOURS.md": behaviours.page,
    **{f"config/{name}": partial(str, text) for name, text in make_schemas.documents().items()},
    **{name: partial(_with_version, name) for name in VERSIONED},
}


def write() -> None:
    for name, make in PAGES.items():
        (ROOT / name).write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    write()
