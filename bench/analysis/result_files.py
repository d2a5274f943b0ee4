"""Result files: `<results>/<recipe>/<hash>.recipe.json`, one `<hash>-<seed>-<arm>.json` per cell, and the leak audit
(`<hash>.audit.json`, and `.audit.md` to read; with several traits `<hash>.audit-<trait>`).

They hold per-question readings and a manifest, and nothing that differs between two equal runs (no times, no host
names), so that the same run writes the same bytes. The first key of each is `sha256`, the checksum of all bytes that
follow its line, so that a file is checked without rendering it again.
"""

from __future__ import annotations

import gc
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, Field, ValidationError

from bench.analysis.registry import FILE as REGISTRY
from bench.analysis.registry import read_registry
from bench.analysis.result_schema import ArmResult, AuditFile, ExperimentResults, RegistrationFile, check_fit
from bench.config.arms import ArmName, parse_arm
from bench.config.recipe_files import SCHEMA

__all__ = ["audit_suffix", "describe_error", "read_as", "read_content", "read_results", "read_sealed", "seal_content"]

SEAL = re.compile(rb'\{\n "sha256": "([0-9a-f]{64})",')
HASH_DIGITS = 12  # of a recipe hash, with which every file name begins
F = TypeVar("F", RegistrationFile, ArmResult, AuditFile)


def seal_content(content: dict[str, Any]) -> str:
    """Render a result file. Its first key is the SHA-256 of the bytes that follow; equal content gives equal bytes."""
    rest = _render(content).removeprefix("{") + "\n"
    return f'{{\n "sha256": "{hashlib.sha256(rest.encode()).hexdigest()}",{rest}'


_encode = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps builds an encoder for each value


def _render(value: Any, indent: str = "\n") -> str:
    """Render JSON with one key on a line, and the numbers or texts of one list (one question) on one line."""
    deeper = indent + " "
    if isinstance(value, dict) and value:
        lines = [f"{_encode(key)}: {_render(value[key], deeper)}" for key in sorted(value)]
        return f"{{{deeper}{f',{deeper}'.join(lines)}{indent}}}"
    if isinstance(value, list) and not {list, dict}.isdisjoint(map(type, value)):
        return f"[{deeper}{f',{deeper}'.join(_render(item, deeper) for item in value)}{indent}]"
    return _encode(value)


def read_content(path: Path) -> dict[str, Any]:
    """Read a result file as plain data, without its checksum: what `seal_content` was given.

    Raises:
        OSError, ValueError: it is not readable, or its checksum does not match.
    """
    content = json.loads(read_sealed(path))
    del content["sha256"]
    return dict(content)


class _Head(BaseModel):
    schema_version: int = Field(alias="schema")


def read_sealed(path: Path) -> bytes:
    """Read a result file whose checksum matches."""
    data = path.read_bytes()
    sealed = SEAL.match(data)
    if sealed is None:
        with suppress(ValidationError):
            version = _Head.model_validate_json(data).schema_version
            if version != SCHEMA:
                raise ValueError(f"schema {version}, expected {SCHEMA}: run its recipe again")
        raise ValueError("it does not begin with its checksum")
    if hashlib.sha256(memoryview(data)[sealed.end() :]).hexdigest().encode() != sealed[1]:
        raise ValueError("checksum mismatch: its content was changed")
    return data


def read_as(kind: type[F], path: Path) -> F:
    """Read and check one result file.

    Raises:
        OSError, ValueError: it is not readable, was changed, breaks the schema, or has the name of another file.
    """
    content = kind.model_validate_json(read_sealed(path))
    if path.parent.name != content.recipe:
        raise ValueError("its folder is not that of its recipe")
    if not path.name.startswith(content.recipe_hash):
        raise ValueError("its name is not that of its content")
    return content


