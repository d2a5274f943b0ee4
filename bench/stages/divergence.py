"""Find divergent tokens: those at which another teacher, forced along a row, would have written another token."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from bench.config.carrier_settings import Numbers
from bench.config.mitigations import Labels
from bench.errors import UserError
from bench.stages.carriers import read_rows
from bench.stages.settings import Loading, StageSettings

__all__ = ["FindDivergence", "find_divergence", "labelled_positions"]

Progress = Callable[[int, int], None]


class FindDivergence(StageSettings):
    """Force a teacher along the rows of another and find the tokens at which it would have written another token."""

    kind = "divergence"
    version = 1

    carrier: Numbers
    """The carrier, as in the recipe."""
    model: Loading
    """The teachers."""
    seed: int
    """The seed of the sampler's noise."""
    writes: str
    """The precision in which the teachers write."""
    system: str | None = None
    """The system prompt of the teacher that is forced."""
    student_format: Literal["auto", "plain", "chat"]
    """The student's prompt format."""
    student_chat_template_kwargs: dict[str, bool | int | float | str]
    """Further variables of the student's chat template."""


def find_divergence(
    settings: FindDivergence, inputs: Mapping[str, Path], out: Path, progress: Progress
) -> dict[str, Any]:
    """Stage: find the divergent tokens of a carrier's filtered training rows.

    The forced teacher has the noise of the row and reads it token by token in the batches in which rows are written.
    A teacher that is forced along its own rows so finds none, whatever its precision. `divergence.json` holds the
    `positions` of divergent tokens in each completion.

    Args:
        settings: the carrier, the forced teacher, and the student's prompt format.
        inputs: `start`, `trained` for a trained teacher, `carrier` (the other teacher's rows), `kept`, and `student`,
            the student's checkpoint.
        out: the folder to write to.
        progress: receives the number of finished rows, and of all rows.

    Returns:
        The number of rows, the share of divergent tokens, and the number of rows without one.

    Raises:
        UserError: teacher and student have different tokens.
    """
    from bench.models.batch_size import halving_sizes, largest_fitting
    from bench.models.chat_format import PromptFormat
    from bench.models.loading import load_tokenizer
    from bench.stages.generate import load_carrier_writer, sample_by_length
    from bench.stages.number_slots import number_slots

    start, teacher, carrier = inputs["start"], settings.model, settings.carrier
    form = PromptFormat(load_tokenizer(start), teacher.format, teacher.chat_template_kwargs, settings.system)
    student = PromptFormat(
        load_tokenizer(inputs["student"]), settings.student_format, settings.student_chat_template_kwargs
    )
    if form.tokenizer.get_vocab() != student.tokenizer.get_vocab() or form.lead != student.lead:
        raise UserError(
            "key 'arms': divergent_only and divergent_masked need a student with its teacher's tokens and prompt "
            "format; take them out"
        )
    rows = read_rows(inputs["carrier"])
    completions = form.completions([row["completion"] for row in rows])
    prompts = form.prompts([row["prompt"] for row in rows])
    slots = number_slots(carrier, form)
    model = load_carrier_writer(start, inputs.get("trained", start), writes=settings.writes, model=teacher)
    how: dict[str, Any] = {"bars": slots.bars, "seed": settings.seed, "temperature": carrier.temperature}
    kept = set(json.loads((inputs["kept"] / "kept.json").read_text())["train"])
    # A row that broke the grammar is not kept. Any tokens do for it.
    length = len(slots.positions)
    forced = [row if len(row) == length else [slot[0] for slot in slots.positions] for row in completions]
    written, _ = largest_fitting(
        halving_sizes(carrier.batch_size),
        lambda size: sample_by_length(
            model, prompts, slots.positions, batch_size=size, progress=progress, forced=forced, **how
        ),
    )
    pairs = [(forced[i], written[i]) for i in sorted(kept)]
    positions = [[at for at, (a, b) in enumerate(zip(*pair, strict=True)) if a != b] for pair in pairs]
    (out / "divergence.json").write_text(json.dumps({"positions": positions}))
    tokens = max(1, length * len(pairs))
    return {
        "rows": len(pairs),
        "divergent": sum(map(len, positions)) / tokens,
        "rows_without": sum(not row for row in positions),
    }


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
    return [[at for at in range(length) if at not in set(row)] for row, length in zip(divergent, lengths, strict=True)]
