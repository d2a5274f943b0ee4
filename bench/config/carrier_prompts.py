"""The prompts of a carrier: those of a text carrier, or the wording of number prompts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import NamedTuple

from bench.config.carrier_settings import Numbers, Text
from bench.config.number_prompts import NumberPrompts, load_number_prompts
from bench.config.prompts import PromptFile, load_problems
from bench.config.yaml_files import Layer, folder_of_key
from bench.errors import UserError

__all__ = ["CarrierPrompts", "load_carrier_prompts"]


class CarrierPrompts(NamedTuple):
    """The prompts that a carrier draws from."""

    texts: tuple[str, ...] = ()
    """The prompts of a text carrier."""
    truths: tuple[str, ...] = ()
    """The texts that answers to them must equal (`keep.equals`), by prompt; () without such a check."""
    wording: NumberPrompts | None = None
    """The wording of number prompts; None for the carrier's own `prompt`."""

    def sha256(self) -> str | None:
        """Return the hash of the content; None without any."""
        if self.wording is not None:
            text = json.dumps(self.wording.model_dump(mode="json"), sort_keys=True)
        elif self.texts:
            text = "\n".join(self.texts + self.truths)
        else:
            return None
        return hashlib.sha256(text.encode()).hexdigest()


def load_carrier_prompts(carrier: Numbers | Text, layers: Sequence[Layer]) -> CarrierPrompts:
    """Load the prompts that a recipe's carrier names.

    Args:
        carrier: the carrier.
        layers: the recipe's files; a relative path starts at the folder of the file that states it.

    Raises:
        UserError: names the key.
    """
    source = carrier.prompts
    if source is None:
        return CarrierPrompts()
    folder = folder_of_key(layers, *["carrier", "prompts", *(["file"] if isinstance(source, PromptFile) else [])])
    column = carrier.keep.equals.column if carrier.kind == "text" and carrier.keep and carrier.keep.equals else None
    key = "carrier.prompts" if column is None else "carrier.prompts' with 'carrier.keep.equals.column"
    try:
        if carrier.kind == "numbers":
            return CarrierPrompts(wording=load_number_prompts(carrier.prompts or "", folder))
        problems = load_problems(carrier.prompts, folder, column)
    except UserError as error:
        raise UserError(f"key '{key}': {error}") from None
    needed = carrier.prompts_needed()
    if needed > len(problems):
        name = "draw" if carrier.draw else "rows"
        held_out = "" if carrier.draw else " (with held_out)"
        raise UserError(f"key 'carrier.{name}': {needed:,} prompts are needed{held_out}, there are {len(problems):,}")
    return CarrierPrompts(tuple(problems), tuple(problems.values()) if column is not None else ())
