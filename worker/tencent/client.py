# One call with all its attempts: sign, send, judge, and retry while the engine wants it.
#
# tenacity owns the retries: their loop and the waiting. The engine owns the permits, the bodies, the fence, and whether there is
# another attempt; the client asks it through a CallOwner. Not here: connections (http_transport.py), signatures (usersig.py).

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import quote

from tenacity import AsyncRetrying, retry_if_result, wait_random_exponential

from worker.domain.contract.error_codes import KEY_CODES, Verdict, judge
from worker.domain.effects import AttemptResult, LogEvent
from worker.redaction import Redaction
from worker.tencent import answers
from worker.tencent.http_transport import CONNECTION_TRIES, HttpTransport, OutboundRequest
from worker.tencent.usersig import UserSigSigner

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from tenacity import RetryCallState

    from worker.domain.effects import Attempt
    from worker.tencent.client_options import AppCredentials, HttpOptions
    from worker.tencent.http_transport import HttpExchange, Transport
    from worker.tencent.usersig import SignedUserSig

LOG_SECONDS: Final = 60.0
"""How often it is logged that no connection can be made, for each app."""


class CallOwner(Protocol):
    """What the client asks the engine about one call: a question before, at and after each attempt."""

    async def next_attempt(self) -> Attempt:
        """Wait until the next attempt may go, and return it. Cancelled when the engine cancels the call."""

    def may_send(self) -> bool:
        """Return whether the request may still leave. Asked immediately before it is written."""

    def finished(self, result: AttemptResult) -> bool:
        """Report the end of the attempt, even of a cancelled one. Return whether the engine wants another."""


