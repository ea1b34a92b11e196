# The demo from its first line to its last: start everything, run the raid, wait for every outcome, judge, report.
#
# environment.py starts the parts, scenario.py plans the load, the checker judges. Here are the order of things and what is
# shown on the console.

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from worker import __version__
from worker.testing.checker.evidence_check import check
from worker.testing.checker.run_figures import figures
from worker.testing.demo import summary
from worker.testing.demo.chaos import RAID_SECONDS, Chaos
from worker.testing.demo.environment import DemoEnvironment
from worker.testing.demo.raid_run import STALLED, carry_out, wanted_outcomes
from worker.testing.demo.scenario import plan
from worker.testing.kafka.jar_download_progress import fetching

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from worker.testing.demo.raid_run import FinishedRaid
    from worker.testing.demo.scenario import Scenario

LATENCY: Final = 0.03
LATENCY_JITTER: Final = 0.5
WAITED_FOR: Final = {
    True: "mostly the outage's end and the quota",
    False: "mostly the quota: they were all sent at once",
}
"""What dominates the time from a command to its outcome, with and without trouble. A lone command takes one call."""


HINT: Final = """\
Look at it yourself: this leaves everything running, and prints the address of each worker's page and a question to ask.

  make demo DEMO="--keep --no-trouble"
"""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """The options of the command line."""

    commands: int
    replicas: int
    seed: int
    trouble: bool
    bootstrap_servers: str | None = None
    keep: bool = False
    json_file: Path | None = None


def play(options: DemoOptions, console: Console) -> bool:
    """
    Play the demo and return whether every promise held.

    Raises FetchError if Kafka is not available, ProcessFailedError if something does not start, and KafkaError.
    """
    trouble = ", while endpoints fail and a worker is killed" if options.trouble else ""
    console.print(
        f"\n[bold]moderation-worker[/] {__version__}: a raid of {options.commands:,} commands on fifty live rooms, "
        f"carried out on a real Apache Kafka and a local Tencent API{trouble}.\n"
    )
    scenario = plan(options.commands, options.seed)
    with DemoEnvironment(options.bootstrap_servers) as environment:
        _start_all(environment, options, scenario, console)
        result = _run_with_progress(environment, options, scenario, console)
        held = conclude(result, options, console)
        if options.keep:
            _keep(environment, console)
        else:
            console.print(HINT, highlight=False)
    return held


def conclude(result: FinishedRaid, options: DemoOptions, console: Console) -> bool:
    """
    Judge the raid, print its summary and write the JSON file if one was asked for.

    Return whether every promise held, and the file could be written.
    """
    report = check(result.evidence)
    counted = figures(result.evidence)
    example = summary.choose_example(result.evidence.outcomes, result.raw)
    summary.show(console, counted, report, example, WAITED_FOR[options.trouble])
    if result.longest_stall > summary.STALL:
        console.print(
            f"  [yellow]The simulator itself stalled for {_ms(result.longest_stall)}: this machine is busy, "
            "so the figures are less reliable.[/]"
        )
    is_written = True
    if options.json_file is not None:
        about = {
            "version": __version__,
            "commands": options.commands,
            "records": len(result.evidence.sent),
            "replicas": options.replicas,
            "seed": options.seed,
            "trouble": options.trouble,
            "longest_stall_seconds": result.longest_stall,
        }
        try:
            options.json_file.write_bytes(summary.as_json(counted, report, about))
        except OSError as error:
            is_written = False
            problem = f"--json {options.json_file} was not written: {error.strerror}"
            console.print(f"  [red]{escape(problem)}[/]", highlight=False)
    if result.gave_up:
        console.print(f"  [red]Gave up: nothing came out for {STALLED:g} s.[/]")
    failed = {name: code for name, code in result.exit_codes.items() if code != 0}
    for name, code in failed.items():
        console.print(f"  [red]{name} did not end cleanly: its exit code is {code}.[/]")
    findings = sum(report.counts.values()) + len(failed)
    if findings:
        console.print(f"[bold red]{findings:,} findings: a promise was broken.[/]\n")
    elif result.gave_up:
        console.print("[bold red]The run did not come to its end, so it shows nothing.[/]\n")
    else:
        console.print("[bold green]Every promise held.[/]\n")
    return is_written and not findings and not result.gave_up


def _start_all(
    environment: DemoEnvironment, options: DemoOptions, scenario: Scenario, console: Console
) -> None:
    begin = time.monotonic()
    with fetching(console) as fetched:
        environment.start_kafka(fetched)
    _announce(
        console,
        "Apache Kafka" if not options.bootstrap_servers else "your Kafka",
        environment.bootstrap_servers,
        begin,
    )
    begin = time.monotonic()
    environment.start_simulator(
        "--latency", str(LATENCY), "--latency-jitter", str(LATENCY_JITTER),
        "--apply-point", "random", seed=options.seed,
    )  # fmt: skip
    environment.control("faults", {"bad_user_list": scenario.bad_users})
    _announce(console, "the local Tencent API", environment.api, begin)
    begin = time.monotonic()
    replicas = [environment.start_worker() for _ in range(options.replicas)]
    for replica in replicas:
        environment.wait_until_ready(replica)
    _announce(
        console,
        f"{options.replicas} worker{'s' * (options.replicas > 1)}",
        ", ".join(environment.worker_addresses()),
        begin,
    )
    console.print()


def _run_with_progress(
    environment: DemoEnvironment, options: DemoOptions, scenario: Scenario, console: Console
) -> FinishedRaid:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bars:
        commands = bars.add_task("commands sent", total=len(scenario.records))
        outcomes = bars.add_task("outcomes read", total=wanted_outcomes(scenario))

        def show(sent: int, ended: int, steps: Sequence[str]) -> None:
            bars.update(commands, completed=sent)
            bars.update(outcomes, completed=ended)
            for step in steps:
                console.print(f"  [yellow]trouble:[/] {step}", highlight=False)

        return carry_out(
            environment,
            scenario,
            rate=len(scenario.records) / RAID_SECONDS if options.trouble else None,
            chaos=Chaos(environment) if options.trouble else None,
            keep=options.keep,
            show=show,
        )


def _keep(environment: DemoEnvironment, console: Console) -> None:
    console.print("Everything keeps running until Ctrl-C:")
    rows = [
        ("Kafka", environment.bootstrap_servers),
        ("topics", ", ".join(environment.topics.names)),
        ("Tencent API", f"{environment.api}/__control/faults (also state, stats)"),
        *(
            (f"{replica.name}, page", f"{address}/")
            for replica, address in zip(environment.replicas, environment.worker_addresses(), strict=True)
        ),
        ("logs and settings", str(environment.folder)),
    ]
    for name, where in rows:
        console.print(f"  {name:<18} {where}", highlight=False, markup=False, soft_wrap=True)
    console.print("\nOpen a page, and ask:\n")
    console.print(f"  {_question(environment)}\n", highlight=False, markup=False, soft_wrap=True)
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(1)


def _question(environment: DemoEnvironment) -> str:
    """Return a command line that can be pasted while everything runs."""
    program = Path(sys.executable).with_name("moderation-worker")
    config = environment.folder / "worker-1.yaml"
    return (
        f"{shlex.quote(str(program))} outcomes --config {shlex.quote(str(config))} --status failed --limit 3"
    )


def _announce(console: Console, what: str, where: str, begin: float) -> None:
    console.print(
        f"  [green]✓[/] {what:<24} {where} [dim]({time.monotonic() - begin:.1f} s)[/]", highlight=False
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms"
