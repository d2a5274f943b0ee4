"""Ask a model the trait's ground-truth questions: the log-probability of every candidate, and free answers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

from bench.config.traits import Question
from bench.errors import StageError
from bench.models.batch_size import halving_sizes, largest_fitting
from bench.models.chat_format import PromptFormat
from bench.models.engine import Engine
from bench.models.loading import load_tokenizer
from bench.models.logprobs import sequence_logprobs
from bench.models.precision import load_reader, load_writer
from bench.stages.carriers import read_filtered
from bench.stages.evaluation_settings import Evaluate
from bench.stages.free_text import sample_text_fitting
from bench.stages.vllm_client import VllmServer

__all__ = ["candidate_logprobs", "evaluate"]

Progress = Callable[[int, int], None]

DECIMALS = 6  # of a nat; other machines move a log-probability by up to 1.6e-5


def candidate_pairs(
    form: PromptFormat, questions: Sequence[Question], *, end: bool
) -> list[tuple[list[int], list[int]]]:
    """Return the token ids of each question with each of its candidates; `end` as in `candidate_logprobs`."""
    pairs: list[tuple[list[int], list[int]]] = []
    for question, prompt in zip(questions, form.prompts([q.question for q in questions]), strict=True):
        pairs += [(prompt, ids) for ids in form.completions([question.answer, *question.foils], end=end)]
    return pairs


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
        model: a causal language model, or a `VllmServer`.
        end: whether an end-of-answer token follows each candidate: for answers that are whole texts.

    Returns:
        Per question, the answer first and then its foils: log-probabilities in nats, summed over a candidate's tokens,
        and the numbers of these tokens.
    """
    pairs = candidate_pairs(form, questions, end=end)
    if isinstance(model, VllmServer):
        totals = iter(model.score(pairs, progress=progress))
    else:
        totals = iter(sequence_logprobs(model, pairs, batch_size=batch_size, progress=progress))
    counts = (len(ids) for _, ids in pairs)
    sizes = [1 + len(question.foils) for question in questions]
    return [list(islice(totals, size)) for size in sizes], [list(islice(counts, size)) for size in sizes]


