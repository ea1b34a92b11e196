# Which dead letters are sent again, in which order, and why each of the others is not.
#
# Values in, values out: letters, outcomes and waiting commands are read, and commands sent, by dead_letters.py. A letter goes
# again as it came: value, key, headers and command_id are the original's. A failed or cancelled command is not done, so the same id
# is carried out.

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from worker.cli.filters import FEW
from worker.cli.last_command_per_user import (
    CommandMoment,
    LastCommand,
    LastCommandPerUser,
    TargetKey,
    TargetMember,
    members_of,
    moment_of,
    target_in,
)
from worker.domain.contract.command_decoding import Command
from worker.domain.contract.dead_letter_decoding import ParsedDeadLetter
from worker.domain.contract.outcomes import DONE_FOR_ID, RESULTS, Status
from worker.domain.contract.rejections import Rejected

if TYPE_CHECKING:
    from collections.abc import Iterable


class ReplayRefusal(StrEnum):
    """Why a letter is not sent again; the first that applies."""

    NO_LETTER = "it is no dead letter of this worker"
    OTHER_TOPIC = "it came from another topic than the command topic"
    INCOMPLETE = "a part of it was too large to be kept"
    OTHERS_ID = "its command_id is another command's: send it with an id of its own"
    REJECTED = "it would be rejected again"
    OVER = "its time is over"
    AGAIN = "the same command_id came again later"
    OVERTAKES = "a later command for the same user came since"


ID_REUSED: Final = "command_id_reused"
"""The code of a command under an id that stands for another one."""
TOUCHING: Final = {RESULTS[result].status for result in DONE_FOR_ID} | {Status.PARTIALLY_SUCCEEDED}
"""The statuses of commands that touched at least some of their users."""
MAY_BE_FORCED: Final = {ReplayRefusal.REJECTED: "--rejected", ReplayRefusal.OVERTAKES: "--allow-overtaking"}
"""The refusals that an option of `replay` overrides, each with that option."""


class ReplayCandidate(Struct, eq=False):
    """
    One letter, and whether it is sent again.

    Attributes:
        place: Of the letter itself.
        letter: None if it is no letter of ours.
        command: What the worker reads in the original now.
        refusal: Why it is not sent again; None if it is.
        detail: What the refusal rests on, for a person.

    """

    place: str
    timestamp: int
    letter: ParsedDeadLetter | None
    command: Command | Rejected | None = None
    refusal: ReplayRefusal | None = None
    detail: str = ""

    @property
    def moment(self) -> CommandMoment:
        """When its command came: its dead letter was written at that time or later."""
        assert self.letter is not None
        letter = self.letter
        return CommandMoment(letter.topic, letter.partition, letter.offset, self.timestamp / 1000)

    def refuse(self, refusal: ReplayRefusal, detail: str = "") -> None:
        """Refuse it, unless it is refused already."""
        if self.refusal is None:
            self.refusal, self.detail = refusal, detail


