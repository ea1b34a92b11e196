# The bar that is shown while Kafka's jars are fetched, in the demo and by `moderation-worker kafka`.
#
# How they are fetched is in jars.py.

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from worker.testing.kafka import jars


@contextlib.contextmanager
def fetching(console: Console) -> Iterator[jars.Progress]:
    """Yield what shows the progress. The bar appears with the first bytes, because a second start fetches nothing."""
    columns = (TextColumn("  fetching Apache Kafka, this once"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("", total=None, visible=False)
        yield lambda done, total: bars.update(task, completed=done, total=total, visible=True)
