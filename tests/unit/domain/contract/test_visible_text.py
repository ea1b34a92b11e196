# What nobody sees in an id, and users who are the same to the eye as one who is protected.

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

import pytest

from tests.unit.domain.samples import BAN, KICK, SETTINGS, Record, command, decode, encoded, rejected, without
from worker.domain.contract.command_decoding import Command, CommandDecoder
from worker.domain.contract.rejections import Rejected
from worker.domain.contract.visible_text import HIDDEN, folded, hidden_in, shown
from worker.domain.engine_settings import EngineSettings

HIDDEN_ONES = [
    *(
        "\u200b",
        "\u200c",
        "\u200d",
        "\u200e",
        "\u200f",
        "\ufeff",
        "\u202a",
        "\u202e",
        "\u2060",
        "\u2066",
        "\u2069",
    ),
    *(
        "\u00ad",
        "\u061c",
        "\u180e",
        "\u2028",
        "\u2029",
        "\u0085",
        "\U00016fe4",
        "\U0001d159",
        "\U0001fffe",
        "\U000dffff",
        "\x00",
        "\x07",
        "\t",
        "\n",
        "\x1b",
        "\x7f",
        "\x9b",
    ),
    *(
        "\u00a0",
        "\u2003",
        "\u202f",
        "\u3000",
        "\u1680",
        "\u205f",
        "\u034f",
        "\u115f",
        "\u3164",
        "\uffa0",
        "\u2800",
    ),
    *(
        "\ufe0f",
        "\ue000",
        "\uf8ff",
        "\ufffb",
        "\ufffe",
        "\U000e0041",
        "\U000e0101",
        "\U0001d173",
        "\U000f0000",
    ),
]
IDS: list[tuple[str, dict[str, Any], str]] = [
    ("a user", {**BAN, "user_ids": ["u", "X"]}, "user_ids[1]"),
    ("a group", {**BAN, "group_id": "X"}, "group_id"),
    ("a room", {**KICK, "room_id": "X"}, "room_id"),
    ("a command", {**BAN, "command_id": "X"}, "command_id"),
]
OF_EACH = pytest.mark.parametrize(("value", "field"), [row[1:] for row in IDS], ids=[row[0] for row in IDS])


def filled(value: Any, text: str) -> Any:
    """The command with this text for each X."""
    return json.loads(json.dumps(value).replace('"X"', json.dumps(text)))


def each_way(value: object) -> list[bytes]:
    """As producers write it: escaped or not, with blanks or without."""
    return [
        json.dumps(value, ensure_ascii=ensure, separators=separators).encode()
        for ensure in (True, False)
        for separators in (None, (",", ":"))
    ]


@OF_EACH
@pytest.mark.parametrize("hidden", HIDDEN_ONES, ids=lambda hidden: f"U+{ord(hidden):04X}")
@pytest.mark.parametrize("place", ["start", "middle", "end"])
def test_a_character_that_nobody_sees_is_refused_by_name_and_place(
    value: Any, field: str, hidden: str, place: str
) -> None:
    """Such an id is another user than the one that a person reads."""
    text = {"start": f"{hidden}ab", "middle": f"a{hidden}b", "end": f"ab{hidden}"}[place]
    for written in each_way(filled(value, text)):
        refused = rejected(written)

        assert (refused.code, refused.field) == ("bad_character", field)
        assert f"U+{ord(hidden):04X}" in refused.message
        assert f"at character {text.index(hidden)}" in refused.message
        assert refused.message.isprintable()


@OF_EACH
@pytest.mark.parametrize("text", [" ab", "ab ", " ab ", " ", "   ", "é "])
def test_an_id_with_a_blank_at_an_end_is_refused(value: Any, field: str, text: str) -> None:
    for written in each_way(filled(value, text)):
        refused = rejected(written)

        assert (refused.code, refused.field) == ("bad_character", field)
        assert "blank (U+0020)" in refused.message
    escaped = encoded(filled(value, text)).replace(b'" ', b'"\\u0020').replace(b':"\\u0020', b': "')
    assert isinstance(decode(escaped), Rejected)


