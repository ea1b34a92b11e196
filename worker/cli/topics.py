# `moderation-worker topics create`: creates the topics that are missing, and changes no other. Exit codes: 0 all exist and fit
# (with a note where --partitions asks for another number than there is), 1 Kafka cannot be reached or refuses, 2 something must
# be fixed.
#
# How topics are created and judged is not here (broker/topic_admin.py).

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from worker.cli.help_groups import OnceEach
from worker.cli.shared import AsJson, Config, describe_topics, kafka_options_in, print_json

if TYPE_CHECKING:
    from collections.abc import Collection

    from worker.broker.topic_admin import WorkerTopics

PARTITIONS: Final = 12
"""Enough for twelve replicas, more than a quota of 200 needs. Adding partitions later means stopping all replicas."""
BROKERS_CHOICE: Final = -1
"""Kafka's own word for the cluster's default replication factor."""

topics = typer.Typer(name="topics", help="Create the topics that the worker needs.", no_args_is_help=True)


@topics.callback()
def _topics() -> None:
    pass


@topics.command(cls=OnceEach)
def create(
    config: Config = None,
    partitions: Annotated[
        int | None,
        typer.Option(
            metavar="NUMBER",
            min=1,
            max=1000,
            help="Partitions of each created topic, and so the most replicas that can share the commands.",
            show_default=str(PARTITIONS),
        ),
    ] = None,
    replication_factor: Annotated[
        int | None,
        typer.Option(
            metavar="NUMBER",
            min=1,
            max=10,
            help="Copies of each partition.",
            show_default="the cluster's default",
        ),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """
    Create the command, outcome, dead-letter, control and quota topics that do not exist yet.

    \b
    Example:
    moderation-worker topics create --config worker.yaml --partitions 12
    """  # noqa: D301 - the escape keeps the example from being wrapped
    from worker.broker.topic_admin import create_missing, inspect  # noqa: PLC0415 - what is imported here --help need not load
    from worker.errors import SettingProblem, SettingsError  # noqa: PLC0415
    from worker.runtime.options_from_settings import misfits  # noqa: PLC0415
    from worker.settings import load  # noqa: PLC0415

    settings = load(config, os.environ)
    lowest_limit = min([settings.limits.calls_per_second, *settings.limits.per_endpoint.values()])
    wanted = PARTITIONS if partitions is None else partitions
    if wanted > lowest_limit:
        raise SettingsError(
            [
                SettingProblem(
                    "--partitions",
                    f"give at most {lowest_limit}, the lowest of the limits: each partition owns a slice of it",
                    wanted,
                )
            ]
        )
    options = kafka_options_in(settings)
    created = create_missing(options, partitions=wanted, replication=replication_factor or BROKERS_CHOICE)
    report = inspect(options)
    problems = misfits(settings, options, report)
    for name, description in describe_topics(report):
        if as_json:
            print_json({"topic": name, "created": name in created, "description": description})
        else:
            print(f"{'created' if name in created else 'exists'}: topic {name}, {description}")
    if partitions is not None and (note := _other_partitions(report, created, partitions)):
        print(note, file=sys.stderr)
    if problems:
        raise SettingsError(problems)


def _other_partitions(report: WorkerTopics, created: Collection[str], wanted: int) -> str | None:
    """Return what to do about topics that existed with another number of partitions than was asked for; None if none did."""
    unlike = {
        topic.name: topic.partitions
        for topic in (report.command, report.outcome, report.dead_letter)
        if topic is not None and topic.name not in created and topic.partitions != wanted
    }
    if not unlike:
        return None
    counts = ", ".join(f"{name} has {count}" for name, count in unlike.items())
    too_few = [name for name, count in unlike.items() if count < wanted]
    remedy = (
        f"For {wanted}, stop all replicas when no command waits, run kafka-topics --alter --partitions {wanted} for "
        f"{' and '.join(too_few)}, and start them again."
        if too_few
        else "Kafka cannot remove partitions: for fewer, name new topics in the settings."
    )
    return f"--partitions {wanted} changes no topic that exists, and {counts}. To keep that, leave the option out. {remedy}"