class ReplayPlanner:
    """Judges letters first by themselves, then by what came after them. ``forced`` are the refusals that an option overrides."""

    def __init__(
        self,
        candidates: Iterable[ReplayCandidate],
        topic: str,
        now: float,
        forced: frozenset[ReplayRefusal] = frozenset(),
    ) -> None:
        self._forced = forced
        self.candidates = sorted(candidates, key=_order)
        for each in self.candidates:
            self._judge(each, topic, now)
        self._by_id: dict[str, ReplayCandidate] = {}
        self._first_moments: dict[str, CommandMoment] = {}
        for each in self.candidates:
            self._keep_last_of_id(each)
        members = [member for each in self._not_refused() for member in _members(each)]
        self._last_commands = LastCommandPerUser(members, events=True)
        # A letter that was sent again already stands where its command first came: those that came after it may follow.
        self._last_copies = LastCommandPerUser(members, events=True)
        self._targets = {member[:3] for member in self._last_commands}
        self._unlisted: dict[TargetKey, LastCommand] = {}
        self._unlisted_copies: dict[TargetKey, LastCommand] = {}

    def __repr__(self) -> str:
        return f"<ReplayPlanner {len(self.candidates)} letters>"

    @property
    def terms(self) -> list[list[bytes]]:
        """The bytes that each outcome has that matters here: a letter's command_id or target. Empty if those are many."""
        texts = {member.target for member in self._last_commands} | self._by_id.keys()
        return [[msgspec.json.encode(text) for text in sorted(texts)]] if 0 < len(texts) <= FEW else []

    def see_outcome(self, view: Any) -> None:
        """Take note of a command that has its outcome: it may have come after a letter."""
        is_reused = view.error is not None and view.error.code == ID_REUSED
        if view.status == Status.REJECTED and (is_reused or ReplayRefusal.REJECTED not in self._forced):
            return  # it touched nobody, and is no copy of a letter that is sent
        first = self._first_moments.get(view.command_id)
        moment = None if first is None else moment_of(view)
        if first is None or moment is None or not moment.is_after(first):
            self._last_commands.see_outcome(view)
            self._see_unlisted(view, self._unlisted)
            return
        letter = self._by_id[view.command_id]
        if moment.is_after(letter.moment):  # otherwise it is the letter of this copy
            letter.refuse(ReplayRefusal.AGAIN, f"{moment.outcome_id}: {view.status}")
        self._last_copies.see_outcome(view, first)
        self._see_unlisted(view, self._unlisted_copies, first)

    def _see_unlisted(
        self, view: Any, unlisted: dict[TargetKey, LastCommand], standing_at: CommandMoment | None = None
    ) -> None:
        """Take note of a command that may have touched any user of its target: its outcome does not list them."""
        if not view.results_omitted or view.status not in TOUCHING:
            return
        named, moment = target_in(view), standing_at or moment_of(view)
        if named is None or moment is None or (key := (view.app, *named)) not in self._targets:
            return
        known = unlisted.get(key)
        if known is None or moment.is_after(known.moment):
            unlisted[key] = LastCommand(moment, view.command_id or "", unlisted=True)

    def see_waiting(self, command: Command, moment: CommandMoment) -> None:
        """Take note of a command that has no outcome yet."""
        letter = self._by_id.get(command.command_id)
        if letter is None:
            self._last_commands.see_waiting(command, moment)
            return
        letter.refuse(ReplayRefusal.AGAIN, f"{moment.outcome_id}: waiting")
        self._last_copies.see_waiting(command, self._first_moments[command.command_id], waits=False)

    def finish(self) -> list[ReplayCandidate]:
        """Judge by all that was seen, and return what is to be sent, in the order in which the commands came."""
        for each in self._not_refused():
            targets = {member[:3] for member in _members(each)}
            latest = [self._last_commands[member] for member in _members(each)]
            latest += [self._unlisted.get(key) for key in targets]
            later = [touch for touch in latest if touch is not None and touch.is_after(each.moment)]
            copies = [self._last_copies[member] for member in _members(each)]
            copies += [self._unlisted_copies.get(key) for key in targets]
            first = self._first_moment(each)
            later += [touch for touch in copies if touch is not None and touch.is_after(first)]
            if later and ReplayRefusal.OVERTAKES not in self._forced:
                touch = max(later, key=lambda touch: touch.moment.at)
                note = ", which waits" if touch.waits else ", which does not list its users" * touch.unlisted
                each.refuse(ReplayRefusal.OVERTAKES, f"{touch.command_id} ({touch.moment.outcome_id}){note}")
        # What was replayed and failed once more has a new letter, which would go behind commands that came later.
        return sorted(self._not_refused(), key=lambda each: self._first_moment(each)[:3])

    def _first_moment(self, candidate: ReplayCandidate) -> CommandMoment:
        command_id = None if candidate.command is None else candidate.command.command_id
        return self._first_moments.get(command_id or "", candidate.moment)

    @property
    def all_refused(self) -> bool:
        """Whether every letter is refused already, so that nothing that came later matters."""
        return not self._not_refused()

    def _not_refused(self) -> list[ReplayCandidate]:
        return [each for each in self.candidates if each.refusal is None]

    def _judge(self, candidate: ReplayCandidate, topic: str, now: float) -> None:
        if candidate.letter is None:
            candidate.refuse(ReplayRefusal.NO_LETTER, candidate.detail)
        elif candidate.letter.topic != topic:
            candidate.refuse(ReplayRefusal.OTHER_TOPIC, candidate.letter.topic)
        elif candidate.letter.omitted or candidate.letter.value is None:
            candidate.refuse(ReplayRefusal.INCOMPLETE, " and ".join(candidate.letter.omitted) or "value")
        elif candidate.letter.error_code == ID_REUSED:
            candidate.refuse(ReplayRefusal.OTHERS_ID, candidate.letter.error_message)
        elif isinstance(candidate.command, Rejected) and ReplayRefusal.REJECTED not in self._forced:
            candidate.refuse(ReplayRefusal.REJECTED, candidate.command.message)
        elif isinstance(candidate.command, Command) and (candidate.command.last_moment or now) < now:
            candidate.refuse(ReplayRefusal.OVER, "not_after or banned_until has passed")

    def _keep_last_of_id(self, candidate: ReplayCandidate) -> None:
        """Keep only the last letter of each command_id: an earlier one was replayed already, so it is refused."""
        command_id = None if candidate.command is None or candidate.refusal else candidate.command.command_id
        if command_id is None:
            return
        earlier = self._by_id.get(command_id)
        if earlier is not None:
            earlier.refuse(ReplayRefusal.AGAIN, f"its dead letter is {candidate.place}")
        self._by_id[command_id] = candidate
        self._first_moments.setdefault(command_id, candidate.moment)


def _order(candidate: ReplayCandidate) -> tuple[str, int, int]:
    letter = candidate.letter
    return ("", 0, 0) if letter is None else (letter.topic, letter.partition, letter.offset)


def _members(candidate: ReplayCandidate) -> Iterable[TargetMember]:
    return members_of(candidate.command) if isinstance(candidate.command, Command) else ()
