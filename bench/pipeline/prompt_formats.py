"""Open the prompt formats of a plan's stages, before its checkpoints are built."""

from __future__ import annotations

from typing import Any

from bench.models.chat_format import PromptFormat
from bench.models.tokenizer_source import open_tokenizer
from bench.pipeline.plan import Plan, Stage
from bench.pipeline.recipe_checks import find_tokenizer
from bench.pipeline.store import Store
from bench.stages.settings import Loading

__all__ = ["PromptFormats"]


class PromptFormats:
    """The prompt formats of one plan. Each tokenizer is opened once."""

    def __init__(self, plan: Plan, store: Store) -> None:
        self.plan, self.store = plan, store
        self.tokenizers: dict[str, Any] = {}

    def open(self, stage: Stage, model: Loading, system: str | None) -> PromptFormat:
        """Return the prompt format of a stage.

        Raises:
            UserError: the model cannot have this system prompt.
        """
        start = stage.inputs["start"]
        if start.identity not in self.tokenizers:
            self.tokenizers[start.identity] = open_tokenizer(find_tokenizer(self.plan, start, self.store))
        return PromptFormat(self.tokenizers[start.identity], model.format, model.chat_template_kwargs, system)
