# Instants as texts and as numbers. Seconds since 1970 are floats; texts are RFC 3339.

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

_RFC3339: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]((?:[01][0-9]|2[0-3]):[0-5][0-9]:)([0-5][0-9]|60)((?:\.[0-9]+)?)"
    r"([Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)


@lru_cache(maxsize=1024)
def rfc3339(instant: float) -> str:
    """
    Write seconds since 1970 as RFC 3339 in UTC, with milliseconds.

    What is received, called or finished together has its times in common: most of them are asked for many times.
    """
    milliseconds = round(instant * 1e6) // 1000
    moment = datetime.fromtimestamp(milliseconds // 1000, UTC).replace(microsecond=milliseconds % 1000 * 1000)
    return moment.isoformat(timespec="milliseconds")[:-6] + "Z"


def instant_of(text: str) -> float:
    """
    Read RFC 3339 as seconds since 1970. Raises ValueError if it is none, or names no offset from UTC.

    A leap second counts as the second before it: seconds since 1970 have none.
    """
    found = _RFC3339.fullmatch(text)
    if found is None:
        raise ValueError("it is not RFC 3339 with an offset from UTC, as in 2030-01-31T12:00:00Z")
    day, minute, second, fraction, zone = found.groups()
    if second == "60":
        second = "59"
    return datetime.fromisoformat(f"{day}T{minute}{second}{fraction}{zone.upper()}").timestamp()
