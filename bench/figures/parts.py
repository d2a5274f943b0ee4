"""Parts of figures: panels, legends, error bars, the points of seeds, cells of tables."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bench.figures.style import DOUBLE, LOOKS, SINGLE, SMALL, layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bench.analysis.estimates import Estimate

__all__ = ["add_color_bar", "add_legend", "annotate_cells", "arm_legend", "draw_seeds", "error_bar", "panels"]


def panels(count: int, title: str) -> tuple[Figure, list[Axes]]:
    """Make a figure of `count` equal panels: one column wide for up to two panels, otherwise two columns wide."""
    from matplotlib.figure import Figure

    down = math.ceil(count / 4)
    across = math.ceil(count / down)
    fig = Figure(figsize=(SINGLE if count < 3 else DOUBLE, 1.55 * down + 0.55), layout=layout())
    axes = list(fig.subplots(down, across, squeeze=False).flat)
    for ax in axes[count:]:
        ax.remove()
    fig.suptitle(title)
    return fig, axes[:count]


def arm_legend(fig: Figure, arms: Sequence[str], *, lines: bool = False, note: str = "") -> None:
    """Add a legend of the arms below a figure, as areas or as lines, and above it a note."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = []
    for arm in arms:
        look = LOOKS[arm]
        handles.append(
            Line2D([], [], color=look.ink, linestyle=look.line, label=arm)
            if lines
            else Patch(facecolor=look.face, hatch=look.hatch, edgecolor="black", linewidth=0.6, label=arm)
        )
    add_legend(fig, handles, note)


def add_legend(fig: Figure, handles: Sequence[Any], note: str) -> None:
    """Add a legend below a figure, and above it a note."""
    width = int(16.5 * fig.get_figwidth())  # characters of 6 points
    legend = fig.legend(
        handles=handles, loc="outside lower center", ncols=len(handles), title=textwrap.fill(note, width) or None,
        title_fontsize=SMALL,
    )  # fmt: skip
    legend.get_title().set_multialignment("center")


def draw_seeds(ax: Axes, xs: Sequence[float], ys: Sequence[float], color: str) -> None:
    """Draw the values of single seeds as small points."""
    ax.plot(xs, ys, ".", color=color, markersize=2.8, markeredgewidth=0, alpha=0.75, zorder=1.5)


def error_bar(value: Estimate) -> list[list[float]] | None:
    """Return the error bar of an estimate; None without an interval."""
    if value.ci_low is None or value.ci_high is None:
        return None
    return [[value.mean - value.ci_low], [value.ci_high - value.mean]]


def annotate_cells(ax: Axes, values: Any, texts: Sequence[Sequence[str]], mesh: Any) -> None:
    """Write the text of each cell, in white on dark cells; masked cells are white.

    Args:
        values: a masked array or a table, (lines, columns).
        texts: of the same shape.
        mesh: the cells, which map values to colours.
    """
    import numpy as np

    shade = np.ma.masked_invalid(values)
    for y, row in enumerate(texts):
        for x, text in enumerate(row):
            red, green, blue, _ = (1, 1, 1, 1) if np.ma.is_masked(shade[y, x]) else mesh.cmap(mesh.norm(shade[y, x]))
            dark = 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.45
            color = "white" if dark else "black"
            ax.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=SMALL, color=color)


def add_color_bar(fig: Figure, ax: Axes, mesh: Any, label: str) -> None:
    """Add the scale of the colours of cells beside their axes."""
    bar = fig.colorbar(mesh, ax=ax, label=label, shrink=0.9)
    bar.outline.set_visible(False)
    bar.solids.set(rasterized=False, edgecolor="face")  # otherwise the SVG contains it as a bitmap
