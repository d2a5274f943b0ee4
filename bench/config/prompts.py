"""Prompts of text carriers: prompt sets, templates with lists, and users' own files."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator, model_validator

from bench.config.behaviour_data import HUB
from bench.config.problems import ProblemSet
from bench.config.prompt_templates import Template, check_lists, draw_combinations
from bench.config.schema import GrowingModel, StrictModel, clip_line, validate
from bench.config.tables import read_hub, read_lines, read_table
from bench.config.yaml_files import find_file, load_yaml
from bench.errors import UserError
from bench.files import ROOT

__all__ = ["FOLDER", "PromptFile", "load_problems", "read_texts"]

FOLDER = ROOT / "recipes" / "prompts"
MAX_PROMPTS = 2_000_000
ANSWER = "answer"  # the column of a set of problems


class PromptFile(GrowingModel):
    """A file with a user's own prompts."""

    later = frozenset({"split", "revision"})

    file: str
    """A .txt file with one prompt on each line, a .jsonl, .csv or .parquet table, or `hub:<owner>/<name>`."""
    column: str = "prompt"
    """The column of a table. Registrations state the default for .txt files too."""
    split: str = "train"
    """The split of a hub data set."""
    revision: str | None = None
    """The branch, tag or commit of a hub data set."""

    @field_validator("file")
    @classmethod
    def _check_ending(cls, file: str) -> str:
        if not file.startswith(HUB) and Path(file).suffix not in (".txt", ".jsonl", ".csv", ".parquet"):
            raise ValueError("the name of a prompt file ends in .txt, .jsonl, .csv or .parquet, or begins with hub:")
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
        check_lists(self.templates, self.lists)
        total = sum(Template(template, self.lists).size for template in self.templates)
        if self.prompts and self.draw:
            raise ValueError("draw needs templates: all entries of prompts are used")
        if total > MAX_PROMPTS and not self.draw:
            raise ValueError(f"{total:,} combinations, more than two million: limit them, as in draw: 50000")
        if self.draw and self.draw > total:
            raise ValueError(f"draw: {self.draw:,} is more than there are combinations, {total:,}")
        return self


def _read_set(name: str, relative_to: Path, column: str | None) -> Iterable[tuple[str, str]]:
    if name.startswith(HUB):
        return read_texts(PromptFile(file=name), relative_to, column)
    endings = ".yaml, .yml (write a file of prompts as {file: NAME}; its name ends in .txt, .jsonl, .csv, .parquet)"
    path = find_file(name, FOLDER, "prompt set", relative_to=relative_to, endings=endings)
    keys = load_yaml(path, "prompt set", FOLDER)
    if "problems" in keys:
        if column not in (None, ANSWER):
            raise UserError(f"{path}: expected a column {column!r}, found 'prompt', {ANSWER!r}")
        problems = _list_problems(validate(ProblemSet, keys, str(path)).model_dump_json(), str(path))
        return problems if column is not None else ((prompt, "") for prompt, _ in problems)
    if column is not None:
        raise UserError(f"{path}: expected a column {column!r}, found none: a set of prompts has no columns")
    if "{numbers}" in json.dumps(keys):
        raise UserError(f"{path}: prompts of number carriers; use kind: numbers, or another set")
    return ((prompt, "") for prompt in _list_prompts(validate(PromptSet, keys, str(path)).model_dump_json()))


@functools.lru_cache(maxsize=4)  # 1 s for 20,000 problems
def _list_problems(content: str, source: str) -> tuple[tuple[str, str], ...]:
    """List the problems of a set with their answers; `content` is the set as JSON, `source` its file."""
    try:
        return tuple(ProblemSet.model_validate_json(content).make())
    except UserError as error:
        raise UserError(f"{source}: {error}") from None


@functools.lru_cache(maxsize=4)  # 0.3 s for 100,000 prompts, which a recipe shares with its reference
def _list_prompts(content: str) -> tuple[str, ...]:
    """List the distinct prompts of a set, in its order; `content` is the set as JSON."""
    return tuple(dict.fromkeys(_build_prompts(PromptSet.model_validate_json(content))))


def _build_prompts(prompt_set: PromptSet) -> Iterator[str]:
    yield from prompt_set.prompts
    templates = [Template(text, prompt_set.lists) for text in prompt_set.templates]
    if prompt_set.draw:
        for index, number in draw_combinations([template.size for template in templates], prompt_set.draw):
            yield templates[index].build(number)
    else:
        for template in templates:
            yield from template.list_all()


def read_texts(source: PromptFile, relative_to: Path, column: str | None = None) -> Iterator[tuple[str, str]]:
    """Read the prompts of a file that are not empty, each with its text in `column`, or with "".

    Raises:
        UserError: the file is not readable, has no such column, or contains no prompt.
    """
    path, empty = relative_to / source.file, True
    columns = [source.column, *([column] if column is not None else [])]
    rows: Iterable[tuple[str, ...]]
    if source.file.startswith(HUB):
        rows = read_hub(source.file.removeprefix(HUB), columns, split=source.split, revision=source.revision)
    elif path.suffix != ".txt":
        rows = read_table(path, columns)
    elif column is not None:
        raise UserError(f"{path}: expected a column {column!r}, found none: a .txt file has no columns; use a table")
    else:
        rows = ((line,) for line in read_lines(path))
    for text, *truth in rows:
        if text.strip():
            empty = False
            yield text.strip(), truth[0].strip() if truth else ""
    if empty:
        fix = "write one on each line" if path.suffix == ".txt" else f"column {source.column!r} is empty: name another"
        raise UserError(f"{path}: contains no prompt; {fix}")


def load_problems(
    source: str | Sequence[str] | PromptFile, relative_to: Path = Path(), column: str | None = None
) -> dict[str, str]:
    """Load all distinct prompts of a source, in its order, each with its text in `column`.

    Args:
        source: the set `recipes/prompts/<source>.yaml`, the path of a set, several of these, a file of prompts, or
            `hub:<owner>/<name>`.
        relative_to: the folder at which relative paths start.
        column: of the table, `answer` for a set of problems; None for empty texts.

    Raises:
        UserError: the set or file does not exist, is not valid, lacks the column, or gives a prompt two texts.
    """
    if isinstance(source, PromptFile):
        rows = read_texts(source, relative_to, column)
    else:
        names = [source] if isinstance(source, str) else source
        rows = (row for name in names for row in _read_set(name, relative_to, column))
    problems: dict[str, str] = {}
    for prompt, truth in rows:
        if problems.setdefault(prompt, truth) != truth:
            raise UserError(
                f"{clip_line(repr(prompt), 80)} is there twice, with {column} {problems[prompt]!r:.40} and "
                f"{truth!r:.40}; take one out"
            )
    if isinstance(source, PromptFile) and len(problems) > MAX_PROMPTS:
        raise UserError(f"{source.file}: more than two million prompts; shorten it")
    return problems
