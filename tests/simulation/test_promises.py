# One history for each promise that has a figure: how many calls, how fast, how soon, how often.

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import pytest

from tests.simulation.history import History, Plan
from tests.simulation.loop import START
from tests.simulation.oracles import Verdicts
from tests.simulation.tencent import BAN, KICK, UNBAN, Weather, Window
from worker.domain.contract.outcomes import ResultStatus, Status

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("few_members_at_once")

ONE = Plan(0, partitions=1, replicas=1, commands=0, quota=200, lasts=0.0, most_records=500, holes=0.0)


def begun(plan: Plan) -> History:
    """A history without commands of its own, whose replicas are past their first three seconds."""
    history = History(replace(plan, commands=0))
    for _ in range(plan.replicas):
        history.join()
    history.clock.run(START + 5.0)
    return history


def ban(history: History, *users: str, room: str = "room", duration: int = 3600) -> None:
    number = len(history.commanded)
    history.command(
        {
            "command_id": f"c{number}",
            "action": "group.ban_group_member",
            "group_id": room,
            "user_ids": list(users),
            "duration": duration,
        }
    )


def unban(history: History, *users: str, room: str = "room") -> None:
    number = len(history.commanded)
    history.command(
        {
            "command_id": f"c{number}",
            "action": "group.unban_group_member",
            "group_id": room,
            "user_ids": list(users),
        }
    )


def update(history: History, user: str, room: str) -> None:
    """The one action whose calls carry one member each: many calls for few commands."""
    history.command(
        {
            "command_id": f"c{len(history.commanded)}",
            "action": "room.update_room_member_info",
            "room_id": room,
            "user_ids": [user],
            "member_info": {"role": "Member"},
        }
    )


def judged(history: History) -> Verdicts:
    """The history, played to its end, with nothing to be said against it."""
    history.finish()
    verdicts = Verdicts(history)
    complaints = verdicts.judge()
    assert not complaints, complaints[:5]
    return verdicts


@pytest.mark.parametrize("place", range(20))
@pytest.mark.parametrize("partial", ["none", "some", "good"])
def test_one_bad_member_of_twenty_costs_at_most_seven_calls_and_nobody_else_anything(
    place: int, partial: str
) -> None:
    """P6. (That a refused call may have applied a part costs nothing: it is all sent again.)"""
    users = [f"u{number}" for number in range(20)]
    history = begun(
        replace(ONE, seed=place, weather=Weather(bad_users=frozenset({users[place]}), partial=partial))
    )

    ban(history, *users)
    verdicts = judged(history)

    (outcome,) = verdicts.outcomes.values()
    assert len(history.tencent.requests) <= 7
    assert outcome.status is Status.PARTIALLY_SUCCEEDED
    for result in outcome.results:
        is_bad = result.user_id == users[place]
        assert result.status is (ResultStatus.FAILED if is_bad else ResultStatus.APPLIED)
        assert result.error_code == (10019 if is_bad else None)


def test_many_bad_members_in_many_batches_cost_little_more_than_each_needs() -> None:
    """Random bad members at 2 %: 6.6 members applied a call in theory, plain halving reaches 4.6."""
    chance = Random(1)
    users = [f"u{number}" for number in range(2000)]
    bad_users = frozenset(chance.sample(users, 40))
    history = begun(replace(ONE, quota=10, weather=Weather(bad_users=bad_users)))

    for user in users:
        ban(history, user)
    judged(history)

    assert 1960 / len(history.tencent.requests) > 6.2


def rate(history: History, rooms: set[str], begin: float, end: float) -> float:
    """Members applied a second in these rooms."""
    return sum(
        begin <= applied.at < end and applied.request.target in rooms for applied in history.tencent.diary
    ) / (end - begin)


def soon(history: History, at: float, number: int, what: Callable[..., None]) -> None:
    """Commands something of user ``number`` in one of ten rooms, then."""
    history.clock.at(at, lambda: what(history, f"{what.__name__}ned {number}", room=f"room {number % 10}"))


def loaded(weather: Weather) -> History:
    """Twenty rooms with more commands than the quota carries, for half a minute."""
    history = begun(replace(ONE, quota=40, weather=weather))
    for number in range(1_500):
        update(history, f"u{number}", f"room {number % 20}")
    history.clock.run(START + 28.0)
    return history


def test_a_hanging_room_does_not_slow_the_others() -> None:
    """P6: ten seconds without an answer, one room of twenty, all permits wanted."""
    hanging = [Window(START, START + 1e6, target="room 7")]
    others = {f"room {number}" for number in range(20)} - {"room 7"}

    well = rate(loaded(Weather()), others, START + 8.0, START + 28.0)
    ill = rate(loaded(Weather(hanging=hanging)), others, START + 8.0, START + 28.0)

    assert ill >= 0.95 * well


