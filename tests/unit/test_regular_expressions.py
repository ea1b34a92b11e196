# No regular expression of the worker can be made to run for ever by what it is given.
#
# Where a repetition is inside another, or two of the same characters beside each other, a text can be split between them in
# many ways, and all of them are tried before it is refused.

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

sre: Any = importlib.import_module("re._constants")
parser: Any = importlib.import_module("re._parser")

ROOT = Path(__file__).parents[2]
READERS_OF_FOREIGN_BYTES = ("worker/domain", "worker/broker", "worker/redaction.py")
REPEATS = {sre.MAX_REPEAT, sre.MIN_REPEAT}
"""Possessive repetitions and atomic groups give nothing back, so they are harmless."""


def sources() -> Iterator[Path]:
    for place in READERS_OF_FOREIGN_BYTES:
        path = ROOT / place
        yield from [path] if path.is_file() else path.rglob("*.py")


def patterns_of(path: Path) -> Iterator[str]:
    """The patterns that a module keeps, and those that it writes where it uses them."""
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    for kept in vars(module).values():
        owner = getattr(kept, "__self__", kept)
        if isinstance(owner, re.Pattern):
            yield owner.pattern.decode("latin-1") if isinstance(owner.pattern, bytes) else owner.pattern
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Call(ast.Attribute(ast.Name("re")), [ast.Constant(str(written)), *_]):
                yield written


def parts_of(argument: Any) -> Iterator[Any]:
    """The sequences inside a part of a parsed pattern."""
    if isinstance(argument, parser.SubPattern):
        yield argument
    elif isinstance(argument, list | tuple):
        for inner in argument:
            yield from parts_of(inner)


def is_endless(operation: Any, argument: Any) -> bool:
    """Whether it repeats, as often as a text is long."""
    return operation in REPEATS and argument[1] > 1_000


def is_perilous(pattern: Any, *, inside: bool = False) -> bool:
    """Whether a repetition without end is inside another, or right behind one of the same characters."""
    before = None
    for operation, argument in pattern:
        endless = is_endless(operation, argument)
        if endless and (inside or (before is not None and before == str(argument[2]))):
            return True
        before = str(argument[2]) if endless else None
        harmless = operation in {sre.ATOMIC_GROUP, sre.POSSESSIVE_REPEAT}
        if any(is_perilous(part, inside=(inside or endless) and not harmless) for part in parts_of(argument)):
            return True
    return False


@pytest.mark.parametrize("path", sorted(sources()), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_pattern_repeats_what_it_repeats(path: Path) -> None:
    for pattern in patterns_of(path):
        assert not is_perilous(parser.parse(pattern)), f"{path.name}: {pattern[:80]}"


@pytest.mark.parametrize(
    "pattern", ["(a+)+", "(?:a|b*)*", "a*a*", r"(\s*x*)*y", "(?:(?:ab)+c?)+", "[a-z]+[a-z]+"]
)
def test_the_check_finds_what_it_is_for(pattern: str) -> None:
    assert is_perilous(parser.parse(pattern))


@pytest.mark.parametrize(
    "pattern", ["a+b+", "(?:a{1,3}b)+", "(?>a+)+", "(?:a++)*+", r"(?:\.[0-9]+)?", "[a-z]+[0-9]+"]
)
def test_the_check_lets_pass_what_is_harmless(pattern: str) -> None:
    assert not is_perilous(parser.parse(pattern))
