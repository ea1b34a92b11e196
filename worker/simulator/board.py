# Which faults are in force, for which endpoint and target, until when.
#
# Values only: it is told the time, and it refuses by returning problems. What a fault does stands in judge.py.

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from worker.simulator.faults import ROWS, Faults, Problem, read
from worker.simulator.pages import PAGES

if TYPE_CHECKING:
    from collections.abc import Mapping

Scope = tuple[str | None, str | None]
"""(endpoint, target); None is every one."""

LONGEST_SECONDS = 86_400.0
"""The longest `for_seconds`: a day, so that a slip of the keyboard cannot become a forgotten fault."""


@dataclass(slots=True)
class _Setting:
    """
    The value of one fault in one scope: one that stays, and one that runs out and stands above it.
    """

    lasting: object = None
    passing: object = None
    until: float = 0.0

    def value(self, now: float) -> object:
        return self.passing if self.passing is not None and now < self.until else self.lasting


@dataclass(slots=True)
class Board:
    """
    The faults in force.

    The narrowest scope wins: endpoint and target, then target, then endpoint, then all. Within a scope the last value
    set wins; a value set for some seconds gives way to the one before it when its time is over.
    """

    start: Faults
    _scopes: dict[Scope, dict[str, _Setting]] = field(default_factory=dict)
    _targets: frozenset[str | None] = frozenset()
    _known: dict[Scope, Faults] = field(default_factory=dict)
    _known_until: float = float("inf")

    def at(self, endpoint: str | None, target: str | None, now: float) -> Faults:
        """
        The faults in force for one endpoint and target.
        """
        if now >= self._known_until:
            self._forget(now)
        scope = (endpoint, target if target in self._targets else None)
        faults = self._known.get(scope)
        if faults is None:
            faults = self._known[scope] = self._resolve(scope, now)
        return faults

    def put(
        self,
        values: "Mapping[str, object]",
        now: float,
        *,
        endpoint: str | None = None,
        target: str | None = None,
        for_seconds: float | None = None,
    ) -> list[Problem]:
        """
        Set faults, all or none; None as a value takes back what this scope had set. Returns what is wrong, if anything.
        """
        problems = [] if endpoint is None or endpoint in PAGES else [_unknown_endpoint(endpoint)]
        if for_seconds is not None and not 0 < for_seconds <= LONGEST_SECONDS:
            problems.append(
                Problem("for_seconds", f"must be a number above 0 and up to {LONGEST_SECONDS:.0f}")
            )
        taken: dict[str, object] = {}
        for name, value in values.items():
            if value is None and name in ROWS:
                taken[name] = None
                continue
            taken[name], problem = read(name, value)
            if problem:
                problems.append(problem)
        if not problems:
            self._set((endpoint, target), taken, now, for_seconds)
        return problems

    def clear(self) -> None:
        """
        Back to the faults of the start.
        """
        self._scopes.clear()
        self._forget(0.0)

    def rules(self, now: float) -> list[dict[str, Any]]:
        """
        What was set since the start and is still in force, to be shown.
        """
        return [
            {
                "endpoint": endpoint,
                "target": target,
                "fault": name,
                "value": setting.value(now),
                "seconds_left": round(setting.until - now, 3)
                if setting.passing is not None and now < setting.until
                else None,
            }
            for (endpoint, target), settings in self._scopes.items()
            for name, setting in settings.items()
            if setting.value(now) is not None
        ]

    def next_change(self, now: float) -> float | None:
        """
        When the next passing fault runs out, or None.
        """
        times = [s.until for settings in self._scopes.values() for s in settings.values() if s.until > now]
        return min(times, default=None)

    def _set(self, scope: Scope, taken: dict[str, object], now: float, for_seconds: float | None) -> None:
        settings = self._scopes.setdefault(scope, {})
        for name, value in taken.items():
            setting = settings.setdefault(name, _Setting())
            if value is None:
                del settings[name]
            elif for_seconds is None:
                settings[name] = _Setting(lasting=value)
            else:
                settings[name] = _Setting(setting.lasting, value, now + for_seconds)
        if not settings:
            del self._scopes[scope]
        self._forget(now)

    def _resolve(self, scope: Scope, now: float) -> Faults:
        endpoint, target = scope
        values: dict[str, Any] = {}
        for wider in dict.fromkeys(((None, None), (endpoint, None), (None, target), scope)):
            for name, setting in self._scopes.get(wider, {}).items():
                value = setting.value(now)
                if value is not None:
                    values[name] = value
        return dataclasses.replace(self.start, **values) if values else self.start

    def _forget(self, now: float) -> None:
        for scope, settings in list(self._scopes.items()):
            for name in [name for name, setting in settings.items() if setting.value(now) is None]:
                del settings[name]
            if not settings:
                del self._scopes[scope]
        self._known.clear()
        self._targets = frozenset(target for _, target in self._scopes)
        soonest = self.next_change(now)
        self._known_until = float("inf") if soonest is None else soonest


def _unknown_endpoint(endpoint: str) -> Problem:
    return Problem("endpoint", f"there is no {endpoint!r}; there are: {', '.join(PAGES)}")
