# `moderation-worker kafka`: a real Kafka for trying out, in the foreground, with settings that fit it. Exit codes: 0 after
# Ctrl-C or SIGTERM, 1 it could not be started or ended by itself, 2 wrong options.
#
# The broker is worker/testing/kafka, which the image does not contain. The API that the settings name is
# `moderation-worker simulate`.

from __future__ import annotations

import secrets
import shlex
import socket
import sys
import tempfile
import time
from contextlib import ExitStack, nullcontext, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from worker.cli.shared import FAILED, AsJson, end_as_by_ctrl_c, kafka_options_in, print_json
from worker.errors import WorkerError
from worker.printable_text import is_utf8, plain

if TYPE_CHECKING:
    from worker.testing.kafka.embedded_kafka import EmbeddedKafka

USUAL_PORT: Final = 9092
PARTITIONS: Final = 6
WATCH_SECONDS: Final = 0.5
"""How often it is looked whether the broker still runs."""
KEY_BYTES: Final = 32
NOT_HERE: Final = """\
The embedded Kafka is not part of this installation: the image contains only what runs in production.
Run it in a clone of the repository: make venv, then .venv/bin/moderation-worker kafka
"""
SETTINGS: Final = """\
# For trying out: the Kafka of `moderation-worker kafka`, and the API of `moderation-worker simulate --port 8080`.
kafka:
  bootstrap_servers: ["{servers}"]
tencent:
  apps:
    main:
      sdk_app_id: 1400000000
      identifier: administrator
      secret_key_file: key                # beside this file
      base_url: http://127.0.0.1:8080
server:
  host: 127.0.0.1
"""
NEXT: Final = """\
Kafka answers at {servers}, with the topics {topics}.
Ctrl-C ends it and {end}.

Next, each in a terminal of its own:

{program} simulate --port 8080 --key-file {folder}/key
{program} run --config {folder}/worker.yaml
{program} send --config {folder}/worker.yaml --wait \\
  --action group.ban_group_member --group-id group-42 --user user-1 --duration 60
"""


def kafka(
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Keep data and settings here, for the next time. Without it they are temporary.",
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            metavar="PORT",
            min=1,
            max=65535,
            help="Where to listen on 127.0.0.1, if the folder is new.",
            show_default=f"{USUAL_PORT}, or a free one if that is taken",
        ),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """
    Run a real Kafka for trying out, until Ctrl-C, with the topics and settings that a worker needs.

    It prints its address and the commands that lead to a first outcome. Needs no Docker and no installed Java; the first start
    fetches 44 MB of Kafka, and later ones reuse them.

    \b
    Example:
    moderation-worker kafka --data try
    """  # noqa: D301 - the escape keeps the example from being wrapped
    if find_spec("worker.testing.kafka") is None:
        sys.stderr.write(NOT_HERE)
        raise typer.Exit(FAILED)
    _refuse_foreign(data)
    end_as_by_ctrl_c()
    try:
        if data is not None:
            _run(data, port, as_json=as_json, kept=True)
        else:
            with tempfile.TemporaryDirectory(prefix="moderation-worker-kafka-") as folder:
                _run(Path(folder), port, as_json=as_json, kept=False)
    except KeyboardInterrupt:
        if not as_json:
            print("\nKafka has ended")


def _run(folder: Path, port: int | None, *, as_json: bool, kept: bool) -> None:
    """Run the broker until an interrupt. Everything is ended in order whatever happens."""
    from rich.console import Console  # noqa: PLC0415 - --help need not load what follows

    from worker.testing.kafka.child_process import ProcessFailedError  # noqa: PLC0415
    from worker.testing.kafka.embedded_kafka import EmbeddedKafka  # noqa: PLC0415
    from worker.testing.kafka.jar_download_progress import fetching  # noqa: PLC0415
    from worker.testing.kafka.jars import FetchError  # noqa: PLC0415

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            shown = fetching(Console(stderr=True)) if sys.stderr.isatty() else nullcontext()
            with shown as progress:
                broker = EmbeddedKafka(folder=folder, port=port or _usual_port(), progress=progress)
                broker.start()
                stack.callback(broker.stop)
            topics = _prepare_folder(folder, broker.bootstrap_servers)
            _print_next_steps(folder, broker.bootstrap_servers, topics, as_json=as_json, kept=kept)
            _watch(broker)
    except BrokenPipeError:  # whoever read the output has gone: as of every command
        raise
    except (FetchError, ProcessFailedError, OSError) as error:
        reason = str(error)
        if isinstance(error, OSError) and error.filename is not None:
            why = (error.strerror or "").lower()
            reason = f"{plain(error.filename)} cannot be used: {why}"
            at, data = Path(error.filename).absolute(), folder.absolute()
            if kept and (at.is_relative_to(data) or data.is_relative_to(at)):  # it may be the jars' cache
                reason += ": give another --data"
        raise WorkerError(reason) from error


