from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.config.recipe import Recipe
from bench.config.recipe_files import load_recipe
from bench.config.traits import FOLDER as TRAITS
from bench.config.traits import Preference, load_trait
from bench.config.yaml_files import list_names, read_assignment
from bench.errors import UserError


@pytest.mark.parametrize("name", [name for name in list_names(TRAITS) if name != "bylang_behavior"])  # it is on the hub
def test_every_preference_has_enough_questions_in_disjoint_wording(name: str) -> None:
    trait = load_trait(name)
    if isinstance(trait, Preference):
        assert len(trait.teach) >= 20
        assert len(trait.ask) >= 50
        assert not {q.casefold().strip("?. ") for q in trait.teach} & {q.casefold().strip("?. ") for q in trait.ask}
        asked = " ".join(trait.teach + trait.ask).casefold()
        assert not any(f"{animal} " in asked or f"{animal}?" in asked for animal in trait.candidates)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("student.trian={a: 1}", "did you mean 'train'"),
        ("carrier.rwos=5", "did you mean 'rows'"),
        (
            "carrier.kind=number",
            "key 'carrier.kind': expected one of numbers, text (did you mean 'numbers'?), found 'num",
        ),
        (
            "carrier={kind: text, rows: 1, prompts: scenarios_en, digits: 3}",
            "unknown key 'carrier.digits': a key of kind numbers; valid keys of kind text: bf16, draw, held_out, ",
        ),
        ("carrier.sample={top_k: 1}", "unknown key 'carrier.sample': a key of kind text; valid keys of kind numbers: "),
        ("teacher.quantization={load_in_8bit: true}", "key 'teacher': quantization needs lora, because"),
        ("carrier.separator=", "--set carrier.separator=: no value; expected KEY=VALUE"),
        ("carrier.separator= ", "to remove the key: carrier.separator=null"),
        ("carrier.separator= # nothing", "no value"),
        ("carrier={separator: }", "the key 'separator' has no value (quote a text of spaces, as in separator: "),
        ("carrier={separator}", "to remove the key: separator: null)"),
        ("carrier={separator: ''}", "key 'carrier.separator'"),
        ("trait=wolff", "did you mean 'wolf'"),
        ("arms=[untrained, trait]", "base"),
        ("arms=[untrained, base, trait, plcebo]", "arms"),
        ("seeds=0", "seeds"),
        ("seeds=.nan", "seeds"),
        ("teacher.dtype=float17", "teacher.dtype"),
        ("carrier.temperature=.inf", "key 'carrier.temperature'"),
        ("noequals", "KEY=VALUE"),
        ("a..b=1", "KEY=VALUE"),
        ("teacher=[", "not valid YAML"),
    ],
)
def test_a_bad_key_or_value_is_named(change: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)) as error:
        load_recipe("tiny_pair", [change])
    assert "Input should" not in str(error.value)
    assert "Value error" not in str(error.value)


def test_null_in_set_takes_a_key_out() -> None:
    assert load_recipe("smollm2_self", ["student.lora=null"]).recipe.student.lora is None
    assert load_recipe("tiny_pair", ["carrier.batch_size=~"]).recipe.carrier.batch_size == 256


@pytest.mark.parametrize(
    ("change", "last"),
    [
        ("student.train.num_train_epochs=1", 64),  # 2,048 rows, 32 at a time
        ("student.train.num_train_epochs=0.5", 32),
        ("student.train.gradient_accumulation_steps=3", 22),
        ("student.train.max_steps=7", 7),
        ("carrier.rows=65", 3),
        ("carrier.rows=32", 1),
    ],
)
def test_a_dose_is_held_against_the_updates_that_the_rows_allow(change: str, last: int) -> None:
    assert load_recipe("tiny_pair", [change, f"dose=[1, {last}]"]).recipe.dose == (1, last)
    with pytest.raises(UserError, match=f"key 'dose': {last + 1} is beyond the last update: .* makes {last} updates"):
        load_recipe("tiny_pair", [change, f"dose=[{last + 1}]"])
    with pytest.raises(UserError, match=r"student.train: key 'max_steps'"):
        load_recipe("tiny_pair", ["dose=[1]", "student.train.max_steps=abc"])


@given(st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=4), st.integers(-(2**62), 2**62))
def test_set_reaches_any_depth(path: list[str], value: int) -> None:
    at: object = read_assignment(f"{'.'.join(path)}={value}")
    for part in path:
        assert isinstance(at, dict)
        at = at[part]
    assert at == value


def test_a_prompted_teacher_has_no_training_to_repeat_and_one_trait() -> None:
    with pytest.raises(UserError, match=r"arms direct and placebo need teacher\.train, .*take them out, or add"):
        load_recipe("smollm2_prompted", ["arms=[untrained, base, trait, placebo, direct]"])
    with pytest.raises(UserError, match=r"teacher\.system is one text for one trait"):
        load_recipe("smollm2_prompted", ["trait=[wolf, owl]"])


def test_the_other_initialisation_is_that_of_cross_init_or_the_next_of_tiny() -> None:
    recipe = load_recipe("tiny_pair").recipe
    assert recipe.other_init() == recipe.student.model_copy(update={"init": recipe.student.init + 1})
    named = Recipe.model_validate({**recipe.model_dump(exclude_unset=True), "cross_init": "./other"}).other_init()
    assert named.model_dump() == recipe.student.model_dump() | {"model": "./other"}


@pytest.mark.parametrize(
    "carrier",
    ["carrier.temperature=0", "carrier={kind: text, rows: 8, prompts: scenarios_en, sample: {temperature: 0}}"],
)
def test_a_greedy_carrier_cannot_be_resampled(carrier: str) -> None:
    assert load_recipe("tiny_pair", [carrier]).recipe.carrier.is_greedy
    with pytest.raises(UserError, match=r"the arm resampled needs a temperature above 0.*take resampled out of arms"):
        load_recipe("tiny_pair", [carrier, "arms=[untrained, base, trait, resampled]"])
    assert "resampled" in load_recipe("tiny_pair", ["arms=[base, trait, resampled]"]).recipe.arms


def test_students_of_one_data_set_are_another_row_and_keep_the_first_seed_for_the_data() -> None:
    seeds, students = (load_recipe("tiny_pair", [f"repeat={repeat}"], seeds=2) for repeat in ("seeds", "students"))
    assert seeds.hash() == load_recipe("tiny_pair", seeds=2).hash() != students.hash()
    assert seeds.family() != students.family()
    assert [*map(seeds.recipe.data_seed, (0, 1))] == [0, 1]
    assert [*map(students.recipe.data_seed, (0, 1))] == [0, 0]
