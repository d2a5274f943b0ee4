"""Draw the scores of free answers: means by arm, single answers, and the table of all recipes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bench.analysis.number_text import fit_decimals, format_number, signed
from bench.config.outcome import name_metric
from bench.figures.parts import add_color_bar, annotate_cells, arm_legend, draw_seeds, error_bar, panels
from bench.figures.style import CHARACTER_WIDTH, DOUBLE, LOOKS, SMALL, labels, layout, shorten, typeset

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bench.analysis.entry import LeaderboardEntry, MetricScores

__all__ = ["draw_answers", "draw_heat", "draw_histogram", "draw_metrics", "is_zero", "list_scored"]

AnswerScores = Mapping[str, Mapping[str, Sequence[float]]]  # metric -> arm -> one score per answer
SeedScores = Mapping[str, Mapping[str, Sequence[float]]]  # metric -> arm -> one mean per seed
ASIDE = 0.16  # of bars and boxes, to the left of their place; points are to the right
POINTS = 150  # of one box: more make one dark block, and a large file


def is_zero(scores: MetricScores) -> bool:
    """Return whether every answer of every arm scores 0 by a metric."""
    numbers = [n for one in scores.arms().values() for n in (one.mean, one.ci_low, one.ci_high)]
    return not any(numbers)


def list_scored(scores: AnswerScores) -> list[str]:
    """Return the metrics by which at least one answer does not score 0."""
    return [metric for metric, arms in scores.items() if any(map(any, arms.values()))]


def _note_zeros(metrics: Sequence[str]) -> str:
    """Return a line on metrics that are 0 everywhere, which have no panel; empty without one."""
    return f"0 in every answer: {', '.join(map(name_metric, metrics))}" if metrics else ""


def _label(metric: str) -> str:
    return shorten(name_metric(metric), 24)


def draw_metrics(scores: Mapping[str, MetricScores], title: str, seeds: SeedScores | None = None) -> Figure:
    """Draw bars of each text metric by arm, with 95 % intervals over seeds. Each panel has the scale of its metric.

    Args:
        scores: `metrics` of a leaderboard entry; at least one is not 0 everywhere.
        title: above all panels.
        seeds: the mean of every seed.
    """
    zeros = [metric for metric, one in scores.items() if is_zero(one)]
    panels_of = {metric: one for metric, one in scores.items() if metric not in zeros}
    fig, axes = panels(len(panels_of), shorten(title))
    present = [arm for arm in LOOKS if any(arm in one.arms() for one in panels_of.values())]
    for ax, (metric, one) in zip(axes, panels_of.items(), strict=True):
        by_seed = (seeds or {}).get(metric, {})
        for x, arm in enumerate(present):
            if (value := one.arms().get(arm)) is None:
                continue
            look = LOOKS[arm]
            ax.bar(
                x - ASIDE, value.mean, 0.46, yerr=error_bar(value), color=look.face, hatch=look.hatch,
                edgecolor="black", linewidth=0.6, error_kw={"elinewidth": 0.9, "capsize": 2.5, "capthick": 0.9},
            )  # fmt: skip
            values = by_seed.get(arm, ())
            draw_seeds(ax, _spread(x, len(values)), values, look.ink)
        p = "" if one.gain.p is None else f", p = {one.gain.p:.2g}"
        ax.set_title(_label(metric), pad=12)
        ax.annotate(
            f"gain {typeset(signed(one.gain.mean))}{p}", (0.5, 1), (0, 3), "axes fraction", "offset points",
            ha="center", va="bottom", fontsize=SMALL,
        )  # fmt: skip
        ax.axhline(0, color="black", linewidth=0.6)
        _place_arms(ax, len(present))
    arm_legend(fig, present, note=_note_zeros(zeros))
    return fig


def _place_arms(ax: Axes, arms: int) -> None:
    ax.set_xticks([])
    ax.set_xlim(-0.6, arms - 0.4)
    ax.set_ylabel("score")


def _spread(x: float, count: int) -> list[float]:
    """Return `count` places to the right of a bar or box, in a fixed order that separates neighbours."""
    return [x + 0.17 + 0.26 * (i * 0.618 % 1) for i in range(count)]  # multiples of the golden ratio are even


def _arms(scores: AnswerScores) -> list[str]:
    return [arm for arm in LOOKS if any(arm in arms for arms in scores.values())]


def _title(scores: AnswerScores, title: str) -> str:
    """Return a title with the number of answers of each arm."""
    counts = [f"{max(len(arms.get(arm, ())) for arms in scores.values()):,}" for arm in _arms(scores)]
    number_of = f"{counts[0]} answers per arm" if len(set(counts)) == 1 else f"{' / '.join(counts)} answers"
    return f"{shorten(title)}\n{number_of}"


def draw_answers(scores: AnswerScores, title: str) -> Figure:
    """Draw box plots of the answers' scores by arm, with the answers beside them.

    Boxes have quartiles, whiskers from the 5th to the 95th percentile, and a mean. Of more than `POINTS` answers every
    n-th is a point, in the order of their scores.

    Args:
        scores: at least one metric.
        title: above all panels.
    """
    fig, axes = panels(len(scores), _title(scores, title))
    arms_in_order = _arms(scores)
    for ax, (metric, arms) in zip(axes, scores.items(), strict=True):
        present = [arm for arm in arms_in_order if arm in arms]
        places = [arms_in_order.index(arm) for arm in present]
        plot = ax.boxplot(
            [arms[arm] for arm in present], positions=[x - ASIDE for x in places], widths=0.42,
            whis=(5, 95), showfliers=False, showmeans=True, patch_artist=True, manage_ticks=False,
            medianprops={"color": "black", "linewidth": 1.4},
            boxprops={"linewidth": 0.6}, whiskerprops={"linewidth": 0.6}, capprops={"linewidth": 0.6},
            meanprops={"marker": "D", "markersize": 3.5, "markerfacecolor": "white", "markeredgecolor": "black"},
        )  # fmt: skip
        for x, arm, box in zip(places, present, plot["boxes"], strict=True):
            box.set(facecolor=LOOKS[arm].face, hatch=LOOKS[arm].hatch)
            points = _thin(arms[arm])
            draw_seeds(ax, _spread(x, len(points)), points, LOOKS[arm].ink)
        ax.set_title(_label(metric))
        _place_arms(ax, len(arms_in_order))
    arm_legend(fig, arms_in_order)
    return fig


def _thin(values: Sequence[float]) -> list[float]:
    """Return at most `POINTS` values, evenly spaced in rising order, with the lowest and the highest."""
    ordered = sorted(values)
    if len(ordered) <= POINTS:
        return ordered
    return [ordered[round(i * (len(ordered) - 1) / (POINTS - 1))] for i in range(POINTS)]


def draw_histogram(scores: AnswerScores, title: str) -> Figure:
    """Draw histograms of the answers' scores by arm, with equal bins, as shares of each arm's answers.

    Args:
        scores: at least one metric that is not 0 in every answer.
        title: above all panels.
    """
    import numpy as np
    from matplotlib.ticker import MaxNLocator

    shown = list_scored(scores)
    fig, axes = panels(len(shown), _title(scores, title))
    for ax, metric in zip(axes, shown, strict=True):
        arms = scores[metric]
        bins = _bins([score for scored in arms.values() for score in scored])
        for arm, look in reversed(LOOKS.items()):  # dots above dashes above lines
            if arm in arms:
                counts, _ = np.histogram(arms[arm], bins)
                ax.stairs(100 * counts / counts.sum(), bins, color=look.ink, linestyle=look.line)
        ax.set_title(_label(metric))
        whole = (bins[1] - bins[0]) % 1 == 0
        ax.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10], integer=whole, min_n_ticks=1))
        ax.set_xlabel("score")
        ax.set_ylabel("answers (%)")
        ax.set_ylim(bottom=0)
    arm_legend(fig, _arms(scores), lines=True, note=_note_zeros([metric for metric in scores if metric not in shown]))
    return fig


def _bins(values: Sequence[float]) -> list[float]:
    """Return the edges of about 20 bins, with the lowest and highest value at bin centres. Counts get whole bins."""
    low, high = min(values), max(values)
    width = (high - low) / 20
    if all(float(value).is_integer() for value in values):
        width = math.ceil(width)
    width = width or 1.0
    return [low + (i - 0.5) * width for i in range(math.ceil((high - low) / width - 1e-9) + 2)]


def draw_heat(entries: Sequence[LeaderboardEntry]) -> Figure:
    """Draw mean scores as a table of cells: a line per recipe and arm, a column per metric.

    One scale of shades serves all metrics from 0 to 1. Metrics with a scale of their own have no shade.

    Args:
        entries: the leaderboard; at least one metric of one entry is not 0 everywhere.
    """
    import numpy as np
    from matplotlib.figure import Figure

    board = [(e, label) for e, label in zip(entries, labels(entries), strict=True) if e.metrics]
    names = list(dict.fromkeys(metric for entry, _ in board for metric in entry.metrics))
    zeros = [m for m in names if all(is_zero(entry.metrics[m]) for entry, _ in board if m in entry.metrics)]
    shown = [metric for metric in names if metric not in zeros]
    columns = [_label(metric) for metric in shown]
    lines = []
    for entry, label in board:
        means = {name: {arm: one.mean for arm, one in of.arms().items()} for name, of in entry.metrics.items()}
        lines += [(label, arm, means) for arm in LOOKS if any(arm in of for of in means.values())]
    table = np.array([[means.get(c, {}).get(arm, math.nan) for c in shown] for _, arm, means in lines])
    low, high = np.nanmin(table, 0), np.nanmax(table, 0)
    own_scale = (low < 0) | (high > 1)
    shade = np.ma.masked_where(np.isnan(table) | own_scale, table)
    fig = Figure(figsize=(DOUBLE, 0.13 * len(lines) + 0.8 + 0.12 * bool(zeros)), layout=layout())
    ax = fig.subplots()
    most = float(shade.max()) if shade.count() else 1.0
    mesh = ax.pcolormesh(shade, cmap="Blues", vmin=0, vmax=most or 1.0, edgecolors="white", linewidth=0.6)
    decimals = [fit_decimals(max(abs(a), abs(b)), 3) for a, b in zip(low, high, strict=True)]
    texts = [
        ["" if math.isnan(v) else typeset(format_number(v, d, sign=False)) for v, d in zip(row, decimals, strict=True)]
        for row in table
    ]
    annotate_cells(ax, shade, texts, mesh)
    ax.invert_yaxis()
    ax.set_yticks([y + 0.5 for y in range(len(lines))], [arm for _, arm, _ in lines])
    _name_recipes(ax, [label for label, _, _ in lines])
    ax.xaxis.tick_top()
    ax.set_xticks([x + 0.5 for x in range(len(columns))], columns)
    room = DOUBLE - 1.6 - CHARACTER_WIDTH * max(len(label) for label, _, _ in lines)
    if CHARACTER_WIDTH * max(map(len, columns)) > room / len(columns):
        for tick in ax.get_xticklabels():
            tick.set(rotation=30, ha="left", rotation_mode="anchor")
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    if shade.count():
        add_color_bar(fig, ax, mesh, "mean score; white: a scale of its own" if own_scale.any() else "mean score")
    if zeros:
        fig.suptitle(_note_zeros(zeros), fontsize=SMALL)
    return fig


def _name_recipes(ax: Axes, names: Sequence[str]) -> None:
    """Write the name of each recipe beside its lines, and a line between recipes."""
    for label in dict.fromkeys(names):
        first, count = names.index(label), names.count(label)
        ax.annotate(
            label, (0, first + count / 2), (-46, 0), ("axes fraction", "data"), "offset points",
            ha="right", va="center", annotation_clip=False,
        )  # fmt: skip
        if first:
            ax.axhline(first, color="black", linewidth=0.6)
