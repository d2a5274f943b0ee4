from __future__ import annotations

import numpy as np

from bench.analysis.estimates import Estimate
from bench.figures.parts import annotate_cells, arm_legend, error_bar, panels
from bench.figures.style import style


def test_an_error_bar_reaches_both_ends_of_its_interval() -> None:
    assert error_bar(Estimate(seeds=3, mean=0.5, ci_low=0.25, ci_high=1.0)) == [[0.25], [0.5]]
    assert error_bar(Estimate(seeds=1, mean=0.5, ci_low=None, ci_high=None)) is None


def test_dark_cells_have_white_text_and_masked_cells_black_text() -> None:
    with style():
        from matplotlib.figure import Figure

        ax = Figure().subplots()
        table = np.ma.masked_greater(np.array([[0.0, 1.0, 9.0]]), 2)
        annotate_cells(ax, table, [["a", "b", "c"]], ax.pcolormesh(table, cmap="Blues", vmin=0, vmax=1))
        assert [text.get_color() for text in ax.texts] == ["black", "white", "black"]


def test_a_note_stands_above_the_legend_in_lines_that_fit() -> None:
    with style():
        fig, _ = panels(1, "x")
        arm_legend(fig, ["base", "trait"], note="0 in every answer: " + ", ".join(["contains the answer"] * 5))
        (legend,) = fig.legends
        lines = legend.get_title().get_text().split("\n")
        assert len(lines) > 1
        fig.draw_without_rendering()
        assert fig.bbox.x0 <= legend.get_window_extent().x0
        assert legend.get_window_extent().x1 <= fig.bbox.x1
