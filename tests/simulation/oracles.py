# What must hold of every history, computed from the outside: from the records that were commanded, the outcome and dead
# letter topics as a read_committed reader sees them, the committed offsets, and Tencent's own diary.
#
# The engine is asked nothing, except whether its memory is empty once there is nothing left to do.

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tests.simulation.expectations import (
    TOPIC,
    endpoint_of,
    info_of,
    leaves_nothing_of,
    matches,
    users_of,
)
from tests.simulation.kafka import done_above
from tests.simulation.tencent import BAN, UNBAN, UPDATE
from worker.domain.contract.outcomes import Outcome, ResultStatus, Status

if TYPE_CHECKING:
    from tests.simulation.expectations import (
        Commanded,
    )
    from tests.simulation.history import History
    from tests.simulation.kafka import Partition, PublishedRecord
    from tests.simulation.tencent import Applied, Request
    from worker.domain.contract.outcomes import Result

HOLDS: Final = frozenset({ResultStatus.APPLIED, ResultStatus.ALREADY_APPLIED, ResultStatus.DUPLICATE})
SETTLED: Final = HOLDS | {ResultStatus.SUPERSEDED}
UNSENT: Final = frozenset({ResultStatus.SUPERSEDED, ResultStatus.DUPLICATE})
UNSURE: Final = frozenset({ResultStatus.FAILED, ResultStatus.EXPIRED})
_decoder = msgspec.json.Decoder(Outcome)


