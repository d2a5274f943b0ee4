"""The content of result files: frozen models that refuse what does not fit.

A checksum alone says that a file was not changed since it was written. Unknown keys are ignored, so that a key that
comes later (rates, contexts, curves) leaves earlier readers able to read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AliasChoices, Field, NonNegativeInt, field_validator, model_validator

from bench.analysis.manifest import FilePart, Manifest
from bench.analysis.reading import Reading, check_reading
from bench.analysis.registry_lines import Registration
from bench.config.arms import MITIGATIONS, ArmName, parse_arm, with_controls
from bench.config.changes import get_key
from bench.config.outcome import Evaluation
from bench.config.recipe import Recipe
from bench.config.recipe_files import hash_experiment, hash_family
from bench.config.traits import Behaviour, Preference, Question, Trait, list_questions, short_name

__all__ = [
    "ArmResult",
    "Audit",
    "AuditFile",
    "ExperimentResults",
    "RegisteredExperiment",
    "RegistrationFile",
    "RelationReport",
    "TraitArms",
    "check_fit",
]


class RelationReport(FilePart):
    """How the student's initial weights relate to the teacher's: see `bench.models.relation`."""

    relation: str
    """`same-init`, `lineage`, `cross-init` or `cross-architecture`."""
    token_maps: str
    """`identical`, `different` or `trap`."""


class Probe(FilePart):
    """A classifier that tells trait rows from control rows."""

    auc_per_seed: dict[str, float]
    """Area under its ROC curve on each held-out seed; empty where it was not tested."""


class Audit(FilePart):
    """The leak audit of one trait arm."""

    carrier: Literal["numbers", "text"]
    """The kind of the carrier: numbers are probed by position, texts as bags of words."""
    control: Literal["base", "placebo"]
    """The arm whose rows the trait rows were compared with."""
    probe: Probe
    """The classifier."""


class RegisteredRecipe(Recipe):
    """A recipe in a registration. Registrations of earlier versions hold the key `evaluate` as `ask`."""

    evaluate: Evaluation = Field(default=Evaluation(), validation_alias=AliasChoices("evaluate", "ask"))
    """How models are evaluated on the ground-truth questions."""


class RegisteredExperiment(FilePart):
    """An experiment as `bench.config.recipe_files.Experiment.resolved` writes it."""

    recipe: RegisteredRecipe
    """The keys of the recipe."""
    trait: Annotated[Preference | Behaviour, Field(discriminator="kind")] | None = None
    """The trait, where there is one."""
    traits: dict[str, Annotated[Preference | Behaviour, Field(discriminator="kind")]] | None = None
    """The traits by name, where there are several."""
    prompts_sha256: str | None
    """Checksum of the prompts of a text carrier."""

    def named_traits(self) -> Mapping[str, Trait]:
        """Return the traits by name, in the order of the recipe; a single trait has the name ''."""
        if self.trait is not None:
            return {"": self.trait}
        names = [short_name(name) for name in self.recipe.trait_names()]
        if self.traits is None or self.traits.keys() != set(names):
            raise ValueError(f"experiment: expected the traits {', '.join(names)}")
        return {name: self.traits[name] for name in names}


class _ResultFile(FilePart):
    """The head of every result file."""

    schema_version: Literal[2] = Field(alias="schema")
    """`bench.config.recipe_files.SCHEMA`."""
    recipe: str
    """Name of the recipe."""
    recipe_hash: str
    """Hash of the experiment: see `bench.config.recipe_files.Experiment.hash`."""


class RegistrationFile(_ResultFile):
    """`<hash>.recipe.json`: an experiment, registered before it runs."""

    experiment: RegisteredExperiment
    """The whole experiment."""

    registration: Registration
    """Its terms, as the registry has them."""
    changes: dict[str, Any] = Field(default_factory=dict)
    """The keys in which it differs from the file of its recipe, by dotted name."""

    @model_validator(mode="after")
    def _check_hash(self) -> RegistrationFile:
        recipe, own, pinned = self.experiment.recipe, self.registration, self.registration.reference
        content = recipe, self.experiment.named_traits(), self.experiment.prompts_sha256
        if hash_experiment(*content) != self.recipe_hash:
            raise ValueError("the experiment it holds has another hash")
        terms = {
            "recipe": self.recipe,
            "recipe_hash": self.recipe_hash,
            "family": hash_family(*content),
            "outcome": recipe.outcome,
            "level": recipe.level,
            "seeds": recipe.seeds,
            "first_seed": recipe.first_seed,
            "bound": recipe.bound.value(recipe.outcome) if recipe.bound else pinned.bound() if pinned else None,
        }
        wrong = [key for key, value in terms.items() if getattr(own, key) != value]
        if pinned and (recipe.reference is None or recipe.reference.share != pinned.share):
            wrong.append("reference")
        recipe_keys = recipe.model_dump(mode="json") if self.changes else {}
        if other := [key for key, value in self.changes.items() if get_key(recipe_keys, key) != value]:
            raise ValueError(f"changes: {', '.join(other)}: not that of the experiment it holds")
        if wrong:
            raise ValueError(f"registration: {', '.join(wrong)}: not that of the experiment it holds")
        return self


class ArmResult(_ResultFile):
    """`<hash>-<seed>-<arm>.json`: one model of one seed."""

    seed: NonNegativeInt
    """The seed."""
    arm: str
    """The arm, as `bench.config.arms.ArmName` writes it."""
    reading: Reading
    """The answers of the model."""
    relation: RelationReport
    """How student and teacher are related in this arm."""
    manifest: Manifest
    """How it was made."""
    scores: dict[str, tuple[tuple[float, ...], ...]] = Field(default_factory=dict)
    """Scores of the sampled answers, by metric, question and answer."""

    def scores_of_samples(self) -> dict[str, list[list[float]]]:
        """Return the scores by metric, question and sample: that of an answer as often as it was sampled."""
        counts = self.reading.counts
        return {
            metric: [
                list(of_question)
                if counts is None
                else [score for score, count in zip(of_question, counts[at], strict=True) for _ in range(count)]
                for at, of_question in enumerate(questions)
            ]
            for metric, questions in self.scores.items()
        }

    @field_validator("arm")
    @classmethod
    def _check_arm(cls, arm: str) -> str:
        parse_arm(arm)
        return arm


class AuditFile(_ResultFile):
    """`<hash>.audit.json`: the leak audit over all seeds; with several traits `<hash>.audit-<trait>.json`."""

    audit: Audit
    """The audit."""


class TraitArms(NamedTuple):
    """The arms of one trait."""

    student: str
    """The student of the trait's data."""
    teacher: str
    """The teacher with the trait."""
    group: str | None
    """The group of its questions; None where all questions are its own."""


