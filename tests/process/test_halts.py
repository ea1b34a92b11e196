# A configuration that Tencent refuses, under load and with the real process: halted within seconds, loud, nothing lost,
# and on by itself once it is fixed. One worker lives through all of it.

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from tests.process.environment import LATENCY, Environment
from tests.process.halting import KEY_BYTES, ROOMS, WRONGS, commands, play

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Cluster
    from tests.process.halting import Wrong

pytestmark = pytest.mark.kafka

QUICK = 4.0
"""The remedy comes while the worker still probes every second; with room for a busy machine."""


@pytest.fixture(scope="module")
def environment(kafka: Cluster) -> Iterator[Environment]:
    with Environment(kafka.bootstrap_servers, *LATENCY) as environment:
        worker = environment.stage.start_worker()
        environment.stage.wait_until_ready(worker)
        environment.send(commands(2 * ROOMS))
        environment.play_to_the_end()
        yield environment


@pytest.mark.parametrize("wrong", WRONGS, ids=str)
def test_it_halts_within_seconds_says_the_remedy_fails_nothing_and_resumes_by_itself(
    environment: Environment, wrong: Wrong
) -> None:
    run = play(environment, wrong)

    assert run.noticed < 3.0
    assert any(str(wrong.code) in one["reason"] or wrong.word in one["remedy"] for one in run.reported)
    assert all(wrong.word in one["remedy"] for one in run.reported), run.reported
    assert run.loud_lines == len(run.reported)
    assert run.refused <= run.refused_for + 1, "a halted app is probed once a second, and no more"
    assert run.resumed < QUICK
    assert run.statuses == {"succeeded": run.statuses.total()}
    assert run.letters == 0
    if wrong.goes_on:
        assert run.carried_on > 0


def test_a_key_that_is_rotated_under_load_fails_nothing_and_halts_nothing(environment: Environment) -> None:
    pid = environment.stage.replicas[0].pid
    halts = len(environment.events("app.halted"))
    old = environment.stage.key_file.read_text("utf-8")
    load = environment.send(commands(300), 100)

    for _ in range(2):
        new = secrets.token_hex(KEY_BYTES)
        environment.control("POST", "keys", {"keys": [new, old]})
        environment.stage.key_file.write_text(new, "utf-8")
        environment.play(0.5)
        environment.control("POST", "keys", {"keys": [new]})
        environment.play(0.75)
        assert environment.obstacles() == []
        old = new
    environment.play_to_the_end()

    assert {one.body.status for one in environment.outcomes_of(load)} == {"succeeded"}
    assert len(environment.events("app.halted")) == halts
    assert len(environment.events("signature.key_changed")) >= 3
    assert environment.stage.replicas[0].pid == pid
    assert environment.stage.replicas[0].running


def test_after_all_halts_every_command_was_carried_out_once_and_in_order(environment: Environment) -> None:
    report = environment.judged()

    assert report.clean, report.examples
    assert environment.reader.read.letters == []
