"""Rates of sampling, training and asking on one device, against stock code and against what the device can do."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tests.perf.alternate import Rate, alternate, line, spread
from tests.perf.costs import Dimensions
from tests.perf.in_process import LORA, Say, best_batch, free_dtype, stock_dtype
from tests.perf.shapes import NEW_TOKENS, Amounts, Shape, load_shape
from tests.perf.sides import Side, Sides, both
from tests.perf.vllm_rate import vllm_rate

__all__ = ["LINES", "Limits", "RateSection", "find_limits", "measure_rates"]

GPU = Amounts(
    rows=2048, batches=(256, 1024), our_batches=(256, 1024), updates=30, behaviour=126, answers=(252,), matrix=8192,
    lists=512, tried_lists=256, list_batches=(128, 256), slots=(128, 256), samples=100, copied=2**30,
)  # fmt: skip
LINES = ("sampling", "lists", "training", "answers", "margins")  # the kinds of work


class Limits(NamedTuple):
    """What the device can do."""

    product: float
    """Operations a second of a large bfloat16 product."""
    bandwidth: float
    """Bytes a second that a large copy reads and writes."""


class RateSection(NamedTuple):
    """The rates of one kind of work."""

    lines: list[dict[str, Any]]
    """Of the table: see `tests.perf.alternate.line`."""
    peaks: dict[str, float]
    """Bytes of memory at the height of each way."""
    notes: list[str]


class Run(NamedTuple):
    """One run of the rates."""

    shape: Shape
    model: Dimensions
    amounts: Amounts
    repeats: int
    limits: Limits
    say: Say
    vllm: Path | None
    """A Python with vLLM."""


def find_limits(amounts: Amounts, say: Say) -> Limits:
    """Measure a large bfloat16 product and a large copy; the best of five."""
    import torch

    from bench.models.loading import current_device

    device = current_device()
    a, b = (torch.randn(amounts.matrix, amounts.matrix, device=device).bfloat16() for _ in range(2))
    source = torch.zeros(amounts.copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def rate(work: Callable[[], Any], units: float) -> float:
        rates = []
        for _ in range(6):  # the first warms up
            begun = time.perf_counter()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize()
            rates.append(units / (time.perf_counter() - begun))
        return max(rates[1:])

    limits = Limits(rate(lambda: a @ b, 2.0 * amounts.matrix**3), rate(lambda: target.copy_(source), 2.0 * len(source)))
    say(f"limits: {limits.product / 1e12:.4g} TFLOP/s, {limits.bandwidth / 1e9:.4g} GB/s")
    return limits


def measure_rates(
    kind: str, shape: str, store: Path, amounts: Amounts, limits: Limits, *,
    repeats: int, threads: int, vllm: Path | None, say: Say,
) -> RateSection:  # fmt: skip
    """Measure one of `LINES` by turns in two processes."""
    from transformers import AutoConfig

    loaded = load_shape(shape, store)
    config = AutoConfig.from_pretrained(loaded.folder).to_dict()
    model = Dimensions.of_config(config.pop("model_type"), config)
    run = Run(loaded, model, amounts, repeats, limits, say, vllm)
    section = {"lists": "free", "answers": "rates", "margins": "asking"}.get(kind, kind)
    sides = both(section, shape, store, amounts, threads)
    try:
        return MEASURES[kind](run, sides)
    finally:
        sides.own.end()
        sides.stock.end()


def _against(run: Run, what: str, operations: list[float], moved: list[float]) -> list[dict[str, Any]]:
    """Return the lines of a way's operations and bytes a second against the device's."""
    product, bandwidth = run.limits.product / 1e9, run.limits.bandwidth / 1e9
    size = run.amounts.matrix
    lines = [
        line(f"{what}: GFLOP", [of / 1e9 for of in operations], [product] * len(operations),
             f"a bfloat16 product of {size} x {size}", None),
    ]  # fmt: skip
    if moved:
        lines.append(
            line(f"{what}: GB of weights and cache", [of / 1e9 for of in moved], [bandwidth] * len(moved),
                 f"a copy of {run.amounts.copied / 1e9:.3g} GB, read and written", None)
        )  # fmt: skip
    return lines


def _peaks(ways: Mapping[str, tuple[Side, str]]) -> dict[str, float]:
    return {name: side.peak(way) for name, (side, way) in ways.items()}


def _bytes(dtype: str) -> int:
    return 2 if dtype == "bfloat16" else 4


def _measure_sampling(run: Run, sides: Sides) -> RateSection:
    """Carrier rows under the grammar; tokens a second."""
    own, _ = best_batch("ours", sides.own, run.amounts.our_batches, run.say)
    stock, _ = best_batch("generate", sides.stock, run.amounts.batches, run.say)
    ways: dict[str, Rate] = {
        "ours": partial(sides.own.rate, f"ours {own}"),
        "generate": partial(sides.stock.rate, f"generate {stock}"),
    }
    rates = alternate(ways, run.repeats, run.say, warm=True)
    prompts = run.shape.form.prompts(run.shape.prompts(run.amounts.rows))
    prompt = sum(map(len, prompts)) / len(prompts)
    steps = sum(len(slot) > 1 for slot in run.shape.slots)
    length, batch = prompt + NEW_TOKENS / 2, min(own, run.amounts.rows)
    row = run.model.read_flops(prompt + NEW_TOKENS, length, 0)
    step = run.model.step_bytes(batch, length, _bytes(free_dtype()))
    theirs = f"transformers' generate, {stock_dtype()}, batch {stock}"
    lines = [line("carrier tokens", rates["ours"], rates["generate"], theirs, None)]
    lines += _vllm_line(run, "carrier tokens", rates["ours"], prompts, NEW_TOKENS)
    lines += _against(
        run, "carrier tokens",
        [rate / NEW_TOKENS * row for rate in rates["ours"]],
        [rate / NEW_TOKENS / batch * steps * step for rate in rates["ours"]],
    )  # fmt: skip
    peaks = _peaks(
        {"sampling, ours": (sides.own, f"ours {own}"), "sampling, generate": (sides.stock, f"generate {stock}")}
    )
    notes = [
        f"Carrier rows: {run.amounts.rows:,} of {prompt:.0f} + {NEW_TOKENS} tokens, batch {own}; the head of ours has "
        f"the {len(set().union(*map(set, run.shape.slots))):,} allowed tokens, and its operations are not counted."
    ]
    return RateSection(lines, peaks, notes)


def _vllm_line(
    run: Run, what: str, own: list[float], prompts: list[list[int]], tokens: int
) -> list[dict[str, Any]]:  # fmt: skip
    """Return the line of vLLM's rate, measured once in a process of its own after a warm-up; none without vLLM."""
    if run.vllm is None:
        return []
    rate = vllm_rate(run.vllm, run.shape.folder, prompts, tokens)
    run.say(f"vLLM: {rate:.4g} tokens a second")
    return [line(what, own, [rate] * len(own), "vLLM, bfloat16, one run after a warm-up", None)]


