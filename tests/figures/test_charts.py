from __future__ import annotations

from entries import make_entry

from bench.analysis.entry import TraitMatrix
from bench.analysis.estimates import Difference, Estimate
from bench.figures.charts import draw_dose, draw_matrix
from bench.figures.style import style

GAIN = Estimate(seeds=3, mean=0.2, ci_low=0.1, ci_high=0.3)


def test_every_dose_has_the_points_of_its_seeds() -> None:
    seeds = {16: [0.1, 0.2, 0.3], 64: [0.2, 0.3, 0.4]}
    with style():
        (ax,) = draw_dose({16: GAIN, 64: GAIN}, "x", "nats", seeds).axes
    points = [list(line.get_ydata()) for line in ax.lines if line.get_marker() == "."]  # type: ignore[arg-type]
    assert points == list(seeds.values())


def test_the_cells_of_a_matrix_have_the_digits_of_its_excess() -> None:
    excess = Difference(seeds=6, mean=0.38, ci_low=0.30, ci_high=0.46, p=0.03)
    matrix = TraitMatrix(traits=("wolf", "İspinoz"), gains=((0.4432, 0.0031), (-0.0559, 0.0)), excess=excess)
    assert make_entry(matrix=matrix).matrix == matrix
    with style():
        ax = draw_matrix(matrix, "x").axes[0]
    assert [text.get_text() for text in ax.texts] == ["+0.443", "+0.003", "\N{MINUS SIGN}0.056", "0"]