def _refuse_foreign(data: Path | None) -> None:
    """Refuse a name that Kafka cannot use, and a folder that holds something else: it would be mixed with a broker's files."""
    if data is None:
        return
    problem = _problem_of_name(data)
    if problem is None:
        try:
            problem = _problem_of_content(data)
        except OSError as error:
            problem = f"it cannot be used: {error.strerror}"
    if problem is not None:
        raise typer.BadParameter(f"{plain(data)}: {problem}", param_hint="--data")


def _problem_of_name(data: Path) -> str | None:
    if not is_utf8(str(data)):
        return "this is not UTF-8 text"
    if "," in str(data):
        return "Kafka would take what is before and after the comma for two folders: give one without"
    return None


def _problem_of_content(data: Path) -> str | None:
    if not data.exists():
        return None
    if not data.is_dir():
        return "it is no folder"
    if any(data.iterdir()) and not (data / "server.properties").exists():
        return "it holds something else: give a new or empty folder, or one that this command made"
    return None


def _usual_port() -> int | None:
    with socket.socket() as probe:
        # As Kafka does: a port that was just left is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            probe.bind(("127.0.0.1", USUAL_PORT))
            return USUAL_PORT
    return None


def _prepare_folder(folder: Path, servers: str) -> tuple[str, ...]:
    """Write settings and key where there are none, create the topics that are missing, and return the topics' names."""
    from worker.broker.topic_admin import create_missing  # noqa: PLC0415
    from worker.settings import load  # noqa: PLC0415

    config, key = folder / "worker.yaml", folder / "key"
    if not config.exists():
        config.write_text(SETTINGS.format(servers=servers), "utf-8")
    if not key.exists():
        key.touch(mode=0o600)
        key.write_text(secrets.token_hex(KEY_BYTES), "utf-8")
    settings = load(config, {})  # nothing of the environment: it may name another Kafka
    options = kafka_options_in(settings)
    create_missing(options, partitions=PARTITIONS, replication=1)
    names = (
        options.command_topic, options.outcome_topic, options.dead_letter_topic, options.control_topic, options.quota_topic,
    )  # fmt: skip
    return tuple(name for name in names if name is not None)


def _print_next_steps(
    folder: Path, servers: str, topics: tuple[str, ...], *, as_json: bool, kept: bool
) -> None:
    if as_json:
        settings = str(folder / "worker.yaml")
        print_json({
            "bootstrap_servers": servers, "settings": settings, "key_file": str(folder / "key"), "topics": topics,
        })  # fmt: skip
        return
    end = f"keeps its data in {folder}" if kept else "removes its data"
    named = f"{', '.join(topics[:-1])} and {topics[-1]}"
    print(
        NEXT.format(
            servers=servers, topics=named, end=end, program=_program(), folder=shlex.quote(str(folder))
        ),
        end="",
        flush=True,
    )


def _program() -> str:
    """Return this program as it was called, so that what is printed can be pasted."""
    called = Path(sys.argv[0])
    return shlex.quote(str(called)) if called.name == "moderation-worker" else "moderation-worker"


def _watch(broker: EmbeddedKafka) -> None:
    from worker.testing.kafka.child_process import ProcessFailedError  # noqa: PLC0415

    while broker.running:
        time.sleep(WATCH_SECONDS)
    raise ProcessFailedError(f"Kafka has ended by itself; its log is {broker.log}")
