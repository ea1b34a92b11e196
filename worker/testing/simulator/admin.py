# The run-time control under /__control: faults, state, figures. JSON in, JSON out; every refusal names field and remedy.
#
# It has no socket and does not know how a fault works. Keys can be set and are never shown. It has no password, so it
# refuses every page of a browser: a script of any site can reach the loopback.

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

import msgspec

from worker.testing.simulator.endpoint_specs import U32_MAX
from worker.testing.simulator.fault_store import shuts_itself_out
from worker.testing.simulator.faults import ROWS, FaultProblem, is_number, problems_of
from worker.testing.simulator.http1 import query_of
from worker.testing.simulator.reference_page import ROUTES
from worker.testing.simulator.signature import SimulatedApp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from worker.testing.simulator.auth import Authenticator
    from worker.testing.simulator.chat_state import ChatState
    from worker.testing.simulator.fault_store import FaultStore
    from worker.testing.simulator.faults import FaultValues
    from worker.testing.simulator.http1 import HttpRequest
    from worker.testing.simulator.loop_heartbeat import LoopHeartbeat
    from worker.testing.simulator.reaction_executor import ReactionExecutor

Answer = tuple[int, Any]
"""An HTTP status and the value to encode as JSON."""


class _Refused(Exception):  # noqa: N818 - it becomes an answer and never leaves this module
    """The request is refused because of these problems."""

    def __init__(self, *problems: FaultProblem) -> None:
        super().__init__(*problems)
        self.problems = problems


class AdminApi:
    """Answers the control's requests."""

    def __init__(
        self,
        apps: tuple[SimulatedApp, ...],
        store: FaultStore,
        world: ChatState,
        authenticator: Authenticator,
        executor: ReactionExecutor,
        *,
        heartbeat: LoopHeartbeat,
        clock: Callable[[], float],
        epoch: float,
        changed: Callable[[], None],
        host: str,
    ) -> None:
        self._store = store
        self._world = world
        self._authenticator = authenticator
        self._executor = executor
        self._heartbeat = heartbeat
        self._apps = {app.sdk_app_id: app for app in apps}
        self._clock = clock
        self._epoch = epoch
        self._changed = changed
        self._is_local = _is_loopback(host)
        self._routes: dict[tuple[str, str], Callable[[str, bytes], Answer]] = {
            ("GET", "/__control/healthz"): lambda _query, _body: (200, {"status": "ok"}),
            ("GET", "/__control/faults"): self._show_faults,
            ("PATCH", "/__control/faults"): self._set_faults,
            ("POST", "/__control/faults"): self._set_faults,
            ("DELETE", "/__control/faults"): self._clear_faults,
            ("GET", "/__control/state"): self._show_state,
            ("POST", "/__control/state"): self._seed_state,
            ("GET", "/__control/stats"): lambda _query, _body: (200, executor.stats(heartbeat)),
            ("DELETE", "/__control/stats"): self._forget_stats,
            ("POST", "/__control/keys"): self._set_keys,
        }

    def __repr__(self) -> str:
        return f"<AdminApi {len(self._routes)} routes>"

    def answer(self, request: HttpRequest) -> tuple[int, bytes]:
        """Return the HTTP status and the JSON body for one request."""
        method, path = request.method, request.path
        route = self._routes.get((method, path.rstrip("/")))
        status: int
        shown: Any
        if (problem := self._cross_site(request)) is not None:
            status, shown = 403, _errors(problem)
        elif route is None:
            status = 405 if any(path == known for _, known in self._routes) else 404
            known_routes = "; ".join(f"{known_method} {known}" for known_method, known, _ in ROUTES)
            shown = _errors(FaultProblem("path", f"there are: {known_routes}"))
        else:
            try:
                status, shown = route(request.query, request.body)
            except _Refused as refused:
                status, shown = 400, _errors(*refused.problems)
        return status, msgspec.json.encode(shown) + b"\n"

    def _cross_site(self, request: HttpRequest) -> FaultProblem | None:
        """Return the problem with a request that a page of another site may have sent, or None."""
        host = request.host or ""
        if self._is_local and host and not _is_loopback(_name(host)):
            return FaultProblem(
                "Host", "ask for 127.0.0.1 or localhost: another name may lead here from any site"
            )
        own = request.origin is None or request.origin.lower() == f"http://{host.lower()}"
        if not own or (request.origin is not None and not _is_address(_name(host))):
            return FaultProblem(
                "Origin", "ask without a browser: a page of another site may not control this"
            )
        return None

    def _show_faults(self, _query: str, _body: bytes) -> Answer:
        now = self._clock()
        everywhere = self._store.at(None, None, now)
        table = [
            {
                "name": row.name,
                "type": row.type_text,
                "default": row.default,
                "unit": row.unit,
                "meaning": row.meaning,
                "value": getattr(everywhere, row.name),
            }
            for row in ROWS.values()
        ]
        return 200, {"faults": table, "set": self._store.rules(now)}

    def _set_faults(self, _query: str, body: bytes) -> Answer:
        given = _object(body)
        problem = shuts_itself_out(given)
        if problem:
            raise _Refused(problem)
        now = self._clock()
        problems = self._store.put(given, now)
        if problems:
            raise _Refused(*problems)
        self._changed()
        return 200, {"set": self._store.rules(now)}

    def _clear_faults(self, _query: str, _body: bytes) -> Answer:
        self._store.clear()
        self._changed()
        return 200, {"set": []}

    def _app(self, given: object) -> SimulatedApp:
        if given is None:
            return next(iter(self._apps.values()))
        try:
            app = self._apps.get(int(str(given)))
        except ValueError:
            app = None
        if app is None:
            raise _Refused(FaultProblem("sdkappid", f"there are: {', '.join(map(str, self._apps))}"))
        return app

    def _show_state(self, query: str, _body: bytes) -> Answer:
        asked = query_of(query)
        _refuse_unknown(asked, ("sdkappid", "target"))
        app = self._app(asked.get("sdkappid"))
        if "target" not in asked:
            return 200, self._world.targets(app.sdk_app_id)
        return 200, self._world.shown(app.sdk_app_id, asked["target"], self._clock(), self._epoch)

    def _seed_state(self, _query: str, body: bytes) -> Answer:
        given = _object(body, ("sdkappid", "target", "live_bans", "rejoin"))
        app = self._app(given.get("sdkappid"))
        target, live_bans, rejoin = given.get("target"), given.get("live_bans", {}), given.get("rejoin", [])
        if not isinstance(target, str):
            raise _Refused(FaultProblem("target", "name the room"))
        if not isinstance(live_bans, dict) or not all(
            is_number(seconds) and 0 <= seconds <= U32_MAX for seconds in live_bans.values()
        ):
            raise _Refused(
                FaultProblem("live_bans", f"must be an object: user id -> seconds, from 0 to {U32_MAX}")
            )
        if not isinstance(rejoin, list) or not all(isinstance(user, str) for user in rejoin):
            raise _Refused(FaultProblem("rejoin", "must be a list of user ids"))
        now = self._clock()
        for user, seconds in live_bans.items():
            self._world.ban_live(app.sdk_app_id, target, (user,), now + seconds)
        self._world.rejoin(app.sdk_app_id, target, rejoin)
        return 200, self._world.shown(app.sdk_app_id, target, now, self._epoch)

    def _forget_stats(self, _query: str, _body: bytes) -> Answer:
        self._executor.forget(self._heartbeat)
        return 200, {}

    def _set_keys(self, _query: str, body: bytes) -> Answer:
        given = _object(body, ("sdkappid", "keys"))
        app = self._app(given.get("sdkappid"))
        keys = given.get("keys")
        if not isinstance(keys, list) or not keys or not all(isinstance(key, str) and key for key in keys):
            raise _Refused(
                FaultProblem("keys", "must be a list of one or more secret keys, all of which are accepted")
            )
        changed = SimulatedApp(app.sdk_app_id, tuple(keys), app.identifiers)
        self._apps[app.sdk_app_id] = changed
        self._authenticator.add_app(changed)
        return 200, {"sdkappid": app.sdk_app_id, "keys": len(keys)}


