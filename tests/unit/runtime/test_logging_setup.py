# Logs: no way of telling a secret leads past the redaction, and no way of telling anything ends the worker.

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
import threading
import traceback
import warnings
from base64 import b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

import httpx
import pytest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st
from TLSSigAPIv2 import TLSSigAPIv2

from tests.restored_logging import restored_logging
from worker.broker.msk_iam import signed
from worker.cli.app import main
from worker.domain.effects import LogEvent
from worker.errors import SettingProblem, SettingsError
from worker.redaction import HIDDEN, Redaction
from worker.runtime.logging_setup import LIBRARIES, LONGEST_TEXT, configure_logging

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from worker.runtime.logging_setup import Log

KEY = "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e"
SIGNATURE = TLSSigAPIv2(1400000001, KEY).gen_sig("administrator", 86_400)
PASSWORD = 'pass"word\\with ünusual&signs'
URL = f"https://console.tim.qq.com/v4/s/c?sdkappid=1&identifier=administrator&usersig={SIGNATURE}&random=7&contenttype=json"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@dataclass
class CapturedLog:
    """A log and what it wrote."""

    log: Log
    stream: io.StringIO

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]


@pytest.fixture
def configure() -> Iterator[Callable[..., CapturedLog]]:
    """Configures logging into a text, and puts everything back at the end."""

    def configured(
        level: str = "debug", style: str = "json", stream: io.StringIO | None = None
    ) -> CapturedLog:
        stream = stream or io.StringIO()
        return CapturedLog(configure_logging(level, style, [KEY, PASSWORD], stream), stream)

    with restored_logging():
        yield configured


@pytest.fixture(params=["json", "console", "console on a terminal"])
def captured(request: pytest.FixtureRequest, configure: Callable[..., CapturedLog]) -> CapturedLog:
    style = request.param.split()[0]
    return configure("debug", style, Terminal() if "terminal" in request.param else io.StringIO())


def assert_clean(text: str) -> None:
    assert text, "nothing was logged at all"
    lowered = text.lower()
    for secret in (
        KEY,
        SIGNATURE,
        SIGNATURE[:30],
        SIGNATURE[-30:],
        quote(SIGNATURE, safe="")[:30],
        "nusual",  # of the password, however its other characters are written
        b64encode(KEY.encode()).decode()[:40],
    ):
        assert secret.lower() not in lowered


class Awkward:
    def __repr__(self) -> str:
        return f"<Awkward {URL} {PASSWORD}>"


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError(KEY)


SECRET_VALUES: list[object] = [
    KEY,
    KEY.upper(),
    KEY.encode(),
    bytearray(KEY.encode()),
    memoryview(KEY.encode()),
    b64encode(KEY.encode()).decode(),
    PASSWORD,
    quote(PASSWORD),
    quote_plus(PASSWORD),
    json.dumps({"sasl_plain_password": PASSWORD}),
    json.dumps(json.dumps({"usersig": SIGNATURE})),
    repr(PASSWORD.encode()),
    SIGNATURE,
    SIGNATURE.encode(),
    f"xx{SIGNATURE}xx",
    quote(SIGNATURE, safe=""),
    quote(quote(SIGNATURE, safe=""), safe=""),
    URL,
    httpx.URL(URL),
    httpx.Request("POST", URL),
    f"usersig={SIGNATURE[:40]}",
    f"https://proxy.example/?to={quote(URL, safe='')}",
    {
        "usersig": SIGNATURE,
        "params": [("usersig", "short-and-odd"), {"deep": {"deeper": {"deepest": {"end": {"x": URL}}}}}],
    },
    {KEY: 1},
    {KEY.encode(): [PASSWORD]},
    ({URL}, frozenset([SIGNATURE])),
    ValueError(URL),
    Awkward(),
    Broken(),
]


@pytest.mark.parametrize("value", SECRET_VALUES, ids=lambda value: f"{type(value).__name__}")
def test_no_field_shows_a_secret(captured: CapturedLog, value: object) -> None:
    captured.log("worker.failed", reason=value)
    captured.log("no.such_event", anything=value)
    captured.log.event(LogEvent("signature.key_unreadable", "warning", {"app": "main", "reason": value}))

    assert_clean(captured.text)
    assert "short-and-odd" not in captured.text


