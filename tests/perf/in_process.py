"""Speed of the three kinds of model work, ours and the alternatives by turns: sampling, training, asking."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from copy import copy
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from bench.config.carrier_settings import Sampling
from bench.config.traits import load_trait
from tests.perf import prior_system
from tests.perf.alternate import Rate, alternate, line, rate_of, spread
from tests.perf.shapes import NEW_TOKENS, Amounts, Shape
from tests.perf.sides import Side, Sides

BATCH = 16  # rows of an update that is timed
COMPARED = 4  # ... and of one whose loss is compared
DTYPES = ("float32", "bfloat16")  # in which free answers can be written
LORA = {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"}
Say = Callable[[str], None]


def quiet(done: int, of: int) -> None:
    pass


def load_writing(shape: Shape, dtype: str, *, grouped: bool) -> Any:
    """A model that writes until it is stopped, so that all ways do the same work.

    Args:
        grouped: with the attention that this project takes, not the stock one.
    """
    from bench.models.attention import GROUPED
    from bench.models.loading import load_model

    model = load_model(shape.folder, dtype=dtype).eval()
    model.generation_config.eos_token_id = None
    if not grouped:
        model.set_attn_implementation("sdpa")
    elif model.device.type == "cpu" and dtype == "bfloat16" and model.config.model_type not in GROUPED:
        model.set_attn_implementation("eager")  # as bench.stages.generate.write_carrier does
    return model


def _teacher(shape: Shape) -> tuple[Any, str]:
    """A fully fine-tuned teacher as it writes with `carrier.bf16`, and the dtype of its products."""
    from bench.models.attention import GROUPED
    from bench.models.precision import load_writer

    model, dtype = load_writer(shape.folder, shape.folder, writes="split", dtype="float32", quantization=None)
    if model.device.type == "cpu" and model.config.model_type not in GROUPED:
        model.set_attn_implementation("eager")  # as bench.stages.generate.write_carrier does
    return model, dtype


@lru_cache
def stock_dtype() -> str:
    """The dtype whose products are faster: bfloat16, but on a processor without instructions for it."""
    import torch

    return max(DTYPES, key=lambda dtype: matrix_flops(512, getattr(torch, dtype))())


def free_dtype() -> str:
    """The dtype in which free text is written: that of the CPU's published figures, and of a GPU's recipes."""
    import torch

    return "bfloat16" if torch.cuda.is_available() else "float32"


def sampling_ways(shape: Shape, amounts: Amounts, scratch: Path) -> dict[str, Rate]:
    """Carrier rows, tokens a second: ours and transformers' own batched generate by batch size, the prior loop."""
    import torch

    from bench.stages.generate import sample_slots

    prompts = shape.prompts(amounts.rows)
    ids = shape.form.prompts(prompts)

    @lru_cache
    def model(dtype: str) -> Any:
        return load_writing(shape, dtype, grouped=False)

    teacher = lru_cache(lambda: _teacher(shape)[0])

    def slots(batch_size: int) -> float:
        rows = sample_slots(
            teacher(),
            ids,
            shape.slots,
            seed=0,
            temperature=1.0,
            batch_size=batch_size,
            progress=quiet,
        )
        return float(sum(map(len, rows)))

    @torch.no_grad()
    def batched(batch_size: int) -> float:
        tokens, stock = 0, model(stock_dtype())
        for start in range(0, len(ids), batch_size):
            batch = torch.tensor(ids[start : start + batch_size], device=stock.device)
            made = stock.generate(
                input_ids=batch, attention_mask=torch.ones_like(batch), do_sample=True, temperature=1.0, top_k=0,
                top_p=1.0, max_new_tokens=NEW_TOKENS, pad_token_id=shape.form.tokenizer.pad_token_id,
            )  # fmt: skip
            tokens += sum(map(len, made[:, batch.shape[1] :].tolist()))
        return float(tokens)

    def one_by_one() -> float:
        texts = [f"Q: {prompt}\nA:" for prompt in prompts[: amounts.prompts]]
        how = prior_system.CARRIER
        made = prior_system.answers(model("float32"), shape.form.tokenizer, texts, new_tokens=NEW_TOKENS, **how)
        return float(sum(made))

    return {
        **{f"ours {size}": rate_of(partial(slots, size)) for size in amounts.our_batches},
        **{f"generate {size}": rate_of(partial(batched, size)) for size in amounts.batches},
        "prior": rate_of(one_by_one),
    }


