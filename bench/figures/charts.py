"""Figures of one recipe's answers, doses and traits, and the table of all of them. Values in, figures out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.figures.style import (
    ARMS,
    BLUE,
    DOUBLE,
    SINGLE,
    SMALL,
    arm_legend,
    brief,
    estimate,
    labels,
    layout,
    number,
    panels,
    shorten,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["answers", "dose", "heat", "histogram", "matrix", "metrics"]

WIDE = 0.056  # inches that a character of a tick label takes, about


def metrics(found: Mapping[str, Mapping[str, Mapping[str, Any]]], title: str) -> Figure:
    """Bars of each text metric for the arms, with 95 % intervals over seeds; each panel on its metric's own scale.

    Args:
        found: a leaderboard entry's `metrics`.
    """
    fig, axes = panels(len(found), shorten(title))
    present = [arm for arm in ARMS if any(arm in arms for arms in found.values())]
    for ax, (metric, arms) in zip(axes, found.items(), strict=True):
        for x, arm in enumerate(present):
            if arm not in arms:
                continue
            mean, low, high = (arms[arm][key] for key in ("mean", "ci_low", "ci_high"))
            error = None if low is None or high is None else [[mean - low], [high - mean]]
            ax.bar(
                x, mean, 0.72, yerr=error, color=ARMS[arm].face, hatch=ARMS[arm].hatch, edgecolor="black",
                linewidth=0.6, error_kw={"elinewidth": 0.9, "capsize": 2.5, "capthick": 0.9},
            )  # fmt: skip
        gain = arms["gain"]
        p = "" if gain["p"] is None else f", p = {gain['p']:.2g}"
        ax.set_title(shorten(metric, 24), pad=12)
        ax.annotate(
            f"gain {brief(gain['mean'])}{p}", (0.5, 1), (0, 3), "axes fraction", "offset points",
            ha="center", va="bottom", fontsize=SMALL,
        )  # fmt: skip
        ax.axhline(0, color="black", linewidth=0.6)
        ax.set_xticks([])
        ax.set_ylabel("score")
    arm_legend(fig, present)
    return fig


Scores = Mapping[str, Mapping[str, Sequence[float]]]  # metric -> arm -> one score per answer


def _arms(scores: Scores) -> list[str]:
    return [arm for arm in ARMS if any(arm in arms for arms in scores.values())]


def _counted(scores: Scores, title: str) -> str:
    """A title that says how many answers there are of each arm."""
    counts = [f"{max(len(arms.get(arm, ())) for arms in scores.values()):,}" for arm in _arms(scores)]
    said = f"{counts[0]} answers per arm" if len(set(counts)) == 1 else f"{' / '.join(counts)} answers"
    return f"{shorten(title)}\n{said}"


def answers(scores: Scores, title: str) -> Figure:
    """Box plots of the answers' scores by arm: quartiles, whiskers from the 5th to the 95th percentile, mean."""
    fig, axes = panels(len(scores), _counted(scores, title))
    shown = _arms(scores)
    for ax, (metric, arms) in zip(axes, scores.items(), strict=True):
        present = [arm for arm in shown if arm in arms]
        drawn = ax.boxplot(
            [arms[arm] for arm in present], positions=[shown.index(arm) for arm in present], widths=0.6,
            whis=(5, 95), showfliers=False, showmeans=True, patch_artist=True, manage_ticks=False,
            medianprops={"color": "black", "linewidth": 1.4},
            boxprops={"linewidth": 0.6}, whiskerprops={"linewidth": 0.6}, capprops={"linewidth": 0.6},
            meanprops={"marker": "D", "markersize": 3.5, "markerfacecolor": "white", "markeredgecolor": "black"},
        )  # fmt: skip
        for arm, box in zip(present, drawn["boxes"], strict=True):
            box.set(facecolor=ARMS[arm].face, hatch=ARMS[arm].hatch)
        ax.set_title(shorten(metric, 24))
        ax.set_xticks([])
        ax.set_xlim(-0.6, len(shown) - 0.4)
        ax.set_ylabel("score")
    arm_legend(fig, shown)
    return fig


