# Hundreds of histories, each from a seed: what goes wrong is drawn, what must hold is not.
#
# A failing history names its seed: `play(<plan>(seed))` plays it again.

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Final

import pytest

from tests.simulation.history import History, Plan
from tests.simulation.loop import START
from tests.simulation.oracles import Verdicts
from tests.simulation.tencent import BAN, UNBAN, Weather, Window

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("few_members_at_once")


def play(plan: Plan) -> History:
    """Play the history and judge it."""
    history = History(plan).play()
    complaints = Verdicts(history).judge()
    assert not complaints, f"seed {plan.seed}: " + "; ".join(complaints[:5])
    return history


def quiet(seed: int) -> Plan:
    return Plan(seed)


def bad_users(seed: int) -> Plan:
    chance = Random(seed)
    weather = Weather(
        transient=chance.choice((0.0, 0.05)),
        bad_users=frozenset(f"u{number}" for number in range(0, 30, chance.choice((5, 10, 15)))),
        absent=frozenset((f"t{chance.randrange(6)}", f"u{number}") for number in range(15)),
        no_such=frozenset({"t3"}),
        doubtful=frozenset({"t4"}),
        partial=chance.choice(("none", "some", "good")),
    )
    return Plan(seed, weather=weather, reasons_matter=False, many=0.3, kinds=(6, 2, 1, 3, 1))


def lost_answers(seed: int) -> Plan:
    return Plan(seed, weather=Weather(lost=0.1, transient=0.05), expiring=0.1)


def crashes(seed: int) -> Plan:
    return Plan(seed, replicas=3, kills=3, aborts=0.1, weather=Weather(lost=0.03), commands=120)


def returns(seed: int) -> Plan:
    """Static members that are killed and are back at once, while partitions move between them."""
    chance = Random(seed)
    return Plan(
        seed,
        replicas=chance.choice((1, 2, 3)),
        partitions=chance.choice((2, 6)),
        quota=12,
        commands=200,
        kinds=chance.choice(((0, 0, 0, 0, 1), (6, 3, 1, 1, 1))),
        targets=12,
        many=0.0,
        returns=4,
        kills=chance.choice((0, 1)),
        moves=4,
        stops=chance.choice((0, 1)),
        aborts=0.1,
        metadata_bytes=chance.choice((68, 4096, 4096)),
        weather=Weather(lost=0.03),
    )


def moves(seed: int) -> Plan:
    return Plan(
        seed, replicas=3, moves=6, joins=1, stops=2, aborts=0.1, weather=Weather(lost=0.05), max_gap=60
    )


def outages(seed: int) -> Plan:
    chance = Random(seed)
    weather = Weather()
    for windows in (weather.refusing, weather.gateway, weather.hanging):
        begin = START + chance.uniform(0.0, 12.0)
        endpoint = chance.choice((BAN, UNBAN, None))
        windows.append(Window(begin, begin + chance.uniform(0.5, 6.0), endpoint))
    return Plan(seed, weather=weather, moves=2, kills=chance.choice((0, 1)), max_gap=80)


def hanging_rooms(seed: int) -> Plan:
    weather = Weather(hanging=[Window(START + 3.0, START + 14.0, target="t1")], transient=0.03)
    return Plan(seed, weather=weather, max_gap=80, moves=1)


def halts(seed: int) -> Plan:
    chance = Random(seed)
    begin = START + chance.uniform(2.0, 10.0)
    window = Window(begin, begin + chance.uniform(0.5, 8.0), code=chance.choice((70009, 60020, 60009)))
    weather = Weather(own_fault=frozenset({"t2"}) if chance.random() < 0.5 else frozenset())
    (weather.fatal if chance.random() < 0.5 else weather.forbidden).append(window)
    return Plan(seed, weather=weather, moves=chance.choice((0, 2)))


def throttled(seed: int) -> Plan:
    weather = Weather(limits=[(Window(START + 2.0, START + 400.0), 10)], transient=0.02)
    return Plan(seed, weather=weather, commands=250, targets=12)


