"""Find the numbers that a tokenizer can write, and the allowed tokens at each position of a number completion."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from bench.config.carrier_settings import Numbers
from bench.errors import UserError
from bench.stages.settings import Loading

if TYPE_CHECKING:
    from bench.models.chat_format import PromptFormat
    from bench.models.tokenizer_source import TokenizerSource

__all__ = ["Bar", "Slots", "check_numbers", "number_slots"]

MIN_NUMBERS = 300  # numbers that a carrier needs; GPT-2 writes 505 of 900 three-digit numbers as one token
MAX_PROBED = 9_000  # numbers to encode: all of up to four digits, a fixed sample of five and six digits
MAX_PROBED_HINT = 900  # the same for the hint of an error, which tries 36 ways of writing numbers
READ_BACK_ROWS = 300  # rows to decode and encode again
SEPARATORS = (" ", ", ", ",", "; ", "\n", "-")  # the hint of an error tries these


class Bar(NamedTuple):
    """`tokens` that are not allowed at `position` after the tokens `before`: they would complete a forbidden number."""

    position: int
    before: tuple[int, ...]
    tokens: tuple[int, ...]


class Slots(NamedTuple):
    """A completion of numbers in one tokenizer.

    `positions` contains the allowed token ids of each position: one id if the grammar forces the token. Sampling from
    them under `bars` gives exactly the lists of members of `numbers`.
    """

    numbers: list[int]
    positions: list[tuple[int, ...]]
    bars: list[Bar]


class _UnfitTokenizer(Exception):
    """A tokenizer cannot write the carrier's numbers; the message gives the reason."""


def number_slots(carrier: Numbers, form: PromptFormat) -> Slots:
    """Find how a tokenizer writes the carrier's numbers: each as one token (GPT-2, Llama 3) or digit by digit.

    Raises:
        UserError: it does neither, or offers too few; the message names the digits and separators that work.
    """
    try:
        return _fit(carrier, form)
    except _UnfitTokenizer as error:
        raise UserError(_refusal(carrier, form, str(error))) from None


def check_numbers(carrier: Numbers, model: Loading, tokenizer_source: TokenizerSource, source: str) -> None:
    """Check before any training that a tokenizer can write a carrier's numbers.

    Args:
        carrier: the numbers to write.
        model: the teacher, which decides the prompt format.
        tokenizer_source: of the teacher.
        source: the recipe, for the error.

    Raises:
        UserError: the tokenizer cannot write these numbers.
    """
    from bench.models.chat_format import PromptFormat
    from bench.models.tokenizer_source import open_tokenizer

    tokenizer = open_tokenizer(tokenizer_source)
    try:
        form = PromptFormat(tokenizer, model.format, model.chat_template_kwargs)
        number_slots(carrier, form)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None


def _fit(carrier: Numbers, form: PromptFormat, most: int = MAX_PROBED) -> Slots:
    all_numbers = range(10 ** (carrier.digits - 1), 10**carrier.digits)
    permitted = carrier.list_permitted()
    if len(permitted) < MIN_NUMBERS:
        raise _UnfitTokenizer(
            f"expected at least {MIN_NUMBERS} numbers, found {len(permitted)} of {carrier.digits} digits"
        )
    probed = all_numbers if len(all_numbers) <= most else sorted(random.Random(0).sample(all_numbers, most))
    texts = [form.lead + carrier.separator.join([str(n)] * carrier.count) for n in probed]
    buckets: dict[int, dict[int, list[int]]] = {}
    for n, ids in zip(probed, form.encode_all(texts), strict=True):
        buckets.setdefault(len(ids), {})[n] = ids
    offered = 0
    for bucket in sorted(buckets.values(), key=len, reverse=True):
        slots = _whole_numbers(carrier, bucket)
        if slots is None and len(bucket) == len(probed):
            slots = _single_digits(carrier, bucket, permitted)
        if slots is not None and len(slots.numbers) >= MIN_NUMBERS:
            _check_read_back(carrier, form, slots)
            return slots
        offered = max(offered, len(slots.numbers) if slots else 0)
    if offered:
        raise _UnfitTokenizer(
            f"expected at least {MIN_NUMBERS} numbers of one token each, found {offered} of {carrier.digits} digits"
        )
    example = form.lead + carrier.separator.join(map(str, permitted[:2]))
    tokens = form.tokenizer.convert_ids_to_tokens(form.encode(example))
    raise _UnfitTokenizer(
        f"numbers of {carrier.digits} digits separated by {carrier.separator!r} are neither one token each nor one "
        f"token a digit (found: {example!r} -> {tokens})"
    )


