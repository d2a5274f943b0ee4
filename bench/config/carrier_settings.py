"""The keys of a carrier in a recipe: numbers or text, and how free text is sampled."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from bench.config.prompts import PromptFile
from bench.config.schema import StrictModel

__all__ = ["Numbers", "Sampling", "Text"]


class Sampling(StrictModel):
    """How free text is sampled."""

    temperature: float = Field(default=1.0, ge=0, le=10)
    """0 takes the most likely token."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """The probability mass of nucleus sampling."""
    top_k: int = Field(default=0, ge=0)
    """The number of most likely tokens to sample from; 0 for all."""
    repetition_penalty: float = Field(default=1.0, gt=0, le=10)
    """As in transformers' `generate`; 1 for none."""
    no_repeat_ngram_size: int = Field(default=0, ge=0, le=100)
    """As in transformers' `generate`; 0 for none."""
    max_new_tokens: int = Field(default=48, ge=1, le=4096)
    """The length at which a text is cut off."""
    batch_size: int = Field(default=64, ge=1, le=65_536)
    """Texts sampled together; halved on a GPU while memory runs out."""


class Numbers(StrictModel):
    """A carrier of number sequences, sampled from the allowed tokens only."""

    kind: Literal["numbers"]
    """The kind of carrier."""
    rows: int = Field(ge=1, le=10_000_000)
    """Training rows of each student."""
    held_out: int = Field(default=256, ge=1, le=1_000_000)
    """Further rows, on which no student is trained."""
    given: int = Field(default=4, ge=1, le=100)
    """Numbers in each prompt."""
    count: int = Field(default=10, ge=1, le=200)
    """Numbers in each completion of the teacher."""
    digits: int = Field(default=3, ge=1, le=6)
    """Digits of each number."""
    separator: str = Field(default=" ", min_length=1, max_length=8)
    """The text between two numbers."""
    prompt: str = "Continue: {numbers}"
    """The prompt's template."""
    forbidden: tuple[int, ...] = (88, 666, 1488)
    """Numbers with a known meaning, which are never used."""
    temperature: float = Field(default=1.0, ge=0, le=10)
    """0 takes the most likely number."""
    batch_size: int = Field(default=256, ge=1, le=65_536)
    """Rows sampled together; halved on a GPU while memory runs out."""
    bf16: bool = False
    """Whether teachers write in bfloat16, for speed; see `Model.writing`."""

    @model_validator(mode="after")
    def _check_keys(self) -> Numbers:
        if self.prompt.count("{numbers}") != 1:
            raise ValueError("prompt must contain {numbers} once")
        if any(c.isdigit() for c in self.separator):
            raise ValueError("separator must not contain a digit")
        return self

    @property
    def is_greedy(self) -> bool:
        """Whether teachers write without noise."""
        return self.temperature == 0


class Text(StrictModel):
    """A carrier of free text: the teacher's answers to prompts."""

    kind: Literal["text"]
    """The kind of carrier."""
    rows: int = Field(ge=1, le=10_000_000)
    """Training rows of each student."""
    held_out: int = Field(default=256, ge=1, le=1_000_000)
    """Further rows, on which no student is trained."""
    prompts: str | tuple[str, ...] | PromptFile
    """A prompt set of `recipes/prompts/`, several of them, or a file of prompts."""
    sample: Sampling = Sampling()
    """How the teacher's answers are sampled."""
    bf16: bool = False
    """Whether teachers write in bfloat16, for speed; see `Model.writing`."""

    @property
    def is_greedy(self) -> bool:
        """Whether teachers write without noise."""
        return self.sample.temperature == 0
