# Authentication: the URL's parameters, the app, the signature, and the faults that lock an app out.
#
# Pure except for the count of refused signatures. The body of a request is not examined here.

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from worker.testing.simulator.api_answer import refused
from worker.testing.simulator.endpoint_specs import U32_MAX
from worker.testing.simulator.faults import ROWS
from worker.testing.simulator.signature import SignatureVerifier

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from worker.testing.simulator.api_answer import ApiAnswer
    from worker.testing.simulator.faults import FaultValues
    from worker.testing.simulator.signature import SimulatedApp

LOCK_SECONDS: Final = 60.0
"""How long 70050 lasts, and the window in which refused signatures are counted (its text says one minute)."""

_SIGNATURE_SWITCHES: Final = ("signature_expired", "wrong_key")
_SWITCHES: Final = tuple(name for name, row in ROWS.items() if row.code and name not in _SIGNATURE_SWITCHES)


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """One call to the API, as read from HTTP. ``query`` holds the UserSig: never log it."""

    method: str
    endpoint: str
    query: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


class Authenticator:
    """Admits the requests of known apps."""

    def __init__(self, apps: Iterable[SimulatedApp]) -> None:
        self._apps: dict[str, tuple[SimulatedApp, SignatureVerifier]] = {}
        self._refused: defaultdict[int, deque[float]] = defaultdict(deque)
        self._locked_until: dict[int, float] = {}
        for app in apps:
            self.add_app(app)

    def __repr__(self) -> str:
        return f"<Authenticator {len(self._apps)} apps>"

    def add_app(self, app: SimulatedApp) -> None:
        """Register an app, or replace its keys."""
        self._apps[str(app.sdk_app_id)] = (app, SignatureVerifier(app))

    def app(self, request: ApiRequest) -> int:
        """Return the SDKAppID that a request names, or 0 if it is not known."""
        known = self._apps.get(request.query.get("sdkappid", ""))
        return known[0].sdk_app_id if known else 0

    def check(self, request: ApiRequest, faults: FaultValues, at: float, wall: float) -> ApiAnswer | None:
        """
        Return why a request is refused, or None to admit it. Counts refused signatures.

        ``at`` is monotonic, ``wall`` seconds since 1970.
        """
        code = _malformed(request)
        if code:
            return refused(code)
        known = self._apps.get(request.query["sdkappid"])
        if known is None:
            return refused(70020)
        app, verifier = known
        if at < self._locked_until.get(app.sdk_app_id, at):
            return refused(70050, "lock_after")
        switched = next((name for name in _SIGNATURE_SWITCHES if getattr(faults, name)), None)
        identifier = request.query["identifier"]
        code = (
            ROWS[switched].code
            if switched
            else verifier.check(request.query.get("usersig", ""), identifier, wall)
        )
        if code:
            self._count_refused(app.sdk_app_id, faults.lock_after, at)
            return refused(code, switched)
        if identifier not in app.identifiers:
            return refused(60010)
        switched = next((name for name in _SWITCHES if getattr(faults, name)), None)
        return refused(ROWS[switched].code, switched) if switched else None

    def _count_refused(self, app: int, lock_after: int, at: float) -> None:
        if not lock_after:
            return
        stamps = self._refused[app]
        stamps.append(at)
        while at - stamps[0] >= LOCK_SECONDS or len(stamps) > lock_after:
            stamps.popleft()
        if len(stamps) >= lock_after:
            self._locked_until[app] = at + LOCK_SECONDS
            stamps.clear()


def _malformed(request: ApiRequest) -> int:
    # The order is ours: the pages only say that each of them is mandatory.
    query = request.query
    if request.method != "POST" or query.get("contenttype") != "json" or not _is_u32(query.get("random", "")):
        return 60002
    if "sdkappid" not in query:
        return 60012
    if not _is_u32(query["sdkappid"]):
        return 60006
    return 0 if query.get("identifier") else 60004


def _is_u32(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= U32_MAX