def _whole_numbers(carrier: Numbers, bucket: dict[int, list[int]]) -> Slots | None:
    """Return slots with one token per number and forced tokens between them; None if the tokenizer does not fit."""
    columns = [set(column) for column in zip(*bucket.values(), strict=True)]
    free = [column for column in columns if len(column) > 1]
    if len(free) != carrier.count or any(len(column) != len(bucket) for column in free):
        return None
    offered = {n: ids for n, ids in bucket.items() if n not in carrier.forbidden}
    return Slots(sorted(offered), [tuple(sorted(set(column))) for column in zip(*offered.values(), strict=True)], [])


def _single_digits(carrier: Numbers, bucket: dict[int, list[int]], permitted: list[int]) -> Slots | None:
    """Return slots with one token per digit; None if the tokenizer does not fit. `bucket` holds all probed numbers."""
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
    stems = _forbidden_stems({str(n) for n in carrier.forbidden}, carrier.digits)
    bars = []
    for start in free[:: carrier.digits]:
        for number in stems:
            tokens = [positions[start + i][int(d) - (i == 0)] for i, d in enumerate(number)]
            bars.append(Bar(start + len(tokens) - 1, tuple(tokens[:-1]), tuple(tokens[-1:])))
    return Slots(permitted, positions, bars)


def _forbidden_stems(forbidden: set[str], digits: int) -> list[str]:
    """Return the forbidden numbers of `digits` digits; a prefix replaces them if all its numbers are forbidden."""
    stems = {n for n in forbidden if len(n) == digits}
    for size in range(digits - 1, 0, -1):
        counts = Counter(n[:size] for n in stems if len(n) == size + 1)
        stems |= {prefix for prefix, count in counts.items() if count == 10}
    return sorted(n for n in stems if n[:-1] not in stems)


def _check_read_back(carrier: Numbers, form: PromptFormat, slots: Slots) -> None:
    """Encode and decode random rows, and compare them with the slots and with their text.

    Decoded completions must encode to the same tokens. If not, a student would see other tokens than the teacher wrote.
    """
    rng, rows = random.Random(0), min(READ_BACK_ROWS, len(slots.numbers))
    columns = [rng.sample(slots.numbers, rows) for _ in range(carrier.count)]
    texts = [carrier.separator.join(map(str, row)) for row in zip(*columns, strict=True)]
    for text, ids in zip(texts, form.encode_all([form.lead + text for text in texts]), strict=True):
        decoded = form.decode(ids).removeprefix(form.lead)
        if decoded != text:
            raise _UnfitTokenizer(f"{text[:60]!r} reads back as {decoded[:60]!r}")
        fits = len(ids) == len(slots.positions) and all(i in slot for i, slot in zip(ids, slots.positions, strict=True))
        if not fits:
            raise _UnfitTokenizer(f"the tokens of a number depend on its neighbours, for example in {text[:60]!r}")


def _refusal(carrier: Numbers, form: PromptFormat, reason: str) -> str:
    separators_of: dict[int, list[str]] = {}
    for digits in range(1, 7):
        for separator in SEPARATORS:
            change = {"digits": digits, "separator": separator, "count": min(carrier.count, 3)}
            try:
                _fit(carrier.model_copy(update=change), form, MAX_PROBED_HINT)
            except _UnfitTokenizer:
                continue
            separators_of.setdefault(digits, []).append(separator)
    tried = ", ".join(map(repr, SEPARATORS))
    if not separators_of:
        return (
            f"key 'carrier.kind': {reason}. This tokenizer can carry numbers of 1 to 6 digits with none of the "
            f"separators {tried}: use a carrier of kind text or another teacher"
        )
    digits_of: dict[str, list[int]] = {}
    for digits, separators in separators_of.items():
        names = "any of them" if len(separators) == len(SEPARATORS) else " or ".join(map(repr, separators))
        digits_of.setdefault(names, []).append(digits)
    ways = "; ".join(f"{', '.join(map(str, digits))} digits with {names}" for names, digits in digits_of.items())
    key = "separator" if carrier.digits in separators_of else "digits"
    digits = carrier.digits if carrier.digits in separators_of else next(iter(separators_of))
    separator = carrier.separator if carrier.separator in separators_of[digits] else separators_of[digits][0]
    return (
        f"key 'carrier.{key}': {reason}. Of 1 to 6 digits and the separators {tried} this tokenizer can carry: "
        f"{ways}. Set for example digits: {digits} and separator: {separator!r}"
    )
