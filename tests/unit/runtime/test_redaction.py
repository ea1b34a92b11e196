# What is taken out of a text, by itself. That no line passes beside it is proven in test_logging_setup.py.

from __future__ import annotations

import json
import re
import time
from base64 import b64encode
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from TLSSigAPIv2 import TLSSigAPIv2

from worker.redaction import HIDDEN, KEPT_SIGNATURES, KEPT_TOKENS, Redaction, without_keys

if TYPE_CHECKING:
    from collections.abc import Callable


def test_a_secret_that_is_learned_later_does_not_bring_an_earlier_one_to_light() -> None:
    """A key that was rotated away may still be accepted."""
    redaction = Redaction(["first-key"])
    redaction.learn("second-key")

    assert redaction.clean("first-key second-key") == f"{HIDDEN} {HIDDEN}"


def test_of_a_secret_that_begins_with_another_nothing_is_left() -> None:
    redaction = Redaction(["abcdef", "abcdefghijkl"])

    assert redaction.clean("abcdefghijkl abcdef") == f"{HIDDEN} {HIDDEN}"


def test_an_empty_secret_hides_nothing() -> None:
    redaction = Redaction([""])
    redaction.learn("")

    assert redaction.clean("nothing to hide") == "nothing to hide"


# -- parts and disguises of what is known ---------------------------------------------------------------------------------------

KEY = "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e"
SIGNATURE = TLSSigAPIv2(1400000001, KEY).gen_sig("administrator", 86_400)


def knowing(*secrets: str) -> Redaction:
    redaction = Redaction([KEY, *secrets])
    redaction.learn_signature(SIGNATURE)
    return redaction


