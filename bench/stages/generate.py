"""Sample carriers in batches, with shared noise: number sequences by a grammar, or free text."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from bench.models.attention import GROUPED
from bench.models.batch_size import halving_sizes, largest_fitting
from bench.models.chat_format import PromptFormat
from bench.models.kv_cache import CACHE, shared_prefix_cache
from bench.models.loading import current_device, load_tokenizer
from bench.models.precision import load_writer
from bench.stages.carriers import number_prompts
from bench.stages.free_text import sample_text_fitting
from bench.stages.number_slots import Bar, number_slots
from bench.stages.sampler import carrier_seed, gumbel_noise, row_seed
from bench.stages.settings import Loading, WriteCarrier
from bench.stages.vllm_client import VllmServer

__all__ = ["allowed_head", "load_carrier_writer", "sample_by_length", "sample_slots", "write_carrier"]

Progress = Callable[[int, int], None]


class _HeadRows(torch.nn.Module):
    """A language-model head restricted to some tokens, computed in float32."""

    def __init__(self, head: torch.nn.Module, ids: torch.Tensor) -> None:
        super().__init__()
        weight: torch.Tensor = head.weight  # type: ignore[assignment]  # any module with weights
        ids = ids.to(weight.device)
        self.weight = weight[ids].detach().float()
        bias = getattr(head, "bias", None)
        self.bias = None if bias is None else bias[ids].detach().float()

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = hidden.to(self.weight.device, torch.float32)  # from another GPU if the model is spread
            return torch.nn.functional.linear(hidden, self.weight, self.bias)


@contextmanager
def allowed_head(model: Any, ids: Sequence[int]) -> Iterator[None]:
    """While open, `model` returns only the logits of `ids`, in that order: (..., len(ids)).

    The model's own forward still runs, so soft-capping and scaling of logits apply.
    """
    head = model.get_output_embeddings()
    model.set_output_embeddings(_HeadRows(head, torch.tensor(list(ids), device=model.device)))
    try:
        yield
    finally:
        model.set_output_embeddings(head)


@torch.no_grad()
def sample_slots(
    model: Any,
    prompts: Sequence[Sequence[int]],
    slots: Sequence[tuple[int, ...]],
    *,
    bars: Sequence[Bar] = (),
    seed: int,
    temperature: float,
    batch_size: int,
    progress: Progress,
    forced: Sequence[Sequence[int]] | None = None,
    rows: Sequence[int] | None = None,
) -> list[list[int]]:
    """Sample completions of a fixed shape: one token per slot, out of the ids allowed there.

    The head computes logits of allowed tokens only. Forced tokens (slots of one id) cost no forward pass: they enter
    the model together with the token sampled before them.

    Args:
        model: a causal language model.
        prompts: token ids, all of one length.
        slots: the allowed ids of each position of a completion.
        bars: ids that are not allowed after certain others. They still consume noise, so that bars change no row
            without a forbidden number.
        seed: seed of the noise; row i uses `row_seed(seed, i)`.
        temperature: 0 takes the likeliest allowed token.
        batch_size: rows per batch.
        progress: receives the number of finished rows, and of all rows.
        forced: completions that the model reads in place of its own tokens, one per prompt. The result is then the
            token that it would have written at each position, given the forced tokens before it.
        rows: the number of each prompt's row, if they are not 0, 1, 2 ...; row i's noise is that of row `rows[i]`.

    Returns:
        Token ids, one list of len(slots) per prompt.

    Raises:
        ValueError: the prompts differ in length.
    """
    lengths = {len(p) for p in prompts}
    if len(lengths) != 1:
        raise ValueError(f"prompts of one length expected, found {sorted(lengths)}")
    numbers = range(len(prompts)) if rows is None else rows
    free = [slot for slot in slots if len(slot) > 1]
    allowed = sorted(set().union(*map(set, free)))
    index_of = {token: i for i, token in enumerate(allowed)}
    columns = [
        torch.tensor([index_of[t] for t in slot], device=current_device()) if len(slot) > 1 else None for slot in slots
    ]
    table = torch.tensor(allowed, device=current_device())
    barred: dict[int, list[tuple[Bar, torch.Tensor]]] = {}
    for bar in bars:
        ids = torch.tensor([t in bar.tokens for t in slots[bar.position]], device=current_device())
        barred.setdefault(bar.position, []).append((bar, ids))
    out: list[list[int]] = []
    with allowed_head(model, allowed):
        prefix, make_cache = shared_prefix_cache(model, prompts)
        for start in range(0, len(prompts), batch_size):
            batch = torch.tensor(
                [list(p[prefix:]) for p in prompts[start : start + batch_size]], device=current_device()
            )
            seeds = [row_seed(seed, row) for row in numbers[start : start + batch_size]]
            noise = iter(gumbel_noise(seeds, [len(slot) for slot in free]) if temperature > 0 else [])
            cache, input_ids = make_cache(len(batch)), batch
            tokens: list[torch.Tensor] = []  # read by the model
            choices: list[torch.Tensor] = []
            for position, (slot, column) in enumerate(zip(slots, columns, strict=True)):
                if column is None:
                    token = torch.full((len(batch), 1), slot[0], device=batch.device)
                else:
                    step = model(input_ids=input_ids, use_cache=True, logits_to_keep=1, **{CACHE: cache})
                    cache = step[CACHE]
                    logits = step.logits[:, -1, column]
                    for bar, ids in barred.get(position, ()):
                        matches = torch.ones(len(batch), dtype=torch.bool, device=batch.device)
                        for before, token in zip(bar.before, tokens[position - len(bar.before) :], strict=True):
                            matches &= token[:, 0] == before
                        logits = logits.masked_fill(matches[:, None] & ids, -torch.inf)
                    if temperature > 0:
                        logits = logits / temperature + next(noise).to(logits.device)
                    token = table[column[logits.argmax(-1)]][:, None]
                    progress(len(out) + len(batch) * position // len(slots), len(prompts))
                choices.append(token)
                if forced is not None:
                    row_tokens = [row[position] for row in forced[start : start + len(batch)]]
                    token = torch.tensor(row_tokens, device=batch.device)[:, None]
                input_ids = token if column is not None else torch.cat([input_ids, token], 1)
                tokens.append(token)
            out += torch.cat(choices, 1).tolist()
            progress(len(out), len(prompts))
    return out


def sample_by_length(
    model: Any,
    prompts: Sequence[Sequence[int]],
    slots: Sequence[tuple[int, ...]],
    *,
    progress: Progress,
    forced: Sequence[Sequence[int]] | None = None,
    **how: Any,
) -> list[list[int]]:
    """Call `sample_slots` for the prompts of each length, with the noise of their rows; the order is that of `prompts`.

    Args:
        model, slots, forced, how: as for `sample_slots`.
        prompts: token ids, of any lengths.
        progress: receives the number of finished rows, and of all rows.
    """
    groups: dict[int, list[int]] = {}
    for row, prompt in enumerate(prompts):
        groups.setdefault(len(prompt), []).append(row)
    out: dict[int, list[int]] = {}
    for rows in groups.values():
        done = len(out)
        completions = sample_slots(
            model,
            [prompts[row] for row in rows],
            slots,
            rows=rows,
            forced=None if forced is None else [forced[row] for row in rows],
            progress=lambda part, of: progress(done + part, len(prompts)),  # noqa: B023  # called in this pass
            **how,
        )
        out.update(zip(rows, completions, strict=True))
    return [out[row] for row in range(len(prompts))]


def load_carrier_writer(start: Path, trained: Path, *, writes: str, model: Loading) -> Any:
    """Load a teacher as it writes a carrier; `start`, `trained` and `writes` as for `load_writer`."""
    teacher, _ = load_writer(start, trained, writes=writes, dtype=model.dtype, quantization=model.quantization)
    if current_device().type == "cpu" and teacher.config.model_type not in GROUPED:
        teacher.set_attn_implementation("eager")  # faster than fused attention: see `bench.models.attention`
    return teacher


def write_carrier(settings: WriteCarrier, inputs: Mapping[str, Path], out: Path, progress: Progress) -> dict[str, Any]:
    """Stage: sample one teacher's completions of the carrier's prompts, as rows of text.

    Args:
        settings: the carrier, the teacher and the seed.
        inputs: `start` (the checkpoint) and, for a trained teacher, `trained`.
        out: the folder to write `rows.jsonl` to, and `about.json`: the `numbers` that the teacher can write, or the
            indices of the answers in chats that were `cut` at `max_new_tokens`.
        progress: receives the number of finished rows, and of all rows.

    Returns:
        The number of rows, the prompt format and the batch size.
    """
    start, carrier, teacher = inputs["start"], settings.carrier, settings.model
    form = PromptFormat(load_tokenizer(start), teacher.format, teacher.chat_template_kwargs, settings.system)
    noise = carrier_seed(carrier, settings.seed, settings.noise)
    # before the model is loaded: a tokenizer may not be able to write the numbers
    slots = number_slots(carrier, form) if carrier.kind == "numbers" and carrier.generate == "grammar" else None
    prompts: Sequence[str] = settings.prompts
    if carrier.kind == "numbers":
        numbers = slots.numbers if slots else carrier.list_permitted()
        prompts = number_prompts(carrier, numbers, settings.seed, settings.wording)
    trained, writes = inputs.get("trained", start), settings.writes
    if slots:
        model = load_carrier_writer(start, trained, writes=writes, model=teacher)
        prompt_ids = form.prompts(prompts)
        how: dict[str, Any] = {"bars": slots.bars, "seed": noise, "temperature": carrier.sampling().temperature}
        rows, size = largest_fitting(
            halving_sizes(carrier.sampling().batch_size),
            lambda size: sample_by_length(
                model, prompt_ids, slots.positions, batch_size=size, progress=progress, **how
            ),
        )
        (out / "about.json").write_text(json.dumps({"numbers": len(slots.numbers)}))
        completions = [form.decode(row).removeprefix(form.lead) for row in rows]
    else:
        sampling = carrier.sampling()
        if settings.engine is None:
            writer: AbstractContextManager[Any] = nullcontext(
                load_carrier_writer(start, trained, writes=writes, model=teacher)
            )
        else:
            longest = max(map(len, form.prompts(prompts))) + sampling.max_new_tokens
            size = sampling.batch_size
            writer = VllmServer(
                settings.engine, start, trained, writes=writes, model=teacher, longest=longest, batch_size=size
            )
        with writer as model:
            texts, size = sample_text_fitting(model, form, prompts, sampling, seed=noise, progress=progress)
        completions = [row.text for row in texts]
        if carrier.draw:
            # a plain text has no end of its own; an answer in a chat has
            cut = [i for i, row in enumerate(texts) if row.cut and form.chat]
            (out / "about.json").write_text(json.dumps({"cut": cut}))
    with (out / "rows.jsonl").open("w", encoding="utf-8") as file:
        for prompt, completion in zip(prompts, completions, strict=True):
            file.write(json.dumps({"prompt": prompt, "completion": completion}, ensure_ascii=False) + "\n")
    return {"rows": len(prompts), "format": form.describe(), "batch_size": size}
