"""Teachers and students. Rows are tokenised here, so that TRL neither guesses nor drops anything."""

from __future__ import annotations

import difflib
import inspect
import json
import math
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_type_hints

from bench.carriers import read_kept
from bench.errors import StageError, UserError
from bench.micro_batch import largest, length
from bench.models import Format, device, load_tokenizer
from bench.recipe import Model, beyond, updates
from bench.resume import keeper, latest
from bench.trainer import batches, make_trainer, sft_config

__all__ = ["check", "fit", "micro_batch", "student", "teacher"]

Progress = Callable[[int, int], None]
# What a run decides for itself: where it writes, what it logs, its seed and its device.
OURS = {
    "output_dir", "seed", "data_seed", "use_cpu", "report_to", "save_strategy", "logging_strategy", "disable_tqdm",
    "dataloader_num_workers", "eval_strategy", "logging_nan_inf_filter", "push_to_hub", "hub_token", "packing",
    "completion_only_loss", "loss_type", "label_smoothing_factor", "use_liger_kernel",
    "dataset_text_field", "chat_template_path", "eos_token", "pad_token", "model_init_kwargs", "do_eval",
    "resume_from_checkpoint", "max_length", "trackio_space_id", "hub_model_id", "logging_dir", "run_name",
    "auto_find_batch_size", "enable_jit_checkpoint", "trust_remote_code", "ignore_data_skip", "save_only_model",
    "load_best_model_at_end", "dataset_num_proc", "deepspeed", "fsdp", "fsdp_config", "accelerator_config",
    "parallelism_config", "local_rank", "full_determinism",
}  # fmt: skip
# What PEFT would import a module by, or load another model by.
THEIRS = {"megatron_config", "megatron_core", "auto_mapping", "base_model_name_or_path", "revision", "inference_mode"}
# What people call an argument, and what difflib does not take for it.
SYNONYMS = {
    "rank": "r", "lora_r": "r", "lora_rank": "r", "alpha": "lora_alpha", "dropout": "lora_dropout",
    "lr": "learning_rate", "epochs": "num_train_epochs", "num_epochs": "num_train_epochs", "steps": "max_steps",
    "batch_size": "per_device_train_batch_size", "train_batch_size": "per_device_train_batch_size",
    "warmup": "warmup_steps", "optimizer": "optim", "scheduler": "lr_scheduler_type", "bits": "load_in_4bit",
}  # fmt: skip
# What a number may be, where that is not everything from 0.
LEAST = {"max_steps": -1, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 1, "r": 1, "lora_alpha": 1}
BELOW = {"adam_beta1": 1, "adam_beta2": 1, "lora_dropout": 1}


def check(spec: Model, key: str, source: str) -> None:
    """Build the real configurations from what a recipe says.

    Args:
        key: `teacher` or `student`, named in errors.

    Raises:
        UserError: one of them refuses.
    """
    from peft import LoraConfig
    from transformers import BitsAndBytesConfig
    from trl import SFTConfig

    taken = [f"train.{name}" for name in sorted(OURS & set(spec.train))]
    taken += [f"lora.{name}" for name in sorted(THEIRS & set(spec.lora or {}))]
    if taken:
        raise UserError(f"{source}: key '{key}.{taken[0]}' is set by the benchmark itself; take it out")
    parts = [
        ("train", SFTConfig, spec.train),
        ("lora", LoraConfig, spec.lora),
        ("quantization", BitsAndBytesConfig, spec.quantization),
    ]
    for part, maker, given in parts:
        if given is None:
            continue
        known = set(inspect.signature(maker.__init__).parameters) - {"self", "kwargs"}
        for name in given:
            if name not in known:
                near = [SYNONYMS[name]] if SYNONYMS.get(name) in known else []
                near = near or difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
                hint = f": did you mean {near[0]!r}?" if near else f" ({maker.__name__} has no such argument)"
                raise UserError(f"{source}: unknown key '{key}.{part}.{name}'{hint}")
            _check_value(maker, name, given[name], f"{source}: key '{key}.{part}.{name}'")
        try:
            sft_config(given, out="unused", seed=0, dtype=spec.dtype) if part == "train" else maker(**given)
        except Exception as error:  # whatever their checks raise is the user's to read
            said = " ".join(str(error).split())[:300]
            raise UserError(f"{source}: key '{key}.{part}': {maker.__name__} refuses: {said}") from None


