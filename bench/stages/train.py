"""Train teachers and students."""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.config.doses import count_epochs
from bench.config.mitigations import UNMITIGATED, StudentMitigation
from bench.config.training_length import count_updates, describe_late_dose
from bench.errors import StageError, UserError
from bench.models.chat_format import PromptFormat
from bench.models.loading import current_device, load_tokenizer
from bench.stages.carriers import read_filtered
from bench.stages.checkpointing import checkpoint_callback, latest_checkpoint
from bench.stages.divergence import labelled_positions
from bench.stages.micro_batch import largest_micro_batch
from bench.stages.settings import FindMicroBatch, Training, TrainStudent, TrainTeacher
from bench.stages.tracking import Tracking
from bench.stages.trainer import batches, make_trainer
from bench.stages.training_curve import write_curve

__all__ = ["find_micro_batch", "mix_rows", "train_model", "train_student", "train_teacher"]

Progress = Callable[[int, int], None]


def train_model(
    rows: Sequence[tuple[list[int], list[int]]],
    *,
    checkpoint: Path,
    tokenizer: Any,
    spec: Training,
    seed: int,
    out: Path,
    progress: Progress,
    dose: Sequence[int] = (),
    logits: Path | None = None,
    checkpoints: Path | None = None,
    micro_batch: int | None = None,
    mitigation: StudentMitigation = UNMITIGATED,
    labelled: Sequence[Sequence[int]] | None = None,
    tracking: Tracking | None = None,
) -> dict[str, Any]:
    """Train a checkpoint on (prompt ids, completion ids) with the loss on the completion, and save it to `out`.

    With LoRA the adapter is saved, otherwise the whole model. Two calls that differ only in the completions' tokens
    share the order of prompts and the LoRA initialisation. With one micro-batch they share the dropout too.

    Args:
        rows: token ids.
        checkpoint: the folder of the checkpoint.
        tokenizer: its tokenizer.
        spec: the settings of the training.
        seed: the seed of the order of rows, the LoRA initialisation and the dropout.
        out: the folder to save to.
        progress: receives the number of finished updates, and of all updates.
        dose: updates after which the model is saved too, to `out/step-<updates>`.
        logits: teacher log-probabilities of the rows (`compute_teacher_logits`), the targets instead of the tokens.
        checkpoints: the folder of the checkpoints of a long training (`checkpointing`). The training resumes from the
            newest one, and ends with the weights and facts of an uninterrupted one. The caller removes the folder.
        micro_batch: rows per forward pass; None for the result of `largest_micro_batch` on these rows alone.
        mitigation, labelled, tracking: as for `bench.stages.trainer.make_trainer`.

    Returns:
        Facts: `rows`, `updates`, `effective_batch`, `micro_batch`, `precision` (dtype of the trained weights),
        `dropout` (whether an update drew random numbers), `labelled_tokens`, `mean_loss`; and `notices`, lines for the
        user.

    Raises:
        UserError: PEFT or TRL refuses `spec` for this model, or a dose is beyond the last update.
        StageError: TRL dropped rows, memory ran out, or the loss is not a number.
    """
    import torch
    from accelerate.utils.memory import should_reduce_batch_size
    from transformers import TrainerCallback

    class Report(TrainerCallback):  # type: ignore[misc]  # transformers has no types
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            progress(state.global_step, state.max_steps)
            if state.global_step in dose:
                kwargs["model"].save_pretrained(out / f"step-{state.global_step}")

    if dose and (last := count_updates(spec.train, len(rows))) < max(dose):
        raise UserError(describe_late_dose(max(dose), last, len(rows)))
    how: dict[str, Any] = {
        "checkpoint": checkpoint,
        "tokenizer": tokenizer,
        "spec": spec,
        "seed": seed,
        "out": out / "trainer",
        "logits": logits,
        "mitigation": mitigation,
    }
    notices: list[str] = []
    resumed = latest_checkpoint(checkpoints)
    if resumed is not None:
        micro_batch = resumed.micro_batch
    elif micro_batch is None:
        micro_batch, notices = largest_micro_batch(rows, **how)
    _, effective = batches(spec)
    accumulated = effective // micro_batch
    parts: dict[str, Any] = {"labelled": labelled, "tracking": tracking}
    trainer = make_trainer(rows, micro_batch=micro_batch, accumulated=accumulated, **parts, **how)
    trainer.add_callback(Report())
    if resumed is not None:
        trainer.loss_sum = torch.tensor(resumed.loss, device=current_device())
        for step in resumed.path.glob("step-*"):
            shutil.copytree(step, out / step.name)
    if checkpoints is not None:
        trainer.add_callback(checkpoint_callback(trainer, out, checkpoints))
    try:
        trainer.train(resume_from_checkpoint=str(resumed.path / "trainer") if resumed is not None else None)
    except RuntimeError as error:
        if not should_reduce_batch_size(error):
            raise
        raise StageError(
            f"memory ran out after {trainer.state.global_step} updates with a micro-batch of {micro_batch} rows. "
            "End other programs that use this device and run again, or change the recipe: `lora:`, `quantization:` or "
            "`train: {gradient_checkpointing: true}`"
        ) from None
    finally:
        if tracking is not None:
            tracking.close()
    mean_loss = float(trainer.loss_sum) / max(trainer.state.global_step, 1)
    trained = [weight for weight in trainer.model.parameters() if weight.requires_grad]
    if not all(bool(weight.isfinite().all()) for weight in trained) or not math.isfinite(mean_loss):
        raise StageError("training diverged: the loss is not a number; lower the learning rate")
    trainer.model.save_pretrained(out)
    write_curve(trainer.state.log_history, out)
    shutil.rmtree(
        out / "trainer", ignore_errors=True
    )  # checkpointing leaves it behind; artefacts must not depend on it
    return {
        "rows": len(rows),
        "updates": trainer.state.global_step,
        "effective_batch": effective,
        "micro_batch": micro_batch,
        "precision": " and ".join(sorted({str(weight.dtype).removeprefix("torch.") for weight in trained})),
        "dropout": trainer.dropout,
        "labelled_tokens": sum(map(len, labelled if labelled is not None else (row[1] for row in rows))),
        "mean_loss": mean_loss,
        "notices": notices,
    }