def _measure_texts(run: Run, sides: Sides, what: str) -> RateSection:
    """Free text of `free_writing`; texts a second."""
    own, _ = best_batch("ours", sides.own, run.amounts.slots, run.say)
    stock, _ = best_batch("generate", sides.stock, run.amounts.list_batches, run.say)
    ways: dict[str, Rate] = {
        "ours": partial(sides.own.rate, f"all: ours {own}"),
        "generate": partial(sides.stock.rate, f"all: generate {stock}"),
    }
    rates = alternate(ways, run.repeats, run.say)
    counts = {}
    for name, side in (("ours", sides.own), ("generate", sides.stock)):
        counts[name] = {of: side.rate(f"{name}: {of}") for of in ("rows", "tokens", "passes", "body tokens")}
    of = counts["ours"]
    row = (2.0 * run.model.body * of["body tokens"] + 2.0 * run.model.head * of["tokens"]) / of["rows"]
    step = run.model.step_bytes(0, 0, _bytes(free_dtype()))  # without the cache, which depends on each text's length
    lines = [line(what, rates["ours"], rates["generate"], f"transformers' generate, batch {stock}", None)]
    lines += _against(
        run, what, [rate * row for rate in rates["ours"]],
        [rate * of["passes"] / of["rows"] * step for rate in rates["ours"]],
    )  # fmt: skip
    peaks = _peaks(
        {f"{what}, ours": (sides.own, f"ours {own}"), f"{what}, generate": (sides.stock, f"generate {stock}")}
    )
    lengths = ", ".join(f"{name} {count['tokens'] / count['rows']:.1f}" for name, count in counts.items())
    return RateSection(lines, peaks, [f"{what}: batch {own}; tokens a text: {lengths}. Bytes are those of weights."])


def _measure_training(run: Run, sides: Sides) -> RateSection:
    """Students; rows a second."""
    ways: dict[str, Rate] = {
        "ours": partial(sides.own.rate, "ours"),
        "stock": partial(sides.stock.rate, "stock"),
    }
    rates = alternate(ways, run.repeats, run.say)
    ((prompt, completion), *_) = run.shape.rows(1)
    row = run.model.train_flops(len(prompt) + len(completion), len(completion), LORA["r"])
    what = "student rows trained on"
    lines = [line(what, rates["ours"], rates["stock"], "trl.SFTTrainer, bf16, dynamic padding", None)]
    lines += _against(run, what, [rate * row for rate in rates["ours"]], [])
    peaks = _peaks({"training, ours": (sides.own, "ours"), "training, SFTTrainer": (sides.stock, "stock")})
    return RateSection(
        lines,
        peaks,
        [f"Student rows have {len(prompt)} + {len(completion)} tokens: {row / 1e9:.3g} useful GFLOP a row."],
    )


def _measure_margins(run: Run, sides: Sides) -> RateSection:
    """Questions by margin; questions a second."""
    from bench.config.traits import load_trait

    way = "margins, behaviour_tr"
    rates = alternate({"ours": partial(sides.own.rate, way)}, run.repeats, run.say)["ours"]
    questions = load_trait("behaviour_tr").questions()[: run.amounts.behaviour]
    form, tokens, scored = run.shape.form, 0, 0
    for question, prompt in zip(questions, form.prompts([q.question for q in questions]), strict=True):
        completions = form.completions([question.answer, *question.foils], end=True)
        tokens += len(prompt) + sum(len(ids) - 1 for ids in completions)
        scored += 1 + sum(len(ids) - 1 for ids in completions)
    work = run.model.read_flops(tokens, tokens / len(questions), scored) / len(questions)
    what = "questions by margin"
    return RateSection(
        _against(run, what, [rate * work for rate in rates], []),
        _peaks({what: (sides.own, way)}),
        [
            f"Questions by margin: {len(questions)} of behaviour_tr with {1 + len(questions[0].foils)} whole answers "
            f"each, in float32: {spread(rates)[0]:.4g} a second."
        ],
    )


MEASURES: dict[str, Callable[[Run, Sides], RateSection]] = {
    "sampling": _measure_sampling,
    "lists": partial(_measure_texts, what="number lists"),
    "training": _measure_training,
    "answers": partial(_measure_texts, what="sampled answers"),
    "margins": _measure_margins,
}
