"""Draw the answers, doses and traits of one recipe, and the table of all scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.figures.style import (
    BLUE,
    DOUBLE,
    LOOKS,
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

    from bench.analysis.entry import LeaderboardEntry, MetricScores, TraitMatrix
    from bench.analysis.estimates import Estimate

__all__ = ["answers", "dose", "heat", "histogram", "matrix", "metrics"]

CHARACTER_WIDTH = 0.056  # inches of a character of a tick label, about


def _error(value: Estimate) -> list[list[float]] | None:
    """Return the error bar of an estimate; None without an interval."""
    if value.ci_low is None or value.ci_high is None:
        return None
    return [[value.mean - value.ci_low], [value.ci_high - value.mean]]


def metrics(scores: Mapping[str, MetricScores], title: str) -> Figure:
    """Draw bars of each text metric by arm, with 95 % intervals over seeds. Each panel has the scale of its metric.

    Args:
        scores: `metrics` of a leaderboard entry.
        title: above all panels.
    """
    fig, axes = panels(len(scores), shorten(title))
    present = [arm for arm in LOOKS if any(arm in one.arms() for one in scores.values())]
    for ax, (metric, one) in zip(axes, scores.items(), strict=True):
        for x, arm in enumerate(present):
            if (value := one.arms().get(arm)) is None:
                continue
            ax.bar(
                x, value.mean, 0.72, yerr=_error(value), color=LOOKS[arm].face, hatch=LOOKS[arm].hatch,
                edgecolor="black", linewidth=0.6, error_kw={"elinewidth": 0.9, "capsize": 2.5, "capthick": 0.9},
            )  # fmt: skip
        p = "" if one.gain.p is None else f", p = {one.gain.p:.2g}"
        ax.set_title(shorten(metric, 24), pad=12)
        ax.annotate(
            f"gain {brief(one.gain.mean)}{p}", (0.5, 1), (0, 3), "axes fraction", "offset points",
            ha="center", va="bottom", fontsize=SMALL,
        )  # fmt: skip
        ax.axhline(0, color="black", linewidth=0.6)
        ax.set_xticks([])
        ax.set_ylabel("score")
    arm_legend(fig, present)
    return fig


AnswerScores = Mapping[str, Mapping[str, Sequence[float]]]  # metric -> arm -> one score per answer


def _arms(scores: AnswerScores) -> list[str]:
    return [arm for arm in LOOKS if any(arm in arms for arms in scores.values())]


def _title(scores: AnswerScores, title: str) -> str:
    """Return a title with the number of answers of each arm."""
    counts = [f"{max(len(arms.get(arm, ())) for arms in scores.values()):,}" for arm in _arms(scores)]
    number_of = f"{counts[0]} answers per arm" if len(set(counts)) == 1 else f"{' / '.join(counts)} answers"
    return f"{shorten(title)}\n{number_of}"


def answers(scores: AnswerScores, title: str) -> Figure:
    """Draw box plots of the answers' scores by arm: quartiles, whiskers from the 5th to the 95th percentile, mean."""
    fig, axes = panels(len(scores), _title(scores, title))
    arms_in_order = _arms(scores)
    for ax, (metric, arms) in zip(axes, scores.items(), strict=True):
        present = [arm for arm in arms_in_order if arm in arms]
        plot = ax.boxplot(
            [arms[arm] for arm in present], positions=[arms_in_order.index(arm) for arm in present], widths=0.6,
            whis=(5, 95), showfliers=False, showmeans=True, patch_artist=True, manage_ticks=False,
            medianprops={"color": "black", "linewidth": 1.4},
            boxprops={"linewidth": 0.6}, whiskerprops={"linewidth": 0.6}, capprops={"linewidth": 0.6},
            meanprops={"marker": "D", "markersize": 3.5, "markerfacecolor": "white", "markeredgecolor": "black"},
        )  # fmt: skip
        for arm, box in zip(present, plot["boxes"], strict=True):
            box.set(facecolor=LOOKS[arm].face, hatch=LOOKS[arm].hatch)
        ax.set_title(shorten(metric, 24))
        ax.set_xticks([])
        ax.set_xlim(-0.6, len(arms_in_order) - 0.4)
        ax.set_ylabel("score")
    arm_legend(fig, arms_in_order)
    return fig


