# A configuration that Tencent refuses, under load and with the real process: halted within seconds, loud, nothing lost,
# and on by itself once it is fixed. One worker lives through all of it.

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from tests.process.environment import LATENCY, Scene
from tests.process.halting import KEY_BYTES, ROOMS, WRONGS, commands, play

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Cluster
    from tests.process.halting import Wrong

pytestmark = pytest.mark.kafka

QUICK = 4.0
"""The remedy comes while the worker still probes every second; with room for a busy machine."""


@pytest.fixture(scope="module")
def scene(kafka: Cluster) -> Iterator[Scene]:
    with Scene(kafka.bootstrap_servers, *LATENCY) as scene:
        worker = scene.stage.start_worker()
        scene.stage.wait_until_ready(worker)
        scene.send(commands(2 * ROOMS))
        scene.play_to_the_end()
        yield scene


@pytest.mark.parametrize("wrong", WRONGS, ids=str)
def test_it_halts_within_seconds_says_the_remedy_fails_nothing_and_resumes_by_itself(
    scene: Scene, wrong: Wrong
) -> None:
    story = play(scene, wrong)

    assert story.noticed < 3.0
    assert any(str(wrong.code) in one["reason"] or wrong.word in one["remedy"] for one in story.told)
    assert all(wrong.word in one["remedy"] for one in story.told), story.told
    assert story.loud_lines == len(story.told)
    assert story.refused <= story.refused_for + 1, "a halted app is probed once a second, and no more"
    assert story.resumed < QUICK
    assert story.statuses == {"succeeded": story.statuses.total()}
    assert story.letters == 0
    if wrong.goes_on:
        assert story.carried_on > 0


def test_a_key_that_is_rotated_under_load_fails_nothing_and_halts_nothing(scene: Scene) -> None:
    pid = scene.stage.replicas[0].pid
    halts = len(scene.events("app.halted"))
    old = scene.stage.key_file.read_text("utf-8")
    load = scene.send(commands(300), 100)

    for _ in range(2):
        new = secrets.token_hex(KEY_BYTES)
        scene.control("POST", "keys", {"keys": [new, old]})
        scene.stage.key_file.write_text(new, "utf-8")
        scene.play(0.5)
        scene.control("POST", "keys", {"keys": [new]})
        scene.play(0.75)
        assert scene.obstacles() == []
        old = new
    scene.play_to_the_end()

    assert {one.body.status for one in scene.outcomes_of(load)} == {"succeeded"}
    assert len(scene.events("app.halted")) == halts
    assert len(scene.events("signature.key_changed")) >= 3
    assert scene.stage.replicas[0].pid == pid
    assert scene.stage.replicas[0].running


def test_after_all_halts_every_command_was_carried_out_once_and_in_order(scene: Scene) -> None:
    report = scene.judged()

    assert report.clean, report.examples
    assert scene.reader.read.letters == []
