# The text in a commit's metadata: which partition of which topic it is of, at which offset, and what is done above it.
#
# Whatever commits for the group writes there: Kafka Streams, a mirror that moves offsets, a person. So nothing is believed
# because it parses: a text is ours only if this module would write exactly the same for this partition and offset.
# What the bits are used for is in offset_tracker.py.
#
# The format of a last commit differs in its tag: it says that its owner handed it over cleanly. Those of static members also name
# their owner. A build that does not know a tag takes it for a foreign text, believes nothing of it, and waits as long as after a
# crash.

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
"""As ``FORMAT``, of a clean handover: nothing of it is on its way, of unknown end, or lent."""
NAMED_FORMAT: Final = "mw3"
"""As ``FORMAT``, with the owner's mark."""
NAMED_LAST_FORMAT: Final = "mw4"
"""As ``LAST_FORMAT``, with the owner's mark."""
MARK_CHARACTERS: Final = 16
"""How long the mark of an owner is: two static members of a group have the same by chance as good as never."""
NAME_BYTES: Final = 249
"""The longest name that Kafka gives a topic; its id takes 22."""
NAMED_TEXT: Final = re.compile(r"mw[34];[^;]*;[0-9]+;[0-9]{19};[0-9a-f]{16};")
HEAD_BYTES: Final = len(f"{FORMAT};name:;{2**31 - 1};{2**63 - 1};;{0:08x};") + NAME_BYTES + MARK_CHARACTERS
MAX_SPAN: Final = (METADATA_BYTES - HEAD_BYTES) // 4 * 3 * 8
"""How many offsets a bitmap can tell of, in base64, beside the longest head."""
EXCERPT: Final = 32
"""Characters of a foreign text that are shown."""


def label(topic: str, topic_id: str | None, partition: int) -> str:
    """Name the partition: by the id of its topic, which another topic of that name would not have; by its name without one."""
    return f"{f'name:{topic}' if topic_id is None else f'id:{topic_id}'};{partition}"


def mark_of(instance_id: str | None) -> str:
    """Return the mark of a static member; empty for a dynamic one, whose name nobody has again."""
    return "" if instance_id is None else hashlib.sha256(instance_id.encode()).hexdigest()[:MARK_CHARACTERS]


def encode(whose: str, base: int, bits: int, *, clean: bool = False, owner: str = "") -> str:
    """
    Return the text for a partition (see ``label``) with ``base`` as its offset; empty when there is nothing to say: nothing is done
    above it, this is no ``clean`` handover, and its owner has no mark.

    The offset has a fixed width: else a commit could outgrow what the broker takes though no bit was added.
    """
    if not bits and not clean and not owner:
        return ""
    bitmap = base64.b64encode(bits.to_bytes((bits.bit_length() + 7) // 8, "little")).decode("ascii")
    if owner:
        head = f"{NAMED_LAST_FORMAT if clean else NAMED_FORMAT};{whose};{base:019d};{owner}"
    else:
        head = f"{LAST_FORMAT if clean else FORMAT};{whose};{base:019d}"
    return f"{head};{zlib.crc32(f'{head};{bitmap}'.encode()):08x};{bitmap}"


def decode(text: str, whose: str, base: int) -> int | None:
    """Return the bitmap of this partition at this offset: 0 for an empty text, None for one that is not ours, or not of here."""
    if not text:
        return 0
    if len(text) > METADATA_BYTES:
        return None
    try:
        bits = int.from_bytes(base64.b64decode(text.rpartition(";")[2], validate=True), "little")
    except (binascii.Error, ValueError):
        return None
    expected = encode(whose, base, bits, clean=says_clean_handover(text), owner=owner_of(text))
    return bits if expected == text else None


def says_clean_handover(text: str) -> bool:
    """Return whether a text, if ``decode`` believes it, says that the owner which wrote it handed over cleanly."""
    return text.startswith((f"{LAST_FORMAT};", f"{NAMED_LAST_FORMAT};"))


def owner_of(text: str) -> str:
    """Return the mark of the owner which wrote a text, if ``decode`` believes it; empty without one."""
    return text.split(";")[4] if NAMED_TEXT.match(text) else ""


def excerpt(text: str) -> str:
    """Return the beginning of a foreign text, fit to be shown."""
    return ascii(text[:EXCERPT])[1:-1]
