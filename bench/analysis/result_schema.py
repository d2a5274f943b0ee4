"""What a result file must hold before the leaderboard reads it: a seal alone says that it was not damaged since."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, NonNegativeInt, PositiveInt, TypeAdapter

from bench.config.arms import ArmName, parse_arm
from bench.config.recipe import Recipe, hash_experiment
from bench.config.traits import list_questions, parse_registered_traits, short_name

__all__ = [
    "ExperimentResults",
    "TraitArms",
    "check_audit",
    "check_cell",
    "check_experiment",
    "check_registered",
    "questions_asked",
]


class _Part(BaseModel):
    """Names what is read; more may be there."""

    model_config = ConfigDict(extra="allow", strict=True)


class _Carrier(_Part):
    rows: PositiveInt
    held_out: NonNegativeInt
    numbers: PositiveInt | None = None  # that the teacher could write; absent in files of earlier versions
    refused: dict[str, dict[str, NonNegativeInt]]


class _Controls(_Part):
    failed: list[str]


class _Manifest(_Part):
    commits: Annotated[list[str], Field(min_length=1)]
    carrier: _Carrier
    training: dict[str, Any] | None
    controls: Literal["self"] | _Controls | None
    margins_dtype: str | None = None


class _Reading(_Part):
    margins: Annotated[list[FiniteFloat], Field(min_length=1)]
    margins_float32: list[FiniteFloat] | None = None
    groups: list[str]


class _Relation(_Part):
    relation: str
    token_maps: str


class _Cell(_Part):
    seed: NonNegativeInt
    arm: str
    reading: _Reading
    relation: _Relation
    manifest: _Manifest
    scores: dict[str, list[list[FiniteFloat]]] = {}


class _Probe(_Part):
    auc_per_seed: dict[str, FiniteFloat]


class _Audit(_Part):
    probe: _Probe


class TraitArms(NamedTuple):
    """The arms of one trait, and the group of its questions; None where all questions are its own."""

    student: str
    teacher: str
    group: str | None


class ExperimentResults(NamedTuple):
    """One registered experiment and what was measured of it.

    `cells[seed][arm]` is the content of a result file; `audits[arm]` what the leak audit of a trait arm found.
    """

    name: str
    hash: str
    experiment: dict[str, Any]
    cells: dict[int, dict[str, dict[str, Any]]]
    audits: dict[str, dict[str, Any]]

    def trait_arms(self) -> list[TraitArms]:
        """The student and the teacher of each trait."""
        traits = self.experiment["recipe"]["trait"]
        if isinstance(traits, str):
            return [TraitArms("trait", "teacher", None)]
        return [
            TraitArms(str(ArmName("trait", name)), str(ArmName("teacher", name)), name)
            for name in map(short_name, traits)
        ]

    def complete_seeds(self) -> list[dict[str, dict[str, Any]]]:
        """The arms of each seed that has all that a gain needs, by seed."""
        needed = {"base", "teacher_base"}.union(*({t.student, t.teacher} for t in self.trait_arms()))
        return [arms for _, arms in sorted(self.cells.items()) if needed <= arms.keys()]


NUMBERS = TypeAdapter(list[FiniteFloat], config=ConfigDict(strict=True))


def check_registered(content: dict[str, Any]) -> Recipe:
    """The recipe of a registration file.

    Raises:
        ValueError, UserError: it breaks the schema, or its hash is not that of what it says.
    """
    experiment = content["experiment"]
    recipe = Recipe.model_validate(experiment["recipe"])
    traits = parse_registered_traits(experiment)
    if hash_experiment(recipe, traits, experiment["prompts_sha256"]) != content["recipe_hash"]:
        raise ValueError("the experiment it holds has another hash")
    return recipe


def questions_asked(experiment: dict[str, Any]) -> int:
    """How many questions everyone is asked in a registered experiment."""
    return len(list_questions(parse_registered_traits(experiment)))


def check_cell(
    content: dict[str, Any], experiment: dict[str, Any], questions: int, others: dict[str, dict[str, Any]]
) -> None:
    """Hold one cell against its registration, and against the cells of its seed that were read before.

    Args:
        questions: as `questions_asked` counts them, once for all cells of an experiment.

    Raises:
        ValueError: a key is missing or of the wrong type, a number is not finite, or the counts do not fit together.
    """
    cell = _Cell.model_validate(content)
    parse_arm(cell.arm)
    first = experiment["recipe"]["first_seed"]
    if not first <= cell.seed < first + experiment["recipe"]["seeds"]:
        raise ValueError(f"seed {cell.seed} is not registered")
    counts = {"margins": len(cell.reading.margins), "groups": len(cell.reading.groups)}
    if cell.reading.margins_float32 is not None:
        counts["margins_float32"] = len(cell.reading.margins_float32)
    for name, count in {**counts, **{name: len(of) for name, of in cell.scores.items()}}.items():
        if count != questions:
            raise ValueError(f"{count} {name} to {questions} questions")
    for name, column in content["reading"].items():
        if name.startswith("held_out_") and len(NUMBERS.validate_python(column)) != cell.manifest.carrier.held_out:
            raise ValueError(f"{name} has {len(column)} rows, not {cell.manifest.carrier.held_out}")
    if any(other["manifest"]["carrier"] != content["manifest"]["carrier"] for other in others.values()):
        raise ValueError("its carrier is not that of the other arms of its seed")


def check_audit(content: dict[str, Any]) -> None:
    """Raises ValueError where the audit does not hold what the leaderboard shows of it."""
    _Audit.model_validate(content["audit"])


def check_experiment(results: ExperimentResults) -> None:
    """Check that the arms of each complete seed hold what a comparison needs.

    Raises:
        ValueError: a student lacks held-out rows, or an arm has other question groups, columns or metrics than base.
    """
    students = ["base", *(t.student for t in results.trait_arms())]
    columns = [f"held_out_{arm}" for arm in students]
    for arms in results.complete_seeds():
        base = arms["base"]
        for name, cell in arms.items():
            reading = cell["reading"]
            missing = [column for column in columns if name in students and column not in reading]
            if missing:
                raise ValueError(f"seed {cell['seed']}, {name}: no {missing[0]}")
            if reading["groups"] != base["reading"]["groups"]:
                raise ValueError(f"seed {cell['seed']}, {name}: other groups of questions than base")
            if cell.get("scores", {}).keys() != base.get("scores", {}).keys():
                raise ValueError(f"seed {cell['seed']}, {name}: other metrics than base")
