"""Draw the doses and the traits of one recipe."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bench.analysis.entry_text import matrix_texts
from bench.figures.parts import add_color_bar, annotate_cells, draw_seeds, error_bar
from bench.figures.style import BLUE, CHARACTER_WIDTH, DOUBLE, SINGLE, estimate, layout, shorten, typeset

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bench.analysis.entry import TraitMatrix
    from bench.analysis.estimates import Estimate

__all__ = ["draw_dose", "draw_matrix"]


def draw_dose(
    points: Mapping[int, Estimate],
    title: str,
    unit: str = "nats",
    seeds: Mapping[int, Sequence[float]] | None = None,
) -> Figure:
    """Draw the gain with its 95 % interval against student updates, and the gain of every seed.

    Args:
        points: updates -> gain, in rising order; the last is the gain at the end of the training.
        title: above the figure.
        unit: of the gain.
        seeds: updates -> the gain of every seed.
    """
    from matplotlib.figure import Figure

    fig = Figure(figsize=(SINGLE, 2.2), layout=layout())
    ax = fig.subplots()
    steps = list(points)
    width = math.log2(steps[-1] / steps[0]) or 1.0
    ax.axhline(0, color="black", linewidth=0.6)
    ax.plot(steps, [points[s].mean for s in steps], color=BLUE, linewidth=0.8)
    for step, gain in points.items():
        values = (seeds or {}).get(step, ())
        draw_seeds(ax, [step * 2 ** (0.025 * width)] * len(values), values, BLUE)
        ax.errorbar(
            step, gain.mean, yerr=error_bar(gain), color=BLUE, marker="o", markersize=3.5, elinewidth=0.9, capsize=2.5,
            capthick=0.9,
        )  # fmt: skip
    ax.set_xscale("log", base=2)
    ticks: list[int] = []
    for step in (steps[-1], *steps[:-1]):  # the end first, then every step with room for its label
        if all(abs(math.log2(step / other)) > 0.11 * width for other in ticks):
            ticks.append(step)
    ax.set_xticks(ticks, [f"{step:,}" for step in ticks])
    ax.set_xticks([], minor=True)
    ax.set_xlabel("student updates (log scale)")
    ax.set_ylabel(f"gain ({unit})")
    ax.set_title(shorten(title))
    return fig


def draw_matrix(gains: TraitMatrix, title: str) -> Figure:
    """Draw the gains of every trait's students on every trait's questions, and the excess of the diagonal.

    Args:
        gains: `matrix` of a leaderboard entry.
        title: above the figure.
    """
    from matplotlib.figure import Figure

    traits, table = [shorten(t, 16) for t in gains.traits], gains.gains
    size = len(traits)
    width = SINGLE if size <= 5 else DOUBLE
    fig = Figure(figsize=(width, min(width, 0.36 * size + 1.2)), layout=layout())
    ax = fig.subplots()
    most = max(abs(gain) for row in table for gain in row) or 1.0
    mesh = ax.pcolormesh(table, cmap="PuOr", vmin=-most, vmax=most, edgecolors="white", linewidth=0.8)
    annotate_cells(ax, table, [list(map(typeset, row)) for row in matrix_texts(gains)], mesh)
    for i in range(size):
        ax.plot([i, i + 1, i + 1, i, i], [i, i, i + 1, i + 1, i], color="black", linewidth=1.0, clip_on=False)
    ax.invert_yaxis()
    middles = [i + 0.5 for i in range(size)]
    ax.set_xticks(middles, traits)
    if CHARACTER_WIDTH * max(map(len, traits)) > (width - 1.2) / size:
        for tick in ax.get_xticklabels():
            tick.set(rotation=30, ha="right", rotation_mode="anchor")
    ax.set_yticks(middles, traits)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_xlabel("trait of the questions")
    ax.set_ylabel("trait of the teacher")
    add_color_bar(fig, ax, mesh, "gain (nats)")
    excess = gains.excess
    shown = estimate(excess.mean, excess.ci_low, excess.ci_high) + ("" if excess.p is None else f", p = {excess.p:.2g}")
    fig.suptitle(f"{shorten(title)}\nexcess {shown}, {excess.seeds} seeds", fontsize=7)
    return fig
