from __future__ import annotations

from board import STEADY, make_row
from entries import make_entry

from bench.analysis.seed_statistics import compute_seed_statistics
from bench.analysis.summary import summarise
from bench.figures.forest import VERDICTS, draw_gains
from bench.figures.style import style


def test_verdicts_differ_without_colour() -> None:
    assert len({marker for _, marker, _ in VERDICTS.values()}) == len(VERDICTS)


def test_every_seed_is_a_point_of_its_line() -> None:
    row = make_row(STEADY)
    with style():
        fig = draw_gains(summarise([row]), {row.hash: compute_seed_statistics(row)})
    gain, _ = fig.axes
    (points,) = [line for line in gain.lines if line.get_marker() == "."]
    assert sorted(points.get_xdata()) == sorted(compute_seed_statistics(row).gains)  # type: ignore[arg-type]
    assert gain.get_xlim()[0] < min(STEADY) < max(STEADY) < gain.get_xlim()[1]


def test_rows_that_are_one_test_are_named() -> None:
    rows = [
        make_entry(recipe=name, recipe_hash=name * 12, gain=0.1, ci_low=0.0, ci_high=0.2, measurement=measurement)
        for name, measurement in (("a", "x"), ("b", "x"), ("c", "y"))
    ]
    with style():
        (legend,) = draw_gains(rows).legends
    assert legend.get_title().get_text() == "The same seeds and margins, so one test: a, b."
