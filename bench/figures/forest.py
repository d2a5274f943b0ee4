"""Draw the forest plot of the board: gain, interval, seeds, bound and verdict of every row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.figures.forest_lines import MITIGATED, Group, Interval, Panel, list_panels
from bench.figures.parts import add_legend, draw_seeds
from bench.figures.style import BLUE, DOUBLE, GREEN, GREY, ORANGE, SMALL, layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bench.analysis.entry import LeaderboardEntry
    from bench.analysis.seed_statistics import SeedStatistics

__all__ = ["draw_gains"]

BAND = "#E4E4E4"
LINE = 0.17  # inches
# Verdict -> colour, marker, whether the marker is filled.
VERDICTS = {
    "TRANSFER": (GREEN, "o", True),
    "TRACE": (GREEN, "^", False),
    "NONE": (BLUE, "s", False),
    "INCONCLUSIVE": (ORANGE, "D", True),
    "EXPLORATORY": (GREY, "v", False),
    "INVALID": (GREY, "x", False),
    MITIGATED: ("black", "d", True),
}


def _limits(lines: Sequence[Interval]) -> tuple[float, float]:
    """Return axis limits around every mean, and around all intervals, seeds and bounds except outliers."""
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
    values = [v for line in lines for v in (*line[:4], *line.seeds) if v is not None]
    values += [0.0, *(-bound for bound in bounds)]
    low, high = max(-most, min(values)), min(most, max(values))
    edge = 0.06 * (high - low)
    return low - edge, high + edge


def _draw_intervals(ax: Axes, lines: Sequence[tuple[float, str, Interval]], ticks: int) -> None:
    """Draw one estimate with its interval and its seeds per line. An arrow marks an interval beyond the axes.

    Args:
        ax: where to draw.
        lines: (y, verdict, numbers).
        ticks: the most ticks of the axis.
    """
    from matplotlib.ticker import MaxNLocator

    left, right = _limits([numbers for _, _, numbers in lines])
    ax.set_xlim(left, right)
    ax.axvline(0, color="black", linewidth=0.6, zorder=1)
    for y, verdict, (mean, low, high, bound, seeds) in lines:
        color, marker, filled = VERDICTS[verdict]
        if bound is not None:
            ax.barh(y, 2 * bound, left=-bound, height=0.76, color=BAND, zorder=0)
        if mean is None:
            continue
        draw_seeds(ax, seeds, [y + 0.27] * len(seeds), color)
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


def draw_gains(entries: Sequence[LeaderboardEntry], statistics: Mapping[str, SeedStatistics] | None = None) -> Figure:
    """Draw all rows: gain, and gain as a share of the teacher shift, grouped by the relation of the initial weights.

    Rates, mitigations, whole-vocabulary rows and smaller scales have panels of their own.

    Args:
        entries: the entries of the leaderboard; at least one has a gain.
        statistics: the numbers of each seed, by recipe hash.
    """
    from matplotlib.figure import Figure

    panels = list_panels(entries, statistics)
    lengths = [sum(1 + len(group.lines) for group in panel.groups) for panel in panels]
    fig = Figure(figsize=(DOUBLE, sum(LINE * length + 0.58 for length in lengths) + 0.5), layout=layout())
    grid = fig.subplots(len(panels), 2, squeeze=False, height_ratios=[length + 0.6 for length in lengths])
    lines = [line for panel in panels for group in panel.groups for line in group.lines]
    widths = [max(map(len, column)) for column in zip(*(line.texts for line in lines), strict=True)]
    ticks = 6 if max(len(line.label) for line in lines) < 24 else 4  # long names make the panels narrow
    for panel, (gain, share) in zip(panels, grid, strict=True):
        _draw_panel(panel, gain, share, ticks)
        _write_columns(share, panel.groups, widths)
    _add_verdicts(fig, {line.verdict for line in lines}, any(line.gain.bound for line in lines), _note_equal(entries))
    return fig


def _draw_panel(panel: Panel, gain: Axes, share: Axes, ticks: int) -> None:
    placed = _place(panel.groups)
    for ax in (gain, share):
        ax.set_ylim(len(placed) - 0.4, -0.6)
    lines = [(float(y), line) for y, (_, line) in enumerate(placed) if line is not None]
    _draw_intervals(gain, [(y, line.verdict, line.gain) for y, line in lines], ticks)
    _draw_intervals(share, [(y, line.verdict, line.share) for y, line in lines], ticks)
    gain.set_yticks(range(len(placed)), [text for text, _ in placed])
    for label, (_, line) in zip(gain.get_yticklabels(), placed, strict=True):
        label.set_fontstyle("normal" if line else "italic")
    share.set_yticks([])
    gain.set_xlabel(f"{'effect' if panel.share.startswith('effect') else 'gain'} ({panel.unit})")
    share.set_xlabel(panel.share)
    gain.set_title(panel.title, loc="left")


def _place(groups: Sequence[Group]) -> list[tuple[str, Any]]:
    """Return the label of every place from the top, and its line; None for the heading of a group."""
    return [
        place for group in groups for place in ((group.heading, None), *((line.label, line) for line in group.lines))
    ]


def _write_columns(ax: Axes, groups: Sequence[Group], widths: Sequence[int]) -> None:
    """Write the numbers to the right of a forest plot, in columns of `widths` characters."""
    right = 0.0
    look: dict[str, Any] = {"textcoords": "offset points", "ha": "right", "fontsize": SMALL}
    for at, title in enumerate(("mean, 95 % CI", "seeds")):
        right += 10 + 0.57 * SMALL * max(len(title), widths[at])  # points; a character is 0.57 of its size wide
        ax.annotate(title, (1, 1), (right, 2), "axes fraction", va="bottom", **look)
        for y, (_, line) in enumerate(_place(groups)):
            if line is not None:
                where = ((1, y), (right, 0), ("axes fraction", "data"))
                ax.annotate(line.texts[at], *where, va="center", annotation_clip=False, **look)


def _note_equal(entries: Sequence[LeaderboardEntry]) -> str:
    """Return a sentence on rows that are one test: they share seeds and margins. Empty without such rows."""
    same: dict[str, list[str]] = {}
    for entry in entries:
        if entry.measurement:
            same.setdefault(entry.measurement, []).append(entry.label)
    texts = [", ".join(names) for names in same.values() if len(names) > 1]
    return f"The same seeds and margins, so one test: {'; '.join(texts)}." if texts else ""


def _add_verdicts(fig: Figure, present: set[str], has_bound: bool, note: str) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Line2D(
            [], [], color=color, marker=marker, markersize=4, markeredgewidth=1.1, label=verdict or "mitigation",
            markerfacecolor=color if filled else "white",
        )
        for verdict, (color, marker, filled) in VERDICTS.items()
        if verdict in present
    ]  # fmt: skip
    handles.append(Line2D([], [], color=GREY, marker=".", markersize=3, markeredgewidth=0, linestyle="", label="seed"))
    if has_bound:
        handles.append(Patch(color=BAND, label="bound"))
    add_legend(fig, handles, note)
