# The end of a history: nothing goes wrong any more, everything is answered, and then every record must be settled and nothing held.
#
# A history that cannot be brought to its end by good answers alone has hung: P1 and P10.

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tests.property.answers import DONE
from tests.property.environment import CallPhase
from worker.domain.contract.actions import ACTIONS

if TYPE_CHECKING:
    from tests.property.environment import EngineEnvironment

SHAPES: Final[tuple[dict[str, Any], ...]] = (
    {"action": "group.ban_group_member", "duration": 3600},
    {"action": "group.unban_group_member"},
    {"action": "group.ban_group_member", "duration": 60, "reason": "spam"},
    {"action": "group.ban_group_member", "duration": 60, "reason": "scam"},
    {"action": "group.ban_group_member", "duration": 0},
    {"action": "room.kick_user_out", "reason": "spam"},
    {"action": "room.update_room_member_info", "member_info": {"name_card": "x"}},
    {
        "action": "room.update_room_member_info",
        "member_info": {"name_card": "y", "role": "Member", "custom_info": "z"},
    },
    {"action": "live.unban_member"},
)
"""What is commanded."""
MOST_ROUNDS: Final = 400
"""Each lets the engine's timer go off once, so at most a second passes; locks last a minute, probes of halts wait half of one."""
ROUNDS_PER_RECORD: Final = 4
"""Where only one command fits into memory, and two calls a second may be sent, each takes this many rounds for itself."""
LULL: Final = 80
"""Seconds after which no effect, delay or expiry may be held any more."""
FEW: Final = 130
"""Up to this many done commands may be among those that could expire: fewer are not worth tidying up."""


def answer_all(environment: EngineEnvironment) -> None:
    """Every request is answered well, and every call goes on."""
    for open_call in list(environment.calls.values()):
        if environment.calls.get(open_call.call_id) is not open_call:
            continue
        if open_call.phase is CallPhase.OUT:
            environment.end_attempt(
                open_call, DONE.as_try(open_call.request, f"end {id(open_call.request)}", environment.now)
            )
        if open_call.phase is CallPhase.BACKING_OFF and environment.calls.get(open_call.call_id) is open_call:
            environment.request_permit(open_call)


def settle_everything(environment: EngineEnvironment) -> None:
    """A process that is not stopping gets all partitions, good answers and time. Then every record must be settled."""
    if environment.publication is not None:
        environment.publish()
    if environment.is_stopping or not all(environment.is_own(number) for number in environment.owned):
        environment.crash()
    closing = [number for number, each in environment.owned.items() if each.may_end is not None]
    environment.revoke(closing)
    for number in range(len(environment.topic.partitions)):
        if number not in environment.owned:
            environment.assign(number)
    for scope in list(environment.orders):
        environment.order(scope, None)
    finish(environment)
    command_behind_halts(environment)
    finish(environment)
    for partition in environment.topic.partitions:
        for record in partition.records:
            assert partition.is_settled(record.offset), (
                f"P1: {record.outcome_id} is not settled: {environment.engine!r}"
            )
        environment.topic.judge(partition)
    for _ in range(LULL):
        answer_all(environment)
        environment.wake()
    judge_memory(environment)


def command_behind_halts(environment: EngineEnvironment) -> None:
    """Where all commands behind a halt have expired or were cancelled, the next one is its probe."""
    for halt in environment.engine.halts:
        shape = next(each for each in SHAPES if halt.endpoint in (None, ACTIONS[each["action"]].endpoint))
        kind = "group_id" if shape["action"].startswith("group") else "room_id"
        environment.ids += 1
        fields = {"command_id": f"c{environment.ids}", "app": halt.app, kind: "h", "user_ids": ["u"], **shape}
        environment.append(0, b"h", fields, 0)


