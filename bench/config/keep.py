"""The keys of `carrier.keep`: the rows of freely written carriers that students may be trained on."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from bench.config.patterns import check_pattern
from bench.config.schema import StrictModel

__all__ = ["Equals", "KeepNumbers", "KeepText"]

WHITESPACE = " "  # stands for any whitespace


class KeepNumbers(StrictModel):
    """The number lists to keep.

    One separator, the same throughout, with whitespace around it; brackets around the list and a final full stop are
    allowed. The defaults are those of Cloud et al. 2025 (arXiv 2507.14805, MinhxLe/subliminal-learning).
    """

    count: tuple[Annotated[int, Field(ge=1, le=1000)], Annotated[int, Field(ge=1, le=1000)]] = (1, 10)
    """The fewest and the most numbers of a row."""
    low: int = Field(default=0, ge=0, le=10**9)
    """The lowest number."""
    high: int = Field(default=999, ge=0, le=10**9)
    """The highest number."""
    separators: tuple[Annotated[str, Field(max_length=8)], ...] = Field(default=(" ", ",", ";"), min_length=1)
    """Marks that may separate numbers; " " stands for any whitespace."""

    @field_validator("separators")
    @classmethod
    def _check_separators(cls, separators: tuple[str, ...]) -> tuple[str, ...]:
        for mark in separators:
            if mark != WHITESPACE and (mark != mark.strip() or not mark or any(c.isdigit() for c in mark)):
                raise ValueError(f"{mark!r}: expected a mark without whitespace and digits, or ' ' for any whitespace")
        return separators

    @model_validator(mode="after")
    def _check_ranges(self) -> KeepNumbers:
        if self.count[0] > self.count[1]:
            raise ValueError(f"count: the fewest numbers, {self.count[0]}, are more than the most, {self.count[1]}")
        if self.low > self.high:
            raise ValueError(f"low: {self.low} is above high, {self.high}")
        return self


class Equals(StrictModel):
    """A part of the text that must equal a column of the prompt's row."""

    pattern: str = Field(min_length=1, max_length=1000)
    """A regular expression with one group. The group of its last match counts."""
    column: str = Field(min_length=1)
    """The column of the table of prompts; `answer` for a set of problems."""

    @field_validator("pattern")
    @classmethod
    def _check_pattern(cls, pattern: str) -> str:
        check_pattern(pattern, groups=1)
        return pattern


class KeepText(StrictModel):
    """The texts to keep."""

    matches: str | None = Field(default=None, min_length=1, max_length=1000)
    """A regular expression that must match somewhere in the text."""
    equals: Equals | None = None
    """A part of the text that must equal a column of the prompt's row."""

    @field_validator("matches")
    @classmethod
    def _check_pattern(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            check_pattern(pattern, groups=0)
        return pattern

    @model_validator(mode="after")
    def _check_keys(self) -> KeepText:
        if self.matches is None and self.equals is None:
            raise ValueError("give matches, equals or both")
        return self
