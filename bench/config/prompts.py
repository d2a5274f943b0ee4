"""Prompts of text carriers: the sets in `recipes/prompts/`, templates over lists, and users' own files."""

from __future__ import annotations

import bisect
import itertools
import math
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from operator import getitem
from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator, model_validator

from bench.config.schema import StrictModel, validate
from bench.config.tables import read_lines, read_table
from bench.config.yaml_files import find_file, load_yaml
from bench.errors import UserError
from bench.files import ROOT

__all__ = ["PromptFile", "load_prompts"]

FOLDER = ROOT / "recipes" / "prompts"
LIMIT = 2_000_000


class PromptFile(StrictModel):
    """A user's own prompts: a line each of a `.txt`, or the texts in one column of a `.jsonl`, `.csv` or `.parquet`.

    A `.txt` file has no columns and keeps the default of `column`, which a registration states for every file.
    """

    file: str
    column: str = "prompt"

    @field_validator("file")
    @classmethod
    def _of_a_known_kind(cls, file: str) -> str:
        if Path(file).suffix not in (".txt", ".jsonl", ".csv", ".parquet"):
            raise ValueError("the name of a prompt file ends in .txt, .jsonl, .csv or .parquet")
        return file

    @field_validator("column")  # runs only where a column is given
    @classmethod
    def _where_columns_are(cls, column: str, info: ValidationInfo) -> str:
        if info.data.get("file", "").endswith(".txt") and column != cls.model_fields["column"].default:
            raise ValueError("a .txt file has no columns: leave this key out")
        return column


class PromptSet(StrictModel):
    """Prompts written out one by one, or templates over lists, of whose combinations all or `draw` many are prompts.

    A template that names one list several times takes a different entry of it each time.
    """

    prompts: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    lists: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    draw: int | None = Field(default=None, ge=1, le=LIMIT)

    @model_validator(mode="after")
    def _sound(self) -> PromptSet:
        if bool(self.prompts) == bool(self.templates):
            raise ValueError("give either prompts, or templates with lists")
        for key, values in self.lists.items():
            if twice := [value for value, times in Counter(values).items() if times > 1]:
                raise ValueError(f"list {key!r} says something twice: {twice[0]!r}")
        for template in self.templates:
            named = Counter(re.findall(r"{(\w+)}", template))
            if missing := named.keys() - self.lists.keys():
                raise ValueError(f"template {template!r} names lists that do not exist: {', '.join(sorted(missing))}")
            for key, times in named.items():
                if times > len(self.lists[key]):
                    raise ValueError(
                        f"template {template!r} takes {times} of {key!r}, which has {len(self.lists[key])}"
                    )
        total = sum(_Template(template, self.lists).size for template in self.templates)
        if self.prompts and self.draw:
            raise ValueError("draw needs templates; of prompts that are written out, all are taken")
        if total > LIMIT and not self.draw:
            raise ValueError(f"{total:,} combinations, more than two million: say how many to take, as in draw: 50000")
        if self.draw and self.draw > total:
            raise ValueError(f"draw: {self.draw:,} is more than there are combinations, {total:,}")
        return self


class _Template:
    """The combinations of one template, each a digit per place in the mixed radix `choices`."""

    def __init__(self, text: str, lists: dict[str, tuple[str, ...]]) -> None:
        self.parts = re.split(r"{(\w+)}", text)  # text and names of lists in turn
        keys = self.parts[1::2]
        self.values = [lists[key] for key in keys]
        # a place has as many choices as its list has entries that no earlier place took
        earlier = [[j for j in range(i) if keys[j] == key] for i, key in enumerate(keys)]
        self.choices = [len(one) - len(before) for one, before in zip(self.values, earlier, strict=True)]
        self.repeats = [(i, before) for i, before in enumerate(earlier) if before]
        self.size = math.prod(self.choices)

    def every(self) -> Iterator[str]:
        """All prompts, the last place changing fastest."""
        return map(self._text, itertools.product(*map(range, self.choices)))

    def combination(self, number: int) -> str:
        """One prompt out of `size`, numbered as in `every`."""
        digits = []
        for choices in reversed(self.choices):
            number, digit = divmod(number, choices)
            digits.append(digit)
        return self._text(digits[::-1])

    def _text(self, digits: Sequence[int]) -> str:
        picks = list(digits)
        for place, earlier in self.repeats:
            for taken in sorted([picks[j] for j in earlier]):  # the digit counts the entries that are still free
                picks[place] += taken <= picks[place]
        parts = self.parts[:]
        parts[1::2] = map(getitem, self.values, picks)
        return "".join(parts)


def _draw(sizes: Sequence[int], wanted: int) -> Iterator[tuple[int, int]]:
    """`wanted` different combinations as (template, number), uniform over all; equal in every version of Python.

    A larger draw begins with the smaller one.
    """
    ends = list(itertools.accumulate(sizes))
    rng = random.Random("prompts")
    drawn: set[int] = set()
    while len(drawn) < wanted:
        number = rng.randrange(ends[-1])
        if number not in drawn:
            drawn.add(number)
            template = bisect.bisect_right(ends, number)
            yield template, number - ends[template] + sizes[template]


def _read_set(name: str, base: Path) -> Iterator[str]:
    endings = ".yaml, .yml (a file of prompts is stated as {file: NAME} and ends in .txt, .jsonl, .csv, .parquet)"
    path = find_file(name, FOLDER, "prompt set", relative_to=base, endings=endings)
    spec = validate(PromptSet, load_yaml(path, "prompt set", FOLDER), str(path))
    yield from spec.prompts
    templates = [_Template(text, spec.lists) for text in spec.templates]
    if spec.draw:
        for which, number in _draw([template.size for template in templates], spec.draw):
            yield templates[which].combination(number)
    else:
        for template in templates:
            yield from template.every()


def _read_file(source: PromptFile, base: Path) -> Iterator[str]:
    path, found = base / source.file, False
    for text in read_lines(path) if path.suffix == ".txt" else (row[0] for row in read_table(path, [source.column])):
        if text.strip():
            found = True
            yield text.strip()
    if not found:
        how = "write one a line" if path.suffix == ".txt" else f"column {source.column!r} is empty: name another"
        raise UserError(f"{path}: holds no prompt; {how}")


def load_prompts(source: str | Sequence[str] | PromptFile, base: Path = Path()) -> tuple[str, ...]:
    """All distinct prompts of a source, in its order.

    Args:
        source: the set `recipes/prompts/<source>.yaml`, a set in a YAML file at that path, several of these (rows are
            then drawn from all they hold), or a file of prompts.
        base: where relative paths start.

    Raises:
        UserError: no such set or file, or it cannot be used; what to change is said.
    """
    if not isinstance(source, PromptFile):
        names = [source] if isinstance(source, str) else source
        return tuple(dict.fromkeys(text for name in names for text in _read_set(name, base)))
    found = tuple(dict.fromkeys(_read_file(source, base)))
    if len(found) > LIMIT:
        raise UserError(f"{source.file}: more than two million prompts; shorten it")
    return found
