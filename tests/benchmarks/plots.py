# Small SVG plots: bars beside each other, and curves. No library: a plot is some rectangles, lines and texts.
#
# Pure: numbers in, a text out. Texts are escaped; a bar without a value says so.

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

from tests.benchmarks.results import shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WIDTH: Final = 760
COLOURS: Final = ("#2563a8", "#8a8f98", "#c98a2b", "#6f9b57", "#a35c8d")
INK: Final = "#24292f"
PALE: Final = "#d8dee4"
NOT_MEASURED: Final = "not measured"
LINE: Final = 22
LABELS: Final = 190
"""Left of the bars."""
VALUES: Final = 90
"""Right of them."""
LEFT: Final = 70
HEIGHT: Final = 300
"""Of the area of a curve."""


def bars(title: str, unit: str, groups: Mapping[str, Mapping[str, float | None]]) -> str:
    """Draw groups of horizontal bars, all on one scale: for each group its bars, by label, which has one colour in all groups."""
    labels = list(dict.fromkeys(label for group in groups.values() for label in group))
    most = max(
        (value for group in groups.values() for value in group.values() if value is not None), default=0
    )
    room = WIDTH - LABELS - VALUES
    parts, y = [_text(12, 26, title, bold=True)], 56
    for name, group in groups.items():
        parts.append(_text(12, y, f"{name}, {unit}" if unit else name))
        y += 8
        for label, value in group.items():
            length = room * value / most if value is not None and most > 0 else 0
            parts.append(_text(LABELS - 8, y + 14, label, anchor="end"))
            parts.append(
                f'<rect x="{LABELS}" y="{y + 2}" width="{max(length, 1):.1f}" height="{LINE - 6}"'
                f' fill="{COLOURS[labels.index(label) % len(COLOURS)]}"/>'
            )
            said = NOT_MEASURED if value is None else shown(value)
            parts.append(_text(LABELS + max(length, 1) + 6, y + 14, said))
            y += LINE
        y += 26
    return _svg(title, y - 16, parts)


@dataclass(frozen=True, slots=True)
class Axis:
    """What an axis shows, from zero, or by powers of ten."""

    title: str
    powers: bool = False

    def place(self, value: float, low: float, high: float) -> float:
        """Where a value is between the ends of the axis, from 0 to 1."""
        if not self.powers:
            return value / high
        if high == low:
            return 0.5
        return (math.log10(value) - math.log10(low)) / (math.log10(high) - math.log10(low))


def curves(title: str, x: Axis, y: Axis, series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Draw one curve for each name that has points; a name without any is named as not measured."""
    points = [point for curve in series.values() for point in curve]
    parts = [_text(12, 26, title, bold=True), _text(12, 48, y.title)]
    top, room = 62, WIDTH - LEFT - 30
    bottom = top + HEIGHT
    parts.append(f'<path d="M{LEFT} {top}V{bottom}H{LEFT + room}" fill="none" stroke="{PALE}"/>')
    if points:
        lows = [min(values) for values in zip(*points, strict=True)]
        highs = [max(values) for values in zip(*points, strict=True)]

        def at(point: tuple[float, float]) -> tuple[float, float]:
            return (
                LEFT + room * x.place(point[0], lows[0], highs[0]),
                bottom - HEIGHT * y.place(point[1], lows[1], highs[1]),
            )

        parts += [
            _text(at((value, highs[1]))[0], bottom + 18, f"{value:,.10g}", anchor="middle")
            for value in sorted({point[0] for point in points})
        ]
        for value in _ticks(y, lows[1], highs[1]):
            height = at((highs[0], value))[1]
            parts.append(f'<path d="M{LEFT} {height:.1f}H{LEFT + room}" stroke="{PALE}"/>')
            parts.append(_text(LEFT - 6, height + 4, shown(value), anchor="end"))
        for number, curve in enumerate(series.values()):
            places = [f"{left:.1f},{height:.1f}" for left, height in map(at, sorted(curve))]
            colour = COLOURS[number % len(COLOURS)]
            parts.append(
                f'<polyline points="{" ".join(places)}" fill="none" stroke="{colour}" stroke-width="2"/>'
            )
            parts += [
                f'<circle cx="{place.partition(",")[0]}" cy="{place.partition(",")[2]}" r="3" fill="{colour}"/>'
                for place in places
            ]
    parts.append(_text(LEFT + room, bottom + 38, x.title, anchor="end"))
    legend = bottom + 60
    for number, (name, curve) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        parts.append(f'<rect x="{LEFT}" y="{legend - 10}" width="12" height="12" fill="{colour}"/>')
        parts.append(_text(LEFT + 20, legend, name if curve else f"{name}: {NOT_MEASURED}"))
        legend += LINE
    return _svg(title, legend - 6, parts)


def _ticks(axis: Axis, low: float, high: float) -> list[float]:
    if not axis.powers:
        return [high * share / 4 for share in range(5)]
    ends = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return [low, *(10.0**power for power in range(*ends) if low < 10.0**power < high), high]


def _text(x: float, y: float, text: str, *, anchor: str = "start", bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{weight}>{escape(text)}</text>'


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
        f'height="{height:.0f}" role="img" font-family="system-ui, sans-serif" font-size="13" fill="{INK}">\n'
        f"<title>{escape(title)}</title>\n"
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n{body}\n</svg>\n'
    )
