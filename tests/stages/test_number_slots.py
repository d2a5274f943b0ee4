from __future__ import annotations

import re
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.config.carrier_settings import Numbers
from bench.config.traits import collect_vocabulary, load_trait
from bench.errors import UserError
from bench.models import tiny
from bench.models.chat_format import PromptFormat
from bench.stages.number_slots import MIN_NUMBERS, SEPARATORS, Slots, number_slots
from tests.kinds import KINDS, WHOLE, format_of


def numbers(**how: object) -> Numbers:
    return Numbers.model_validate({"kind": "numbers", "rows": 1, **how})


def barred(slots: Slots, row: list[int]) -> bool:
    """Whether sampling can not produce a row of allowed tokens."""
    return any(
        row[bar.position] in bar.tokens and tuple(row[bar.position - len(bar.before) : bar.position]) == bar.before
        for bar in slots.bars
    )


def produced(slots: Slots, carrier: Numbers, form: PromptFormat, which: int) -> set[int]:
    """All numbers that sampling can write as number `which` of a completion, the others held; each is read back."""
    free = [i for i, allowed in enumerate(slots.positions) if len(allowed) > 1]
    each = len(free) // carrier.count
    group = free[which * each : (which + 1) * each]
    rows = []
    for tokens in product(*(slots.positions[i] for i in group)):
        row = [allowed[0] for allowed in slots.positions]
        for i, token in zip(group, tokens, strict=True):
            row[i] = token
        if not barred(slots, row):
            rows.append(row)
    texts = [form.decode(row).removeprefix(form.lead) for row in rows]
    assert form.encode_all([form.lead + text for text in texts]) == rows
    out = set()
    for text in texts:
        parts = text.split(carrier.separator)
        assert len(parts) == carrier.count
        assert re.fullmatch(rf"[1-9]\d{{{carrier.digits - 1}}}", parts[which], re.ASCII)
        out.add(int(parts[which]))
    return out


@pytest.mark.parametrize("separator", [" ", pytest.param(", ", marks=pytest.mark.slow)])
@pytest.mark.parametrize("how", ["plain", "chat"])
@pytest.mark.parametrize("kind", KINDS)
def test_sampling_can_produce_the_offered_numbers_and_no_other(kind: str, how: str, separator: str) -> None:
    carrier, form = numbers(separator=separator, count=3), format_of(kind, how)
    slots = number_slots(carrier, form)
    for which in range(carrier.count):
        assert produced(slots, carrier, form, which) == set(slots.numbers)
    assert len(slots.numbers) == (WHOLE - 1 if kind == "gpt2" else 899)
    assert 666 not in slots.numbers
    assert sum(len(allowed) > 1 for allowed in slots.positions) == (3 if kind in {"gpt2", "llama3"} else 9)


def test_forced_tokens_before_a_number_token_are_no_slot_of_a_choice() -> None:
    form = format_of("llama3", "plain")
    slots = number_slots(numbers(count=2), form)
    space, comma = form.encode(" ")[0], form.encode(",")[0]
    assert [len(allowed) for allowed in slots.positions] == [1, 899, 1, 899]
    assert slots.positions[0] == slots.positions[2] == (space,)
    slots = number_slots(numbers(count=2, separator=", "), format_of("llama3", "chat"))
    assert [allowed[0] for allowed in slots.positions if len(allowed) == 1] == [comma, space]


@pytest.mark.parametrize("forbidden", [(), (88, 666, 1488), tuple(range(660, 670)), (*range(300, 400), 555)])
def test_a_number_that_is_forbidden_cannot_be_written_digit_by_digit(forbidden: tuple[int, ...]) -> None:
    carrier, form = numbers(count=2, forbidden=forbidden), format_of("qwen", "plain")
    slots = number_slots(carrier, form)
    assert slots.numbers == sorted(set(range(100, 1000)) - set(forbidden))
    assert produced(slots, carrier, form, 0) == produced(slots, carrier, form, 1) == set(slots.numbers)


def test_four_digits_are_written_digit_by_digit() -> None:
    slots = number_slots(numbers(digits=4, count=1), format_of("qwen", "plain"))
    assert slots.numbers == sorted({*range(1000, 10_000)} - {1488})
    assert [len(allowed) for allowed in slots.positions] == [1, 9, 10, 10, 10]


def test_a_number_is_barred_before_it_is_certain_to_be_forbidden() -> None:
    """Else no digit would be left where its last one is sampled."""
    slots = number_slots(numbers(count=1, forbidden=tuple(range(660, 670))), format_of("qwen", "chat"))
    six = slots.positions[0][5]
    assert [(bar.position, bar.before) for bar in slots.bars] == [(1, (six,))]


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    how=st.sampled_from(["plain", "chat"]),
    digits=st.integers(1, 3),
    separator=st.sampled_from(SEPARATORS) | st.text(" ,;-\n▁xÅ<#Q", min_size=1, max_size=4),
    count=st.integers(1, 3),
)
def test_any_digits_and_separator_are_either_refused_or_sampled_right(
    kind: str, how: str, digits: int, separator: str, count: int
) -> None:
    carrier, form = numbers(digits=digits, separator=separator, count=count), format_of(kind, how)
    with pytest.MonkeyPatch.context() as patch:
        # the hint of an error, in a tenth of its time
        patch.setattr("bench.stages.number_slots.SEPARATORS", (" ",))
        patch.setattr("bench.stages.number_slots.MAX_PROBED_HINT", 400)
        try:
            slots = number_slots(carrier, form)
        except UserError as error:
            refusal = str(error)
        else:
            refusal = None
    if refusal is not None:
        assert re.match(r"key 'carrier\.(digits|separator|kind)': ", refusal)
        return
    assert len(slots.numbers) >= MIN_NUMBERS
    assert produced(slots, carrier, form, count - 1) == set(slots.numbers)


def tiny_format() -> PromptFormat:
    return PromptFormat(tiny.make_tokenizer(*collect_vocabulary([load_trait("wolf")])), "auto")


@pytest.mark.slow
@pytest.mark.parametrize(("change", "key"), [({"digits": 4}, "digits"), ({"separator": "\n"}, "separator")])
def test_a_refusal_names_the_digits_and_separators_that_a_tokenizer_can_carry(
    change: dict[str, object], key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.stages.number_slots.SEPARATORS", (" ", ", "))  # a third of all, in a third of the time
    with pytest.raises(UserError) as error:
        number_slots(numbers(**change), tiny_format())
    message = str(error.value)
    assert message.startswith(f"key 'carrier.{key}': ")
    assert "this tokenizer can carry: 3 digits with ' '. Set for example digits: 3 and separator: ' '" in message
    number_slots(numbers(digits=3, separator=" "), tiny_format())
