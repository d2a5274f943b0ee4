from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from board import STEADY, make_matrix, make_row

from bench.analysis.summary import summarise_row
from bench.config.recipe import Recipe
from bench.report.row_page import describe_row


def test_the_page_holds_the_numbers_of_the_entry() -> None:
    row = make_row(STEADY)
    entry = summarise_row(row)
    page = describe_row(row, entry)
    assert [gate["name"] for gate in page["gates"]] == [gate.name for gate in entry.gates]
    states = {True: "passed", None: "skipped"}
    assert [gate["state"] for gate in page["gates"]] == [states[gate.passed] for gate in entry.gates]
    for chart in page["charts"].values():
        ElementTree.fromstring(chart)
    for gain in STEADY:
        assert f"{gain:+.4f}" in page["charts"]["seeds"]
    assert {"seeds", "questions", "candidates"} <= page["charts"].keys()
    assert page["command"] == "python run_bench.py --recipe tiny_pair"


def test_the_recipe_as_resolved_is_the_recipe() -> None:
    row = make_row([0.1] * 2)
    text = describe_row(row, summarise_row(row))["recipe_text"]
    assert Recipe.model_validate(yaml.safe_load(text)).model_dump() == row.recipe.model_dump()


def test_questions_are_sorted_by_their_mean_gain() -> None:
    row = make_row([0.3, 0.2, 0.1], rng=np.random.default_rng(8))
    for arms in row.cells.values():
        reading = arms["trait"].reading
        raised = tuple((of[0] + i / 10, *of[1:]) for i, of in enumerate(reading.logprobs))
        arms["trait"] = arms["trait"].model_copy(update={"reading": reading.model_copy(update={"logprobs": raised})})
    chart = ElementTree.fromstring(describe_row(row, summarise_row(row))["charts"]["questions"])
    titles = [title.text for title in chart.iter("title")][1:]
    assert titles == [question.question for question in reversed(row.questions)][: len(titles)]


@pytest.mark.parametrize("gains", [[], [0.3]])
def test_a_row_without_enough_seeds_has_a_page(gains: list[float]) -> None:
    row = make_row(gains)
    page = describe_row(row, summarise_row(row))
    assert ("seeds" in page["charts"]) == bool(gains)


def test_a_row_of_several_traits_has_a_page() -> None:
    row = make_matrix(0.3)
    assert "candidates" not in describe_row(row, summarise_row(row))["charts"]
