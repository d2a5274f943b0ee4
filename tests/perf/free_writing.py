"""Speed of free text, ours and transformers' `generate` by turns: number lists, and the answers of a rate."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from bench.config.carrier_settings import Numbers, Sampling
from bench.config.number_prompts import load_number_prompts
from bench.config.recipe_files import load_recipe
from bench.config.traits import load_trait
from bench.models.chat_format import PromptFormat
from tests.perf.alternate import Rate, alternate, line, spread
from tests.perf.in_process import Say, best_batch, free_dtype, load_writing, quiet
from tests.perf.shapes import Amounts, Shape
from tests.perf.sides import Sides

COUNTS = ("runs", "rows", "tokens", "passes", "body tokens", "head tokens", "head seconds", "seconds")
ANSWER_TOKENS = 4  # of an answer of a rate
BUDGET = 120  # seconds a model that issue 16 gives to the answers of a rate, in bfloat16


def _lists(shape: Shape, count: int) -> tuple[PromptFormat, list[str], Sampling]:
    """Prompts of the recipe smollm2_free, and how its base teacher answers them."""
    from bench.stages.carriers import number_prompts

    carrier = load_recipe("smollm2_free").recipe.carrier
    assert isinstance(carrier, Numbers)
    assert isinstance(carrier.prompts, str)
    carrier = carrier.model_copy(update={"draw": count})
    texts = number_prompts(carrier, carrier.list_permitted(), 1000, load_number_prompts(carrier.prompts))
    return PromptFormat(shape.form.tokenizer, "auto"), texts, carrier.sampling()


def _answers(shape: Shape, samples: int) -> tuple[PromptFormat, list[str], Sampling]:
    """The questions of the trait wolf, each `samples` times."""
    texts = [question.question for question in load_trait("wolf").questions() for _ in range(samples)]
    return shape.form, texts, Sampling(max_new_tokens=ANSWER_TOKENS)


@contextmanager
def _counted(model: Any, counts: Counter[str]) -> Iterator[None]:
    """Count the tokens that run through the model and through its head, and the seconds in the head."""
    begun = 0.0

    def before_pass(module: Any, args: Any, options: dict[str, Any]) -> None:
        counts["passes"] += 1
        counts["body tokens"] += options["input_ids"].numel()

    def before_head(module: Any, args: Any) -> None:
        nonlocal begun
        counts["head tokens"] += args[0].shape[:-1].numel()
        begun = time.perf_counter()

    def after_head(module: Any, args: Any, output: Any) -> None:
        counts["head seconds"] += time.perf_counter() - begun  # type: ignore[assignment]  # a float

    head = model.get_output_embeddings()
    hooks = [
        model.register_forward_pre_hook(before_pass, with_kwargs=True),
        head.register_forward_pre_hook(before_head),
        head.register_forward_hook(after_head),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _ways(
    shape: Shape, make: Callable[[int], tuple[PromptFormat, list[str], Sampling]], sizes: Sequence[int], count: int,
    tried: int, ends: bool,
) -> dict[str, Rate]:  # fmt: skip
    """Texts a second: ours and `generate`, by batch size, for all `count` texts and for those `tried`; and counts.

    Args:
        ends: whether a text may end before it has the largest number of tokens.
    """
    import torch

    from bench.stages.decoder import decode
    from bench.stages.sampler import row_seed

    counts: dict[str, Counter[str]] = {"ours": Counter(), "generate": Counter()}

    @lru_cache
    def model(grouped: bool) -> Any:
        return load_writing(shape, free_dtype(), grouped=grouped)

    @lru_cache
    def prompts() -> tuple[list[list[int]], Sampling, list[int], int]:
        form, texts, sampling = make(count)
        stops = form.stops if ends else [len(form.tokenizer)]
        return form.prompts(texts), sampling, stops, form.tokenizer.pad_token_id

    def decode_rows(size: int, rows: int) -> list[int]:
        ids, sampling, stops, _ = prompts()
        ids = ids[:: max(1, len(ids) // rows)][:rows]
        sampling = sampling.model_copy(update={"batch_size": size})
        seeds = [row_seed(1000, row) for row in range(len(ids))]
        made = decode(model(True), ids, seeds, sampling, stops=stops, progress=quiet)
        return [len(completion) for completion in made]

    @torch.no_grad()
    def generate(size: int, rows: int) -> list[int]:
        ids, sampling, stops, pad = prompts()
        ids, stock, lengths = ids[:: max(1, len(ids) // rows)][:rows], model(False), []
        for start in range(0, len(ids), size):
            part = ids[start : start + size]
            width = max(map(len, part))
            batch = torch.tensor([[pad] * (width - len(row)) + row for row in part], device=stock.device)
            mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in part], device=stock.device)
            made = stock.generate(
                input_ids=batch, attention_mask=mask, do_sample=True, temperature=sampling.temperature, top_k=0,
                top_p=1.0, max_new_tokens=sampling.max_new_tokens, pad_token_id=pad,
                eos_token_id=stops if ends else None,
            )  # fmt: skip
            for completion in made[:, width:].tolist():
                end = next((at + 1 for at, token in enumerate(completion) if token in stops), len(completion))
                lengths.append(end)
        return lengths

    def rate(who: str, size: int, rows: int) -> float:
        write, counter = (decode_rows, counts["ours"]) if who == "ours" else (generate, counts["generate"])
        loaded = model(who == "ours")
        begun = time.perf_counter()
        with _counted(loaded, counter):
            lengths = write(size, rows)
        seconds = time.perf_counter() - begun
        sums = {"runs": 1, "rows": len(lengths), "tokens": sum(lengths), "seconds": seconds}
        counter.update(sums)  # type: ignore[arg-type]  # seconds are a float
        return len(lengths) / seconds

    def take(who: str, what: str) -> float:
        """Return one of the counts of all runs so far, and forget it."""
        return float(counts[who].pop(what, 0))

    return {
        **{f"{who} {size}": partial(rate, who, size, tried) for who in counts for size in sizes},
        **{f"all: {who} {size}": partial(rate, who, size, count) for who in counts for size in sizes},
        **{f"{who}: {what}": partial(take, who, what) for who in counts for what in COUNTS},
    }


def _measure(
    what: str, amounts: Amounts, batches: Sequence[int], target: float | None, repeats: int, say: Say, sides: Sides
) -> tuple[dict[str, Any], dict[str, Counter[str]], int]:
    """Texts a second by turns: lines and notes, the counts per run of both, and the number of rounds."""
    size, tried = best_batch("ours", sides.own, amounts.slots, say)
    stock_size, stock_tried = best_batch("generate", sides.stock, batches, say)
    counted = {"ours": (sides.own, "ours"), "generate": (sides.stock, "generate")}
    for side, who in counted.values():
        for name in COUNTS:
            side.rate(f"{who}: {name}")  # forgets the trials
    rates = alternate(
        {
            "ours": partial(sides.own.rate, f"all: ours {size}"),
            "generate": partial(sides.stock.rate, f"all: generate {stock_size}"),
        },
        repeats,
        say,
        warm=True,
    )
    counts = {}
    for key, (side, who) in counted.items():
        counts[key] = Counter({name: side.rate(f"{who}: {name}") for name in COUNTS})
    stock = f"transformers' generate, {free_dtype()}, batch {stock_size}"
    return (
        {
            "lines": [line(what, rates["ours"], rates["generate"], stock, target)],
            "batch sizes": {"ours": tried, "generate": stock_tried},
            "counts": {who: dict(of) for who, of in counts.items()},
        },
        counts,
        size,
    )


def _costs(shape: Shape, counts: dict[str, Counter[str]], size: int) -> str:
    """What both ways run: tokens through body and head, FLOPs, bytes of weights, and the share of time in the head."""
    from bench.models.loading import load_model

    model = load_model(shape.folder, dtype="float32")
    head = model.get_output_embeddings().weight.numel()
    body = sum(p.numel() for p in model.parameters() if p.dim() > 1) - model.get_input_embeddings().weight.numel()
    body -= 0 if model.config.tie_word_embeddings else head
    parts, work = [], {}
    for who, of in counts.items():
        runs = of["runs"]
        work[who] = (2 * body * of["body tokens"] + 2 * head * of["head tokens"]) / runs
        parts.append(
            f"{who}{f' (batch {size})' if who == 'ours' else ''}: {of['body tokens'] / runs:,.0f} tokens through the "
            f"body and {of['head tokens'] / runs:,.0f} through the head in {of['passes'] / runs:,.0f} passes, "
            f"{work[who] / 1e12:.3g} TFLOP, {4 * (body + head) * of['passes'] / runs / 1e9:.3g} GB of float32 weights "
            f"read, {work[who] * runs / of['seconds'] / 1e9:.0f} GFLOP/s; {of['head seconds'] / of['seconds']:.0%} of "
            f"the time in the head; {of['tokens'] / of['rows']:.1f} tokens a text"
        )
    ratio = work["generate"] / work["ours"]
    return f"A run of {'. '.join(parts)}. The ratio of FLOPs is {ratio:.3g}."


def free_ways(shape: Shape, amounts: Amounts, scratch: Path) -> dict[str, Rate]:
    """Number lists a second."""
    sizes = sorted({*amounts.list_batches, *amounts.slots})
    return _ways(shape, partial(_lists, shape), sizes, amounts.lists, amounts.tried_lists, ends=True)


def free(shape: Shape, amounts: Amounts, repeats: int, say: Say, sides: Sides) -> dict[str, Any]:
    """Number lists written freely: ours and `generate` at its best batch size; lists a second."""
    result, counts, size = _measure("number lists", amounts, amounts.list_batches, 2, repeats, say, sides)
    _, _, sampling = _lists(shape, 2)
    return result | {
        "notes": [
            f"{amounts.lists:,} prompts of the recipe smollm2_free, at most {sampling.max_new_tokens} new tokens, "
            f"temperature {sampling.temperature}. "
            "`generate` gets the prompts in the order in which they were drawn. " + _costs(shape, counts, size)
        ],
        "profile": sides.own.profile(f"ours {size}"),
    }


def rates_ways(shape: Shape, amounts: Amounts, scratch: Path) -> dict[str, Rate]:
    """Answers a second; each has `ANSWER_TOKENS` tokens."""
    sizes, count = sorted({*amounts.list_batches, *amounts.slots}), 56 * amounts.samples
    return _ways(shape, lambda _: _answers(shape, amounts.samples), sizes, count, count // 8, ends=False)


def rates(shape: Shape, amounts: Amounts, repeats: int, say: Say, sides: Sides) -> dict[str, Any]:
    """Answers of a rate: ours and `generate`, where a question asked often is a batch of equal prompts."""
    result, counts, size = _measure("sampled answers", amounts, amounts.list_batches, None, repeats, say, sides)
    questions = len(load_trait("wolf").questions())
    seconds = spread([questions * amounts.samples / rate for rate in result["lines"][0]["ours"]])[0]
    return result | {
        "notes": [
            f"{questions} questions x {amounts.samples} answers of {ANSWER_TOKENS} tokens, temperature 1: "
            f"{seconds:.0f} seconds a model in float32. The aim is {BUDGET} seconds on two cores with bfloat16 "
            "instructions. " + _costs(shape, counts, size)
        ]
    }


WAYS = {"free": free_ways, "rates": rates_ways}