@pytest.mark.parametrize("name", [*LIBRARIES, "anything.else"])
def test_no_library_shows_a_secret_at_debug(captured: CapturedLog, name: str) -> None:
    logger = logging.getLogger(name)
    for value in SECRET_VALUES[:-1]:  # on the last, pytest's own handler would raise
        logger.warning(value)
        # Of a library that is not in the list only warnings are written: the arguments of those must be hidden as well.
        for level in (logging.DEBUG, logging.INFO, logging.WARNING):
            logger.log(level, "sending %s with %r", value, {"x": value})
            logger.log(level, "%(usersig)s %(x)s", {"usersig": SIGNATURE, "x": value})

    assert_clean(captured.text)
    assert name in captured.text


def test_a_line_of_a_library_whose_arguments_do_not_fit_shows_no_secret_and_ends_nothing(
    captured: CapturedLog,
) -> None:
    """logging's own answer would print the arguments to standard error. (pytest's handler, beside ours, would raise.)"""
    (bridge,) = (
        handler for handler in logging.getLogger().handlers if "logging_setup" in type(handler).__module__
    )

    bridge.handle(logging.LogRecord("kafka", logging.ERROR, "x.py", 1, "%d requests", (URL,), None))
    bridge.handle(logging.LogRecord("kafka", logging.ERROR, "x.py", 1, "%r requests", (Broken(),), None))

    assert_clean(captured.text)
    assert "do not fit" in captured.text


def test_no_traceback_shows_a_secret(captured: CapturedLog) -> None:
    def innermost() -> None:
        raise httpx.ConnectError(f"cannot connect to {URL}", request=httpx.Request("POST", URL))

    try:
        try:
            innermost()
        except httpx.ConnectError as error:
            error.add_note(f"signed with {KEY}")
            raise ExceptionGroup(f"of {SIGNATURE}", [error, ValueError(PASSWORD)]) from error
    except ExceptionGroup as group:
        captured.log("worker.failed", reason="x", exc_info=group)
        logging.getLogger("asyncio").exception("Task exception was never retrieved: %s", URL)

    assert_clean(captured.text)
    assert "innermost" in captured.text
    assert HIDDEN in captured.text


def test_what_asyncio_says_of_a_failed_task_is_logged_and_redacted(captured: CapturedLog) -> None:
    async def fails() -> None:
        raise ValueError(URL)

    async def forgets() -> None:
        task = asyncio.create_task(fails(), name=f"call {URL}")
        await asyncio.wait([task])
        asyncio.get_running_loop().call_exception_handler(
            {"message": "lost", "task": task, "exception": task.exception()}
        )

    asyncio.run(forgets())

    assert_clean(captured.text)
    assert "lost" in captured.text


def test_a_crashed_thread_is_logged_and_redacted(captured: CapturedLog) -> None:
    def crashes() -> None:
        raise ValueError(URL)

    thread = threading.Thread(target=crashes, name="poll")
    thread.start()
    thread.join()

    assert_clean(captured.text)
    assert "thread.crashed" in captured.text


def test_an_uncaught_exception_is_logged_and_redacted(captured: CapturedLog) -> None:
    error = ValueError(f"{URL} {KEY}")

    sys.excepthook(ValueError, error, None)

    assert_clean(captured.text)
    assert "worker.failed" in captured.text


def test_an_exception_that_python_cannot_raise_is_not_called_the_end_of_the_process(
    captured: CapturedLog,
) -> None:
    """`worker.failed` says that the process ends with exit code 1, and nothing has ended here."""

    class Broken:
        def __del__(self) -> None:
            raise ValueError(URL)

    broken = Broken()
    del broken

    assert "library.logged" in captured.text
    assert "ValueError" in captured.text
    assert "worker.failed" not in captured.text
    assert_clean(captured.text)


def test_warnings_are_logged_and_redacted(captured: CapturedLog) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn(f"deprecated: {URL}", stacklevel=1)

    assert "deprecated: " in captured.text
    assert_clean(captured.text)


EVIL = "\x1b[2J\x1b[31m\r\b\x07\x9b1m\x7f\u202egnp.exe\u2066\u200b\x00"