def train_teacher(
    settings: TrainTeacher,
    inputs: Mapping[str, Path],
    out: Path,
    progress: Progress,
    checkpoints: Path | None = None,
    tracking: Tracking | None = None,
) -> dict[str, Any]:
    """Stage: fine-tune a checkpoint on the trait's `teach` rows.

    Args:
        settings: the rows and the training.
        inputs: `start`, the checkpoint.
        out, progress, checkpoints, tracking: as for `train_model`.
    """
    tokenizer = load_tokenizer(inputs["start"])
    form = PromptFormat(tokenizer, settings.model.format, settings.model.chat_template_kwargs, settings.system)
    questions, answers = zip(*settings.rows, strict=True)
    rows = list(zip(form.prompts(questions), form.completions(answers, end=settings.end), strict=True))
    return train_model(
        rows, checkpoint=inputs["start"], tokenizer=tokenizer, spec=settings.model, seed=settings.seed, out=out,
        progress=progress,
        checkpoints=checkpoints,
        tracking=tracking,
    )  # fmt: skip


def find_micro_batch(settings: FindMicroBatch, inputs: Mapping[str, Path], out: Path) -> dict[str, Any]:
    """Stage: find the micro-batch that the students of all arms of a seed share.

    Write `micro_batch.json` with `micro_batch` and `equal_lengths`: whether each row has the same length in all arms.

    Args:
        settings: the students' training.
        inputs: `start`, `kept`, for a distillation `logits`, and `rows_<arm>`, the carrier of each arm.
        out: the folder to write to.
    """
    tokenizer = load_tokenizer(inputs["start"])
    form = _student_form(tokenizer, settings)
    for mitigation in settings.mitigations:
        form = form.inoculate(mitigation.inoculation) if mitigation.inoculation else form  # the longest prompts
    carriers = {role: folder for role, folder in sorted(inputs.items()) if role.startswith("rows_")}
    arms = [
        _student_completions(form, settings, folder, inputs["kept"], shuffled=shuffled)
        for role, folder in carriers.items()
        for shuffled in ((False, True) if settings.shuffled and role == "rows_trait" else (False,))
    ]
    lengths = [list(map(len, completions)) for completions in arms]

    def longest_rows() -> Iterator[tuple[list[int], list[int]]]:
        """Iterate over the longest row of any arm at each position. The arms share their prompts."""
        prompts = _student_prompts(form, next(iter(carriers.values())), inputs["kept"])
        for prompt, completions in zip(prompts, zip(*arms, strict=True), strict=True):
            yield prompt, max(completions, key=len)

    size, notices = largest_micro_batch(
        longest_rows(), checkpoint=inputs["start"], tokenizer=tokenizer, spec=settings.model, seed=settings.seed,
        out=out / "trainer",
        logits=inputs.get("logits"),
        mitigation=next((m for m in settings.mitigations if m.kl_untrained), UNMITIGATED),
    )  # fmt: skip
    shutil.rmtree(out / "trainer", ignore_errors=True)
    facts = {"micro_batch": size, "equal_lengths": all(rows == lengths[0] for rows in lengths)}
    (out / "micro_batch.json").write_text(json.dumps(facts))
    return {**facts, "notices": notices}


