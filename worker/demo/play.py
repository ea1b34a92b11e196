# The demo from its first line to its last: set the stage, let the raid run, wait for every outcome, judge, tell.
#
# What it plays on is stage.py, what it plays raid.py, who judges check.py. Here is the order of things and what is shown.

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
from worker.demo import summary
from worker.demo.check import Report, check
from worker.demo.evidence import Evidence
from worker.demo.figures import figures
from worker.demo.raid import Fate, plan
from worker.demo.simulator_log import read_log
from worker.demo.stage import PARTITIONS, Stage
from worker.demo.topics import Load, Reader
from worker.demo.trouble import RAID_SECONDS, Trouble

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rich.console import Console

    from worker.demo.raid import Raid

STALLED: Final = 60.0
"""So long may nothing at all come out, in seconds, before the demo gives up waiting."""
READ_DEADLINE: Final = 30.0
LOG_FLUSH: Final = 0.5
"""The simulator writes its log at least so often, in seconds (with room to spare)."""
LATENCY: Final = 0.03
LATENCY_JITTER: Final = 0.5


@dataclass(frozen=True, slots=True)
class Options:
    """
    What the user chose.
    """

    commands: int
    replicas: int
    seed: int
    trouble: bool
    bootstrap_servers: str | None = None
    keep: bool = False
    json_file: "Path | None" = None


@dataclass(frozen=True, slots=True)
class Seen:
    """
    What came of a run.
    """

    evidence: Evidence
    raw: tuple[bytes, ...]
    longest_stall: float


def play(options: Options, console: "Console") -> bool:
    """
    Plays the demo and tells whether every promise held.

    Raises FetchError when Kafka cannot be had, ProcessFailedError when something does not start, KafkaError.
    """
    console.print(
        f"\n[bold]moderation-worker[/] {__version__}: a raid of {options.commands:,} commands on fifty live rooms, "
        f"carried out on a real Apache Kafka and a local Tencent API.\n"
    )
    raid = plan(options.commands, options.seed)
    with Stage(options.bootstrap_servers) as stage:
        _set(stage, options, raid, console)
        seen = run(stage, options, raid, console)
        report = tell(seen, options, console)
        if options.keep:
            _keep(stage, console)
    return report.clean


def run(stage: Stage, options: Options, raid: "Raid", console: "Console") -> Seen:
    """
    Lets the raid run on a stage that is set, and gathers the evidence when every command has its outcome.
    """
    trouble = Trouble(stage) if options.trouble else None
    rate = len(raid.records) / RAID_SECONDS if options.trouble else None
    load = Load(stage.bootstrap_servers, stage.topics.commands, raid.records, rate)
    reader = Reader(stage.bootstrap_servers, stage.topics, PARTITIONS)
    with contextlib.closing(reader):
        _watch(load, reader, raid, trouble, console)
        stall = stage.control("stats")["longest_stall_seconds"]
        if options.keep:
            time.sleep(LOG_FLUSH)
        else:
            _stop(stage, console)
        reader.read_to_the_end(READ_DEADLINE)
    evidence = Evidence(
        stage.topics.commands,
        tuple(load.sent),
        tuple(reader.read.outcomes),
        tuple(reader.read.letters),
        read_log(stage.simulator_log),
        frozenset(raid.bad_users),
        tuple(trouble.breaks if trouble else ()),
    )
    return Seen(evidence, tuple(reader.read.raw), stall)


def tell(seen: Seen, options: Options, console: "Console") -> Report:
    """
    Judges what was seen, prints the summary, and writes the file that was asked for.
    """
    report = check(seen.evidence)
    counted = figures(seen.evidence)
    summary.show(console, counted, report, summary.choose_example(seen.evidence.outcomes, seen.raw))
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
    if report.clean:
        console.print("[bold green]Every promise held.[/]\n")
    else:
        console.print(f"[bold red]{sum(report.counts.values()):,} findings: a promise was broken.[/]\n")
    return report


def _set(stage: Stage, options: Options, raid: "Raid", console: "Console") -> None:
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
def _fetching(console: "Console") -> "Iterator[Any]":
    # The bar appears with the first bytes: a second start fetches nothing.
    columns = (TextColumn("  fetching Apache Kafka, this once"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("", total=None, visible=False)
        yield lambda done, total: bars.update(task, completed=done, total=total, visible=True)


def _watch(load: Load, reader: Reader, raid: "Raid", trouble: Trouble | None, console: "Console") -> None:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    wanted = sum(record.fate is not Fate.UNREADABLE for record in raid.records)
    with Progress(*columns, console=console) as bars:
        sent = bars.add_task("commands sent", total=len(raid.records))
        ended = bars.add_task("outcomes read", total=wanted)
        load.start()
        moved = time.monotonic()
        while not (load.done and len(reader.read.outcomes) >= wanted and (trouble is None or trouble.over)):
            before = len(load.sent)
            if reader.poll() or len(load.sent) > before:
                moved = time.monotonic()
            bars.update(sent, completed=len(load.sent))
            bars.update(ended, completed=len(reader.read.outcomes))
            for step in trouble.look(time.monotonic()) if trouble else ():
                console.print(f"  [yellow]trouble:[/] {step}", highlight=False)
            if time.monotonic() - moved > STALLED:
                console.print(f"  [red]nothing came out for {STALLED:g} s: judging what is there[/]")
                return


def _stop(stage: Stage, console: "Console") -> None:
    for name, code in stage.stop_workers():
        if code != 0:
            console.print(
                f"  [red]{name} ended with {code}[/] (its log ends:\n{_tail(stage, name)})", highlight=False
            )
    stage.stop_simulator()


def _tail(stage: Stage, name: str) -> str:
    return next(replica.tail() for replica in stage.replicas if replica.name == name)


def _keep(stage: Stage, console: "Console") -> None:
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


def _told(console: "Console", what: str, where: str, begin: float) -> None:
    console.print(
        f"  [green]✓[/] {what:<24} {where} [dim]({time.monotonic() - begin:.1f} s)[/]", highlight=False
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms"
