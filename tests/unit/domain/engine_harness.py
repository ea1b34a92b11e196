# Drives the engine by hand: one worker without Kafka and Tencent, at a time that the test moves. What the engine asks for
# is listed here, and the test plays the client and the publisher, one event after another.
#
# Nothing here decides, and no test is here. Only the engine's public interface is used.

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from worker.domain.contract.control_records import ControlRecord, Order, OrderState, Scope
from worker.domain.contract.error_codes import Verdict, judge
from worker.domain.contract.outcomes import Worker
from worker.domain.effects import (
    AllowAttempt,
    AttemptResult,
    CancelWaitingCall,
    LogEvent,
    PausePartition,
    RestoredPartition,
    ResumePartition,
    RetryCall,
    SendQuotaMessage,
    StartCall,
    WriteControl,
)
from worker.domain.engine import Engine
from worker.domain.engine_settings import EngineSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from worker.domain.contract.dead_letter_encoding import DeadLetter
    from worker.domain.contract.outcomes import Outcome, Result
    from worker.domain.effects import Attempt, Effect, Transaction

START: Final = 1000.0
WALL: Final = 1_900_000_000.0
"""2030-03-17T17:46:40Z, when a harness begins."""
COOLING_OFF: Final = 3.0
TOPIC: Final = "commands"
GRAIN: Final = 1 / 1024
"""How late a timer is that asks to go off now."""

ENDPOINTS: Final = {
    "group_open_http_svc/ban_group_member": "ban",
    "group_open_http_svc/unban_group_member": "unban",
    "live_engine_http_srv/unban_member": "live_unban",
    "room_engine_http_srv/kick_user_out": "kick",
    "room_engine_http_srv/update_room_member_info": "update",
}
ENDPOINT_OF: Final = {short: endpoint for endpoint, short in ENDPOINTS.items()}


