# What the client promises whatever is at the other end: real sockets and the fake transport must both keep it.

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.contract.tencent.call_owner import ENDPOINT, FIRST, PROBE, RecordingCallOwner, until
from tests.contract.tencent.conftest import SHORT
from tests.fakes.tencent import CUT, HANG, NO_CONNECTION, OK, RESET, Reply, answer
from worker.domain.contract.error_codes import _CONSEQUENCES, Verdict
from worker.tencent.client_options import HttpOptions
from worker.tencent.usersig import FORCED_EVERY

if TYPE_CHECKING:
    from tests.contract.tencent.conftest import Build
    from worker.domain.effects import AttemptResult

pytestmark = pytest.mark.anyio

BUSY = answer(10002, "server internal error")
BAD_SIGNATURE = answer(70003, "signature check failed")


async def test_a_call_that_takes_effect_is_done_in_one_attempt(build: Build) -> None:
    harness = await build(answer(0, request_id="r-1"))
    owner = RecordingCallOwner()

    before = time.monotonic()
    last = await harness.client.call(owner)

    assert (last.verdict, last.http_status, last.error_code, last.error) == (Verdict.DONE, 200, 0, None)
    assert (last.request_id, last.end_unknown) == ("r-1", False)
    assert before <= last.sent_at <= last.ended_at <= time.monotonic()
    assert owner.results == [last]
    assert owner.events == ["next_attempt", "finished"]


async def test_the_request_carries_the_body_and_who_asks(build: Build) -> None:
    harness = await build(OK)

    await harness.client.call(RecordingCallOwner())

    (seen,) = harness.seen
    assert (seen.endpoint, seen.body) == (ENDPOINT, FIRST.body)
    assert set(seen.query) == {"sdkappid", "identifier", "usersig", "random", "contenttype"}
    assert (seen.query["sdkappid"], seen.query["identifier"]) == ("1400000001", "administrator")
    assert seen.query["contenttype"] == "json"
    assert 0 <= int(seen.query["random"]) < 2**32


