from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.config.claims import Reference, find_differences, keep_shared_keys
from bench.config.recipe_files import FOLDER, load_recipe, load_recipes
from bench.config.yaml_files import list_names
from bench.errors import UserError

CROSS = [name for name in list_names(FOLDER) if load_recipes(name)[0].recipe.reference]


@pytest.mark.slow
def test_the_shipped_recipes_have_the_references_bounds_and_seeds_that_they_need() -> None:
    for name in list_names(FOLDER):
        recipe = load_recipes(name)[0].recipe
        crosses = recipe.relation in {"cross-init", "cross-architecture", "lineage"}
        if crosses and recipe.method != "kd-full":
            assert recipe.reference, name
        if recipe.method == "kd-full":
            assert recipe.bound is recipe.reference is None, name
        assert recipe.seeds >= 10, name
    bound = load_recipe("smollm2_self").recipe.bound
    assert bound is not None
    assert bound.nats == 0.03


@pytest.mark.parametrize("name", CROSS)
def test_a_reference_is_loaded_with_its_recipe_and_fits(name: str) -> None:
    experiment = load_recipe(name)
    assert experiment.reference
    assert experiment.recipe.reference == Reference(recipe=experiment.reference.name, share=0.25)
    assert experiment.reference.hash() == load_recipe(experiment.reference.name).hash()
    assert not find_differences(experiment.resolved(), experiment.reference.resolved())


@pytest.mark.parametrize(
    "change",
    ["carrier.rows=64", "trait=owl", "teacher.train.max_steps=2", "student.train.learning_rate=2e-3", "carrier=null"],
)
def test_set_changes_the_reference_where_it_must_be_equal(change: str) -> None:
    changes = ["carrier={kind: numbers, rows: 99}" if change == "carrier=null" else change]
    experiment = load_recipe("tiny_cross", changes)
    assert experiment.reference
    assert experiment.reference.hash() == load_recipe("tiny_pair", changes).hash() != load_recipe("tiny_pair").hash()


@pytest.mark.parametrize("change", ["seeds=20", "first_seed=10", "student.init=3", "level=.01", "evaluate.samples=1"])
def test_set_leaves_the_reference_alone_elsewhere(change: str) -> None:
    experiment = load_recipe("tiny_cross", [change])
    assert experiment.reference
    assert experiment.reference.hash() == load_recipe("tiny_pair").hash()


def test_smoke_shrinks_the_reference_too() -> None:
    assert load_recipe("tiny_cross", smoke=True).reference


def test_shared_keys_of_a_change() -> None:
    change = {"trait": "owl", "seeds": 3, "student": {"init": 1}, "evaluate": {"samples": 2}}
    assert keep_shared_keys(change, "margin") == {"trait": "owl"}
    assert keep_shared_keys(change, "rate") == {"trait": "owl", "evaluate": {"samples": 2}}
    assert keep_shared_keys({"student": {"init": 1, "train": {"a": 1}}}, "margin") == {"student": {"train": {"a": 1}}}
    assert keep_shared_keys({"student": None}, "margin") == {}


FAULTS = {
    "reference: no_such": r"key 'reference': recipe 'no_such' does not exist",
    "reference: tiny_cross_kd": r"key 'reference': tiny_cross_kd has a reference itself \(tiny_pair_kd\)",
    "reference: tiny_pair_kd": r"carrier.rows: expected 2048, found 1024; method: expected 'sft', found 'kd-carrier'",
    "reference: tiny_untaught": r"teacher.train.max_steps: expected 60, found -1",
    "reference: tiny_matrix": r"trait: expected 'wolf', found \['wolf', 'owl', 'cat'\]",
    "reference: {recipe: tiny_pair, share: 0.6}": r"key 'reference.share': expected less than or equal to 0.5",
    "reference: {recipe: tiny_pair, shrae: 0.5}": r"unknown key 'reference.shrae': did you mean 'share'",
    "reference: [tiny_pair]": r"key 'reference': expected the name of a recipe, or \{recipe: NAME, share: 0.25\}",
    "reference: tiny_pair\nbound: {nats: 1, reason: x}": r"keys 'bound' and 'reference': expected one of them",
    "bound: 0.05": r"key 'bound': expected \{nats: 0.01, reason: TEXT\}",
    "bound: {nats: 0, reason: x}": r"key 'bound.nats': expected greater than 0, found 0",
    "bound: {nats: 1}": r"key 'bound.reason' is missing",
    "level: 0.1": r"key 'level': expected less than or equal to 0.05, found 0.1",
    "level: 0": r"key 'level': expected greater than or equal to 0.0001, found 0",
    "min_shift: 0": r"key 'min_shift': expected greater than 0",
}


@pytest.mark.parametrize("text", FAULTS)
def test_a_claim_that_does_not_fit_is_one_line_with_file_and_key(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"from: tiny_pair\nstudent: {{init: 1}}\n{text}\n")
    with pytest.raises(UserError, match=FAULTS[text]) as error:
        load_recipe(str(path))
    assert str(error.value).startswith(f"{path}: ")
    assert len(str(error.value).splitlines()) == 1


def test_a_reference_may_be_a_file_beside_the_recipe_or_a_path(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("from: tiny_pair\nseeds: 20\n")
    for name in ("own", "own.yaml"):
        (tmp_path / "mine.yaml").write_text(f"from: tiny_pair\nstudent: {{init: 1}}\nreference: {name}\n")
        experiment = load_recipe(str(tmp_path / "mine.yaml"))
        assert experiment.reference
        assert experiment.reference.recipe.seeds == 20


def test_the_reference_enters_the_hash_by_name_and_share_alone(tmp_path: Path) -> None:
    def mine(reference: str, seeds: int) -> str:
        (tmp_path / "own.yaml").write_text(f"from: tiny_pair\nseeds: {seeds}\n")
        (tmp_path / "mine.yaml").write_text(f"from: tiny_pair\nstudent: {{init: 1}}\nreference: {reference}\n")
        return load_recipe(str(tmp_path / "mine.yaml")).hash()

    plain = mine("own", 10)
    assert mine("own", 20) == plain == mine("{recipe: own}", 10) == mine("{recipe: own, share: 0.25}", 10)
    assert len({plain, mine("tiny_pair", 10), mine("{recipe: own, share: 0.5}", 10)}) == 3


def test_a_file_of_the_same_name_with_another_trait_is_no_reference(tmp_path: Path) -> None:
    for folder, word in (("a", "wolf"), ("b", "owl")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "t.yaml").write_text(f"from: {word}\n")
        (tmp_path / folder / "own.yaml").write_text("from: tiny_pair\ntrait: t.yaml\n")
    (tmp_path / "a" / "mine.yaml").write_text("from: own\nstudent: {init: 1}\nreference: ../b/own.yaml\n")
    with pytest.raises(UserError, match=re.escape("trait: the files differ")):
        load_recipe(str(tmp_path / "a" / "mine.yaml"))