class Client:
    """
    Tencent's REST API for all configured apps.

    Promises: ``call`` returns a result whatever the network does; every HTTP request ends in ``finished``, even a
    cancelled one; nothing is sent unless ``may_send`` allowed it at that moment. The constructor raises SignatureError when
    an app can have no valid signature; nothing raises it later.

    ``redaction`` learns each key and signature before its first use, and removes them from answers.
    """

    def __init__(
        self,
        apps: Iterable[AppCredentials],
        options: HttpOptions,
        notice: Callable[[LogEvent], None] | None = None,
        *,
        redaction: Redaction | None = None,
        transport: Transport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        bits: Callable[[int], int] = random.getrandbits,
    ) -> None:
        self._apps = {app.name: app for app in apps}
        self._options = options
        self._notice = notice
        self._sleep = sleep
        self._bits = bits
        self._redaction = redaction or Redaction()
        self._signers = {
            name: UserSigSigner(app, notice=notice, redaction=self._redaction)
            for name, app in self._apps.items()
        }
        self._transport = transport or HttpTransport(options, self._report, self._redaction.learn)
        self._logged_at: dict[str, float] = {}
        self._query_prefixes: dict[str, tuple[int, str]] = {}
        self._backoff = wait_random_exponential(multiplier=options.first_wait, max=options.longest_backoff)

    @property
    def signers(self) -> Mapping[str, UserSigSigner]:
        """The signer of each app, for the metrics."""
        return self._signers

    async def call(self, owner: CallOwner) -> AttemptResult:
        """Make one call with all its attempts; return the result of the last."""
        result, wants_another = await self._attempt(owner)
        return await self._retry(result, owner) if wants_another else result

    async def aclose(self) -> None:
        """Close every connection. No call may be in flight."""
        await self._transport.aclose()

    def __repr__(self) -> str:
        return f"<Client of {', '.join(self._apps)}>"

    async def _attempt(self, owner: CallOwner) -> tuple[AttemptResult, bool]:
        """Make one attempt. Return its result, and whether the engine wants another."""
        result = await self._perform(await owner.next_attempt(), owner)
        return result, owner.finished(result)

    async def _retry(self, first: AttemptResult, owner: CallOwner) -> AttemptResult:
        """Retry until the engine wants no further attempt. ``first`` is the result of the first one, which is made already."""
        # Most calls end with their first attempt and never come here: tenacity's loop is a tenth of such a call's CPU.
        already_made: tuple[AttemptResult, bool] | None = (first, True)

        async def attempt() -> tuple[AttemptResult, bool]:
            nonlocal already_made
            made, already_made = already_made, None
            return made or await self._attempt(owner)

        attempts = AsyncRetrying(retry=retry_if_result(_wants_another), wait=self._wait, sleep=self._sleep)
        try:
            last: AttemptResult
            last, _ = await attempts(attempt)
        finally:
            # Its state holds methods of `attempts`: only the garbage collector would free this cycle.
            attempts.iter_state.reset()
        return last

    async def _perform(self, attempt: Attempt, owner: CallOwner) -> AttemptResult:
        signer = self._signers[attempt.app]
        if attempt.probe:
            signer.refresh_for_probe()
        signed = signer.signature()
        exchange = await self._exchange(attempt, owner, signed)
        if exchange.detail is not None:
            self._log_no_connection(attempt.app, exchange)
        if exchange.unforeseen is not None:
            self._report("request.failed_strangely", endpoint=attempt.endpoint, what=exchange.unforeseen)
        return self._result(exchange, signer, signed)

    async def _exchange(self, attempt: Attempt, owner: CallOwner, signed: SignedUserSig) -> HttpExchange:
        app = self._apps[attempt.app]
        for _ in range(CONNECTION_TRIES):
            query = self._query(app, signed)
            outbound = OutboundRequest(query, attempt.body, owner.may_send)
            began = time.monotonic()
            try:
                exchange = await self._transport.post(app, attempt.endpoint, outbound)
            except asyncio.CancelledError:
                owner.finished(_cancelled(outbound, began))
                raise
            if not outbound.stale:
                break
            # Nothing was sent, so the same attempt may take another connection.
        return exchange

    def _query(self, app: AppCredentials, signed: SignedUserSig) -> str:
        serial, prefix = self._query_prefixes.get(app.name, (0, ""))
        if serial != signed.serial:
            prefix = (
                f"sdkappid={app.sdk_app_id}&identifier={quote(app.identifier, safe='')}"
                f"&usersig={signed.value}&contenttype=json&random="
            )
            self._query_prefixes[app.name] = (signed.serial, prefix)
        return f"{prefix}{self._bits(32)}"

    def _result(self, exchange: HttpExchange, signer: UserSigSigner, signed: SignedUserSig) -> AttemptResult:
        if exchange.status is None:
            return _unanswered(exchange)
        body = exchange.body if exchange.error is None else None
        answer = None if body is None else answers.read(body, self._redaction)
        code = None if answer is None else answer.error_code
        error, info = exchange.error, "" if answer is None else answer.error_info
        if answer is None or not 200 <= exchange.status < 300:
            error = error or ("not_json" if 200 <= exchange.status < 300 else "http")
            info = answers.describe_foreign(exchange.status, body, exchange.location, self._redaction)
        verdict = _refine_verdict(judge(exchange.status, code), code, signer, signed.serial)
        pause = answers.retry_after(exchange.retry_after, time.time(), self._options.max_retry_after)
        if verdict is Verdict.RESIGN:
            pause = signer.pause(signed.serial)
        return AttemptResult(
            sent_at=exchange.sent_at,
            ended_at=exchange.ended_at,
            verdict=verdict,
            http_status=exchange.status,
            error_code=code,
            error_info=info,
            request_id=None if answer is None else answer.request_id,
            error=error,
            end_unknown=error is not None and not _turned_away(exchange.status),
            retry_after=pause,
        )

    def _wait(self, state: RetryCallState) -> float:
        assert state.outcome is not None
        last: AttemptResult = state.outcome.result()[0]
        backoff = min(last.verdict.backoff * self._backoff(state), self._options.longest_backoff)
        return backoff + (last.retry_after or 0.0)

    def _log_no_connection(self, app: str, exchange: HttpExchange) -> None:
        now = time.monotonic()
        if now >= self._logged_at.get(app, float("-inf")) + LOG_SECONDS:
            self._logged_at[app] = now
            self._report("connection.refused", app=app, error=exchange.error, reason=exchange.detail)

    def _report(self, event: str, **fields: object) -> None:
        if self._notice is not None:
            self._notice(LogEvent(event=event, level="error", fields=fields))


def _wants_another(made: tuple[AttemptResult, bool]) -> bool:
    _, wants_another = made
    return wants_another


def _refine_verdict(verdict: Verdict, code: int | None, signer: UserSigSigner, serial: int) -> Verdict:
    """Report the verdict to the signer, and refine it by what the signer knows: whether another signature can help."""
    if verdict.proves_life:
        signer.accepted(serial)
    elif verdict is Verdict.RESIGN:
        return verdict if signer.refused(serial) else Verdict.FATAL
    elif verdict is Verdict.LOCKED:
        signer.lock()
    elif code in KEY_CODES and signer.outdated(serial):
        return Verdict.RESIGN
    return verdict


def _turned_away(status: int) -> bool:
    # Whoever answers 4xx has not forwarded the request; but a 408 may concern the connection and not the request.
    return 400 <= status < 500 and status != 408


def _unanswered(exchange: HttpExchange) -> AttemptResult:
    return AttemptResult(
        sent_at=exchange.sent_at,
        ended_at=exchange.ended_at,
        verdict=Verdict.UNSENT if exchange.error == "fenced" else judge(None, None),
        error=exchange.error,
        error_info=exchange.detail or "",
        end_unknown=exchange.left,
    )


def _cancelled(outbound: OutboundRequest, began: float) -> AttemptResult:
    return AttemptResult(
        sent_at=began if outbound.sent_at is None else outbound.sent_at,
        ended_at=time.monotonic(),
        verdict=judge(None, None),
        error="cancelled",
        end_unknown=outbound.left,
    )
