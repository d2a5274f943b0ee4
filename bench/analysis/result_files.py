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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, Field, ValidationError

from bench.analysis.audit_report import render_audit
from bench.analysis.registry import FILE as REGISTRY
from bench.analysis.registry import Registration, read_registry
from bench.analysis.result_schema import ArmResult, AuditFile, ExperimentResults, RegistrationFile, check_fit
from bench.config.arms import ArmName, parse_arm
from bench.config.recipe import SCHEMA, Experiment
from bench.files import write_atomically
from bench.pipeline.plan import Plan, ResultSpec
from bench.pipeline.store import Store

__all__ = [
    "audit_suffix",
    "find_other_cells",
    "read_content",
    "read_results",
    "seal_content",
    "write_recipe_file",
    "write_results",
]

SEAL = re.compile(rb'\{\n "sha256": "([0-9a-f]{64})",')
HASH_DIGITS = 12  # of a recipe hash, with which every file name begins
F = TypeVar("F", RegistrationFile, ArmResult, AuditFile)


def seal_content(content: dict[str, Any]) -> str:
    """Render a result file. Its first key is the SHA-256 of the bytes that follow; equal content gives equal bytes."""
    rest = _render(content).removeprefix("{") + "\n"
    return f'{{\n "sha256": "{hashlib.sha256(rest.encode()).hexdigest()}",{rest}'


def _render(value: Any, indent: str = "\n") -> str:
    """Render JSON with one key on a line, and the numbers or texts of one list (one question) on one line."""
    deeper = indent + " "
    if isinstance(value, dict) and value:
        lines = [f"{json.dumps(key, ensure_ascii=False)}: {_render(value[key], deeper)}" for key in sorted(value)]
        return f"{{{deeper}{f',{deeper}'.join(lines)}{indent}}}"
    if isinstance(value, list) and any(isinstance(item, list | dict) for item in value):
        return f"[{deeper}{f',{deeper}'.join(_render(item, deeper) for item in value)}{indent}]"
    return json.dumps(value, ensure_ascii=False)


def read_content(path: Path) -> dict[str, Any]:
    """Read a result file as plain data, without its checksum: what `seal_content` was given.

    Raises:
        OSError, ValueError: it is not readable, or its checksum does not match.
    """
    content = json.loads(_read_checked(path))
    del content["sha256"]
    return dict(content)


class _Head(BaseModel):
    schema_version: int = Field(alias="schema")


def _read_checked(path: Path) -> bytes:
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


def _read_as(kind: type[F], path: Path) -> F:
    """Read and check one result file.

    Raises:
        OSError, ValueError: it is not readable, was changed, breaks the schema, or has the name of another file.
    """
    content = kind.model_validate_json(_read_checked(path))
    if path.parent.name != content.recipe:
        raise ValueError("its folder is not that of its recipe")
    if not path.name.startswith(content.recipe_hash):
        raise ValueError("its name is not that of its content")
    return content