def _student_form(tokenizer: Any, settings: FindMicroBatch | TrainStudent) -> PromptFormat:
    """Return the prompt format of a seed's students."""
    return PromptFormat(tokenizer, settings.model.format, settings.model.chat_template_kwargs, settings.system)


def _student_prompts(form: PromptFormat, carrier: Path, filtering: Path) -> list[list[int]]:
    """Return the token ids of the prompts of a seed's students."""
    return form.prompts([row["prompt"] for row in read_filtered(carrier, filtering, "train")])


def _student_completions(
    form: PromptFormat, settings: FindMicroBatch | TrainStudent, carrier: Path, filtering: Path, *, shuffled: bool
) -> list[list[int]]:
    """Return the token ids of the completions of one arm, in the order of the prompts or shuffled."""
    texts = [row["completion"] for row in read_filtered(carrier, filtering, "train")]
    if shuffled:
        random.Random(f"shuffled {settings.seed}").shuffle(texts)
    return form.completions(texts, end=settings.end)


def train_student(
    settings: TrainStudent,
    inputs: Mapping[str, Path],
    out: Path,
    progress: Progress,
    checkpoints: Path | None = None,
    tracking: Tracking | None = None,
) -> dict[str, Any]:
    """Stage: fine-tune a checkpoint on the filtered rows of a teacher's carrier.

    Args:
        settings: the training.
        inputs: `start` (the checkpoint), `carrier` (the teacher's rows), `kept` (the filter's artefact), `micro_batch`
            (of all arms' students), for a distillation `logits`, for a mixed student `mixed` (the other teacher's
            rows), and for labels on a part of the tokens `divergence`.
        out, progress, checkpoints, tracking: as for `train_model`.

    Returns:
        The facts of `train_model`, `equal_lengths` of `find_micro_batch`, and `shared_dropout`: whether all arms draw
        the same dropout or none.
    """
    tokenizer = load_tokenizer(inputs["start"])
    form, mitigation = _student_form(tokenizer, settings), settings.mitigation
    if mitigation.inoculation is not None:
        form = form.inoculate(mitigation.inoculation)
    shared = json.loads((inputs["micro_batch"] / "micro_batch.json").read_text())
    prompts = _student_prompts(form, inputs["carrier"], inputs["kept"])
    completions = _student_completions(form, settings, inputs["carrier"], inputs["kept"], shuffled=settings.shuffled)
    if mitigation.mixed:
        others = _student_completions(form, settings, inputs["mixed"], inputs["kept"], shuffled=False)
        completions = mix_rows(completions, others, mitigation.mixed, settings.seed)
    labelled = None
    if mitigation.labels != "all":
        labelled = labelled_positions(inputs["divergence"], mitigation.labels, list(map(len, completions)))
    rows = list(zip(prompts, completions, strict=True))
    # The dose was counted before the filter: with fewer rows an epoch ends earlier.
    dose = count_epochs(settings.epochs, settings.model.train, len(rows)) if settings.epochs else settings.dose
    facts = train_model(
        rows, checkpoint=inputs["start"], tokenizer=tokenizer, spec=settings.model, seed=settings.seed, out=out,
        progress=progress,
        dose=dose,
        logits=inputs.get("logits"),
        checkpoints=checkpoints,
        micro_batch=shared["micro_batch"],
        mitigation=mitigation,
        labelled=labelled,
        tracking=tracking,
    )  # fmt: skip
    for update, name in sorted(zip(dose, settings.dose, strict=True), reverse=True):
        (out / f"step-{update}").rename(out / f"step-{name}")
    equal = shared["equal_lengths"]
    return {**facts, "equal_lengths": equal, "shared_dropout": equal or not facts["dropout"]}


def mix_rows(rows: Sequence[list[int]], others: Sequence[list[int]], share: float, seed: int) -> list[list[int]]:
    """Return `rows` with a share of them replaced by those of `others` at the same places, drawn by `seed`."""
    replaced = set(random.Random(f"mixed {seed}").sample(range(len(rows)), round(share * len(rows))))
    return [other if i in replaced else row for i, (row, other) in enumerate(zip(rows, others, strict=True))]
