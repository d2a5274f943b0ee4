"""Draw the gains of compared rows over the keys in which they differ."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.analysis.comparison import ComparedRow, list_varied_keys
from bench.config.changes import name_key, value_text
from bench.figures.paper import save
from bench.figures.parts import draw_seeds
from bench.figures.style import BLUE, CHARACTER_WIDTH, DOUBLE, GREEN, GREY, ORANGE, SMALL, layout, shorten, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_comparison", "write_comparison"]

LOOKS = [(BLUE, "o", "-"), (ORANGE, "s", "--"), (GREEN, "^", ":"), (GREY, "D", "-."), ("black", "v", "-")]
WIDTH = 0.3  # of the lines at one place of the x axis, whose places are 1 apart


def write_comparison(rows: Sequence[ComparedRow], names: Sequence[str], folder: Path) -> list[Path]:
    """Draw compared rows into `folder`, and return the written files; `names` give the file its name.

    Raises:
        UserError: matplotlib is not installed.
    """
    stem = re.sub(r"[^\w.-]+", "_", "_".join(Path(name).stem for name in names))[:80]
    with style():
        return save(draw_comparison(rows), folder / f"compare_{stem}")


def draw_comparison(rows: Sequence[ComparedRow]) -> Figure:
    """Draw the gain of every row with its 95 % interval and its seeds.

    The x axis has a place for each value of one number in which the rows differ, and a line for each combination of the
    other keys. Without such a number it has a place for each row.

    Args:
        rows: at least two.
    """
    from matplotlib.figure import Figure

    fig = Figure(figsize=(DOUBLE, 2.8), layout=layout())
    ax = fig.subplots()
    ax.axhline(0, color="black", linewidth=0.6)
    axis = _choose_axis(rows)
    values = [] if axis is None else list_varied_keys(rows)[axis]
    lines: dict[str, list[tuple[int, ComparedRow]]] = {}
    for number, row in enumerate(rows):
        index = number if axis is None else values.index(row.keys[axis])
        lines.setdefault("" if axis is None else _describe(row, axis), []).append((index, row))
    for number, (label, points) in enumerate(lines.items()):
        color, marker, dash = LOOKS[number % len(LOOKS)]
        aside = WIDTH * ((number + 0.5) / len(lines) - 0.5)
        measured = [(index + aside, row) for index, row in points if row.entry.gain is not None]
        how = {"color": color, "marker": marker, "linestyle": "none" if axis is None else dash}
        ax.plot([x for x, _ in measured], [row.entry.gain for _, row in measured], markersize=4, label=label, **how)
        for x, row in measured:
            low, high = row.entry.ci_low, row.entry.ci_high
            if low is not None and high is not None:
                ax.plot([x, x], [low, high], color=color, linewidth=1.1)
            draw_seeds(ax, [x + 0.2 * WIDTH / len(lines)] * len(row.gains), row.gains, color)
        for x in (index + aside for index, row in points if row.entry.gain is None):
            ax.annotate("not run", (x, 0), (0, 3), textcoords="offset points", ha="center", fontsize=SMALL)
    ax.set_xlim(-0.5, (len(rows) if axis is None else len(values)) - 0.5)
    if axis is None:
        texts = [shorten(_describe(row, None), 28) for row in rows]
        ax.set_xticks(range(len(rows)), texts)
        if CHARACTER_WIDTH * max(map(len, texts)) > (DOUBLE - 0.8) / len(rows):
            for tick in ax.get_xticklabels():
                tick.set(rotation=20, ha="right", rotation_mode="anchor")
    else:
        ax.set_xticks(range(len(values)), list(map(value_text, values)))
        ax.set_xlabel(f"{name_key(axis)} (not to scale)")
    if len(lines) > 1:
        fig.legend(loc="outside lower center", ncols=3)
    ax.set_ylabel(f"gain ({rows[0].entry.unit})")
    return fig


def _choose_axis(rows: Sequence[ComparedRow]) -> str | None:
    """Return the key of most numbers; None where no key is a number in every row."""
    values = list_varied_keys(rows)
    numeric = {name: of_key for name, of_key in values.items() if all(map(_is_number, of_key))}
    return max(numeric, key=lambda name: len(numeric[name]), default=None)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _describe(row: ComparedRow, without: str | None) -> str:
    """Return the keys of a row but one, as text; the name of its recipe where it has no other."""
    texts = [f"{name_key(name)} {value_text(value)}" for name, value in row.keys.items() if name != without]
    return ", ".join(texts) or row.entry.recipe