def _describe(error: Exception) -> str:
    """Describe an error in one short line."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        return f"{key}: {first['msg']}"[:200] if key else first["msg"].removeprefix("Value error, ")[:200]
    return " ".join(str(error).split())[:200]


Makers = set[tuple[str, str]]  # ("commit", commit) and (library, version)


def _makers(plan: Plan, store: Store, key: str, known: dict[str, Makers]) -> Makers:
    """The code that made `key` and everything it was made from; none if one of them is not there."""
    if key not in known:
        made = [_makers(plan, store, ref.identity, known) for ref in plan.stages[key].inputs.values() if not ref.folder]
        known[key] = set()
        if store.is_done(key) and all(made):
            record = store.record(key)
            own = {("commit", record["commit"]), *record.get("versions", {}).items()}  # earlier code recorded none
            known[key] = own.union(*made)
    return known[key]


def _by_name(makers: Makers) -> dict[str, list[str]]:
    names = {name for name, _ in makers}
    return {name: sorted(version for other, version in makers if other == name) for name in sorted(names)}


def _manifest(store: Store, cell: ResultSpec, makers: Makers) -> dict[str, Any]:
    asked = store.record(cell.evaluation)
    selected = store.record(cell.filtering)["did"]
    trained = store.record(cell.training)["did"] if cell.training else None
    made_with = _by_name(makers)
    return {
        "commits": made_with.pop("commit"),
        "versions": {name: ", ".join(versions) for name, versions in made_with.items()},
        "checkpoints": cell.checkpoints,
        "hardware": asked["hardware"],
        "processor_features": asked["processor_features"],
        "threads": asked["threads"],
        "format": asked["did"]["format"],
        "logprobs_dtype": asked["did"]["logprobs_dtype"],
        "training": trained,
        "carrier": selected,
        "artefacts": {"asked": cell.evaluation, "trained": cell.training},
    }


def write_recipe_file(experiment: Experiment, registration: Registration, folder: Path) -> Path:
    """Write `<hash>.recipe.json` into its folder of a results folder; returns its path."""
    content = {
        "schema": SCHEMA,
        "recipe": experiment.name,
        "recipe_hash": experiment.hash(),
        "experiment": experiment.resolved(),
        "registration": registration.model_dump(mode="json"),
    }
    path = folder / experiment.name / f"{experiment.hash()}.recipe.json"
    write_atomically(path, seal_content(content))
    return path


def write_results(
    experiment: Experiment,
    registration: Registration,
    plan: Plan,
    store: Store,
    folder: Path,
    controls: dict[str, Any] | str | None,
    notice: Callable[[str], None] = print,
) -> list[Path]:
    """Write the result file of every cell whose stages are done; returns the paths, in the plan's order.

    A cell with other readings, or of other artefacts, is not replaced: it is another measurement.

    Args:
        registration: the terms that are in force; written where the recipe file is missing or damaged.
        controls: the verdicts of the controls on this installation, `self` for a control, None where they were skipped.
        notice: takes a line for each damaged result file, which is written again, and about cells that are kept.
    """
    name, mark = experiment.name, experiment.hash()
    row_folder = folder / name
    for path in sorted(row_folder.glob(f"{mark}*.json")):
        try:
            _read_checked(path)
        except (OSError, ValueError) as error:
            notice(f"damaged: {path}: {_describe(error)}; made again")
            path.unlink(missing_ok=True)
    recipe_file = row_folder / f"{mark}.recipe.json"
    if not recipe_file.is_file():
        write_recipe_file(experiment, registration, folder)
    paths, texts, kept = [recipe_file], [recipe_file.read_text(encoding="utf-8")], []
    known: dict[str, Makers] = {}
    for cell in plan.results:
        needed = [key for key in (cell.evaluation, cell.scores, cell.filtering, cell.relation, cell.training) if key]
        chains = [_makers(plan, store, key, known) for key in needed]
        if not all(chains):
            continue
        makers = set().union(*chains)
        content = {
            "schema": SCHEMA,
            "recipe": name,
            "recipe_hash": mark,
            "seed": cell.seed,
            "arm": cell.arm,
            "reading": json.loads((store.path(cell.evaluation) / "reading.json").read_text(encoding="utf-8")),
            "relation": json.loads((store.path(cell.relation) / "relation.json").read_text(encoding="utf-8")),
            "manifest": {**_manifest(store, cell, makers), "controls": controls},
        }
        if cell.scores:
            content["scores"] = json.loads((store.path(cell.scores) / "scores.json").read_text(encoding="utf-8"))
        path = row_folder / f"{mark}-{cell.seed:04d}-{cell.arm}.json"
        if _is_other(path, content):
            kept.append(path)
            continue
        paths.append(path)
        texts.append(seal_content(content))
    for arm, key in plan.audits.items():
        if not store.is_done(key):
            continue
        audit = json.loads((store.path(key) / "audit.json").read_text(encoding="utf-8"))
        content = {"schema": SCHEMA, "recipe": name, "recipe_hash": mark, "audit": audit}
        carriers = {cell.seed: store.record(cell.filtering)["did"] for cell in plan.results}
        file = f"{mark}.{audit_suffix(arm)}"
        paths += [row_folder / f"{file}.json", row_folder / f"{file}.md"]
        texts += [seal_content(content), render_audit(name, mark, audit, carriers)]
    if kept:
        notice(
            f"{kept[0]} and {len(kept) - 1} more: kept; this run's readings differ from them. To keep both, take "
            "another --results folder"
        )
    for path, text in zip(paths, texts, strict=True):
        write_atomically(path, text)
    return paths


def audit_suffix(arm: str) -> str:
    """The part of an audit's file name after the hash: `audit`, or with several traits `audit-<trait>`."""
    return str(parse_arm(arm)._replace(kind="audit"))


def find_other_cells(experiment: Experiment, plan: Plan, folder: Path) -> list[ArmResult]:
    """List the cells of a row that other libraries, weights or code made. Damaged files are left out."""
    asked = {(cell.seed, cell.arm): cell.evaluation for cell in plan.results}
    others = []
    for path in sorted((folder / experiment.name).glob(f"{experiment.hash()}-*.json")):
        with suppress(OSError, ValueError):
            cell = _read_as(ArmResult, path)
            if cell.manifest.artefacts["asked"] != asked.get((cell.seed, cell.arm)):
                others.append(cell)
    return others


def _is_other(path: Path, content: dict[str, Any]) -> bool:
    """Whether a sound cell has other readings than `content`, or is of other artefacts."""
    try:
        _read_as(ArmResult, path)
        old = read_content(path)
    except (OSError, ValueError):
        return False
    return any(old.get(key) != content.get(key) for key in ("reading", "relation", "scores")) or (
        old["manifest"]["artefacts"] != content["manifest"]["artefacts"]
    )


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the search for cycles off what is read: it has none, and for 10,000 files the search took .5 of 3.2 s."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was:
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
            registered = _read_as(RegistrationFile, path)
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
            cell = _read_as(ArmResult, path)
            if path.name != f"{cell.recipe_hash}-{cell.seed:04d}-{cell.arm}.json":
                raise ValueError("its name is not that of its content")
            row = _row_of(cell, rows)
            check_fit(cell, row)
            row.cells.setdefault(cell.seed, {})[cell.arm] = cell
    for path in audits:
        if path.name[:HASH_DIGITS] in unregistered:
            continue
        with _refusing(path, refused):
            file = _read_as(AuditFile, path)
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
        refused.append(f"{path}: refused: {_describe(error)}")


def _row_of(file: ArmResult | AuditFile, rows: dict[tuple[str, str], ExperimentResults]) -> ExperimentResults:
    """Return the experiment that a file belongs to; raises ValueError where it is not registered."""
    row = rows.get((file.recipe, file.recipe_hash))
    if row is None:
        raise ValueError("its recipe file is missing")
    return row
