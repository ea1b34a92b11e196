# `moderation-worker simulate`: the local Tencent API as a process. Exit codes: 0 after SIGINT or SIGTERM, 1 if it cannot
# listen or write its log, 2 for wrong options.
#
# The flags of its faults are made from the simulator's own table, so none can be missing. What a fault does is not known here.

from __future__ import annotations

import asyncio
import errno
import gc
import inspect
import os
import signal
import socket
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
import uvloop

from worker.cli.filter_options import check_text
from worker.cli.shared import AsJson, print_json
from worker.errors import FileError, WorkerError
from worker.printable_text import is_utf8, plain
from worker.small_files import read_text
from worker.testing.simulator.endpoint_specs import U32_MAX
from worker.testing.simulator.fault_store import shuts_itself_out
from worker.testing.simulator.faults import ROWS, FaultSpec, FaultValues, FaultValueType, read
from worker.testing.simulator.reference_page import reference
from worker.testing.simulator.server import Simulator, SimulatorConfig
from worker.testing.simulator.signature import SimulatedApp

_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_CANNOT_LISTEN: Final = frozenset({errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES})

_FLAG_TYPES: Final[dict[FaultValueType, tuple[Any, str | None]]] = {
    FaultValueType.SHARE: (float, "SHARE"),
    FaultValueType.SECONDS: (float, "SECONDS"),
    FaultValueType.COUNT: (int, "NUMBER"),
    FaultValueType.SWITCH: (bool, None),
    FaultValueType.CHOICE: (str, "WORD"),
    FaultValueType.NAMES: (list[str], "ID"),
    FaultValueType.CODES: (list[int], "CODE"),
}
"""The type of each kind of flag, and what its value is called in the help."""


def simulate(
    *,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS", help="Where to listen. Its control API has no password: stay on the loopback."
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(metavar="PORT", min=0, max=65535, help="0 takes any free port; the address is printed."),
    ] = 0,
    sdk_app_id: Annotated[
        int, typer.Option(metavar="NUMBER", min=1, max=U32_MAX, help="The SDKAppID that it knows.")
    ] = 1400000000,
    identifier: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="An administrator of the app; may be repeated. [administrator]"),
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The file that holds the app's secret key.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            envvar="MODERATION_SIMULATOR_KEY",
            help="The app's secret key itself. A command line is visible to others: prefer the file or the variable.",
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(metavar="NUMBER", help="Seed of every choice: the same seed makes the same users bad."),
    ] = 0,
    log: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write one JSON line for each request; the file is overwritten."),
    ] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(
            metavar="JSON",
            help="Faults for one endpoint or target, as the control API takes them; may be repeated.",
        ),
    ] = None,
    show_reference: Annotated[
        bool,
        typer.Option("--reference", help="Print the reference page (endpoints, faults, control) and exit."),
    ] = False,
    as_json: AsJson = False,
    **faults: Any,
) -> None:
    """
    Run a local Tencent Chat REST API with its endpoints, state, signatures, the quota, and every fault on demand.

    Prints `listening on http://127.0.0.1:PORT`, and a short summary when SIGINT or SIGTERM ends it.

    \b
    moderation-worker simulate --port 8080 --key-file key.txt --latency 0.03
    moderation-worker simulate --key test --bad-users 0.02 --log calls.jsonl
    moderation-worker simulate --key test \\
      --rule '{"target": "room7", "outage": "hang"}'

    \b
    While it runs:
    curl -X PATCH localhost:8080/__control/faults \\
      -d '{"outage": "502", "for_seconds": 60}'
    curl 'localhost:8080/__control/state?target=room7'
    curl localhost:8080/__control/stats
    """  # noqa: D301 - the escape keeps the examples from being wrapped
    if show_reference:
        print(reference(), end="")
        return
    check_text("--host", host)
    for each in identifier or ():
        check_text("--identifier", each)
    config = SimulatorConfig(
        apps=(SimulatedApp(sdk_app_id, (_key(key, key_file),), tuple(identifier or ("administrator",))),),
        faults=_faults(faults),
        host=host,
        port=port,
        seed=seed,
        log=log,
        keep_lines=0,
    )
    rules = [_rule(text) for text in rule or []]
    if host not in _LOOPBACK:
        sys.stderr.write(
            f"warning: anybody who can reach {plain(host)} can change faults and read the state\n"
        )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(config, rules, as_json=as_json))


