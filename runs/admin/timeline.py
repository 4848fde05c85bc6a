"""The timeline of a run as SVG: a bar per node from its start to its end, in the colour of its state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil, floor, log10

from pyflow.compare.drawing import COLOURS, INK, Colour
from workflows.graph_drawing import svg_text

#: How many nodes are drawn; what began later than these is named by their number.
MOST_BARS = 200

_ROW = 24
_TOP = 34
_LABELS = 220
_WIDTH = 880
_LEFT = 12
_RIGHT = 90
_LONGEST = 28
_TICKS = 8
_GRID = "#e2e8f0"
_QUIET = "#52606d"
_FONT = 'font-family="system-ui, DejaVu Sans, sans-serif" font-size="12"'
_PLAIN = Colour("#ffffff", "#64748b")


@dataclass(frozen=True, slots=True)
class Bar:
    """One node; without an end it is still at it."""

    name: str
    state: str
    start: datetime
    end: datetime | None


def svg(bars: Sequence[Bar], *, now: datetime) -> str:
    """The bars in the order of their start as an SVG document; an empty text if there is none.

    The axis shows the time since the first start. Every text of the workflow is escaped.
    """
    if not bars:
        return ""
    ordered = sorted(bars, key=lambda bar: bar.start)
    shown, first = ordered[:MOST_BARS], ordered[0].start
    span = max(*((bar.end or now) - first for bar in shown), timedelta(milliseconds=1)).total_seconds()
    scale = (_WIDTH - _LABELS - _RIGHT) / span
    rest = len(ordered) - len(shown)
    height = _TOP + _ROW * (len(shown) + (1 if rest else 0)) + 10
    size = f'width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="Timeline" {size} {_FONT}>',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        *_axis(span, scale, height),
    ]
    for row, bar in enumerate(shown):
        lines += _bar(bar, _TOP + row * _ROW, first, now, scale)
    if rest:
        lines.append(f'<text x="{_LEFT}" y="{height - 14}" fill="{_QUIET}">… and {rest:,} more</text>')
    lines.append("</svg>")
    return "\n".join(lines) + "\n"


def _axis(span: float, scale: float, height: int) -> Iterator[str]:
    step = _step(span)
    for number in range(floor(span / step) + 1):
        x = _LABELS + number * step * scale
        yield f'<line x1="{x:.1f}" y1="{_TOP - 8}" x2="{x:.1f}" y2="{height - 8}" stroke="{_GRID}"/>'
        yield f'<text x="{x:.1f}" y="{_TOP - 16}" text-anchor="middle" fill="{_QUIET}">{duration(number * step)}</text>'


def _step(span: float) -> float:
    """Seconds between two lines: 1, 2 or 5 times a power of ten, about ``_TICKS`` in all."""
    power = 10.0 ** floor(log10(span / _TICKS))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor * _TICKS >= span)


def _bar(bar: Bar, y: int, first: datetime, now: datetime, scale: float) -> Iterator[str]:
    colour = COLOURS.get(bar.state, _PLAIN)
    start = (bar.start - first).total_seconds()
    seconds = max(0.0, ((bar.end or now) - bar.start).total_seconds())
    x, width = _LABELS + start * scale, max(2.0, seconds * scale)
    name = bar.name if len(bar.name) <= _LONGEST else f"{bar.name[: _LONGEST - 1]}…"
    took = duration(seconds) + ("" if bar.end else " …")
    yield f"<g><title>{svg_text(f'{bar.name}: {bar.state}, {took}')}</title>"
    yield f'<text x="{_LEFT}" y="{y + 12}" fill="{INK}">{svg_text(name)}</text>'
    yield (
        f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_ROW - 8}" rx="3" fill="{colour.fill}"'
        f' stroke="{colour.stroke}"/>'
    )
    yield f'<text x="{x + width + 6:.1f}" y="{y + 12}" fill="{_QUIET}">{svg_text(took)}</text></g>'


def duration(seconds: float) -> str:
    """A length of time for people: ``340 ms``, ``2.5 s``, ``3 min 20 s``, ``5 h 12 min``, ``3 d 4 h``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    whole = ceil(seconds)
    for unit, smaller, size, small in (("d", "h", 86_400, 3600), ("h", "min", 3600, 60), ("min", "s", 60, 1)):
        if whole >= size:
            rest = whole % size // small
            return f"{whole // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"
