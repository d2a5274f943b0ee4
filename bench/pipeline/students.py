"""Plan the students of one seed: their trainings, and the stages that only they read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

from bench.config.arms import BASE, MITIGATIONS, TRAIT, ArmName
from bench.config.mitigations import UNMITIGATED, StudentMitigation
from bench.config.model_settings import Model, Student
from bench.config.recipe import Recipe
from bench.config.traits import Trait
from bench.pipeline.plan import Ref
from bench.stages.divergence import FindDivergence
from bench.stages.settings import FindMicroBatch, Loading, StageSettings, TeacherLogits, Training, TrainStudent

__all__ = ["SeedRows", "SeedStudents", "TrainedStudent", "teacher_system"]


class AddStage(Protocol):
    """`Planner.add`."""

    def __call__(self, label: str, settings: StageSettings, inputs: Mapping[str, Ref], spec: Model) -> Ref: ...


def teacher_system(recipe: Recipe, arm: ArmName) -> str | None:
    """Return the system prompt of the teacher of `arm`: only teachers with the trait have one."""
    return recipe.teacher.system if arm.kind in {"trait", "teacher"} else None


class SeedRows(NamedTuple):
    """The artefacts of one seed that its students read."""

    start: Ref
    """The student's checkpoint."""
    writers: Mapping[ArmName, Mapping[str, Ref]]
    """The teacher of each arm with rows of its own: `start`, and `trained` for a trained teacher."""
    carriers: Mapping[ArmName, Ref]
    """The rows that each of these teachers wrote."""
    filtering: Ref
    """The artefact of the filter."""
    writes: str
    """The precision in which the teachers wrote: see `bench.models.precision.load_writer`."""


class TrainedStudent(NamedTuple):
    """A student of a plan."""

    arm: ArmName
    model: Student
    inputs: dict[str, Ref]
    """`start` and `trained`."""


