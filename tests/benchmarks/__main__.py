# `make bench`: measures the parts, beside the baselines, and writes one JSON, one table and some plots.
#
#   make bench                               everything: about a quarter of an hour, on a machine that does nothing else
#   make bench BENCH="--only a,e --runs 1"   a look at two parts
#   make bench BENCH=--publish               everything, and then the page and the README's section
#
# Files go to build/bench; --publish alone writes files that git keeps. Ctrl-C ends everything that was started.

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import re
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import msgspec

from tests.benchmarks import table
from tests.benchmarks.parts import PARTS, Session, missing
from tests.benchmarks.results import Labels, Program, Results, read, rows_of, written
from worker import __version__
from worker.testing.kafka.embedded_kafka import EmbeddedKafka
from worker.testing.kafka.jars import LOCK

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.benchmarks.parts import Part
    from tests.benchmarks.results import Figure

ROOT: Final = Path(__file__).parents[2]
BUILD: Final = Path("build") / "bench"
PUBLISHED: Final = Path("config") / "benchmarks"
JSON: Final = "bench.json"
STOPPED: Final = 130
EXAMPLES: Final = """\
examples:
  make bench
  make bench BENCH="--only a,g --runs 1"
  make bench BENCH="--only f --urgent-behind 20000"
  make bench BENCH=--publish                           all parts, then the page, the plot and the README's section
  make bench BENCH="--publish --from build/bench/bench.json"   the same with figures that were measured before
"""


def main(words: Sequence[str] | None = None) -> int:
    """Return the exit code: 0, 1 if a promise broke, 2 for wrong options, 130 after Ctrl-C."""
    options = options_of(words)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        results = read(options.source.read_bytes()) if options.source else measured(options)
    except KeyboardInterrupt:
        print("\nstopped: nothing was written, and no process is left", file=sys.stderr)
        return STOPPED
    write(results, ROOT / BUILD)
    print(f"\n{table.machine(results.labels)}\n")
    print("\n".join([*table.table(rows := rows_of(results.figures)), *table.reasons(rows)]))
    print(f"\n{results.labels.seconds:.0f} s; {BUILD}/{JSON}, and plots beside it")
    if options.publish:
        publish(results, ROOT)
    for row in (found := table.broken(results)):
        print(f"BROKEN PROMISES {row}", file=sys.stderr)
    return int(bool(found))


def options_of(words: Sequence[str] | None) -> argparse.Namespace:
    """The options; ends the program with 2 if they are wrong."""
    letters = [part.letter for part in PARTS]
    listed = "\n".join(f"  {part.letter}  {part.title} (about {part.seconds} s)" for part in PARTS)
    parser = argparse.ArgumentParser(
        prog="make bench", formatter_class=argparse.RawDescriptionHelpFormatter,
        description=f"Measures the worker beside what one would write oneself. The parts:\n{listed}", epilog=EXAMPLES,
    )  # fmt: skip
    parser.add_argument("--only", metavar="a,g", help="these parts, by their letters")
    parser.add_argument(
        "--runs", type=_positive, default=3, help="of each throughput; the table has the median (3)"
    )
    parser.add_argument(
        "--urgent-behind", type=_positive, default=100_000, metavar="N", help="commands in part f (100000)"
    )
    parser.add_argument(
        "--publish", action="store_true", help="write config/benchmarks.md and README.md as well"
    )
    parser.add_argument(
        "--from", dest="source", type=Path, metavar="JSON", help="measure nothing: take this file"
    )
    options = parser.parse_args(words)
    options.parts = PARTS
    if options.only is not None:
        asked = [letter.strip() for letter in options.only.split(",")]
        if unknown := [letter for letter in asked if letter not in letters]:
            parser.error(
                f"--only: there is no part {', '.join(map(repr, unknown))}; the parts are {', '.join(letters)}"
            )
        options.parts = tuple(part for part in PARTS if part.letter in asked)
    if options.source is not None and not options.source.is_file():
        parser.error(f"--from: {options.source} is no file; make bench writes {BUILD / JSON}")
    if options.publish and options.only is not None:
        parser.error("--publish needs all parts: leave --only away, or take them with --from")
    return options


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("1 or more")
    return number


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def measured(options: argparse.Namespace) -> Results:
    """Measures the parts that are asked for."""
    begin, labels = time.monotonic(), labels_of(options.runs)
    parts: tuple[Part, ...] = options.parts
    print(
        f"about {sum(part.seconds for part in parts) / 60:.0f} minutes; {table.machine(labels)}", flush=True
    )
    if labels.load_average > 0.5:
        print("The machine is not idle: these figures are worth less.", flush=True)

    def say(text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - begin), 60)
        print(f"{minutes:3}:{seconds:02}  {text}", flush=True)

    figures: list[Figure] = []
    with contextlib.ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="moderation-worker-bench-")))
        kafka: Any = None
        if any(part.needs_kafka for part in parts):
            kafka = held.enter_context(EmbeddedKafka())
        session = Session(
            kafka.bootstrap_servers if kafka else "", folder, options.runs, options.urgent_behind, say
        )
        for part in parts:
            say(f"({part.letter}) {part.title}")
            figures += played(part, session)
    seconds = time.monotonic() - begin
    return Results(msgspec.structs.replace(labels, seconds=round(seconds)), tuple(figures))


def played(part: Part, session: Session) -> Iterator[Figure]:
    """The figures of a part. One that fails is said to be missing, and does not cost the others."""
    try:
        yield from part.play(session)
    except (Exception, SystemExit) as exc:  # noqa: BLE001 - whatever it is, the other parts are worth their minutes
        session.say(f"({part.letter}) FAILED: {exc}")
        yield missing(part.letter, part.title, "the rest", Program.WORKER, exc)


def labels_of(runs: int) -> Labels:
    """This machine, now."""
    cpu = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text("utf-8"))
    kilobytes = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text("utf-8"))
    memory = f"{int(kilobytes[1]) / 2**20:.0f} GiB" if kilobytes else "unknown memory"
    name = cpu[1] if cpu else platform.machine()
    kafka = re.search(r"org\.apache\.kafka:kafka_2\.13:(\S+)", LOCK.read_text("utf-8"))
    return Labels(
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
        machine=f"{os.cpu_count()} cores of {name}, {memory}, Linux {platform.release()}",
        python=platform.python_version(),
        kafka=kafka[1] if kafka else "unknown",
        version=__version__,
        load_average=os.getloadavg()[0],
        runs=runs,
    )


def write(results: Results, folder: Path) -> None:
    """Writes the JSON and the plots."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / JSON).write_bytes(written(results))
    for name, text in table.plots(results).items():
        (folder / name).write_text(text, "utf-8")


def publish(results: Results, root: Path) -> None:
    """Writes what git keeps: the figures, the plots, the page and the section of README."""
    write(results, root / PUBLISHED)
    (root / PUBLISHED.with_suffix(".md")).write_text(table.page(results), "utf-8")
    readme = root / "README.md"
    readme.write_text(table.with_section(readme.read_text("utf-8"), results), "utf-8")


if __name__ == "__main__":
    sys.exit(main())
