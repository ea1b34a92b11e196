# The one tree of errors. An expected failure is a value (an outcome, a Try); an exception means that the world
# or the code is broken. Foreign exceptions are translated once, at the edge of their adapter, `from exc`.

from dataclasses import dataclass
from typing import ClassVar


class WorkerError(Exception):
    """
    Something is wrong that no command is to blame for.
    """

    can_retry: ClassVar[bool] = False
    """Whether doing the same again, unchanged, can help."""


@dataclass(frozen=True, slots=True)
class Problem:
    """
    One thing that is wrong with the settings.

    Attributes:
        name: The setting, as it is written (``kafka.max_gap``).
        mend: What to do about it.
        value: What it is now; None when it is missing or secret.

    """

    name: str
    mend: str
    value: object = None

    def __str__(self) -> str:
        shown = "" if self.value is None else f" = {self.value!r}"
        return f"{self.name}{shown}: {self.mend}"


class SettingsError(WorkerError):
    """
    The settings are unsafe, contradictory or do not fit the cluster. Carries every problem found, not only the first.
    """

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = problems


class BrokerError(WorkerError):
    """
    Kafka refused or could not be reached; the same can be tried again.
    """

    can_retry = True


class FencedError(WorkerError):
    """
    Another process uses this worker's transactional id or static member id. This one must stop at once.
    """


class SignatureError(WorkerError):
    """
    A UserSig cannot be made from what is configured (an empty key, a malformed identifier).
    """