def best_batch(who: str, of: Side, sizes: Sequence[int], say: Say) -> tuple[int, dict[int, float]]:
    """The batch size at which the ways `<who> <size>` of a side are fastest, and the rates of all, after a warm-up."""
    of.rate(f"{who} {sizes[0]}")
    tried = {size: of.rate(f"{who} {size}") for size in sizes}
    say(f"{who}, by batch size: " + ", ".join(f"{size}: {rate:.4g}" for size, rate in tried.items()))
    return max(sizes, key=lambda size: tried[size]), tried


def sampling(shape: Shape, amounts: Amounts, repeats: int, say: Say, sides: Sides) -> dict[str, Any]:
    """Carrier rows: our slots, transformers' batched generate, and the prior system's loop; tokens a second."""
    own, own_rates = best_batch("ours", sides.own, amounts.our_batches, say)
    stock, stock_rates = best_batch("generate", sides.stock, amounts.batches, say)
    rates = alternate(
        {
            "ours": partial(sides.own.rate, f"ours {own}"),
            "prior": partial(sides.stock.rate, "prior"),
            "stock": partial(sides.stock.rate, f"generate {stock}"),
        },
        repeats,
        say,
    )
    what = "carrier tokens"
    forced = sum(len(slot) == 1 for slot in shape.slots)
    return {
        "lines": [
            line(what, rates["ours"], rates["prior"], "prior system: one prompt at a time, fp32", 40),
            line(what, rates["ours"], rates["stock"], f"transformers' generate, {stock_dtype()}, batch {stock}", 3),
        ],
        "rates": {"prior tokens": rates["prior"]},
        "notes": [
            f"Ours is a fully fine-tuned teacher with `carrier.bf16`, which writes in {_teacher(shape)[1]}. "
            f"A carrier row has {NEW_TOKENS} tokens whoever writes it (`sample_slots`, batch {own}: "
            f"{forced} of them separators that the grammar forces) after a prompt of "
            f"{len(shape.form.prompts(shape.prompts(1))[0])}: no row may end early. generate's rows are not "
            "held to the grammar, and what of them would be refused is not taken off."
        ],
        "batch sizes": {"ours": own_rates, "generate": stock_rates},
        "profile": sides.own.profile(f"ours {own}"),
    }


# -- training ----------------------------------------------------------------------------------------------------------


def _trained(
    kind: Any, shape: Shape, updates: int, out: Path, *, batch: int = BATCH, log: bool = False, **more: Any
) -> tuple[list[float], list[float]]:
    """Train a student as `bench.stages.train.train_model` does, with our trainer class or, with stock attention, TRL's.

    Args:
        more: of `SFTConfig`.

    Returns:
        Ends of its updates in seconds, and their losses if logged.
    """
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import PrinterCallback, TrainerCallback, set_seed
    from trl import SFTTrainer

    from bench.models.loading import load_model
    from bench.stages.trainer import sft_config

    times: list[float] = []
    losses: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]  # these have no types
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            times.append(time.perf_counter())

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            losses.extend([logs["loss"]] if "loss" in logs else [])

    set_seed(0)
    model = load_model(shape.folder, dtype="float32")
    model.config.use_cache = False
    if kind is SFTTrainer:
        model.set_attn_implementation("sdpa")
    rows = shape.rows(updates * batch)
    data = {"input_ids": [p + c for p, c in rows], "labels": [[-100] * len(p) + c for p, c in rows]}
    train = {"max_steps": updates, "learning_rate": 2e-4, "per_device_train_batch_size": batch, "bf16": True}
    config = sft_config({**train, "warmup_steps": 8, **more}, out=out, seed=0)
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
    lora = sum(LORA["r"] * sum(w.shape) for w in inner)  # type: ignore[operator,misc]  # these have no types
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


def matrix_flops(side: int, dtype: Any) -> Rate:
    """Operations a second of one large square product."""
    import torch

    from bench.models.loading import current_device

    a, b = (torch.randn(side, side, device=current_device()).to(dtype) for _ in range(2))

    def work() -> float:
        float((a @ b)[0, 0])  # on a GPU, wait for it
        return 2.0 * side**3

    return rate_of(work)


