# What people send instead of a command: each is refused with what it is and what to do about it.

from __future__ import annotations

import base64
import bz2
import gzip
import json
import lzma
import re
import zlib
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from tests.unit.domain.samples import BAN, EVERYTHING, command, decode, encoded, rejected, without
from worker.domain.contract.rejections import Rejected

if TYPE_CHECKING:
    from tests.unit.domain.samples import Headers

TEXT = encoded(BAN).decode()
MSGPACK = b"\x82\xaacommand_id\xa3c-1\xa6action\xa3ban"
AVRO = b"\x06c-1\x2egroup.ban_group_member\xff"
CONNECT: dict[str, Any] = {"schema": {"type": "struct"}, "payload": BAN}
DEBEZIUM: dict[str, Any] = {"before": None, "after": BAN, "source": {"db": "x"}, "op": "c", "ts_ms": 1}
EVENT: dict[str, Any] = {"specversion": "1.0", "id": "e-1", "source": "/d", "type": "ban", "data": BAN}

# Each line: what was sent, the code, and words of the sentence: what it is, and the cure.
FOREIGN: list[tuple[str, object, str, tuple[str, ...]]] = [
    ("a registry's frame around JSON", b"\x00\x00\x00\x00\x07" + encoded(BAN), "not_json", ("schema registry", "schema id 7", "JSON inside", "serialiser")),
    ("a registry's frame around Avro", b"\x00\x00\x00\x00\x07" + AVRO, "not_utf8", ("schema registry", "schema id 7", "Avro or Protobuf")),
    ("a registry's frame around Avro that is UTF-8", b"\x00\x00\x01\x00\x07\x06c-1", "not_json", ("schema registry", "schema id 65543")),
    ("Glue's frame", b"\x03\x00" + bytes(range(16)) + AVRO, "not_utf8", ("AWS Glue", "first byte is 3", "serialiser")),
    ("Glue's frame around JSON", b"\x03\x05" + b"0123456789abcdef" + encoded(BAN), "not_json", ("AWS Glue", "first byte is 3")),
    ("a frame with a GUID", b"\x01" + b"0123456789abcdef" + encoded(BAN), "not_json", ("schema registry", "first byte is 1")),
    ("an Avro container", b"Obj\x01\x04\x16avro.schema\xfe", "not_utf8", ("Avro container", "send the JSON object")),
    ("an Avro container in ASCII", b"Obj\x01\x04\x16avro.schema", "not_json", ("Avro container",)),
    ("gzip", gzip.compress(encoded(BAN)), "not_utf8", ("gzip", "compression.type")),
    ("zlib", zlib.compress(encoded(BAN)), "not_utf8", ("zlib", "compression.type")),
    ("bzip2", bz2.compress(encoded(BAN)), "not_utf8", ("bzip2", "compression.type")),
    ("xz", lzma.compress(encoded(BAN)), "not_utf8", ("xz", "compression.type")),
    ("zstd", b"\x28\xb5\x2f\xfd\x24\x03\x19\x00\x00abc", "not_utf8", ("zstd", "compression.type")),
    ("lz4", b"\x04\x22\x4d\x18\x64\x40\xa7", "not_utf8", ("lz4", "compression.type")),
    ("snappy", b"\x82SNAPPY\x00\x00\x00\x00\x01", "not_utf8", ("snappy", "compression.type")),
    ("snappy in frames", b"\xff\x06\x00\x00sNaPpY", "not_utf8", ("snappy", "compression.type")),
    ("a zip archive", b"PK\x03\x04\x14\x00", "not_json", ("zip", "JSON object")),
    ("a serialised Java object", b"\xac\xed\x00\x05t\x00\x03abc", "not_utf8", ("Java", "string serialiser")),
    ("MessagePack", MSGPACK, "not_utf8", ("MessagePack", "JSON")),
    ("MessagePack with many fields", b"\xde\x00\x10\xaacommand_id", "not_utf8", ("MessagePack",)),
    ("MessagePack with very many fields", b"\xdf\x00\x01\x00\x00\xaacommand_id", "not_utf8", ("MessagePack",)),
    ("CBOR", b"\xa2\x6acommand_id\x63c-1\x66action\x63ban", "not_utf8", ("CBOR", "JSON")),
    ("CBOR that says so", b"\xd9\xd9\xf7\xa0", "not_utf8", ("CBOR",)),
    ("BSON", b"\x10\x00\x00\x00\x02a\x00\x04\x00\x00\x00abc\x00\x00", "not_json", ("BSON", "JSON")),
    ("Protobuf", b"\x0a\x05ban-1\x12\x03ban", "not_json", ("Protobuf", "JSON")),
    ("UTF-16 with a mark", TEXT.encode("utf-16"), "not_utf8", ("UTF-16", "UTF-8")),
    ("UTF-16, big-endian, with a mark", b"\xfe\xff" + TEXT.encode("utf-16-be"), "not_utf8", ("UTF-16", "UTF-8")),
    ("UTF-16 without a mark", TEXT.encode("utf-16-le"), "not_json", ("UTF-16", "UTF-8")),
    ("UTF-16, big-endian", TEXT.encode("utf-16-be"), "not_json", ("UTF-16", "UTF-8")),
    ("UTF-16 of a list", ("[" + TEXT + "]").encode("utf-16-be"), "not_json", ("UTF-16", "UTF-8")),
    ("UTF-16 behind a blank", (" " + TEXT).encode("utf-16-le"), "not_json", ("UTF-16", "UTF-8")),
    ("UTF-16 with a tab", ("{\t" + TEXT[1:]).encode("utf-16-be"), "not_json", ("UTF-16", "UTF-8")),
    ("JSON encoded three times", json.dumps(TEXT), "not_an_object", ("more than twice", "send the object itself")),
    ("names of JavaScript", b'{command_id: "c-1"}', "not_json", ("name without double quotation marks", "encode it as JSON")),
    ("a map as Java prints it", b"{command_id=c-1, action=x}", "not_json", ("name without double quotation marks",)),
    ("a comma behind the last field", encoded(BAN)[:-1] + b",\n}", "not_json", ("comma before the brace", "leave it out")),
    ("a comment before the object", b"// ban\n" + encoded(BAN), "not_json", ("comment", "leave it out")),
    ("a block of comment", b" /* ban */" + encoded(BAN), "not_json", ("comment", "leave it out")),
    ("UTF-32 with a mark", TEXT.encode("utf-32"), "not_utf8", ("UTF-32", "UTF-8")),
    ("UTF-32 without a mark", TEXT.encode("utf-32-le"), "not_json", ("UTF-32", "UTF-8")),
    ("UTF-32, big-endian", TEXT.encode("utf-32-be"), "not_json", ("UTF-32", "UTF-8")),
    ("a byte order mark", b"\xef\xbb\xbf" + encoded(BAN), "not_json", ("byte order mark", "without it")),
    ("GBK", '{"reason": "垃圾"}'.encode("gbk"), "not_utf8", ("another encoding", "GBK", "byte 12")),
    ("Latin-1", '{"reason": "é"}'.encode("latin-1"), "not_utf8", ("another encoding", "Latin-1")),
    ("JSON Lines", encoded(BAN) + b"\n" + encoded(BAN) + b"\n", "not_json", ("JSON Lines", "record of its own")),
    ("objects without a line between", encoded(BAN) * 3, "not_json", ("one after the other", "record of its own")),
    ("a list of commands", [BAN, BAN], "not_an_object", ("a JSON list of 2", "record of its own")),
    ("a list of one command", [BAN], "not_an_object", ("list of one", "record of its own")),
    ("JSON in JSON", TEXT, "not_an_object", ("encoded twice", "send the object itself")),
    ("base64 in JSON", base64.b64encode(encoded(BAN)).decode(), "not_an_object", ("base64",)),
    ("base64", base64.b64encode(encoded(BAN)), "not_json", ("base64", "JSON object itself")),
    ("base64 of JSON on lines", base64.b64encode(json.dumps(BAN, indent=1).encode()), "not_json", ("base64",)),
    ("percent-encoded JSON", b"%7B%22command_id%22%3A1%7D", "not_json", ("percent-encoding",)),
    ("a form", urlencode({"command_id": "c-1", "action": "ban"}).encode(), "not_json", ("form", "JSON object")),
    ("XML", b"<?xml version='1.0'?><ban/>", "not_json", ("XML", "JSON object")),
    ("YAML", b"command_id: c-1\naction: ban\n", "not_json", ("YAML", "JSON object")),
    ("a YAML document", b"---\ncommand_id: c-1\n", "not_json", ("YAML",)),
    ("a printed dict", str(BAN).encode(), "not_json", ("single quotation marks", "json.dumps")),
    ("a printed constant", b'{"command_id": "c-1", "x": True}', "not_json", ("Python", "json.dumps")),
    ("a printed hash", b'{"command_id"=>"c-1"}', "not_json", ("Ruby", "JSON")),
    ("a comment", b'{"command_id": "c-1", // the id\n"action": "x"}', "not_json", ("comment", "leave it out")),
    ("a string as C ends it", encoded(BAN) + b"\x00", "not_json", ("NUL", "without them")),
    ("Connect's envelope", CONNECT, "unknown_field", ("Kafka Connect", "schemas.enable=false")),
    ("Debezium's change", DEBEZIUM, "unknown_field", ("Debezium", "ExtractNewRecordState")),
    ("Debezium's change, short", {"before": BAN, "after": BAN}, "unknown_field", ("Debezium",)),
    ("Debezium's deletion", {"before": BAN, "op": "d"}, "unknown_field", ("Debezium",)),
    ("Debezium's change in Connect's envelope", {"schema": {}, "payload": DEBEZIUM}, "unknown_field", ("Kafka Connect",)),
    ("a CloudEvent without data", without(EVENT, "data"), "unknown_field", ("CloudEvent", "data")),
    ("a CloudEvent whose data is text", {**EVENT, "data": TEXT}, "unknown_field", ("CloudEvent", "JSON object")),
    ("a CloudEvent with binary data", {**without(EVENT, "data"), "data_base64": "e30="}, "unknown_field", ("binary data",)),
    ("EventBridge", {"detail-type": "ban", "source": "x", "detail": BAN}, "unknown_field", ("EventBridge", "detail")),
    ("a REST proxy's request", {"records": [{"value": BAN}]}, "unknown_field", ("REST proxy", "value")),
    ("another queue's batch", {"Records": [{"body": TEXT}]}, "unknown_field", ("batch", "record of its own")),
    ("any envelope", {"data": BAN}, "unknown_field", ("inside the field data", "as the record")),
    ("any envelope with a name beside", {"topic": "t", "value": BAN}, "unknown_field", ("inside the field value",)),
    ("any envelope around text", {"message": TEXT}, "unknown_field", ("JSON text inside the field message",)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "code", "words"), [row[1:] for row in FOREIGN], ids=[row[0] for row in FOREIGN]
)
def test_a_foreign_format_is_named_with_its_cure(value: object, code: str, words: tuple[str, ...]) -> None:
    refused = rejected(value)

    assert refused.code == code, refused.message
    assert all(word in refused.message for word in words), refused.message
    assert refused.message.isprintable()
    assert len(refused.message) <= 512
    assert refused.also == ()


