from __future__ import annotations

import shlex
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.config.changes import find_changes, flatten, get_key, label_row, name_key, value_text, write_command
from bench.config.recipe_files import load_recipe

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", min_size=1), inner, max_size=3),
)


@pytest.mark.parametrize(
    ("changes", "label"),
    [
        ([], "tiny_pair"),
        (["student.train.learning_rate=5e-4"], "tiny_pair  lr 5e-4"),
        (["student.train.learning_rate=1.5e-3"], "tiny_pair"),  # as in its file
        (["teacher.train.learning_rate=5e-4"], "tiny_pair  teacher lr 5e-4"),
        (["teacher.train.max_steps=30", "student.train.max_steps=9"], "tiny_pair  updates 9, teacher updates 30"),
        (["carrier.rows=512", "carrier.temperature=0"], "tiny_pair  rows 512, temperature 0"),
        (["level=.05", "bound=null", "carrier.given=4"], "tiny_pair"),  # the defaults
        (["level=.01"], "tiny_pair  level 0.01"),
        (["relation=null"], "tiny_pair  relation none"),
        (["student.lora={r: 8, lora_alpha: 16}"], "tiny_pair  student lora lora_alpha 16, student lora r 8"),
        (["dose=[4, 8]", "trait=owl"], "tiny_pair  dose [4, 8], trait owl"),
        (["dose={epochs: [1]}", "repeat=students"], "tiny_pair  dose epochs [1], repeat students"),
    ],
)
def test_a_label_says_what_differs_from_the_file(changes: list[str], label: str) -> None:
    row = load_recipe("tiny_pair", changes)
    assert row.label == label
    assert bool(row.changes) == (row.hash() != load_recipe("tiny_pair").hash())


def test_seeds_and_inherited_keys_are_held_against_the_own_file() -> None:
    assert load_recipe("tiny_pair", seeds=10).label == "tiny_pair"
    assert load_recipe("tiny_pair", seeds=3).label == "tiny_pair  seeds 3"
    assert load_recipe("tiny_cross").label == "tiny_cross"


def test_smoke_is_no_change() -> None:
    assert load_recipe("tiny_pair", smoke=True).label == "tiny_pair"
    assert load_recipe("tiny_pair", ["trait=owl"], smoke=True).label == "tiny_pair  trait owl"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5e-4, "5e-4"), (0.05, "0.05"), (1e-5, "1e-5"), (1.5e-3, "0.0015"), (100000.0, "1e5"), (0.0, "0"),
        (2048, "2048"), (True, "true"), (None, "none"), ([1, 2], "[1, 2]"), ("a | b\nc", "a / b c"),
        ("x" * 99, "x" * 21 + "..."),
    ],
)  # fmt: skip
def test_values_are_short(value: Any, text: str) -> None:
    assert value_text(value) == text


@given(st.dictionaries(st.text(max_size=30), VALUES, max_size=3))
def test_any_label_is_one_line_that_breaks_no_table(changes: dict[str, Any]) -> None:
    label = label_row("mine", {f"carrier.{key}": value for key, value in changes.items()})
    for value in changes.values():
        text = value_text(value)
        assert len(text) <= 24
        assert "|" not in text
        assert text.isprintable()
        assert text in label


def test_keys_are_found_by_their_dotted_names() -> None:
    keys = {"a": {"b": {"c": 1}}, "d": {}, "e": [2]}
    assert dict(flatten(keys)) == {"a.b.c": 1, "d": {}, "e": [2]}
    assert [get_key(keys, name) for name in ("a.b.c", "a.x", "e.y")] == [1, None, None]
    assert name_key("student.model") == "student model"
    assert find_changes({"a": 1}, [{"a": 2, "b": {"c": 3}}], {"a": 2, "b": {"c": 3}}, {"a": 2}) == {"a": 2}


@given(st.text(min_size=1), st.lists(st.text(min_size=1)), st.none() | st.integers(1))
def test_a_shell_reads_a_command_as_it_was_meant(recipe: str, overrides: list[str], seeds: int | None) -> None:
    words = shlex.split(write_command(recipe, overrides, seeds))
    assert words[:4] == ["python", "run_bench.py", "--recipe", recipe]
    assert words[4:] == [
        *([] if seeds is None else ["--seeds", str(seeds)]),
        *(word for change in overrides for word in ("--set", change)),
    ]