@pytest.mark.parametrize(
    ("reply", "verdict", "error", "end_unknown"),
    [
        (answer(10004), Verdict.AMBIGUOUS, None, False),
        (answer(60002), Verdict.FATAL, None, False),
        (answer(4242), Verdict.UNKNOWN, None, False),
        (Reply(b"<html>Bad Gateway</html>", 502), Verdict.TRANSPORT, "http", True),
        (Reply(OK.body, 503), Verdict.TRANSPORT, "http", True),
        (Reply(b"Bad Request", 400), Verdict.FORBIDDEN, "http", False),
        (Reply(b"", 413), Verdict.FORBIDDEN, "http", False),
        (Reply(b"no", 403), Verdict.FORBIDDEN, "http", False),
        (Reply(b"gone", 408), Verdict.TRANSPORT, "http", True),
        (Reply(b"moved", 301, (("Location", "http://127.0.0.1:9/"),)), Verdict.TRANSPORT, "http", True),
        (Reply(b"<html>hello</html>"), Verdict.TRANSPORT, "not_json", True),
        (Reply(b""), Verdict.TRANSPORT, "not_json", True),
        (Reply(b'{"ErrorCode":"0"}'), Verdict.TRANSPORT, "not_json", True),
        (Reply(b'{"ActionStatus":"OK"}'), Verdict.TRANSPORT, "not_json", True),
        (Reply(b"[" * 60_000), Verdict.TRANSPORT, "not_json", True),
        (Reply(b'{"ErrorCode":0,"pad":"%s"}' % (b"x" * 70_000)), Verdict.TRANSPORT, "too_long", True),
        (Reply(b"<html>%s" % (b"x" * 70_000), 403), Verdict.FORBIDDEN, "too_long", False),
        (RESET, Verdict.TRANSPORT, "reset", True),
        (CUT, Verdict.TRANSPORT, "cut", True),
        (NO_CONNECTION, Verdict.TRANSPORT, "connect", False),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_every_end_of_a_request_has_one_meaning(
    build: Build, reply: Reply, verdict: Verdict, error: str | None, end_unknown: bool
) -> None:
    harness = await build(reply)
    owner = RecordingCallOwner()

    last = await harness.client.call(owner)

    assert (last.verdict, last.error, last.end_unknown) == (verdict, error, end_unknown)
    assert owner.results == [last]
    assert harness.logged == []


ELSEWHERE = "https://login.example.com:8443/sso?usersig=eJwtjMEKgkAURf9l1iHz3sw0o9AipI1ROwncTczTXlkNJhhE-55p"


@pytest.mark.parametrize(
    ("reply", "described"),
    [
        (Reply(b"", 302, (("Location", ELSEWHERE),)), "HTTP 302 to login.example.com:8443"),
        (Reply(b"", 307, (("Location", ELSEWHERE),)), "HTTP 307 to login.example.com:8443"),
        (Reply(b"", 308, (("Location", "//cdn.example.com/x"),)), "HTTP 308 to cdn.example.com"),
        (Reply(b"", 301, (("Location", "/login"),)), "HTTP 301 to another path of the same host"),
        (Reply(b"", 302), "HTTP 302 to nowhere"),
        (Reply(b" \n<html>Sign in</html>"), "HTTP 200 with a page of HTML"),
        (Reply(b'{"error":"x"}'), "HTTP 200 with JSON without an ErrorCode"),
        (Reply(b'{"ErrorCode":"0"}'), "HTTP 200 with JSON without an ErrorCode"),
        (Reply(b""), "HTTP 200 with an empty body"),
        (Reply(b"pong"), "HTTP 200 with a body that is no JSON"),
        (Reply(b"x" * 70_000), "HTTP 200 with a body longer than any answer"),
        (Reply(b"no", 403), "HTTP 403"),
        (Reply(b'{"ErrorCode":0,"ErrorInfo":"x"}', 413), "HTTP 413"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_what_answers_in_tencents_place_is_described_without_the_signature(
    build: Build, reply: Reply, described: str
) -> None:
    """A status alone says too little at 3 a.m., and the address of a redirect may hold the signature."""
    harness = await build(reply)

    last = await harness.client.call(RecordingCallOwner())

    assert last.error_info.startswith(described)
    assert "a proxy or gateway answers in Tencent's place" in last.error_info
    assert "usersig" not in last.error_info
    assert "eJ" not in last.error_info


async def test_of_a_gateway_that_reaches_nobody_the_status_is_shown(build: Build) -> None:
    harness = await build(Reply(b"<html>Bad Gateway</html>", 502))

    assert (await harness.client.call(RecordingCallOwner())).error_info == "HTTP 502"


async def test_a_request_without_an_answer_in_time_may_have_taken_effect(build: Build) -> None:
    harness = await build(HANG, options=SHORT)

    last = await harness.client.call(RecordingCallOwner())

    assert (last.verdict, last.error, last.end_unknown) == (Verdict.TRANSPORT, "timeout", True)
    assert last.ended_at - last.sent_at == pytest.approx(SHORT.timeout, abs=0.2)


async def test_a_transient_refusal_is_retried_with_the_body_of_the_next_permit(build: Build) -> None:
    harness = await build(BUSY, RESET, OK)
    owner = RecordingCallOwner(retries=5)

    last = await harness.client.call(owner)

    assert last.verdict is Verdict.DONE
    assert [result.verdict for result in owner.results] == [Verdict.RETRY, Verdict.TRANSPORT, Verdict.DONE]
    assert [seen.body for seen in harness.seen] == [
        b'{"GroupId":"g","n":%d}' % number for number in (1, 2, 3)
    ]
    assert len({seen.query["random"] for seen in harness.seen}) == 3


async def test_a_call_asks_for_a_permit_and_ends_each_attempt_in_turn(build: Build) -> None:
    harness = await build(BUSY, OK)
    owner = RecordingCallOwner(retries=1)

    await harness.client.call(owner)

    assert owner.events == ["next_attempt", "finished", "next_attempt", "finished"]


async def test_when_the_engine_wants_no_more_attempts_the_last_is_the_result(build: Build) -> None:
    harness = await build(BUSY)
    owner = RecordingCallOwner(retries=2)

    last = await harness.client.call(owner)

    assert last.verdict is Verdict.RETRY
    assert len(harness.seen) == len(owner.results) == 3
    assert last is owner.results[-1]


async def test_the_backoff_is_jittered_grows_and_is_capped(build: Build) -> None:
    harness = await build(BUSY, options=HttpOptions(first_wait=0.5, longest_backoff=4.0))

    for _ in range(30):
        await harness.client.call(RecordingCallOwner(retries=7))

    by_number = [harness.sleeps.lengths[number::7] for number in range(7)]
    for number, waits in enumerate(by_number):
        assert 0 <= min(waits) < max(waits) <= min(0.5 * 2**number, 4.0)
    assert max(by_number[0]) < max(by_number[3])


async def test_the_longer_backoff_of_a_verdict_is_capped_as_well(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A verdict with three times the usual wait waited three times the longest."""
    monkeypatch.setitem(_CONSEQUENCES, Verdict.RETRY, replace(_CONSEQUENCES[Verdict.RETRY], backoff=3.0))
    harness = await build(BUSY, options=HttpOptions(first_wait=0.5, longest_backoff=1.0))

    for _ in range(30):
        await harness.client.call(RecordingCallOwner(retries=7))

    assert 0.5 < max(harness.sleeps.lengths) <= 1.0


async def test_a_throttle_waits_as_long_as_retry_after_asks(build: Build) -> None:
    harness = await build(Reply(b"", 429, (("Retry-After", "7"),)), OK)

    last = await harness.client.call(owner := RecordingCallOwner(retries=1))

    assert last.verdict is Verdict.DONE
    assert (owner.results[0].verdict, owner.results[0].retry_after) == (Verdict.THROTTLE, 7.0)
    assert owner.results[0].end_unknown is False
    (wait,) = harness.sleeps.lengths
    assert 7.0 <= wait <= 7.0 + HttpOptions().first_wait


async def test_a_retry_after_of_hours_is_not_honoured_for_hours(build: Build) -> None:
    harness = await build(Reply(b"", 429, (("Retry-After", "36000"),)), OK)

    await harness.client.call(RecordingCallOwner(retries=1))

    assert harness.sleeps.lengths[0] <= HttpOptions().max_retry_after + HttpOptions().first_wait


async def test_a_fenced_attempt_sends_nothing_and_says_so(build: Build) -> None:
    harness = await build(OK)
    owner = RecordingCallOwner(may=lambda: False)

    last = await harness.client.call(owner)

    assert (last.verdict, last.error, last.end_unknown) == (Verdict.UNSENT, "fenced", False)
    assert owner.results == [last]
    assert harness.seen == []


async def test_a_call_that_may_send_again_later_goes_on(build: Build) -> None:
    harness = await build(OK)
    chances = iter([False, True])

    last = await harness.client.call(owner := RecordingCallOwner(retries=1, may=lambda: next(chances)))

    assert last.verdict is Verdict.DONE
    assert [result.verdict for result in owner.results] == [Verdict.UNSENT, Verdict.DONE]
    assert len(harness.seen) == 1


async def test_taking_a_call_back_while_it_waits_for_a_permit_ends_it_at_once(build: Build) -> None:
    harness = await build(BUSY)
    owner = RecordingCallOwner(retries=3)
    owner.permits.clear()

    call = asyncio.create_task(harness.client.call(owner))
    await until(lambda: owner.events.count("next_attempt") == 2)
    call.cancel()
    (ended,) = await asyncio.gather(call, return_exceptions=True)

    assert isinstance(ended, asyncio.CancelledError)
    assert len(owner.results) == len(harness.seen) == 1


async def test_a_cancelled_request_is_reported_as_one_that_may_have_taken_effect(build: Build) -> None:
    harness = await build(HANG)
    owner = RecordingCallOwner(retries=3)

    call = asyncio.create_task(harness.client.call(owner))
    await until(lambda: bool(harness.seen))
    call.cancel()
    (ended,) = await asyncio.gather(call, return_exceptions=True)

    assert isinstance(ended, asyncio.CancelledError)
    (result,) = owner.results
    assert (result.error, result.end_unknown, result.verdict) == ("cancelled", True, Verdict.TRANSPORT)


async def test_a_refused_signature_is_renewed_and_the_call_retried_without_a_pause(
    build: Build,
) -> None:
    harness = await build(BAD_SIGNATURE, OK)

    last = await harness.client.call(owner := RecordingCallOwner(retries=1))

    assert last.verdict is Verdict.DONE
    assert [result.verdict for result in owner.results] == [Verdict.RESIGN, Verdict.DONE]
    assert harness.sleeps.lengths in ([], [0.0])
    assert [notice.event for notice in harness.logged] == ["signature.renewed"]


async def test_a_signature_that_is_refused_after_its_forced_renewal_is_fatal(build: Build) -> None:
    harness = await build(BAD_SIGNATURE)

    last = await harness.client.call(owner := RecordingCallOwner(retries=9))

    assert last.verdict is Verdict.FATAL
    assert [result.verdict for result in owner.results] == [Verdict.RESIGN, Verdict.FATAL]


async def test_a_signature_that_was_accepted_may_be_refused_again_later(build: Build) -> None:
    harness = await build(BAD_SIGNATURE, OK, BAD_SIGNATURE, OK)

    verdicts = [(await harness.client.call(RecordingCallOwner(retries=1))).verdict for _ in range(2)]

    assert verdicts == [Verdict.DONE] * 2


async def test_a_signature_is_accepted_also_by_the_refusal_of_a_user(build: Build) -> None:
    harness = await build(BAD_SIGNATURE, answer(10019), BAD_SIGNATURE, OK)

    verdicts = [(await harness.client.call(RecordingCallOwner(retries=1))).verdict for _ in range(2)]

    assert verdicts == [Verdict.MEMBER, Verdict.DONE]


async def test_a_signature_that_cannot_be_renewed_yet_is_not_sent_again_at_once(build: Build) -> None:
    """While Tencent's nodes disagree about a new key, a call would send the refused signature as fast as it is answered."""
    harness = await build(BAD_SIGNATURE, OK, BAD_SIGNATURE, BAD_SIGNATURE, OK)
    await harness.client.call(RecordingCallOwner(retries=1))

    last = await harness.client.call(RecordingCallOwner(retries=9))

    assert last.verdict is Verdict.DONE
    first, *others = [pause for pause in harness.sleeps.lengths if pause]
    assert all(0.9 * FORCED_EVERY < pause <= FORCED_EVERY for pause in (first, *others))
    assert [notice.event for notice in harness.logged] == ["signature.renewed"]


async def test_calls_in_flight_when_a_signature_is_refused_all_go_again(build: Build) -> None:
    harness = await build(*[BAD_SIGNATURE] * 20, OK)
    owners = [RecordingCallOwner(retries=1) for _ in range(20)]
    ready = asyncio.Event()
    for owner in owners:
        owner.permits = ready  # no second attempt leaves before all first ones were refused

    calls = asyncio.gather(*(harness.client.call(owner) for owner in owners))
    await until(lambda: all(owner.events.count("next_attempt") == 2 for owner in owners))
    ready.set()

    assert {last.verdict for last in await calls} == {Verdict.DONE}
    assert [notice.event for notice in harness.logged] == ["signature.renewed"]


async def test_a_locked_app_ends_the_call_and_gets_no_new_signature(build: Build) -> None:
    harness = await build(answer(70050), BAD_SIGNATURE)

    locked = await harness.client.call(RecordingCallOwner(retries=9))
    refused = await harness.client.call(RecordingCallOwner())
    await harness.client.call(RecordingCallOwner(attempt=PROBE))

    assert (locked.verdict, refused.verdict) == (Verdict.LOCKED, Verdict.RESIGN)
    assert harness.logged == []


async def test_a_probe_gets_a_new_signature(build: Build) -> None:
    harness = await build(OK)

    await harness.client.call(RecordingCallOwner())
    await harness.client.call(RecordingCallOwner(attempt=PROBE))

    assert [notice.event for notice in harness.logged] == ["signature.renewed"]


async def test_texts_are_cut_and_freed_of_signatures(build: Build) -> None:
    harness = await build(OK)
    await harness.client.call(RecordingCallOwner())
    usersig = harness.seen[0].query["usersig"]

    results: list[AttemptResult] = []
    for info in (
        f"bad usersig={usersig}&random=1",
        f"{usersig} is not valid",
        f"{'x' * 500}{usersig}",
        "é" * 2000,
    ):
        harness = await build(answer(60002, info))
        results.append(await harness.client.call(RecordingCallOwner()))

    assert results[0].error_info == "bad usersig=[redacted]&random=1"
    assert results[1].error_info == "[redacted] is not valid"
    assert "eJ" not in results[2].error_info
    assert len(results[3].error_info.encode()) == 512
