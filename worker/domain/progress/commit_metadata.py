# The text in a commit's metadata: its partition and topic, its offset, and which records above that are done.
#
# Others may commit for the group, too: Kafka Streams, a mirror that moves offsets, a person. So no text is believed because it parses:
# a text is ours only if this module would write exactly the same for this partition and offset. What the bits are used for is in
# offset_tracker.py.
#
# The last commit of a clean handover has a tag of its own, and says when the partition's slice of the quota is free. Commits of static
# members also name their owner. A build that does not know a format takes it for a foreign text, believes nothing of it, and waits as
# long as after a crash.

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import zlib
from typing import Final

METADATA_BYTES: Final = 4096
"""What a broker allows by default in a commit's metadata (``offset.metadata.max.bytes``)."""
FORMAT: Final = "mw1"
"""Names the format and its version: the first field of every text."""
LAST_FORMAT: Final = "mw2"
"""As ``FORMAT``, of a clean handover: no request of the partition can act any more. It says when the partition's slice is free."""
NAMED_FORMAT: Final = "mw3"
"""As ``FORMAT``, with the owner's mark."""
NAMED_LAST_FORMAT: Final = "mw4"
"""As ``LAST_FORMAT``, with the owner's mark."""
MARK_CHARACTERS: Final = 16
"""The length of an owner's mark: two static members of a group have the same one by chance as good as never."""
NAME_BYTES: Final = 249
"""The longest name that Kafka gives a topic; its id takes 22."""
FREE_IN_DIGITS: Final = 4
"""A permit comes back a second after its answer: milliseconds up to 9999 are more than enough."""
NAMED_TEXT: Final = re.compile(r"mw[34];[^;]*;[0-9]+;[0-9]{19};([0-9a-f]{16});")
LAST_TEXT: Final = re.compile(r"mw[24];[^;]*;[0-9]+;[0-9]{19};(?:[0-9a-f]{16};)?([0-9]{4});")
HEAD_BYTES: Final = len(f"{FORMAT};name:;{2**31 - 1};{2**63 - 1};;{0:08x};") + NAME_BYTES + MARK_CHARACTERS
MAX_SPAN: Final = (METADATA_BYTES - HEAD_BYTES) // 4 * 3 * 8
"""How many offsets a bitmap can hold, in base64, beside the longest head without ``FREE_IN_DIGITS``."""
EXCERPT: Final = 32
"""How many characters of a foreign text are shown."""


def label(topic: str, topic_id: str | None, partition: int) -> str:
    """Name the partition by the id of its topic, which another topic of that name would not have, or without one by its name."""
    return f"{f'name:{topic}' if topic_id is None else f'id:{topic_id}'};{partition}"


def mark_of(instance_id: str | None) -> str:
    """Return the mark of a static member; empty for a dynamic one, whose name nobody has again."""
    return "" if instance_id is None else hashlib.sha256(instance_id.encode()).hexdigest()[:MARK_CHARACTERS]


def encode(whose: str, base: int, bits: int, free_in_ms: int | None = None, owner: str = "") -> str:
    """
    Return the text for a partition (see ``label``) with ``base`` as its offset; empty when there is nothing to say: no record above
    ``base`` is done, this is no clean handover, and its owner has no mark.

    ``free_in_ms``: of a clean handover, the milliseconds from now on after which no request counts on the slice any more. Where it does
    not fit, beside the fullest bitmap under the longest name, the text says nothing of the handover. Numbers have a fixed width: else a
    commit could become too long for the broker though no bit was added.
    """
    is_last = free_in_ms is not None
    if not bits and not is_last and not owner:
        return ""
    bitmap = base64.b64encode(bits.to_bytes((bits.bit_length() + 7) // 8, "little")).decode("ascii")
    if owner:
        head = f"{NAMED_LAST_FORMAT if is_last else NAMED_FORMAT};{whose};{base:019d};{owner}"
    else:
        head = f"{LAST_FORMAT if is_last else FORMAT};{whose};{base:019d}"
    if is_last:
        head += f";{free_in_ms:0{FREE_IN_DIGITS}d}"
    text = f"{head};{zlib.crc32(f'{head};{bitmap}'.encode()):08x};{bitmap}"
    return encode(whose, base, bits, owner=owner) if is_last and len(text) > METADATA_BYTES else text


def decode(text: str, whose: str, base: int) -> int | None:
    """Return the bitmap of this partition at this offset: 0 for an empty text, None for one that is not ours, or of another place."""
    if not text:
        return 0
    if len(text) > METADATA_BYTES:
        return None
    try:
        bits = int.from_bytes(base64.b64decode(text.rpartition(";")[2], validate=True), "little")
    except (binascii.Error, ValueError):
        return None
    expected = encode(whose, base, bits, slice_free_in_ms(text), owner_of(text))
    return bits if expected == text else None


def slice_free_in_ms(text: str) -> int | None:
    """
    Return, of a text that ``decode`` believes, how many milliseconds after the commit the slice is free; None if it is not that of a
    clean handover.
    """
    found = LAST_TEXT.match(text)
    return None if found is None else int(found[1])


def owner_of(text: str) -> str:
    """Return the mark of the owner that wrote a text, if ``decode`` believes it; empty without one."""
    found = NAMED_TEXT.match(text)
    return "" if found is None else found[1]


def excerpt(text: str) -> str:
    """Return the beginning of a foreign text, fit to be shown."""
    return ascii(text[:EXCERPT])[1:-1]
