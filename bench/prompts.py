"""Prompt sets of text carriers: `recipes/prompts/<name>.yaml`, written out or as templates over lists."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

from pydantic import Field, model_validator

from bench.errors import UserError
from bench.yamlfile import Frozen, find, load, validate

__all__ = ["load_prompts"]

FOLDER = Path(__file__).parent.parent / "recipes" / "prompts"


class PromptSet(Frozen):
    """Prompts written out one by one, or templates over lists: every combination is a prompt."""

    prompts: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    lists: dict[str, tuple[str, ...]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _sound(self) -> PromptSet:
        if bool(self.prompts) == bool(self.templates):
            raise ValueError("give either prompts, or templates with lists")
        for template in self.templates:
            missing = set(re.findall(r"{(\w+)}", template)) - set(self.lists)
            if missing:
                raise ValueError(f"template {template!r} names lists that do not exist: {', '.join(sorted(missing))}")
        return self


def load_prompts(name: str) -> tuple[str, ...]:
    """All distinct prompts of the set `recipes/prompts/<name>.yaml`, or of a YAML file at the path `name`.

    Raises:
        UserError: no such set, or it breaks the schema.
    """
    path = find(name, FOLDER, "prompt set")
    spec = validate(PromptSet, load(path, "prompt set", FOLDER), str(path))
    found = dict.fromkeys(spec.prompts)
    for template in spec.templates:
        keys = re.findall(r"{(\w+)}", template)
        for values in itertools.product(*(spec.lists[key] for key in keys)):
            text = template
            for key, value in zip(keys, values, strict=True):
                text = text.replace(f"{{{key}}}", value)
            found[text] = None
            if len(found) > 2_000_000:
                raise UserError(f"{path}: more than two million prompts; shorten a list")
    return tuple(found)
