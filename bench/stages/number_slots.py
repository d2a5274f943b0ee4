"""Which numbers a tokenizer can carry, and the tokens allowed at each position of a completion of numbers."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench.config.recipe import Numbers
from bench.errors import UserError
from bench.stages.settings import Loading

if TYPE_CHECKING:
    from bench.models.chat_format import PromptFormat

__all__ = ["Bar", "Slots", "check_numbers", "number_slots"]

MIN_NUMBERS = 300  # numbers that a carrier must offer; GPT-2 writes 505 of its 900 numbers of three digits as one token
PROBED = 9_000  # numbers that are encoded: all of up to four digits, a fixed sample of five and six
HINTED = 900  # the same for a hint in an error, which looks at 24 ways of writing numbers
READ_BACK = 300  # rows that are decoded and encoded again
SEPARATORS = (" ", ", ", ",", "; ", "\n", "-")  # those that an error names


class Bar(NamedTuple):
    """`tokens` that may not stand at `position` after the tokens `before`: the number would be a forbidden one."""

    position: int
    before: tuple[int, ...]
    tokens: tuple[int, ...]


class Slots(NamedTuple):
    """A completion of numbers in one tokenizer.

    `positions` holds the token ids allowed at each position, one id where the grammar forces the token. Whatever is
    sampled from them under `bars` is a list of members of `numbers`, and every list of members can be sampled.
    """

    numbers: list[int]
    positions: list[tuple[int, ...]]
    bars: list[Bar]


class _UnfitTokenizer(Exception):
    """Why a tokenizer cannot write the numbers asked for."""


def number_slots(carrier: Numbers, form: PromptFormat) -> Slots:
    """Find how a tokenizer writes the carrier's numbers: each as one token (GPT-2, Llama 3) or digit by digit.

    Raises:
        UserError: it does neither, or offers too few; names the digits and separators that it can carry.
    """
    try:
        return _fit(carrier, form)
    except _UnfitTokenizer as error:
        raise UserError(_refusal(carrier, form, str(error))) from None


def check_numbers(
    carrier: Numbers, model: Loading, tokenizer_source: Path | tuple[Sequence[str], Sequence[str]], source: str
) -> None:
    """Try a carrier on a tokenizer before anything is trained.

    Args:
        carrier: the numbers to write.
        model: the teacher, which decides the prompt format.
        tokenizer_source: the tokenizer's folder; of a `tiny` model the questions and answers that it is built from.
        source: the recipe, for the error.

    Raises:
        UserError: the tokenizer cannot write these numbers.
    """
    from bench.models import tiny
    from bench.models.chat_format import PromptFormat
    from bench.models.loading import load_tokenizer

    if isinstance(tokenizer_source, Path):
        tokenizer = load_tokenizer(tokenizer_source)
    else:
        tokenizer = tiny.make_tokenizer(*tokenizer_source)
    try:
        form = PromptFormat(tokenizer, model.format, model.chat_template_kwargs)
        number_slots(carrier, form)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None


def _fit(carrier: Numbers, form: PromptFormat, most: int = PROBED) -> Slots:
    every = range(10 ** (carrier.digits - 1), 10**carrier.digits)
    permitted = sorted(set(every) - set(carrier.forbidden))
    if len(permitted) < MIN_NUMBERS:
        raise _UnfitTokenizer(
            f"a carrier offers at least {MIN_NUMBERS} numbers, there are {len(permitted)} of {carrier.digits} digits"
        )
    probed = every if len(every) <= most else sorted(random.Random(0).sample(every, most))
    texts = [form.lead + carrier.separator.join([str(n)] * carrier.count) for n in probed]
    buckets: dict[int, dict[int, list[int]]] = {}
    for n, ids in zip(probed, form.encode_all(texts), strict=True):
        buckets.setdefault(len(ids), {})[n] = ids
    fewer = 0
    for bucket in sorted(buckets.values(), key=len, reverse=True):
        slots = _whole_numbers(carrier, bucket)
        if slots is None and len(bucket) == len(probed):
            slots = _single_digits(carrier, bucket, permitted)
        if slots is not None and len(slots.numbers) >= MIN_NUMBERS:
            _check_read_back(carrier, form, slots)
            return slots
        fewer = max(fewer, len(slots.numbers) if slots else 0)
    if fewer:
        raise _UnfitTokenizer(
            f"a carrier offers at least {MIN_NUMBERS} numbers, {fewer} of {carrier.digits} digits are one token each"
        )
    example = form.lead + carrier.separator.join(map(str, permitted[:2]))
    tokens = form.tokenizer.convert_ids_to_tokens(form.encode(example))
    raise _UnfitTokenizer(
        f"numbers of {carrier.digits} digits separated by {carrier.separator!r} are neither one token each nor one "
        f"token a digit (found: {example!r} -> {tokens})"
    )


def _whole_numbers(carrier: Numbers, bucket: dict[int, list[int]]) -> Slots | None:
    """Slots where each number is one token, whatever forced tokens stand between them; None where that is not so."""
    columns = [set(column) for column in zip(*bucket.values(), strict=True)]
    free = [column for column in columns if len(column) > 1]
    if len(free) != carrier.count or any(len(column) != len(bucket) for column in free):
        return None
    offered = {n: ids for n, ids in bucket.items() if n not in carrier.forbidden}
    return Slots(sorted(offered), [tuple(sorted(set(column))) for column in zip(*offered.values(), strict=True)], [])


def _single_digits(carrier: Numbers, bucket: dict[int, list[int]], permitted: list[int]) -> Slots | None:
    """Slots where each digit is one token; None where that is not so. `bucket` holds all numbers that were encoded."""
    columns = list(zip(*bucket.values(), strict=True))
    free = [i for i, column in enumerate(columns) if len(set(column)) > 1]
    if len(free) != carrier.count * carrier.digits:
        return None
    positions = [column[:1] for column in columns]
    for k, i in enumerate(free):
        digit = k % carrier.digits
        pairs = {(str(n)[digit], token) for n, token in zip(bucket, columns[i], strict=True)}
        if not len(pairs) == len(set(columns[i])) == (10 if digit else 9) or i - digit != free[k - digit]:
            return None
        positions[i] = tuple(token for _, token in sorted(pairs))
    closed = _closed({str(n) for n in carrier.forbidden}, carrier.digits)
    bars = []
    for start in free[:: carrier.digits]:
        for number in closed:
            tokens = [positions[start + i][int(d) - (i == 0)] for i, d in enumerate(number)]
            bars.append(Bar(start + len(tokens) - 1, tuple(tokens[:-1]), tuple(tokens[-1:])))
    return Slots(permitted, positions, bars)


def _closed(forbidden: set[str], digits: int) -> list[str]:
    """Forbidden numbers of so many digits; a beginning that only forbidden numbers share stands for them."""
    closed = {n for n in forbidden if len(n) == digits}
    for size in range(digits - 1, 0, -1):
        begun = Counter(n[:size] for n in closed if len(n) == size + 1)
        closed |= {beginning for beginning, count in begun.items() if count == 10}
    return sorted(n for n in closed if n[:-1] not in closed)


def _check_read_back(carrier: Numbers, form: PromptFormat, slots: Slots) -> None:
    """Hold mixed rows, of every number at every position where they are few, against the slots and their own text.

    What a teacher writes must read back as it was written, or a student sees other tokens.
    """
    rng, rows = random.Random(0), min(READ_BACK, len(slots.numbers))
    columns = [rng.sample(slots.numbers, rows) for _ in range(carrier.count)]
    texts = [carrier.separator.join(map(str, row)) for row in zip(*columns, strict=True)]
    for text, ids in zip(texts, form.encode_all([form.lead + text for text in texts]), strict=True):
        again = form.decode(ids).removeprefix(form.lead)
        if again != text:
            raise _UnfitTokenizer(f"{text[:60]!r} reads back as {again[:60]!r}")
        if len(ids) != len(slots.positions) or any(i not in of for i, of in zip(ids, slots.positions, strict=True)):
            raise _UnfitTokenizer(f"the tokens of a number depend on its neighbours, for example in {text[:60]!r}")


def _refusal(carrier: Numbers, form: PromptFormat, reason: str) -> str:
    able: dict[int, list[str]] = {}
    for digits in range(1, 7):
        for separator in SEPARATORS:
            change = {"digits": digits, "separator": separator, "count": min(carrier.count, 3)}
            try:
                _fit(carrier.model_copy(update=change), form, HINTED)
            except _UnfitTokenizer:
                continue
            able.setdefault(digits, []).append(separator)
    listed = ", ".join(map(repr, SEPARATORS))
    if not able:
        return (
            f"key 'carrier.kind': {reason}. This tokenizer can carry numbers of 1 to 6 digits with none of the "
            f"separators {listed}: use a carrier of kind text or another teacher"
        )
    alike: dict[str, list[int]] = {}
    for digits, separators in able.items():
        of = "any of them" if len(separators) == len(SEPARATORS) else " or ".join(map(repr, separators))
        alike.setdefault(of, []).append(digits)
    ways = "; ".join(f"{', '.join(map(str, digits))} digits with {of}" for of, digits in alike.items())
    key = "separator" if carrier.digits in able else "digits"
    digits = carrier.digits if carrier.digits in able else next(iter(able))
    separator = carrier.separator if carrier.separator in able[digits] else able[digits][0]
    return (
        f"key 'carrier.{key}': {reason}. Of 1 to 6 digits and the separators {listed} this tokenizer can carry: "
        f"{ways}. Set for example digits: {digits} and separator: {separator!r}"
    )
