"""Small charts as SVG inside a page: text takes the page's colours, so that they fit light and dark.

Every chart is 720 units wide and scales with the page. Colours come from the classes of `static/site.css`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

__all__ = ["Line", "Mark", "draw_candidates", "draw_curves", "draw_intervals", "nice_ticks"]

WIDTH, ROW, AXIS = 720, 20, 38
LETTERS = 46  # of a label: more leave too little room for the numbers
LETTER = 6.2  # units: the width of a character of 11 units, about
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
    seeds: Sequence[float] = ()
    """The values of single seeds, as small points."""


class Line(NamedTuple):
    """One curve: (x, y, low, high) of its points; low and high are None without an interval."""

    name: str
    points: Sequence[tuple[float, float, float | None, float | None]]
    look: str
    seeds: Mapping[int, Sequence[float]] = {}
    """x -> the values of single seeds."""


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


def _room(texts: Sequence[str]) -> float:
    """Return the width of the longest of some texts, with a margin."""
    return 16 + LETTER * max(map(len, texts), default=0)


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


def _seed_dot(x: float, y: float, look: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.7" class="seed {look}"/>'


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
    values = [v for mark in marks for v in (mark.mean, mark.low, mark.high, *mark.seeds) if v is not None]
    values += [] if bound is None else [bound, -bound]
    left, right = _room([_shorten(mark.label) for mark in marks]), WIDTH - _room([mark.text for mark in marks])
    scale, bottom = _scale(values, left, right), ROW * len(marks) + 4.0
    parts = []
    if bound is not None:
        start, end = scale.at(-bound), scale.at(bound)
        parts.append(f'<rect x="{start:.1f}" y="0" width="{end - start:.1f}" height="{bottom:.1f}" class="bound"/>')
    parts += _x_axis(scale, 0, bottom, unit)
    for i, mark in enumerate(marks):
        y = ROW * (i + 0.5) + 2
        label = (
            f"<g><title>{escape(mark.label)}</title>{_text(left - 8, y + 4, _shorten(mark.label), anchor='end')}</g>"
        )
        parts += [label, *(_seed_dot(scale.at(value), y + 6.5, mark.look) for value in mark.seeds)]
        if mark.low is not None and mark.high is not None:
            parts.append(_line(scale.at(mark.low), y, scale.at(mark.high), y, f"interval {mark.look}"))
        if mark.mean is not None:
            parts.append(f'<circle cx="{scale.at(mark.mean):.1f}" cy="{y:.1f}" r="4" class="dot {mark.look}"/>')
        parts.append(_text(WIDTH, y + 4, mark.text, anchor="end", look="number"))
    return _figure(bottom + AXIS, about, parts)


def draw_candidates(values: Mapping[str, Mapping[str, float]], *, about: str) -> str:
    """Draw a probability in percent for each candidate (outer key) and arm (inner key): one line per candidate."""
    arms = list(dict.fromkeys(arm for of in values.values() for arm in of))
    heads = [f"{MARKERS.get(arm, '△')} {arm}" for arm in arms]
    rooms = [_room([f"{head}  "]) for head in heads]  # heads are bold
    columns = [WIDTH - sum(rooms[at + 1 :]) for at in range(len(arms))]  # their right ends
    left, right = _room([_shorten(candidate) for candidate in values]), WIDTH - sum(rooms)
    scale = _scale([100 * p for of in values.values() for p in of.values()], left, right)
    bottom = ROW * (len(values) + 1) + 4.0
    parts = _x_axis(scale, ROW, bottom, "percent")
    parts += [
        _text(x, 14, head, anchor="end", look=f"series {arm}")
        for x, arm, head in zip(columns, arms, heads, strict=True)
    ]
    for i, (candidate, of) in enumerate(values.items()):
        y = ROW * (i + 1.5) + 2
        parts.append(_text(left - 8, y + 4, _shorten(candidate), anchor="end", look="answer" if i == 0 else ""))
        for x, arm in zip(columns, arms, strict=True):
            if arm in of:
                marker = MARKERS.get(arm, "△")
                parts.append(_text(scale.at(100 * of[arm]), y + 4.5, marker, anchor="middle", look=f"marker {arm}"))
                parts.append(_text(x, y + 4, f"{100 * of[arm]:.1f}", anchor="end", look="number"))
    return _figure(bottom + AXIS, about, parts)


def draw_curves(lines: Sequence[Line], *, unit: str, about: str, logarithmic: bool = False) -> str:
    """Draw curves over updates, with their intervals as bars. `logarithmic` spaces updates by their logarithm."""
    height, left, right = 200.0, 60.0, WIDTH - 16.0
    values = [v for line in lines for _, *ys in line.points for v in ys if v is not None]
    values += [value for line in lines for of in line.seeds.values() for value in of]
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
    for number, line in enumerate(lines):
        if len(lines) > 1:
            parts.append(
                _text(right - 80 * (len(lines) - number - 1), 14, line.name, anchor="end", look=f"series {line.look}")
            )
        for x, of in line.seeds.items():
            parts += [_seed_dot(along.at(to_axis(x)) + 7, up.at(value), line.look) for value in of]
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
