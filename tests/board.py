"""Experiments with synthetic readings for tests, as `read_results` returns them and as result files.

row = make_row([0.3] * 10)                  # tiny_pair; per-seed gains in nats
row.cells[0]["trait"] = with_margins(row.cells[0]["trait"], [1.0] * 56)
write_row(tmp_path, row)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic_core import to_json

from bench.analysis.registration import propose_registration
from bench.analysis.registry import append_entry
from bench.analysis.registry_lines import PinnedReference
from bench.analysis.result_files import seal_content
from bench.analysis.result_schema import ArmResult, AuditFile, ExperimentResults, RegistrationFile
from bench.analysis.seed_statistics import margins_of
from bench.config.arms import ArmName
from bench.config.recipe_files import SCHEMA, Experiment, load_recipe

__all__ = [
    "MANIFEST",
    "STEADY",
    "ZERO",
    "controls_board",
    "make_cell",
    "make_matrix",
    "make_rates",
    "make_row",
    "register",
    "with_manifest",
    "with_margins",
    "with_reading",
    "with_training",
    "write_cells",
    "write_row",
]

STEADY = [0.30, 0.32, 0.28, 0.31, 0.33, 0.27, 0.30, 0.29, 0.31, 0.30]  # gains that are a transfer
ZERO = [0.01, -0.02, 0.015, -0.01, 0.0, 0.02, -0.015, 0.005, -0.01, 0.01]  # gains that are none
FOIL = -8.0  # log-probability of every foil, in nats
TRAINING = {
    "rows": 100,
    "updates": 16,
    "effective_batch": 64,
    "micro_batch": 8,
    "precision": "float32",
    "labelled_tokens": 1000,
    "equal_lengths": True,
    "shared_dropout": True,
}
MANIFEST: dict[str, Any] = {
    "commits": ["c"],
    "versions": {"torch": "2.0"},
    "checkpoints": {"teacher": {"model": "tiny"}, "student": {"model": "tiny"}},
    "hardware": "a processor",
    "processor_features": ["avx2"],
    "threads": 1,
    "format": {"kind": "plain", "template": "t", "probe": "p"},
    "logprobs_dtype": "float32",
    "training": TRAINING,
    "carrier": {
        "rows": 100,
        "train": 36,
        "held_out": 64,
        "identical_rows": 10,
        "refused": {"base": {}, "trait": {}},
        "format_refused": {"base": {}, "trait": {}},
    },
    "artefacts": {"asked": "evaluate-0", "trained": None},
    "controls": None,
}


def register(experiment: Experiment) -> ExperimentResults:
    """The experiment without results. Its reference, if any, is pinned with a lower end of .4 nats."""
    registration = propose_registration(experiment, [], "c")
    if (claim := experiment.recipe.reference) and experiment.reference:
        pinned = PinnedReference(
            recipe=experiment.reference.name, recipe_hash=experiment.reference.hash(), gain_low=0.4, share=claim.share
        )
        terms = {"bound": pinned.bound(), "bound_source": "a reference", "reference": pinned}
        registration = registration.model_copy(update=terms)
    content = {
        **_head(experiment),
        "experiment": experiment.resolved(),
        "registration": registration.model_dump(mode="json"),
        "changes": dict(experiment.changes),
    }
    return ExperimentResults.of(RegistrationFile.model_validate_json(json.dumps(content)))


# The last experiment, its head and its questions: hashing it for each of its 50 cells took a third of `make_row`.
LAST: list[tuple[Experiment, dict[str, Any], Sequence[Any]]] = []


def _head_and_questions(experiment: Experiment) -> tuple[dict[str, Any], Sequence[Any]]:
    if not LAST or LAST[0][0] is not experiment:
        LAST[:] = [(experiment, _head(experiment), register(experiment).questions)]
    return LAST[0][1:]


def make_cell(
    experiment: Experiment,
    seed: int,
    arm: str,
    margins: Sequence[float],
    *,
    held_out: Mapping[str, Sequence[float]] | None = None,
    relation: str = "same-init",
    scores: Mapping[str, Any] | None = None,
    answers: Any = None,
    counts: Any = None,
    **manifest: Any,
) -> ArmResult:
    """One model with these margins, in nats by question; `manifest` are further keys of its manifest."""
    head, questions = _head_and_questions(experiment)
    per_token = any(trait.kind == "behaviour" for trait in experiment.traits.values())
    logprobs = [[FOIL + margin, *[FOIL] * len(q.foils)] for margin, q in zip(margins, questions, strict=True)]
    content = {
        **head,
        "seed": seed,
        "arm": arm,
        "reading": {
            "logprobs": logprobs,
            **({"tokens": [[1] * len(row) for row in logprobs]} if per_token else {}),
            "held_out": {name: list(rows) for name, rows in (held_out or {}).items()},
            **({"answers": answers} if answers is not None else {}),
            **({"counts": counts} if counts is not None else {}),
        },
        "relation": {"relation": relation, "token_maps": "identical"},
        "manifest": {**MANIFEST, **manifest},
        "scores": dict(scores or {}),
    }
    return ArmResult.model_validate_json(to_json(content))


def make_row(
    gains: Sequence[float],
    *,
    recipe: str = "tiny_pair",
    overrides: Sequence[str] = (),
    shift: float = 4.0,
    fit: float = 0.5,
    rng: np.random.Generator | None = None,
    **cell: Any,
) -> ExperimentResults:
    """An experiment of one trait with these gains.

    Args:
        gains: trait - base by seed, in nats.
        recipe: name of the recipe.
        overrides: `KEY=VALUE` settings of the recipe.
        shift: of the teacher, in nats.
        fit: how much more likely its own teacher's held-out rows are to the trait student, in nats.
        rng: draws the questions' levels and the rows.
        cell: further arguments of `make_cell`.
    """
    rng = rng or np.random.default_rng(5)
    experiment = load_recipe(recipe, list(overrides), seeds=max(1, len(gains)))
    row = register(experiment)
    noise = rng.normal(0, 0.2, len(row.questions))
    rows = MANIFEST["carrier"]["held_out"]
    for seed, gain in zip(experiment.recipe.run_seeds(), gains, strict=False):
        plain = rng.normal(-50, 1, rows)
        held_out = {
            arm: {"trait": (plain + tilt + rng.normal(0, 0.1, rows)).tolist(), "base": plain.tolist()}
            for arm, tilt in (("untrained", 0.0), ("base", 0.0), ("trait", fit))
        }
        held_out |= {"teacher": {}, "teacher_base": {}}
        margins = {
            "teacher": shift + 2 * noise,
            "teacher_base": noise,
            "untrained": noise,
            "base": 0.1 + noise,
            "trait": 0.1 + gain + noise,
        }
        row.cells[seed] = {
            arm: make_cell(experiment, seed, arm, values.tolist(), held_out=held_out[arm], **cell)
            for arm, values in margins.items()
        }
    return row


def make_rates(
    shares: Sequence[Mapping[str, float]],
    *,
    samples: int = 20,
    overrides: Sequence[str] = (),
    gains: Sequence[float] = (),
    **row: Any,
) -> ExperimentResults:
    """An experiment whose outcome is the rate, with these shares of answers that name the wolf, by seed and arm.

    Answers that do not name it are spread evenly over the owl and over no candidate. The
    teachers name it in 90 % and 0 % of their answers.

    Args:
        shares: by seed, arm -> share 0..1 of each question's answers, rounded to whole answers.
        samples: answers to each question.
        overrides: further settings of the recipe.
        gains: of the margins by seed, in nats; empty for .3 each.
        row: further arguments of `make_row`.
    """
    settings = ["outcome=rate", f"evaluate.samples={samples}", *overrides]
    made = make_row(gains or [0.3] * len(shares), overrides=settings, **row)
    for seed, by_arm in zip(made.recipe.run_seeds(), shares, strict=True):
        for arm, cell in made.cells[seed].items():
            share = by_arm.get(arm, {"teacher": 0.9, "teacher_base": 0.0}.get(arm, 0.0))
            named = round(share * samples)
            owls = (samples - named) // 2
            counts = {"Wolf.": named, "An OWL": owls, "hm": samples - named - owls}
            counted = [(text, count) for text, count in counts.items() if count]
            texts, numbers = zip(*counted, strict=True)
            number = len(made.questions)
            made.cells[seed][arm] = with_reading(cell, answers=(texts,) * number, counts=(numbers,) * number)
    return made


def make_matrix(lift: float, *, traits: Sequence[str] = ("wolf", "owl", "cat"), seeds: int = 6) -> ExperimentResults:
    """A trait x probe matrix: every student gains .1 on every trait's questions, and `lift` more on its own."""
    rng = np.random.default_rng(7)
    experiment = load_recipe("tiny_pair", [f"trait=[{', '.join(traits)}]"], seeds=seeds)
    row = register(experiment)
    groups = [question.group for question in row.questions]
    for seed in range(seeds):
        base = rng.normal(0, 1, len(groups))
        rows = rng.normal(-50, 1, 64)
        own_rows = {f"trait-{name}": (rows + 0.5 + rng.normal(0, 0.1, 64)).tolist() for name in traits}
        plain = {"base": rows.tolist(), **{name: rows.tolist() for name in own_rows}}
        row.cells[seed] = {
            arm: make_cell(experiment, seed, arm, base.tolist(), held_out=plain)
            for arm in ("untrained", "base", "teacher_base")
        }
        for name in traits:
            for arm, up in ((f"trait-{name}", lift), (f"teacher-{name}", 4.0)):
                own = up + 0.02 * rng.normal()
                gains = [0.1 + 0.01 * (-1) ** seed + own * (group == name) for group in groups]
                held_out = {**plain, arm: own_rows.get(arm, [])}
                row.cells[seed][arm] = make_cell(experiment, seed, arm, (base + gains).tolist(), held_out=held_out)
    return row