async def _serve(config: SimulatorConfig, rules: list[dict[str, Any]], *, as_json: bool) -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    try:
        simulator = Simulator(config)
        for rule in rules:
            simulator.faults.put(**rule)
        async with simulator:
            if as_json:
                print_json({"url": simulator.url})
            else:
                print(f"listening on {simulator.url}", flush=True)
            # A full collection over a large state stalls for many milliseconds and finds nothing: the state has no cycles, and a
            # connection breaks its own.
            gc.freeze()
            gc.set_threshold(10_000, 20, 1_000)
            await _until_either(stopped.wait(), simulator.broken())
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)  # a second signal ends it at once
            stats = simulator.stats
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    except BrokenPipeError:  # whoever read the output has gone: as of every command
        raise
    except OSError as error:
        reason, why = str(error), (error.strerror or "").lower()
        if error.errno in _CANNOT_LISTEN and error.filename is None:
            reason = f"port {config.port} of {plain(config.host)}: {os.strerror(error.errno).lower()}: give another --port"
        elif isinstance(error, socket.gaierror):
            reason = f"{plain(config.host)}: {why}: give an address of this machine as --host"
        elif error.filename is not None:
            reason = f"{plain(error.filename)} cannot be written: {why}: give another --log"
        raise WorkerError(reason) from error
    else:
        if as_json:
            print_json(stats)
        else:
            print(_summary(stats), flush=True)


async def _until_either(*waits: Coroutine[Any, Any, object]) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    done, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    for task in done:
        task.result()


def _summary(stats: dict[str, Any]) -> str:
    lines = []
    for endpoint, codes in stats["requests"].items():
        counts = ", ".join(f"{code}: {count}" for code, count in sorted(codes.items()))
        highest = max(
            (app["requests"] for app in stats["highest_second"].get(endpoint, {}).values()), default=0
        )
        applied = stats["members_applied"].get(endpoint, 0)
        lines.append(
            f"{endpoint}  {sum(codes.values())} requests ({counts}), {applied} members applied, {highest} in the highest second"
        )
    lines.append(f"longest stall {stats['longest_stall_seconds'] * 1000:.1f} ms")
    return "\n".join(lines)


def _key(key: str | None, key_file: Path | None) -> str:
    if (key is None) == (key_file is None):
        raise typer.BadParameter(
            "give the secret key by either --key-file or --key (or $MODERATION_SIMULATOR_KEY)"
        )
    if key_file is not None:
        from worker.secret_key import KEY_FILE_BYTES  # noqa: PLC0415 - --help need not load it

        try:
            key = read_text(key_file, KEY_FILE_BYTES).strip()  # as the worker reads it
        except FileError as error:
            raise typer.BadParameter(
                f"cannot read {plain(key_file)}: {error}", param_hint="--key-file"
            ) from error
    if not key:
        raise typer.BadParameter("the secret key is empty")
    if not is_utf8(key):
        raise typer.BadParameter("this is not UTF-8 text", param_hint="--key (or $MODERATION_SIMULATOR_KEY)")
    return key


def _faults(given: dict[str, Any]) -> FaultValues:
    values: dict[str, Any] = {}
    for name, value in given.items():
        if value is None:
            continue
        if ROWS[name].kind is FaultValueType.NAMES:
            for each in value:
                check_text(_flag(name), each)
        values[name], problem = read(name, value)
        if problem:
            raise typer.BadParameter(problem.remedy, param_hint=_flag(name))
    return FaultValues(**values)


def _rule(text: str) -> dict[str, Any]:
    try:
        rule = msgspec.json.decode(text)  # as the control API
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise typer.BadParameter(f"not JSON: {error}", param_hint="--rule") from error
    if not isinstance(rule, dict):
        raise typer.BadParameter("must be a JSON object", param_hint="--rule")
    problem = shuts_itself_out(rule)
    if problem:
        raise typer.BadParameter(str(problem), param_hint="--rule")
    return rule


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _parameter(row: FaultSpec) -> inspect.Parameter:
    kind, metavar = _FLAG_TYPES[row.kind]
    shown = {
        FaultValueType.NAMES: "may be repeated",
        FaultValueType.CODES: "may be repeated",
        FaultValueType.SWITCH: "off",
    }.get(row.kind, row.default)
    choices = f" One of {', '.join(row.choices)}." if row.choices else ""
    option = typer.Option(
        _flag(row.name), metavar=metavar, help=f"{row.meaning}{choices} [{shown}]", show_default=False
    )
    return inspect.Parameter(
        row.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def _with_faults(signature: inspect.Signature) -> inspect.Signature:
    fixed = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    return signature.replace(parameters=[*fixed, *map(_parameter, ROWS.values())])


# Typer reads a command's options from its signature.
simulate.__signature__ = _with_faults(inspect.signature(simulate, eval_str=True))  # type: ignore[attr-defined]