def describe_error(error: Exception) -> str:
    """Describe an error in one short line."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        return f"{key}: {first['msg']}"[:200] if key else first["msg"].removeprefix("Value error, ")[:200]
    return " ".join(str(error).split())[:200]


def audit_suffix(arm: str) -> str:
    """The part of an audit's file name after the hash: `audit`, or with several traits `audit-<trait>`."""
    return str(parse_arm(arm)._replace(kind="audit"))


@contextmanager
def _uncollected() -> Iterator[None]:
    """Pause the garbage collector: files have no reference cycles. For 10,000 files it took .5 of 3.2 s."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


@_uncollected()
def read_results(folder: Path, recipe_hash: str = "") -> tuple[list[ExperimentResults], list[str]]:
    """Read the registered experiments under `folder`, by name and hash, and a line for each fault.

    An experiment whose registration is not in the folder's registry is refused with its cells, in one line.

    Args:
        folder: the results folder.
        recipe_hash: of the experiment to read; empty for all.
    """
    rows: dict[tuple[str, str], ExperimentResults] = {}
    registry = read_registry(folder)
    refused = list(registry.problems)
    entries, unregistered = set(registry.entries), set()
    recipe_files, audits, cells = _list_files(folder, recipe_hash)
    for path in recipe_files:
        with _refusing(path, refused):
            registered = read_as(RegistrationFile, path)
            if path.name != f"{registered.recipe_hash}.recipe.json":
                raise ValueError("its name is not that of its content")
            if registered.registration not in entries:
                unregistered.add(registered.recipe_hash)
                state = "does not hold its registration" if (folder / REGISTRY).is_file() else "is missing"
                raise ValueError(f"{folder / REGISTRY} {state}; its result files are left out")
            looks = registry.looks(registered.recipe_hash)
            rows[registered.recipe, registered.recipe_hash] = ExperimentResults.of(registered, looks)
    for path in cells:
        if path.name[:HASH_DIGITS] in unregistered:
            continue
        with _refusing(path, refused):
            cell = read_as(ArmResult, path)
            if path.name != f"{cell.recipe_hash}-{cell.seed:04d}-{cell.arm}.json":
                raise ValueError("its name is not that of its content")
            row = _row_of(cell, rows)
            check_fit(cell, row)
            row.cells.setdefault(cell.seed, {})[cell.arm] = cell
    for path in audits:
        if path.name[:HASH_DIGITS] in unregistered:
            continue
        with _refusing(path, refused):
            file = read_as(AuditFile, path)
            trait = path.stem.partition(".")[2].partition("-")[2]
            _row_of(file, rows).audits[str(ArmName("trait", trait))] = file.audit
    return [rows[key] for key in sorted(rows)], sorted(refused)


def _list_files(folder: Path, recipe_hash: str) -> tuple[list[Path], list[Path], list[Path]]:
    """List the recipe files, the audits and the cells under `folder`; other JSON files count as cells."""
    recipe_files: list[Path] = []
    audits: list[Path] = []
    cells: list[Path] = []
    for path in sorted(folder.glob(f"*/{recipe_hash}*.json"), key=str):  # paths compare slowly
        ending = path.name[HASH_DIGITS:]
        if ending == ".recipe.json":
            recipe_files.append(path)
        elif ending.startswith(".audit"):
            audits.append(path)
        elif path.name != "leaderboard.json":  # of results/local/, a folder of results inside another
            cells.append(path)
    return recipe_files, audits, cells


@contextmanager
def _refusing(path: Path, refused: list[str]) -> Iterator[None]:
    """Add a line to `refused` where reading `path` fails."""
    try:
        yield
    except (OSError, ValueError) as error:
        refused.append(f"{path}: refused: {describe_error(error)}")


def _row_of(file: ArmResult | AuditFile, rows: dict[tuple[str, str], ExperimentResults]) -> ExperimentResults:
    """Return the experiment that a file belongs to; raises ValueError where it is not registered."""
    row = rows.get((file.recipe, file.recipe_hash))
    if row is None:
        raise ValueError("its recipe file is missing")
    return row
