"""Check a recipe with the libraries that will read it, in a worker, before any stage runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.config.model_settings import Model
from bench.config.recipe_files import Experiment
from bench.errors import UserError
from bench.files import digest, write_atomically
from bench.models.memory import describe_misfit, parameters
from bench.models.skeleton import SkeletonSource
from bench.models.tiny import TinyBudget
from bench.models.tokenizer_source import TokenizerSource
from bench.pipeline import processor
from bench.pipeline.environment import gpu_memory
from bench.pipeline.local_workers import Pool
from bench.pipeline.plan import Plan, Ref, library_versions
from bench.pipeline.store import Store
from bench.pipeline.worker import MEASURE_BFLOAT16
from bench.stages.divergence import FindDivergence
from bench.stages.settings import BuildTiny, Convert, Relation, TrainStudent, TrainTeacher, WriteCarrier

__all__ = [
    "check_configurations",
    "check_memory",
    "check_names",
    "check_numbers",
    "check_systems",
    "check_targets",
    "check_tokens",
    "describe_bfloat16",
    "find_tokenizer",
]


def find_tokenizer(plan: Plan, start: Ref, store: Store) -> TokenizerSource:
    """Return where the tokenizer of a checkpoint is before the plan has run: see `TokenizerSource`."""
    source = _find_source(plan, start, store)
    return (source.questions, source.answers) if isinstance(source, BuildTiny) else source


def _find_source(plan: Plan, start: Ref, store: Store) -> Path | str | BuildTiny:
    """Return the folder of a checkpoint; before the plan has run, its package or the stage that builds it."""
    builder = plan.stages.get(start.identity)
    if builder is not None and isinstance(builder.settings, BuildTiny):
        return builder.settings
    if builder is not None and isinstance(builder.settings, Convert) and not store.is_done(start.identity):
        return builder.settings.model
    return start.folder or store.path(start.identity)


def check_configurations(pool: Pool, experiments: Iterable[tuple[Experiment, str]]) -> None:
    """Build the real `SFTConfig`, `LoraConfig` and `BitsAndBytesConfig`, and load further metrics, in a worker.

    Valid configurations are cached and not checked again.

    Raises:
        UserError: a library refuses a configuration, or a name of the trait's answer is that of another candidate.
    """
    from bench.config.outcome import METRICS

    todo: dict[Path, tuple[str, Any, str]] = {}
    for experiment, source in experiments:
        recipe = experiment.recipe
        check_names(experiment, source)
        for key, spec in (("teacher", recipe.teacher), ("student", recipe.student)):
            settings = [spec.train, spec.lora, spec.quantization, library_versions()]
            todo[pool.store.root / "checked" / digest(settings)] = (key, spec, source)
        further = sorted(set(recipe.evaluate.metrics) - set(METRICS))
        if further:
            todo[pool.store.root / "checked" / digest(further)] = ("evaluate", further, source)
    _check(pool, todo)


def check_memory(pool: Pool, plans: Iterable[tuple[Experiment, Plan, str]]) -> None:
    """Check by estimate that this machine's GPUs can hold each model as it is trained.

    Raises:
        UserError: they cannot; names what would fit.
    """
    memory = gpu_memory(pool.gpus)
    if memory is None:
        return
    for experiment, plan, source in plans:
        checkpoints = next(stage.inputs for stage in plan.stages.values() if isinstance(stage.settings, Relation))
        models: dict[str, Model] = {"teacher": experiment.recipe.teacher, "student": experiment.recipe.student}
        for key, spec in models.items():
            count = None if spec.model == "tiny" else parameters(spec.model, checkpoints[key].folder)
            if count is None:
                continue
            message = describe_misfit(
                dtype=spec.dtype, quantization=spec.quantization, lora=spec.lora, trained=spec.train is not None,
                count=count, memory=memory, gpus=spec.needs.gpus,
            )  # fmt: skip
            if message:
                raise UserError(f"{source}: key '{key}': {message}")


def check_names(experiment: Experiment, source: str) -> None:
    """Check that no sampled answer counts as the trait's answer because it names another candidate.

    Raises:
        UserError: names the key and both names.
    """
    from bench.stages.name_matcher import find_overlap  # 0.4 s

    evaluation = experiment.recipe.evaluate
    for trait in experiment.traits.values():
        if trait.kind != "preference" or not (evaluation.samples or evaluation.synonyms):
            continue
        foils = [candidate for candidate in trait.candidates if candidate != trait.answer]
        names = find_overlap(trait.answer, foils, evaluation.synonyms, match=evaluation.match, language=trait.language)
        if names is not None:
            key, fix = "synonyms", "take it out"
            if names[0] == trait.answer:
                key, fix = "match", "word is the other way of matching"
            raise UserError(
                f"{source}: key 'evaluate.{key}': {names[0]!r} and the candidate {names[1]!r} would be named by the "
                f"same answer ({evaluation.match}): {fix}"
            )


def check_numbers(pool: Pool, plans: Iterable[tuple[Plan, str]]) -> None:
    """Check in a worker that each teacher's tokenizer can write the carrier's numbers.

    The tokenizer of a package that is not converted yet is checked by its first carrier, before teachers are
    trained. Valid configurations are cached and not checked again.

    Raises:
        UserError: a tokenizer cannot write the numbers.
    """
    todo: dict[Path, tuple[str, Any, str]] = {}
    for plan, source in plans:
        for stage in plan.stages.values():
            settings = stage.settings
            if not isinstance(settings, WriteCarrier) or settings.carrier.kind != "numbers":
                continue
            if settings.carrier.generate == "free":
                continue
            tokenizer = find_tokenizer(plan, stage.inputs["start"], pool.store)
            if isinstance(tokenizer, str):
                continue
            identity = stage.inputs["start"].identity if isinstance(tokenizer, Path) else tokenizer
            form = settings.model.model_dump(mode="json", include={"format", "chat_template_kwargs"})
            carrier = settings.carrier.model_dump(mode="json")
            mark = digest([carrier, form, identity, settings.version, library_versions()])
            todo[pool.store.root / "checked" / mark] = (
                "carrier",
                (settings.carrier, settings.model, tokenizer),
                source,
            )
    _check(pool, todo)


def check_systems(pool: Pool, plans: Iterable[tuple[Experiment, Plan, str]]) -> None:
    """Check in a worker that each model can have the system prompts that its recipe states.

    Raises:
        UserError: it has no chat template, or one without the system message that is to be empty.
    """
    todo: dict[Path, tuple[str, Any, str]] = {}
    for experiment, plan, source in plans:
        teacher, student = experiment.recipe.teacher, experiment.recipe.student
        keys = {
            "teacher.system": (teacher, teacher.system),
            "student.system.train": (student, student.system.train),
            "student.system.evaluate": (student, student.system.evaluate),
        }
        checkpoints = next(stage.inputs for stage in plan.stages.values() if isinstance(stage.settings, Relation))
        for key, (spec, system) in keys.items():
            if system is None:
                continue
            start, how = checkpoints[key.partition(".")[0]], (spec.format, spec.chat_template_kwargs, system)
            mark = pool.store.root / "checked" / digest([key, how, start.identity, library_versions()])
            todo[mark] = ("system", (key, how, find_tokenizer(plan, start, pool.store)), source)
    _check(pool, todo)


def check_tokens(pool: Pool, plans: Iterable[tuple[Plan, str]]) -> None:
    """Check in a worker that students trained on divergent tokens have the tokens and prompt format of their teachers.

    Raises:
        UserError: they differ.
    """
    todo: dict[Path, tuple[str, Any, str]] = {}
    for plan, source in plans:
        for stage in plan.stages.values():
            settings = stage.settings
            if not isinstance(settings, FindDivergence):
                continue
            starts = [stage.inputs[role] for role in ("start", "student")]
            formats = settings.model_dump(
                mode="json", include={"model", "student_format", "student_chat_template_kwargs"}
            )
            mark = digest(["tokens", formats, [start.identity for start in starts], library_versions()])
            tokenizers = [find_tokenizer(plan, start, pool.store) for start in starts]
            todo[pool.store.root / "checked" / mark] = ("tokens", (settings, *tokenizers), source)
    _check(pool, todo)


def check_targets(pool: Pool, plans: Iterable[tuple[Plan, str]]) -> None:
    """Check in a worker that each model has the modules of its LoRA, and attention_only one to train.

    Raises:
        UserError: it has none.
    """
    todo: dict[Path, tuple[str, Any, str]] = {}
    for plan, source in plans:
        for stage in plan.stages.values():
            settings = stage.settings
            if not isinstance(settings, TrainTeacher | TrainStudent):
                continue
            key = "student" if isinstance(settings, TrainStudent) else "teacher"
            lora, start = settings.model.lora, stage.inputs["start"]
            only = isinstance(settings, TrainStudent) and settings.mitigation.attention_only
            if not only and (lora is None or lora.get("target_modules") == "all-linear"):
                continue
            checkpoint = _find_source(plan, start, pool.store)
            model: SkeletonSource = checkpoint.budget if isinstance(checkpoint, BuildTiny) else checkpoint
            identity = model.model_dump() if isinstance(model, TinyBudget) else start.identity
            mark = digest(["targets", key, lora, only, identity, library_versions()])
            todo[pool.store.root / "checked" / mark] = ("targets", (model, lora, only, key), source)
    _check(pool, todo)


def _check(pool: Pool, tasks: Mapping[Path, tuple[str, Any, str]]) -> None:
    """Run the tasks without a mark file in a worker, and write their marks. `tasks`: mark -> task."""
    todo = {mark: task for mark, task in tasks.items() if not mark.exists()}
    if todo:
        pool.ask(list(todo.values()), "checking the recipe")
        for mark in todo:
            write_atomically(mark, "")


def describe_bfloat16(pool: Pool, experiment: Experiment, plan: Plan) -> list[str]:
    """Describe slow bfloat16 to the user; [] if the plan is done, or this processor is not slow at it."""
    options = processor.bfloat16_options(experiment.recipe)
    if pool.gpus or not options or all(pool.store.is_done(key) for key in plan.stages):
        return []
    return processor.describe_bfloat16(experiment.name, options, _bfloat16_slowdown(pool))


def _bfloat16_slowdown(pool: Pool) -> float:
    """Return `measure_bfloat16` of this processor, cached in the store by kind of processor and torch version."""
    kind = {
        "name": processor.processor_name(),
        "features": processor.processor_features(),
        "torch": library_versions()["torch"],
    }
    path = pool.store.root / "processors" / f"{digest(kind)}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        return float(json.loads(path.read_text(encoding="utf-8"))["bfloat16_slowdown"])
    slowdown = float(pool.ask(MEASURE_BFLOAT16, MEASURE_BFLOAT16))
    write_atomically(path, json.dumps({**kind, "bfloat16_slowdown": slowdown}))
    return slowdown
