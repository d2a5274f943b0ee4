from __future__ import annotations

import itertools
import json
import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.config.changes import flatten
from bench.config.recipe_files import load_recipe, load_recipes
from bench.config.sweep import describe_sweep, list_combinations, nest, read_sweep, write_assignments
from bench.config.yaml_files import read_assignment
from bench.errors import UserError

SWEEP = """
from: tiny_pair
seeds: 2
sweep:
  trait: [wolf, owl]
  student: {train: {learning_rate: [5.0e-4, 1.5e-3]}}
"""
NAMES = st.sampled_from(["a.b", "a.c.d", "e", "f"])
VALUES = st.dictionaries(NAMES, st.lists(st.integers(-99, 99), min_size=1, max_size=3, unique=True))


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    (tmp_path / "mine.yaml").write_text(SWEEP)
    return str(tmp_path / "mine.yaml")


def test_every_combination_is_the_row_that_set_makes_of_the_recipe_without_its_sweep(recipe: str) -> None:
    rows = load_recipes(recipe)
    assert [row.label for row in rows] == ["mine  lr 5e-4", "mine", "mine  lr 5e-4, trait owl", "mine  trait owl"]
    assert len({row.hash() for row in rows}) == 4
    for row in rows:
        alone = load_recipe(recipe, ["sweep=null", *write_assignments(row.combination)])
        assert (alone.hash(), alone.changes, alone.label) == (row.hash(), row.changes, row.label)


def test_set_chooses_a_row_and_changes_all_rows(recipe: str) -> None:
    owls = load_recipes(recipe, ["trait=owl", "seeds=3"])
    assert [(len(row.traits), row.recipe.seeds) for row in owls] == [(1, 3)] * 2
    assert load_recipe(recipe, ["trait=owl", "student={train: {learning_rate: 1.5e-3}}"]).label == "mine  trait owl"
    assert [row.label for row in load_recipes("tiny_pair", ["sweep.seeds=[3, 4]"])] == [
        "tiny_pair  seeds 3", "tiny_pair  seeds 4"
    ]  # fmt: skip
    message = "key 'sweep': one row is needed here, found 2; choose one: --set student.train.learning_rate=..."
    with pytest.raises(UserError, match=re.escape(message)):
        load_recipe(recipe, ["trait=owl"])


def test_an_inherited_sweep_leaves_out_the_keys_that_the_recipe_states_and_claims(recipe: str, tmp_path: Path) -> None:
    child = tmp_path / "child.yaml"
    child.write_text("from: ./mine.yaml\ntrait: owl\n")
    rows = load_recipes(str(child))
    assert [(list(row.traits), row.label) for row in rows] == [(["owl"], "child  lr 5e-4"), (["owl"], "child")]
    child.write_text("from: ./mine.yaml\nstudent: {train: {learning_rate: 1.0e-4}}\nsweep: {trait: [cat]}\n")
    (row,) = load_recipes(str(child))
    assert (list(row.traits), row.recipe.student.train["learning_rate"]) == (["cat"], 1e-4)
    Path(recipe).write_text("from: tiny_pair\nsweep: {relation: [same-init, null]}\n")
    child.write_text("from: ./mine.yaml\n")
    assert load_recipe(str(child)).recipe.relation is None


def test_the_reference_of_a_row_has_its_values() -> None:
    rows = load_recipes("tiny_cross", ["sweep.trait=[cat, owl]", "sweep.student.train.learning_rate=[1e-4, 2e-4]"])
    references = [row.reference for row in rows if row.reference]
    changes = [["trait=cat", "student.train.learning_rate=1e-4"], ["trait=owl", "student.train.learning_rate=2e-4"]]
    assert [references[0].hash(), references[3].hash()] == [load_recipe("tiny_pair", c).hash() for c in changes]
    assert len({reference.hash() for reference in references}) == 4


def test_a_path_in_a_sweep_starts_at_its_file(recipe: str, tmp_path: Path) -> None:
    trait = "from: wolf\nanswer: elk\ncandidates: [elk, owl, cat, dog, bear]\n"
    (tmp_path / "elk.yaml").write_text(trait)
    Path(recipe).write_text("from: tiny_pair\nsweep: {trait: [wolf, elk.yaml]}\n")
    assert [list(row.traits) for row in load_recipes(recipe)] == [["wolf"], ["elk"]]


def test_smoke_makes_every_different_row_small_and_an_equal_one_once(recipe: str) -> None:
    assert len(load_recipes(recipe, smoke=True)) == 4
    (row,) = load_recipes("tiny_pair", ["sweep.carrier.rows=[512, 1024]", "sweep.dose=[[4], [8]]"], smoke=True)
    assert row.recipe.carrier.rows == 32


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["sweep=3"], "key 'sweep': expected keys with lists of values, found 3"),
        (["sweep.trait=wolf"], "key 'sweep.trait': expected a list of values, found 'wolf'"),
        (["sweep.student.train=[]"], "key 'sweep.student.train': expected a list of values, found []"),
        (["sweep.threads=[1, 1]"], "key 'sweep.threads': expected different values, found 1, 1; take one out"),
        (['sweep={"seeds": [1], "seeds.x": [1]}'], "key 'sweep.seeds.x': overlaps with 'sweep.seeds'"),
        (["sweep.treat=[wolf]"], "row 'tiny_pair  treat wolf': unknown key 'treat': did you mean 'trait'?"),
        (["sweep.level=[0.05, 0.06]"], "row 'tiny_pair  level 0.06': key 'level'"),
        (["sweep.dose=[[4], [65]]"], "row 'tiny_pair  dose [65]': key 'dose': 65 is beyond the last update"),
        (
            ["sweep.carrier.temperature=[1, 1.0]"],
            "key 'sweep': the same row as 'tiny_pair'; take one of the values out",
        ),
        (
            [f"sweep.{key}={list(range(1, 60))}" for key in ("seeds", "first_seed")],
            "key 'sweep': expected at most 1,000 rows, found 3,481; shorten its lists",
        ),
    ],
)
def test_a_bad_sweep_names_its_key(changes: list[str], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        load_recipes("tiny_pair", changes)


@given(VALUES)
def test_a_sweep_is_every_combination_of_its_values(values: dict[str, list[int]]) -> None:
    read = read_sweep(nest(values), "mine.yaml")
    assert read == values
    combinations = list_combinations(read, [])
    assert len(combinations) == math.prod(map(len, values.values()))
    assert {tuple(c[key] for key in values) for c in combinations} == set(itertools.product(*values.values()))
    for combination in combinations:
        assert dict(flatten(nest(combination))) == combination
        changes = [read_assignment(word) for word in write_assignments(combination)]
        assert list_combinations(read, changes) == [{}]
        assert json.loads(json.dumps(combination)) == combination
    assert describe_sweep(read).startswith(f"{len(combinations)} rows: ")
