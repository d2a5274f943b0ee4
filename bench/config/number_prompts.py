"""The wording of number prompts: clauses whose combinations are drawn for each row."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import Field, model_validator

from bench.config.prompt_templates import Template, check_lists
from bench.config.prompts import FOLDER, PromptFile, read_texts
from bench.config.schema import StrictModel, validate
from bench.config.yaml_files import find_file, load_yaml

__all__ = ["NumberPrompts", "load_number_prompts"]

NUMBERS = "{numbers}"  # stands for the given numbers
FIELDS = ("numbers", "count", "digits")  # filled in by the carrier


class NumberPrompts(StrictModel):
    """Templates with lists of clauses. A row draws one combination of all of them, each with equal probability.

    Templates and clauses contain `{numbers}` once in each combination, and may contain `{count}` and `{digits}`.
    """

    templates: tuple[str, ...] = Field(min_length=1)
    """Texts with names of lists in braces: `{example} {instruction}`."""
    lists: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """The clauses of each list."""
    separators: tuple[str, ...] = ()
    """Texts between two given numbers, one of which a row draws; () for the carrier's separator."""

    @model_validator(mode="after")
    def _check_keys(self) -> NumberPrompts:
        if used := set(self.lists).intersection(FIELDS):
            raise ValueError(f"lists: {', '.join(sorted(used))} are the names of fields; rename the list")
        for template in self.templates:
            if twice := [field for field in FIELDS if template.count(f"{{{field}}}") > 1]:
                raise ValueError(f"key 'templates': {template!r} contains {{{twice[0]}}} more than once; expected once")
        check_lists(self.templates, self._all_lists())
        for separator in self.separators:
            if not separator or any(c.isdigit() for c in separator):
                raise ValueError(f"separators: {separator!r} is empty or contains a digit")
        for template in self.templates:
            for clauses in self._slots(template):
                counts = {clause.count(NUMBERS): clause for clause in clauses}
                if len(counts) > 1:
                    with_numbers, without = counts[max(counts)], counts[min(counts)]
                    raise ValueError(f"of one list, {with_numbers!r} contains {NUMBERS} and {without!r} does not")
            fewest = sum(clauses[0].count(NUMBERS) for clauses in self._slots(template))
            if fewest != 1:
                raise ValueError(f"template {template!r} contains {NUMBERS} {fewest} times with its lists, expected 1")
        return self

    def draw(self, rows: int, rng: random.Random) -> Iterator[tuple[str, str | None]]:
        """Draw the wording of each row, and the separator of its given numbers; None for the carrier's.

        The wording still contains the fields.
        """
        templates = [Template(text, self._all_lists()) for text in self.templates]
        sizes = list(itertools.accumulate(template.size for template in templates))
        for _ in range(rows):
            number = rng.randrange(sizes[-1])
            index = next(i for i, end in enumerate(sizes) if number < end)
            text = templates[index].build(sizes[index] - 1 - number)
            yield text, rng.choice(self.separators) if self.separators else None

    def _all_lists(self) -> Mapping[str, Sequence[str]]:
        """Return the lists, and one for each field that stands for itself."""
        return {**self.lists, **{field: (f"{{{field}}}",) for field in FIELDS}}

    def _slots(self, template: str) -> Sequence[Sequence[str]]:
        return Template(template, self._all_lists()).values


def load_number_prompts(source: str | PromptFile, relative_to: Path = Path()) -> NumberPrompts:
    """Load the wording of number prompts.

    Args:
        source: the set `recipes/prompts/<source>.yaml`, the path of a set, or a file with a template in each row.
        relative_to: the folder at which a relative path starts.

    Raises:
        UserError: the set or file does not exist, or is not valid.
    """
    if isinstance(source, PromptFile):
        texts = list(dict.fromkeys(text for text, _ in read_texts(source, relative_to)))
        return validate(NumberPrompts, {"templates": texts}, source.file)
    path = find_file(source, FOLDER, "prompt set", relative_to=relative_to)
    keys = load_yaml(path, "prompt set", FOLDER)
    return validate(NumberPrompts, keys, str(path))
