# Which faults are in force, for which endpoint and target, until when.
#
# Pure: the time is an argument, and a refusal is a list of problems. What a fault does is in decision.py.

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from worker.testing.simulator.endpoint_specs import SPECS
from worker.testing.simulator.faults import LONGEST_SECONDS, ROWS, FaultProblem, is_number, read

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.testing.simulator.faults import FaultValues

LIMITS: Final = ("endpoint", "target", "for_seconds")
"""The names that limit the faults set together with them."""

Scope = tuple[str | None, str | None]
"""(endpoint, target); None stands for all."""


@dataclass(slots=True)
class _Setting:
    """The value of one fault in one scope: a lasting one, and a temporary one that overrides it."""

    lasting: object = None
    temporary: object = None
    until: float = 0.0

    def value(self, now: float) -> object:
        return self.temporary if self.temporary is not None and now < self.until else self.lasting


@dataclass(slots=True)
class FaultStore:
    """
    The faults in force.

    The narrowest scope wins: endpoint and target, then target, then endpoint, then all. Within a scope the latest value
    wins; a value set for some seconds reverts to the one before it when its time is over.
    """

    start: FaultValues
    _scopes: dict[Scope, dict[str, _Setting]] = field(default_factory=dict)
    _targets: frozenset[str | None] = frozenset()
    _known: dict[Scope, FaultValues] = field(default_factory=dict)
    _known_until: float = float("inf")

    def at(self, endpoint: str | None, target: str | None, now: float) -> FaultValues:
        """Return the faults in force for one endpoint and target."""
        if now >= self._known_until:
            self._forget(now)
        scope = (endpoint, target if target in self._targets else None)
        faults = self._known.get(scope)
        if faults is None:
            faults = self._known[scope] = self._resolve(scope, now)
        return faults

    def put(self, given: Mapping[str, object], now: float) -> list[FaultProblem]:
        """
        Set faults by name, all or none. The value None removes what this scope had set.

        ``endpoint`` and ``target`` limit the scope, ``for_seconds`` the time. Returns what is wrong, if anything; then
        nothing is set.
        """
        problems = _limits_at_fault(given)
        values: dict[str, object] = {}
        for name, value in given.items():
            if name in LIMITS:
                continue
            if value is None and name in ROWS:
                values[name] = None
                continue
            values[name], problem = read(name, value)
            if problem:
                problems.append(problem)
        if not values:
            problems.append(FaultProblem("faults", f"name at least one fault; there are: {', '.join(ROWS)}"))
        if not problems:
            endpoint, target, for_seconds = (given.get(name) for name in LIMITS)
            scope = (str(endpoint) if endpoint else None, str(target) if target else None)
            self._set(scope, values, now, for_seconds if isinstance(for_seconds, (int, float)) else None)
        return problems

    def clear(self) -> None:
        """Return to the faults of the start."""
        self._scopes.clear()
        self._forget(0.0)

    def rules(self, now: float) -> list[dict[str, Any]]:
        """Return what was set since the start and is still in force, as JSON shows it."""
        return [
            {
                "endpoint": endpoint,
                "target": target,
                "fault": name,
                "value": setting.value(now),
                "seconds_left": round(setting.until - now, 3)
                if setting.temporary is not None and now < setting.until
                else None,
            }
            for (endpoint, target), settings in self._scopes.items()
            for name, setting in settings.items()
            if setting.value(now) is not None
        ]

    def next_change(self, now: float) -> float | None:
        """Return when the next temporary fault expires, or None."""
        times = [s.until for settings in self._scopes.values() for s in settings.values() if s.until > now]
        return min(times, default=None)

    def _set(self, scope: Scope, values: dict[str, object], now: float, for_seconds: float | None) -> None:
        settings = self._scopes.setdefault(scope, {})
        for name, value in values.items():
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

    def _resolve(self, scope: Scope, now: float) -> FaultValues:
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


def _limits_at_fault(given: Mapping[str, object]) -> list[FaultProblem]:
    endpoint, target, for_seconds = (given.get(name) for name in LIMITS)
    problems = []
    if endpoint is not None and not (isinstance(endpoint, str) and endpoint in SPECS):
        problems.append(FaultProblem("endpoint", f"there is no {endpoint!r}; there are: {', '.join(SPECS)}"))
    if target is not None and not (isinstance(target, str) and target):
        problems.append(FaultProblem("target", "must be the id of a group or room"))
    if for_seconds is not None and not (is_number(for_seconds) and 0 < for_seconds <= LONGEST_SECONDS):
        problems.append(
            FaultProblem("for_seconds", f"must be a number above 0 and up to {LONGEST_SECONDS:.0f}")
        )
    return problems


def shuts_itself_out(given: Mapping[str, object]) -> FaultProblem | None:
    """Return the problem with faults that would make the control unreachable for good, or None."""
    if given.get("outage") != "refuse" or any(given.get(limit) is not None for limit in LIMITS):
        return None
    return FaultProblem("for_seconds", "say for how long: the control is unreachable while nothing listens")
