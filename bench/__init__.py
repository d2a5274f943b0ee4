"""Does a student model inherit a trait that its training data never mentions? Recipes, controls, verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.api import Results, load_results, run

__all__ = ["Results", "load_results", "run"]


def __getattr__(name: str) -> Any:
    """Import the public names when they are used, so that the command starts without pandas."""
    if name in __all__:
        from bench import api

        return getattr(api, name)
    raise AttributeError(f"module 'bench' has no attribute {name!r}; its public names are {', '.join(__all__)}")
