from __future__ import annotations

from typing import Any

import pytest

from bench.config.keep import Equals, KeepNumbers, KeepText
from bench.config.recipe_files import load_recipe
from bench.config.schema import validate
from bench.errors import UserError


def test_the_default_is_the_filter_of_the_field() -> None:
    assert KeepNumbers().model_dump() == {"count": (1, 10), "low": 0, "high": 999, "separators": (" ", ",", ";")}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"count": [5, 2]}, "the fewest numbers, 5, are more than the most, 2"),
        ({"count": [0, 2]}, "key 'count.0'"),
        ({"low": 10, "high": 9}, "low: 10 is above high, 9"),
        ({"separators": []}, "key 'separators'"),
        ({"separators": [", "]}, "expected a mark without whitespace and digits"),
        ({"separators": ["1"]}, "expected a mark without whitespace and digits"),
        ({"seperators": [","]}, "did you mean 'separators'"),
    ],
)
def test_impossible_lists_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        validate(KeepNumbers, keys, "mine.yaml")
    assert message in str(error.value)
    assert "mine.yaml" in str(error.value)


TEXT = "carrier={{kind: text, rows: 4, held_out: 2, draw: 20, prompts: arithmetic_en, keep: {}}}"


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ("{}", "give matches, equals or both"),
        ("{matches: '('}", "key 'carrier.keep.matches': not a valid regular expression"),
        ("{matches: '(a+)+b'}", "key 'carrier.keep.matches': takes longer than"),
        ("{equals: {pattern: 'x', column: answer}}", "key 'carrier.keep.equals.pattern': expected 1 group"),
        ("{equals: {pattern: '(x)'}}", "key 'carrier.keep.equals.column' is missing"),
        ("{equals: {pattern: '(x)', column: solution}}", "'carrier.keep.equals.column': "),
        ("{match: a}", "did you mean 'matches'"),
    ],
)
def test_a_recipe_names_the_bad_key_of_a_text_filter(keep: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        load_recipe("tiny_pair", [TEXT.format(keep)])
    assert message in str(error.value)


def test_an_unknown_column_names_the_columns_that_there_are() -> None:
    with pytest.raises(UserError, match="expected a column 'solution', found 'prompt', 'answer'"):
        load_recipe("tiny_pair", [TEXT.format("{equals: {pattern: '(x)', column: solution}}")])


def test_a_valid_filter_of_texts_is_read() -> None:
    recipe = load_recipe("tiny_pair", [TEXT.format(r"{equals: {pattern: 'Answer: (\d+)', column: answer}}")]).recipe
    assert recipe.carrier.keep == KeepText(equals=Equals(pattern=r"Answer: (\d+)", column="answer"))
