# `moderation-worker demo`: the product in a minute, judged by an independent checker. Exit codes: 0 every promise held,
# 1 one was broken or something could not be started, 2 wrong options, 130 ended by Ctrl-C.
#
# Here are its options only. What happens in a demo is worker/testing/demo, which the image does not contain.

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Final

import typer

from worker.cli.shared import FAILED, INTERRUPTED, end_as_by_ctrl_c
from worker.printable_text import plain

TROUBLED: Final = (20_000, 2)
CALM: Final = (10_000, 1)
"""Default numbers of commands and replicas: trouble needs more of both, and a replica that can be killed."""
NOT_HERE: Final = """\
The demo is not part of this installation: the image contains only what runs in production.
Run it in a clone of the repository: make demo
The local Tencent API that it uses is part of it: moderation-worker simulate
"""


def demo(
    *,
    commands: Annotated[
        int | None,
        typer.Option(
            metavar="NUMBER",
            min=1,
            max=1_000_000,
            help="How many commands the raid has (20,000, without trouble 10,000); two bad records a hundred come on top.",
        ),
    ] = None,
    replicas: Annotated[
        int | None,
        typer.Option(
            metavar="NUMBER",
            min=1,
            max=6,
            help="How many workers share the six partitions (2, without trouble 1).",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="NUMBER", help="The same seed makes the same raid.")] = 1,
    trouble: Annotated[
        bool,
        typer.Option(
            help="Let things go wrong meanwhile: transient codes, a 10 s outage, a lower limit, a replica killed and back."
        ),
    ] = True,
    bootstrap_servers: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Use this Kafka instead of starting one; the demo's topics are removed at its end.",
        ),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave everything running afterwards, until Ctrl-C.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the summary as JSON too.")
    ] = None,
) -> None:
    """
    Watch a raid being moderated: a real Kafka, a local Tencent API, the worker, and a check of its promises.

    Needs no Docker and no installed Java; the first start fetches 44 MB of Kafka, and later ones reuse them.

    Example:  moderation-worker demo --commands 50000 --replicas 3
    """
    servers = None if bootstrap_servers is None else _servers(bootstrap_servers)
    if json_file is not None and not _can_be_written(json_file):
        raise typer.BadParameter(
            f"{plain(json_file)} cannot be written: its folder does not exist, or it is a folder",
            param_hint="--json",
        )

    if find_spec("worker.testing.demo") is None:
        sys.stderr.write(NOT_HERE)
        sys.exit(FAILED)

    from kafka.errors import KafkaError  # noqa: PLC0415 - --help need not load Kafka
    from rich.console import Console  # noqa: PLC0415
    from rich.markup import escape  # noqa: PLC0415

    from worker.testing.demo.main import DemoOptions, play  # noqa: PLC0415
    from worker.testing.kafka.child_process import ProcessFailedError  # noqa: PLC0415
    from worker.testing.kafka.jars import FetchError  # noqa: PLC0415

    console = Console()
    end_as_by_ctrl_c()
    usual = TROUBLED if trouble else CALM
    options = DemoOptions(
        commands=commands or usual[0],
        replicas=replicas or usual[1],
        seed=seed,
        trouble=trouble,
        bootstrap_servers=servers,
        keep=keep,
        json_file=json_file,
    )
    try:
        held = play(options, console)
    except KeyboardInterrupt:
        console.print("\ninterrupted: everything that was started is stopped")
        sys.exit(INTERRUPTED)
    except (FetchError, ProcessFailedError, KafkaError, OSError) as error:
        console.print(f"[red]the demo could not run:[/] {escape(str(error))}", highlight=False)
        sys.exit(FAILED)
    sys.exit(0 if held else FAILED)


def _servers(text: str) -> str:
    """Return the addresses, checked as the settings' are: kafka-python raises something else for each way to be wrong."""
    from worker.settings.addresses import server  # noqa: PLC0415 - --help need not load it

    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise typer.BadParameter("give HOST:PORT", param_hint="--bootstrap-servers")
    for part in parts:
        try:
            server(part)
        except ValueError as error:
            raise typer.BadParameter(
                f"{plain(part)!r} is no HOST:PORT: {error}", param_hint="--bootstrap-servers"
            ) from error
    return ",".join(parts)


def _can_be_written(file: Path) -> bool:
    try:
        return file.parent.is_dir() and not file.is_dir()
    except OSError:  # its name is too long, say
        return False
