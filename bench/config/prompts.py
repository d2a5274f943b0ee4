"""Prompts of text carriers: prompt sets, templates with lists, and users' own files."""

from __future__ import annotations

import bisect
import functools
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
MAX_PROMPTS = 2_000_000


class PromptFile(StrictModel):
    """A file with a user's own prompts."""

    file: str
    """A .txt file with one prompt on each line, or a .jsonl, .csv or .parquet table."""
    column: str = "prompt"
    """The column of a table. Registrations state the default for .txt files too."""

    @field_validator("file")
    @classmethod
    def _check_ending(cls, file: str) -> str:
        if Path(file).suffix not in (".txt", ".jsonl", ".csv", ".parquet"):
            raise ValueError("the name of a prompt file ends in .txt, .jsonl, .csv or .parquet")
        return file

    @field_validator("column")  # runs only if the file states a column
    @classmethod
    def _check_column(cls, column: str, info: ValidationInfo) -> str:
        if info.data.get("file", "").endswith(".txt") and column != cls.model_fields["column"].default:
            raise ValueError("a .txt file has no columns: leave this key out")
        return column


class PromptSet(StrictModel):
    """Prompts, or templates with lists.

    A template becomes one prompt for each combination of list entries. If it names a list twice, it takes two different
    entries.
    """

    prompts: tuple[str, ...] = ()
    """The prompts, one by one."""
    templates: tuple[str, ...] = ()
    """Texts with names of lists in braces: `{animal} and {place}`."""
    lists: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """The entries of each list."""
    draw: int | None = Field(default=None, ge=1, le=MAX_PROMPTS)
    """The number of combinations to draw at random; None for all."""

    @model_validator(mode="after")
    def _check_keys(self) -> PromptSet:
        if bool(self.prompts) == bool(self.templates):
            raise ValueError("give either prompts, or templates with lists")
        for key, values in self.lists.items():
            if duplicates := [value for value, count in Counter(values).items() if count > 1]:
                raise ValueError(f"list {key!r} contains an entry twice: {duplicates[0]!r}")
        for template in self.templates:
            uses = Counter(re.findall(r"{(\w+)}", template))
            if missing := uses.keys() - self.lists.keys():
                raise ValueError(f"template {template!r} names lists that do not exist: {', '.join(sorted(missing))}")
            for key, count in uses.items():
                if count > len(self.lists[key]):
                    raise ValueError(
                        f"template {template!r} takes {count} of {key!r}, which has {len(self.lists[key])}"
                    )
        total = sum(_Template(template, self.lists).size for template in self.templates)
        if self.prompts and self.draw:
            raise ValueError("draw needs templates: all entries of prompts are used")
        if total > MAX_PROMPTS and not self.draw:
            raise ValueError(f"{total:,} combinations, more than two million: limit them, as in draw: 50000")
        if self.draw and self.draw > total:
            raise ValueError(f"draw: {self.draw:,} is more than there are combinations, {total:,}")
        return self


class _Template:
    """The combinations of one template.

    A combination is a number in a mixed radix: one digit for each slot, below the entry of `choices` for that slot.
    """

    def __init__(self, text: str, lists: dict[str, tuple[str, ...]]) -> None:
        self.parts = re.split(r"{(\w+)}", text)  # texts and names of lists, alternating
        keys = self.parts[1::2]
        self.values = [lists[key] for key in keys]
        # Earlier slots of the same list use up one entry each.
        earlier = [[j for j in range(i) if keys[j] == key] for i, key in enumerate(keys)]
        self.choices = [len(entries) - len(slots) for entries, slots in zip(self.values, earlier, strict=True)]
        self.repeats = [(i, slots) for i, slots in enumerate(earlier) if slots]
        self.size = math.prod(self.choices)

    def list_all(self) -> Iterator[str]:
        """Iterate over all prompts; the last slot changes fastest."""
        return map(self._fill, itertools.product(*map(range, self.choices)))

    def build(self, number: int) -> str:
        """Return the prompt with this number, in the order of `list_all`."""
        digits = []
        for choices in reversed(self.choices):
            number, digit = divmod(number, choices)
            digits.append(digit)
        return self._fill(digits[::-1])

    def _fill(self, digits: Sequence[int]) -> str:
        indices = list(digits)
        for slot, earlier in self.repeats:
            # The digit counts only entries that no earlier slot uses.
            for index in sorted([indices[j] for j in earlier]):
                indices[slot] += index <= indices[slot]
        parts = self.parts[:]
        parts[1::2] = map(getitem, self.values, indices)
        return "".join(parts)


