# The pages of words, taken apart: their fenced blocks, links, tables and command lines. No test is here.

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]

_FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
_HEADING: Final = re.compile(r"^#+ (.+)$", re.MULTILINE)
_CODE: Final = re.compile(r"`([^`\n]+)`")


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of one language, in order; the language "" are those that name none."""
    return [body for name, body in _FENCE.findall(text(page)) if name == language]


def prose(page: str) -> str:
    """All that does not stand in a fenced block."""
    return _FENCE.sub("", text(page))


def links(page: str) -> list[str]:
    """Where links go that do not leave the repository."""
    return [link for link in _LINK.findall(prose(page)) if "://" not in link]


def anchors(page: str) -> set[str]:
    """What the page's headings can be linked by, as GitHub makes it."""
    titles = (re.sub(r"[`*\[\]]", "", title).lower() for title in _HEADING.findall(prose(page)))
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


def code(page: str) -> list[str]:
    """What is between single backticks."""
    return _CODE.findall(prose(page))


def lines(page: str) -> list[str]:
    """Every line of every fenced block, those that go on joined."""
    return [line for _, body in _FENCE.findall(text(page)) for line in body.replace("\\\n", " ").splitlines()]


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    return tables(page, heading)[0]


def tables(page: str, heading: str) -> list[list[list[str]]]:
    """The cells of each table below a heading, without its head, up to the next heading of its level."""
    _, _, below = text(page).partition(f"\n{heading}\n")
    assert below, f"{page} has no heading {heading!r}"
    section = below.partition(f"\n{heading.split(maxsplit=1)[0]} ")[0]
    found = re.findall(r"^(?:\|.*\n)+", section, re.MULTILINE)
    assert found, f"{heading} has no table"
    return [
        [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table.splitlines()[2:]]
        for table in found
    ]


def command_lines(page: str) -> list[list[str]]:
    """The words of every command line of the page's shell blocks, up to a pipe or a comment."""
    shell = "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    return [words for line in shell if (words := _until_pipe(shlex.split(line, comments=True)))]


def _until_pipe(words: list[str]) -> list[str]:
    return words[: words.index("|")] if "|" in words else words