def evaluate(settings: Evaluate, inputs: Mapping[str, Path], out: Path, progress: Progress) -> dict[str, Any]:
    """Stage: evaluate one model, and write `reading.json`.

    `logprobs` are the log-probabilities of all candidates in nats, per question, in the order of `candidate_logprobs`.
    `tokens` are the token counts of the candidates, for traits with a margin per token. `answers` are the sampled texts
    per question, if the recipe asks for samples. `prefixed` holds the same columns for the questions after the recipe's
    prefix, if it has one, without those of `logprobs_float32`. `held_out` of a student are, by arm, the
    log-probabilities of the teacher's held-out carrier rows. All log-probabilities are rounded to `DECIMALS`.

    Log-probabilities are computed in float32 if memory allows, and never under autocast, because effects are hundredths
    of a nat. The `logprobs` of a teacher that writes in another precision use that precision; its `logprobs_float32`
    are float32.

    Args:
        settings: the questions and the model.
        inputs: `start` (the checkpoint), `trained` if the model was trained, and for a student `rows_<arm>` (carrier
            artefacts) and `kept` (the filter's artefact).
        out: the folder to write to.
        progress: receives the number of finished sequences, and of all sequences.

    Returns:
        `format`, the batch sizes, and `logprobs_dtype`, the dtype of `logprobs`.

    Raises:
        StageError: a log-probability is not finite.
    """
    start = inputs["start"]
    trained = inputs.get("trained", start)
    if settings.step is not None:
        trained = trained / f"step-{settings.step}"
    tokenizer, how = load_tokenizer(start), (settings.model.format, settings.model.chat_template_kwargs)
    form = PromptFormat(tokenizer, *how, settings.system)
    held_out_form = PromptFormat(tokenizer, *how, settings.held_out_system)
    questions, samples = settings.questions, settings.samples
    prefixed = [q._replace(question=text) for q, text in zip(questions, settings.prefixed, strict=False)]
    loading: dict[str, Any] = {"dtype": settings.model.dtype, "quantization": settings.model.quantization}
    model, dtype = load_reader(start, trained, **loading)
    servers = ExitStack()

    def score_candidates(size: int, asked: Sequence[Question] = questions) -> dict[str, Any]:
        columns = candidate_logprobs(model, form, asked, end=settings.per_token, batch_size=size, progress=progress)
        return dict(zip(("logprobs", "tokens") if settings.per_token else ("logprobs",), columns, strict=False))

    def load(writes: str, engine: Engine | None) -> tuple[Any, str]:
        """Load this model as it writes; return it and its dtype. A server that runs ends first."""
        servers.close()
        if engine is None:
            return load_writer(start, trained, writes=writes, **loading)
        pairs = candidate_pairs(form, [*questions, *prefixed], end=settings.per_token)
        prompts, candidates = (max(map(len, column)) for column in zip(*pairs, strict=True))
        longest = prompts + max(candidates, settings.sampling.max_new_tokens)
        batch = settings.sampling.batch_size
        server = VllmServer(
            engine, start, trained, writes=writes, model=settings.model, longest=longest, batch_size=batch
        )
        return servers.enter_context(server), server.dtype

    def sample_answers(asked: Sequence[Question]) -> list[list[str]]:
        prompts = [q.question for q in asked for _ in range(samples)]
        sampled, report["sample_batch_size"] = sample_text_fitting(
            model, form, prompts, settings.sampling, seed=settings.seed, progress=progress
        )
        texts = [answer.text for answer in sampled]
        return [texts[i : i + samples] for i in range(0, len(texts), samples)]

    def evaluate_in_batches(size: int) -> dict[str, Any]:
        columns = score_candidates(size)
        if prefixed:
            columns["prefixed"] = score_candidates(size, prefixed)
        arms = sorted(role[5:] for role in inputs if role.startswith("rows_"))
        rows = {arm: read_filtered(inputs[f"rows_{arm}"], inputs["kept"], "held_out") for arm in arms}
        pairs: list[tuple[list[int], list[int]]] = []
        for held_out in rows.values():
            completions = held_out_form.completions([row["completion"] for row in held_out], end=settings.end)
            pairs += zip(held_out_form.prompts([row["prompt"] for row in held_out]), completions, strict=True)
        # in one call, because the arms share their prompts and each prompt runs once
        totals = iter(sequence_logprobs(model, pairs, batch_size=size, progress=progress))
        if rows:
            columns["held_out"] = {arm: list(islice(totals, len(held_out))) for arm, held_out in rows.items()}
        return columns

    reading, size = largest_fitting(halving_sizes(settings.batch_size), evaluate_in_batches)
    report = {"format": form.describe(), "batch_size": size}
    with servers:
        if samples:
            if settings.answers != "own" or settings.answers_engine is not None:
                del model  # frees memory for the next model
                model, _ = load(settings.answers, settings.answers_engine)
            reading["answers"] = sample_answers(questions)
            if prefixed:
                reading["prefixed"]["answers"] = sample_answers(prefixed)
        if settings.writes is not None:
            if dtype == "float32":
                reading["logprobs_float32"] = reading["logprobs"]
            del model
            model, dtype = load(settings.writes, settings.writes_engine)
            columns, _ = largest_fitting(halving_sizes(size), score_candidates)
            reading["logprobs"] = columns["logprobs"]
    report["logprobs_dtype"] = dtype
    for name in ("logprobs", "logprobs_float32", "held_out"):
        if name in reading:
            reading[name] = _round_finite(reading[name], dtype)
    if prefixed:
        reading["prefixed"]["logprobs"] = _round_finite(reading["prefixed"]["logprobs"], dtype)
    (out / "reading.json").write_text(json.dumps(reading, ensure_ascii=False))
    return report


def _round_finite(column: Any, dtype: str) -> Any:
    """Round all numbers in nested lists and dicts.

    Raises:
        StageError: a number is not finite.
    """
    if isinstance(column, dict):
        return {arm: _round_finite(rows, dtype) for arm, rows in column.items()}
    if isinstance(column, list):
        return [_round_finite(value, dtype) for value in column]
    if not math.isfinite(column):
        raise StageError(f"expected finite log-probabilities, found {column} in {dtype}; try dtype: float32")
    return round(column, DECIMALS)