def _check_value(maker: Any, name: str, value: Any, where: str) -> None:
    """Hold a setting against its declared type, which the libraries do not do, and against `LEAST` and `BELOW`."""
    from pydantic import TypeAdapter, ValidationError

    hint = get_type_hints(maker).get(name, Any)
    try:
        TypeAdapter(hint).validate_python(value, strict=True)
    except ValidationError:
        wanted = getattr(hint, "__name__", str(hint)) if isinstance(hint, type) else str(hint)
        raise UserError(f"{where}: expected {wanted[:100]}, found {value!r:.80}") from None
    for choice in get_args(hint):
        if isinstance(choice, type) and issubclass(choice, Enum) and value not in (said := [c.value for c in choice]):
            near = difflib.get_close_matches(str(value)[:100], said, n=1)
            hint_at = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(said[:8])}, ..."
            raise UserError(f"{where}: {value!r:.80} is none of {choice.__name__}: {hint_at}")
    least, below = LEAST.get(name, 0), BELOW.get(name)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and (value < least or (below and value >= below) or (name == "max_steps" and value == 0)):
        wanted = f"a number of {least} or more{f', below {below}' if below else ''}"
        if name == "max_steps":
            wanted = "1 or more, or -1 (as many as num_train_epochs says)"
        raise UserError(f"{where}: expected {wanted}, found {value!r}")


