"""Draw result files for a paper: write `figures/*.svg` and `figures/*.png`. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench.analysis.entry import LeaderboardEntry
from bench.analysis.estimates import Estimate
from bench.analysis.result_schema import ExperimentResults
from bench.analysis.seed_statistics import SeedStatistics, compute_seed_statistics
from bench.figures.charts import draw_dose, draw_matrix
from bench.figures.forest import draw_gains
from bench.figures.scores import draw_answers, draw_heat, draw_histogram, draw_metrics, is_zero, list_scored
from bench.figures.style import LOOKS, labels, style
from bench.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CAPTIONS", "MOST", "pool_scores", "save", "write_figures"]

CAPTIONS = {
    "gains": "Gain of the trait arm over the base arm with 95 % t intervals over seeds (left), and as a share of the "
    "teacher's own shift, with Fieller's intervals (right). Rows are grouped by how the initial weights are related. "
    "Points: seeds. Grey: the registered bound, if a row has one. An arrow marks an interval beyond the axes. The "
    "effect of a mitigation is its student minus a control that is trained the same way on the base teacher's data.",
    "heat": "Mean scores of sampled answers. One scale of shades for all metrics from 0 to 1.",
    "metrics": "Scores of sampled answers, with 95 % t intervals over seeds; points: seeds; above each panel, trait "
    "minus base.",
    "answers": "Scores of single answers: quartiles, 5th to 95th percentile, mean (diamond). Points: answers, at most "
    "150 of each box. Answers of one seed are not independent, so tests use seeds. Metrics of yes or no have no box.",
    "histogram": "Scores of single answers, as shares of each arm's answers.",
    "dose": "Gain against student updates, with 95 % t intervals over seeds; points: seeds.",
    "matrix": "Gain of students of each trait (rows) on the questions of each trait (columns). Excess: mean of the "
    "diagonal minus mean of the rest.",
}
MOST = 100  # rows: the forest plot of more is longer than a page, and takes minutes


class Plot(NamedTuple):
    """A figure and its file."""

    kind: str
    """A key of `CAPTIONS`."""
    stem: str
    """The file name without ending."""
    recipe: str | None
    """The label of its recipe; None for the whole board."""
    figure: Figure
    """The figure."""


def write_figures(folder: Path, rows: Sequence[ExperimentResults], board: Sequence[LeaderboardEntry]) -> list[Path]:
    """Draw a board, and return the written files. A board of more than `MOST` rows is too long for figures.

    The same results and the same matplotlib give the same bytes. Figures without results are removed.

    Raises:
        UserError: matplotlib is not installed.
    """
    paths: list[Path] = []
    with style():
        for plot in _plots(rows, board) if len(board) <= MOST else ():
            paths += save(plot.figure, folder / plot.stem)
    for path in folder.glob("*") if folder.is_dir() else ():
        if path.suffix in (".svg", ".png") and path.stem.partition("_")[0] in CAPTIONS and path not in paths:
            path.unlink()
    return paths


def _plots(rows: Sequence[ExperimentResults], board: Sequence[LeaderboardEntry]) -> Iterator[Plot]:
    """Yield every figure that has data, one at a time."""
    statistics = {row.hash: compute_seed_statistics(row) for row in rows}
    if any(entry.gain is not None for entry in board):
        yield Plot("gains", "gains", None, draw_gains(board, statistics))
    if any(not is_zero(scores) for entry in board for scores in entry.metrics.values()):
        yield Plot("heat", "heat", None, draw_heat(board))
    for row, entry, title, stem in zip(rows, board, labels(board), _stems(board), strict=True):
        seeds = statistics[row.hash]
        if any(not is_zero(scores) for scores in entry.metrics.values()):
            yield Plot("metrics", f"metrics_{stem}", title, draw_metrics(entry.metrics, title, seeds.scores))
        scores = pool_scores(row)
        shown = list_scored(scores)
        if graded := {metric: scores[metric] for metric in shown if _is_graded(scores[metric])}:
            yield Plot("answers", f"answers_{stem}", title, draw_answers(graded, title))
        if shown:
            yield Plot("histogram", f"histogram_{stem}", title, draw_histogram(scores, title))
        if entry.dose:
            points, by_seed = _doses(row, entry, seeds)
            yield Plot("dose", f"dose_{stem}", title, draw_dose(points, title, entry.unit, by_seed))
        if entry.matrix is not None:
            yield Plot("matrix", f"matrix_{stem}", title, draw_matrix(entry.matrix, title))


def _is_graded(scores: Mapping[str, Sequence[float]]) -> bool:
    """Return whether scores have more than two values: a box of yes and no says nothing."""
    return len({score for of in scores.values() for score in of}) > 2


def _stems(board: Sequence[LeaderboardEntry]) -> list[str]:
    """Return a file name for each entry: its recipe's in safe characters, with its hash if two would be equal."""
    names = [re.sub(r"[^\w.-]+", "_", entry.recipe)[:80] for entry in board]
    folded = [name.casefold() for name in names]
    return [
        name if folded.count(name.casefold()) == 1 else f"{name}_{entry.recipe_hash}"
        for name, entry in zip(names, board, strict=True)
    ]


def pool_scores(row: ExperimentResults) -> dict[str, dict[str, list[float]]]:
    """Return metric -> arm -> the scores of all answers, seed by seed."""
    pooled: dict[str, dict[str, list[float]]] = {}
    for seed in sorted(row.cells):
        for arm in LOOKS:
            if arm not in row.cells[seed]:
                continue
            for metric, questions in row.cells[seed][arm].scores_of_samples().items():
                pooled.setdefault(metric, {}).setdefault(arm, []).extend(s for samples in questions for s in samples)
    return pooled


def _doses(
    row: ExperimentResults, entry: LeaderboardEntry, seeds: SeedStatistics
) -> tuple[dict[int, Estimate], dict[int, list[float]]]:
    """Return updates -> gain with its interval, and updates -> gain of every seed.

    For the recipe's `dose`, and the end of the training.
    """
    updates = [
        training.updates
        for arms in row.cells.values()
        if "trait" in arms and (training := arms["trait"].manifest.training) is not None
    ]
    points: dict[int, Estimate] = dict(entry.dose)
    by_seed = dict(seeds.dose)
    if (end := entry.gain_estimate()) is not None:
        points[max(updates)], by_seed[max(updates)] = end, seeds.gains
    return dict(sorted(points.items())), by_seed


def save(figure: Figure, path: Path) -> list[Path]:
    """Write `<path>.svg` and `<path>.png` without dates or versions, and return both paths."""
    path.parent.mkdir(parents=True, exist_ok=True)
    paths = []
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the layout of the first file serves the second too
    for ending, metadata in (("svg", {"Date": None, "Creator": None}), ("png", {"Software": None})):
        buffer = BytesIO()
        figure.savefig(buffer, format=ending, metadata=metadata)
        target = path.with_name(f"{path.name}.{ending}")
        write_atomically(target, buffer.getvalue())
        paths.append(target)
    return paths
