from __future__ import annotations

import shlex
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from board import STEADY, make_matrix, make_row

from bench.analysis.entry import LeaderboardEntry
from bench.analysis.summary import summarise_row
from bench.config.recipe import Recipe
from bench.config.recipe_files import load_recipes
from bench.flags import make_parser
from bench.pipeline.store import Store
from bench.report.row_page import describe_row

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
    assert page["cells"]["gain [95 % CI]"].endswith("] nats")
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


@pytest.mark.parametrize("gains", [[], [0.3]])
def test_a_row_without_enough_seeds_has_a_page(gains: list[float]) -> None:
    row = make_row(gains)
    page = describe_row(row, summarise_row(row), NOWHERE)
    assert ("seeds" in page["charts"]) == bool(gains)


def test_a_row_of_several_traits_shows_its_matrix() -> None:
    row = make_matrix(0.3)
    entry = summarise_row(row)
    page = describe_row(row, entry, NOWHERE)
    assert "candidates" not in page["charts"]
    assert entry.matrix is not None
    assert page["matrix"]["heads"] == ["trait taught", *(f"asked: {trait}" for trait in entry.matrix.traits)]
    assert [float(line[trait]) for line, trait in zip(page["matrix"]["lines"], entry.matrix.traits, strict=True)] == (
        pytest.approx([entry.matrix.gains[i][i] for i in range(len(entry.matrix.traits))], abs=0.005)
    )


def test_metrics_have_the_names_that_people_write() -> None:
    row = make_row(STEADY)
    one = {"seeds": 3, "mean": 0.5, "ci_low": 0.4, "ci_high": 0.6}
    scores = {"rouge_l": {"base": one, "trait": one, "gain": {**one, "p": 0.25}}}
    entry = LeaderboardEntry.model_validate({**summarise_row(row).model_dump(), "metrics": scores})
    assert describe_row(row, entry, NOWHERE)["metrics"] == [
        {
            "metric": "ROUGE-L",
            "untrained": "-",
            "base": "0.50 [0.40, 0.60]",
            "trait": "0.50 [0.40, 0.60]",
            "gain": "+0.50 [+0.40, +0.60]",
            "p": "0.25",
        }
    ]
