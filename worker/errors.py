# The one tree of errors, and the problems that a SettingsError lists.
#
# An expected failure is a value (an outcome, an AttemptResult); an exception means that the world or the code is broken.
# Foreign exceptions are translated once, at the edge of their adapter, `from exc`. Not here: what is logged of an error.

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from worker.redaction import without_keys

SHOWN: Final = 200
"""The most characters shown of a setting's name or value: more is no help, and may be a megabyte."""


class WorkerError(Exception):
    """Something is wrong that no command is to blame for. Retrying helps only for a BrokerError."""


@dataclass(frozen=True, slots=True)
class SettingProblem:
    """
    One thing that is wrong with the settings.

    What looks like a key is removed from all its texts: somebody may have put one into the wrong field.

    Attributes:
        name: The setting as written in the file (``kafka.max_gap``).
        remedy: What to do about it.
        value: The current value; None when it is missing or secret.

    """

    name: str
    remedy: str
    value: object = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", without_keys(self.name))
        object.__setattr__(self, "remedy", without_keys(self.remedy))
        if self.value is not None and not isinstance(self.value, bool | int | float):
            written = self.value if isinstance(self.value, str) else repr(self.value)
            if (shown := without_keys(written)) != written:
                object.__setattr__(self, "value", shown)

    @property
    def setting(self) -> str:
        """The name with its value, safe for terminals and logs: short, and without control characters."""
        return _short(self.name) if self.value is None else f"{_short(self.name)} = {_spelled(self.value)}"

    def __str__(self) -> str:
        return f"{self.setting}: {self.remedy}"


def _short(text: str) -> str:
    plain = "".join(character if character.isprintable() else "\ufffd" for character in text[: SHOWN + 1])
    return plain if len(text) <= SHOWN else f"{plain[:SHOWN]}…"


def _spelled(value: object) -> str:
    if isinstance(value, str):
        return repr(value) if len(value) <= SHOWN else f"{value[:SHOWN]!r}… ({len(value):,} characters)"
    if isinstance(value, int) and abs(value) >= 1 << 64:
        # It may be a key without quotes; and Python refuses to convert very long integers to text.
        return "a number beyond all bounds"
    return _short(repr(value))


class SettingsError(WorkerError):
    """The settings are unsafe, contradict each other or do not fit the cluster. Carries every problem found."""

    def __init__(self, problems: list[SettingProblem]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = problems


class BrokerError(WorkerError):
    """Kafka refused a request or could not be reached. The same request may be retried."""


class ControlTopicError(WorkerError):
    """There is no control topic, or none that can be followed. The argument says what to do about it."""


class CommittedOffsetLostError(BrokerError):
    """A partition's commit is gone and what was done is uncertain: a person decides where to resume (``remedy`` says how)."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.remedy = remedy


class FencedError(WorkerError):
    """Another process uses this worker's transactional id or static member id. This one must stop at once."""


class SignatureError(WorkerError):
    """No UserSig can be made from the configuration (an empty key, a malformed identifier)."""


class FileError(WorkerError):
    """A file cannot be used. The argument is the reason, which shows nothing of the file's content."""
