"""Small charts as SVG inside a page: text takes the page's colours, so that they fit light and dark.

Every chart is 720 units wide and scales with the page. Colours come from the classes of `static/site.css`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

__all__ = ["Line", "Mark", "draw_candidates", "draw_curves", "draw_intervals", "nice_ticks"]

WIDTH, LABELS, TEXTS, ROW, AXIS = 720, 220, 160, 20, 38
LETTERS = 32  # of a label: more do not fit
MARKERS = {"untrained": "○", "base": "□", "trait": "●"}


class Mark(NamedTuple):
    """One line of an interval chart; `low` and `high` are None for a single value, `mean` for no value."""

    label: str
    mean: float | None
    low: float | None
    high: float | None
    text: str
    """Its numbers, to the right of the chart."""
    look: str = "trait"
    """A class of the style sheet."""


class Line(NamedTuple):
    """One curve: (x, y, low, high) of its points; low and high are None without an interval."""

    name: str
    points: Sequence[tuple[float, float, float | None, float | None]]
    look: str


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about `count` round numbers (1, 2 or 5 times a power of ten) between `low` and `high`."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LETTERS else f"{text[: LETTERS - 1]}…"


def _text(x: float, y: float, text: str, *, anchor: str = "start", look: str = "") -> str:
    kind = f' class="{look}"' if look else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, look: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{look}"/>'


def _figure(height: float, about: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(about)}">'
        f"<title>{escape(about)}</title>{''.join(parts)}</svg>"
    )


class _Scale(NamedTuple):
    """A linear scale from values to units."""

    low: float
    high: float
    left: float
    right: float

    def at(self, value: float) -> float:
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.left + share * (self.right - self.left)


def _scale(values: Sequence[float], left: float, right: float) -> _Scale:
    """Fit a scale to values and 0, with a small edge."""
    low, high = min([0.0, *values]), max([0.0, *values])
    if low == high:
        low, high = -1.0, 1.0
    edge = 0.04 * (high - low)
    return _Scale(low - edge * (low < 0), high + edge * (high > 0), left, right)


def _x_axis(scale: _Scale, top: float, bottom: float, unit: str) -> list[str]:
    parts = []
    for tick in nice_ticks(scale.low, scale.high):
        x = scale.at(tick)
        parts += [
            _line(x, top, x, bottom, "zero" if tick == 0 else "grid"),
            _text(x, bottom + 13, f"{tick:g}", anchor="middle"),
        ]
    return [*parts, _text(scale.right, bottom + 29, unit, anchor="end", look="unit")] if unit else parts


def draw_intervals(marks: Sequence[Mark], *, unit: str, about: str, bound: float | None = None) -> str:
    """Draw one value per line with its interval, from the top, and a band of +-`bound`."""
    values = [v for mark in marks for v in (mark.mean, mark.low, mark.high) if v is not None]
    values += [] if bound is None else [bound, -bound]
    scale, bottom = _scale(values, LABELS, WIDTH - TEXTS), ROW * len(marks) + 4.0
    parts = []
    if bound is not None:
        left, right = scale.at(-bound), scale.at(bound)
        parts.append(f'<rect x="{left:.1f}" y="0" width="{right - left:.1f}" height="{bottom:.1f}" class="bound"/>')
    parts += _x_axis(scale, 0, bottom, unit)
    for i, mark in enumerate(marks):
        y = ROW * (i + 0.5) + 2
        label = (
            f"<g><title>{escape(mark.label)}</title>{_text(LABELS - 8, y + 4, _shorten(mark.label), anchor='end')}</g>"
        )
        parts.append(label)
        if mark.low is not None and mark.high is not None:
            parts.append(_line(scale.at(mark.low), y, scale.at(mark.high), y, f"interval {mark.look}"))
        if mark.mean is not None:
            parts.append(f'<circle cx="{scale.at(mark.mean):.1f}" cy="{y:.1f}" r="4" class="dot {mark.look}"/>')
        parts.append(_text(WIDTH, y + 4, mark.text, anchor="end", look="number"))
    return _figure(bottom + AXIS, about, parts)


def draw_candidates(values: Mapping[str, Mapping[str, float]], *, about: str) -> str:
    """Draw a probability for each candidate (outer key) and arm (inner key): one line per candidate."""
    scale = _scale([p for arms in values.values() for p in arms.values()], LABELS, WIDTH - TEXTS)
    bottom = ROW * len(values) + 4.0
    parts = _x_axis(scale, 0, bottom, "")
    for i, (candidate, arms) in enumerate(values.items()):
        y = ROW * (i + 0.5) + 2
        parts.append(_text(LABELS - 8, y + 4, _shorten(candidate), anchor="end", look="answer" if i == 0 else ""))
        for arm, value in arms.items():
            parts.append(_text(scale.at(value), y + 4.5, MARKERS.get(arm, "△"), anchor="middle", look=f"marker {arm}"))
        parts.append(
            _text(WIDTH, y + 4, "  ".join(f"{100 * p:.1f}" for p in arms.values()), anchor="end", look="number")
        )
    return _figure(bottom + AXIS, about, parts)


def draw_curves(lines: Sequence[Line], *, unit: str, about: str, logarithmic: bool = False) -> str:
    """Draw curves over updates, with their intervals as bars. `logarithmic` spaces updates by their logarithm."""
    height, left, right = 200.0, 60.0, WIDTH - 16.0
    values = [v for line in lines for _, *ys in line.points for v in ys if v is not None]
    across = sorted({x for line in lines for x, *_ in line.points})

    def to_axis(x: float) -> float:
        return math.log(max(x, 1.0)) if logarithmic else x

    up = _scale(values, height, 8)
    start, end = to_axis(across[0]), to_axis(across[-1])
    along = _Scale(start, end if end > start else start + 1, left + 8, right - 8)
    parts = []
    for tick in nice_ticks(up.low, up.high):
        y = up.at(tick)
        parts += [
            _line(left, y, right, y, "zero" if tick == 0 else "grid"),
            _text(left - 6, y + 4, f"{tick:g}", anchor="end"),
        ]
    for x in across if len(across) <= 8 else [across[0], across[len(across) // 2], across[-1]]:
        parts.append(_text(along.at(to_axis(x)), height + 16, f"{x:g}", anchor="middle"))
    for line in lines:
        path = " ".join(f"{along.at(to_axis(x)):.1f},{up.at(y):.1f}" for x, y, *_ in line.points)
        parts.append(f'<polyline points="{path}" class="curve {line.look}"/>')
        for x, y, low, high in line.points:
            at = along.at(to_axis(x))
            if low is not None and high is not None:
                parts.append(_line(at, up.at(low), at, up.at(high), f"interval {line.look}"))
            if len(line.points) <= 12:
                parts.append(f'<circle cx="{at:.1f}" cy="{up.at(y):.1f}" r="3.5" class="dot {line.look}"/>')
    parts.append(_text(left, height + 32, unit, look="unit"))
    parts.append(_text(right, height + 32, "updates", anchor="end", look="unit"))
    return _figure(height + 36, about, parts)