@pytest.mark.parametrize(
    "value",
    [
        CONNECT,
        DEBEZIUM,
        {"schema": {}, "payload": DEBEZIUM},
        {"specversion": "1.0", "data": CONNECT},
        {"detail-type": "ban", "detail": CONNECT},
        {"data": BAN},
    ],
)
def test_of_a_command_in_an_envelope_id_and_users_are_read(value: dict[str, Any]) -> None:
    """It is not carried out, but its id, its issuer and its users can be read."""
    refused = rejected(value)

    assert (refused.command_id, refused.group_id) == (BAN["command_id"], BAN["group_id"])
    assert refused.user_ids == tuple(BAN["user_ids"])


@pytest.mark.parametrize(
    "value",
    [
        *(
            b"\x00",
            b"\x00\x00",
            b"\x03",
            b"\x82",
            b"\xde",
            b"\xdf\x00",
            b"\xa2",
            b"\x0a",
            b"\x0a\x03c",
            b"\xff",
        ),
        *(
            b"{",
            b'{"a":1}}',
            b'{"a":1} x',
            b'{"a" "b"}',
            b'"',
            b"[",
            b"hello",
            b"e",
            b"eye of the storm!",
            b"\x01abc",
        ),
        *(b"\x80", b"\x8f\xa1\x01", b"x{}"),
    ],
)
def test_what_resembles_nothing_is_refused_as_what_it_is_not(value: bytes) -> None:
    """A wrong guess would send its sender to the wrong place."""
    refused = rejected(value)

    assert refused.code in ("not_json", "not_utf8")
    what, _, where = refused.message.partition(": ")
    assert what in ("the record is not JSON", "the record is not valid UTF-8")
    assert re.fullmatch(r"byte \d+ is 0x[0-9a-f]{2}|.+: line \d+ column \d+ \(char \d+\)", where)


