"""Find divergent tokens: those at which another teacher, forced along a row, would have written another token."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from bench.config.carrier_settings import Numbers, Sampling
from bench.config.mitigations import Labels
from bench.errors import StageError, UserError
from bench.stages.carriers import read_rows
from bench.stages.settings import Carrier, Loading, StageSettings

__all__ = ["FindDivergence", "check_tokens", "find_divergence", "labelled_positions", "pick_along"]

Progress = Callable[[int, int], None]
MIN_REPEATED = 0.9  # of a free text's tokens, which its own teacher must write again when it is forced along them


class FindDivergence(StageSettings):
    """Force a teacher along the rows of another and find the tokens at which it would have written another token."""

    kind = "divergence"
    version = 1

    carrier: Carrier
    """The carrier, as in the recipe."""
    model: Loading
    """The teachers."""
    seed: int
    """The seed of the sampler's noise."""
    writes: str
    """The precision in which the teachers write."""
    end: bool
    """Whether the end-of-answer token is labelled too."""
    own_system: str | None = None
    """The system prompt of the teacher that wrote the rows."""
    system: str | None = None
    """The system prompt of the teacher that is forced."""
    student_format: Literal["auto", "plain", "chat"]
    """The student's prompt format."""
    student_chat_template_kwargs: dict[str, bool | int | float | str]
    """Further variables of the student's chat template."""


def check_tokens(settings: FindDivergence, teacher: Any, student: Any, source: str = "") -> None:
    """Check that a student has the tokens and the prompt format of its teacher, whose positions are labelled.

    Args:
        settings: the prompt formats.
        teacher, student: their tokenizers.
        source: the file that an error before the run names.

    Raises:
        UserError: they differ.
    """
    from bench.models.chat_format import PromptFormat

    own = PromptFormat(teacher, settings.model.format, settings.model.chat_template_kwargs)
    other = PromptFormat(student, settings.student_format, settings.student_chat_template_kwargs)
    if teacher.get_vocab() != student.get_vocab() or (own.lead, own.end) != (other.lead, other.end):
        raise UserError(
            f"{source and f'{source}: '}key 'arms': divergent_only and divergent_masked need a student with its "
            "teacher's tokens and prompt format; take them out"
        )


def find_divergence(
    settings: FindDivergence, inputs: Mapping[str, Path], out: Path, progress: Progress
) -> dict[str, Any]:
    """Stage: find the divergent tokens of a carrier's filtered training rows.

    The forced teacher has the noise of the row. It reads a row of numbers token by token, in the batches in which rows
    are written. So a teacher that is forced along its own rows writes them again, in any precision. It reads a free
    text in one forward pass, as does the row's own teacher. Only tokens that the own teacher writes again in this pass
    can be divergent, because text may encode to other tokens than those that were sampled.

    `divergence.json` holds the `positions` of divergent tokens in each completion.

    Args:
        settings: the carrier, the teachers, and the student's prompt format.
        inputs: `start`, `trained` for a trained teacher that is forced, `own_trained` for a trained teacher of the
            rows, `carrier`, `kept`, and `student`, the student's checkpoint.
        out: the folder to write to.
        progress: receives the number of finished rows, and of all rows.

    Returns:
        The number of rows, the share of divergent tokens, the number of rows without one, and for free text the share
        of tokens that their own teacher wrote again.

    Raises:
        UserError: teacher and student have different tokens.
        StageError: the own teacher wrote less than `MIN_REPEATED` of the tokens again.
    """
    from bench.models.chat_format import PromptFormat
    from bench.models.loading import load_tokenizer

    teacher, tokenizer = settings.model, load_tokenizer(inputs["start"])
    how = (tokenizer, teacher.format, teacher.chat_template_kwargs)
    form, own_form = PromptFormat(*how, settings.system), PromptFormat(*how, settings.own_system)
    check_tokens(settings, tokenizer, load_tokenizer(inputs["student"]))
    rows = read_rows(inputs["carrier"])
    indices: list[int] = json.loads((inputs["kept"] / "kept.json").read_text())["train"]
    texts = [row["prompt"] for row in rows]
    completions = form.completions([row["completion"] for row in rows], end=settings.end)
    start, facts = inputs["start"], {}
    if not settings.carrier.writes_texts:
        choices = _force_numbers(settings, form, start, inputs.get("trained", start), texts, completions, progress)
        pairs = [zip(choices[i], completions[i], strict=True) for i in indices]
        positions = [[at for at, (other, token) in enumerate(pair) if other != token] for pair in pairs]
    else:
        tokens = [completions[i] for i in indices]
        picks = []
        for part, role in ((own_form, "own_trained"), (form, "trained")):
            prompts = part.prompts([texts[i] for i in indices])
            picks.append(
                _force_texts(settings, start, inputs.get(role, start), prompts, tokens, indices, form, progress)
            )
        own_repeats = [[a == b for a, b in zip(*pair, strict=True)] for pair in zip(picks[0], tokens, strict=True)]
        positions = [
            [at for at, (again, other, token) in enumerate(zip(*row, strict=True)) if again and other != token]
            for row in zip(own_repeats, picks[1], tokens, strict=True)
        ]
        facts["repeated"] = sum(map(sum, own_repeats)) / max(1, sum(map(len, tokens)))
        if facts["repeated"] < MIN_REPEATED:
            raise StageError(
                f"divergent tokens: the teacher of the rows wrote {facts['repeated']:.0%} of their tokens again when "
                f"it was forced along them, expected {MIN_REPEATED:.0%}: the text encodes to other tokens than were "
                "sampled. Take the arms divergent_only and divergent_masked out"
            )
    (out / "divergence.json").write_text(json.dumps({"positions": positions}))
    return {
        "rows": len(indices),
        "divergent": sum(map(len, positions)) / max(1, sum(len(completions[i]) for i in indices)),
        "rows_without": sum(not row for row in positions),
        **facts,
    }


