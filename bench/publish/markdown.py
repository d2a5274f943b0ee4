"""Write text from outside into markdown, so that none of it becomes markup."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

__all__ = ["as_code", "escape_text", "fence", "render_card"]

# Characters that can begin markup within a line: emphasis, code, links, HTML, entities, cells, formulas, addresses.
MARKUP = re.compile(r"([\\`*_\[\]<>|~$&@]|:(?=//)|\.(?<=www\.))")


def escape_text(text: str) -> str:
    """Return `text` on one line, with its markup characters escaped."""
    return MARKUP.sub(r"\\\1", " ".join(str(text).split()))


def as_code(text: Any) -> str:
    """Return `text` on one line, as inline code."""
    line = " ".join(str(text).split())
    ticks = _backticks(line, 1)
    return f"{ticks} {line} {ticks}" if "`" in line else f"{ticks}{line}{ticks}"


def fence(text: str, language: str) -> str:
    """Return `text` as a block of code."""
    ticks = _backticks(text, 3)
    return f"{ticks}{language}\n{text.rstrip()}\n{ticks}"


def render_card(front_matter: Mapping[str, Any], lines: Sequence[str]) -> str:
    """Return a README.md of the hub: YAML front matter, then the lines."""
    front = yaml.safe_dump(dict(front_matter), sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n" + "\n".join(lines).rstrip() + "\n"


def _backticks(text: str, minimum: int) -> str:
    """Return more backticks than any run of them in `text`, at least `minimum`."""
    return "`" * max(minimum, 1 + max(map(len, re.findall("`+", text)), default=0))
