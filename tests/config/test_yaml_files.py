from __future__ import annotations

from pathlib import Path

import pytest

from bench.config.recipe_files import load_recipe
from bench.config.yaml_files import read_assignment
from bench.errors import UserError


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("from: b\n", "goes in a circle|does not exist"),
        ("- a\n- b\n", "expected keys and values"),
        ("", "expected keys and values"),
        ("a: &x [1]\nb: *x\n", "aliases"),
        ("carrier:\n  separator:\n", "line 2: the key 'separator' has no value"),
        ("a: !!python/object:os.system {}\n", "not valid YAML"),
        ("seeds: 3\n", "is missing"),
        ("carrier: {rows: 3}\n", "key 'carrier.kind': expected one of numbers, text, but the key is missing"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    (tmp_path / "b.yaml").write_text("from: a\n")
    with pytest.raises(UserError, match=message) as error:
        load_recipe(str(path))
    assert "a.yaml" in str(error.value)


def test_bytes_that_are_not_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"trait: \xff\xfe")
    with pytest.raises(UserError, match=r"a\.yaml: not UTF-8"):
        load_recipe(str(path))


def test_numbers_may_be_written_as_people_write_them() -> None:
    recipe = load_recipe("tiny_pair", ["student.train.learning_rate=2e-5"]).recipe
    assert recipe.student.train["learning_rate"] == 2e-5


@pytest.mark.parametrize("word", ["seeds", "=1", ".=1", "a=[1"])
def test_an_assignment_that_sets_nothing_is_refused(word: str) -> None:
    with pytest.raises(UserError, match=r"^--set "):
        read_assignment(word)
