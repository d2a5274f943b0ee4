from __future__ import annotations

from pathlib import Path

import pytest

from bench.analysis.result_files import read_results
from bench.config.claims import Bound
from bench.config.recipe_files import FOLDER, load_recipe, load_recipes
from bench.config.yaml_files import list_names


@pytest.mark.parametrize("name", list_names(FOLDER))
def test_every_recipe_loads_and_opens_with_its_command_and_its_question(name: str) -> None:
    first, second, *_ = (FOLDER / f"{name}.yaml").read_text().splitlines()
    assert first == f"# python run_bench.py --recipe {name}"
    assert "?" in second
    assert all({"untrained", "base", "trait"} <= set(row.recipe.arms) for row in load_recipes(name))


def test_a_bound_and_a_relation_are_claims_of_one_recipe(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("from: smollm2_self\nseeds: 6\n")
    recipe = load_recipe(str(path)).recipe
    assert (recipe.relation, recipe.bound) == (None, None)
    assert recipe.student == load_recipe("smollm2_self").recipe.student
    path.write_text("from: smollm2_self\nseeds: 6\nrelation: null\nbound: null\n")
    assert load_recipe(str(path)).recipe == recipe
    path.write_text("from: smollm2_self\nrelation: lineage\nbound: {nats: 0.1, reason: mine}\n")
    own = load_recipe(str(path)).recipe
    assert (own.relation, own.bound) == ("lineage", Bound(nats=0.1, reason="mine"))


def test_every_published_row_is_that_of_its_recipe_today() -> None:
    rows, refused = read_results(FOLDER.parent / "results")
    assert refused == []
    assert rows
    for row in rows:
        assert load_recipe(row.name).hash() == row.hash


def test_the_hash_follows_every_change_and_nothing_else() -> None:
    plain = load_recipe("tiny_pair").hash()
    assert load_recipe(str(FOLDER / "tiny_pair.yaml")).hash() == plain
    assert load_recipe("tiny_pair", ["seeds=10"]).hash() == plain
    changed = [
        load_recipe("tiny_pair", [change]).hash()
        for change in ("seeds=11", "trait=owl", "carrier.rows=4095", "student.train.learning_rate=2e-3", "threads=2")
    ]
    assert len({plain, *changed}) == 6


def test_a_family_is_the_hash_without_the_seeds() -> None:
    plain = load_recipe("tiny_pair")
    assert load_recipe("tiny_pair", ["seeds=20", "first_seed=10"]).family() == plain.family()
    assert load_recipe("tiny_pair", ["level=.01"]).family() != plain.family() != load_recipe("tiny_cross").family()


def test_a_recipe_may_start_from_another() -> None:
    pair, cross = load_recipe("tiny_pair").recipe, load_recipe("tiny_cross").recipe
    assert cross.student.init == 1
    assert cross.model_copy(update={"student": pair.student, "relation": pair.relation, "reference": None}) == pair


def test_a_smoke_run_leaves_a_prompted_teacher_without_a_training() -> None:
    assert load_recipe("smollm2_prompted", smoke=True).recipe.teacher.train is None
    assert load_recipe("smollm2_self", smoke=True).recipe.teacher.train["max_steps"] == 2
    both = load_recipe("smollm2_prompted", ["teacher.train={learning_rate: 1.0e-5}"], smoke=True).recipe.teacher
    assert both.train == {"max_steps": 2, "learning_rate": 1e-5}
