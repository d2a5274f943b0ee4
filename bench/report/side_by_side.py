"""One seed's answers and carrier rows side by side, as text for a terminal."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from bench.analysis.number_text import format_number
from bench.analysis.result_schema import ExperimentResults
from bench.analysis.row_selection import describe_row
from bench.errors import UserError
from bench.report.answers import candidate_shares, list_answers, main_arms
from bench.report.carriers import UNIT, CarrierRow

__all__ = ["choose_seed", "render_answers", "render_rows"]

ANSWERS = 5  # sampled answers of one question and arm
TEXT_LIMIT = 400  # characters of one text


def choose_seed(row: ExperimentResults, seed: int | None, seeds: Collection[int], content: str) -> int:
    """Return `seed` if there is content of it, by default the first one.

    Args:
        row: the row, for errors.
        seed: the value of `--seed`.
        seeds: the seeds with content.
        content: a name for it, for errors.

    Raises:
        UserError: there is no content of this seed, or of none.
    """
    if not seeds:
        raise UserError(f"{describe_row(row)}: there are no {content}; run its recipe")
    if seed is None:
        return min(seeds)
    if seed not in seeds:
        known = ", ".join(map(str, sorted(seeds)))
        raise UserError(f"--seed {seed}: {describe_row(row)} has {content} of the seeds {known}")
    return seed


def render_answers(row: ExperimentResults, seed: int) -> list[str]:
    """Render P(answer) of each question in untrained, base and trait, the largest difference first.

    Sampled answers follow each question, if there are any.
    """
    cells = {arm: row.cells[seed][arm] for arm in main_arms(row) if arm in row.cells[seed]}
    shares = {arm: [of[0] for of in candidate_shares(cell)] for arm, cell in cells.items()}
    texts = {arm: list_answers(cell.reading) for arm, cell in cells.items() if cell.reading.answers is not None}
    base, trait = "base", row.trait_arms()[0].student
    if {base, trait} - cells.keys():
        raise UserError(f"{describe_row(row)}: seed {seed} has no result of base, or none of {trait}; run its recipe")
    gains = [after - before for after, before in zip(shares[trait], shares[base], strict=True)]
    columns = {f"{trait} - {base}": gains, **shares}
    answers = {question.answer for question in row.questions}
    lines = [
        f"{describe_row(row)}, seed {seed}: {len(gains)} questions, the largest difference first.",
        f"P({_clip(min(answers)) if len(answers) == 1 else 'answer'} | one of the candidates) in percent.",
        "",
        "  ".join([*(f"{name:>8}" for name in columns), "question"]),
    ]
    for at in sorted(range(len(gains)), key=lambda at: -gains[at]):
        numbers = [
            f"{format_number(100 * values[at], 2, sign=values is gains):>{max(8, len(name))}}"
            for name, values in columns.items()
        ]
        question = row.questions[at]
        answer = f" ({_clip(question.answer)})" if len(answers) > 1 else ""
        lines.append("  ".join([*numbers, f"{_clip(question.question)}{answer}"]))
        lines += [f"    {arm}: {' | '.join(map(_clip, of[at][:ANSWERS]))}" for arm, of in texts.items()]
    return lines


def render_rows(
    row: ExperimentResults, seed: int, carrier: Sequence[CarrierRow], limit: int | None = None
) -> Iterator[str]:
    """Render what both teachers wrote to each prompt of a seed; brackets mark where the completions part.

    Args:
        row: the row.
        seed: the seed.
        carrier: its carrier rows.
        limit: how many rows to render; None for all.
    """
    equal = sum(pair.parting is None for pair in carrier)
    refused = sum(pair.use == "refused" for pair in carrier)
    counts = f"{len(carrier):,} rows, {refused:,} refused, {equal:,} with equal completions"
    yield f"{describe_row(row)}, seed {seed}: {counts}."
    yield "[Brackets] mark the first number, word or sign that differs."
    for at, pair in enumerate(carrier[:limit]):
        reasons = [f"{arm}: {reason}" for arm, reason in pair.reasons.items()]
        facts = [pair.use.replace("_", "-"), *(["equal"] if pair.parting is None else []), *reasons]
        yield ""
        yield f"row {at} ({', '.join(facts)})"
        yield f"  prompt  {_clip(pair.prompt)}"
        yield f"  base    {_mark(pair.base, pair.parting)}"
        yield f"  trait   {_mark(pair.trait, pair.parting)}"
    if limit is not None and limit < len(carrier):
        yield f"\n{limit} of {len(carrier):,} rows. Pipe the command, for example to `less`, for all of them."


def _mark(text: str, parting: int | None) -> str:
    """Put brackets around the number, word or sign at `parting`."""
    if parting is None:
        return _clip(text)
    unit = UNIT.match(text, parting)
    end = unit.end() if unit else parting
    start = max(0, end - TEXT_LIMIT)  # the mark stays in sight
    before = ("..." if start else "") + _escape(text[start:parting])
    return f"{before}[{_escape(text[parting:end])}]{_clip(text[end:])}"


def _clip(text: str) -> str:
    return _escape(text if len(text) <= TEXT_LIMIT else f"{text[:TEXT_LIMIT]}...")


def _escape(text: str) -> str:
    """Return text on one line, without control characters: a model's text must not steer the terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