def pieces(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def leaked(cleaned: str, secret: str, length: int = 12) -> str | None:
    """Return the first ``length`` characters in a row of a secret that can still be read."""
    bare = re.sub(r"\\[nrt]|[\s\\\"']", "", cleaned).lower()
    return next(
        (
            part
            for at in range(len(secret) - length + 1)
            if (part := secret[at : at + length].lower()) in bare
        ),
        None,
    )


DISGUISES: dict[str, Callable[[str], str]] = {
    "as it is": lambda secret: secret,
    "without its beginning": lambda secret: secret[10:],
    "its end": lambda secret: secret[-16:],
    "its middle": lambda secret: secret[20:40],
    "in capitals": str.upper,
    "percent-encoded": lambda secret: quote(secret, safe=""),
    "percent-encoded twice": lambda secret: quote(quote(secret, safe=""), safe=""),
    "in lines of 76": lambda secret: "\n".join(pieces(secret, 76)),
    "in lines of 20, indented": lambda secret: "\n    ".join(pieces(secret, 20)),
    "in short lines": lambda secret: "\r\n".join(pieces(secret, 7)),
    "in lines that JSON has escaped": lambda secret: json.dumps("\n".join(pieces(secret[5:], 9)))[1:-1],
    "in lines that JSON has escaped twice": lambda secret: json.dumps(
        json.dumps("\n".join(pieces(secret, 9)))
    ),
    "in quoted lines, as Python writes a long text": lambda secret: "'\n '".join(pieces(secret, 30)),
    "with backslashes between": lambda secret: "\\".join(pieces(secret, 5)),
    "with a backslash before each": lambda secret: "\\" + "\\".join(secret),
    "with blanks between": lambda secret: " ".join(pieces(secret, 4)),
    "with invisible characters between": lambda secret: "\u200b".join(pieces(secret, 6)),
    "inside of a longer word": lambda secret: f"xx{secret}xx",
}


@pytest.mark.parametrize("secret", [KEY, SIGNATURE], ids=["key", "signature"])
@pytest.mark.parametrize("disguise", DISGUISES)
def test_no_disguise_gets_a_key_or_signature_through(disguise: str, secret: str) -> None:
    shown = DISGUISES[disguise](secret)

    cleaned = knowing().clean(f"sign check failed: {shown}, see the console")

    assert leaked(cleaned, secret) is None
    assert cleaned.startswith("sign check failed: ")
    assert cleaned.endswith(", see the console")
    assert HIDDEN in cleaned


@pytest.mark.parametrize("secret", [KEY, SIGNATURE], ids=["key", "signature"])
@pytest.mark.parametrize("escape", ["%{:02X}", "%25{:02x}", "\\u{:04x}"])
def test_a_fragment_of_which_one_character_is_escaped_is_hidden(escape: str, secret: str) -> None:
    """Of fewer escapes than make a fragment nothing was unescaped; a signature's `*` is one of few that URLs escape."""
    for at in range(len(secret) - 16):
        part = secret[at : at + 16]
        shown = part[:8] + escape.format(ord(part[8])) + part[9:]

        assert knowing().clean(f"<{shown}>") == f"<{HIDDEN}>"


@pytest.mark.parametrize("before", ["", "a%20b "])
def test_a_password_of_which_every_character_is_escaped_is_hidden(before: str) -> None:
    """Nothing that is sought is left of it where its escapes are undone."""
    password = "é¿ñüßøåéñ¿"

    assert knowing(password).clean(f"{before}<{quote(password)}>") == f"{before}<{HIDDEN}>"


def test_a_line_break_that_is_escaped_twice_takes_no_letter_with_it() -> None:
    """The backslash that was left made a line break of the letter behind it."""
    at = next(found.start() for found in re.finditer("[nrtNRT]", SIGNATURE) if found.start() > 10)
    shown = SIGNATURE[at - 8 : at] + r"\\n" + SIGNATURE[at : at + 8]

    assert knowing().clean(f"<{shown}>") == f"<{HIDDEN}>"


@pytest.mark.parametrize("name", ["", "u:", "us:", "user:"])
def test_a_key_in_base64_is_hidden_whatever_comes_before_it(name: str) -> None:
    """The text before it shifts its bits: a header of basic authentication is the base64 of `name:password`."""
    encoded = b64encode(f"{name}{KEY}:end".encode()).decode()

    cleaned = knowing().clean(f"Basic {encoded}")

    assert leaked(cleaned, encoded[8:-8]) is None


@pytest.mark.parametrize("secret", [KEY, SIGNATURE, "my-pass-phrase"], ids=["key", "signature", "password"])
def test_a_secret_across_a_cut_shows_not_even_its_beginning(secret: str) -> None:
    redaction = knowing("my-pass-phrase")
    for before in range(40, 61):
        cleaned = redaction.clean("." * before + secret + "." * 3000, 60)

        assert set(cleaned.replace(HIDDEN, "")) == {"."}
        assert len(cleaned) <= 60 + len(HIDDEN)


def test_what_was_cut_off_does_not_come_back_because_redacting_made_the_rest_shorter() -> None:
    cleaned = knowing().clean(f"{KEY} " * 40, 100)

    assert cleaned == f"{HIDDEN} {HIDDEN}"


def test_a_signature_that_nobody_knows_is_hidden_with_its_next_lines() -> None:
    other = TLSSigAPIv2(1400000002, KEY[::-1]).gen_sig("another", 86_400)

    cleaned = Redaction().clean("got: " + "\n  ".join(pieces(other, 40)) + "\nwhich is wrong")

    assert leaked(cleaned, other, 16) is None
    assert cleaned.endswith("which is wrong")


@pytest.mark.parametrize(("owner", "kept"), [("", KEPT_TOKENS), ("main", KEPT_SIGNATURES)])
def test_the_signatures_that_are_remembered_are_bounded_and_the_newest_are_among_them(
    owner: str, kept: int
) -> None:
    redaction = Redaction()
    made = [TLSSigAPIv2(1400000001, KEY).gen_sig(f"admin-{number}", 86_400) for number in range(40)]
    for signature in made:
        redaction.learn_signature(signature, owner)

    for signature in made[-kept:]:
        assert redaction.clean(signature[30:60]) == HIDDEN
    assert len(redaction._parts) < kept * len(made[0])


def test_the_signatures_of_one_app_do_not_make_those_of_another_unknown() -> None:
    """An app that is halted signs anew every few seconds; in 80 all others' signatures, and Kafka's token, were forgotten."""
    redaction = Redaction()
    redaction.learn_signature(SIGNATURE)
    for number in range(2 * KEPT_TOKENS):
        redaction.learn_signature(
            TLSSigAPIv2(1400000001, KEY[::-1]).gen_sig(f"admin-{number}", 86_400), "halted"
        )

    assert redaction.clean(f"<{SIGNATURE[90:130]}>") == f"<{HIDDEN}>"


# -- what is left alone ---------------------------------------------------------------------------------------------------------

LINE = json.dumps(
    {
        "time": "2026-11-28T09:55:27.123456Z",
        "level": "info",
        "event": "kafka.poll_failed",
        "error": "a broker is away",
        "next_try_seconds": 1.5,
    }
)


@pytest.mark.parametrize(
    "password",
    ["a", "", " ", '"', "{", ":", "kafka", "event", "time", "level", "error", "reason", "123456", "2026"],
)
def test_a_password_that_is_a_common_word_does_not_garble_a_line(password: str) -> None:
    """It is hidden where a name says what it is."""
    redaction = Redaction([password], words={"kafka", "event", "reason", "partition", "partitions"})

    assert redaction.clean(LINE) == LINE
    if password.isalnum():
        assert redaction.clean(f"sasl_plain_password={password} ") == f"sasl_plain_password={HIDDEN} "


def test_a_password_that_is_one_of_our_words_is_not_looked_for() -> None:
    """One that only contains such a word is."""
    words = {"moderation", "worker"}

    assert (
        Redaction(["moderation-worker"], words).clean("group moderation-worker") == "group moderation-worker"
    )
    assert Redaction(["moderation-worker-7"], words).clean("group moderation-worker-7") == f"group {HIDDEN}"


def test_a_key_of_few_characters_hides_nothing_but_itself() -> None:
    """Parts of `0123abcd` eight times over are found in too much."""
    redaction = Redaction(["0" * 64, "0123abcd" * 8])

    assert (
        redaction.clean("offset 0000000000000000 of 0123abcd0123abcd")
        == "offset 0000000000000000 of 0123abcd0123abcd"
    )
    assert redaction.clean("0" * 64) == HIDDEN


# -- time -----------------------------------------------------------------------------------------------------------------------

HOSTILE: dict[str, Callable[[int], str]] = {
    "a name and backslashes": lambda size: "usersig=" + "\\" * size,
    "a name and quotes": lambda size: "usersig" + "'" * size,
    "a name and blanks": lambda size: "usersig" + " " * size,
    "a name and b's": lambda size: "usersig=" + "b\\" * (size // 2),
    "names": lambda size: "usersig" * (size // 7),
    "names with an equals": lambda size: "usersig=\\" * (size // 9),
    "names with a comma": lambda size: "'usersig','" * (size // 11),
    "nested percents": lambda size: "%25" * (size // 3),
    "names with percents": lambda size: "usersig%2525" * (size // 12),
    "beginnings of signatures": lambda size: "eJx" * (size // 3),
    "backslashes": lambda size: "\\" * size,
    "capitals that get longer": lambda size: "\u0130" * size,
    "wrapped values": lambda size: "usersig=abcdefghijklmnop\n" * (size // 25),
    "letters of a key": lambda size: f"{KEY[:8]}!" * (size // 9),
}


@pytest.mark.parametrize("shape", HOSTILE)
def test_twice_the_text_takes_twice_the_time(shape: str) -> None:
    """The bound of a hostile megabyte is generous: this machine is shared, and a quadratic one would take hours."""
    redaction = knowing("correct horse battery staple")
    text = HOSTILE[shape](1_000_000)
    began = time.process_time()

    redaction.clean(text)
    without_keys(text, but_uuids=True)

    assert time.process_time() - began < 1.0


@pytest.mark.parametrize("escape", ["%20", "\\u001b"])
def test_an_escape_does_not_make_a_text_without_secrets_many_times_as_dear(escape: str) -> None:
    """A stranger may put one into each text; it was then searched character by character, at 40 times the cost."""
    redaction = knowing("correct horse battery staple")
    text = 'a b c "x": 1, ' * 30_000

    def cost(text: str) -> float:
        began = time.process_time()
        redaction.clean(text)
        return time.process_time() - began

    assert min(cost(text + escape) for _ in range(5)) < 10 * min(cost(text) for _ in range(5))


def test_a_signature_that_is_new_costs_little_however_many_others_are_known() -> None:
    """All others were taken to pieces again, on the event loop: 30 ms for those of 200 apps."""
    redaction = Redaction()
    for number in range(200 * KEPT_SIGNATURES):
        signature = TLSSigAPIv2(number, KEY).gen_sig(f"admin-{number}", 86_400)
        redaction.learn_signature(signature, f"app-{number % 200}")
    made = [TLSSigAPIv2(1400000001, KEY).gen_sig(f"admin-{number}", 86_400) for number in range(10)]

    def cost(signature: str) -> float:
        began = time.process_time()
        redaction.learn_signature(signature, "app-0")
        return time.process_time() - began

    assert min(map(cost, made)) < 0.01


# -- keys in the wrong place ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        KEY,
        KEY.upper(),
        KEY[:32],
        "Zm9vYmFyMTIzNDU2Nzg5MGFiY2RlZmdoaWprbG1ub3A=",
        "a8F3kd93Jd8wKq02LsmXz7Vb41NcRtYu",
        str(int(KEY, 16)),
    ],
)
def test_what_looks_like_a_key_is_hidden(key: str) -> None:
    assert (
        without_keys(f"tencent.apps.{key}.region = '{key}'") == f"tencent.apps.{HIDDEN}.region = '{HIDDEN}'"
    )


@pytest.mark.parametrize(
    "text",
    [
        "kafka.consumer.max_poll_interval_ms",
        "/var/run/secrets/tencent/main/secret_key",
        "moderation-worker-outcomes-of-the-europe-region",
        "WORKER_KAFKA__COMMON__SASL_PLAIN_PASSWORD_FILE",
        "live_engine_http_srv/unban_member",
        "b-1.moderation.a1b2c3.c2.kafka.eu-west-1.amazonaws.com:9096",
        "give a whole number from 1 to 4294967295",
        "https://adminapisgp.im.qcloud.com",
        "1400000001",
    ],
)
def test_names_paths_and_numbers_do_not_look_like_a_key(text: str) -> None:
    assert without_keys(text) == text


@pytest.mark.parametrize("uuid", ["7c13c129-1aa3-4ded-a7f7-989c40884556", "7c13c1291aa34deda7f7989c40884556"])
@pytest.mark.parametrize("text", ["{}", "(send-{} and {})", "--command-id={}"])
def test_a_uuid_is_an_id_where_that_is_said(text: str, uuid: str) -> None:
    for each in (uuid, uuid.upper()):
        said = text.replace("{}", each)
        assert without_keys(said, but_uuids=True) == said
        assert each not in without_keys(said)


@pytest.mark.parametrize(
    "key",
    [
        KEY,
        KEY[:32],
        "7c13c1291aa34deda7f7989c40884556" * 2,
        "7c13c1291aa34deda7f7989c408845567",
        "7c13c129-1aa3-4ded-a7f7-989c40884556-3hVqkP9xT2mWz7LrJ8Yc4NbG6dQsF1Ae",
    ],
)
def test_what_only_begins_as_a_uuid_is_a_key_all_the_same(key: str) -> None:
    assert without_keys(f"--key {key}", but_uuids=True) == f"--key {HIDDEN}"


@pytest.mark.parametrize("escape", ["\\u{:04x}", "%{:02x}", "%25{:02X}"])
def test_a_key_of_which_every_character_is_escaped_is_hidden(escape: str) -> None:
    """Nothing of it stood in the text as it is, so nobody looked closer."""
    key = "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e"
    text = "".join(escape.format(ord(character)) for character in key)

    assert Redaction([key]).clean(f"refused: {text}") == "refused: [redacted]"
