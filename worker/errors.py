# The one tree of errors. An expected failure is a value (an outcome, a Try); an exception means that the world
# or the code is broken. Foreign exceptions are translated once, at the edge of their adapter, `from exc`.

from __future__ import annotations

from dataclasses import dataclass


class WorkerError(Exception):
    """Something is wrong that no command is to blame for. The same again, unchanged, does not help, but for a BrokerError."""


@dataclass(frozen=True, slots=True)
class Problem:
    """
    One thing that is wrong with the settings.

    Attributes:
        name: The setting, as it is written (``kafka.max_gap``).
        remedy: What to do about it.
        value: What it is now; None when it is missing or secret.

    """

    name: str
    remedy: str
    value: object = None

    def __str__(self) -> str:
        shown = "" if self.value is None else f" = {self.value!r}"
        return f"{self.name}{shown}: {self.remedy}"


class SettingsError(WorkerError):
    """The settings are unsafe, contradictory or do not fit the cluster. Carries every problem found, not only the first."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = problems


class BrokerError(WorkerError):
    """Kafka refused or could not be reached. The same can be tried again, unchanged."""


class FencedError(WorkerError):
    """Another process uses this worker's transactional id or static member id. This one must stop at once."""


class SignatureError(WorkerError):
    """A UserSig cannot be made from what is configured (an empty key, a malformed identifier)."""
