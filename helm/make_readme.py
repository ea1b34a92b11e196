# ruff: noqa: INP001 - a script of this folder, no package
# Makes the table of values in the chart's README out of values.yaml: `python -m helm.make_readme`. A comment `# -- …` above a
# value tells what it is for, and covers what is below it. The rest of the README is written by hand and left alone.

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

CHART: Final = Path(__file__).parent / "moderation-worker"
BEGIN: Final = "<!-- made from values.yaml by `python -m helm.make_readme`: change it there -->\n"
END: Final = "<!-- end -->\n"


@dataclass(frozen=True)
class Value:
    """
    One value of the chart.

    Attributes:
        name: Its path, with dots.
        default: As JSON, or as the comment's ``@default`` says it.
        about: What its comment tells; empty when only a value above it has one.
        covered: Whether it or a value above it has a comment.

    """

    name: str
    default: str
    about: str
    covered: bool


def values(text: str) -> list[Value]:
    """Every value in the text of a values.yaml, in its order."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)
    return list(_below(root, "", text.splitlines(), covered=False))


def _below(node: yaml.MappingNode, path: str, lines: list[str], *, covered: bool) -> Iterator[Value]:
    for key, item in node.value:
        name = f"{path}.{key.value}" if path else key.value
        about, default = _comment(lines, key.start_mark.line)
        known = covered or bool(about)
        shown = default or f"`{json.dumps(_plain(item), ensure_ascii=False)}`"
        yield Value(name, shown, about, known)
        if isinstance(item, yaml.MappingNode):
            yield from _below(item, name, lines, covered=known)


def _comment(lines: list[str], line: int) -> tuple[str, str]:
    """Return what the comment above a line says, and what it gives as the default's text."""
    found: list[str] = []
    for above in reversed(lines[:line]):
        if not above.lstrip().startswith("#"):
            break
        found.insert(0, above.lstrip().removeprefix("#").strip())
    text = " ".join(found)
    if not text.startswith("-- "):
        return "", ""
    about, _, default = text.removeprefix("-- ").partition(" @default -- ")
    return about, default


def _plain(node: yaml.Node) -> object:
    return yaml.safe_load(yaml.serialize(node))


def table(text: str) -> str:
    """Return the README's table: a row for each value that has a comment."""
    rows = [
        f"| `{value.name}` | {_cell(value.default)} | {_cell(value.about)} |"
        for value in values(text)
        if value.about
    ]
    return "\n".join(["| value | default | what it is for |", "|---|---|---|", *rows]) + "\n"


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


def readme() -> str:
    """Return the README with a new table."""
    text = (CHART / "README.md").read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + "\n" + table((CHART / "values.yaml").read_text()) + "\n" + END + after


if __name__ == "__main__":
    (CHART / "README.md").write_text(readme())
