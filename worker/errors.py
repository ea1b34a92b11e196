# The one tree of errors. An expected failure is a value (an outcome, a Try); an exception means that the world
# or the code is broken. Foreign exceptions are translated once, at the edge of their adapter, `from exc`.

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from worker.redaction import without_keys

SHOWN: Final = 200
"""The most characters that are shown of a setting's name or value: more is no help, and may be a megabyte."""


class WorkerError(Exception):
    """Something is wrong that no command is to blame for. The same again, unchanged, does not help, but for a BrokerError."""


@dataclass(frozen=True, slots=True)
class Problem:
    """
    One thing that is wrong with the settings. What looks like a key is in none of its texts: it may be in the wrong field.

    Attributes:
        name: The setting, as it is written (``kafka.max_gap``).
        remedy: What to do about it.
        value: What it is now; None when it is missing or secret.

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
        """The name with its value, as a terminal and a log may show them: short, and without control characters."""
        return _short(self.name) if self.value is None else f"{_short(self.name)} = {_spelled(self.value)}"

    def __str__(self) -> str:
        return f"{self.setting}: {self.remedy}"


def _short(text: str) -> str:
    plain = "".join(character if character.isprintable() else "\ufffd" for character in text[: SHOWN + 1])
    return plain if len(text) <= SHOWN else f"{plain[:SHOWN]}…"


def _spelled(value: object) -> str:
    if isinstance(value, str):
        return repr(value) if len(value) <= SHOWN else f"{value[:SHOWN]!r}… ({len(value):,} characters)"
    if (
        isinstance(value, int) and abs(value) >= 1 << 64
    ):  # it may be a key without quotes, and Python refuses to spell very long ones
        return "a number beyond all bounds"
    return _short(repr(value))


class SettingsError(WorkerError):
    """The settings are unsafe, contradictory or do not fit the cluster. Carries every problem found, not only the first."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = problems


class BrokerError(WorkerError):
    """Kafka refused or could not be reached. The same can be tried again, unchanged."""


class CommitLostError(BrokerError):
    """A partition's commit is gone, and what was done is not known for certain: a person says where to go on (``remedy``)."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.remedy = remedy


class FencedError(WorkerError):
    """Another process uses this worker's transactional id or static member id. This one must stop at once."""


class SignatureError(WorkerError):
    """A UserSig cannot be made from what is configured (an empty key, a malformed identifier)."""


class FileError(WorkerError):
    """A file cannot be read as what it is needed for. The argument is the reason, which shows nothing of what is in it."""