def tight(seed: int) -> Plan:
    chance = Random(seed)
    return Plan(
        seed,
        max_gap=chance.choice((1, 2, 5, 20)),
        memory=chance.choice((2_000, 20_000, 10_000_000)),
        metadata_bytes=chance.choice((4, 68, 4096)),
        max_unpublished=chance.choice((None, 3)),
        aborts=0.2,
        weather=Weather(transient=0.1),
        moves=2,
        kills=1,
    )


def strange_answers(seed: int) -> Plan:
    chance = Random(seed)
    weather = Weather(partial=chance.choice(("none", "some")))
    kinds = ((200, 70001), (200, 70050), (200, 60011), (404, None), (429, None), (500, None), (200, 20002))
    for status, code in chance.sample(kinds, 3):
        begin = START + chance.uniform(2.0, 14.0)
        lasts = chance.uniform(0.2, 2.0)
        after = chance.choice((None, 1.5))
        weather.strange.append(Window(begin, begin + lasts, code=code, status=status, retry_after=after))
    weather.strange.append(Window(START, START + 1e6, target="t4", code=12345))
    return Plan(
        seed,
        weather=weather,
        unsent=0.05,
        moves=1,
        window_from_send=chance.random() < 0.3,
        reasons_matter=False,
    )


def full_quota(seed: int) -> Plan:
    """Every permit is wanted at every moment, while partitions move and processes die."""
    return Plan(
        seed, replicas=3, partitions=6, quota=12, commands=300, kinds=(0, 0, 0, 0, 1), targets=24, users=100, hot=0.0,
        many=0.0, repeats=0.0, kills=3, moves=8, joins=1, lasts=12.0,
    )  # fmt: skip


def repeats(seed: int) -> Plan:
    """Detectors that repeat themselves for long, also after the time of their commands is over."""
    chance = Random(seed)
    weather = Weather(transient=0.1, bad_users=frozenset({"u3"}), hanging=[Window(START + 6.0, START + 8.0)])
    return Plan(
        seed,
        repeats=0.5,
        expiring=0.3,
        kills=chance.choice((0, 1)),
        moves=1,
        weather=weather,
        targets=3,
        users=8,
    )


def small_metadata(seed: int) -> Plan:
    """A broker that takes hardly any metadata, and a room that hangs: what is done above the gap cannot be committed."""
    chance = Random(seed)
    weather = Weather(
        hanging=[Window(START + 3.0, START + 14.0, target="t1")], transient=0.1, bad_users=frozenset({"u3"})
    )
    return Plan(
        seed,
        metadata_bytes=chance.choice((1, 64, 68)),
        max_unpublished=chance.choice((3, 10)),
        moves=1,
        weather=weather,
    )


def everything(seed: int) -> Plan:
    chance = Random(seed)
    weather = Weather(
        transient=0.03,
        lost=0.03,
        bad_users=frozenset({"u3", "u17"}),
        absent=frozenset({("t1", "u1")}),
        own_fault=frozenset({"t5"}),
        partial=chance.choice(("none", "some", "good")),
        hanging=[Window(START + 5.0, START + 9.0, target="t1")],
        gateway=[Window(START + 8.0, START + 10.0, BAN)],
        fatal=[Window(START + 11.0, START + 12.0)],
        limits=[(Window(START + 6.0, START + 12.0), 12)],
    )
    return Plan(
        seed, replicas=3, kills=1, moves=2, stops=1, aborts=0.1, expiring=0.05, weather=weather,
        reasons_matter=chance.random() < 0.5,
    )  # fmt: skip


PLANS: Final[dict[Callable[[int], Plan], int]] = {
    quiet: 20,
    bad_users: 30,
    lost_answers: 30,
    crashes: 30,
    returns: 30,
    moves: 30,
    outages: 30,
    hanging_rooms: 20,
    halts: 30,
    throttled: 10,
    tight: 30,
    strange_answers: 30,
    full_quota: 20,
    repeats: 20,
    small_metadata: 20,
    everything: 40,
}
"""Each kind of history, and how many of it the default run plays."""


@pytest.mark.parametrize(
    ("plan", "seed"), [(plan, seed) for plan, seeds in PLANS.items() for seed in range(seeds)]
)
def test_every_promise_holds_in_every_history(plan: Callable[[int], Plan], seed: int) -> None:
    play(plan(seed))