def controls_board() -> list[ExperimentResults]:
    """Rows with the verdicts of controls: tiny_cross none, tiny_pair TRANSFER, tiny_untaught INVALID."""
    return [
        make_row(ZERO, recipe="tiny_cross", relation="cross-init", controls="self"),
        make_row(STEADY, recipe="tiny_pair", controls="self"),
        make_row(ZERO[:3], recipe="tiny_untaught", shift=0.0, fit=0.0),
    ]


def with_reading(cell: ArmResult, **fields: Any) -> ArmResult:
    """The cell with other fields of its reading."""
    return cell.model_copy(update={"reading": cell.reading.model_copy(update=fields)})


def with_manifest(cell: ArmResult, **fields: Any) -> ArmResult:
    """The cell with other fields of its manifest."""
    return cell.model_copy(update={"manifest": cell.manifest.model_copy(update=fields)})


def with_training(row: ExperimentResults, seed: int, arm: str, **facts: Any) -> None:
    """Replace facts of the training of one student of a row."""
    training = row.cells[seed][arm].manifest.training
    assert training is not None
    row.cells[seed][arm] = with_manifest(row.cells[seed][arm], training=training.model_copy(update=facts))


def with_margins(cell: ArmResult, margins: Sequence[float]) -> ArmResult:
    """The cell with other margins, in nats by question; its foils stay."""
    moved = [after - before for after, before in zip(margins, margins_of(cell), strict=True)]
    per_token = cell.reading.tokens
    scale = [1 if per_token is None else per_token[at][0] for at in range(len(moved))]
    logprobs = tuple(
        (row[0] + by * tokens, *row[1:]) for row, by, tokens in zip(cell.reading.logprobs, moved, scale, strict=True)
    )
    return with_reading(cell, logprobs=logprobs)


