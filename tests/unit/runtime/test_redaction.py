# What is taken out of a text, by itself. That no line passes beside it is proven in test_logging_setup.py.

from __future__ import annotations

from worker.redaction import HIDDEN, Redaction


def test_a_secret_that_is_learned_later_does_not_bring_an_earlier_one_to_light() -> None:
    """
    A key that was rotated away may still be accepted.
    """
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
