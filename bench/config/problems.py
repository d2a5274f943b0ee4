"""Arithmetic problems with checkable answers, made from templates and a fixed seed."""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Callable, Iterator, Mapping
from operator import add, floordiv, mul, sub
from typing import Annotated

from pydantic import Field, model_validator

from bench.config.schema import StrictModel
from bench.errors import UserError

__all__ = ["ProblemSet"]

OPERATIONS: Mapping[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: add,
    ast.Sub: sub,
    ast.Mult: mul,
    ast.FloorDiv: floordiv,
}
MAX_TRIES = 50  # draws per problem, before the templates count as used up
Bound = Annotated[int, Field(ge=0, le=1_000_000)]


class Problem(StrictModel):
    """One kind of problem."""

    text: str = Field(min_length=1)
    """The problem, with names of lists and of numbers in braces."""
    answer: str = Field(min_length=1, max_length=200)
    """An expression of the numbers: names, integers, + - * // and parentheses."""


class ProblemSet(StrictModel):
    """Problems whose lists and numbers are drawn at random. The draw is equal in every version of Python."""

    problems: tuple[Problem, ...] = Field(min_length=1)
    """The kinds of problems; each is drawn with equal probability."""
    numbers: dict[str, tuple[Bound, Bound]]
    """The lowest and highest value of each number."""
    lists: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """The entries of each list."""
    draw: int = Field(ge=1, le=1_000_000)
    """The number of different problems."""

    @model_validator(mode="after")
    def _check_keys(self) -> ProblemSet:
        if both := self.numbers.keys() & self.lists.keys():
            raise ValueError(f"{', '.join(sorted(both))}: a name of a list and of a number; rename one of them")
        for name, (low, high) in self.numbers.items():
            if low > high:
                raise ValueError(f"numbers: {name}: the lowest value {low} is above the highest, {high}")
        for name, entries in self.lists.items():
            if not entries:
                raise ValueError(f"lists: {name} is empty")
        for problem in self.problems:
            names = set(re.findall(r"{(\w+)}", problem.text))
            if missing := names - self.numbers.keys() - self.lists.keys():
                raise ValueError(f"problem {problem.text!r} names neither numbers nor lists: {sorted(missing)}")
            if missing := _parse(problem.answer).names - names:
                raise ValueError(f"answer {problem.answer!r} names numbers that its text lacks: {sorted(missing)}")
        return self

    def make(self) -> Iterator[tuple[str, str]]:
        """Make the problems with their answers, which are positive.

        Raises:
            UserError: there are too few different problems.
        """
        rng = random.Random("problems")
        answers = [_parse(problem.answer) for problem in self.problems]
        texts: set[str] = set()
        for _ in range(self.draw):
            for _ in range(MAX_TRIES):
                at = rng.randrange(len(self.problems))
                values = {name: rng.randint(*self.numbers[name]) for name in sorted(self.numbers)}
                words = {name: rng.choice(self.lists[name]) for name in sorted(self.lists)}
                fill: dict[str, str] = {**words, **{name: str(value) for name, value in values.items()}}
                text = _fill(self.problems[at].text, fill)
                answer = answers[at].value(values)
                if answer is not None and answer > 0 and text not in texts:
                    break
            else:
                raise UserError(
                    f"key 'draw': {self.draw:,} different problems expected, found {len(texts):,}; widen the numbers"
                )
            texts.add(text)
            yield text, str(answer)


class _Expression:
    """A checked expression of named integers."""

    def __init__(self, root: ast.expr) -> None:
        self.root = root
        self.names = {node.id for node in ast.walk(root) if isinstance(node, ast.Name)}

    def value(self, numbers: Mapping[str, int]) -> int | None:
        """Return its value; None for a division by zero or with a remainder."""

        def compute(node: ast.expr) -> int:
            if isinstance(node, ast.BinOp):
                left, right = compute(node.left), compute(node.right)
                if isinstance(node.op, ast.FloorDiv) and (right == 0 or left % right):
                    raise ZeroDivisionError
                return OPERATIONS[type(node.op)](left, right)
            return numbers[node.id] if isinstance(node, ast.Name) else int(ast.literal_eval(node))

        try:
            return compute(self.root)
        except ZeroDivisionError:
            return None


def _parse(text: str) -> _Expression:
    """Parse an expression.

    Raises:
        ValueError: it contains more than names, integers, + - * // and parentheses.
    """
    try:
        root = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, RecursionError, MemoryError):
        root = ast.Set([])
    for node in ast.walk(root):
        allowed = isinstance(node, ast.Name | ast.Load | ast.operator) or (
            isinstance(node, ast.Constant) and type(node.value) is int
        )
        if not allowed and not (isinstance(node, ast.BinOp) and type(node.op) in OPERATIONS):
            raise ValueError(f"answer {text!r}: expected names, integers, + - * // and parentheses")
    return _Expression(root)


def _fill(template: str, values: Mapping[str, str]) -> str:
    """Replace each `{name}` of a template by its value."""
    return re.sub(r"{(\w+)}", lambda name: values[name[1]], template)