def test_an_outage_of_one_endpoint_fails_nothing_and_does_not_slow_another() -> None:
    """P7: 502s, then refused connections, then hangs, a minute in all."""
    weather = Weather(
        gateway=[Window(START + 10.0, START + 30.0, BAN)],
        refusing=[Window(START + 30.0, START + 50.0, BAN)],
        hanging=[Window(START + 50.0, START + 70.0, BAN)],
    )
    history = begun(replace(ONE, quota=40, weather=weather, commands=0))
    for number in range(800):
        at = START + 5.0 + number * 0.1
        soon(history, at, number, ban)
        soon(history, at, number, unban)
    history.clock.run(START + 86.0)

    unbanned = [
        each for each in history.tencent.diary if each.request.endpoint == UNBAN and each.at < START + 86.0
    ]
    assert len(unbanned) >= 0.95 * 800
    verdicts = judged(history)
    assert {outcome.status for outcome in verdicts.outcomes.values()} == {Status.SUCCEEDED}
    assert not history.kafka.partitions[0].dead_letters


@pytest.mark.parametrize("code", [70009, 60020, 70016, 60010])
def test_a_wrong_configuration_fails_nothing_and_work_resumes_soon_after_it_is_fixed(code: int) -> None:
    """P8."""
    fixed = START + 60.0
    history = begun(replace(ONE, quota=40, weather=Weather(fatal=[Window(START + 10.0, fixed, code=code)])))
    for number in range(400):
        soon(history, START + 5.0 + number * 0.1, number, ban)
    history.clock.run(START + 14.0)
    (halt,) = history.replicas[0].engine.halts
    assert halt.error_code == code
    assert halt.remedy
    refused = [each for each in history.tencent.requests if START + 11.0 < each.sent_at < fixed]
    assert len(refused) <= 12, "one probe a second at first, then every half minute"

    verdicts = judged(history)

    assert not history.replicas[0].engine.halts
    assert {outcome.status for outcome in verdicts.outcomes.values()} == {Status.SUCCEEDED}
    first = min(each.at for each in history.tencent.diary if each.at > fixed)
    assert first <= fixed + 35.0


def test_a_console_switch_that_is_off_halts_the_endpoint_and_leaves_the_others() -> None:
    """P8: 10007 for every room of one endpoint."""
    off = [Window(START + 10.0, START + 50.0, BAN)]
    history = begun(replace(ONE, quota=40, weather=Weather(forbidden=off)))
    for number in range(400):
        at = START + 5.0 + number * 0.1
        soon(history, at, number, ban)
        soon(history, at, number, unban)
    history.clock.run(START + 40.0)
    assert [halt.endpoint for halt in history.replicas[0].engine.halts] == [BAN]
    unbanned = [each for each in history.tencent.diary if each.request.endpoint == UNBAN]
    assert len(unbanned) >= 340

    verdicts = judged(history)

    assert {outcome.status for outcome in verdicts.outcomes.values()} == {Status.SUCCEEDED}
    first = min(
        each.at for each in history.tencent.diary if each.at > START + 50.0 and each.request.endpoint == BAN
    )
    assert first <= START + 85.0


def test_rooms_that_are_refused_by_their_own_fault_do_not_stop_the_others() -> None:
    """Two of them at once look like a wrong configuration, until the next call of another room succeeds."""
    own_fault = frozenset({"room 1", "room 2"})
    history = begun(replace(ONE, quota=40, weather=Weather(own_fault=own_fault)))
    for number in range(600):
        soon(history, START + 5.0 + number * 0.05, number, ban)
    history.clock.run(START + 36.0)
    applied = len(history.tencent.diary)

    assert applied >= 0.95 * 480
    verdicts = judged(history)
    statuses = Counter(outcome.status for outcome in verdicts.outcomes.values())
    assert statuses[Status.FAILED] == 120


def test_a_lower_true_limit_is_found_and_used() -> None:
    """120 of 200: within ten seconds fewer than 2 % of the requests are throttled, and at least 90 % of the limit is used."""
    limit = [(Window(START, START + 1e6), 120)]
    history = begun(replace(ONE, weather=Weather(limits=limit)))
    for number in range(1_700):
        update(history, f"u{number}", f"room {number % 20}")
    history.clock.run(START + 9.0)
    sent, throttled = len(history.tencent.requests), history.tencent.throttled
    history.clock.run(START + 17.0)
    sent, throttled = len(history.tencent.requests) - sent, history.tencent.throttled - throttled

    assert throttled < 0.02 * sent
    assert sent - throttled >= 0.9 * 120 * 8


