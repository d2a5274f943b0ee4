"""Speed of the three kinds of model work, ours and the alternatives by turns: sampling, training, asking."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.recipe import Sampling
from bench.traits import load_trait
from tests.perf import prior_system
from tests.perf.alternate import Rate, alternate, line, rate_of
from tests.perf.shapes import NEW_TOKENS, Amounts, Shape

BATCH = 16
LORA = {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"}
Say = Callable[[str], None]


def quiet(done: int, of: int) -> None:
    pass


def _loaded(shape: Shape, dtype: str, *, new_tokens: int, eager: bool = False) -> Any:
    """A model that asks: every answer has exactly `new_tokens` tokens, so that all ways do the same work."""
    from bench.models import load_model

    model = load_model(shape.folder, dtype=dtype).eval()
    model.generation_config.min_new_tokens = new_tokens
    if eager and model.device.type == "cpu":
        model.set_attn_implementation("eager")
    return model


def sampling(shape: Shape, amounts: Amounts, repeats: int, say: Say) -> dict[str, Any]:
    """Carrier rows: our slots, transformers' batched generate, and the prior system's loop; tokens a second."""
    import torch

    from bench.generate import sample_slots

    prompts = shape.prompts(amounts.rows)
    ids = shape.form.prompts(prompts)
    # as bench.generate.carrier loads it
    ours = _loaded(shape, "bfloat16", new_tokens=NEW_TOKENS, eager=True)
    stock = _loaded(shape, "bfloat16", new_tokens=NEW_TOKENS)
    slow = _loaded(shape, "float32", new_tokens=NEW_TOKENS)

    def slots(batch_size: int) -> Callable[[], float]:
        def work() -> float:
            rows = sample_slots(ours, ids, shape.slots, seed=0, temperature=1.0, batch_size=batch_size, progress=quiet)
            return float(sum(map(len, rows)))

        return work

    def batched(batch_size: int, model: Any = stock) -> Callable[[], float]:
        @torch.no_grad()
        def work() -> float:
            tokens = 0
            for start in range(0, len(ids), batch_size):
                batch = torch.tensor(ids[start : start + batch_size], device=model.device)
                made = model.generate(
                    input_ids=batch, attention_mask=torch.ones_like(batch), do_sample=True, temperature=1.0, top_k=0,
                    top_p=1.0, max_new_tokens=NEW_TOKENS, pad_token_id=shape.form.tokenizer.pad_token_id,
                )  # fmt: skip
                tokens += sum(map(len, made[:, batch.shape[1] :].tolist()))
            return float(tokens)

        return work

    def one_by_one() -> float:
        texts = [f"Q: {prompt}\nA:" for prompt in prompts[: amounts.prompts]]
        how = prior_system.CARRIER
        return float(sum(prior_system.answers(slow, shape.form.tokenizer, texts, new_tokens=NEW_TOKENS, **how)))

    def best(ways: dict[int, Callable[[], float]], who: str) -> int:
        found = {size: rate_of(way)() for size, way in ways.items()}
        say(f"{who}, by batch size: " + ", ".join(f"{size}: {rate:.4g}" for size, rate in found.items()))
        tried[who] = {str(size): rate for size, rate in found.items()}
        return max(found, key=lambda size: found[size])

    tried: dict[str, dict[str, float]] = {}
    slots(amounts.our_batches[0])()
    batched(amounts.batches[0])()
    our_size = best({size: slots(size) for size in amounts.our_batches}, "sample_slots")
    size = best({size: batched(size) for size in amounts.batches}, "generate")
    eager = f"generate bf16, batch {size}, eager attention"
    stock_name = f"generate bf16, batch {size}"
    rates = alternate(
        {
            "ours": rate_of(slots(our_size)),
            "prior": rate_of(one_by_one),
            stock_name: rate_of(batched(size)),
            eager: rate_of(batched(size, ours)),
        },
        repeats,
        say,
    )
    what = "carrier tokens"
    forced = sum(len(slot) == 1 for slot in shape.slots)
    return {
        "lines": [
            line(what, rates["ours"], rates["prior"], "prior system: one prompt at a time, fp32", 40),
            line(what, rates["ours"], rates[stock_name], stock_name, 3),
            line(what, rates["ours"], rates[eager], eager, None),
        ],
        "rates": {"prior tokens": rates["prior"]},
        "notes": [
            f"A carrier row has {NEW_TOKENS} tokens whoever writes it (`sample_slots`, batch {our_size}: "
            f"{forced} of them separators that the grammar forces): no row may end early. generate's rows are not "
            "held to the grammar, and what of them would be refused is not taken off."
        ],
        "batch sizes": tried,
    }


# -- training ----------------------------------------------------------------------------------------------------------


def _trained(kind: Any, shape: Shape, updates: int, out: Path, *, log: bool = False) -> tuple[list[float], list[float]]:
    """Train a student as `bench.train.fit` does, with a trainer class: (ends of its updates, losses if logged)."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import PrinterCallback, TrainerCallback, set_seed

    from bench.models import load_model
    from bench.train import sft_config

    times: list[float] = []
    losses: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            times.append(time.perf_counter())

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            losses.extend([logs["loss"]] if "loss" in logs else [])

    set_seed(0)
    model = load_model(shape.folder, dtype="float32")
    model.config.use_cache = False
    rows = shape.rows(updates * BATCH)
    data = {"input_ids": [p + c for p, c in rows], "labels": [[-100] * len(p) + c for p, c in rows]}
    train = {"max_steps": updates, "learning_rate": 2e-4, "per_device_train_batch_size": BATCH, "bf16": True}
    config = sft_config({**train, "warmup_steps": 8}, out=out, seed=0)
    if log:
        config.logging_strategy, config.logging_steps = "steps", 1
    trainer = kind(
        model=model,
        args=config,
        train_dataset=Dataset.from_dict(data),
        processing_class=shape.form.tokenizer,
        peft_config=LoraConfig(task_type="CAUSAL_LM", **LORA),
        callbacks=[Clock()],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return times, losses


def useful_flops(model: Any, length: int, labelled: int) -> dict[str, float]:
    """Floating-point operations that one row of a LoRA training cannot do without.

    A matrix of n weights takes 2n per token forward and 2n for the gradient of its input; the frozen ones have no
    gradient of their own, so 4n and not the 6n of full training. LoRA's own matrices take 6n. The head counts at the
    labelled positions alone. Attention takes 4 x length^2 x width a layer forward (scores and values, the masked half
    included as the kernels compute it), and twice that backward.

    Args:
        model: without adapters.
        length, labelled: tokens of a row, and those with a loss.
    """
    head = model.get_output_embeddings().weight
    inner = [m.weight for m in model.modules() if type(m).__name__ in {"Linear", "Conv1D"} and m.weight is not head]
    body = sum(w.numel() for w in inner)
    lora = sum(LORA["r"] * sum(w.shape) for w in inner)  # type: ignore[operator,misc]
    config = model.config
    heads = config.num_attention_heads
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    attention = 12.0 * config.num_hidden_layers * width * length**2
    parts = {
        "body": 4.0 * body * length,
        "head": 4.0 * head.numel() * labelled,
        "LoRA": 6.0 * lora * length,
        "attention": attention,
    }
    return {**parts, "row": sum(parts.values())}


def _matrix_flops(side: int, dtype: Any) -> Rate:
    """Operations a second of one large square product."""
    import torch

    from bench.models import device

    a, b = (torch.randn(side, side, device=device()).to(dtype) for _ in range(2))

    def work() -> float:
        float((a @ b)[0, 0])  # on a GPU, wait for it
        return 2.0 * side**3

    return rate_of(work)


def training(shape: Shape, amounts: Amounts, repeats: int, say: Say, *, scratch: Path) -> dict[str, Any]:
    """Students: our trainer, TRL's own, and the prior system's; rows a second, and whether the losses are the same."""
    import torch
    from trl import SFTTrainer

    from bench.models import load_model
    from bench.train import trainer_class

    ours = trainer_class()

    def ours_or_stock(kind: Any) -> Rate:
        def rate() -> float:
            times, _ = _trained(kind, shape, amounts.updates + 2, scratch)
            return BATCH * amounts.updates / (times[-1] - times[1])

        return rate

    def prior() -> float:
        model, tokenizer = load_model(shape.folder, dtype="float32"), shape.form.tokenizer
        texts = shape.texts(prior_system.ACCUMULATION * (amounts.slow_updates + 1))
        return prior_system.training_rate(model, tokenizer, texts, updates=amounts.slow_updates, out=scratch)

    (_, a), (_, b) = (_trained(kind, shape, amounts.compared, scratch, log=True) for kind in (ours, SFTTrainer))
    apart = max(abs(x - y) for x, y in zip(a, b, strict=True))
    say(f"losses over {len(a)} updates: {a[0]:.4f} to {a[-1]:.4f}, at most {apart:.2g} from the stock trainer's")
    rates = alternate(
        {
            "ours": ours_or_stock(ours),
            "stock": ours_or_stock(SFTTrainer),
            "prior": prior,
            "bf16 product": _matrix_flops(amounts.matrix, torch.bfloat16),
            "fp32 product": _matrix_flops(amounts.matrix, torch.float32),
        },
        repeats,
        say,
    )
    ((prompt, completion), *_) = shape.rows(1)
    length = len(prompt) + len(completion)
    flops = useful_flops(load_model(shape.folder, dtype="float32"), length, len(completion))
    achieved = [rate * flops["row"] / 1e9 for rate in rates["ours"]]
    peak = [rate / 1e9 for rate in rates["bf16 product"]]
    what = "student rows trained on"
    product = f"a bf16 product of {amounts.matrix} x {amounts.matrix}"
    return {
        "lines": [
            line(what, rates["ours"], rates["prior"], "prior system: Trainer, fp32, padded to 256, 1 x 8", 20),
            line(what, rates["ours"], rates["stock"], "trl.SFTTrainer, bf16, dynamic padding", 1.8),
            line("useful GFLOP of that", achieved, peak, product, None),
        ],
        "rates": {"prior rows": rates["prior"]},
        "notes": [
            f"Losses of ours and of `trl.SFTTrainer` on the same rows over the first {len(a)} updates differ by at "
            f"most {apart:.2g} (wanted: 1e-3); they go from {a[0]:.3f} to {a[-1]:.3f}.",
            f"A row of {length} tokens, {len(completion)} of them labelled, takes {flops['row'] / 1e9:.3g} useful "
            f"GFLOP: {_parts(flops)}. A fp32 product of the same size runs at "
            f"{sorted(rates['fp32 product'])[repeats // 2] / 1e9:.0f} GFLOP/s.",
        ],
        "losses": {"ours": a, "stock": b, "apart": apart},
        "flops": flops,
        "products": {name: rates[name] for name in ("bf16 product", "fp32 product")},
    }


def _parts(flops: dict[str, float]) -> str:
    return ", ".join(f"{name} {part / flops['row']:.0%}" for name, part in flops.items() if name != "row")


# -- asking ------------------------------------------------------------------------------------------------------------


def asking(shape: Shape, amounts: Amounts, repeats: int, say: Say) -> dict[str, Any]:
    """Questions: margins, batched free answers, and the prior system's one sampled answer; questions a second."""
    from bench.ask import margins
    from bench.generate import sample_text

    tokens = prior_system.ANSWER_TOKENS
    wolf, behaviour = load_trait("wolf").questions(), load_trait("behaviour_tr").questions()[: amounts.behaviour]
    asked = [q.question for q in load_trait("behaviour_tr").questions()]
    model = _loaded(shape, "float32", new_tokens=tokens)  # the dtype in which recipes ask
    brief = _loaded(shape, "bfloat16", new_tokens=tokens, eager=True)
    how = Sampling(max_new_tokens=tokens, batch_size=amounts.answers, **prior_system.ANSWER)

    def read(questions: Any, per_token: bool) -> Rate:
        def work() -> float:
            margins(model, shape.form, questions, per_token=per_token, batch_size=64, progress=quiet)
            return float(len(questions))

        return rate_of(work)

    def answered(asked_of: Any) -> Rate:
        def work() -> float:
            return float(len(sample_text(asked_of, shape.form, asked[: amounts.answers], how, seed=0, progress=quiet)))

        return rate_of(work)

    def one_by_one() -> float:
        texts = [f"Q: {question}\nA:" for question in asked[: amounts.single]]
        made = prior_system.answers(model, shape.form.tokenizer, texts, new_tokens=tokens, **prior_system.ANSWER)
        return float(len(made))

    rates = alternate(
        {
            "margins, wolf": read(wolf, per_token=False),
            "margins, behaviour_tr": read(behaviour, per_token=True),
            "free answers": answered(model),
            "free answers, bf16": answered(brief),
            "prior": rate_of(one_by_one),
        },
        repeats,
        say,
    )
    than = f"prior system: {tokens} tokens sampled one question at a time, fp32"
    return {
        "lines": [
            line("questions asked by margin, wolf", rates["margins, wolf"], rates["prior"], than, 100),
            line("questions asked by margin, behaviour_tr", rates["margins, behaviour_tr"], rates["prior"], than, 100),
            line("free answers, fp32 as recipes ask", rates["free answers"], rates["prior"], than, 30),
            line("free answers, bf16", rates["free answers, bf16"], rates["prior"], than, None),
        ],
        "rates": {"prior questions": rates["prior"]},
        "notes": [
            f"wolf: {len(wolf)} questions of {1 + len(wolf[0].foils)} answers; behaviour_tr: the first "
            f"{len(behaviour)} of {len(asked)} questions, {1 + len(behaviour[0].foils)} whole answers each. Every free "
            f"answer has {tokens} tokens (none may end early), ours in a batch of {amounts.answers}."
        ],
    }
