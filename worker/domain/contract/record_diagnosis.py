# A record, read with care: all faults of its fields by themselves, and the fields that can be read all the same.
#
# The JSON is taken apart in bounded_json_reader.py, other formats are recognised in foreign_format_hints.py.

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain, islice
from json import JSONDecodeError
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct, structs

from worker.domain.contract.bounded_json_reader import TOO_DEEP, JsonFields, JsonReader
from worker.domain.contract.field_checks import (
    FAULTS,
    FIELDS,
    METADATA_BYTES,
    NEEDED,
    faults_of,
    kind,
    own_faults,
)
from worker.domain.contract.foreign_format_hints import (
    command_inside,
    shape_of_bytes,
    shape_of_json,
    shape_of_text,
)
from worker.domain.contract.outcomes import OutcomeError
from worker.domain.contract.spelling_suggestions import meant_field
from worker.domain.contract.visible_text import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LONG_METADATA: Final = 16 * METADATA_BYTES
"""Characters besides blanks. An escape has at most six for a byte; a number could have more, if somebody wrote needless zeros."""


class RecordDiagnosis(Struct, frozen=True):
    """
    The readable fields of a record, and its faults.

    Attributes:
        fields: The fields of the JSON object, whatever their types; empty when it is none.
        faults: The faults of fields by themselves, at most ``FAULTS``; empty if there are none.
        given: The fields of a command that are in the record in some way: right, wrong, or misspelt.
        right: Those of ``given`` that are right by themselves.
        is_foreign: It is something else than a command, so its fields are not looked at together.
        attributes: Of a structured CloudEvent.
        data: The text of its data, if that is an object; the fault is for one inside another.

    """

    fields: Mapping[str, Any]
    faults: tuple[OutcomeError, ...] = ()
    given: frozenset[str] = frozenset()
    right: frozenset[str] = frozenset()
    is_foreign: bool = False
    attributes: Mapping[str, Any] | None = None
    data: bytes | None = None


def read(value: bytes) -> RecordDiagnosis:
    """
    Read a record with care and find out what is wrong with it. Never raises, and takes time in proportion to its length.

    It takes some twenty times as long as the typed decoder, so it is for records that the decoder refuses or may not judge alone.
    """
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        what = f"the record is not valid UTF-8: byte {error.start} is 0x{value[error.start]:02x}"
        return _foreign("not_utf8", shape_of_bytes(value), what)
    reader = JsonReader(text)
    begin = reader.skip_blanks(0)
    try:
        if not text.startswith("{", begin):
            return _no_object(reader, begin)
        json_fields, end = reader.fields(begin)
        reader.ends_at(end)
    except JSONDecodeError as error:
        shape = shape_of_bytes(value) or shape_of_text(text, begin, error.pos)
        return _foreign("not_json", shape, f"the record is not JSON: {error}")
    return _read(reader, json_fields)


def _foreign(code: str, shape: str | None, what: str) -> RecordDiagnosis:
    return RecordDiagnosis({}, (OutcomeError(code, shape or what),), is_foreign=True)


def _no_object(reader: JsonReader, begin: int) -> RecordDiagnosis:
    value, end = reader.value(begin)
    reader.ends_at(end)
    if reader.constants:
        return _foreign("not_json", None, f"the record is not JSON: {reader.constants[0]} is no JSON value")
    if isinstance(value, OutcomeError):  # too much to be read
        value = [] if reader.text.startswith("[", begin) else 0
    return _foreign(
        "not_an_object", shape_of_json(value), f"the record must be a JSON object, not {kind(value)}"
    )