class ExperimentResults(NamedTuple):
    """One registered experiment with its results."""

    registered: RegistrationFile
    """The experiment and its registration."""
    questions: tuple[Question, ...]
    """The ground-truth questions, in the order of every reading."""
    candidates: tuple[int, ...]
    """Number of candidates of each question: the answer and its foils."""
    cells: dict[int, dict[str, ArmResult]]
    """Results by seed and arm."""
    audits: dict[str, Audit]
    """The leak audit of each trait arm that has one."""
    looks: int
    """Further registrations of the same recipe, with other seeds, or again with another bound."""

    @classmethod
    def of(cls, registered: RegistrationFile, looks: int = 0) -> ExperimentResults:
        """Return the experiment of a registration, without results."""
        questions = tuple(list_questions(registered.experiment.named_traits()))
        candidates = tuple(1 + len(question.foils) for question in questions)
        return cls(registered, questions, candidates, {}, {}, looks)

    @property
    def registration(self) -> Registration:
        """The terms under which it was registered."""
        return self.registered.registration

    @property
    def name(self) -> str:
        """Name of the recipe."""
        return self.registered.recipe

    @property
    def hash(self) -> str:
        """Hash of the experiment."""
        return self.registered.recipe_hash

    @property
    def recipe(self) -> Recipe:
        """The keys of the recipe."""
        return self.registered.experiment.recipe

    def trait_arms(self) -> list[TraitArms]:
        """Return the student and the teacher of each trait."""
        traits = self.recipe.trait
        if isinstance(traits, str):
            return [TraitArms("trait", "teacher", None)]
        return [
            TraitArms(str(ArmName("trait", name)), str(ArmName("teacher", name)), name)
            for name in map(short_name, traits)
        ]

    def positions(self, group: str | None = None) -> list[int]:
        """Return the indices of the questions of one group, or of all questions."""
        return [at for at, question in enumerate(self.questions) if group in (None, question.group)]

    def registered_arms(self) -> set[str]:
        """Return the arms that each seed evaluates."""
        traits, doses = self.trait_arms(), self.recipe.dose_updates()
        names = {"teacher_base", *(name for trait in traits for name in (trait.student, trait.teacher))}
        names |= with_controls({arm for arm in self.recipe.arms if arm != "trait"})
        return names | {str(parse_arm(arm).at(step)) for arm in ("base", "trait") for step in doses}

    def complete_seeds(self) -> list[dict[str, ArmResult]]:
        """Return the arms of each seed that has all registered arms, by seed."""
        needed = self.registered_arms()
        return [arms for _, arms in sorted(self.cells.items()) if needed <= arms.keys()]


def check_fit(cell: ArmResult, results: ExperimentResults) -> None:
    """Check one cell against its registration and against the cells of its seed that `results` has.

    Raises:
        ValueError: the seed is not registered, counts do not fit the questions or the carrier, or the carrier or the
            metrics are not those of another arm of the seed.
    """
    if cell.seed not in results.recipe.run_seeds():
        raise ValueError(f"seed {cell.seed} is not registered")
    reading, candidates = cell.reading, results.candidates
    check_reading(reading, candidates, results.recipe)
    for metric, scores in cell.scores.items():
        expected = [*map(len, reading.counts)] if reading.counts is not None else None
        if len(scores) != len(candidates) or (expected and [*map(len, scores)] != expected):
            raise ValueError(f"{metric} does not hold one score for each answer to {len(candidates)} questions")
    held_out = cell.manifest.carrier.held_out
    for arm, rows in reading.held_out.items():
        if len(rows) != held_out:
            raise ValueError(f"held_out {arm} has {len(rows)} rows, not {held_out}")
    students = {"base", *(t.student for t in results.trait_arms())}
    compared = {*students, *MITIGATIONS, *MITIGATIONS.values()}
    if cell.arm in compared and (missing := students - reading.held_out.keys()):
        raise ValueError(f"held_out lacks the rows of {', '.join(sorted(missing))}")
    other = next(iter(results.cells.get(cell.seed, {}).values()), cell)  # all others agree with this one
    if other.manifest.carrier != cell.manifest.carrier:
        raise ValueError("its carrier is not that of the other arms of its seed")
    if other.scores.keys() != cell.scores.keys():
        raise ValueError("its metrics are not those of the other arms of its seed")