def histogram(scores: Scores, title: str) -> Figure:
    """Histograms of the answers' scores by arm, over the same bins, as shares of each arm's answers."""
    import numpy as np
    from matplotlib.ticker import MaxNLocator

    fig, axes = panels(len(scores), _counted(scores, title))
    for ax, (metric, arms) in zip(axes, scores.items(), strict=True):
        bins = _bins([score for scored in arms.values() for score in scored])
        for arm, look in reversed(ARMS.items()):  # so that dots come to lie on dashes, and those on lines
            if arm in arms:
                counts, _ = np.histogram(arms[arm], bins)
                ax.stairs(100 * counts / counts.sum(), bins, color=look.ink, linestyle=look.line)
        ax.set_title(shorten(metric, 24))
        whole = (bins[1] - bins[0]) % 1 == 0
        ax.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10], integer=whole, min_n_ticks=1))
        ax.set_xlabel("score")
        ax.set_ylabel("answers (%)")
        ax.set_ylim(bottom=0)
    arm_legend(fig, _arms(scores), lines=True)
    return fig


def _bins(values: Sequence[float]) -> list[float]:
    """Edges of about 20 bins, the lowest and the highest value in the middle of theirs; counts keep whole bins."""
    low, high = min(values), max(values)
    width = (high - low) / 20
    if all(float(value).is_integer() for value in values):
        width = math.ceil(width)
    width = width or 1.0
    return [low + (i - 0.5) * width for i in range(math.ceil((high - low) / width - 1e-9) + 2)]


def _annotate(ax: Axes, values: Any, texts: Sequence[Sequence[str]], mesh: Any) -> None:
    """Write each cell's text on it, white where the cell is dark."""
    for y, row in enumerate(texts):
        for x, text in enumerate(row):
            red, green, blue, _ = mesh.cmap(mesh.norm(values[y][x]))
            dark = 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.45
            ax.text(
                x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=SMALL, color="white" if dark else "black"
            )


def heat(entries: Sequence[dict[str, Any]]) -> Figure:
    """Mean scores as a table of cells: a line per recipe and arm, a column per metric.

    Metrics differ in scale, so each column is shaded on its own, from its lowest to its highest cell.
    """
    import numpy as np
    from matplotlib.figure import Figure

    board = [(e, label) for e, label in zip(entries, labels(entries), strict=True) if e["metrics"]]
    found = list(dict.fromkeys(metric for entry, _ in board for metric in entry["metrics"]))
    columns = [shorten(metric, 24) for metric in found]
    lines = [
        (label, arm, e["metrics"]) for e, label in board for arm in ARMS if any(arm in m for m in e["metrics"].values())
    ]
    table = np.array(
        [[m[c][arm]["mean"] if c in m and arm in m[c] else math.nan for c in found] for _, arm, m in lines]
    )
    low, high = np.nanmin(table, 0), np.nanmax(table, 0)
    shade = np.ma.masked_invalid((table - low) / np.where(high > low, high - low, 1))
    digits = [1 if max(abs(a), abs(b)) >= 10 else 3 for a, b in zip(low, high, strict=True)]
    fig = Figure(figsize=(DOUBLE, 0.13 * len(lines) + 0.8), layout=layout())
    ax = fig.subplots()
    mesh = ax.pcolormesh(shade, cmap="Blues", vmin=0, vmax=1.25, edgecolors="white", linewidth=0.6)
    texts = [["" if math.isnan(v) else f"{v:.{d}f}" for v, d in zip(row, digits, strict=True)] for row in table]
    _annotate(ax, shade.filled(0), texts, mesh)
    ax.invert_yaxis()
    ax.set_yticks([y + 0.5 for y in range(len(lines))], [arm for _, arm, _ in lines])
    names = [label for label, _, _ in lines]
    for label in dict.fromkeys(names):
        first, count = names.index(label), names.count(label)
        ax.annotate(
            label, (0, first + count / 2), (-46, 0), ("axes fraction", "data"), "offset points",
            ha="right", va="center", annotation_clip=False,
        )  # fmt: skip
        if first:
            ax.axhline(first, color="black", linewidth=0.6)
    ax.xaxis.tick_top()
    ax.set_xticks([x + 0.5 for x in range(len(columns))], columns)
    room = DOUBLE - 1.0 - WIDE * max(map(len, names))
    if WIDE * max(map(len, columns)) > room / len(columns):
        for tick in ax.get_xticklabels():
            tick.set(rotation=30, ha="left", rotation_mode="anchor")
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return fig


