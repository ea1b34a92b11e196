# The demo from its first line to its last: set the stage, let the raid run, wait for every outcome, judge, tell.
#
# What it plays on is environment.py, what it plays scenario.py, who judges check.py. Here is the order of things and what is shown.

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from worker import __version__
from worker.testing.checker.check import check
from worker.testing.checker.figures import figures
from worker.testing.demo import summary
from worker.testing.demo.chaos import RAID_SECONDS, Chaos
from worker.testing.demo.environment import DemoEnvironment
from worker.testing.demo.load import STALLED, carry_out, wanted_outcomes
from worker.testing.demo.scenario import plan

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rich.console import Console

    from worker.testing.demo.load import Seen
    from worker.testing.demo.scenario import Scenario

LATENCY: Final = 0.03
LATENCY_JITTER: Final = 0.5
WAITED_FOR: Final = {
    True: "mostly the outage's end and the quota",
    False: "mostly the quota: they were all sent at once",
}
"""Trouble -> what takes the time from a command to its outcome. One that comes alone takes as long as its call."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the user chose."""

    commands: int
    replicas: int
    seed: int
    trouble: bool
    bootstrap_servers: str | None = None
    keep: bool = False
    json_file: Path | None = None


def play(options: Options, console: Console) -> bool:
    """
    Plays the demo and tells whether every promise held.

    Raises FetchError when Kafka cannot be had, ProcessFailedError when something does not start, KafkaError.
    """
    trouble = ", while endpoints fail and a worker is killed" if options.trouble else ""
    console.print(
        f"\n[bold]moderation-worker[/] {__version__}: a raid of {options.commands:,} commands on fifty live rooms, "
        f"carried out on a real Apache Kafka and a local Tencent API{trouble}.\n"
    )
    raid = plan(options.commands, options.seed)
    with DemoEnvironment(options.bootstrap_servers) as stage:
        _set(stage, options, raid, console)
        seen = _watched(stage, options, raid, console)
        held = tell(seen, options, console)
        if options.keep:
            _keep(stage, console)
    return held


def tell(seen: Seen, options: Options, console: Console) -> bool:
    """Judges what was seen, prints the summary, and writes the file that was asked for. Whether every promise held."""
    report = check(seen.evidence)
    counted = figures(seen.evidence)
    example = summary.choose_example(seen.evidence.outcomes, seen.raw)
    summary.show(console, counted, report, example, WAITED_FOR[options.trouble])
    if seen.longest_stall > summary.STALL:
        console.print(
            f"  [yellow]The simulator itself stalled for {_ms(seen.longest_stall)}: this machine is busy, "
            "and the figures say less than they could.[/]"
        )
    if options.json_file is not None:
        about = {
            "version": __version__,
            "commands": options.commands,
            "records": len(seen.evidence.sent),
            "replicas": options.replicas,
            "seed": options.seed,
            "trouble": options.trouble,
            "longest_stall_seconds": seen.longest_stall,
        }
        options.json_file.write_bytes(summary.as_json(counted, report, about))
    if seen.gave_up:
        console.print(f"  [red]Nothing came out for {STALLED:g} s, so nobody waited any more.[/]")
    failed = {name: code for name, code in seen.exit_codes.items() if code != 0}
    for name, code in failed.items():
        console.print(f"  [red]{name} did not end cleanly: its exit code is {code}.[/]")
    held = report.clean and not failed
    if held:
        console.print("[bold green]Every promise held.[/]\n")
    else:
        console.print(
            f"[bold red]{sum(report.counts.values()) + len(failed):,} findings: a promise was broken.[/]\n"
        )
    return held


def _set(stage: DemoEnvironment, options: Options, raid: Scenario, console: Console) -> None:
    begin = time.monotonic()
    with _fetching(console) as fetched:
        stage.start_kafka(fetched)
    _told(
        console,
        "Apache Kafka" if not options.bootstrap_servers else "your Kafka",
        stage.bootstrap_servers,
        begin,
    )
    begin = time.monotonic()
    stage.start_simulator(
        "--latency", str(LATENCY), "--latency-jitter", str(LATENCY_JITTER),
        "--apply-point", "random", seed=options.seed,
    )  # fmt: skip
    stage.control("faults", {"bad_user_list": raid.bad_users})
    _told(console, "the local Tencent API", stage.api, begin)
    begin = time.monotonic()
    replicas = [stage.start_worker() for _ in range(options.replicas)]
    for replica in replicas:
        stage.wait_until_ready(replica)
    _told(
        console,
        f"{options.replicas} worker{'s' * (options.replicas > 1)}",
        ", ".join(stage.worker_addresses()),
        begin,
    )
    console.print()


@contextlib.contextmanager
def _fetching(console: Console) -> Iterator[Any]:
    # The bar appears with the first bytes: a second start fetches nothing.
    columns = (TextColumn("  fetching Apache Kafka, this once"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("", total=None, visible=False)
        yield lambda done, total: bars.update(task, completed=done, total=total, visible=True)


def _watched(stage: DemoEnvironment, options: Options, raid: Scenario, console: Console) -> Seen:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bars:
        commands = bars.add_task("commands sent", total=len(raid.records))
        outcomes = bars.add_task("outcomes read", total=wanted_outcomes(raid))

        def show(sent: int, ended: int, steps: Sequence[str]) -> None:
            bars.update(commands, completed=sent)
            bars.update(outcomes, completed=ended)
            for step in steps:
                console.print(f"  [yellow]trouble:[/] {step}", highlight=False)

        return carry_out(
            stage,
            raid,
            rate=len(raid.records) / RAID_SECONDS if options.trouble else None,
            troubles=Chaos(stage) if options.trouble else None,
            keep=options.keep,
            show=show,
        )


def _keep(stage: DemoEnvironment, console: Console) -> None:
    console.print("Everything keeps running until Ctrl-C:")
    rows = [
        ("Kafka", stage.bootstrap_servers),
        ("topics", ", ".join(stage.topics.names)),
        ("Tencent API", f"{stage.api}/__control/faults (also state, stats)"),
        *(
            (replica.name, address)
            for replica, address in zip(stage.replicas, stage.worker_addresses(), strict=True)
        ),
        ("logs and settings", str(stage.folder)),
    ]
    for name, where in rows:
        console.print(f"  {name:<18} {where}", highlight=False)
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(1)


def _told(console: Console, what: str, where: str, begin: float) -> None:
    console.print(
        f"  [green]✓[/] {what:<24} {where} [dim]({time.monotonic() - begin:.1f} s)[/]", highlight=False
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms"
