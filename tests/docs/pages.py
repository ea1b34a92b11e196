# Every file that is made from the code: its path and what makes it. `make docs` writes them all. No test is here.

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from worker.domain.contract import schemas
from worker.runtime import log_events, metric_table
from worker.settings import reference

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROOT: Final = Path(__file__).parents[2]

PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "config/worker.example.yaml": reference.example,
    "config/settings.md": reference.page,
    "config/metrics.md": metric_table.page,
    "config/events.md": log_events.page,
    **{f"config/{name}": partial(str, text) for name, text in schemas.documents().items()},
}


def write() -> None:
    for name, make in PAGES.items():
        (ROOT / name).write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    write()
