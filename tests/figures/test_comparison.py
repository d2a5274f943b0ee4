from __future__ import annotations

from pathlib import Path

import pytest
from board import STEADY, ZERO, make_row

from bench.analysis.comparison import compare_rows
from bench.figures.comparison import draw_comparison, write_comparison
from bench.figures.style import style

RATE, ROWS = "student.train.learning_rate", "carrier.rows"
GRID = [
    make_row(STEADY if rows == 2048 else ZERO, overrides=[f"{RATE}={rate}", f"{ROWS}={rows}"])
    for rate in ("1.5e-3", "5e-4")
    for rows in (2048, 512, 64)
]


def test_the_key_of_most_numbers_is_the_axis_and_other_keys_are_lines() -> None:
    with style():
        figure = draw_comparison(compare_rows(GRID))
    (ax,) = figure.axes
    assert ax.get_xlabel() == "rows (not to scale)"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["64", "512", "2048"]
    lines = {str(line.get_label()): line for line in ax.lines if not str(line.get_label()).startswith("_")}
    assert set(lines) == {"lr 5e-4", "lr 0.0015"}
    means = [sum(gains) / 10 for gains in (ZERO, ZERO, STEADY)]
    assert list(lines["lr 5e-4"].get_ydata()) == pytest.approx(means)  # type: ignore[arg-type]  # an array
    seeds = [line for line in ax.lines if len(line.get_xdata()) == 10]  # type: ignore[arg-type]  # an array
    assert len(seeds) == len(GRID)


def test_without_a_number_every_row_has_its_place() -> None:
    rows = [
        make_row(STEADY),
        make_row(ZERO, overrides=["trait=owl"]),
        make_row([], overrides=["trait=cat", "seeds=10"]),
    ]
    with style():
        (ax,) = draw_comparison(compare_rows(rows)).axes
    assert [label.get_text() for label in ax.get_xticklabels()] == ["trait cat", "trait owl", "trait wolf"]
    assert [(text.get_text(), text.xy[0]) for text in ax.texts] == [("not run", 0.0)]  # type: ignore[attr-defined]
    assert ax.get_xlim() == (-0.5, 2.5)


def test_the_files_are_named_after_what_is_compared(tmp_path: Path) -> None:
    paths = write_comparison(compare_rows(GRID[:2]), ["my/tiny pair.yaml", "0123ab"], tmp_path)
    assert [path.name for path in paths] == ["compare_tiny_pair_0123ab.svg", "compare_tiny_pair_0123ab.png"]
    assert all(path.stat().st_size > 1000 for path in paths)
