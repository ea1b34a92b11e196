# Whether an earlier and a later command of the same member make one of them needless: the same id, the same effect, or one that undoes
# the other's.
#
# Questions about commands and their results; the answers are acted on in member_ordering.py.

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.domain.contract.actions import ActionKind
from worker.domain.contract.outcomes import DONE_FOR_ID, DONE_FOR_SHADOW_ID, RememberedCommandId

if TYPE_CHECKING:
    from worker.domain.contract.command_decoding import Command
    from worker.domain.engine_settings import EngineSettings
    from worker.domain.progress.open_commands import MemberTask, OpenCommand


def done_for(earlier: OpenCommand | RememberedCommandId, user: str) -> str | None:
    """Return the outcome_id of the command that was carried out for this user under the same command id; None if none was."""
    if isinstance(earlier, RememberedCommandId):
        return earlier.outcome_id if earlier.done is None or user in earlier.done else None
    result = next(task.result for task in earlier.tasks if task.user == user)
    settled = DONE_FOR_SHADOW_ID if earlier.was_always_in_shadow else DONE_FOR_ID
    if result is not None and (result.status in settled or result.duplicate_of is not None):
        return result.duplicate_of or earlier.outcome_id
    return None


def may_coalesce(later: MemberTask, waiting: MemberTask) -> bool:
    """Return whether the later task may follow the waiting one, on its call."""
    command = later.command
    return (
        command.effect_key == waiting.command.effect_key
        and command.spec.not_after is None
        and waiting.command.spec.not_after is None
        and may_share_result(command.spec)
    )


def may_share_result(command: Command) -> bool:
    """
    Return whether a command may get the result of another one with the same effect.

    What a duration of 0 means is not known: it is passed through, and never taken for the same effect.
    """
    return command.parameters.duration != 0


def kept_for(command: Command, settings: EngineSettings, wall: float) -> float:
    """
    Return for how many seconds a repeat of this effect, which is in place at ``wall`` (seconds since 1970), needs no call: 0 for an
    event, and for a state that others change as well; for a ban at most a tenth of its duration.
    """
    action, duration = command.action, command.parameters.duration
    if action.kind is ActionKind.EVENT or duration == 0:
        return 0.0
    if not settings.all_effects and action.is_changed_elsewhere(command.parameters.member_info):
        return 0.0
    keep = settings.effect_window
    if duration is not None:
        keep = min(keep, duration / 10)
    if command.banned_until is not None:
        keep = min(keep, (command.banned_until - wall) / 10)
    return keep


def overwrites(later: Command, earlier: Command) -> bool:
    """
    Return whether carrying out ``later`` alone leaves the member as carrying out ``earlier`` and then ``later`` would.

    A command that may expire overwrites nothing: it may never be sent.
    """
    if later.not_after is not None or later.banned_until is not None or later.parameters.duration == 0:
        return False
    action = later.action
    if action.kind is not ActionKind.STATE or earlier.action.kind is not ActionKind.STATE:
        return False
    if action.name in earlier.action.undone_by:
        return True
    if action is not earlier.action:
        return False
    info = later.parameters.member_info
    return info is None or None not in (info.name_card, info.role, info.custom_info)