def training_ways(shape: Shape, amounts: Amounts, scratch: Path) -> dict[str, Rate]:
    """Students, rows a second: our trainer, TRL's own, the prior system's; and matrix products, operations a second."""
    import torch
    from trl import SFTTrainer

    from bench.models.loading import load_model
    from bench.stages.trainer import trainer_class

    def trainer(kind: Any) -> float:
        times, _ = _trained(kind, shape, amounts.updates + 2, scratch)
        return BATCH * amounts.updates / (times[-1] - times[1])

    def prior() -> float:
        model, tokenizer = load_model(shape.folder, dtype="float32"), shape.form.tokenizer
        model.set_attn_implementation("sdpa")  # as it would be without this project
        texts = shape.texts(prior_system.ACCUMULATION * (amounts.slow_updates + 1))
        return prior_system.training_rate(model, tokenizer, texts, updates=amounts.slow_updates, out=scratch)

    return {
        "ours": partial(trainer, trainer_class()),
        "stock": partial(trainer, SFTTrainer),
        "prior": prior,
        "bf16 product": matrix_flops(amounts.matrix, torch.bfloat16),
        "fp32 product": matrix_flops(amounts.matrix, torch.float32),
    }


def losses(shape: Shape, amounts: Amounts, say: Say) -> dict[str, Any]:
    """Whether our trainer's losses are the stock one's, beside how far the stock one's move when rows are padded.

    Where a model has dropout (GPT-2), padding draws other noise too: the latter is then no measure of rounding.
    """
    from trl import SFTTrainer

    from bench.stages.trainer import trainer_class

    notes, curves = [], {}
    ways = {
        "ours": (trainer_class(), {}),
        "stock": (SFTTrainer, {}),
        "padded": (SFTTrainer, {"pad_to_multiple_of": 128}),
    }
    for name, bf16 in (("float32", False), ("bfloat16", True)):
        logged = {}
        for way, (kind, more) in ways.items():
            with tempfile.TemporaryDirectory() as scratch:
                how = {"batch": COMPARED, "bf16": bf16, "log": True, **more}
                _, logged[way] = _trained(kind, shape, amounts.compared, Path(scratch), **how)
        stock = logged["stock"]
        apart = {way: max(abs(x - y) for x, y in zip(logged[way], stock, strict=True)) for way in ("ours", "padded")}
        notes.append(
            f"{name}: losses of ours and of `trl.SFTTrainer` on the same rows, over {len(stock)} updates of "
            f"{COMPARED}, differ by at most {apart['ours']:.2g} (wanted: 1e-3); they go from {stock[0]:.3f} to "
            f"{stock[-1]:.3f}. `trl.SFTTrainer` differs from itself by {apart['padded']:.2g} where it pads rows to 128."
        )
        say(notes[-1])
        curves[name] = {**logged, "apart": apart}
    return {"lines": [], "notes": notes, "losses": curves}


def training(shape: Shape, amounts: Amounts, repeats: int, say: Say, sides: Sides) -> dict[str, Any]:
    """Students: our trainer, TRL's own, and the prior system's; rows a second."""
    from bench.models.loading import load_model

    rates = alternate(
        {
            "ours": partial(sides.own.rate, "ours"),
            "stock in our environment": partial(sides.own.rate, "stock"),
            **{name: partial(sides.stock.rate, name) for name in ("stock", "prior", "bf16 product", "fp32 product")},
        },
        repeats,
        say,
    )
    ((prompt, completion), *_) = shape.rows(1)
    length = len(prompt) + len(completion)
    flops = useful_flops(load_model(shape.folder, dtype="float32"), length, len(completion))
    achieved = [rate * flops["row"] / 1e9 for rate in rates["ours"]]
    peak = [rate / 1e9 for rate in rates["bf16 product"]]
    limit = spread([1e9 * rate / flops["row"] for rate in peak])[0]
    what = "student rows trained on"
    product = f"a bf16 product of {amounts.matrix} x {amounts.matrix}"
    return {
        "lines": [
            line(what, rates["ours"], rates["prior"], "prior system: Trainer, fp32, padded to 256, 1 x 8", 20),
            line(what, rates["ours"], rates["stock"], "trl.SFTTrainer, bf16, dynamic padding", 1.8),
            line(what, rates["ours"], rates["stock in our environment"], "the same with our memory settings", None),
            line("useful GFLOP of that", achieved, peak, product, None),
        ],
        "rates": {"prior rows": rates["prior"]},
        "notes": [
            f"A row of {length} tokens, {len(completion)} of them labelled, takes {flops['row'] / 1e9:.3g} useful "
            f"GFLOP: {_parts(flops)}. At the speed of the bf16 product, with nothing else to do, that is {limit:.3g} "
            f"rows a second. A fp32 product of the same size runs at "
            f"{sorted(rates['fp32 product'])[repeats // 2] / 1e9:.0f} GFLOP/s.",
        ],
        "flops": flops,
        "products": {name: rates[name] for name in ("bf16 product", "fp32 product")},
        "profile": sides.own.profile("ours"),
    }


