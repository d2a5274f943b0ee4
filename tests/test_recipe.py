from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Bench
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import UserError
from bench.recipe import FOLDER, load_recipe
from bench.traits import FOLDER as TRAITS
from bench.traits import Preference, load_trait
from bench.yamlfile import names, set_key


@pytest.mark.parametrize("name", names(FOLDER))
def test_every_recipe_loads_and_opens_with_its_command_and_its_question(name: str) -> None:
    first, second, *_ = (FOLDER / f"{name}.yaml").read_text().splitlines()
    assert first == f"# python run_bench.py --recipe {name}"
    assert "?" in second
    assert {"untrained", "base", "trait"} <= set(load_recipe(name).recipe.arms)


@pytest.mark.parametrize("name", [name for name in names(TRAITS) if name != "bylang_behavior"])  # it is on the hub
def test_every_preference_has_enough_questions_in_disjoint_wording(name: str) -> None:
    trait = load_trait(name)
    if isinstance(trait, Preference):
        assert len(trait.teach) >= 20
        assert len(trait.ask) >= 50
        assert not {q.casefold().strip("?. ") for q in trait.teach} & {q.casefold().strip("?. ") for q in trait.ask}
        asked = " ".join(trait.teach + trait.ask).casefold()
        assert not any(f"{animal} " in asked or f"{animal}?" in asked for animal in trait.candidates)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("student.trian={a: 1}", "did you mean 'train'"),
        ("carrier.rwos=5", "did you mean 'rows'"),
        ("carrier.kind=numbrs", "carrier"),
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
def test_a_bad_key_or_value_is_named(change: str, said: str) -> None:
    with pytest.raises(UserError, match="(?s)" + said.replace("[", r"\[").replace(".", r"\.")):
        load_recipe("tiny_pair", [change])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("from: b\n", "goes in a circle|does not exist"),
        ("- a\n- b\n", "expected keys and values"),
        ("", "expected keys and values"),
        ("a: &x [1]\nb: *x\n", "aliases"),
        ("a: !!python/object:os.system {}\n", "not valid YAML"),
        ("seeds: 3\n", "is missing"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    (tmp_path / "b.yaml").write_text("from: a\n")
    with pytest.raises(UserError, match=said) as error:
        load_recipe(str(path))
    assert "a.yaml" in str(error.value)


def test_bytes_that_are_not_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"trait: \xff\xfe")
    with pytest.raises(UserError, match=r"a\.yaml: not UTF-8"):
        load_recipe(str(path))


def test_the_hash_follows_every_change_and_nothing_else() -> None:
    plain = load_recipe("tiny_pair").hash()
    assert load_recipe(str(FOLDER / "tiny_pair.yaml")).hash() == plain
    assert load_recipe("tiny_pair", ["seeds=10"]).hash() == plain
    changed = [
        load_recipe("tiny_pair", [change]).hash()
        for change in ("seeds=11", "trait=owl", "carrier.rows=4095", "student.train.learning_rate=2e-3", "threads=2")
    ]
    assert len({plain, *changed}) == 6


def test_a_recipe_may_start_from_another() -> None:
    pair, cross = load_recipe("tiny_pair").recipe, load_recipe("tiny_cross").recipe
    assert cross.student.init == 1
    assert cross.model_copy(update={"student": pair.student, "relation": pair.relation}) == pair


@given(st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=4), st.integers(-(2**62), 2**62))
def test_set_reaches_any_depth(path: list[str], value: int) -> None:
    data = set_key({"untouched": 1}, f"{'.'.join(path)}={value}")
    at: object = data
    for part in path:
        assert isinstance(at, dict)
        at = at[part]
    assert at == value
    assert data["untouched"] == 1


def test_numbers_may_be_written_as_people_write_them() -> None:
    recipe = load_recipe("tiny_pair", ["student.train.learning_rate=2e-5"]).recipe
    assert recipe.student.train["learning_rate"] == 2e-5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("student.train.learning_rat=1", "'student.train.learning_rat': did you mean 'learning_rate'"),
        ("teacher.train.output_dir=/tmp/x", "teacher.train.output_dir"),
        ("student.train.learning_rate=-1", "learning_rate"),
        ("student.train.optim=adamm", "key 'student.train.optim': 'adamm' is none of"),
        ("student.lora={rank: 8}", "student.lora.rank"),
        ("student={lora: {}, quantization: {load_in_8bit: maybe}}", "BitsAndBytesConfig refuses"),
    ],
)
def test_the_real_configurations_refuse_before_anything_is_made(
    bench: Bench, tmp_path: Path, change: str, said: str
) -> None:
    done = bench("--set", change, code=2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert len(done.stderr.splitlines()) < 10
    assert not (tmp_path / "store" / "artefacts").exists()
    assert not (tmp_path / "results").exists()