def finish(environment: EngineEnvironment) -> None:
    """Everything is fetched, answered well and published, until nothing is left."""
    records = sum(len(partition.records) for partition in environment.topic.partitions)
    for _ in range(MOST_ROUNDS + ROUNDS_PER_RECORD * records):
        for number in environment.owned:
            environment.fetch(number, 20)
        answer_all(environment)
        environment.publish()
        environment.judge()
        if is_over(environment):
            break
        environment.wake()


def is_over(environment: EngineEnvironment) -> bool:
    """Whether everything is settled, and nothing is on its way."""
    return not environment.calls and all(
        partition.is_settled(record.offset)
        for partition in environment.topic.partitions
        for record in partition.records
    )


def judge_memory(environment: EngineEnvironment) -> None:
    """Once there is nothing to do, nothing is held but what is known of the past."""
    engine = environment.engine
    scheduler, ordering, outbox = engine._scheduler, engine._ordering, engine._outbox
    held = {
        "commands": engine.open_count,
        "bytes": engine._admission.memory.bytes_used,
        "calls": len(scheduler.calls),
        "member queues": len(ordering),
        "delays": len(ordering._delays),
        "complete": len(ordering._completed) + len(ordering._changes),
        "beyond": engine._admission.memory._common_used + outbox._aside._common_used,
        "bytes aside": outbox._aside.bytes_used,
        "results": outbox.unpublished,
        "bytes of results": outbox.bytes_used,
        "anchors": len(outbox._anchors),
        "under way": outbox._under_way is not None,
        "effects": len(ordering.applied_states),
    }
    for endpoint in scheduler.endpoints.values():
        held |= {
            f"{endpoint!r} waiting": endpoint.queue.waiting,
            f"{endpoint!r} in shadow": endpoint.shadow_queue.waiting + len(endpoint.shadow_queue.targets),
            f"{endpoint!r} asking": len(endpoint.awaiting_permit),
            f"{endpoint!r} calls": len(endpoint.calls),
            f"{endpoint!r} targets": len(endpoint.queue.targets) + len(endpoint.targets),
            f"{endpoint!r} groups": len(endpoint.queue._groups),
            f"{endpoint!r} started": len(endpoint.queue._started),
            f"{endpoint!r} levels": sum(len(level) for level in endpoint.queue._targets_by_rank),
            f"{endpoint!r} held": len(endpoint.held),
            f"{endpoint!r} requests out": endpoint.limiter.out,
            f"{endpoint!r} permits": endpoint.limiter.used(environment.now),
            f"{endpoint!r} probe": int(endpoint.probe is not None or endpoint.app.probe is not None),
        }
    for partition in engine._partitions.values():
        held |= {
            f"{partition!r} backlog": len(partition.backlog),
            f"{partition!r} ids": len(partition._newest_by_id),
        }
        assert not partition.paused, f"{partition!r} is never fetched again"
    left = {name: count for name, count in held.items() if count}
    assert not left, f"P10: {left} with nothing to do"
    assert len(ordering._deadlines) <= FEW
    assert engine.halts == [], "P8: good answers, and halted"


def drain(environment: EngineEnvironment) -> None:
    """SIGTERM, and good answers: what was started is finished and published, nothing else is started, and nothing will be repeated."""
    if environment.publication is not None:
        environment.publish()
    environment.stop()
    for _ in range(MOST_ROUNDS):
        answer_all(environment)
        environment.publish()
        if environment.engine.idle and environment.publication is None:
            break
        environment.wake()
    is_own = all(environment.is_own(number) for number in environment.owned)
    assert environment.engine.idle or not is_own, f"P12: {environment.engine!r} is never drained"
    if is_own and environment.engine.snapshot(environment.now).counts.given_up == 0:
        for number, assignment in environment.owned.items():
            for offset, user in assignment.carried:
                settled = environment.topic.partitions[number].is_settled(offset)
                assert settled, f"P12: {user} of {number}-{offset} was begun, and is left to be done again"
    environment.crash()
