"""The keys in which a row differs from its recipe, and the label of the row."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.config.schema import clip_line

__all__ = ["find_changes", "flatten", "get_key", "label_row", "name_key", "value_text", "write_command"]

TEXT_WIDTH = 24  # characters of one value in a label


def flatten(keys: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Iterate over the values of nested keys with their dotted names."""
    for key, value in keys.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def get_key(keys: Mapping[str, Any], name: str) -> Any:
    """Return the value at a dotted name; None where there is none."""
    value: Any = keys
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def find_changes(
    own: Mapping[str, Any], changes: Sequence[Mapping[str, Any]], recipe: Mapping[str, Any], stated: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the keys that `changes` give another value than the recipe's file, by dotted name.

    Args:
        own: the keys of the recipe's file, with those of its `from:`.
        changes: those of a sweep and of the command line, as nested keys.
        recipe: all keys of the row, with defaults.
        stated: those that are not their default.
    """
    names = dict.fromkeys(name for change in changes for name, _ in flatten(change))
    values = {name: get_key(recipe, name) for name in names}
    before = {name: get_key(own, name) for name in names}
    return {
        name: value
        for name, value in values.items()
        if value != before[name] and not (before[name] is None and get_key(stated, name) is None)
    }


def label_row(recipe: str, changes: Mapping[str, Any]) -> str:
    """Return the label of a row: the recipe's name, and what differs from it, as in `tiny_pair  lr 5e-4`."""
    texts = [f"{name_key(key)} {value_text(value)}" for key, value in sorted(changes.items())]
    return "  ".join([recipe, ", ".join(texts)]) if texts else recipe


def write_command(recipe: str, overrides: Sequence[str] = (), seeds: int | None = None) -> str:
    """Return the command that runs a recipe, quoted for a shell.

    Args:
        recipe: the name of the recipe, or its path.
        overrides: the values of `--set`.
        seeds: the value of `--seeds`; None for the recipe's own.
    """
    count = [] if seeds is None else ["--seeds", str(seeds)]
    changes = [word for change in overrides for word in ("--set", change)]
    return shlex.join(["python", "run_bench.py", "--recipe", recipe, *count, *changes])


def name_key(key: str) -> str:
    """Return the short name of a dotted key: `lr` for student.train.learning_rate, `teacher lr`, `rows`."""
    parts = key.removeprefix("student.train.").removeprefix("carrier.").split(".")
    names = {"learning_rate": "lr", "num_train_epochs": "epochs", "max_steps": "updates"}
    return " ".join(names.get(part, part) for part in parts if part != "train" or len(parts) == 1)


def value_text(value: Any) -> str:
    """Return a value for a label or a table, in one short line: 5e-4, 2048, wolf, none."""
    if isinstance(value, bool) or value is None:
        return "none" if value is None else str(value).lower()
    if isinstance(value, float):
        mantissa, _, exponent = f"{value:e}".partition("e")
        brief = f"{float(mantissa):g}e{int(exponent)}"
        return min(f"{value:g}", brief, key=len)
    if isinstance(value, list | tuple):
        value = ", ".join(map(value_text, value)).join("[]")
    elif isinstance(value, Mapping):
        value = ", ".join(f"{name_key(key)} {value_text(inner)}" for key, inner in value.items()).join("{}")
    return clip_line(str(value), TEXT_WIDTH).replace("|", "/")
