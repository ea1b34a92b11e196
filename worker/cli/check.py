# `moderation-worker check`: would the worker start? Exit codes: 0 yes, 1 Kafka cannot be reached, 2 something must be fixed.
#
# It only reads: no group is joined, and no topic is created. A call goes to Tencent only with --tencent, and changes nothing.

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.shared import (
    FAILED,
    WRONG,
    AsJson,
    Config,
    console,
    describe_topics,
    kafka_options_in,
    print_json,
    quiet_libraries,
    terminal_width,
)
from worker.cli.text_wrapping import in_columns
from worker.printable_text import plain
from worker.redaction import without_keys

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.broker.options import KafkaOptions
    from worker.broker.topic_admin import WorkerTopics
    from worker.settings import Settings


@dataclass(frozen=True, slots=True)
class PreflightResult:
    """
    One thing that was checked.

    Attributes:
        exit_code: The exit code that it demands; 0 if all is well.
        saw: What there is, or how to fix it.

    """

    what: str
    exit_code: int
    saw: str


def check(
    config: Config = None,
    *,
    tencent: Annotated[
        bool,
        typer.Option(
            "--tencent", help="Make one call per app as well, which changes nothing, and explain it."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """
    Check settings, keys, Kafka and topics, and show what is there.

    Example:  moderation-worker check --config worker.yaml
    """
    from worker.settings import load  # noqa: PLC0415 - what is imported here --help need not load

    settings = load(config, os.environ)
    findings = [
        PreflightResult("settings", 0, "complete, and without contradictions"),
        *_keys(settings),
        *(_trials(settings) if tencent else ()),
        *_cluster(settings),
    ]
    if as_json:
        for finding in findings:
            print_json(
                {
                    "ok": finding.exit_code == 0,
                    "what": without_keys(finding.what),
                    "saw": without_keys(finding.saw),
                }
            )
    else:
        _print(findings)
    raise typer.Exit(max(finding.exit_code for finding in findings))


def _keys(settings: Settings) -> Iterator[PreflightResult]:
    from worker.errors import SignatureError  # noqa: PLC0415
    from worker.runtime.options_from_settings import apps_of  # noqa: PLC0415 - loads Kafka
    from worker.tencent.usersig import UserSigSigner  # noqa: PLC0415

    for app in apps_of(settings):
        what = f"app {app.name}"
        try:
            UserSigSigner(app).signature()
        except SignatureError as error:
            yield PreflightResult(what, WRONG, str(error))
        else:
            yield PreflightResult(
                what, 0, f"signs as {app.identifier} of {app.sdk_app_id}, for {app.base_url}"
            )


def _trials(settings: Settings) -> Iterator[PreflightResult]:
    """Make a call for each app that can sign; ``_keys`` reports the others."""
    import asyncio  # noqa: PLC0415

    from worker.errors import SignatureError  # noqa: PLC0415
    from worker.runtime.options_from_settings import apps_of, http_options  # noqa: PLC0415
    from worker.tencent.trial_call import try_apps  # noqa: PLC0415
    from worker.tencent.usersig import UserSigSigner  # noqa: PLC0415

    apps = []
    for app in apps_of(settings):
        with suppress(SignatureError):
            UserSigSigner(app).signature()
            apps.append(app)
    quiet_libraries(settings)
    for trial in asyncio.run(try_apps(apps, http_options(settings))):
        exit_code = 0 if trial.passed else FAILED if trial.is_transient else WRONG
        yield PreflightResult(f"tencent, app {trial.app}", exit_code, trial.explanation)


def _cluster(settings: Settings) -> Iterator[PreflightResult]:
    from worker.broker.topic_admin import inspect  # noqa: PLC0415
    from worker.errors import BrokerError  # noqa: PLC0415
    from worker.runtime.options_from_settings import misfits  # noqa: PLC0415

    options = kafka_options_in(settings)
    try:
        report = inspect(options)
    except BrokerError as error:
        yield PreflightResult("kafka", FAILED, str(error))
        return
    yield PreflightResult("kafka", 0, f"answers at {options.bootstrap_servers}")
    for name, description in describe_topics(report):
        yield PreflightResult(f"topic {name}", 0, description)
    yield from _control(options, report)
    if options.quota_topic is not None and report.quota is None:
        missing = "does not exist, or is hidden from this user: each replica uses the slices of its own partitions alone"
        yield PreflightResult(f"topic {options.quota_topic}", 0, missing)
    for problem in misfits(settings, options, report):
        value = "" if problem.value is None else f" = {problem.value}"
        yield PreflightResult(f"{problem.name}{value}", WRONG, problem.remedy)


def _control(options: KafkaOptions, report: WorkerTopics) -> Iterator[PreflightResult]:
    from worker.broker.topic_admin import CREATE  # noqa: PLC0415

    name = options.control_topic
    if name is None:
        yield PreflightResult("control", 0, "kafka.control_topic is null: nobody can stop commands")
    elif report.control_denied:
        remedy = "Kafka refuses this user the topic: allow it Describe and Read, or set kafka.control_topic to null"
        yield PreflightResult(f"topic {name}", WRONG, remedy)
    elif report.control is None:
        missing = f"does not exist, so nobody can stop commands: {CREATE} creates it"
        yield PreflightResult(f"topic {name}", 0, missing)


def _print(findings: list[PreflightResult]) -> None:
    from rich.text import Text  # noqa: PLC0415

    marks = ["ok " if finding.exit_code == 0 else "fix" for finding in findings]
    rows = [
        (mark, _shown(finding.what), _shown(finding.saw))
        for mark, finding in zip(marks, findings, strict=True)
    ]
    for mark, line in zip(marks, in_columns(rows, terminal_width()), strict=True):
        text = Text(line)
        text.stylize("green" if mark == "ok " else "red", 0, len(mark))
        console().print(text)


def _shown(text: str) -> str:
    """Return text of a broker or a setting as a terminal may show it."""
    return plain(without_keys(text))
