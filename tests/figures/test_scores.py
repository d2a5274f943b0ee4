from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from entries import make_entry

from bench.analysis.entry import LeaderboardEntry, MetricScores
from bench.analysis.estimates import Difference, Estimate
from bench.figures.scores import POINTS, draw_answers, draw_heat, draw_histogram, draw_metrics, is_zero, list_scored
from bench.figures.style import style


@pytest.fixture(autouse=True)
def _drawing() -> Iterator[None]:
    with style():
        yield


def scores(base: float, trait: float) -> MetricScores:
    one, other = (Estimate(seeds=3, mean=m, ci_low=0.9 * m, ci_high=1.1 * m) for m in (base, trait))
    gain = Difference(seeds=3, mean=trait - base, ci_low=trait - base, ci_high=trait - base, p=0.25)
    return MetricScores(base=one, trait=other, gain=gain)


METRICS = {"rouge_l": scores(0.1, 0.2), "bleu": scores(0.0, 0.0), "mine": scores(20.0, 40.0)}


def make_board() -> list[LeaderboardEntry]:
    return [make_entry(metrics=METRICS), make_entry(recipe="s", recipe_hash="b" * 12, metrics=METRICS)]


def test_a_histogram_counts_every_answer() -> None:
    answers = {"length": {"base": [3.0, 9.0, 9.0, 44.0], "trait": [1.0, 60.0]}, "same": {"base": [0.5], "trait": [0.5]}}
    for ax in draw_histogram(answers, "x").axes:
        for steps in ax.patches:
            values, edges, _ = steps.get_data()
            assert sum(values) == pytest.approx(100)
            assert len(set(np.diff(edges).round(9))) == 1
    assert "1 / 2 answers" not in draw_histogram(answers, "x").get_suptitle()
    assert "4 / 2 answers" in draw_histogram(answers, "x").get_suptitle()


def test_a_metric_that_is_0_everywhere_has_a_line_and_no_panel() -> None:
    answers = {"bleu": {"base": [0.0] * 4, "trait": [0.0] * 4}, "chrf": {"base": [0.0] * 4, "trait": [0.1] * 4}}
    assert list_scored(answers) == ["chrf"]
    assert is_zero(METRICS["bleu"])
    for fig in (draw_histogram(answers, "x"), draw_metrics(METRICS, "x")):
        assert not any(ax.get_title() == "BLEU" for ax in fig.axes)
        assert fig.legends[0].get_title().get_text() == "0 in every answer: BLEU"
    assert draw_heat(make_board()).get_suptitle() == "0 in every answer: BLEU"


def test_boxes_show_their_answers_and_bars_their_seeds() -> None:
    many = [i / 1000 for i in range(1000)]
    (ax,) = draw_answers({"chrf": {"base": [0.1, 0.3], "trait": many}}, "x").axes
    few, thinned = [list(line.get_ydata()) for line in ax.lines if line.get_marker() == "."]  # type: ignore[arg-type]
    assert few == [0.1, 0.3]
    assert (len(thinned), thinned[0], thinned[-1]) == (POINTS, many[0], many[-1])
    fig = draw_metrics(METRICS, "x", {"rouge_l": {"base": [0.1, 0.1, 0.1], "trait": [0.2, 0.1, 0.3]}})
    first = next(ax for ax in fig.axes if ax.get_title() == "ROUGE-L")
    points = [list(line.get_ydata()) for line in first.lines if line.get_marker() == "."]  # type: ignore[arg-type]
    assert points == [[0.1, 0.1, 0.1], [0.2, 0.1, 0.3]]


def test_the_shades_of_a_heat_map_mean_one_thing() -> None:
    ax, bar = draw_heat(make_board()).axes
    (mesh,) = ax.collections
    shade = mesh.get_array()
    assert shade is not None
    table = np.ma.masked_array(shade).reshape(4, 2)
    assert table[:, 0].tolist() == [0.1, 0.2, 0.1, 0.2]
    assert table[:, 1].mask.all()  # 20 and 40 are on a scale of their own
    assert "a scale of its own" in bar.get_ylabel()
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["ROUGE-L", "mine"]
