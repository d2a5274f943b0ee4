"""The key `sweep` of a recipe: lists of values, of which every combination is a row."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from bench.config.changes import flatten
from bench.config.claims import NOT_INHERITED
from bench.config.schema import clip_line
from bench.config.yaml_files import Layer
from bench.errors import UserError

__all__ = ["describe_sweep", "drop_overridden", "list_combinations", "nest", "read_sweep", "write_assignments"]

MAX_ROWS = 1000

Combination = Mapping[str, Any]  # dotted key -> value


def read_sweep(sweep: Any, source: str) -> dict[str, list[Any]]:
    """Return the values of each swept key, by its dotted name.

    Args:
        sweep: the key `sweep` of a recipe: dotted or nested keys with lists of values; None for none.
        source: the file or flag that errors name.

    Raises:
        UserError: a value is no list, a list is empty or holds a value twice, two keys overlap, or there are too many
            combinations.
    """
    if not isinstance(sweep, dict | None):
        text = clip_line(repr(sweep), 80)
        raise UserError(f"{source}: key 'sweep': expected keys with lists of values, found {text}")
    values: dict[str, list[Any]] = {}
    for key, value in flatten(sweep or {}):
        name = f"{source}: key 'sweep.{clip_line(key, 80)}'"
        if not isinstance(value, list) or not value:
            raise UserError(f"{name}: expected a list of values, found {clip_line(repr(value), 80)}")
        texts = [json.dumps(item, sort_keys=True) for item in value]
        if len(set(texts)) < len(texts):
            raise UserError(f"{name}: expected different values, found {clip_line(', '.join(texts), 80)}; take one out")
        if other := next((k for k in values if f"{k}.".startswith(f"{key}.") or f"{key}.".startswith(f"{k}.")), None):
            raise UserError(f"{name}: overlaps with 'sweep.{clip_line(other, 80)}'; take one out")
        values[key] = value
    if (rows := math.prod(map(len, values.values()))) > MAX_ROWS:
        raise UserError(f"{source}: key 'sweep': expected at most {MAX_ROWS:,} rows, found {rows:,}; shorten its lists")
    return values


def drop_overridden(layers: Sequence[Layer]) -> list[Layer]:
    """Take the keys that a later file states, and the claims that recipes do not inherit, out of inherited sweeps.

    Args:
        layers: a recipe's files, its own the last.
    """

    def drop(sweep: Mapping[str, Any], later: Sequence[Layer], prefix: str = "") -> dict[str, Any]:
        keys: dict[str, Any] = {}
        for key, value in sweep.items():
            name = f"{prefix}{key}"
            if isinstance(value, dict) and value:
                if inner := drop(value, later, f"{name}."):
                    keys[key] = inner
            elif name.split(".")[0] not in NOT_INHERITED and not any(_states(layer.keys, name) for layer in later):
                keys[key] = value
        return keys

    *inherited, last = layers
    dropped = [
        Layer(folder, {**keys, "sweep": drop(keys["sweep"], layers[at:])})
        if isinstance(keys.get("sweep"), dict)
        else Layer(folder, keys)
        for at, (folder, keys) in enumerate(inherited, 1)
    ]
    return [*dropped, last]


def list_combinations(values: Mapping[str, Sequence[Any]], changes: Sequence[Mapping[str, Any]]) -> list[Combination]:
    """Return every combination of a sweep; one without keys where there is none.

    Args:
        values: the result of `read_sweep`.
        changes: those of the command line, as nested keys. A key that one of them states is not swept.
    """
    swept = {key: of_key for key, of_key in values.items() if not any(_states(change, key) for change in changes)}
    return [dict(zip(swept, chosen, strict=True)) for chosen in itertools.product(*swept.values())]


def nest(combination: Combination) -> dict[str, Any]:
    """Return the nested keys of a combination."""
    keys: dict[str, Any] = {}
    for key, value in combination.items():
        *parents, last = key.split(".")
        at = keys
        for part in parents:
            at = at.setdefault(part, {})
        at[last] = value
    return keys


def write_assignments(values: Mapping[str, Any]) -> list[str]:
    """Return the values of `--set` that give keys these values, or choose one row of a sweep."""
    return [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]


def describe_sweep(values: Mapping[str, Sequence[Any]]) -> str:
    """Describe a sweep in one line: 4 rows: trait (wolf, owl) x carrier.rows (512, 2048)."""
    keys = " x ".join(f"{key} ({', '.join(clip_line(str(v), 40) for v in of_key)})" for key, of_key in values.items())
    return f"{math.prod(map(len, values.values()))} rows: {keys}"


def _states(change: Mapping[str, Any], key: str) -> bool:
    """Whether a change states a key, or replaces a key above it."""
    value: Any = change
    for part in key.split("."):
        if not isinstance(value, dict):
            return True
        if part not in value:
            return False
        value = value[part]
    return True