def test_control_characters_of_foreign_texts_reach_no_terminal(captured: CapturedLog) -> None:
    """An issuer or an ErrorInfo could clear the screen, colour a line green, or show it in another order."""
    captured.log("worker.failed", reason=f"{EVIL}\nforged line", exc_info=ValueError(EVIL))
    captured.log("worker.failed", reason={EVIL: [EVIL, EVIL.encode()]})
    logging.getLogger("kafka").warning("%s\nforged line", EVIL)
    logging.getLogger(f"anything{EVIL}").warning("said")

    assert "\x1b[2J" not in captured.text
    assert set(captured.text) & (set(EVIL) - set("\x1b[]2J31mgnp.exe")) == set()
    assert "\nforged" not in captured.text
    assert "gnp.exe" in captured.text


def test_in_json_a_control_character_is_escaped_and_nothing_is_lost(
    configure: Callable[..., CapturedLog],
) -> None:
    captured = configure("debug")

    captured.log("worker.failed", reason=f"{EVIL}ü😀\U000e0041")

    assert captured.lines[0]["reason"] == f"{EVIL}ü😀\U000e0041"


def test_a_text_of_a_megabyte_is_cut_and_the_cut_shows_no_beginning_of_a_secret(
    captured: CapturedLog,
) -> None:
    captured.log("worker.failed", reason="x" * (LONGEST_TEXT - 8) + KEY + "y" * 1_000_000)
    captured.log(
        "worker.failed", reason="x", exc_info=ValueError("x" * (LONGEST_TEXT - 30) + KEY + "y" * 1_000_000)
    )

    assert_clean(captured.text)
    assert KEY[:8] not in captured.text
    assert len(captured.text) < 3 * LONGEST_TEXT


@pytest.mark.parametrize(
    "password", ["a", "event", "kafka", "worker.failed", "info", '"', "reason", "time", "9000"]
)
def test_a_password_that_is_a_word_of_the_log_garbles_no_line(
    configure: Callable[..., CapturedLog], password: str
) -> None:
    captured = configure()
    captured.log.hide(password)

    captured.log("worker.failed", reason=f"kafka: worker.failed at 9000, password={password}")

    (line,) = captured.lines
    assert line["event"] == "worker.failed"
    assert line["level"] == "error"
    assert line["reason"].startswith("kafka: worker.failed at 9000, password=")
    assert password == '"' or line["reason"].endswith(f"={HIDDEN}")


def test_a_key_that_is_read_later_is_hidden_from_then_on(configure: Callable[..., CapturedLog]) -> None:
    captured = configure()

    captured.log.hide("the-rotated-key")
    captured.log("worker.failed", reason="signed with the-rotated-key")

    assert captured.lines[0]["reason"] == f"signed with {HIDDEN}"


@given(st.text(max_size=5), st.text(max_size=5), st.sampled_from([KEY, SIGNATURE, PASSWORD]))
def test_whatever_surrounds_a_secret_it_is_hidden_and_json_stays_json(
    before: str, after: str, secret: str
) -> None:
    redaction = Redaction([KEY, PASSWORD])
    line = json.dumps({"event": f"{before}{secret}{after}", f"{before}{secret}": [secret]})

    cleaned = redaction.clean(line)

    json.loads(cleaned)
    assert secret not in cleaned
    assert json.dumps(secret)[1:-1] not in cleaned


@given(
    st.text(alphabet=st.characters(exclude_characters="=:%"), max_size=60).filter(
        lambda text: "eJ" not in text
    )
)
def test_what_holds_no_secret_is_left_as_it_is(text: str) -> None:
    assert Redaction([KEY]).clean(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "secret_key_file: /etc/tencent/main",
        "the usersig has expired (70001)",
        "request 3a1b2c4d-5e6f-7081-92a3-b4c5d6e7f809",
        "moderation.commands-3-1042",
        "eJ",
        "NTc0MDk2NzQ4OTk5",
    ],
)
def test_what_only_looks_a_little_like_a_secret_is_left(text: str) -> None:
    assert Redaction([KEY]).clean(text) == text


def test_redacting_twice_changes_nothing_more() -> None:
    redaction = Redaction([KEY])
    once = redaction.clean(f"{URL} usersig: '{SIGNATURE}' {KEY}")

    assert redaction.clean(once) == once


def test_a_line_is_one_object_with_time_level_and_event_first(configure: Callable[..., CapturedLog]) -> None:
    captured = configure("info")

    captured.log("server.started", host="127.0.0.1", port=9000)

    (line,) = captured.lines
    assert list(line) == ["time", "level", "event", "host", "port"]
    assert line["level"] == "info"
    assert line["time"].endswith("Z")