@dataclass(frozen=True, slots=True)
class Record:
    """A record as the consumer has it."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """One request that the engine lets go."""

    send: Attempt
    at: float
    body: dict[str, Any]

    @property
    def call_id(self) -> str:
        """The attempts of one call share it."""
        return self.send.call_id

    @property
    def action(self) -> str:
        """The endpoint, in a word."""
        return ENDPOINTS[self.send.endpoint]

    @property
    def target(self) -> str:
        """The group or room."""
        return str(self.body.get("GroupId") or self.body.get("RoomId"))

    @property
    def users(self) -> list[str]:
        """The users that it carries."""
        if "MemberInfo" in self.body:
            return [self.body["MemberInfo"]["Member_Account"]]
        return list(self.body.get("Members_Account") or self.body["MemberList_Account"])

    def __repr__(self) -> str:
        return f"<{self.action} {self.target} {' '.join(self.users)}>"


@dataclass(slots=True)
class Published:
    """What was published."""

    outcomes: list[Outcome] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)


class EngineHarness:
    """
    One engine, the requests that are out, and what was published.

    Attributes:
        out: The requests without an answer, oldest first.
        waiting: The calls in their backoff, by their last request.
        sent: Every request so far.
        paused: The partitions that are not to be fetched.
        quota_messages: What was said of lending.
        ordered: The records that guards have asked for.
    """

    def __init__(self, *partitions: int, settled: bool = True, **settings: Any) -> None:
        defaults: dict[str, Any] = {
            "topic": TOPIC,
            "partitions": max((0, *partitions)) + 1,
            "apps": {"main": "administrator", "second": "root"},
            "default_app": "main",
            "worker": Worker("worker-0", "1.0"),
        }
        self.settings = EngineSettings(**defaults | settings)
        self.now = START
        self.wall = WALL
        self.engine = Engine(self.settings, self.now, self.wall, "call")
        self.out: list[Request] = []
        self.awaiting_permit: list[str] = []
        self.waiting: list[str] = []
        self.sent: list[Request] = []
        self.cancelled: list[str] = []
        self.log_events: list[LogEvent] = []
        self.paused: set[int] = set()
        self.ordered: list[ControlRecord] = []
        self.quota_messages: list[bytes] = []
        self.published = Published()
        self._offsets: dict[int, count[int]] = {}
        self._ids = count(1)
        for number in partitions or (0,):
            self.assign(number)
        if settled:
            self.wait(COOLING_OFF)

    # Time

    def wait(self, seconds: float) -> None:
        """Time goes on, and the engine hears of it when it asks to, and no sooner: what is due by time needs its own wake-up."""
        end = self.now + seconds
        while (wake_at := self.engine.wake_at) < end:
            self._tick(min(end, wake_at if wake_at > self.now else self.now + GRAIN))
        if self.engine.wake_at <= end:
            self._tick(end)
        else:
            self.be_busy(end - self.now)

    def be_busy(self, seconds: float) -> None:
        """Time goes on, and the engine does not hear of it: its loop is late."""
        self.now += seconds
        self.wall += seconds

    def _tick(self, now: float) -> None:
        self.wall += now - self.now
        self.now = now
        self._settle(self.engine.tick(now, self.wall))

    # Partitions

    def assign(self, number: int, position: int = 0, **restored: Any) -> None:
        """The partition is ours from now on."""
        self._offsets[number] = count(position)
        self._settle(self.engine.assigned(number, RestoredPartition(position, **restored), self.now))

    def revoking(self, *numbers: int) -> None:
        """A rebalance begins."""
        self._settle(self.engine.revoking(numbers, self.now))

    def revoked(self, *numbers: int) -> None:
        """The partitions are gone."""
        self._settle(self.engine.revoked(numbers, self.now))

    def stop(self) -> None:
        """SIGTERM."""
        self._settle(self.engine.stopping(self.now))

    # Commands

    def receive(self, *commands: dict[str, Any], partition: int = 0, keyed: bool = True) -> None:
        """These commands are fetched, one after another: the first one's call leaves before the second comes."""
        for command in commands:
            self.fetch([self.record(command, partition=partition, keyed=keyed)])

    def receive_together(self, *commands: dict[str, Any], partition: int = 0) -> None:
        """These commands are fetched in one go: no call leaves before the last one is in."""
        self.fetch([self.record(command, partition=partition) for command in commands])

    def record(self, command: dict[str, Any], *, partition: int = 0, keyed: bool = True) -> Record:
        """The next record of the partition. A command without an id gets one."""
        fields = {"command_id": f"c{next(self._ids)}"} | command
        key = (fields.get("group_id") or fields.get("room_id") or "").encode() if keyed else None
        return Record(partition, next(self._offsets[partition]), key, json.dumps(fields).encode())

    def fetch(self, records: Sequence[Record]) -> None:
        """These records are fetched."""
        self._settle(self.engine.received(records, self.now))

    # The operator

    def order(self, state: str, *, until: str | None = None, **scope: str) -> None:
        """An operator orders this for a scope."""
        order = Order(OrderState(state), "it bans everybody", "alice", "2030-01-01T00:00:00Z", until)
        self._settle(self.engine.control_records_received([ControlRecord(Scope(**scope), order)], self.now))

    def hear_orders(self, *records: ControlRecord) -> None:
        """The control topic has these further records."""
        self._settle(self.engine.control_records_received(records, self.now))

    def resume(self, **scope: str) -> None:
        """What was ordered for the scope is over."""
        self._settle(self.engine.control_records_received([ControlRecord(Scope(**scope), None)], self.now))

    # The client

    def request(self, action: str | None = None, target: str | None = None) -> Request:
        """The one request that is out, of this action and target."""
        found = [each for each in self.out if action in (None, each.action) and target in (None, each.target)]
        assert len(found) == 1, self.out
        return found[0]

    def ok(self, request: Request | None = None, *, request_id: str | None = None) -> None:
        """The request, or all that are out, are answered: done."""
        for each in [request] if request is not None else list(self.out):
            self.end(each, Verdict.DONE, http_status=200, error_code=0, request_id=request_id)

    def code(
        self, request: Request, code: int | None, info: str = "", status: int = 200, **more: Any
    ) -> None:
        """The request is answered with this error code."""
        verdict = judge(status, code)
        self.end(request, verdict, http_status=status, error_code=code, error_info=info, **more)

    def timeout(self, request: Request) -> None:
        """The request is not answered."""
        self.end(request, Verdict.TRANSPORT, error="timeout", end_unknown=True)

    def refuse_connection(self, request: Request) -> None:
        """The request did not reach anyone."""
        self.end(request, Verdict.TRANSPORT, error="connect")

    def fence(self, request: Request) -> None:
        """The request was not sent after all: this process may not own its partitions any more."""
        self.end(request, Verdict.UNSENT, error="fenced")

    def end(self, request: Request, verdict: Verdict, **fields: Any) -> None:
        """The request ends. Its client waits for another attempt if the engine wants one, else its call is over."""
        self.out.remove(request)
        result = AttemptResult(request.at, self.now, verdict, **fields)
        self._settle(self.engine.attempt_finished(request.call_id, result, self.now))

    def request_permit(self, call_id: str | None = None) -> None:
        """The backoff of the call, or of the only one that waits, is over."""
        if call_id is None:
            (call_id,) = self.waiting
        self.waiting.remove(call_id)
        self.awaiting_permit.append(call_id)
        self._settle(self.engine.permit_requested(call_id, self.now))

    # The publisher

    def take(self) -> Transaction:
        """The next transaction, which must have something."""
        transaction = self.engine.take_transaction(self.now)
        assert transaction is not None
        return transaction

    def commit(self, transaction: Transaction) -> None:
        """The transaction is committed."""
        self.published.outcomes += [each.outcome for each in transaction.outcomes]
        self.published.dead_letters += transaction.dead_letters
        self._settle(self.engine.published(self.now))

    def abort(self, *, took_too_long: bool = False, dead_letters_refused: bool = False) -> None:
        """The transaction under way is not committed."""
        self._settle(
            self.engine.aborted(
                self.now, took_too_long=took_too_long, dead_letters_refused=dead_letters_refused
            )
        )

    def refuse_metadata(self, number: int) -> None:
        """The broker takes less metadata than this partition's commit has."""
        self._settle(self.engine.metadata_refused(number, self.now))

    def publish(self) -> list[Outcome]:
        """Everything that can be published is. Returns the new outcomes."""
        before = len(self.published.outcomes)
        while (transaction := self.engine.take_transaction(self.now)) is not None:
            self.commit(transaction)
        return self.published.outcomes[before:]

    # What can be seen

    def outcome(self, command_id: str) -> Outcome:
        """The one published outcome of this command."""
        self.publish()
        found = [each for each in self.published.outcomes if each.command_id == command_id]
        assert len(found) == 1, (command_id, [each.command_id for each in self.published.outcomes])
        return found[0]

    def status(self, command_id: str) -> str:
        """Its status."""
        return self.outcome(command_id).status.value

    def results(self, command_id: str) -> dict[str, str]:
        """Its results: user -> status."""
        return {each.user_id: each.status.value for each in self.outcome(command_id).results}

    def result(self, command_id: str, user: str) -> Result:
        """One of its results."""
        return next(each for each in self.outcome(command_id).results if each.user_id == user)

    def is_open(self, command_id: str) -> bool:
        """Whether the command has no outcome yet."""
        self.publish()
        return command_id not in [each.command_id for each in self.published.outcomes]

    def events(self) -> list[str]:
        """What was logged for an operator since the last look."""
        names = [notice.event for notice in self.log_events]
        self.log_events.clear()
        return names

    def hear_quota_messages(self, *payloads: bytes, may_lend: bool = True) -> None:
        """Somebody, perhaps this engine, has said this of lending."""
        self._settle(self.engine.quota_messages(payloads, self.now, may_lend=may_lend))

    def limited_by(self, action: str) -> str:
        """What keeps the waiting members of this endpoint from going."""
        endpoints = self.engine.snapshot(self.now).endpoints
        return next(
            each.limited_by
            for each in endpoints
            if each.app == "main" and each.endpoint == ENDPOINT_OF[action]
        )

    def _settle(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case StartCall(send) | AllowAttempt(send):
                    assert (send.number == 1) == isinstance(effect, StartCall)
                    if send.number > 1:
                        self.awaiting_permit.remove(send.call_id)
                    request = Request(send, self.now, json.loads(send.body))
                    assert len(request.users) == send.members
                    self.out.append(request)
                    self.sent.append(request)
                case RetryCall(call_id):
                    self.waiting.append(call_id)
                case CancelWaitingCall(call_id):
                    self.cancelled.append(call_id)
                    (self.waiting if call_id in self.waiting else self.awaiting_permit).remove(call_id)
                case PausePartition(number):
                    self.paused.add(number)
                case ResumePartition(number):
                    self.paused.remove(number)
                case LogEvent():
                    self.log_events.append(effect)
                case WriteControl(record):
                    self.ordered.append(record)
                case SendQuotaMessage(payload):
                    self.quota_messages.append(payload)


def ban(*users: str, group: str = "g", **fields: Any) -> dict[str, Any]:
    """For an hour, if nothing else is said."""
    if "banned_until" not in fields:
        fields = {"duration": 3600} | fields
    return {"action": "group.ban_group_member", "group_id": group, "user_ids": list(users)} | fields


def unban(*users: str, group: str = "g", **fields: Any) -> dict[str, Any]:
    """The opposite."""
    return {"action": "group.unban_group_member", "group_id": group, "user_ids": list(users)} | fields


def live_unban(*users: str, room: str = "r", **fields: Any) -> dict[str, Any]:
    """In a live room."""
    return {"action": "live.unban_member", "room_id": room, "user_ids": list(users)} | fields


def kick(*users: str, room: str = "r", reason: str = "spam", **fields: Any) -> dict[str, Any]:
    """An event."""
    command = {"action": "room.kick_user_out", "room_id": room, "user_ids": list(users), "reason": reason}
    return command | fields


def update(*users: str, room: str = "r", command_id: str | None = None, **info: str) -> dict[str, Any]:
    """A command that updates members of a room."""
    command: dict[str, Any] = {
        "action": "room.update_room_member_info",
        "room_id": room,
        "user_ids": list(users),
    }
    command["member_info"] = info or {"name_card": "n", "role": "Member", "custom_info": "i"}
    return command if command_id is None else command | {"command_id": command_id}


def users(number: int, name: str = "u") -> list[str]:
    """This many users."""
    return [f"{name}{place}" for place in range(number)]
