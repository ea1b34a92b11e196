# The engine against everything that may happen to it, in any order that may be: the promises are the invariants.
#
# Hypothesis plays, and shrinks what it finds to the shortest history. The default profile always plays the same histories,
# in seconds; TEST_PROPERTY_PROFILE=thorough plays new ones for minutes.

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.property import settling
from tests.property.answers import ANSWERS, DONE, REFUSALS
from tests.property.environment import GRAIN, CallPhase, EngineEnvironment
from tests.property.topic import NAME
from worker.domain.contract.control_records import OrderState, Scope
from worker.domain.contract.error_codes import Verdict
from worker.domain.contract.outcomes import Worker
from worker.domain.contract.timestamps import rfc3339
from worker.domain.effects import AttemptResult
from worker.domain.engine_settings import EngineSettings

if TYPE_CHECKING:
    from tests.property.answers import Answer
    from tests.property.environment import OpenCall

pytestmark = pytest.mark.usefixtures("few_members_at_once")

PARTITIONS: Final = 2
TARGETS: Final = ("a", "b", "c", "d", "e")
"""The target's place in this row, modulo the number of partitions, is its partition."""
FEW_USERS: Final = st.sampled_from([["u1"], ["u2"], ["u1", "u2"], ["u2", "u3", "u1"]])
CROWD: Final = [f"u{number}" for number in range(1, 26)]
SCOPES: Final = (
    Scope(),
    Scope(app="main"),
    Scope(issuer="i0"),
    Scope(issuer="i0"),
    Scope(issuer="i1"),
    Scope(target="a"),
    Scope(action="group.ban_group_member", issuer="i1"),
)
GARBAGE: Final = (b"{", None, b'{"command_id": "bad", "action": "group.ban_group_member"}')
PICK: Final = st.integers(0, 7)
SECONDS: Final = st.sampled_from([0.0, GRAIN, 0.0625, 0.25, 1.0, 3.0, 6.0, 31.0, 61.0, 700.0])