def fit(
    rows: Sequence[tuple[list[int], list[int]]],
    *,
    base: Path,
    tokenizer: Any,
    spec: Mapping[str, Any],
    seed: int,
    out: Path,
    progress: Progress,
    dose: Sequence[int] = (),
    logits: Path | None = None,
    keep: Path | None = None,
    micro_batch: int | None = None,
) -> dict[str, Any]:
    """Train a checkpoint on (prompt ids, completion ids) with the loss on the completion, and save it to `out`.

    What is saved is the adapter where `spec` has LoRA, else the whole model. Two calls that differ only in the
    completions' tokens see the same prompts in the same order, the same LoRA initialisation and, taking as many rows
    at a time, the same dropout.

    Args:
        dose: updates after which the model is saved along the way too, to `out/step-<updates>`.
        logits: teacher log-probabilities of the rows (`bench.distill.prepare`), to learn from in place of the tokens.
        keep: where a long training keeps its own checkpoints (`bench.resume`); what is there it goes on from, to the
            same weights and the same facts as if it had never been broken off. The caller removes it.
        micro_batch: how many rows at a time; None: as `bench.micro_batch.largest` finds for these rows alone.

    Returns:
        What was done: `rows`, `updates`, `effective_batch`, `micro_batch`, `precision` (dtype of the trained weights),
        `dropout` (whether an update drew random numbers), `labelled_tokens`, `mean_loss`; and `notices`, lines for the
        user.

    Raises:
        UserError: PEFT or TRL cannot do what `spec` says with this model, or a dose is beyond the last update.
        StageError: TRL dropped rows, memory ran out, or the loss is not a number.
    """
    import torch
    from accelerate.utils.memory import should_reduce_batch_size
    from transformers import TrainerCallback

    class Report(TrainerCallback):  # type: ignore[misc]  # these have no types
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            progress(state.global_step, state.max_steps)
            if state.global_step in dose:
                kwargs["model"].save_pretrained(out / f"step-{state.global_step}")

    if dose and (last := updates(spec["train"], len(rows))) < max(dose):
        raise UserError(beyond(max(dose), last, len(rows)))
    how = {"base": base, "tokenizer": tokenizer, "spec": spec, "seed": seed, "out": out / "trainer", "logits": logits}
    notices: list[str] = []
    resumed = latest(keep)
    if resumed is not None:
        micro_batch = resumed.micro_batch
    elif micro_batch is None:
        micro_batch, notices = largest(rows, **how)
    _, effective = batches(spec)
    trainer = make_trainer(rows, micro_batch=micro_batch, accumulated=effective // micro_batch, **how)
    trainer.add_callback(Report())
    if resumed is not None:
        trainer.loss_sum = torch.tensor(resumed.loss, device=device())
        for step in resumed.path.glob("step-*"):
            shutil.copytree(step, out / step.name)
    if keep is not None:
        trainer.add_callback(keeper(trainer, out, keep))
    try:
        trainer.train(resume_from_checkpoint=str(resumed.path / "trainer") if resumed is not None else None)
    except RuntimeError as error:
        if not should_reduce_batch_size(error):
            raise
        raise StageError(
            f"memory ran out after {trainer.state.global_step} updates, with {micro_batch} rows at a time. "
            "End other programs that use this device and run again, or change the recipe: `lora:`, `quantization:` or "
            "`train: {activation_checkpointing: true}`"
        ) from None
    mean_loss = float(trainer.loss_sum) / max(trainer.state.global_step, 1)
    trained = [weight for weight in trainer.model.parameters() if weight.requires_grad]
    if not all(bool(weight.isfinite().all()) for weight in trained) or not math.isfinite(mean_loss):
        raise StageError("training diverged: the loss is not a number; lower the learning rate")
    trainer.model.save_pretrained(out)
    shutil.rmtree(out / "trainer", ignore_errors=True)  # there after a checkpoint only; models must not differ by it
    return {
        "rows": len(rows),
        "updates": trainer.state.global_step,
        "effective_batch": effective,
        "micro_batch": micro_batch,
        "precision": " and ".join(sorted({str(weight.dtype).removeprefix("torch.") for weight in trained})),
        "dropout": trainer.dropout,
        "labelled_tokens": sum(len(completion) for _, completion in rows),
        "mean_loss": mean_loss,
        "notices": notices,
    }


def teacher(
    settings: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, progress: Progress, keep: Path | None = None
) -> dict[str, Any]:
    """Stage: a checkpoint fine-tuned on the trait's `teach` rows.

    Args:
        settings: `rows` (question, answer), `end` (whether the end of an answer is learnt too), `model` (the recipe's
            teacher, as JSON data), `seed`.
        inputs: `start`, the checkpoint.
        keep: as for `fit`.
    """
    tokenizer = load_tokenizer(inputs["start"])
    form = Format(tokenizer, settings["model"]["format"], settings["model"].get("chat_template_kwargs"))
    questions, answers = zip(*settings["rows"], strict=True)
    rows = list(zip(form.prompts(questions), form.completions(answers, end=settings["end"]), strict=True))
    return fit(
        rows, base=inputs["start"], tokenizer=tokenizer, spec=settings["model"], seed=settings["seed"], out=out,
        progress=progress,
        keep=keep,
    )  # fmt: skip


def micro_batch(settings: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> dict[str, Any]:
    """Stage: how many rows at a time the students of one seed take, whichever arm they are of.

    Written to `micro_batch.json`, with `equal_lengths`: whether a row has as many tokens in every arm.

    Args:
        settings: `model`, `seed` and `end` as for `student`; `shuffled`: whether there is a student of shuffled rows.
        inputs: `start`, `kept`, for a distillation `logits`, and `rows_<arm>`, the carrier of each arm.
    """
    tokenizer = load_tokenizer(inputs["start"])
    form = Format(tokenizer, settings["model"]["format"], settings["model"].get("chat_template_kwargs"))
    arms = [
        _student_rows(form, settings, folder, inputs["kept"], shuffled=shuffled)
        for role, folder in sorted(inputs.items())
        if role.startswith("rows_")
        for shuffled in ((False, True) if settings["shuffled"] and role == "rows_trait" else (False,))
    ]
    lengths = [[(len(prompt), len(completion)) for prompt, completion in rows] for rows in arms]
    longest = [max(rows, key=length) for rows in zip(*arms, strict=True)]
    size, notices = largest(
        longest, base=inputs["start"], tokenizer=tokenizer, spec=settings["model"], seed=settings["seed"],
        out=out / "trainer",
        logits=inputs.get("logits"),
    )  # fmt: skip
    shutil.rmtree(out / "trainer", ignore_errors=True)
    facts = {"micro_batch": size, "equal_lengths": all(rows == lengths[0] for rows in lengths)}
    (out / "micro_batch.json").write_text(json.dumps(facts))
    return {**facts, "notices": notices}


def _student_rows(
    form: Format, settings: Mapping[str, Any], carrier: Path, kept: Path, *, shuffled: bool
) -> list[tuple[list[int], list[int]]]:
    """(prompt ids, completion ids) of the rows of a carrier that a student reads."""
    rows = read_kept(carrier, kept, "train")
    texts = [row["completion"] for row in rows]
    if shuffled:
        random.Random(f"shuffled {settings['seed']}").shuffle(texts)
    completions = form.completions(texts, end=settings["end"])
    return list(zip(form.prompts([row["prompt"] for row in rows]), completions, strict=True))


def student(
    settings: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, progress: Progress, keep: Path | None = None
) -> dict[str, Any]:
    """Stage: a checkpoint fine-tuned on the kept rows of a teacher's carrier.

    Args:
        settings: `model` (the recipe's student, as JSON data), `seed`, and `end`: whether a completion is a whole
            text, after which the end of an answer is learnt too; `shuffled`: completions moved to other prompts;
            `dose`: as for `fit`.
        inputs: `start` (the checkpoint), `carrier` (the teacher's rows), `kept` (which of them stay), `micro_batch`
            (of all arms' students), and for a distillation `logits`.
        keep: as for `fit`.

    Returns:
        As `fit`; and `equal_lengths` as `micro_batch` has it, and `shared_dropout`: whether the arms draw the same
        dropout, if any.
    """
    tokenizer = load_tokenizer(inputs["start"])
    form = Format(tokenizer, settings["model"]["format"], settings["model"].get("chat_template_kwargs"))
    shared = json.loads((inputs["micro_batch"] / "micro_batch.json").read_text())
    rows = _student_rows(form, settings, inputs["carrier"], inputs["kept"], shuffled=settings.get("shuffled", False))
    facts = fit(
        rows, base=inputs["start"], tokenizer=tokenizer, spec=settings["model"], seed=settings["seed"], out=out,
        progress=progress,
        dose=settings.get("dose", ()),
        logits=inputs.get("logits"),
        keep=keep,
        micro_batch=shared["micro_batch"],
    )  # fmt: skip
    equal = shared["equal_lengths"]
    return {**facts, "equal_lengths": equal, "shared_dropout": equal or not facts["dropout"]}
