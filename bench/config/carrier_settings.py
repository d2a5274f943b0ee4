"""The keys of a carrier in a recipe: numbers or text, and how free text is sampled."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from bench.config.keep import KeepNumbers, KeepText
from bench.config.prompts import PromptFile
from bench.config.schema import GrowingModel, StrictModel

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


PROMPT = "Continue: {numbers}"
Given = Annotated[int, Field(ge=1, le=100)]
DRAW = Field(default=None, ge=1, le=10_000_000)
WRITTEN = {
    "rows": 1,
    "held_out": 1,
}  # of a carrier that draws its rows: teachers answer `draw` prompts whatever these are
FREE_KEYS = ("draw", "keep", "max_new_tokens")  # of number carriers with `generate: free`


class Numbers(GrowingModel):
    """A carrier of number sequences, sampled from the allowed tokens only, or written freely and filtered."""

    later = frozenset({"prompts", "generate", "draw", "keep", "max_new_tokens"})

    kind: Literal["numbers"]
    """The kind of carrier."""
    rows: int = Field(ge=1, le=10_000_000)
    """Training rows of each student."""
    held_out: int = Field(default=256, ge=1, le=1_000_000)
    """Further rows, on which no student is trained."""
    given: Given | tuple[Given, Given] = 4
    """Numbers in each prompt; a range `[3, 8]` from which each row draws."""
    count: int = Field(default=10, ge=1, le=200)
    """Numbers in each completion of the teacher; those that free prompts ask for."""
    digits: int = Field(default=3, ge=1, le=6)
    """Digits of each number; of the given ones alone if teachers write freely."""
    separator: str = Field(default=" ", min_length=1, max_length=8)
    """The text between two numbers."""
    prompt: str = PROMPT
    """The prompt's template."""
    prompts: str | PromptFile | None = None
    """A set of `recipes/prompts/` with clauses, or a file of templates; each row draws one. In place of `prompt`."""
    forbidden: tuple[int, ...] = (88, 666, 1488)
    """Numbers with a known meaning, which are never used."""
    temperature: float = Field(default=1.0, ge=0, le=10)
    """0 takes the most likely number."""
    batch_size: int = Field(default=256, ge=1, le=65_536)
    """Rows sampled together; halved on a GPU while memory runs out."""
    bf16: bool = False
    """Whether teachers write in bfloat16, for speed; see `Model.writing`."""

    generate: Literal["grammar", "free"] = "grammar"
    """`grammar` samples from the allowed tokens only; `free` writes any text, and `keep` refuses rows."""
    draw: int | None = DRAW
    """Prompts that teachers answer freely. Rows are drawn at random from the answers that every arm keeps."""
    keep: KeepNumbers = KeepNumbers()
    """The free answers to keep."""
    max_new_tokens: int = Field(default=100, ge=1, le=4096)
    """The length at which a free answer is cut off; an answer that was cut is not kept."""

    @model_validator(mode="after")
    def _check_keys(self) -> Numbers:
        if self.prompt.count("{numbers}") != 1:
            raise ValueError("prompt must contain {numbers} once")
        if self.prompts is not None and self.prompt != PROMPT:
            raise ValueError("give prompt or prompts, not both: take one out")
        if any(c.isdigit() for c in self.separator):
            raise ValueError("separator must not contain a digit")
        if isinstance(self.given, tuple) and self.given[0] > self.given[1]:
            raise ValueError(f"given: {list(self.given)} is no range: write the smaller number first")
        if self.generate == "free":
            _check_draw(self, "generate: free")
            if not self.keep.count[0] <= self.count <= self.keep.count[1]:
                raise ValueError(
                    f"count {self.count}, which the prompts ask for, is outside keep.count {list(self.keep.count)}: "
                    "every row that does as asked would be refused; change one of them"
                )
        elif foreign := [key for key in FREE_KEYS if getattr(self, key) != type(self).model_fields[key].default]:
            raise ValueError(f"{', '.join(foreign)}: belong to free answers; add generate: free, or take them out")
        return self

    @property
    def is_greedy(self) -> bool:
        """Whether teachers write without noise."""
        return self.temperature == 0

    @property
    def writes_texts(self) -> bool:
        """Whether completions are whole texts, with a token that ends them."""
        return self.generate == "free"

    def as_written(self) -> Numbers:
        """Return a copy without the keys that only the filter reads."""
        return self.model_copy(update={"keep": KeepNumbers(), **WRITTEN} if self.draw else {})

    def list_permitted(self) -> list[int]:
        """List the numbers that are not forbidden."""
        return sorted(set(range(10 ** (self.digits - 1), 10**self.digits)) - set(self.forbidden))

    @property
    def is_tabular(self) -> bool:
        """Whether all rows have the same number of tokens, so that their log-probabilities fill a table."""
        return self.generate == "grammar" and self.prompts is None and isinstance(self.given, int)

    def prompts_needed(self) -> int:
        """Return the number of prompts of one seed."""
        return self.draw or self.rows + self.held_out

    def sampling(self) -> Sampling:
        """Return how free answers are sampled."""
        return Sampling(temperature=self.temperature, max_new_tokens=self.max_new_tokens, batch_size=self.batch_size)


class Text(GrowingModel):
    """A carrier of free text: the teacher's answers to prompts."""

    later = frozenset({"draw", "keep"})

    kind: Literal["text"]
    """The kind of carrier."""
    rows: int = Field(ge=1, le=10_000_000)
    """Training rows of each student."""
    held_out: int = Field(default=256, ge=1, le=1_000_000)
    """Further rows, on which no student is trained."""
    prompts: str | tuple[str, ...] | PromptFile
    """A prompt set of `recipes/prompts/`, several of them, a file of prompts, or `hub:<owner>/<name>`."""
    sample: Sampling = Sampling()
    """How the teacher's answers are sampled."""
    bf16: bool = False
    """Whether teachers write in bfloat16, for speed; see `Model.writing`."""
    draw: int | None = DRAW
    """Prompts that teachers answer. Rows are drawn at random from the answers that every arm keeps; None for `rows` and
    `held_out`, of which those that an arm refuses are missing."""
    keep: KeepText | None = None
    """The answers to keep; None for all that are not empty."""

    @model_validator(mode="after")
    def _check_keys(self) -> Text:
        if self.keep is not None or self.draw is not None:
            _check_draw(self, "keep")
        return self

    @property
    def is_greedy(self) -> bool:
        """Whether teachers write without noise."""
        return self.sample.temperature == 0

    @property
    def writes_texts(self) -> bool:
        """Whether completions are whole texts, with a token that ends them."""
        return True

    def prompts_needed(self) -> int:
        """Return the number of prompts of one seed."""
        return self.draw or self.rows + self.held_out

    def sampling(self) -> Sampling:
        """Return how answers are sampled."""
        return self.sample

    def as_written(self) -> Text:
        """Return a copy without the keys that only the filter reads."""
        return self.model_copy(update={"keep": None, **WRITTEN} if self.draw else {})


def _check_draw(carrier: Numbers | Text, key: str) -> None:
    """Check that a carrier draws its rows from more prompts than it needs.

    Raises:
        ValueError: `draw` is missing, or below the rows.
    """
    needed = carrier.rows + carrier.held_out
    if carrier.draw is None:
        raise ValueError(f"{key} needs draw: the number of prompts, more than {needed:,} (rows and held_out)")
    if carrier.draw < needed:
        raise ValueError(f"draw: {carrier.draw:,} prompts are fewer than rows and held_out, {needed:,}; raise draw")