@OF_EACH
@pytest.mark.parametrize(
    "text", ["a b", "a  b", "用户", "😀", "@TGS#a", "a:b/c", "é", "e\u0301", "\uff21\uff22", "\U0001fae8"]
)
def test_an_id_that_can_be_seen_whole_is_taken(value: Any, field: str, text: str) -> None:
    """Blanks inside are allowed, as Tencent allows them; so is a letter newer than this Python."""
    read = [command(written) for written in each_way(filled(value, text))]

    assert field
    assert all(text in (*one.users, one.target, one.command_id) for one in read)


@pytest.mark.parametrize("name", ["issuer", "app", "action", "banned_until", "not_after", "issued_at"])
def test_a_name_may_hold_nothing_hidden_either(name: str) -> None:
    value = without(BAN, "duration") | {"banned_until": "2030-01-01T00:00:00Z", name: "a\u202eb"}

    assert (rejected(value).code, rejected(value).field) == ("bad_character", name)


@pytest.mark.parametrize(
    "value", [{"reason": "a\u202eb\u200d "}, {"metadata": {"\u200b": "\ufeff "}}, {"issuer": "detector 7 "}]
)
def test_a_text_for_people_may_hold_anything(value: dict[str, Any]) -> None:
    assert isinstance(decode(BAN | value), Command)


def test_every_format_and_control_character_of_this_python_is_hidden() -> None:
    """All but marks that join or precede what is seen, and halves of surrogate pairs, which are refused on their own."""
    kinds = {"Cc", "Cf", "Zl", "Zp", "Co"}
    characters = [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000]
    seen = [one for one in characters if unicodedata.category(one) in kinds and hidden_in(one) is None]

    assert seen == []
    assert not any(hidden_in(one) for one in map(chr, range(0x20, 0x7F)))
    assert not any(
        hidden_in(one)
        for one in characters
        if unicodedata.category(one)[0] in "LN" and one not in "\u115f\u1160\u3164\uffa0"
    )


def test_the_class_of_hidden_characters_is_one_that_other_languages_can_read_too() -> None:
    """It is in the JSON Schema: escapes of four digits only, and nothing beyond the basic plane."""
    assert HIDDEN.isascii()
    assert re.sub(r"\\u[0-9a-f]{4}|\\x[0-9a-f]{2}|-", "", HIDDEN) == ""


@pytest.mark.parametrize(
    ("user", "protected"),
    [
        *(("Moderator", "moderator"), ("MODERATOR", "moderator"), ("\uff4d\uff4f\uff44\uff45\uff52\uff41\uff54\uff4f\uff52", "moderator")),
        *(("\uff2d\uff2f\uff24erator", "moderator"), ("\U0001d41f\U0001d422\U0001d42b\U0001d41e", "fire"), ("ADMINISTRATOR", "administrator")),
        *(("\uff21dministrator", "administrator"), ("strasse", "Straße"), ("STRASSE", "Straße"), ("\ufb01re", "fire")),
        *(("FIRE", "fire"), ("é", "e\u0301"), ("İ", "i\u0307"), ("\u2163", "iv"), ("root", "\uff32\uff2f\uff2f\uff34")),
    ],
)  # fmt: skip
def test_a_user_who_is_written_like_a_protected_one_is_protected(user: str, protected: str) -> None:
    """In small or capital letters, wide or narrow, composed or not: a person takes them for one another."""
    names = frozenset({"moderator", "Straße", "fire", "e\u0301", "i\u0307", "iv", "\uff32\uff2f\uff2f\uff34"})
    decoder = CommandDecoder(
        EngineSettings("t", 8, {"main": "administrator"}, "main", SETTINGS.worker, names)
    )

    for written in each_way({**BAN, "user_ids": ["u", user]}):
        refused = decoder.decode(Record(written))

        assert isinstance(refused, Rejected)
        assert (refused.code, refused.field) == ("protected_user", "user_ids[1]")
        assert shown(protected) in refused.message


@pytest.mark.parametrize("user", ["moderator2", "moder", "m\u043ederator2", "用户"])
def test_a_user_who_is_not_written_like_a_protected_one_is_none(user: str) -> None:
    assert command({**BAN, "user_ids": [user]}).users == (user,)


@pytest.mark.parametrize("text", ["\uff41", "ß", "İ", "ǰ", "\u1e9e", "ᾳ", "Σς", "ﷺ"])
def test_folding_what_is_folded_changes_nothing(text: str) -> None:
    assert folded(folded(text)) == folded(text)
