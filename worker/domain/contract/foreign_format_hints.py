# Records that are something else than a command, recognised by their look, each with the cure for whoever sends them.
#
# It is asked only of records that are refused anyway, so a wrong guess costs a sentence. Nothing is unpacked or carried out here.

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from worker.domain.contract.visible_text import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

_PLAIN: Final = "send the JSON object alone, as UTF-8"
_SERIALISER: Final = (
    "produce with a plain string or byte serialiser (Kafka Connect: JsonConverter with schemas.enable=false)"
)

_SIGNATURES: Final[tuple[tuple[bytes, str], ...]] = (
    (b"\xff\xfe\x00\x00", f"is UTF-32, by its byte order mark: {_PLAIN}"),
    (b"\x00\x00\xfe\xff", f"is UTF-32, by its byte order mark: {_PLAIN}"),
    (b"\x00\x00\x00{", f"is UTF-32: {_PLAIN}"),
    (b"{\x00\x00\x00", f"is UTF-32: {_PLAIN}"),
    (b"\xff\xfe", f"is UTF-16, by its byte order mark: {_PLAIN}"),
    (b"\xfe\xff", f"is UTF-16, by its byte order mark: {_PLAIN}"),
    (b"\xef\xbb\xbf", "begins with a byte order mark (BOM, EF BB BF): write UTF-8 without it"),
    (b"\x1f\x8b", "is compressed with gzip: send it as it is and set the producer's compression.type"),
    (
        b"\x28\xb5\x2f\xfd",
        "is compressed with zstd: send it as it is and set the producer's compression.type",
    ),
    (b"\x04\x22\x4d\x18", "is compressed with lz4: send it as it is and set the producer's compression.type"),
    (
        b"\xff\x06\x00\x00sNaPpY",
        "is compressed with snappy: send it as it is and set the producer's compression.type",
    ),
    (
        b"\x82SNAPPY\x00",
        "is compressed with snappy: send it as it is and set the producer's compression.type",
    ),
    (b"BZh", "is compressed with bzip2: send it as it is and set the producer's compression.type"),
    (b"\xfd7zXZ\x00", "is compressed with xz: send it as it is and set the producer's compression.type"),
    (b"PK\x03\x04", "is a zip archive: send the JSON object itself"),
    (b"Obj\x01", "is an Avro container file: commands are JSON, not Avro; send the JSON object itself"),
    (b"PAR1", "is a Parquet file: commands are JSON; send each as a record of its own"),
    (
        b"\xac\xed\x00\x05",
        "is a serialised Java object: produce with a plain string serialiser, and send JSON",
    ),
    (b"\xd9\xd9\xf7", "is CBOR: commands are JSON; encode the object as JSON text"),
)
"""How formats begin, the longer signature before the shorter one, and what the record then is."""

_JSON_BEGINS: Final = b'{["\t\n\r '
_ZLIB: Final = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_NAME: Final = re.compile(rb"[a-zA-Z][a-zA-Z_]{2}").match


def shape_of_bytes(value: bytes) -> str | None:
    """Return what a record that is no JSON is by its first bytes, with the cure, as a sentence."""
    for signature, what in _SIGNATURES:
        if value.startswith(signature):
            return f"the record {what}"
    return _utf16(value) or _frame(value) or _binary(value)


def _utf16(value: bytes) -> str | None:
    """Recognise JSON in UTF-16 without a mark: each second byte of its beginning is 0."""
    first, second, third, fourth = (*value[:4], *b"\xff" * 4)[:4]
    for zeros, begin, endian in (((second, fourth), first, "little"), ((first, third), second, "big")):
        if zeros == (0, 0) and begin in _JSON_BEGINS:
            return f"the record is UTF-16 ({endian}-endian): {_PLAIN}"
    return None


def _frame(value: bytes) -> str | None:
    """Return the frames that the serialisers of schema registries put before a record."""
    first = value[:1]
    if first == b"\x00" and len(value) > 5:
        schema = int.from_bytes(value[1:5], "big")
        inside = "JSON" if value[5:].lstrip()[:1] == b"{" else "Avro or Protobuf"
        return (
            f"the record is in a schema registry's frame (its first byte is 0, schema id {schema}, {inside} inside): "
            f"{_SERIALISER}"
        )
    if first in (b"\x01", b"\x03") and len(value) > 17:
        whose = "the schema registry of AWS Glue" if first == b"\x03" else "a schema registry"
        return f"the record is in the frame of {whose} (its first byte is {value[0]}): {_SERIALISER}"
    return None


