# The detectors of a history: what they command, drawn from its seed.
#
# They repeat themselves, reuse ids, write garbage, and come in bursts.

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.simulation.expectations import Commanded
from tests.simulation.loop import START
from worker.domain.contract.timestamps import rfc3339

if TYPE_CHECKING:
    from tests.simulation.history import History


class Detectors:
    """Whoever commands, in one history."""

    def __init__(self, history: History) -> None:
        self._history = history

    def plan_commands(self) -> None:
        """Spreads the plan's commands over its time, in bursts."""
        chance = self._history.clock.chance
        left = self._history.plan.commands
        while left > 0:
            burst = min(left, chance.choice((1, 1, 2, 5, 20, 40)))
            left -= burst
            at = chance.uniform(START, self._history.ends_at)
            for _ in range(burst):
                at += chance.uniform(0.0, 0.02)
                self._history.clock.at(min(at, self._history.ends_at), self._command_any)

    def _command_any(self) -> None:
        chance, plan = self._history.clock.chance, self._history.plan
        draw = chance.random()
        valid = [each for each in self._history.commanded[-100:] if each.is_valid]
        if draw < plan.garbage:
            self._garbage()
        elif draw < plan.garbage + plan.repeats and valid:
            again = chance.choice(valid)
            assert again.fields is not None
            self._history.command(again.fields)
        elif draw < plan.garbage + plan.repeats + plan.reused and valid:
            other = chance.choice(valid)
            assert other.fields is not None
            self._history.command(
                other.fields | {"user_ids": [*other.fields["user_ids"], "another"]}, is_valid=False
            )
        else:
            self._history.command(self._draw())

    def _draw(self) -> dict[str, Any]:
        chance, plan = self._history.clock.chance, self._history.plan
        target = f"t{chance.randrange(plan.targets)}"
        users = [f"u{chance.randrange(plan.users)}"]
        if chance.random() < plan.hot:
            target, users = "t0", ["u0"]
        elif chance.random() < plan.many:
            users = [
                f"u{user}"
                for user in chance.sample(range(plan.users), chance.randint(2, min(60, plan.users)))
            ]
        fields = self.of_kind(chance.choices(range(5), plan.kinds)[0], target, users)
        if chance.random() < plan.expiring:
            fields["not_after"] = rfc3339(self._history.clock.wall + chance.uniform(0.2, 12.0))
        return fields

    def of_kind(self, kind: int, target: str, users: list[str]) -> dict[str, Any]:
        """A command of the action in this place of the table."""
        chance, number = self._history.clock.chance, len(self._history.commanded)
        fields: dict[str, Any] = {"command_id": f"c{number}", "user_ids": users}
        if kind == 0:
            fields |= {"action": "group.ban_group_member", "group_id": target}
            if chance.random() < self._history.plan.expiring:
                fields["banned_until"] = rfc3339(self._history.clock.wall + chance.uniform(1.5, 900.0))
            else:
                fields["duration"] = 600 + 60 * (number // 20)
            if chance.random() < 0.3:
                fields["reason"] = chance.choice(("spam", "abuse"))
        elif kind == 1:
            fields |= {"action": "group.unban_group_member", "group_id": target}
        elif kind == 2:
            fields |= {"action": "live.unban_member", "room_id": target}
        elif kind == 3:
            fields |= {
                "action": "room.kick_user_out",
                "room_id": target,
                "reason": chance.choice(("spam", "abuse")),
            }
        else:
            names = chance.sample(("name_card", "custom_info", "role"), chance.choice((1, 2, 3, 3)))
            info = {name: "Member" if name == "role" else f"{name} {number}" for name in names}
            fields |= {"action": "room.update_room_member_info", "room_id": target, "member_info": info}
        return fields

    def _garbage(self) -> None:
        number = len(self._history.commanded)
        partition = self._history.clock.chance.randrange(self._history.plan.partitions)
        readable = self._history.clock.chance.random() < 0.5
        value = json.dumps({"command_id": f"c{number}", "action": "dance"}).encode() if readable else b"\xff{"
        record = self._history.kafka.append(partition, b"key", value)
        self._history.commanded.append(
            Commanded(
                record, self._history.clock.now, None, f"c{number}" if readable else None, is_valid=False
            )
        )