def test_a_structured_cloudevent_is_the_command_in_its_data() -> None:
    assert command(EVENT) == command(BAN)


def test_a_structured_cloudevents_attributes_stand_in_as_headers_do() -> None:
    event = {
        **EVENT,
        "time": "2030-01-01T00:00:00Z",
        "traceparent": "00-1",
        "data": without(BAN, "command_id"),
    }

    read = command(event, (("traceparent", b"00-2"), ("ce_id", b"h-1")))

    assert (read.command_id, read.issued_at, read.traceparent) == ("e-1", "2030-01-01T00:00:00Z", "00-1")


@pytest.mark.parametrize(
    "attributes", [{"id": 5, "time": None}, {"id": "", "time": "x" * 100}, {"id": "a\nb"}]
)
def test_an_attribute_that_is_not_usable_is_as_good_as_absent(attributes: dict[str, Any]) -> None:
    headers: Headers = (("ce_id", b"h-1"), ("ce_time", b"12:00"))

    read = command(EVENT | attributes | {"data": without(BAN, "command_id")}, headers)

    assert (read.command_id, read.issued_at) == ("h-1", "12:00")


@pytest.mark.parametrize(
    ("data", "code", "field"),
    [
        ({**BAN, "resaon": "x"}, "unknown_field", "resaon"),
        ({**BAN, "user_ids": ["moderator"]}, "protected_user", "user_ids[0]"),
        (without(BAN, "group_id"), "missing_field", "group_id"),
        ({}, "missing_field", "action"),
        ({**BAN, "reason": "a\ud800"}, "bad_character", "reason"),
        (EVENT, "unknown_field", "data"),
    ],
)
def test_a_structured_cloudevents_data_is_judged_as_a_record(data: object, code: str, field: str) -> None:
    refused = decode({**EVENT, "data": data})

    assert isinstance(refused, Rejected)
    assert (refused.code, refused.field) == (code, field)