class Verdicts:
    """A history that is over, and what may be said against it."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.published: dict[str, PublishedRecord] = {}
        self.outcomes: dict[str, Outcome] = {}
        self.complaints: list[str] = []
        self._commanded = {each.outcome_id: each for each in history.commanded}
        self._by_member: dict[tuple[str, str], list[Commanded]] = defaultdict(list)
        for each in history.commanded:
            if each.is_valid and each.fields is not None:
                for user in dict.fromkeys(each.fields["user_ids"]):
                    self._by_member[each.target, user].append(each)
        for partition in history.kafka.partitions:
            for record in partition.outcomes:
                if record.outcome_id in self.published:
                    self.complain("P2", f"{record.outcome_id} has two outcomes")
                self.published[record.outcome_id] = record
                self.outcomes[record.outcome_id] = _decoder.decode(record.value)

    def complain(self, promise: str, what: str) -> None:
        """A promise was broken."""
        self.complaints.append(f"{promise}: {what}")

    def judge(self) -> list[str]:
        """All complaints."""
        self.nothing_is_lost_or_published_twice()
        if not self.complaints:
            self.repeated_ids_are_not_executed()
            self.effects_come_in_order()
            self.final_states_are_right()
            self.failures_have_a_reason()
            self.results_point_at_the_right_commands()
        self.the_quota_holds()
        self.offsets_tell_what_is_done()
        self.memory_is_empty()
        return self.complaints

    # P1, P2

    def nothing_is_lost_or_published_twice(self) -> None:
        """One outcome for each record with a readable id, one dead letter for each that was rejected or failed."""
        expected = {each.outcome_id for each in self.history.commanded if each.readable_id is not None}
        for missing in sorted(expected - set(self.published)):
            self.complain("P1", f"{missing} has no outcome")
        for surplus in sorted(set(self.published) - expected):
            self.complain("P2", f"{surplus} should have no outcome")
        letters = [dead.outcome_id for each in self.history.kafka.partitions for dead in each.dead_letters]
        if len(letters) != len(set(letters)):
            self.complain("P2", "a record has two dead letters")
        for each in self.history.commanded:
            outcome = self.outcomes.get(each.outcome_id)
            is_dead = outcome is None or outcome.status in (Status.FAILED, Status.REJECTED)
            if is_dead != (each.outcome_id in letters):
                self.complain("P9", f"{each.outcome_id} and its dead letter do not agree")
            if outcome is not None and (outcome.status is Status.REJECTED) is each.is_valid:
                self.complain("P9", f"{each.outcome_id} is {outcome.status}: {outcome.error}")

    def offsets_tell_what_is_done(self) -> None:
        """A restart would begin after everything that was published."""
        for partition in self.history.kafka.partitions:
            commit = partition.committed
            if commit is None:
                if partition.records:
                    self.complain("P1", f"nothing was committed for partition {partition.number}")
                continue
            done = done_above(partition.number, commit)
            for record in partition.records:
                above = record.offset - commit.offset
                if above >= 0 and not done >> above & 1:
                    self.complain("P1", f"a restart would redo {TOPIC}-{partition.number}-{record.offset}")

    # P3

    def repeated_ids_are_not_executed(self) -> None:
        """What is in place under a command_id is not carried out again under it."""
        done: dict[tuple[int, str], set[str]] = defaultdict(set)
        for each in self.history.commanded:
            if not each.is_valid:
                continue
            outcome = self.outcomes[each.outcome_id]
            known = done[each.record.partition, outcome.command_id]
            for result in outcome.results:
                if result.user_id in known and result.status is not ResultStatus.DUPLICATE:
                    self.complain(
                        "P3",
                        f"{each.outcome_id} did {result.user_id} again: {result.status} {outcome.command_id}",
                    )
                if result.status in SETTLED:
                    known.add(result.user_id)
            if outcome.status is Status.DUPLICATE and outcome.attempts:
                self.complain("P3", f"{each.outcome_id} is a duplicate, and was called")

    # P4

    def effects_come_in_order(self) -> None:
        """
        For each member, what took effect is what was commanded, in the order of the commands; and nothing that was published
        before a partition changed hands is done again after it.
        """
        diaries: dict[tuple[str, str], list[Applied]] = defaultdict(list)
        for applied in self.history.tencent.diary:
            diaries[applied.request.target, applied.user].append(applied)
        for (target, user), diary in diaries.items():
            partition = self.history.kafka.partitions[self.history.partition_of(target)]
            at, epoch = 0, -1
            commands = self._by_member[target, user]
            for applied in diary:
                now_epoch = self._epoch(partition, applied.request)
                if now_epoch is None:
                    self.complain("P4", f"{applied} was sent by a stranger to the partition")
                    continue
                if now_epoch < epoch:
                    self.complain("P4", f"{applied} of an earlier owner came after a later owner's effect")
                if now_epoch != epoch:
                    at, epoch = 0, now_epoch
                since, *_ = partition.handovers[epoch]
                later = partition.handovers[epoch + 1 :]
                until = later[0][0] if later else float("inf")
                found = next(
                    (
                        place
                        for place in range(at, len(commands))
                        if matches(commands[place], applied.request)
                        and self._may_be_done(commands[place], user, since, until)
                    ),
                    None,
                )
                if found is None:
                    self.complain(
                        "P4", f"{target} {user}: {_plain(applied)} has no command from place {at} on"
                    )
                    break
                at = found

    def _epoch(self, partition: Partition, request: Request) -> int | None:
        found = None
        for place, (_, begins, owner) in enumerate(partition.handovers):
            if begins <= request.sent_at + 1e-9 and owner == request.source:
                found = place
        return found

    def _may_be_done(self, commanded: Commanded, user: str, since: float, until: float) -> bool:
        """
        Whether an owner during this time may have carried out the command for this user. A later owner may have found it
        needless, though an earlier one had begun it.
        """
        published = self.published[commanded.outcome_id]
        if published.at < since:
            return False
        return published.at >= until or self.result(commanded, user).status not in UNSENT

    def result(self, commanded: Commanded, user: str) -> Result:
        """What the command's outcome says about the user."""
        results = self.outcomes[commanded.outcome_id].results
        return next(result for result in results if result.user_id == user)

    def final_states_are_right(self) -> None:
        """What holds at the end is what the last command that was carried out says."""
        for (target, user), commands in self._by_member.items():
            self._final_ban(target, user, [each for each in commands if endpoint_of(each) in (BAN, UNBAN)])
            self._finalinfo_of(target, user, [each for each in commands if endpoint_of(each) == UPDATE])

    def _final_ban(self, target: str, user: str, commands: list[Commanded]) -> None:
        possible: list[Commanded] = []
        for each in commands:
            result = self.result(each, user)
            if result.status in UNSURE:
                possible.append(each)
            elif result.status is ResultStatus.APPLIED or self._repeats_effect(each, result):
                possible = [each]
        state = self.history.tencent.state.get(("ban", target, user))
        sure = [each for each in possible if self.result(each, user).status not in UNSURE]
        if state is None:
            if sure:
                self.complain("P4", f"{target} {user} has no state, but {sure[0].outcome_id} was applied")
        elif possible and not any(matches(each, state) for each in possible):
            last = possible[0]
            self.complain(
                "P4",
                f"the final state of {target} {user} is {state.endpoint}{state.parameters}, not {last.outcome_id}",
            )

    def _finalinfo_of(self, target: str, user: str, commands: list[Commanded]) -> None:
        expected: dict[str, Any] = {}
        for each in commands:
            result = self.result(each, user)
            if result.status in UNSURE:
                return
            if result.status is ResultStatus.APPLIED or self._repeats_effect(each, result):
                expected.update(info_of(each))
        state = self.history.tencent.state.get(("info", target, user), {})
        if state != expected:
            self.complain("P4", f"the info of {target} {user} is {state}, not {expected}")

    def _repeats_effect(self, each: Commanded, result: Result) -> bool:
        """It repeats the effect of a command with another id, and not its own id."""
        if result.status is not ResultStatus.DUPLICATE:
            return False
        return not any(
            earlier.readable_id == each.readable_id and self._is_settled(earlier, result.user_id)
            for earlier in self._by_member[each.target, result.user_id]
            if earlier.record.offset < each.record.offset
        )

    def _is_settled(self, each: Commanded, user: str) -> bool:
        """Whether a repeat of its id asks for nothing for this user."""
        return self.result(each, user).status in SETTLED

    # P5

    def the_quota_holds(self) -> None:
        """In no rolling second were more requests read than the quota allows, over all replicas."""
        quota = self.history.plan.quota
        for endpoint, unsorted in self.history.tencent.reads.items():
            reads = sorted(unsorted)
            for first, beyond in zip(reads, reads[quota:], strict=False):
                if beyond - first < 1.0:
                    self.complain("P5", f"more than {quota} requests to {endpoint} from {first} on")
                    break

    # P7, P8

    def failures_have_a_reason(self) -> None:
        """Nothing fails but what Tencent refuses for good."""
        weather = self.history.plan.weather
        for outcome_id, outcome in self.outcomes.items():
            for result in outcome.results:
                if result.status is not ResultStatus.FAILED:
                    continue
                target = self._commanded[outcome_id].target
                why = {
                    10019: result.user_id in weather.bad_users,
                    10007: target in weather.own_fault,
                    10010: target in weather.no_such,
                    10004: target in weather.doubtful,
                    12345: True,
                    None: "time was over" in (result.error_info or ""),
                }
                if not why.get(result.error_code, False):
                    self.complain("P7", f"{outcome_id} failed for no good reason: {result}")

    def results_point_at_the_right_commands(self) -> None:
        """Who is said to have made a command needless has done so."""
        for outcome_id, outcome in self.outcomes.items():
            each = self._commanded[outcome_id]
            for result in outcome.results:
                if result.status is ResultStatus.SUPERSEDED:
                    later = self._commanded[str(result.superseded_by)]
                    is_later = later.record.offset > each.record.offset and result.user_id in users_of(later)
                    if not is_later or not leaves_nothing_of(each, later):
                        self.complain("P4", f"{outcome_id} cannot be superseded by {later.outcome_id}")
                if result.status is ResultStatus.DUPLICATE:
                    earlier = self._commanded[str(result.duplicate_of)]
                    if earlier.record.offset >= each.record.offset:
                        self.complain("P4", f"{outcome_id} cannot be a duplicate of {earlier.outcome_id}")
                    elif not self._tells(earlier, each, result.user_id):
                        self.complain("P4", f"{outcome_id} repeats {earlier.outcome_id}, which did nothing")

    def _tells(self, earlier: Commanded, each: Commanded, user: str) -> bool:
        """
        Whether the earlier command has the effect in place, or is an earlier one of the same id, of whose members it was
        true at one time or another.
        """
        if earlier.readable_id == each.readable_id:
            return True
        results = self.outcomes[earlier.outcome_id].results
        return any(result.user_id == user and result.status in HOLDS for result in results)

    # P10

    def memory_is_empty(self) -> None:
        """Once everything is published, nothing is held but what is known of the past."""
        for replica in self.history.replicas:
            if replica.alive and not replica.stopped:
                engine = replica.engine
                if engine._scheduler.calls:
                    continue  # a request of an earlier assignment that hangs
                snapshot = engine.snapshot(self.history.clock.now)
                held = {
                    "open": engine.open_count,
                    "unpublished": snapshot.unpublished,
                    "bytes": snapshot.memory["commands"],
                    "waiting": sum(endpoint.waiting for endpoint in snapshot.endpoints),
                    "backlog": sum(each.backlog for each in snapshot.partitions),
                    "lines": len(engine._ordering),
                    "by id": sum(len(each._newest_by_id) for each in engine._partitions.values()),
                    "targets": sum(
                        len(endpoint.targets) for endpoint in engine._scheduler.endpoints.values()
                    ),
                }
                if any(held.values()):
                    self.complain("P10", f"{replica!r} still holds {held}")


def _plain(applied: Applied) -> str:
    request = applied.request
    return f"{request.endpoint}{request.parameters} at {applied.at:.3f}, sent {request.sent_at:.3f} by {request.source}"
