from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from board import STEADY, make_row, with_manifest

from bench.analysis.entry import LeaderboardEntry
from bench.analysis.estimates import Difference, Ratio
from bench.analysis.mitigation_effects import MitigationEffect
from bench.analysis.result_schema import ExperimentResults
from bench.analysis.seed_statistics import compute_seed_statistics
from bench.analysis.summary import summarise_row
from bench.pipeline.store import Store
from bench.report.row_charts import draw_row, draw_training
from bench.stages.training_curve import write_curve


def draw(row: ExperimentResults, entry: LeaderboardEntry | None = None) -> dict[str, str]:
    return draw_row(row, entry or summarise_row(row), compute_seed_statistics(row))


def test_every_seed_has_a_line_with_one_digit_more_than_the_mean() -> None:
    chart = draw(make_row(STEADY))["seeds"]
    for gain in STEADY:
        assert f"{gain:+.3f}" in chart
    assert "+0.301 [+0.288, +0.314]" in chart


def test_questions_are_sorted_by_their_mean_gain() -> None:
    row = make_row([0.3, 0.2, 0.1], rng=np.random.default_rng(8))
    for arms in row.cells.values():
        reading = arms["trait"].reading
        raised = tuple((of[0] + i / 10, *of[1:]) for i, of in enumerate(reading.logprobs))
        arms["trait"] = arms["trait"].model_copy(update={"reading": reading.model_copy(update={"logprobs": raised})})
    chart = ElementTree.fromstring(draw(row)["questions"])
    titles = [title.text for title in chart.iter("title")][1:]
    assert titles == [question.question for question in reversed(row.questions)][: len(titles)]


def test_mitigations_stand_below_the_gain_without_one_with_their_seeds() -> None:
    row = make_row(STEADY)
    statistics = compute_seed_statistics(row)._replace(mitigations={"kl_untrained": [gain / 2 for gain in STEADY]})
    ratio = Ratio(seeds=10, mean=0.5, ci_low=0.5, ci_high=0.5)
    effect = MitigationEffect(
        effect=Difference(seeds=10, mean=0.15, ci_low=0.14, ci_high=0.16, p=0.002), share=ratio, data=ratio
    )
    entry = summarise_row(row).model_copy(update={"mitigations": {"kl_untrained": effect}})
    chart = ElementTree.fromstring(draw_row(row, entry, statistics)["mitigations"])
    assert [title.text for title in chart.iter("title")][1:] == ["no mitigation", "kl untrained"]
    dots = [dot.attrib["class"] for dot in chart.iter("circle")]
    assert (dots.count("seed mean"), dots.count("seed other")) == (10, 10)


def test_curves_of_both_students_are_drawn_where_the_store_has_them(tmp_path: Path) -> None:
    row, store = make_row([0.1] * 2), Store(tmp_path)
    for arm, losses in (("base", [3.0, 2.0, 1.0]), ("trait", [3.0, 2.5, 2.0])):
        row.cells[1][arm] = with_manifest(row.cells[1][arm], artefacts={"asked": "e", "trained": f"student-{arm}"})
        history = [{"loss": loss, "learning_rate": 1e-3, "grad_norm": None} for loss in losses]
        store.path(f"student-{arm}").mkdir(parents=True)
        write_curve(history, store.path(f"student-{arm}"))
    charts = draw_training(row, store)
    assert [line.attrib["class"] for line in ElementTree.fromstring(charts["loss"]).iter("polyline")] == [
        "curve base",
        "curve trait",
    ]
    assert "learning_rate" in charts
    assert "grad_norm" not in charts