def _binary(value: bytes) -> str | None:
    """Recognise formats without a signature by the look of their first entry."""
    first, second = value[0], value[1] if len(value) > 1 else 0
    if value[:2] in _ZLIB and not value.isascii():
        return "the record is compressed with zlib: send it as it is and set the producer's compression.type"
    if int.from_bytes(value[:4], "little") == len(value) > 4 and value.endswith(b"\x00"):
        return "the record is BSON: commands are JSON; encode the object as JSON text"
    is_map = 0x80 <= first <= 0x8F and 0xA1 <= second <= 0xBF and _NAME(value, 2)
    if is_map or (first in (0xDE, 0xDF) and _NAME(value, 4 if first == 0xDE else 6)):
        return "the record is MessagePack: commands are JSON; encode the object as JSON text"
    if 0xA0 <= first <= 0xBF and 0x61 <= second <= 0x77 and _NAME(value, 2):
        return "the record is CBOR: commands are JSON; encode the object as JSON text"
    # A first field of Protobuf: its number with the wire type of a text, the text's length, the text.
    if first in (0x0A, 0x12, 0x1A) and 2 < second <= len(value) - 2 and _NAME(value, 2):
        return "the record looks like Protobuf: commands are JSON; encode the object as JSON text"
    if b"{" in value[:4] and value.rstrip().endswith(b"}"):
        return _other_encoding(value)
    return None


def _other_encoding(value: bytes) -> str | None:
    try:
        value.decode()
    except UnicodeDecodeError as error:
        byte = f"byte {error.start} is 0x{value[error.start]:02x}"
        return (
            f"the record is not valid UTF-8: {byte}; it looks like JSON in another encoding, "
            f"such as GBK or Latin-1: encode it as UTF-8"
        )
    return None


_TEXTS: Final[tuple[tuple[str, str], ...]] = (
    ("<", "is XML or HTML: commands are JSON; send the JSON object"),
    ("%7B", "is a JSON object in percent-encoding: send it without"),
    ("ey", "is base64, of JSON as it seems, or a token: send the JSON object itself"),
    ("ewo", "is base64, of JSON as it seems: send the JSON object itself"),
    ("ewr", "is base64, of JSON as it seems: send the JSON object itself"),
    ("//", "begins with a comment, which JSON does not know: leave it out"),
    ("/*", "begins with a comment, which JSON does not know: leave it out"),
    ("#", "begins with a comment, which JSON does not know: leave it out"),
    ("---", "is YAML: commands are JSON; send the JSON object"),
    ("(", "is a script, not JSON: send the JSON object itself"),
)
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_=.\s-]*").fullmatch
_UNQUOTED: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*\s*[:=]").match
"""A name in JavaScript, JSON5 or HJSON, or in what Java prints of a map."""
_FORM: Final = re.compile(r"[A-Za-z_.%0-9]+=").match
_YAML: Final = re.compile(r"[A-Za-z_]+: ").match


def shape_of_text(text: str, begin: int, broke_at: int) -> str | None:
    """
    Return what a text that is no JSON is, with the cure, as a sentence.

    ``begin`` is where its first character is that is no blank, ``broke_at`` where a parser gave up.
    """
    rest = text[broke_at : broke_at + 64].lstrip()
    if text.startswith("{", begin):
        return _broken_object(text, broke_at, rest)
    if text.startswith(('"', "["), begin):
        return None
    for start, what in _TEXTS:
        if text.startswith(start, begin) and (
            not start.startswith("e") or _BASE64(text[begin : begin + 256])
        ):
            return f"the record {what}"
    if _FORM(text, begin):
        return "the record is a form (name=value): commands are JSON; send the JSON object"
    if _YAML(text, begin):
        return "the record is YAML or plain text: commands are JSON; send the JSON object"
    return None


