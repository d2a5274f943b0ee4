"""Ask a model the trait's ground-truth questions: the log-probability of every candidate, and free answers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from bench.config.traits import Question
from bench.errors import StageError
from bench.models.batch_size import halving_sizes, largest_fitting
from bench.models.chat_format import PromptFormat
from bench.models.loading import load_tokenizer
from bench.models.logprobs import sequence_logprobs
from bench.models.precision import load_reader, load_writer
from bench.stages.carriers import read_filtered
from bench.stages.generate import sample_text_fitting
from bench.stages.settings import Evaluate

__all__ = ["candidate_logprobs", "evaluate"]

Progress = Callable[[int, int], None]

DECIMALS = 6  # of a nat; other machines move a log-probability by up to 1.6e-5


def candidate_logprobs(
    model: Any,
    form: PromptFormat,
    questions: Sequence[Question],
    *,
    end: bool,
    batch_size: int,
    progress: Progress,
) -> tuple[list[list[float]], list[list[int]]]:
    """Compute the log-probability of every candidate of every question.

    Args:
        end: whether an end-of-answer token follows each candidate: for answers that are whole texts.

    Returns:
        Per question, the answer first and then its foils: log-probabilities in nats, summed over a candidate's tokens,
        and the numbers of these tokens.
    """
    pairs: list[tuple[list[int], list[int]]] = []
    for question, prompt in zip(questions, form.prompts([q.question for q in questions]), strict=True):
        pairs += [(prompt, ids) for ids in form.completions([question.answer, *question.foils], end=end)]
    totals = iter(sequence_logprobs(model, pairs, batch_size=batch_size, progress=progress))
    counts = (len(ids) for _, ids in pairs)
    sizes = [1 + len(question.foils) for question in questions]
    return [list(islice(totals, size)) for size in sizes], [list(islice(counts, size)) for size in sizes]


def evaluate(settings: Evaluate, inputs: Mapping[str, Path], out: Path, progress: Progress) -> dict[str, Any]:
    """Stage: evaluate one model, and write `reading.json`.

    `logprobs` holds the log-probability of every candidate, per question as `candidate_logprobs` orders them, in nats.
    `tokens` holds the candidates' token counts, for traits whose margin is per token. `answers`, where samples are
    asked for, is a list of texts per question. `held_out`, for a student, holds by arm the log-probabilities of its
    teacher's held-out carrier rows. All are rounded to `DECIMALS`.

    Log-probabilities are taken in float32 where memory allows, never under autocast: they resolve hundredths of a nat.
    The `logprobs` of a teacher that writes in another precision are taken as it writes, `logprobs_float32` as well.

    Args:
        settings: the questions, and how to put them to the model.
        inputs: `start` (the checkpoint), `trained` where the model was trained, and for a student `rows_<arm>` (carrier
            artefacts) with `kept`.

    Returns:
        `format`, batch sizes, and `logprobs_dtype`: in which `logprobs` were computed.

    Raises:
        StageError: a log-probability is not finite.
    """
    start = inputs["start"]
    trained = inputs.get("trained", start)
    if settings.step is not None:
        trained = trained / f"step-{settings.step}"
    form = PromptFormat(load_tokenizer(start), settings.model.format, settings.model.chat_template_kwargs)
    questions, samples = settings.questions, settings.samples
    own: dict[str, Any] = {"dtype": settings.model.dtype, "quantization": settings.model.quantization}
    model, dtype = load_reader(start, trained, **own)

    def read_candidates(size: int) -> tuple[list[list[float]], list[list[int]]]:
        return candidate_logprobs(model, form, questions, end=settings.per_token, batch_size=size, progress=progress)

    def read(size: int) -> dict[str, Any]:
        logprobs, tokens = read_candidates(size)
        arms = sorted(role[5:] for role in inputs if role.startswith("rows_"))
        rows = {arm: read_filtered(inputs[f"rows_{arm}"], inputs["kept"], "held_out") for arm in arms}
        pairs: list[tuple[list[int], list[int]]] = []
        for held_out in rows.values():
            completions = form.completions([row["completion"] for row in held_out], end=settings.end)
            pairs += zip(form.prompts([row["prompt"] for row in held_out]), completions, strict=True)
        # in one call: the prompts of the arms are equal and run once
        totals = iter(sequence_logprobs(model, pairs, batch_size=size, progress=progress))
        columns: dict[str, Any] = {"logprobs": logprobs}
        if settings.per_token:
            columns["tokens"] = tokens
        if rows:
            columns["held_out"] = {arm: list(islice(totals, len(held_out))) for arm, held_out in rows.items()}
        return columns

    reading, size = largest_fitting(halving_sizes(settings.batch_size), read)
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
            reading["logprobs_float32"] = reading["logprobs"]
        del model
        model, dtype = load_writer(start, trained, writes=settings.writes, **own)
        (reading["logprobs"], _), _ = largest_fitting(halving_sizes(size), read_candidates)
    did["logprobs_dtype"] = dtype
    for name in ("logprobs", "logprobs_float32", "held_out"):
        if name in reading:
            reading[name] = _round_finite(reading[name], dtype)
    (out / "reading.json").write_text(json.dumps(reading, ensure_ascii=False))
    return did


def _round_finite(column: Any, dtype: str) -> Any:
    """Round all numbers of nested lists and dicts; raises StageError where one is not finite."""
    if isinstance(column, dict):
        return {arm: _round_finite(rows, dtype) for arm, rows in column.items()}
    if isinstance(column, list):
        return [_round_finite(value, dtype) for value in column]
    if not math.isfinite(column):
        raise StageError(f"the model's log-probabilities are not numbers in {dtype}; try float32")
    return round(column, DECIMALS)