def _errors(*problems: FaultProblem) -> dict[str, Any]:
    return {"errors": [{"field": problem.field, "remedy": problem.remedy} for problem in problems]}


def _name(host: str) -> str:
    """Strip the port from a ``Host``."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() else host).strip("[]")


def _is_address(name: str) -> bool:
    """Return whether a host name cannot be pointed here by somebody else's DNS."""
    return _is_loopback(name) or _ip(name) is not None


def _is_loopback(name: str) -> bool:
    address = _ip(name)
    return name.lower() == "localhost" if address is None else address.is_loopback


def _ip(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _refuse_unknown(given: Iterable[str], known: tuple[str, ...]) -> None:
    """Raise _Refused for a name that would be ignored: it is misspelt."""
    for name in given:
        if name not in known:
            raise _Refused(FaultProblem(name, f"there are: {', '.join(known)}"))


def _object(body: bytes, known: tuple[str, ...] = ()) -> dict[str, Any]:
    """Decode a body. With ``known``, it may hold no other names."""
    try:
        given = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _Refused(FaultProblem("body", "must be JSON")) from None
    if not isinstance(given, dict):
        raise _Refused(FaultProblem("body", "must be a JSON object"))
    if known:
        _refuse_unknown(given, known)
    return given


def check_start(faults: FaultValues) -> list[FaultProblem]:
    """Return why a simulator cannot start with these faults, if it cannot."""
    if faults.outage == "refuse":
        remedy = "refuse cannot be set at the start, because nothing could end it: set it with for_seconds while it runs"
        return [FaultProblem("outage", remedy)]
    return problems_of(faults)