def _draw(sizes: Sequence[int], count: int) -> Iterator[tuple[int, int]]:
    """Draw `count` different combinations, uniform over all templates.

    A larger draw starts with the combinations of a smaller one. The draw is equal in every version of Python.

    Args:
        sizes: the number of combinations of each template.
        count: how many to draw.

    Returns:
        (index of the template, number of the combination) of each.
    """
    ends = list(itertools.accumulate(sizes))
    rng = random.Random("prompts")
    drawn: set[int] = set()
    while len(drawn) < count:
        number = rng.randrange(ends[-1])
        if number not in drawn:
            drawn.add(number)
            template = bisect.bisect_right(ends, number)
            yield template, number - ends[template] + sizes[template]


def _read_set(name: str, relative_to: Path) -> tuple[str, ...]:
    endings = ".yaml, .yml (write a file of prompts as {file: NAME}; its name ends in .txt, .jsonl, .csv, .parquet)"
    path = find_file(name, FOLDER, "prompt set", relative_to=relative_to, endings=endings)
    return _list_prompts(validate(PromptSet, load_yaml(path, "prompt set", FOLDER), str(path)).model_dump_json())


@functools.lru_cache(maxsize=4)  # 0.3 s for 100,000 prompts, which a recipe shares with its reference
def _list_prompts(content: str) -> tuple[str, ...]:
    """List the distinct prompts of a set, in its order; `content` is the set as JSON."""
    return tuple(dict.fromkeys(_build_prompts(PromptSet.model_validate_json(content))))


def _build_prompts(prompt_set: PromptSet) -> Iterator[str]:
    yield from prompt_set.prompts
    templates = [_Template(text, prompt_set.lists) for text in prompt_set.templates]
    if prompt_set.draw:
        for index, number in _draw([template.size for template in templates], prompt_set.draw):
            yield templates[index].build(number)
    else:
        for template in templates:
            yield from template.list_all()


def _read_file(source: PromptFile, relative_to: Path) -> Iterator[str]:
    path, empty = relative_to / source.file, True
    for text in read_lines(path) if path.suffix == ".txt" else (row[0] for row in read_table(path, [source.column])):
        if text.strip():
            empty = False
            yield text.strip()
    if empty:
        fix = "write one on each line" if path.suffix == ".txt" else f"column {source.column!r} is empty: name another"
        raise UserError(f"{path}: contains no prompt; {fix}")


def load_prompts(source: str | Sequence[str] | PromptFile, relative_to: Path = Path()) -> tuple[str, ...]:
    """Load all distinct prompts of a source, in its order.

    Args:
        source: the set `recipes/prompts/<source>.yaml`, the path of a set, several of these, or a file of prompts.
        relative_to: the folder at which relative paths start.

    Raises:
        UserError: the set or file does not exist, or is not valid.
    """
    if isinstance(source, str):
        return _read_set(source, relative_to)
    if not isinstance(source, PromptFile):
        return tuple(dict.fromkeys(text for name in source for text in _read_set(name, relative_to)))
    prompts = tuple(dict.fromkeys(_read_file(source, relative_to)))
    if len(prompts) > MAX_PROMPTS:
        raise UserError(f"{source.file}: more than two million prompts; shorten it")
    return prompts