class Play(RuleBasedStateMachine):
    """One engine after another, on one topic."""

    environment: EngineEnvironment

    @initialize(
        quota=st.sampled_from([2, 5, 40]),
        max_gap=st.sampled_from([20_000, 6, 2]),
        memory=st.sampled_from([1 << 28, 9_000, 1_500]),
        reasons_matter=st.booleans(),
        supersede=st.booleans(),
        max_attempts=st.sampled_from([8, 1, 2]),
        give_up_after=st.sampled_from([600.0, None, 5.0]),
        effect_window=st.sampled_from([60.0, 0.0]),
        restore_records=st.sampled_from([5000, 2]),
        window_from_send=st.booleans(),
        metadata_bytes=st.sampled_from([4096, 68, 4]),
        max_unpublished=st.sampled_from([5000, 2]),
        all_assigned=st.booleans(),
    )
    def begun(
        self,
        metadata_bytes: int,
        max_unpublished: int,
        memory: int,
        quota: int,
        all_assigned: bool,
        **chosen: Any,
    ) -> None:
        settings = EngineSettings(
            topic=NAME,
            partitions=PARTITIONS,
            apps={"main": "administrator", "second": "root"},
            default_app="main",
            worker=Worker("worker", "1"),
            default_calls_per_second=quota,
            window=1.0625 if chosen["window_from_send"] else 1.0,
            dedupe_window=3600.0,
            **chosen,
        )
        self.environment = EngineEnvironment(settings, metadata_bytes, max_unpublished, memory)
        for number in range(PARTITIONS if all_assigned else 1):
            self.environment.assign(number)
        self.environment.pass_time(3.0)
        self.environment.tick()

    # Commands

    @rule(
        shapes=st.lists(
            st.tuples(st.sampled_from(settling.SHAPES), st.sampled_from(TARGETS), FEW_USERS),
            min_size=1,
            max_size=6,
        ),
        skip=st.sampled_from([0, 0, 0, 1, 5]),
        urgent=st.sets(st.integers(0, 5), max_size=3),
        misplaced=st.sets(st.integers(0, 5), max_size=2),
    )
    def commanded(
        self,
        shapes: list[tuple[dict[str, Any], str, list[str]]],
        skip: int,
        urgent: set[int],
        misplaced: set[int],
    ) -> None:
        for place, (shape, target, users) in enumerate(shapes):
            fields = {**shape, "priority": "urgent"} if place in urgent else shape
            self._command(fields, target, users, skip=skip, off=place in misplaced)
        self._fetch_all()

    @rule(
        shape=st.sampled_from(settling.SHAPES),
        room=st.sampled_from(TARGETS),
        size=st.sampled_from([25, 20, 7, 3]),
    )
    def crowd_commanded(self, shape: dict[str, Any], room: str, size: int) -> None:
        self._command(shape, room, CROWD[:size])
        self._fetch_all()

    @rule(
        shape=st.sampled_from(settling.SHAPES),
        room=st.sampled_from(TARGETS),
        users=FEW_USERS,
        ends_in=st.sampled_from([-1, 1, 4, 30, 5000]),
        of_ban=st.booleans(),
        app=st.sampled_from(["main", "second"]),
    )
    def expiring_commanded(
        self, shape: dict[str, Any], room: str, users: list[str], ends_in: int, of_ban: bool, app: str
    ) -> None:
        until = rfc3339(float(int(self.environment.wall)) + ends_in)
        if of_ban and "duration" in shape:
            fields = {**shape, "banned_until": until, "app": app}
            del fields["duration"]
        else:
            fields = {**shape, "not_after": until, "app": app}
        self._command(fields, room, users)
        self._fetch_all()

    @rule(pick=PICK, change=st.sampled_from([{}, {}, {}, {"user_ids": ["u9"]}, {"metadata": {"a": 1}}]))
    def repeated(self, pick: int, change: dict[str, Any]) -> None:
        records = [each for one in self.environment.topic.partitions for each in one.records if each.fields]
        if records:
            record = records[-1 - pick % len(records)]
            assert record.fields is not None
            self.environment.append(record.partition, record.key, {**record.fields, **change}, 0)
            self._fetch_all()

    @rule(
        value=st.sampled_from(GARBAGE),
        number=st.integers(0, PARTITIONS - 1),
        key=st.sampled_from([None, b"k"]),
    )
    def garbage_came(self, value: bytes | None, number: int, key: bytes | None) -> None:
        self.environment.append(number, key, value, 0)
        self._fetch_all()

    @rule(number=st.integers(0, PARTITIONS - 1), back=st.integers(1, 9))
    def fetched_again(self, number: int, back: int) -> None:
        assignment = self.environment.owned.get(number)
        if assignment is not None:
            before = assignment.position
            assignment.position = max(assignment.first, before - back)
            self.environment.fetch(number, back)
            assignment.position = max(assignment.position, before)

    def _command(
        self, shape: dict[str, Any], target: str, users: list[str], skip: int = 0, off: int = 0
    ) -> None:
        """``off``: how far from its target's partition the producer has put it."""
        environment = self.environment
        environment.ids += 1
        kind = "group_id" if shape["action"].startswith("group") else "room_id"
        fields = {"command_id": f"c{environment.ids}", kind: target, "user_ids": users, **shape}
        fields["issuer"] = f"i{environment.ids % 2}"
        environment.append((TARGETS.index(target) + off) % PARTITIONS, target.encode(), fields, skip)

    def _fetch_all(self) -> None:
        for number in self.environment.owned:
            self.environment.fetch(number, 10)

    # Orders

    @rule(scope=st.sampled_from(SCOPES), state=st.sampled_from([*OrderState, None, None]))
    def ordered(self, scope: Scope, state: OrderState | None) -> None:
        self.environment.order(scope, state)

    # Calls

    @rule(pick=PICK, answer=st.sampled_from(ANSWERS), late=st.sampled_from([0.0, 0.125]))
    @precondition(lambda self: self._open_calls(CallPhase.OUT))
    def answered(self, pick: int, answer: Answer, late: float) -> None:
        self._answer(self._pick(CallPhase.OUT, pick), answer, late=late)

    @rule(answer=st.sampled_from(ANSWERS), most=st.integers(2, 6))
    @precondition(lambda self: self._open_calls(CallPhase.OUT))
    def answered_alike(self, answer: Answer, most: int) -> None:
        for open_call in self._open_calls(CallPhase.OUT)[:most]:
            self._answer(open_call, answer)

    @rule(most=st.integers(1, 6))
    @precondition(lambda self: self._open_calls(CallPhase.OUT))
    def answered_well(self, most: int) -> None:
        for open_call in self._open_calls(CallPhase.OUT)[:most]:
            self._answer(open_call, DONE)

    @rule(
        answer=st.sampled_from(REFUSALS),
        bad=st.sampled_from([["u1"], ["u3"], ["u2", "u20"], CROWD]),
        rooms=st.sampled_from(["a", "ab", "abcde"]),
        rounds=st.integers(1, 8),
    )
    @precondition(lambda self: self._open_calls(CallPhase.OUT))
    def answered_truly(self, answer: Answer, bad: list[str], rooms: str, rounds: int) -> None:
        """As an endpoint would that refuses these users of these targets, in company and alone."""
        for _ in range(rounds):
            for open_call in self._open_calls(CallPhase.OUT):
                request = open_call.request
                refused = request.target in rooms and not set(bad).isdisjoint(request.users)
                self._answer(open_call, answer if refused else DONE)
            self.environment.wake()

    @rule(most=st.integers(1, 4))
    @precondition(lambda self: self._open_calls(CallPhase.BACKING_OFF))
    def asked(self, most: int) -> None:
        for open_call in self._open_calls(CallPhase.BACKING_OFF)[:most]:
            if open_call.call_id in self.environment.calls:
                self.environment.request_permit(open_call)

    @rule()
    def strangers_spoke(self) -> None:
        engine, now = self.environment.engine, self.environment.now
        self.environment.settle(engine.permit_requested("nobody", now))
        self.environment.settle(
            engine.attempt_finished("nobody", AttemptResult(now, now, Verdict.FATAL), now)
        )

    def _answer(self, open_call: OpenCall, answer: Answer, *, late: float = 0.0) -> None:
        environment = self.environment
        if environment.calls.get(open_call.call_id) is not open_call or open_call.phase is not CallPhase.OUT:
            return
        environment.requests.counted += 1
        request_id = f"r{environment.requests.counted}"
        environment.end_attempt(
            open_call, answer.as_try(open_call.request, request_id, environment.now - late)
        )

    def _open_calls(self, phase: CallPhase) -> list[OpenCall]:
        return [open_call for open_call in self.environment.calls.values() if open_call.phase is phase]

    def _pick(self, phase: CallPhase, pick: int) -> OpenCall:
        found = self._open_calls(phase)
        return found[pick % len(found)]

    # Transactions

    @rule()
    def published(self) -> None:
        self.environment.publish()

    @rule()
    @precondition(lambda self: self.environment.publication is None)
    def transaction_begun(self) -> None:
        self.environment.begin_transaction()

    @rule(commit=st.booleans())
    @precondition(
        lambda self: (
            self.environment.publication is not None and self.environment.publication.committed is None
        )
    )
    def transaction_ended(self, commit: bool) -> None:
        self.environment.end_transaction(commit=commit)

    @rule(took_too_long=st.booleans(), dead_letters_refused=st.booleans())
    @precondition(
        lambda self: (
            self.environment.publication is not None and self.environment.publication.committed is not None
        )
    )
    def transaction_reported(self, took_too_long: bool, dead_letters_refused: bool) -> None:
        self.environment.tell_of_transaction(
            took_too_long=took_too_long, dead_letters_refused=dead_letters_refused
        )

    @rule()
    @precondition(lambda self: self.environment.publication is None)
    def dead_letters_refused(self) -> None:
        self.environment.refuse_dead_letters()

    # Partitions

    @rule(number=st.integers(0, PARTITIONS - 1), settled=st.booleans())
    def assigned(self, number: int, settled: bool) -> None:
        environment = self.environment
        publication = environment.publication
        in_doubt = publication is not None and publication.committed is None and number in publication.claim
        if number not in environment.owned and not in_doubt:
            environment.assign(number)
            environment.fetch(number, 3)
            if settled:
                environment.pass_time(3.0)
                environment.tick()

    @rule(number=st.integers(0, PARTITIONS - 1))
    @precondition(lambda self: self.environment.owned)
    def revoking(self, number: int) -> None:
        if number in self.environment.owned:
            self.environment.begin_to_revoke([number])

    @rule(numbers=st.sampled_from([[0], [1], [0, 1]]))
    @precondition(lambda self: self.environment.owned)
    def revoked(self, numbers: list[int]) -> None:
        self.environment.revoke([number for number in numbers if number in self.environment.owned])

    @rule(what=st.sampled_from(["taken away", "taken away", "stopping", "drained", "crashed"]))
    @precondition(lambda self: self.environment.owned)
    def left(self, what: str) -> None:
        environment = self.environment
        match what:
            case "taken away":
                environment.take_away(next(iter(environment.owned)))
            case "stopping":
                environment.stop()
            case "drained":
                settling.drain(environment)
            case _:
                environment.crash()

    # Time

    @rule(seconds=SECONDS)
    def ticked(self, seconds: float) -> None:
        self.environment.pass_time(seconds)
        self.environment.tick()

    @rule(times=st.integers(1, 4))
    def woken(self, times: int) -> None:
        for _ in range(times):
            self.environment.wake()

    @rule(
        seconds=st.sampled_from([GRAIN, 0.25, 1.0]),
        step=st.sampled_from([0.0, 0.0, 0.0, -3600.0, -5.0, 30.0, 4000.0]),
    )
    def time_passed(self, seconds: float, step: float) -> None:
        self.environment.pass_time(seconds)
        if step:
            self.environment.wall += step
            self.environment.tick()

    # Promises

    @invariant()
    def nothing_is_lost(self) -> None:
        if hasattr(self, "environment"):
            self.environment.judge()

    def teardown(self) -> None:
        if hasattr(self, "environment") and not self.has_failed:
            settling.settle_everything(self.environment)

    @property
    def has_failed(self) -> bool:
        """Whether the history is being given up."""
        return sys.exception() is not None


PROFILES: Final = {
    "default": settings(
        max_examples=100,
        stateful_step_count=50,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    ),
    "thorough": settings(
        max_examples=3000,
        stateful_step_count=120,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    ),
}
TestEngine = Play.TestCase
TestEngine.settings = PROFILES[os.environ.get("TEST_PROPERTY_PROFILE", "default")]