def test_an_event_that_is_not_in_the_catalogue_is_logged_as_a_fault(
    configure: Callable[..., CapturedLog],
) -> None:
    captured = configure("error")

    captured.log("batch.vanished", call_id="c1", event="x")

    (line,) = captured.lines
    assert line["event"] == "log.event_unlisted"
    assert line["name"] == "batch.vanished"
    assert line["call_id"] == "c1"


def test_the_level_of_an_event_is_the_catalogues_and_what_is_below_the_level_is_left_out(
    configure: Callable[..., CapturedLog],
) -> None:
    captured = configure("warning")

    captured.log("server.started", host="h", port=1)
    captured.log("worker.killed", signal="SIGTERM")
    logging.getLogger("httpx").info("HTTP Request: POST …")
    logging.getLogger("kafka").warning("a broker is gone")

    assert [(line["event"], line["level"]) for line in captured.lines] == [
        ("worker.killed", "warning"),
        ("library.logged", "warning"),
    ]


def test_at_info_libraries_tell_no_line_for_each_request(configure: Callable[..., CapturedLog]) -> None:
    captured = configure("info")

    for name in LIBRARIES:
        logging.getLogger(name).info("a line")

    assert captured.text == ""


def test_at_debug_a_sign_in_with_aws_tells_neither_its_session_nor_its_signature(
    configure: Callable[..., CapturedLog],
) -> None:
    """botocore writes at DEBUG all that it signs, and the signature: together they are a token that Kafka takes."""
    captured = configure("debug")
    logging.getLogger("kafka").info("a line")

    signed(Credentials("AKIAIOSFODNN7EXAMPLE", KEY, "a-session-token-of-aws"), "eu-central-1")

    assert [json.loads(line)["logger"] for line in captured.text.splitlines()] == ["kafka"]


@pytest.mark.parametrize(
    "value",
    [
        2**70,
        float("nan"),
        "\ud800",
        {1: {2: {3: {4: {5: {6: {7: {8: 9}}}}}}}},
        object(),
        Broken(),
        b"\xff",
        "a\nb",
    ],
)
def test_no_value_can_break_a_line(configure: Callable[..., CapturedLog], value: object) -> None:
    captured = configure()

    captured.log("worker.failed", reason=value)

    assert len(captured.lines) == 1


def test_a_stream_that_is_closed_does_not_end_the_worker(configure: Callable[..., CapturedLog]) -> None:
    captured = configure()
    captured.stream.close()

    captured.log("worker.failed", reason="x")
    logging.getLogger("kafka").error("x")


def test_a_stream_that_does_not_speak_utf_8_gets_the_line_escaped(
    configure: Callable[..., CapturedLog],
) -> None:
    raw = io.BytesIO()
    captured = configure("info", "console", io.TextIOWrapper(raw, encoding="ascii", write_through=True))

    captured.log("worker.failed", reason="ü")

    assert b"\\xfc" in raw.getvalue()


def test_json_stays_json_on_a_stream_that_does_not_speak_utf_8(
    configure: Callable[..., CapturedLog],
) -> None:
    """JSON has no escapes as \\xfc and \\U0001f916."""
    raw = io.BytesIO()
    captured = configure("info", "json", io.TextIOWrapper(raw, encoding="ascii", write_through=True))

    captured.log("worker.failed", reason="ü🤖")

    assert json.loads(raw.getvalue())["reason"] == "ü🤖"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            SettingsError(
                [SettingProblem("kafka.max_gap", "lower it", 5), SettingProblem("x", f"not {URL}")]
            ),
            2,
            "kafka.max_gap = 5\n      lower it",
        ),
        (RuntimeError(URL), 1, "RuntimeError"),
    ],
)
def test_what_the_command_line_says_of_a_failure_is_redacted_too(
    capsys: pytest.CaptureFixture[str], error: Exception, code: int, said: str
) -> None:
    def command() -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        main(command)

    printed = capsys.readouterr()
    assert ended.value.code == code
    assert said in printed.err
    assert_clean(printed.err)
    assert printed.out == ""


def test_the_signature_of_this_test_is_a_real_one() -> None:
    """A check of the redaction with something that is no signature would prove nothing."""
    assert len(SIGNATURE) > 100
    assert SIGNATURE.startswith("eJ")
    assert traceback.format_exception(ValueError(URL))[-1].count(SIGNATURE) == 1