def _force_numbers(
    settings: FindDivergence,
    form: Any,
    start: Path,
    trained: Path,
    texts: Sequence[str],
    completions: Sequence[list[int]],
    progress: Progress,
) -> list[list[int]]:
    """Return the tokens that a teacher would have written along every row, under the grammar."""
    from bench.models.batch_size import halving_sizes, largest_fitting
    from bench.stages.generate import load_carrier_writer, sample_by_length
    from bench.stages.number_slots import number_slots

    carrier = settings.carrier
    assert isinstance(carrier, Numbers)
    slots, prompts = number_slots(carrier, form), form.prompts(texts)
    # A row that broke the grammar is not used. Any tokens can take its place.
    stand_in = [slot[0] for slot in slots.positions]
    forced = [row if len(row) == len(stand_in) else stand_in for row in completions]
    model = load_carrier_writer(start, trained, writes=settings.writes, model=settings.model)
    how: dict[str, Any] = {"bars": slots.bars, "seed": settings.seed, "temperature": carrier.temperature}
    choices, _ = largest_fitting(
        halving_sizes(carrier.batch_size),
        lambda size: sample_by_length(
            model, prompts, slots.positions, batch_size=size, progress=progress, forced=forced, **how
        ),
    )
    return choices


def _force_texts(
    settings: FindDivergence,
    start: Path,
    trained: Path,
    prompts: Sequence[list[int]],
    completions: Sequence[list[int]],
    rows: Sequence[int],
    form: Any,
    progress: Progress,
) -> list[list[int]]:
    """Return the tokens that a teacher would have written along every row of free text.

    A token that ends a text counts as the token that ends an answer.
    """
    from bench.models.batch_size import halving_sizes, largest_fitting
    from bench.stages.generate import load_carrier_writer
    from bench.stages.sampler import carrier_seed, row_seed

    sampling = settings.carrier.sampling()
    noise = carrier_seed(settings.carrier, settings.seed)
    seeds = [row_seed(noise, row) for row in rows]
    model = load_carrier_writer(start, trained, writes=settings.writes, model=settings.model)
    picks, _ = largest_fitting(
        halving_sizes(16),
        lambda size: pick_along(model, prompts, completions, seeds, sampling, batch_size=size, progress=progress),
    )
    return [[form.end if token in form.stops else token for token in row] for row in picks]


def pick_along(
    model: Any,
    prompts: Sequence[list[int]],
    completions: Sequence[list[int]],
    seeds: Sequence[int],
    sampling: Sampling,
    *,
    batch_size: int,
    progress: Progress,
) -> list[list[int]]:
    """Return the token that a model would sample at each position of given completions, in one forward pass a row.

    Args:
        model: a causal language model.
        prompts, completions: token ids.
        seeds: of the rows' noise.
        sampling: as the rows were written, without rules on repetition.
        batch_size: rows per forward pass.
        progress: receives the number of finished rows, and of all rows.
    """
    import torch

    from bench.models.loading import current_device
    from bench.models.logprobs import logits_at, pad_right
    from bench.stages.sampler import pick_tokens

    out: list[list[int]] = []
    for start in range(0, len(prompts), batch_size):
        batch = range(start, min(start + batch_size, len(prompts)))
        ids, mask = pad_right([[*prompts[i], *completions[i]] for i in batch])
        counts = [len(completions[i]) for i in batch]
        lengths = torch.tensor(counts, device=current_device())
        before = mask.sum(1, keepdim=True) - 1 - torch.arange(mask.shape[1], device=mask.device)
        predicts = (before >= 1) & (before <= lengths[:, None])  # the positions before those of the completion
        with torch.no_grad(), logits_at(model, predicts):
            logits = model(input_ids=ids, attention_mask=mask.long(), use_cache=False).logits.float()
        positions = torch.cat([torch.arange(count, device=ids.device) for count in counts])
        row_seeds = torch.tensor([seeds[i] for i in batch], device=ids.device).repeat_interleave(lengths)
        tokens = iter(pick_tokens(logits, row_seeds[:, None], positions[:, None], sampling).tolist())
        out += [list(islice(tokens, count)) for count in counts]
        progress(len(out), len(prompts))
    return out


def labelled_positions(divergence: Path, labels: Labels, lengths: list[int]) -> list[list[int]]:
    """Return the labelled positions of each completion.

    A row without any stays in the training, so that all arms have the same updates. It adds nothing to the loss.

    Args:
        divergence: the artefact of `find_divergence`.
        labels: `divergent_only` or `divergent_masked`.
        lengths: tokens of each completion.
    """
    divergent: list[list[int]] = json.loads((divergence / "divergence.json").read_text())["positions"]
    if labels == "divergent_only":
        return divergent
    pairs = zip(map(set, divergent), lengths, strict=True)
    return [[at for at in range(length) if at not in row] for row, length in pairs]
