# The page of a real worker on a real Kafka: what it is given to show of commands that were just carried out.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.process.environment import Environment, command
from worker.testing.checker.contract import KICK

if TYPE_CHECKING:
    from tests.conftest import Cluster

pytestmark = pytest.mark.kafka

WITHIN = 30.0
BAD = "user-13"


def test_the_page_of_a_worker_shows_what_it_did_and_finds_a_user(kafka: Cluster) -> None:
    records = [
        command(KICK, f"room-{number % 3}", f"user-{number}", f"kick-{number}", reason="spam")
        for number in range(60)
    ]
    with Environment(kafka.bootstrap_servers) as environment:
        # Slow enough for a permit to be in use whenever the second's sample is taken.
        environment.fault(bad_user_list=[BAD], latency=1.0)
        shown = environment.stage.start_worker()
        environment.stage.wait_until_ready(shown)
        environment.send(records)
        environment.play_until(lambda: len(environment.outcomes) == len(records), WITHIN, "carried out")

        def asked(path: str) -> Any:
            status, body = environment.ask(path)
            assert status == 200
            return msgspec.json.decode(body)

        def used() -> int:
            return sum(max(each["past"]["used"]) for each in asked("/status.json")["endpoints"])

        def lags() -> set[int]:
            return {each["lag"] for each in asked("/status.json")["partitions"]}

        # The worker hears of its transaction a moment after readers may see it; quota and lags it samples once a second.
        environment.play_until(
            lambda: sum(each["total"] for each in asked("/status.json")["outcomes"]) == 60, WITHIN, "counted"
        )
        environment.play_until(lambda: used() > 0 and lags() == {0}, WITHIN, "sampled")
        status, html = environment.ask("/")
        assert status == 200
        assert html.startswith(b"<!doctype html>")
        now = asked("/status.json")
        (failure,) = now["failures"]
        (found,) = asked(f"/find.json?q={BAD}")["found"]
        (outcome,) = (each for each in environment.outcomes if each.body.status == "failed")
        environment.end()

    assert now["ready"] is True
    assert [(each["room"], each["undone"]) for each in now["failing"]] == [("room-1", 1)]
    assert failure["command_id"] == found["command_id"] == outcome.body.command_id == "kick-13"
    assert outcome.body.error is not None
    assert failure["code"] == outcome.body.error.code
    assert failure["request_id"] in outcome.body.request_ids
    assert found["results"][0]["user"] == BAD


def test_a_worker_without_a_page_says_what_else_there_is(kafka: Cluster) -> None:
    with Environment(kafka.bootstrap_servers) as environment:
        worker = environment.stage.start_worker({"server": {"page": False}})
        environment.stage.wait_until_ready(worker)

        assert environment.ask("/")[0] == 404
        assert b"/readyz" in environment.ask("/")[1]
        assert environment.ask("/status.json")[0] == 404
        assert environment.ask("/readyz")[0] == 200
