# Instants as texts and as numbers. Seconds since 1970 are floats; texts are RFC 3339.

from datetime import UTC, datetime


def rfc3339(instant: float) -> str:
    """
    Seconds since 1970 as RFC 3339 in UTC, with milliseconds.
    """
    return datetime.fromtimestamp(instant, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def instant_of(text: str) -> float:
    """
    RFC 3339 as seconds since 1970. Raises ValueError if it is none, or names no offset from UTC.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("an offset from UTC is missing")
    return moment.timestamp()
