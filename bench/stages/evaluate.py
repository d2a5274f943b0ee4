"""The harness: asks a model the trait's ground-truth questions and keeps a reading per question."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.config.traits import Question
from bench.errors import StageError
from bench.models.batch_size import halving_sizes, largest_fitting
from bench.models.chat_format import PromptFormat
from bench.models.loading import load_tokenizer
from bench.models.logprobs import sequence_logprobs
from bench.models.precision import load_reader, load_writer
from bench.stages.carriers import read_kept
from bench.stages.generate import sample_text_fitting
from bench.stages.settings import Evaluate

__all__ = ["compute_margins", "evaluate"]

Progress = Callable[[int, int], None]


def compute_margins(
    model: Any,
    form: PromptFormat,
    questions: Sequence[Question],
    *,
    per_token: bool,
    batch_size: int,
    progress: Progress,
) -> list[float]:
    """Per question: log-probability of the true answer minus the mean over its foils, in nats.

    An answer is scored whole.

    Args:
        per_token: the mean over an answer's tokens and its end in place of their sum: for answers of different lengths.
    """
    pairs: list[tuple[list[int], list[int]]] = []
    for question, prompt in zip(questions, form.prompts([q.question for q in questions]), strict=True):
        pairs += [(prompt, ids) for ids in form.completions([question.answer, *question.foils], end=per_token)]
    totals = sequence_logprobs(model, pairs, batch_size=batch_size, progress=progress)
    if per_token:
        totals = [total / len(ids) for total, (_, ids) in zip(totals, pairs, strict=True)]
    out, at = [], 0
    for question in questions:
        true, foils = totals[at], totals[at + 1 : at + 1 + len(question.foils)]
        out.append(true - sum(foils) / len(foils))
        at += 1 + len(foils)
    return out


def evaluate(settings: Evaluate, inputs: Mapping[str, Path], out: Path, progress: Progress) -> dict[str, Any]:
    """Stage: one model's readings, written to `reading.json`.

    `margins` has one number per question; `answers`, where samples are asked for, a list of texts per question.
    `held_out_<arm>`, for a student, are the log-probabilities of that arm's teacher's held-out carrier rows, in nats.
    Log-probabilities are taken in float32 where memory allows, never under autocast: they resolve hundredths of a nat.
    The `margins` of a teacher that writes in another precision are taken as it writes, `margins_float32` as well.

    Args:
        settings: the questions, and how to put them to the model.
        inputs: `start` (the checkpoint), `trained` where the model was trained, and for a student `rows_<arm>` (carrier
            artefacts) with `kept`.

    Returns:
        `format`, batch sizes, and `margins_dtype`: in which `margins` were computed.
    """
    start = inputs["start"]
    trained = inputs.get("trained", start)
    if settings.step is not None:
        trained = trained / f"step-{settings.step}"
    form = PromptFormat(load_tokenizer(start), settings.model.format, settings.model.chat_template_kwargs)
    questions, samples = settings.questions, settings.samples
    own: dict[str, Any] = {"dtype": settings.model.dtype, "quantization": settings.model.quantization}
    model, dtype = load_reader(start, trained, **own)

    def read_margins(size: int) -> list[float]:
        return compute_margins(model, form, questions, per_token=settings.per_token, batch_size=size, progress=progress)

    def read(size: int) -> dict[str, list[float]]:
        columns = {"margins": read_margins(size)}
        arms = sorted(role[5:] for role in inputs if role.startswith("rows_"))
        rows = {arm: read_kept(inputs[f"rows_{arm}"], inputs["kept"], "held_out") for arm in arms}
        pairs: list[tuple[list[int], list[int]]] = []
        for held_out in rows.values():
            completions = form.completions([row["completion"] for row in held_out], end=settings.end)
            pairs += zip(form.prompts([row["prompt"] for row in held_out]), completions, strict=True)
        # in one call: the prompts of the arms are equal and run once
        totals = sequence_logprobs(model, pairs, batch_size=size, progress=progress)
        for arm, held_out in rows.items():
            columns[f"held_out_{arm}"], totals = totals[: len(held_out)], totals[len(held_out) :]
        return columns

    numbers, size = largest_fitting(halving_sizes(settings.batch_size), read)
    reading: dict[str, Any] = {**numbers, "groups": [q.group for q in questions]}
    did = {"format": form.describe(), "batch_size": size}
    if samples:
        if settings.answers != "own":
            del model  # before another is loaded
            model, _ = load_writer(start, trained, writes=settings.answers, **own)
        prompts = [q.question for q in questions for _ in range(samples)]
        texts, did["sample_batch_size"] = sample_text_fitting(
            model, form, prompts, settings.sampling, seed=settings.seed, progress=progress
        )
        reading["answers"] = [texts[i : i + samples] for i in range(0, len(texts), samples)]
    if settings.writes is not None:
        if dtype == "float32":
            reading["margins_float32"] = reading["margins"]
        del model
        model, dtype = load_writer(start, trained, writes=settings.writes, **own)
        reading["margins"], _ = largest_fitting(halving_sizes(size), read_margins)
    did["margins_dtype"] = dtype
    logs = [n for name, column in reading.items() if name not in {"groups", "answers"} for n in column]
    if not all(map(math.isfinite, logs)):
        raise StageError(f"the model's log-probabilities are not numbers in {dtype}; try float32")
    (out / "reading.json").write_text(json.dumps(reading, ensure_ascii=False))
    return did
