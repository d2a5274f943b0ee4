"""Write the result files of a run. Nothing replaces a sound cell of other artefacts or with other readings."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.analysis.answer_counts import count_answers
from bench.analysis.audit_report import render_audit
from bench.analysis.registry_lines import Registration
from bench.analysis.result_files import audit_suffix, describe_error, read_as, read_content, read_sealed, seal_content
from bench.analysis.result_schema import ArmResult
from bench.config.recipe_files import SCHEMA, Experiment
from bench.files import write_atomically
from bench.pipeline.plan import Plan, ResultSpec
from bench.pipeline.store import Store

__all__ = ["find_other_cells", "is_other_cell", "write_recipe_file", "write_results"]

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
        **({"changes": dict(experiment.changes)} if experiment.changes else {}),
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
        registration: the terms that are in force; written where the recipe file is missing or corrupt.
        controls: the verdicts of the controls on this installation, `self` for a control, None where they were skipped.
        notice: takes a line for each corrupt file, which is written again, and about cells that are not replaced.
    """
    row_folder, mark = folder / experiment.name, experiment.hash()
    corrupt = _find_corrupt(sorted(row_folder.glob(f"{mark}*.json")), notice)
    recipe_file = row_folder / f"{mark}.recipe.json"
    if recipe_file in corrupt or not recipe_file.is_file():
        write_recipe_file(experiment, registration, folder)
    head = {"schema": SCHEMA, "recipe": experiment.name, "recipe_hash": mark}
    counted = experiment.recipe.evaluate.samples > 0 and all(
        trait.kind == "preference" for trait in experiment.traits.values()
    )
    texts: dict[Path, str] = {}
    others: list[Path] = []
    known: dict[str, Makers] = {}
    for cell in plan.results:
        content = _read_cell(cell, plan, store, known)
        if content is not None and counted:
            content["reading"], scores = count_answers(content["reading"], content.get("scores"))
            content |= {"scores": scores} if scores else {}
        if content is None:
            continue
        path = row_folder / f"{mark}-{cell.seed:04d}-{cell.arm}.json"
        report = _read_controls(path) if controls is None else controls
        content = {**head, **content, "manifest": {**content["manifest"], "controls": report}}
        if is_other_cell(path, content):
            others.append(path)
        else:
            texts[path] = seal_content(content)
    if others:
        notice(
            f"{others[0]} and {len(others) - 1} more stay as they are; this run's readings differ from them. To have "
            "both, take another --results folder"
        )
    else:
        texts |= _render_audits(experiment, plan, store, row_folder)
    for path, text in texts.items():
        write_atomically(path, text)
    return [recipe_file, *texts]


def _read_controls(path: Path) -> Any:
    """Read what a sound cell records of the controls; None where there is none. A run without controls keeps it."""
    try:
        return read_content(path)["manifest"]["controls"]
    except (OSError, ValueError):
        return None


def _find_corrupt(paths: list[Path], notice: Callable[[str], None]) -> list[Path]:
    """List the result files whose checksum does not match. They are replaced when their content is there again."""
    corrupt = []
    for path in paths:
        try:
            read_sealed(path)
        except (OSError, ValueError) as error:
            notice(f"corrupt: {path}: {describe_error(error)}; the run writes it again")
            corrupt.append(path)
    return corrupt


def _read_cell(cell: ResultSpec, plan: Plan, store: Store, known: dict[str, Makers]) -> dict[str, Any] | None:
    """Read the content of one cell from its artefacts; None where one of them is not there."""
    needed = [key for key in (cell.evaluation, cell.scores, cell.filtering, cell.relation, cell.training) if key]
    chains = [_makers(plan, store, key, known) for key in needed]
    if not all(chains):
        return None

    def read(key: str, name: str) -> Any:
        return json.loads((store.path(key) / name).read_text(encoding="utf-8"))

    return {
        "seed": cell.seed,
        "arm": cell.arm,
        "reading": read(cell.evaluation, "reading.json"),
        "relation": read(cell.relation, "relation.json"),
        "manifest": _manifest(store, cell, set().union(*chains)),
        **({"scores": read(cell.scores, "scores.json")} if cell.scores else {}),
    }


def _render_audits(experiment: Experiment, plan: Plan, store: Store, row_folder: Path) -> dict[Path, str]:
    """Render the leak audits whose stage is done, as data and to read, by path."""
    name, mark = experiment.name, experiment.hash()
    texts = {}
    for arm, key in plan.audits.items():
        if not store.is_done(key):
            continue
        audit = json.loads((store.path(key) / "audit.json").read_text(encoding="utf-8"))
        carriers = {cell.seed: store.record(cell.filtering)["did"] for cell in plan.results}
        content = {"schema": SCHEMA, "recipe": name, "recipe_hash": mark, "audit": audit}
        file = f"{mark}.{audit_suffix(arm)}"
        texts[row_folder / f"{file}.json"] = seal_content(content)
        texts[row_folder / f"{file}.md"] = render_audit(name, mark, audit, carriers)
    return texts


def find_other_cells(experiment: Experiment, plan: Plan, folder: Path) -> list[ArmResult]:
    """List the cells of a row that other libraries, weights or code made. Damaged files are left out."""
    asked = {(cell.seed, cell.arm): cell.evaluation for cell in plan.results}
    others = []
    for path in sorted((folder / experiment.name).glob(f"{experiment.hash()}-*.json")):
        with suppress(OSError, ValueError):
            cell = read_as(ArmResult, path)
            if cell.manifest.artefacts["asked"] != asked.get((cell.seed, cell.arm)):
                others.append(cell)
    return others


def is_other_cell(path: Path, content: dict[str, Any]) -> bool:
    """Whether `path` is a sound cell with other readings than `content`, or of other artefacts."""
    try:
        read_as(ArmResult, path)
        old = read_content(path)
    except (OSError, ValueError):
        return False
    return any(old.get(key) != content.get(key) for key in ("reading", "relation", "scores")) or (
        old["manifest"]["artefacts"] != content["manifest"]["artefacts"]
    )