class SeedStudents:
    """Adds the students of one seed to a plan. They share one micro-batch."""

    def __init__(self, add: AddStage, recipe: Recipe, trait: Trait, seed: int, rows: SeedRows) -> None:
        self.add, self.recipe, self.seed, self.rows = add, recipe, seed, rows
        arms = [arm for arm in recipe.arms if arm in MITIGATIONS]
        self.mitigations = {arm: StudentMitigation.of(arm, recipe.mitigations, trait) for arm in arms}
        data = {
            arm: self.student_inputs(arm, {"carrier": carrier, "kept": rows.filtering})
            for arm, carrier in rows.carriers.items()
        }
        micro = self.add_micro_batch({role: ref for role, ref in data[BASE].items() if role != "carrier"})
        self.data = {arm: {**inputs, "micro_batch": micro} for arm, inputs in data.items()}

    def add_students(self) -> Iterator[TrainedStudent]:
        """Add the students with the recipe's checkpoint and training."""
        for arm, inputs in self.data.items():
            yield self.add_student(arm, inputs)
        if "shuffled" in self.recipe.arms:
            yield self.add_student(ArmName("shuffled"), self.data[TRAIT], shuffled=True)

    def add_cross_init(self, model: Student, start: Ref) -> Iterator[TrainedStudent]:
        """Add the students with other initial weights, `start`."""
        for arm, data in ((ArmName("cross_init"), TRAIT), (ArmName("cross_init_base"), BASE)):
            yield self.add_student(arm, self.data[data], model=model, start=start)

    def add_mitigations(self) -> Iterator[TrainedStudent]:
        """Add the students of the mitigation arms, and their controls."""
        for arm, mitigation in self.mitigations.items():
            yield self.add_mitigation(ArmName(arm), mitigation, TRAIT, BASE)
            if (control := MITIGATIONS[arm]) != str(BASE):
                yield self.add_mitigation(ArmName(control), mitigation, BASE, TRAIT)

    def add_mitigation(
        self, arm: ArmName, mitigation: StudentMitigation, writer: ArmName, other: ArmName
    ) -> TrainedStudent:
        """Add a student with a mitigation, of the rows of `writer`; `other` is the teacher of the other arm."""
        inputs = dict(self.data[writer])
        if mitigation.mixed:
            inputs["mixed"] = self.rows.carriers[other]
        if mitigation.labels != "all":
            inputs["divergence"] = self.add_divergence(writer, other)
        return self.add_student(arm, inputs, mitigation=mitigation)

    def add_divergence(self, writer: ArmName, other: ArmName) -> Ref:
        """Add the tokens of `writer` at which the teacher `other` would have written another token."""
        teacher, student, carrier = self.recipe.teacher, self.recipe.student, self.recipe.carrier
        data_seed = self.recipe.data_seed(self.seed)  # of the noise with which the rows were written
        settings = FindDivergence(
            carrier=carrier.as_written(),
            model=Loading.of(teacher),
            seed=data_seed,
            writes=self.rows.writes,
            end=carrier.writes_texts,
            own_system=teacher_system(self.recipe, writer),
            system=teacher_system(self.recipe, other),
            student_format=student.format,
            student_chat_template_kwargs=student.chat_template_kwargs,
        )
        rows = {"carrier": self.rows.carriers[writer], "kept": self.rows.filtering, "student": self.rows.start}
        if carrier.writes_texts and "trained" in self.rows.writers[writer]:
            rows["own_trained"] = self.rows.writers[writer]["trained"]
        label = f"divergence {writer}, seed {data_seed}"
        return self.add(label, settings, {**self.rows.writers[other], **rows}, teacher)

    def student_inputs(self, arm: ArmName, rows: dict[str, Ref]) -> dict[str, Ref]:
        """Return the data of a student: carrier rows, and log-probabilities for a distillation."""
        teacher, student = self.recipe.teacher, self.recipe.student
        if self.recipe.method == "sft" or self.recipe.carrier.kind != "numbers":
            return rows
        settings = TeacherLogits(
            method=self.recipe.method,
            carrier=self.recipe.carrier,
            model=Loading.of(teacher),
            student_format=student.format,
            student_chat_template_kwargs=student.chat_template_kwargs,
            system=teacher_system(self.recipe, arm),
        )
        inputs = {**self.rows.writers[arm], **rows, "student": self.rows.start}
        label = f"teacher logits {arm}, seed {self.recipe.data_seed(self.seed)}"
        return {**rows, "logits": self.add(label, settings, inputs, teacher)}

    def add_micro_batch(self, shared: Mapping[str, Ref]) -> Ref:
        """Add the micro-batch of all students; `shared` are the inputs that it has in common with them."""
        student = self.recipe.student
        settings = FindMicroBatch(
            model=Training.of(student),
            seed=self.seed,
            end=self.recipe.carrier.writes_texts,
            shuffled="shuffled" in self.recipe.arms,
            system=student.system.train,
            mitigations=tuple(m for m in self.mitigations.values() if m.kl_untrained or m.inoculation),
        )
        rows = {f"rows_{arm}": carrier for arm, carrier in self.rows.carriers.items()}
        inputs = {"start": self.rows.start, **shared, **rows}
        return self.add(f"micro-batch, seed {self.seed}", settings, inputs, student)

    def add_student(
        self,
        arm: ArmName,
        inputs: Mapping[str, Ref],
        *,
        model: Student | None = None,
        start: Ref | None = None,
        shuffled: bool = False,
        mitigation: StudentMitigation = UNMITIGATED,
    ) -> TrainedStudent:
        """Add a student.

        Args:
            arm: the arm.
            inputs: `carrier`, `kept`, `micro_batch`, for a distillation `logits`, for a mitigation `mixed` or
                `divergence`.
            model, start: the student and its checkpoint; None for those of the recipe.
            shuffled: whether completions are moved to other prompts.
            mitigation: how its training differs from that of base and trait.
        """
        student = self.recipe.student
        start = start or self.rows.start
        settings = TrainStudent(
            model=Training.of(student),
            seed=self.seed,
            end=self.recipe.carrier.writes_texts,
            shuffled=shuffled,
            dose=self.recipe.dose_updates(),
            epochs=self.recipe.dose_epochs(),
            system=student.system.train,
            mitigation=mitigation,
        )
        label = f"student {arm}, seed {self.seed}"
        trained = self.add(label, settings, {"start": start, **inputs}, student)
        return TrainedStudent(arm, model or student, {"start": start, "trained": trained})