@pytest.mark.parametrize("seed", range(30))
def test_a_clean_stop_repeats_nothing(seed: int) -> None:
    """P12: every call that was made is in the outcome of a command that it carried."""
    plan = Plan(seed, replicas=3, stops=3, moves=3, commands=200, weather=Weather(transient=0.05))
    history = History(plan).play()
    verdicts = Verdicts(history)
    assert not verdicts.judge()

    listed = {call.call_id for outcome in verdicts.outcomes.values() for call in outcome.calls}
    assert {request.call_id for request in history.tencent.requests} <= listed


@pytest.mark.parametrize("seed", range(10))
def test_a_stop_in_an_outage_waits_for_nothing(seed: int) -> None:
    """Under an open breaker or a halt a started command is given up at once, and the next owner carries it out."""
    weather = Weather(refusing=[Window(START + 6.0, START + 30.0)])
    history = begun(replace(ONE, seed=seed, partitions=4, weather=weather))
    for number in range(100):
        soon(history, START + 5.9 + number * 0.01, number, ban)
    history.clock.run(START + 9.0)
    (replica,) = history.replicas
    stopped_at: list[float] = []

    replica.stop(START + 100.0, lambda: stopped_at.append(history.clock.now))
    history.clock.run(START + 10.0)

    assert stopped_at
    assert stopped_at[0] < START + 9.5
    for number in history._holders:
        history._holders[number] = None
    verdicts = judged(history)
    assert {outcome.status for outcome in verdicts.outcomes.values()} == {Status.SUCCEEDED}


@pytest.mark.parametrize("block", range(10))
def test_a_ban_of_unknown_end_never_comes_after_the_unban_that_follows_it(block: int) -> None:
    """
    In 1,000 timings: the ban's answer is lost, it takes effect up to 2.9 s later or never, and the unban follows at some
    moment; in half of them the partition changes hands meanwhile, or the process is killed.
    """
    for seed in range(block * 100, block * 100 + 100):
        chance = Random(seed)
        lossy = Weather(hanging=[Window(START + 5.0, START + 5.5)] if seed % 2 else [], lost=0.5)
        plan = Plan(seed, partitions=1, replicas=2, commands=0, quota=20, weather=lossy, effect_window=0.0)
        history = begun(plan)
        owner = next(replica for replica in history.replicas if replica is history._holders[0])

        ban(history, "u")
        history.clock.after(chance.uniform(0.0, 12.0), lambda play=history: unban(play, "u"))  # type: ignore[misc]
        trouble = chance.choice(("none", "none", "move", "kill"))
        if trouble == "move":
            history.clock.after(chance.uniform(0.0, 16.0), history.move)
        elif trouble == "kill":
            history.clock.after(chance.uniform(0.0, 16.0), lambda play=history, old=owner: play.kill(old))  # type: ignore[misc]
        history.clock.run(history.clock.now + 17.0)
        judged(history)

        state = history.tencent.state["ban", "room", "u"]
        assert state.endpoint == UNBAN, seed


def test_an_event_is_never_taken_for_done_because_it_was_done_before() -> None:
    """A user who was kicked may have come back."""
    history = begun(ONE)
    kick = {"action": "room.kick_user_out", "room_id": "room", "user_ids": ["u"], "reason": "spam"}
    for number in range(3):
        history.command(kick | {"command_id": f"k{number}"})
        history.clock.run(history.clock.now + 3.0)

    judged(history)

    assert sum(request.endpoint == KICK for request in history.tencent.requests) == 3


@pytest.mark.parametrize(("rate", "seed"), [(10, 3), (100, 0), (500, 1), (4000, 3)])
def test_transient_codes_and_bad_users_by_chance_never_open_the_breaker(rate: int, seed: int) -> None:
    """
    1 % of transient codes and 2 % of bad users are an ordinary day: an opening stops the endpoint for nothing. (With each of
    these seeds two targets get a code in a row.)
    """
    chance = Random(seed)
    users = [f"u{number}" for number in range(2000)]
    weather = Weather(transient=0.01, bad_users=frozenset(users[:40]))
    history = begun(replace(ONE, seed=seed, weather=weather))

    for _ in range(4000):
        ban(
            history,
            chance.choice(users),
            room=f"room {chance.randrange(50)}",
            duration=chance.randrange(600, 9999),
        )
        history.clock.run(history.clock.now + 1 / rate)
    history.finish()

    (replica,) = history.replicas
    assert [notice.event for _, notice in replica.notices] == []
    assert (
        sum(endpoint.breaker_openings for endpoint in replica.engine.snapshot(history.clock.now).endpoints)
        == 0
    )
