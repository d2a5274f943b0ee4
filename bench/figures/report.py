"""Draw result files: write `figures/*.svg`, `figures/*.png` and `report.html`. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html import escape
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from bench.analysis.entry import Estimate, LeaderboardEntry
from bench.analysis.entry_text import table_cells
from bench.analysis.result_files import read_results
from bench.analysis.result_schema import ExperimentResults
from bench.analysis.summary import summarise
from bench.errors import UserError
from bench.figures import charts
from bench.figures.forest import gains
from bench.figures.style import LOOKS, labels, style
from bench.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["pool_scores", "write_figures"]

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
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; margin: 2rem auto; padding: 0 1rem;
  max-width: 72rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.5rem; overflow-wrap: anywhere }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .3rem .7rem .3rem 0; border-bottom: 1px solid #ddd; vertical-align: top }
td, th { white-space: nowrap } td.name { white-space: normal; overflow-wrap: anywhere; min-width: 11rem }
ul { font-size: 13px; padding-left: 1.2rem; max-width: 60rem } li { overflow-wrap: anywhere }
figure { margin: 1.5rem 0 } img { max-width: 100%; height: auto } figcaption { max-width: 44rem; font-size: 13px }
"""
NAME_CELL = '<td class="name">'  # may break its line


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


def write_figures(folder: Path) -> list[Path]:
    """Draw the result files under `folder`, and return the written files, `report.html` last.

    The same results and the same matplotlib give the same bytes. Figures without results are removed.

    Raises:
        UserError: `folder` contains no results, or matplotlib is not installed.
    """
    rows, _ = read_results(folder)
    if not rows:
        raise UserError(f"{folder}: contains no results; run a recipe first, for example: python run_bench.py")
    board = summarise(rows)
    figures = folder / "figures"
    paths: list[Path] = []
    plots: list[Plot] = []
    with style():
        for plot in _plots(rows, board):
            paths += _save(plot.figure, figures / plot.stem)
            plots.append(plot)
    for path in figures.glob("*") if figures.is_dir() else ():
        if path.suffix in (".svg", ".png") and path.stem.partition("_")[0] in CAPTIONS and path not in paths:
            path.unlink()
    page = folder / "report.html"
    write_atomically(page, _page(board, plots))
    return [*paths, page]


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
            yield Plot("dose", f"dose_{stem}", title, charts.dose(_doses(row, entry), title))
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
            for metric, questions in row.cells[seed][arm].scores.items():
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


def _save(figure: Figure, path: Path) -> list[Path]:
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


def _table(board: Sequence[LeaderboardEntry]) -> str:
    """Render the rows of a board, and below them the reason for each verdict."""
    heads = (
        *("recipe", "teacher -> student", "relation", "trait", "seeds", "untrained", "base", "trait arm"),
        *("gain [95 % CI]", "P(answer)", "mass", "verdict", "p", "q"),
    )
    lines, reasons = [], []
    for entry in board:
        cells = table_cells(entry)
        lines.append(
            "".join(f"{NAME_CELL if i < 2 else '<td>'}{escape(cells[head])}</td>" for i, head in enumerate(heads))
        )
        reason = f"{entry.recipe_hash}: {entry.verdict}: {entry.verdict_reason}."
        reasons.append(f"<li><b>{escape(entry.recipe)}</b> {escape(reason)}</li>\n")
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    rows = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="wide"><table>\n<tr>{head}</tr>\n{rows}\n</table></div>\n<ul>\n{"".join(reasons)}</ul>\n'


def _figure(plot: Plot) -> str:
    source = quote(f"figures/{plot.stem}")
    inches = plot.figure.get_size_inches()
    size = f'width="{inches[0] * 120:.0f}" height="{inches[1] * 120:.0f}"'
    about = plot.kind if plot.recipe is None else f"{plot.kind}, {plot.recipe}"
    return (
        f'<figure><img src="{source}.svg" alt="{escape(about)}" {size}>\n'
        f'<figcaption>{escape(CAPTIONS[plot.kind])} <a href="{source}.svg">SVG</a>, <a href="{source}.png">PNG</a>'
        "</figcaption></figure>\n"
    )


def _page(board: Sequence[LeaderboardEntry], plots: Sequence[Plot]) -> str:
    fair, leaky = ([entry for entry in board if entry.is_leak == leak] for leak in (False, True))
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Subliminal learning: results</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        "<h1>Subliminal learning: results</h1>\n"
        "<p>Gain = trait arm - base arm, paired by seed, in nats. The interval is a 95 % t interval over seeds; p is "
        "a sign-flip test over seeds. A verdict rests on p; q adjusts p for the size of the board.</p>\n"
    ]
    if fair:
        parts.append(_table(fair))
    if leaky:
        parts.append(f"<h2>Not subliminal: students that saw the teacher's whole vocabulary</h2>\n{_table(leaky)}")
    before: str | None = ""
    for plot in plots:
        if plot.recipe != before:
            parts.append(f"<h2>{escape(plot.recipe or 'All recipes')}</h2>\n")
            before = plot.recipe
        parts.append(_figure(plot))
    return "".join(parts) + "</body>\n</html>\n"
