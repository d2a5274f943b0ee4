"""Draw result files for a paper: write `figures/*.svg` and `figures/*.png`. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench.analysis.entry import LeaderboardEntry
from bench.analysis.estimates import Estimate
from bench.analysis.result_schema import ExperimentResults
from bench.figures import charts
from bench.figures.forest import gains
from bench.figures.style import LOOKS, labels, style
from bench.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CAPTIONS", "MOST", "pool_scores", "save", "write_figures"]

CAPTIONS = {
    "gains": "Gain of the trait arm over the base arm with 95 % t intervals over seeds (left), and as a share of the "
    "teacher's own shift, with Fieller's intervals (right). Grey: the registered bound, if a row has one. An arrow "
    "marks an interval beyond the axes.",
    "heat": "Mean scores of sampled answers. Each column has its own scale of shades.",
    "metrics": "Scores of sampled answers, with 95 % t intervals over seeds; above each panel, trait minus base.",
    "answers": "Scores of single answers: quartiles, 5th to 95th percentile, mean (diamond). Answers of one seed are "
    "not independent, so tests use seeds. Metrics of yes or no have no box.",
    "histogram": "Scores of single answers, as shares of each arm's answers.",
    "dose": "Gain against student updates, with 95 % t intervals over seeds.",
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
    if any(entry.gain is not None for entry in board):
        yield Plot("gains", "gains", None, gains(board))
    if any(entry.metrics for entry in board):
        yield Plot("heat", "heat", None, charts.heat(board))
    for row, entry, title, stem in zip(rows, board, labels(board), _stems(board), strict=True):
        if entry.metrics:
            yield Plot("metrics", f"metrics_{stem}", title, charts.metrics(entry.metrics, title))
        scores = pool_scores(row)
        if graded := {metric: arms for metric, arms in scores.items() if len({*chain(*arms.values())}) > 2}:
            yield Plot("answers", f"answers_{stem}", title, charts.answers(graded, title))
        if scores:
            yield Plot("histogram", f"histogram_{stem}", title, charts.histogram(scores, title))
        if entry.dose:
            yield Plot("dose", f"dose_{stem}", title, charts.dose(_doses(row, entry), title, entry.unit))
        if entry.matrix is not None:
            yield Plot("matrix", f"matrix_{stem}", title, charts.matrix(entry.matrix, title))


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


def _doses(row: ExperimentResults, entry: LeaderboardEntry) -> dict[int, Estimate]:
    """Return updates -> gain with its interval, for the recipe's `dose` and the end of the training."""
    updates = [
        training.updates
        for arms in row.cells.values()
        if "trait" in arms and (training := arms["trait"].manifest.training) is not None
    ]
    points: dict[int, Estimate] = dict(entry.dose)
    if (end := entry.gain_estimate()) is not None:
        points[max(updates)] = end
    return dict(sorted(points.items()))


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