def _read(reader: JsonReader, json_fields: JsonFields) -> RecordDiagnosis:
    fields = json_fields.read
    named = dict.fromkeys(json_fields.unread) | fields
    is_event = "specversion" in named and "action" not in named
    if is_event and "data" in named and reader.text.startswith("{", json_fields.spans["data"][0]):
        return _event(reader, json_fields)
    wrapped = command_inside(named)
    if wrapped is not None:
        name, inner, what = wrapped
        faults: tuple[OutcomeError, ...] = (OutcomeError("unknown_field", what, name),)
        return RecordDiagnosis(inner, faults, is_foreign=True, attributes=fields if is_event else None)
    _leave_out_long_metadata(reader, json_fields)
    own = own_faults(FIELDS, fields, "")
    right = frozenset(name for name, faults in own.items() if name in FIELDS and not faults)
    found = own | _unread(json_fields)
    strange = islice((name for name in found if name not in FIELDS), FAULTS)
    meant = {meant_field(name, tuple(FIELDS)) for name in strange}
    given = frozenset(name for name in FIELDS if name in found or name in meant)
    faults = tuple(islice(chain(_faults(reader, json_fields), faults_of(FIELDS, found, "")), FAULTS))
    if "metadata" not in right:  # it may be long, so it is looked through only once
        fields = {name: value for name, value in fields.items() if name != "metadata"}
    return RecordDiagnosis(fields, faults, given, right)


def _event(reader: JsonReader, json_fields: JsonFields) -> RecordDiagnosis:
    """Return the attributes of a structured CloudEvent and the text of its data, which is an object."""
    attributes = json_fields.read
    begin, end = json_fields.spans["data"]
    # An attribute that could not be read is as good as absent, and whoever reads the data tells better what is wrong there.
    strange = {name: constant for name, constant in json_fields.constants.items() if name != "data"}
    around = JsonFields(
        read=attributes, repeated=json_fields.repeated, constants=strange, spans=json_fields.spans
    )
    faults = tuple(islice(_faults(reader, around), FAULTS))
    if faults:
        inner = attributes.get("data")
        fields = inner if isinstance(inner, dict) else {}
        return RecordDiagnosis(fields, faults, is_foreign=True, attributes=attributes)
    what = "the data of a CloudEvent must be the command, not another CloudEvent"
    return RecordDiagnosis(
        attributes,
        (OutcomeError("unknown_field", what, "data"),),
        is_foreign=True,
        attributes=attributes,
        data=reader.text[begin:end].encode("utf-8", "surrogatepass"),
    )


def _leave_out_long_metadata(reader: JsonReader, json_fields: JsonFields) -> None:
    """Leave metadata unread that is much too long, however it was written."""
    begin, end = json_fields.spans.get("metadata", (0, 0))
    size = end - begin - sum(reader.text.count(blank, begin, end) for blank in " \t\n\r")
    if size > LONG_METADATA and isinstance(json_fields.read.get("metadata"), dict):
        what = f"has {size} characters besides blanks, and {METADATA_BYTES} bytes as JSON are allowed"
        json_fields.keep("metadata", OutcomeError("too_long", what))


def _faults(reader: JsonReader, json_fields: JsonFields) -> Iterator[OutcomeError]:
    """Return the faults of the record as JSON, names that are given twice among them."""
    for name, constant in json_fields.constants.items():
        where = f" ({shown(name, quoted=False)})" if name else ""
        remedy = "write another" if name in NEEDED else "leave the field out"
        yield OutcomeError(
            "not_json", f"the record is not JSON: {constant}{where} is no JSON value; {remedy}"
        )
    for name, fault in json_fields.unread.items():
        if (
            fault is TOO_DEEP
            and name == "metadata"
            and reader.text.startswith("{", json_fields.spans[name][0])
        ):
            yield _at(name, fault)
        elif fault is TOO_DEEP:  # nothing else may be nested, so there is no field that is only too deep
            yield OutcomeError(fault.code, f"the record {fault.message}")
    inner: Iterable[str] = ()
    if isinstance(json_fields.read.get("member_info"), dict) and "member_info" in json_fields.spans:
        inner = reader.repeated(json_fields.spans["member_info"][0])
    for path, names in (("", json_fields.repeated), ("member_info.", inner)):
        for name in names:
            twice = path + shown(name, quoted=False)
            yield OutcomeError("duplicate_field", f"the field {twice} is given twice", twice)


def _unread(json_fields: JsonFields) -> dict[str, list[OutcomeError]]:
    """Return the fields that were not read, each with its fault, beside those that were named before."""
    return {
        name: [] if fault is None or fault is TOO_DEEP else [_at(name, fault)]
        for name, fault in json_fields.unread.items()
        if name
    }


def _at(name: str, fault: OutcomeError) -> OutcomeError:
    field = shown(name, quoted=False)
    return structs.replace(fault, message=f"{field} {fault.message}", field=field)
