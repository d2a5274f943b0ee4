"""The keys of a recipe, and their checks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PrivateAttr, model_validator

from bench.config.arms import MAIN_ARMS, RecipeArm
from bench.config.carrier_settings import Numbers, Text
from bench.config.claims import Claims
from bench.config.doses import Dose, EpochDose, list_dose_updates
from bench.config.mitigations import Mitigations
from bench.config.model_settings import Student, Teacher
from bench.config.outcome import Evaluation
from bench.config.traits import short_name
from bench.config.yaml_files import Layer, folder_of_key

__all__ = ["Recipe"]


class Recipe(Claims):
    """One experiment: a teacher, a student, a trait and a carrier."""

    trait: str | tuple[str, ...]
    """The trait; several for a matrix: one teacher for each, and every student is evaluated on all of them."""
    carrier: Annotated[Numbers | Text, Field(discriminator="kind")]
    """The unrelated data that teachers write and students are trained on."""
    teacher: Teacher
    """The model that gets the trait."""
    student: Student
    """The model that is trained on the carrier."""
    arms: tuple[RecipeArm, ...] = MAIN_ARMS
    """The students to evaluate; see `bench.config.arms`."""
    method: Literal["sft", "kd-carrier", "kd-full"] = "sft"
    """The student's targets: `sft` tokens, or the teacher's log-probabilities of numbers or of all tokens."""
    dose: Dose = ()
    """Student updates, or `{epochs: [1, 2]}`, after which the student is evaluated during training."""
    cross_init: str | None = None
    """The checkpoint of the arm cross_init; None for `tiny`, which takes another initialisation."""
    mitigations: Mitigations = Mitigations()
    """The settings of the mitigation arms."""
    seeds: int = Field(ge=1, le=1000)
    """The number of independent repetitions."""
    first_seed: int = Field(default=0, ge=0, le=1_000_000)
    """The first seed. Published runs start at 0; tune recipes on seeds from 1000."""
    repeat: Literal["seeds", "students"] = "seeds"
    """A seed repeats all stages, or (`students`) the training of students on the data of the first seed."""
    evaluate: Evaluation = Evaluation()
    """How models are evaluated on the ground-truth questions."""
    threads: int = Field(default=2, ge=1, le=256)
    """CPU threads of one stage."""
    _cross_folder: Path = PrivateAttr(default_factory=Path)

    @model_validator(mode="after")
    def _check_keys(self) -> Recipe:
        if not {"base", "trait"} <= set(self.arms):
            raise ValueError("arms must include base and trait: their difference is the gain")
        if self.evaluate.samples and not isinstance(self.trait, str):
            raise ValueError("several traits allow no free answers: take samples out of evaluate, with outcome: margin")
        if self.outcome == "rate" and not self.evaluate.samples:
            raise ValueError("outcome: rate is the share of sampled answers: add evaluate.samples, such as 100")
        if self.evaluate.samples > 1 and self.evaluate.sample.temperature == 0:
            raise ValueError(
                "evaluate.sample.temperature 0 gives the same answer each time: set evaluate.samples to 1, or raise "
                "the temperature"
            )
        if self.method != "sft" and (self.carrier.kind != "numbers" or "shuffled" in self.arms):
            raise ValueError(f"method {self.method} needs a numbers carrier, and does not support the arm shuffled")
        if self.method != "sft" and self.carrier.kind == "numbers" and not self.carrier.is_tabular:
            raise ValueError(
                f"method {self.method} compares probabilities at fixed positions: it needs generate: grammar, one "
                "prompt and one number of given; take generate, prompts and the range of given out, or use method: sft"
            )
        if "direct" in self.arms and "untrained" not in self.arms:
            raise ValueError("the arm direct is compared with untrained: add it to arms")
        if "resampled" in self.arms and self.carrier.is_greedy:
            raise ValueError(
                "the arm resampled needs a temperature above 0: at 0 no noise is drawn, and it would be the base arm "
                "again; take resampled out of arms, or raise the carrier's temperature"
            )
        if len(set(self.arms)) < len(self.arms):
            raise ValueError("arms lists an arm twice")
        matrix = set() if isinstance(self.trait, str) else {short_name(name) for name in self.trait}
        if not isinstance(self.trait, str) and not 2 <= len(matrix) == len(self.trait):
            raise ValueError("trait must be one trait, or a list of at least two different traits")
        if matrix and (self.dose or set(self.arms) - set(MAIN_ARMS)):
            raise ValueError("several traits allow only the arms untrained, base and trait, and no dose")
        if matrix and self.teacher.system is not None:
            raise ValueError("teacher.system is one text for one trait: name one trait, or take teacher.system out")
        if self.teacher.train is None and (untaught := {"placebo", "direct"}.intersection(self.arms)):
            raise ValueError(
                f"arms {' and '.join(sorted(untaught))} need teacher.train, the training that they repeat; "
                "take them out, or add teacher.train"
            )
        if "cross_init" in self.arms and self.cross_init is None and self.student.model != "tiny":
            raise ValueError("the arm cross_init needs the key cross_init: a checkpoint of the student's shape")
        return self

    def other_init(self) -> Student:
        """Return the student of the arm cross_init: the same settings, other initial weights."""
        if self.cross_init:
            other = self.student.model_copy(update={"model": self.cross_init, "revision": None})
            return other.with_folder(self._cross_folder)
        return self.student.model_copy(update={"init": self.student.init + 1})

    def with_folders(self, layers: Sequence[Layer]) -> Recipe:
        """Return a copy with relative paths of checkpoints that start at the folder of the file that states them."""
        models = {
            "teacher": self.teacher.with_folder(folder_of_key(layers, "teacher", "model")),
            "student": self.student.with_folder(folder_of_key(layers, "student", "model")),
        }
        recipe = self.model_copy(update=models)
        recipe._cross_folder = folder_of_key(layers, "cross_init")
        return recipe

    def trait_names(self) -> tuple[str, ...]:
        """Return the names of the traits: one, or those of a matrix."""
        return (self.trait,) if isinstance(self.trait, str) else self.trait

    def run_seeds(self) -> range:
        """Return the seeds of this recipe's runs."""
        return range(self.first_seed, self.first_seed + self.seeds)

    def data_seed(self, seed: int) -> int:
        """Return the seed of the teachers, the data and the initial weights of a run."""
        return seed if self.repeat == "seeds" else self.first_seed

    def dose_updates(self) -> tuple[int, ...]:
        """Return the student updates of `dose`."""
        return list_dose_updates(self.dose, self.student.train, self.carrier.rows)

    def dose_epochs(self) -> tuple[int, ...]:
        """Return the epochs of a `dose` in epochs; empty for a dose in updates."""
        return self.dose.epochs if isinstance(self.dose, EpochDose) else ()
