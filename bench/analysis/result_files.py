"""Result files: `<results>/<recipe>/<hash>.recipe.json`, one `<hash>-<seed>-<arm>.json` per cell, and the leak audit
(`<hash>.audit.json`, and `.audit.md` to read; with several traits `<hash>.audit-<trait>`).

They hold per-question readings and a manifest, and nothing that differs between two equal runs (no times, no host
names), so that the same run writes the same bytes. Each carries the SHA-256 of its own content.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bench.analysis.audit_report import render_audit
from bench.analysis.result_schema import (
    ExperimentResults,
    check_audit,
    check_cell,
    check_experiment,
    check_registered,
    questions_asked,
)
from bench.config.arms import ArmName, parse_arm
from bench.config.recipe import Experiment
from bench.errors import UserError
from bench.files import sha256_of, write_atomically
from bench.pipeline.plan import Plan, ResultSpec
from bench.pipeline.store import Store

__all__ = ["audit_suffix", "read_results", "seal_content", "write_results"]

SCHEMA = 1
# What reading a result file that is not what it should be may raise.
BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, UserError)


def seal_content(content: dict[str, Any]) -> str:
    """Render a result file with the SHA-256 of its content under `sha256`."""
    sealed = {**content, "sha256": sha256_of(content)}
    return json.dumps(sealed, sort_keys=True, ensure_ascii=False, indent=1) + "\n"


def _why(error: Exception) -> str:
    message = f"no key {error}" if isinstance(error, KeyError) else str(error)
    return " ".join(message.split())[:200]


def _unsealed(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_bytes().decode())
    if content.pop("sha256", None) != sha256_of(content):
        raise ValueError("its content is not what its checksum says")
    if content.get("schema") != SCHEMA:
        raise ValueError(f"schema {content.get('schema')!r}, expected {SCHEMA}")
    return dict(content)


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
        "margins_dtype": asked["did"]["margins_dtype"],
        "training": trained,
        "carrier": selected,
        "artefacts": {"asked": cell.evaluation, "trained": cell.training},
    }


def write_results(
    experiment: Experiment,
    plan: Plan,
    store: Store,
    folder: Path,
    controls: dict[str, Any] | str | None,
    notice: Callable[[str], None] = print,
) -> list[Path]:
    """Write the result file of every cell whose stages are done; returns the paths, in the plan's order.

    Args:
        controls: the verdicts of the controls on this installation, `self` for a control, None where they were skipped.
        notice: is told of each result file that was damaged, and is made again.
    """
    name, mark = experiment.name, experiment.hash()
    row_folder = folder / name
    for path in sorted(row_folder.glob(f"{mark}*.json")):
        try:
            _unsealed(path)
        except BROKEN as error:
            notice(f"damaged: {path}: {_why(error)}; made again")
            path.unlink(missing_ok=True)
    registered = {"schema": SCHEMA, "recipe": name, "recipe_hash": mark, "experiment": experiment.resolved()}
    paths = [row_folder / f"{mark}.recipe.json"]
    texts = [seal_content(registered)]
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
        paths.append(row_folder / f"{mark}-{cell.seed:04d}-{cell.arm}.json")
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
    _remove_others(row_folder, mark, {(cell.seed, cell.arm): cell.evaluation for cell in plan.results})
    for path, text in zip(paths, texts, strict=True):
        write_atomically(path, text)
    return paths


def audit_suffix(arm: str) -> str:
    """The part of an audit's file name after the hash: `audit`, or with several traits `audit-<trait>`."""
    return str(parse_arm(arm)._replace(kind="audit"))


def _remove_others(row_folder: Path, mark: str, asked: dict[tuple[int, str], str]) -> None:
    """Remove cells of this row that other libraries, weights or code made: a seed must not mix two of them."""
    for path in row_folder.glob(f"{mark}-*.json"):
        with suppress(*BROKEN):
            cell = _unsealed(path)
            if cell["manifest"]["artefacts"]["asked"] == asked.get((cell["seed"], cell["arm"])):
                continue
        path.unlink(missing_ok=True)


@contextmanager
def _uncollected() -> Iterator[None]:
    """No search for cycles: JSON makes none, and in 10,000 files the search took a tenth to a fifth of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@_uncollected()
def read_results(folder: Path) -> tuple[list[ExperimentResults], list[str]]:
    """Every registered experiment under `folder`, by name and hash, and a line for each file that was refused."""
    rows: dict[tuple[str, str], ExperimentResults] = {}
    questions: dict[tuple[str, str], int] = {}
    refused: list[str] = []
    cells: list[tuple[Path, dict[str, Any]]] = []
    audits: list[tuple[Path, dict[str, Any]]] = []
    for path in sorted(folder.glob("*/*.json"), key=lambda path: path.parts):  # paths compare slowly
        if path.name == "leaderboard.json":  # of results/local/, a folder of results inside another
            continue
        try:
            content = _unsealed(path)
            key = (content["recipe"], content["recipe_hash"])
            if path.parent.name != content["recipe"]:
                raise ValueError("its folder is not that of its recipe")
            if path.name == f"{content['recipe_hash']}.recipe.json":
                recipe = check_registered(content).model_dump(mode="json")  # with what came since
                questions[key] = questions_asked(content["experiment"])
                rows[key] = ExperimentResults(*key, {**content["experiment"], "recipe": recipe}, {}, {})
            elif "audit" in content and path.name.startswith(f"{content['recipe_hash']}.audit"):
                check_audit(content)
                audits.append((path, content))
            elif path.name == f"{content['recipe_hash']}-{content['seed']:04d}-{content['arm']}.json":
                cells.append((path, content))
            else:
                raise ValueError("its name is not that of its content")
        except BROKEN as error:
            refused.append(f"{path}: refused: {_why(error)}")
    for path, content in [*cells, *audits]:
        row = rows.get((content["recipe"], content["recipe_hash"]))
        try:
            if row is None:
                raise ValueError("its recipe file is missing")
            if "audit" in content:
                trait = path.stem.partition(".")[2].partition("-")[2]
                row.audits[str(ArmName("trait", trait))] = content["audit"]
            else:
                seed = content["seed"]
                check_cell(content, row.experiment, questions[row.name, row.hash], row.cells.get(seed, {}))
                row.cells.setdefault(seed, {})[content["arm"]] = content
        except BROKEN as error:
            refused.append(f"{path}: refused: {_why(error)}")
    whole = []
    for key in sorted(rows):
        try:
            check_experiment(rows[key])
            whole.append(rows[key])
        except BROKEN as error:
            path = folder / key[0] / f"{key[1]}.recipe.json"
            refused.append(f"{path}: refused: its files do not fit together ({_why(error)})")
    return whole, refused