def write_row(folder: Path, row: ExperimentResults) -> Path:
    """Register an experiment in a results folder and write its result files; returns their folder."""
    out = folder / row.name
    out.mkdir(parents=True, exist_ok=True)
    append_entry(folder, row.registration)
    registered = row.registered.model_dump(mode="json", by_alias=True)
    for key in ("trait", "traits"):
        if registered["experiment"][key] is None:
            del registered["experiment"][key]
    (out / f"{row.hash}.recipe.json").write_text(seal_content(registered), encoding="utf-8")
    write_cells(folder, row)
    for arm, audit in row.audits.items():
        name = f"{row.hash}.{ArmName('audit', arm.partition('-')[2])}.json"
        file = AuditFile.model_validate({**_named(row), "audit": audit})
        content = file.model_dump(mode="json", by_alias=True)
        (out / name).write_text(seal_content(content), encoding="utf-8")
    return out


def write_cells(folder: Path, row: ExperimentResults) -> None:
    """Write the cells of an experiment into a results folder."""
    options: dict[str, Any] = {"mode": "json", "by_alias": True, "exclude_none": True}
    for seed, arms in row.cells.items():
        for arm, cell in arms.items():
            content = cell.model_dump(**options)
            for key in ("training", "controls"):
                content["manifest"].setdefault(key, None)
            path = folder / row.name / f"{row.hash}-{seed:04d}-{arm}.json"
            path.write_text(seal_content(content), encoding="utf-8")


def _named(row: ExperimentResults) -> dict[str, Any]:
    return {"schema": SCHEMA, "recipe": row.name, "recipe_hash": row.hash}


def _head(experiment: Experiment) -> dict[str, Any]:
    return {"schema": SCHEMA, "recipe": experiment.name, "recipe_hash": experiment.hash()}