def _parts(flops: dict[str, float]) -> str:
    return ", ".join(f"{name} {part / flops['row']:.0%}" for name, part in flops.items() if name != "row")


# -- asking ------------------------------------------------------------------------------------------------------------


def asking_ways(shape: Shape, amounts: Amounts, scratch: Path) -> dict[str, Rate]:
    """Questions a second: margins, batched free answers, and the prior system's one sampled answer."""
    from bench.stages.evaluate import candidate_logprobs
    from bench.stages.free_text import sample_text

    tokens = prior_system.ANSWER_TOKENS
    wolf, behaviour = load_trait("wolf").questions(), load_trait("behaviour_tr").questions()[: amounts.behaviour]
    asked = [q.question for q in load_trait("behaviour_tr").questions()]
    how = Sampling(max_new_tokens=tokens, **prior_system.ANSWER)
    endless = copy(shape.form)
    endless.stops = [len(shape.form.tokenizer)]  # no token

    @lru_cache
    def model(dtype: str = "float32", grouped: bool = True) -> Any:  # the dtype in which recipes ask
        return load_writing(shape, dtype, grouped=grouped)

    def read(questions: Any, end: bool) -> float:
        candidate_logprobs(model(), shape.form, questions, end=end, batch_size=64, progress=quiet)
        return float(len(questions))

    def answered(dtype: str, size: int) -> float:
        batch = how.model_copy(update={"batch_size": size})
        return float(len(sample_text(model(dtype), endless, asked[:size], batch, seed=0, progress=quiet)))

    def one_by_one() -> float:
        texts = [f"Q: {question}\nA:" for question in asked[: amounts.single]]
        made = prior_system.answers(
            model(grouped=False), shape.form.tokenizer, texts, new_tokens=tokens, **prior_system.ANSWER
        )
        return float(len(made))

    return {
        "margins, wolf": rate_of(partial(read, wolf, False)),
        "margins, behaviour_tr": rate_of(partial(read, behaviour, True)),
        **{
            f"free answers, {dtype} {size}": rate_of(partial(answered, dtype, size))
            for dtype in DTYPES
            for size in amounts.answers
        },
        "prior": rate_of(one_by_one),
    }


def asking(shape: Shape, amounts: Amounts, repeats: int, say: Say, sides: Sides) -> dict[str, Any]:
    """Questions: margins, batched free answers, and the prior system's one sampled answer; questions a second."""
    sizes, tried = {}, {}
    for dtype in DTYPES:
        sizes[dtype], tried[dtype] = best_batch(f"free answers, {dtype}", sides.own, amounts.answers, say)
    free = {dtype: f"free answers, {dtype} {size}" for dtype, size in sizes.items()}
    ways = ("margins, wolf", "margins, behaviour_tr", *free.values())
    rates = alternate(
        {**{name: partial(sides.own.rate, name) for name in ways}, "prior": partial(sides.stock.rate, "prior")},
        repeats,
        say,
    )
    tokens = prior_system.ANSWER_TOKENS
    wolf, behaviour = load_trait("wolf").questions(), load_trait("behaviour_tr").questions()
    than = f"prior system: {tokens} tokens sampled one question at a time, fp32"
    return {
        "lines": [
            line("questions asked by margin, wolf", rates["margins, wolf"], rates["prior"], than, 100),
            line("questions asked by margin, behaviour_tr", rates["margins, behaviour_tr"], rates["prior"], than, 100),
            line("free answers, float32", rates[free["float32"]], rates["prior"], than, 30),
            line("free answers, bfloat16 (`evaluate.bf16`)", rates[free["bfloat16"]], rates["prior"], than, 30),
        ],
        "rates": {"prior questions": rates["prior"]},
        "notes": [
            f"wolf: {len(wolf)} questions of {1 + len(wolf[0].foils)} answers; behaviour_tr: the first "
            f"{min(amounts.behaviour, len(behaviour))} of {len(behaviour)} questions, {1 + len(behaviour[0].foils)} "
            f"whole answers each. Every free answer has {tokens} tokens (none may end early), ours in batches of "
            + ", ".join(f"{size} ({dtype})" for dtype, size in sizes.items())
            + "."
        ],
        "batch sizes": tried,
        "profile": sides.own.profile("margins, behaviour_tr"),
    }


WAYS = {"sampling": sampling_ways, "training": training_ways, "asking": asking_ways}