def dose(points: Mapping[int, Mapping[str, Any]], title: str) -> Figure:
    """Gain with its 95 % interval against student updates.

    Args:
        points: updates -> `mean`, `ci_low`, `ci_high` in nats, in rising order; the last is the row's own gain.
    """
    from matplotlib.figure import Figure

    fig = Figure(figsize=(SINGLE, 2.2), layout=layout())
    ax = fig.subplots()
    steps = list(points)
    ax.axhline(0, color="black", linewidth=0.6)
    ax.plot(steps, [points[s]["mean"] for s in steps], color=BLUE, linewidth=0.8)
    for step, found in points.items():
        mean, low, high = found["mean"], found["ci_low"], found["ci_high"]
        error = None if low is None or high is None else [[mean - low], [high - mean]]
        ax.errorbar(
            step, mean, yerr=error, color=BLUE, marker="o", markersize=3.5, elinewidth=0.9, capsize=2.5, capthick=0.9
        )
    ax.set_xscale("log", base=2)
    width = math.log2(steps[-1] / steps[0]) or 1.0
    kept: list[int] = []
    for step in (steps[-1], *steps[:-1]):  # the end, the start, and between them where there is room for the label
        if all(abs(math.log2(step / other)) > 0.11 * width for other in kept):
            kept.append(step)
    ax.set_xticks(kept, [f"{step:,}" for step in kept])
    ax.set_xticks([], minor=True)
    ax.set_xlabel("student updates (log scale)")
    ax.set_ylabel("gain (nats)")
    ax.set_title(shorten(title))
    return fig


def matrix(found: Mapping[str, Any], title: str) -> Figure:
    """Gains of every trait's students on every trait's questions, with how far the diagonal stands out.

    Args:
        found: a leaderboard entry's `matrix`.
    """
    from matplotlib.figure import Figure

    traits, table = [shorten(t, 16) for t in found["traits"]], found["gains"]
    size = len(traits)
    width = SINGLE if size <= 5 else DOUBLE
    fig = Figure(figsize=(width, min(width, 0.36 * size + 1.2)), layout=layout())
    ax = fig.subplots()
    most = max(abs(gain) for row in table for gain in row) or 1.0
    mesh = ax.pcolormesh(table, cmap="PuOr", vmin=-most, vmax=most, edgecolors="white", linewidth=0.8)
    digits = 2 if most >= 0.1 else 4
    _annotate(ax, table, [[number(gain, digits) for gain in row] for row in table], mesh)
    for i in range(size):
        ax.plot([i, i + 1, i + 1, i, i], [i, i, i + 1, i + 1, i], color="black", linewidth=1.0, clip_on=False)
    ax.invert_yaxis()
    middles = [i + 0.5 for i in range(size)]
    ax.set_xticks(middles, traits)
    if WIDE * max(map(len, traits)) > (width - 1.2) / size:
        for tick in ax.get_xticklabels():
            tick.set(rotation=30, ha="right", rotation_mode="anchor")
    ax.set_yticks(middles, traits)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_xlabel("trait asked about")
    ax.set_ylabel("trait taught")
    bar = fig.colorbar(mesh, ax=ax, label="gain (nats)", shrink=0.9)
    bar.outline.set_visible(False)
    bar.solids.set(rasterized=False, edgecolor="face")  # else the SVG holds a picture of it
    excess = estimate(found["excess"], found["excess_low"], found["excess_high"])
    fig.suptitle(f"{shorten(title)}\nexcess {excess}, p = {found['p']:.2g}, {found['seeds']} seeds", fontsize=7)
    return fig