def histogram(scores: AnswerScores, title: str) -> Figure:
    """Draw histograms of the answers' scores by arm, with equal bins, as shares of each arm's answers."""
    import numpy as np
    from matplotlib.ticker import MaxNLocator

    fig, axes = panels(len(scores), _title(scores, title))
    for ax, (metric, arms) in zip(axes, scores.items(), strict=True):
        bins = _bins([score for scored in arms.values() for score in scored])
        for arm, look in reversed(LOOKS.items()):  # dots above dashes above lines
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
    """Return the edges of about 20 bins, with the lowest and highest value at bin centres. Counts get whole bins."""
    low, high = min(values), max(values)
    width = (high - low) / 20
    if all(float(value).is_integer() for value in values):
        width = math.ceil(width)
    width = width or 1.0
    return [low + (i - 0.5) * width for i in range(math.ceil((high - low) / width - 1e-9) + 2)]


def _annotate(ax: Axes, values: Any, texts: Sequence[Sequence[str]], mesh: Any) -> None:
    """Write the text of each cell, in white on dark cells."""
    for y, row in enumerate(texts):
        for x, text in enumerate(row):
            red, green, blue, _ = mesh.cmap(mesh.norm(values[y][x]))
            dark = 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.45
            ax.text(
                x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=SMALL, color="white" if dark else "black"
            )


def heat(entries: Sequence[LeaderboardEntry]) -> Figure:
    """Draw mean scores as a table of cells: a line per recipe and arm, a column per metric.

    Metrics differ in scale, so each column is shaded separately, from its lowest to its highest cell.
    """
    import numpy as np
    from matplotlib.figure import Figure

    board = [(e, label) for e, label in zip(entries, labels(entries), strict=True) if e.metrics]
    metrics_shown = list(dict.fromkeys(metric for entry, _ in board for metric in entry.metrics))
    columns = [shorten(metric, 24) for metric in metrics_shown]
    lines = []
    for entry, label in board:
        means = {name: {arm: one.mean for arm, one in of.arms().items()} for name, of in entry.metrics.items()}
        lines += [(label, arm, means) for arm in LOOKS if any(arm in of for of in means.values())]
    table = np.array([[means.get(c, {}).get(arm, math.nan) for c in metrics_shown] for _, arm, means in lines])
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
    room = DOUBLE - 1.0 - CHARACTER_WIDTH * max(map(len, names))
    if CHARACTER_WIDTH * max(map(len, columns)) > room / len(columns):
        for tick in ax.get_xticklabels():
            tick.set(rotation=30, ha="left", rotation_mode="anchor")
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return fig


def dose(points: Mapping[int, Estimate], title: str, unit: str = "nats") -> Figure:
    """Draw the gain with its 95 % interval against student updates.

    Args:
        points: updates -> gain, in rising order; the last is the gain at the end of the training.
        title: above the figure.
        unit: of the gain.
    """
    from matplotlib.figure import Figure

    fig = Figure(figsize=(SINGLE, 2.2), layout=layout())
    ax = fig.subplots()
    steps = list(points)
    ax.axhline(0, color="black", linewidth=0.6)
    ax.plot(steps, [points[s].mean for s in steps], color=BLUE, linewidth=0.8)
    for step, gain in points.items():
        ax.errorbar(
            step, gain.mean, yerr=_error(gain), color=BLUE, marker="o", markersize=3.5, elinewidth=0.9, capsize=2.5,
            capthick=0.9,
        )  # fmt: skip
    ax.set_xscale("log", base=2)
    width = math.log2(steps[-1] / steps[0]) or 1.0
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


def matrix(gains: TraitMatrix, title: str) -> Figure:
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
    digits = 2 if most >= 0.1 else 4
    _annotate(ax, table, [[number(gain, digits) for gain in row] for row in table], mesh)
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
    bar = fig.colorbar(mesh, ax=ax, label="gain (nats)", shrink=0.9)
    bar.outline.set_visible(False)
    bar.solids.set(rasterized=False, edgecolor="face")  # otherwise the SVG contains it as a bitmap
    excess = gains.excess
    shown = estimate(excess.mean, excess.ci_low, excess.ci_high) + ("" if excess.p is None else f", p = {excess.p:.2g}")
    fig.suptitle(f"{shorten(title)}\nexcess {shown}, {excess.seeds} seeds", fontsize=7)
    return fig