@pytest.mark.parametrize(
    "first", ['"data": {}', '"id": "e-0"', '"id": "e-1"', '"extension": 1, "extension": 2']
)
def test_an_attribute_of_an_event_is_not_given_twice(first: str) -> None:
    """Of two commands in one event the first was silently lost."""
    refused = rejected(b"{" + first.encode() + b", " + encoded(EVENT)[1:])

    assert (refused.code, refused.field) == ("duplicate_field", first.split('"')[1])
    assert refused.command_id == BAN["command_id"]


def test_an_event_that_is_no_json_is_not_carried_out() -> None:
    refused = rejected(b'{"weight": NaN, ' + encoded(EVENT)[1:])

    assert (refused.code, refused.command_id) == ("not_json", BAN["command_id"])
    assert "NaN (weight)" in refused.message


@pytest.mark.parametrize(
    ("duration", "code"),
    [(b"NaN", "not_json"), (b"1" * 5000, "out_of_range"), (b"[" * 99 + b"]" * 99, "too_deep")],
)
def test_what_cannot_be_read_in_an_events_data_is_told_as_in_a_record(duration: bytes, code: str) -> None:
    """It was said that the event had no data, and nobody who waited for its outcome got one."""
    record = encoded(BAN).replace(b"3600", duration)
    event = encoded({**EVENT, "data": "here"}).replace(b'"here"', record)

    assert rejected(event) == rejected(record)
    assert rejected(event).code == code


@pytest.mark.parametrize("data", [b'"text"', b"null", b"[{}]", b"1" * 5000, b"[" * 99 + b"]" * 99, b"NaN"])
def test_who_waits_for_an_event_without_a_command_in_it_is_told(data: bytes) -> None:
    """The event's id stands in for the command's, as it does in an event that is carried out."""
    refused = rejected(encoded({**EVENT, "data": "here"}).replace(b'"here"', data))

    assert (refused.code, refused.field, refused.command_id) == ("unknown_field", "data", "e-1")


@pytest.mark.parametrize("unusable", [None, 7, "", "e\u200b"])
def test_an_event_whose_id_cannot_be_used_is_told_that_it_might_have_one(unusable: object) -> None:
    refused = rejected({**EVENT, "id": unusable, "data": without(BAN, "command_id")})

    assert (refused.code, refused.field) == ("missing_field", "command_id")
    assert "no usable header ce_id or id of a CloudEvent" in refused.message


@pytest.mark.parametrize("event", [without(EVENT, "data"), {**without(EVENT, "data"), "data_base64": "e30="}])
def test_who_waits_for_an_event_without_an_object_is_told(event: dict[str, Any]) -> None:
    assert rejected(event).command_id == "e-1"


def test_a_field_given_twice_inside_an_events_data_is_found() -> None:
    value = encoded(EVENT).replace(b'"data": {', b'"data": {"duration": 1, ')

    assert (rejected(value).code, rejected(value).field) == ("duplicate_field", "duration")


def test_a_command_with_an_events_field_is_still_a_command_with_an_unknown_field() -> None:
    assert rejected({**EVERYTHING, "specversion": "1.0", "data": BAN}).code == "unknown_field"