def _broken_object(text: str, broke_at: int, rest: str) -> str | None:
    if text.startswith(("'", "u'"), broke_at):
        return "the record has names in single quotation marks, as Python prints a dict: encode it as JSON (json.dumps)"
    if rest.startswith(("//", "/*", "#")):
        return f"the record holds a comment at character {broke_at}, which JSON does not know: leave it out"
    if rest.startswith(("True", "False", "None")):
        return f"the record holds a word of Python at character {broke_at}: encode it as JSON (json.dumps)"
    before = text[:broke_at].rstrip()[-1:]
    if before == "," and rest.startswith("}"):
        return f"the record has a comma before the brace at character {broke_at}, which JSON does not allow: leave it out"
    if before in ("{", ",") and _UNQUOTED(rest):
        return (
            f"the record has a name without double quotation marks at character {broke_at}: encode it as JSON"
        )
    if rest.startswith("=>"):
        return "the record has => between names and values, as Ruby prints a hash: encode it as JSON"
    if text.rfind("}", 0, broke_at) > text.rfind('"', 0, broke_at):
        if rest.startswith("{"):
            what = "JSON objects one after the other (JSON Lines)"
            return f"the record is several {what}: send each command as a record of its own"
        if rest.startswith("\x00"):
            return "the record has NUL characters behind its JSON: send it without them"
    return None


def shape_of_json(value: object) -> str | None:
    """Return what a record that is JSON and no object is, with the cure, as a sentence."""
    if isinstance(value, list) and any(isinstance(one, dict) for one in value[:1]):
        count = f"a JSON list of {len(value)}" if len(value) != 1 else "a JSON list of one"
        return f"the record is {count}, not an object: send each command as a record of its own"
    if isinstance(value, str):
        bare = value[:64].lstrip()
        if bare.startswith(('"{', '"\\"')):
            return "the record is JSON that was encoded more than twice: send the object itself"
        if bare.startswith(("{", "[")):
            return "the record is JSON inside a JSON string, so it was encoded twice: send the object itself"
        if bare.startswith(("ey", "ewo", "ewr")):
            return "the record is base64 inside a JSON string: send the JSON object itself"
    return None


_WRAPPERS: Final = (
    (
        "payload",
        "schema",
        "in Kafka Connect's envelope (schema, payload): set value.converter.schemas.enable=false",
    ),
    ("after", "op", "a change event of Debezium (before, after, op): unwrap it (ExtractNewRecordState)"),
    ("after", "before", "a change event of Debezium (before, after): unwrap it (ExtractNewRecordState)"),
    ("before", "op", "a change event of Debezium (before, op): unwrap it (ExtractNewRecordState)"),
    (
        "data_base64",
        "specversion",
        "a structured CloudEvent with binary data: its data must be the command, as a JSON object",
    ),
    ("data", "specversion", "a structured CloudEvent: its data must be the command, as a JSON object"),
    (
        "specversion",
        "type",
        "a structured CloudEvent without data: its data must be the command, as a JSON object",
    ),
    ("detail", "detail-type", "an event of EventBridge: send what is in detail"),
    ("records", "records", "a request to a REST proxy: send the value of each record"),
    ("Records", "Records", "a batch of another queue: send each command as a record of its own"),
)
"""Two fields by which an envelope is known, the first of which holds what is meant, and what the record then is."""


def command_inside(fields: Mapping[str, Any]) -> tuple[str, Mapping[str, Any], str] | None:
    """
    Return the envelope that a record's object is, when it is one: the field at fault, what of a command is inside, a sentence.

    The command inside is not carried out: it serves to inform whoever sent it.
    """
    if "action" in fields or "user_ids" in fields:
        return None
    for name, mark, what in _WRAPPERS:
        if name in fields and mark in fields:
            return name, _inside(fields[name]), f"the record is {what}"
    for name, value in fields.items():
        if _is_command(value) and name != "metadata":
            where = shown(name, quoted=False)
            return (
                where,
                value,
                f"the command is inside the field {where}: send the object in it as the record",
            )
        if (
            len(fields) <= 4
            and isinstance(value, str)
            and value[:64].lstrip().startswith("{")
            and '"action"' in value
        ):
            where = shown(name, quoted=False)
            return (
                where,
                {},
                f"the command is JSON text inside the field {where}: send the object itself as the record",
            )
    return None


def _inside(value: object) -> Mapping[str, Any]:
    """Return the fields of a command in an envelope's content, which may be an envelope itself."""
    if isinstance(value, dict) and not _is_command(value):
        value = value.get("after") or value.get("payload")
    return value if isinstance(value, dict) else {}


def _is_command(value: object) -> bool:
    return isinstance(value, dict) and "action" in value and "user_ids" in value
