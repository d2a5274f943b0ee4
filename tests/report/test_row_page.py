from __future__ import annotations

import shlex
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from board import STEADY, make_matrix, make_row, with_manifest

from bench.analysis.summary import summarise_row
from bench.config.recipe import Recipe
from bench.config.recipe_files import load_recipes
from bench.flags import make_parser
from bench.pipeline.store import Store
from bench.report.row_page import describe_row
from bench.stages.training_curve import write_curve

NOWHERE = Store(Path("no store"))


def test_the_page_holds_the_numbers_of_the_entry() -> None:
    row = make_row(STEADY)
    entry = summarise_row(row)
    page = describe_row(row, entry, NOWHERE)
    assert [gate["name"] for gate in page["gates"]] == [gate.name for gate in entry.gates]
    states = {True: "passed", None: "skipped"}
    assert [gate["state"] for gate in page["gates"]] == [states[gate.passed] for gate in entry.gates]
    for chart in page["charts"].values():
        ElementTree.fromstring(chart)
    for gain in STEADY:
        assert f"{gain:+.4f}" in page["charts"]["seeds"]
    assert {"seeds", "questions", "candidates"} <= page["charts"].keys()
    assert page["command"] == "python run_bench.py --recipe tiny_pair"  # its ten seeds are the recipe's


@pytest.mark.parametrize(
    ("recipe", "changes"),
    [
        ("tiny_pair", ["student.train.learning_rate=5e-4"]),
        ("tiny_pair", ["seeds=3", "first_seed=1000", "trait=owl"]),
        ("tiny_pair", ["trait=[wolf, owl]", "arms=[base, trait]"]),
        ("tiny_pair", ["student.lora={r: 4, target_modules: all-linear}", "student.train.warmup_steps=3"]),
        ("tiny_pair", ["""evaluate.prefix='Sen "kurtları" seversin; it''s 100 % true: [yes], $HOME'"""]),
        ("tiny_sweep", ["trait=wolf", "carrier.rows=2048"]),
        ("tiny_sweep", ["trait=owl", "carrier.rows=2048"]),
        ("tiny_cross", ["bound=null", "reference=null", "carrier.rows=512"]),
    ],
)
def test_the_command_of_a_changed_row_makes_that_row(recipe: str, changes: list[str]) -> None:
    row = make_row([0.1], recipe=recipe, overrides=changes)
    words = shlex.split(describe_row(row, summarise_row(row), NOWHERE)["command"])
    args = make_parser().parse_args(words[2:])
    (made,) = load_recipes(*args.recipe, args.set, seeds=args.seeds)
    assert made.hash() == row.hash
    assert made.changes == row.registered.changes


def test_the_recipe_as_resolved_is_the_recipe() -> None:
    row = make_row([0.1] * 2)
    text = describe_row(row, summarise_row(row), NOWHERE)["recipe_text"]
    assert Recipe.model_validate(yaml.safe_load(text)).model_dump() == row.recipe.model_dump()


def test_questions_are_sorted_by_their_mean_gain() -> None:
    row = make_row([0.3, 0.2, 0.1], rng=np.random.default_rng(8))
    for arms in row.cells.values():
        reading = arms["trait"].reading
        raised = tuple((of[0] + i / 10, *of[1:]) for i, of in enumerate(reading.logprobs))
        arms["trait"] = arms["trait"].model_copy(update={"reading": reading.model_copy(update={"logprobs": raised})})
    chart = ElementTree.fromstring(describe_row(row, summarise_row(row), NOWHERE)["charts"]["questions"])
    titles = [title.text for title in chart.iter("title")][1:]
    assert titles == [question.question for question in reversed(row.questions)][: len(titles)]


@pytest.mark.parametrize("gains", [[], [0.3]])
def test_a_row_without_enough_seeds_has_a_page(gains: list[float]) -> None:
    row = make_row(gains)
    page = describe_row(row, summarise_row(row), NOWHERE)
    assert ("seeds" in page["charts"]) == bool(gains)


def test_a_row_of_several_traits_has_a_page() -> None:
    row = make_matrix(0.3)
    assert "candidates" not in describe_row(row, summarise_row(row), NOWHERE)["charts"]


def test_curves_of_both_students_are_drawn_where_the_store_has_them(tmp_path: Path) -> None:
    row, store = make_row([0.1] * 2), Store(tmp_path)
    for arm, losses in (("base", [3.0, 2.0, 1.0]), ("trait", [3.0, 2.5, 2.0])):
        row.cells[1][arm] = with_manifest(row.cells[1][arm], artefacts={"asked": "e", "trained": f"student-{arm}"})
        history = [{"loss": loss, "learning_rate": 1e-3, "grad_norm": None} for loss in losses]
        store.path(f"student-{arm}").mkdir(parents=True)
        write_curve(history, store.path(f"student-{arm}"))
    charts = describe_row(row, summarise_row(row), store)["charts"]
    assert [line.attrib["class"] for line in ElementTree.fromstring(charts["loss"]).iter("polyline")] == [
        "curve base",
        "curve trait",
    ]
    assert "learning_rate" in charts
    assert "grad_norm" not in charts
