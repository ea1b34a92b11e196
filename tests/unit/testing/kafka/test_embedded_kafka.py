# The embedded broker's settings, as Java reads them. That it runs: tests/process/test_embedded_kafka.py.

from __future__ import annotations

import pytest

from worker.testing.kafka.embedded_kafka import _escaped


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("/a b=c:d#e!", "/a b=c:d#e!"),
        ("a\\b", r"a\u005cb"),
        ("é群", r"\u00e9\u7fa4"),
        ("😀", r"\ud83d\ude00"),
        ("a\nb\tc", r"a\u000ab\u0009c"),
    ],
    ids=ascii,
)
def test_a_value_reaches_java_as_it_is(text: str, written: str) -> None:
    """
    A properties file is Latin-1 for Java, and a backslash in it escapes: Kafka kept its data in a folder of another name.
    """
    assert _escaped(text) == written
