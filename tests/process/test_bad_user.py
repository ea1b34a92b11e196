# One user in twenty does not exist, and the worker knows neither its place nor its id: what that costs, and who pays.
#
# Twenty commands of one user each wait for each room when the worker begins, so that they leave in one call.

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.process.environment import LATENCY, Environment, command
from worker.testing.checker.contract import BAN, ENDPOINTS, KICK, LIVE_UNBAN, UNBAN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Cluster
    from worker.testing.checker.evidence import LoggedRequest, PlannedRecord, PublishedOutcome

pytestmark = pytest.mark.kafka

USERS = 20
EVERY_PLACE = tuple(range(USERS))
SOME_PLACES = (0, 9, 19)
PLACES = {BAN: EVERY_PLACE, UNBAN: EVERY_PLACE, LIVE_UNBAN: SOME_PLACES, KICK: SOME_PLACES}
CODES = {BAN: 10019, UNBAN: 10019, LIVE_UNBAN: 70107, KICK: 70107}
MOST_CALLS = 7
ROOMS = [(action, place) for action, places in PLACES.items() for place in places]


def room(action: str, place: int) -> str:
    return f"{action.partition('.')[2]}-{place}"


def bad_user(action: str, place: int) -> str:
    return f"{room(action, place)}-user-{place}"


@pytest.fixture(scope="module")
def environment(kafka: Cluster) -> Iterator[Environment]:
    bad = frozenset(bad_user(action, place) for action, place in ROOMS)
    with Environment(kafka.bootstrap_servers, *LATENCY) as environment:
        environment.fault(bad_user_list=sorted(bad))
        # A refused call may have applied nothing, as the bans', or everything but the bad one, as the unbans'.
        environment.fault(refused_applies="all", endpoint=ENDPOINTS[UNBAN])
        load = environment.send([one for action, place in ROOMS for one in commands(action, place)])
        environment.play_until(lambda: load.done, 10.0, "produced")
        environment.stage.start_worker({"dedupe": {"effect_window_seconds": 0}})
        environment.play_to_the_end()
        report = environment.judged(bad)
        assert report.clean, report.examples
        yield environment


def commands(action: str, place: int) -> Iterator[PlannedRecord]:
    name = room(action, place)
    for number in range(USERS):
        yield command(
            action,
            name,
            f"{name}-user-{number}",
            f"{name}-{number}",
            duration=3600 if action == BAN else None,
            reason="raid" if action in {BAN, KICK} else None,
        )


def requests_to(environment: Environment, action: str, place: int) -> list[LoggedRequest]:
    return [one for one in environment.requests() if one.target == room(action, place)]


def outcome_of(environment: Environment, command_id: str) -> PublishedOutcome:
    (found,) = (one for one in environment.outcomes if one.body.command_id == command_id)
    return found


@pytest.mark.parametrize("action", PLACES)
def test_one_bad_user_of_twenty_costs_at_most_seven_calls_wherever_it_is(
    environment: Environment, action: str
) -> None:
    calls = {place: requests_to(environment, action, place) for place in PLACES[action]}

    assert all(len(requests[0].users) == USERS for requests in calls.values()), "they did not share a call"
    assert max(len(requests) for requests in calls.values()) <= MOST_CALLS
    assert all(requests[0].code == CODES[action] for requests in calls.values())


@pytest.mark.parametrize("action", PLACES)
def test_the_nineteen_others_are_applied(environment: Environment, action: str) -> None:
    for place in PLACES[action]:
        others = [number for number in range(USERS) if number != place]
        outcomes = [outcome_of(environment, f"{room(action, place)}-{number}").body for number in others]

        assert {one.status for one in outcomes} == {"succeeded"}
        applied = {user for request in requests_to(environment, action, place) for user in request.applied}
        assert applied == {f"{room(action, place)}-user-{number}" for number in others}


@pytest.mark.parametrize("action", PLACES)
def test_the_bad_ones_outcome_names_the_code_and_is_dead_lettered(
    environment: Environment, action: str
) -> None:
    for place in PLACES[action]:
        body = outcome_of(environment, f"{room(action, place)}-{place}").body
        (result,) = body.results

        assert (body.status, result.user_id) == ("failed", bad_user(action, place))
        assert result.error_code == CODES[action]
        assert body.error is not None
        assert str(CODES[action]) in f"{body.error.code} {body.error.message}"
        letters = [one for one in environment.reader.read.letters if one.outcome_id == body.outcome_id]
        assert len(letters) == 1


def test_nobody_else_is_dead_lettered(environment: Environment) -> None:
    assert len(environment.reader.read.letters) == len(ROOMS)
