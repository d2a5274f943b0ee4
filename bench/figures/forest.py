"""Draw the forest plot of the board: gain, interval, bound and verdict of every row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.config.outcome import UNITS
from bench.figures.style import BLUE, DOUBLE, GREEN, GREY, ORANGE, SMALL, estimate, labels, layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bench.analysis.entry import LeaderboardEntry

__all__ = ["gains"]

BAND = "#E4E4E4"
# Verdict -> colour, marker, whether the marker is filled.
VERDICTS = {
    "TRANSFER": (GREEN, "o", True),
    "TRACE": (GREEN, "^", False),
    "NONE": (BLUE, "s", False),
    "INCONCLUSIVE": (ORANGE, "D", True),
    "EXPLORATORY": (GREY, "v", False),
    "INVALID": (GREY, "x", False),
}


class Line(NamedTuple):
    """One line of a forest plot; None for a missing number."""

    mean: float | None
    low: float | None
    high: float | None
    bound: float | None
    verdict: str


def _limits(lines: Sequence[Line]) -> tuple[float, float]:
    """Return axis limits around every mean, and around all intervals and bounds except outliers."""
    means = [abs(line.mean) for line in lines if line.mean is not None]
    ends = sorted(
        max(abs(end) for end in (line.mean, line.low, line.high) if end is not None)
        for line in lines
        if line.mean is not None
    )
    bounds = sorted(line.bound for line in lines if line.bound is not None)
    most = 2.5 * max([*means, *(middle[len(middle) // 2] for middle in (bounds, ends) if middle)], default=0.0)
    if most == 0:
        return -1.0, 1.0
    values = [v for line in lines for v in (line.mean, line.low, line.high, line.bound) if v is not None]
    values += [0.0, *(-bound for bound in bounds)]
    low, high = max(-most, min(values)), min(most, max(values))
    edge = 0.06 * (high - low)
    return low - edge, high + edge


def forest(ax: Axes, lines: Sequence[Line], ticks: int) -> None:
    """Draw one estimate with its interval per line, from the top. An arrow marks an interval beyond the axes."""
    from matplotlib.ticker import MaxNLocator

    left, right = _limits(lines)
    ax.set_xlim(left, right)
    ax.set_ylim(len(lines) - 0.4, -0.6)
    ax.axvline(0, color="black", linewidth=0.6, zorder=1)
    for y, (mean, low, high, bound, verdict) in enumerate(lines):
        color, marker, filled = VERDICTS[verdict]
        if bound is not None:
            ax.barh(y, 2 * bound, left=-bound, height=0.76, color=BAND, zorder=0)
        if mean is None:
            continue
        if low is not None and high is not None:
            ax.plot([max(low, left), min(high, right)], [y, y], color=color, linewidth=1.1, zorder=2)
            for end, edge, tip in ((low, left, "<"), (high, right, ">")):
                out = end < edge if tip == "<" else end > edge
                ax.plot(edge if out else end, y, marker=tip if out else "|", color=color, markersize=4, clip_on=False)
        ax.plot(
            mean, y, marker=marker, markersize=3.4 if marker != "x" else 4.6, zorder=3,
            markeredgecolor=color, markerfacecolor=color if filled else "white", markeredgewidth=1.1,
        )  # fmt: skip
    ax.xaxis.set_major_locator(MaxNLocator(nbins=ticks, steps=[1, 2, 2.5, 5, 10]))
    ax.tick_params(axis="y", length=0, pad=6)
    ax.spines["left"].set_visible(False)


def gains(entries: Sequence[LeaderboardEntry]) -> Figure:
    """Draw all rows: gain, and gain as a share of the teacher shift.

    Rates and whole-vocabulary rows have panels of their own: a panel has one unit.

    Args:
        entries: the entries of the leaderboard; at least one has a gain.
    """
    from matplotlib.figure import Figure

    rows = list(zip(entries, labels(entries), strict=True))
    blocks = [
        (title, block)
        for title, leaky in (("", False), ("Whole vocabulary distilled: a leak, not subliminal learning", True))
        for outcome in UNITS
        if (block := [row for row in rows if row[0].is_leak == leaky and row[0].outcome == outcome])
    ]
    height = sum(0.17 * len(block) + 0.55 for _, block in blocks) + 0.35
    fig = Figure(figsize=(DOUBLE, height), layout=layout())
    grid = fig.subplots(len(blocks), 2, squeeze=False, height_ratios=[len(block) + 0.6 for _, block in blocks])
    widths = [max(map(len, column)) for column in zip(*map(_texts, entries), strict=True)]
    ticks = 6 if max(len(label) for _, label in rows) < 24 else 4  # long names make the panels narrow
    for (title, block), (gain, share) in zip(blocks, grid, strict=True):
        forest(gain, [_gain(entry) for entry, _ in block], ticks)
        forest(share, [_fraction(entry) for entry, _ in block], ticks)
        gain.set_yticks(range(len(block)), [label for _, label in block])
        share.set_yticks([])
        gain.set_xlabel(f"gain ({block[0][0].unit})")
        share.set_xlabel("gain / teacher shift (%)")
        gain.set_title(title, loc="left")
        _columns(share, [entry for entry, _ in block], widths)
    _verdict_legend(fig, {entry.verdict for entry in entries})
    return fig


def _gain(entry: LeaderboardEntry) -> Line:
    return Line(entry.gain, entry.ci_low, entry.ci_high, entry.bound, entry.verdict)


def _fraction(entry: LeaderboardEntry) -> Line:
    """Return the line of `_gain` in percent of the teacher shift; no numbers if the shift is 0."""
    numbers = (entry.fraction, entry.fraction_low, entry.fraction_high)
    mean, low, high = (None if number is None else 100 * number for number in numbers)
    bound = 100 * entry.bound / abs(entry.teacher_shift) if entry.bound and entry.teacher_shift else None
    return Line(mean, low, high, bound, entry.verdict)


def _texts(entry: LeaderboardEntry) -> tuple[str, str]:
    """Return a gain with its interval, and its number of seeds."""
    return estimate(entry.gain, entry.ci_low, entry.ci_high), entry.seeds_text


def _columns(ax: Axes, entries: Sequence[LeaderboardEntry], widths: Sequence[int]) -> None:
    """Write the numbers to the right of a forest plot, in columns of `widths` characters."""
    right = 0.0
    look: dict[str, Any] = {"textcoords": "offset points", "ha": "right", "fontsize": SMALL}
    columns = zip(*map(_texts, entries), strict=True)
    for title, width, column in zip(("gain, 95 % CI", "seeds"), widths, columns, strict=True):
        right += 10 + 0.57 * SMALL * max(len(title), width)  # points; a character is 0.57 of its size wide
        ax.annotate(title, (1, 1), (right, 2), "axes fraction", va="bottom", **look)
        for y, text in enumerate(column):
            ax.annotate(text, (1, y), (right, 0), ("axes fraction", "data"), va="center", annotation_clip=False, **look)


def _verdict_legend(fig: Figure, present: set[str]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Line2D(
            [], [], color=color, marker=marker, markersize=4, markeredgewidth=1.1, label=verdict,
            markerfacecolor=color if filled else "white",
        )
        for verdict, (color, marker, filled) in VERDICTS.items()
        if verdict in present
    ]  # fmt: skip
    handles.append(Patch(color=BAND, label="bound"))
    fig.legend(handles=handles, loc="outside lower center", ncols=len(handles))
