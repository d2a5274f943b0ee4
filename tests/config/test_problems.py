from __future__ import annotations

import re
from typing import Any

import pytest

from bench.config.problems import ProblemSet
from bench.config.prompts import load_problems
from bench.config.schema import validate
from bench.errors import UserError

KEYS: dict[str, Any] = {
    "problems": [{"text": "What is {a} // {b} - 1?", "answer": "a // b - 1"}],
    "numbers": {"a": [0, 12], "b": [0, 4]},
    "draw": 9,
}


def problems(**keys: Any) -> ProblemSet:
    return validate(ProblemSet, {**KEYS, **keys}, "mine.yaml")


def test_answers_are_whole_positive_and_true() -> None:
    made = dict(problems().make())
    assert len(made) == 9
    for text, answer in made.items():
        a, b = map(int, re.findall(r"\d+", text)[:2])
        assert a % b == 0
        assert int(answer) == a // b - 1 > 0


def test_too_few_different_problems_are_an_error() -> None:
    with pytest.raises(UserError, match=r"key 'draw': 100 different problems expected, found \d+; widen the numbers"):
        list(problems(draw=100).make())


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"problems": [{"text": "{a}", "answer": "__import__('os')"}]}, "expected names, integers, + - * //"),
        ({"problems": [{"text": "{a}", "answer": "a ** 9"}]}, "expected names, integers, + - * //"),
        ({"problems": [{"text": "{a}", "answer": "a / 2"}]}, "expected names, integers, + - * //"),
        ({"problems": [{"text": "{a}", "answer": "a +"}]}, "expected names, integers, + - * //"),
        ({"problems": [{"text": "{a}", "answer": "True + a"}]}, "expected names, integers, + - * //"),
        ({"problems": [{"text": "{a}", "answer": "a + b"}]}, "names numbers that its text lacks: ['b']"),
        ({"problems": [{"text": "{c}", "answer": "1"}]}, "names neither numbers nor lists: ['c']"),
        ({"numbers": {"a": [5, 1], "b": [1, 2]}}, "numbers: a: the lowest value 5 is above the highest, 1"),
        ({"lists": {"a": ["x"]}}, "a: a name of a list and of a number"),
        ({"lists": {"w": []}}, "lists: w is empty"),
    ],
)
def test_bad_templates_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        problems(**keys)
    assert message in str(error.value)


@pytest.mark.parametrize(("name", "ask"), [("arithmetic_en", "Answer: "), ("arithmetic_tr", "Cevap: ")])
def test_the_shipped_problems_are_20_000_with_true_answers(name: str, ask: str) -> None:
    made = load_problems(name, column="answer")
    assert len(made) == 20_000
    assert all(answer.isdigit() and int(answer) > 0 for answer in made.values())
    assert all(ask in text and not re.search(r"[{}]|  ", text) for text in made)
    sums = {text: re.findall(r"[\d+*() -]+\d", text)[0] for text in made if text.startswith(("Compute", "Hesapla"))}
    assert len(sums) > 3000
    assert all(eval(expression) == int(made[text]) for text, expression in sums.items())
