# What `pause`, `cancel`, `shadow` and `resume` refuse before Kafka is asked: with a sentence, and nothing is written.

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from tests.unit.settings.environment import KEY
from worker.cli.app import app
from worker.cli.control import span
from worker.cli.pause_and_resume import _scope, orders_beside, what_follows
from worker.domain.contract.control_records import Order, OrderState, Scope

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DETECTOR = ("--issuer", "detector-7")


@pytest.fixture
def invoke(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Runs a command with settings whose Kafka is not there; returns its exit code and all it says, in one line."""
    config = tmp_path / "worker.yaml"
    config.write_text(
        "kafka: {bootstrap_servers: ['127.0.0.1:1']}\n"
        f"tencent: {{apps: {{main: {{sdk_app_id: 1, identifier: admin, secret_key: {KEY}, region: china}}}}}}\n"
    )

    def invoked(command: str, *arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, [command, "--config", str(config), *arguments], terminal_width=1000)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, " ".join(result.output.split())

    return invoked


@pytest.mark.parametrize("command", ["pause", "cancel", "shadow", "resume"])
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--reason", "x"), "--everything for all commands"),
        (("--everything", "--issuer", "a", "--reason", "x"), "not both"),
        (("--issuer", "a"), "--reason"),
        (("--issuer", "a", "--reason", " "), "it is empty"),
        (("--issuer", "", "--reason", "x"), "it is empty"),
        (("--issuer", "a", "--reason", "x", "--by", ""), "it is empty"),
        (("--issuer", "a", "--reason", "x", "--by", "guard"), "that is no person's name"),
        (("--issuer", "\udcff", "--reason", "x"), "not UTF-8"),
        (("--action", "group.ban", "--reason", "x"), "did you mean group.ban_group_member?"),
        (("--issuer", "detector-7\u200b", "--reason", "x"), "issuer holds the invisible character U+200B"),
        (("--target", "group-42 ", "--reason", "x"), "target ends with a blank"),
        (("--action", "dance", "--reason", "x"), "there are group.ban_group_member"),
        (("--app", "mian", "--reason", "x"), "did you mean main?"),
        (("--user", "u", "--reason", "x"), "No such option"),
    ],
)
def test_wrong_arguments_end_with_2_and_a_sentence(
    invoke: Callable[..., tuple[int, str]], command: str, arguments: tuple[str, ...], sentence: str
) -> None:
    code, text = invoke(command, *arguments)

    assert code == 2
    assert sentence in text


@pytest.mark.parametrize("command", ["pause", "cancel", "shadow"])
@pytest.mark.parametrize(
    ("scope", "sentence"),
    [
        (("--issuer", "detector-7\r"), "issuer holds the blank U+000D at character 10: take it out"),
        (("--issuer", "detector\u200b-7"), "U+200B (ZERO WIDTH SPACE) at character 8: take it out"),
        (("--issuer", "x" * 257), "issuer has 257 bytes in UTF-8, and 256 are allowed"),
        (("--target", "room-7 "), "target ends with a blank (U+0020): take it out"),
        (("--target", "é" * 25), "target has 50 bytes in UTF-8, and 48 are allowed"),
    ],
)
def test_an_order_for_a_name_that_no_command_can_have_is_refused(
    invoke: Callable[..., tuple[int, str]], command: str, scope: tuple[str, str], sentence: str
) -> None:
    """Copied from a chat, an id may hold what nobody sees: "paused" would be said, and nothing would be."""
    code, text = invoke(command, *scope, "--reason", "x")

    assert code == 2
    assert sentence in text


def test_what_a_guard_has_stopped_can_be_named() -> None:
    """An issuer may be a blank."""
    assert _scope((None, None, " ", None), everything=False) == Scope(issuer=" ")


@pytest.mark.parametrize(
    ("until", "sentence"),
    [
        ("yesterday", "give 90s, 30m, 24h or 7d"),
        ("0s", "is over already"),
        ("9999-12-31T23:59:59-23:00", "is after the year 9999"),
        ("2020-01-01T00:00:00Z", "is over already"),
    ],
)
def test_an_end_that_is_none_or_over_is_refused(
    invoke: Callable[..., tuple[int, str]], until: str, sentence: str
) -> None:
    code, text = invoke("pause", *DETECTOR, "--reason", "x", "--until", until)

    assert code == 2
    assert sentence in text


@pytest.mark.parametrize("command", ["pause", "cancel", "shadow"])
def test_a_star_which_would_be_taken_for_a_name_is_refused(
    invoke: Callable[..., tuple[int, str]], command: str
) -> None:
    code, text = invoke(command, "--issuer", "*", "--reason", "x")

    assert code == 2
    assert "give a name, or leave --issuer out to mean each" in text


def test_a_reason_that_the_workers_would_not_read_is_refused(invoke: Callable[..., tuple[int, str]]) -> None:
    """They ignore a record that is too long: it must not be reported as written and in force."""
    code, text = invoke("pause", *DETECTOR, "--reason", "x" * 5_000)

    assert code == 2
    assert "the most is 4096" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0 s"), (40, "40 s"), (119, "119 s"), (720, "12 min"), (12_600, "3.5 h")],
)
def test_a_length_of_time_is_shown_in_the_unit_that_a_person_would_use(seconds: float, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("other", "is_beside"),
    [
        (Scope(), True),
        (Scope(target="room-1"), True),
        (Scope(issuer="a", target="room-1"), True),
        (Scope(issuer="b"), False),
        (Scope(issuer="b", target="room-1"), False),
        (Scope(issuer="a"), False),
    ],
)
def test_orders_for_the_same_commands_are_those_that_no_field_tells_apart(
    other: Scope, is_beside: bool
) -> None:
    order = Order(OrderState.CANCEL, "x", "alice", "2026-11-21T03:02:11.000Z")

    assert orders_beside(Scope(issuer="a"), {other: order}) == ({other: order} if is_beside else {})


def test_who_resumes_a_worker_in_shadow_reads_that_nothing_is_sent() -> None:
    """The setting ``shadow`` holds for all commands for which no stronger order does."""
    was = OrderState.PAUSED.row

    assert what_follows(was, is_covered=False, shadow=False) == (
        "Its commands are carried out again within 2 s: first those that have waited."
    )
    assert "carried out" not in what_follows(was, is_covered=False, shadow=True)
    assert "setting shadow" in what_follows(was, is_covered=True, shadow=True)
    assert "except where" in what_follows(was, is_covered=True, shadow=True)
