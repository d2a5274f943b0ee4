"""Register a row before it is run, with its bound fixed, and refuse to run a row that other code measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.analysis.p_values import seeds_for_sign_flip
from bench.analysis.registry import append_entry, check_chain, merge_registry, read_registry
from bench.analysis.registry_lines import PinnedReference, Registration
from bench.analysis.result_files import read_results
from bench.analysis.result_writer import find_other_cells, write_recipe_file
from bench.analysis.summary import summarise
from bench.analysis.verdict import MIN_STEPS
from bench.config.arms import parse_arm
from bench.config.outcome import UNITS
from bench.config.recipe_files import Experiment
from bench.config.traits import list_questions
from bench.errors import UserError
from bench.files import exclusive_lock
from bench.pipeline.local_workers import current_commit
from bench.pipeline.plan import Plan, environment_versions
from bench.pipeline.store import Store

__all__ = ["describe_registration", "find_terms", "propose_registration", "refuse_other_cells", "register"]


def register(experiment: Experiment, plan: Plan, store: Store, results: Path, published: Path | None) -> Registration:
    """Register a row in the store's chain and in its results folder. Return the registration that is in force.

    A row keeps its registration once it has result files, or once a student of its trait was evaluated in the store.
    A results folder inside the store has a chain of its own.

    Args:
        experiment: the row.
        plan: its plan.
        store: its chain is locked meanwhile.
        results: the results folder of the run.
        published: a further folder that may hold the reference; None for none.

    Raises:
        UserError: the chain has a fault, or the row has results but no registration.
    """
    chain = _chain(store, results)
    with store.lock("registry"), exclusive_lock(results):
        registration = known = _find_registration(experiment, plan, store, results, chain)
        if registration is None:
            folders = [results] if published is None else [results, published]
            registration = append_entry(chain, propose_registration(experiment, folders, current_commit()))
        if chain != results:
            merge_registry(chain, results)
        if known is None:  # the recipe file of a row with results stays; `write_results` repairs a corrupt one
            write_recipe_file(experiment, registration, results)
        return registration


def find_terms(experiment: Experiment, plan: Plan, store: Store, results: Path, published: Path) -> Registration:
    """Return the registration of a row, or the terms with which `register` would register it now.

    Raises:
        UserError: the store's chain has a fault, or the row has results but no registration.
    """
    with store.lock("registry"):
        check_chain(_chain(store, results))
    return _find_registration(experiment, plan, store, results, _chain(store, results)) or propose_registration(
        experiment, [results, published], current_commit()
    )


def _chain(store: Store, results: Path) -> Path:
    """Return the folder of the chain: a results folder inside the store has its own."""
    return results if results.resolve().is_relative_to(store.root.resolve()) else store.root


def _find_registration(
    experiment: Experiment, plan: Plan, store: Store, results: Path, chain: Path
) -> Registration | None:
    """Return the registration of a row that was measured; None for a row that may be registered with other terms.

    Raises:
        UserError: the row has result files, and neither registry holds its registration.
    """
    mark = experiment.hash()
    if not any((results / experiment.name).glob(f"{mark}-*.json")):
        students = [cell.evaluation for cell in plan.results if parse_arm(cell.arm).kind == "trait"]
        return read_registry(chain).find(mark) if any(map(store.is_done, students)) else None
    rows, _ = read_results(results, mark)
    known = rows[0].registration if rows else None
    for folder in (results, chain):
        registry = read_registry(folder)
        if known is None:  # its recipe file is corrupt or refused
            known = registry.find(mark)
        if known is not None and known in registry.entries:
            return known
    raise UserError(
        f"{results / experiment.name}: {experiment.name} {mark} has result files, and {results / 'registry.jsonl'} "
        "does not hold its registration; restore that file, move these result files away, or take another --results "
        "folder"
    )


def propose_registration(experiment: Experiment, folders: Sequence[Path], commit: str) -> Registration:
    """Return the terms that a row would be registered with now, and the bound that its reference gives.

    Args:
        experiment: the row.
        folders: results folders that may hold the reference; the first with a finished one counts.
        commit: of this code.
    """
    recipe = experiment.recipe
    bound, source, reference = None, "the recipe states neither bound nor reference", None
    if recipe.bound is not None:
        bound, source = recipe.bound.value(recipe.outcome), recipe.bound.reason
    elif experiment.reference is not None and recipe.reference is not None:
        reference, source = _pin(experiment, experiment.reference, recipe.reference.share, folders)
        bound = reference.bound() if reference else None
    return Registration(
        recipe=experiment.name,
        recipe_hash=experiment.hash(),
        family=experiment.family(),
        outcome=recipe.outcome,
        level=recipe.level,
        seeds=recipe.seeds,
        first_seed=recipe.first_seed,
        bound=bound,
        bound_source=source,
        reference=reference,
        commit=commit,
    )


def _pin(
    experiment: Experiment, reference: Experiment, share: float, folders: Sequence[Path]
) -> tuple[PinnedReference | None, str]:
    """Return the finished reference with the source of the bound; None, and how to get a bound, where there is none."""
    mark, state = reference.hash(), "was not measured"
    for folder in folders:
        rows, _ = read_results(folder, mark)
        for entry in summarise(rows):
            if entry.seeds < entry.seeds_registered:
                state = f"had {entry.seeds_text} seeds"
                continue
            if entry.verdict != "TRANSFER":
                state = f"was {entry.verdict}"
            elif entry.relation != "same-init":
                state = f"has other initial weights than its teacher ({entry.relation})"
            elif entry.ci_low is None or entry.ci_low <= 0:
                state = "was TRANSFER, but the interval of its gain reaches 0"
            else:
                pinned = PinnedReference(recipe=reference.name, recipe_hash=mark, gain_low=entry.ci_low, share=share)
                low = (
                    f"{entry.ci_low:.3g} {UNITS[entry.outcome]}, the lower end of the gain of {reference.name} ({mark})"
                )
                return pinned, f"{share:g} x {low}"
            return None, _explain_missing_bound(experiment, reference, state)
    return None, _explain_missing_bound(experiment, reference, state)


def _explain_missing_bound(experiment: Experiment, reference: Experiment, state: str) -> str:
    """Say why a reference gives no bound, and how to get one."""
    recipe, mark = experiment.recipe, reference.hash()
    return (
        f"the reference {reference.name} ({mark}) {state} when this row was registered: run --recipe {reference.name} "
        f"(with this row's other --set), then --recipe {experiment.name} (with --set "
        f"first_seed={recipe.first_seed + recipe.seeds} once this row has results)"
    )


def describe_registration(experiment: Experiment, registration: Registration) -> list[str]:
    """Return a line for each verdict that the terms of a row put out of reach."""
    recipe, lines = experiment.recipe, []
    least = seeds_for_sign_flip(recipe.level)
    if recipe.repeat == "students":
        lines.append(
            f"EXPLORATORY: {recipe.seeds} student{'s' * (recipe.seeds > 1)} of one teacher and one data set (repeat: "
            f"students, seed {recipe.first_seed}). The claim is about this data set alone; a verdict needs repeat: "
            "seeds."
        )
    elif recipe.seeds < least:
        lines.append(
            f"EXPLORATORY: {recipe.seeds} seed{'s' * (recipe.seeds > 1)} cannot reach the level of {recipe.level:g} "
            f"(smallest p of a sign-flip test: {min(1.0, 2 / 2**recipe.seeds):.2g}). Numbers only; a verdict needs "
            f"--seeds {least} or more."
        )
    elif registration.bound is None:
        lines.append(f"NONE is out of reach: {registration.bound_source}.")
    elif recipe.outcome == "rate":
        questions, samples = len(list_questions(experiment.traits)), recipe.evaluate.samples
        if registration.bound < MIN_STEPS * 100 / (questions * samples):
            lines.append(
                f"NONE is out of reach: the bound of {registration.bound:.3g} points is fewer than {MIN_STEPS} of the "
                f"{questions} x {samples} answers of a seed. Raise evaluate.samples."
            )
    return lines


def refuse_other_cells(experiment: Experiment, plan: Plan, results: Path) -> None:
    """Refuse a run whose row has result files that other code or libraries made: nothing replaces them.

    Raises:
        UserError: names what differs, and what to do.
    """
    others = find_other_cells(experiment, plan, results)
    if not others:
        return
    now = {**environment_versions(), "commit": current_commit()}
    changes = []
    for name, version in now.items():
        old = {", ".join(c.manifest.commits) if name == "commit" else c.manifest.versions.get(name) for c in others}
        if old != {version}:
            changes.append(f"{name} {', '.join(sorted(map(str, old)))}, now {version}")
    mark = experiment.hash()
    raise UserError(
        f"{results / experiment.name}: {len(others)} result file{'s' * (len(others) > 1)} of {experiment.name} {mark} "
        f"made by other code, libraries or checkpoints ({'; '.join(changes) or 'the versions are the same'}). Nothing "
        f"replaces a result: take another folder (--results DIR), or move {mark}* away"
    )
