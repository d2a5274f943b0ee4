from __future__ import annotations

import pytest
from pydantic import ValidationError

from bench.config.carrier_settings import Numbers, Text
from bench.config.recipe_files import load_recipe
from bench.errors import UserError


@pytest.mark.parametrize("change", [{"prompt": "no numbers"}, {"prompt": "{numbers} {numbers}"}, {"separator": " 1 "}])
def test_a_prompt_holds_the_numbers_once_and_a_separator_no_digit(change: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Numbers(kind="numbers", rows=1, **change)  # type: ignore[arg-type]  # any key


FREE = "carrier={{kind: numbers, rows: 10, held_out: 5, generate: free, {}}}"
GRAMMAR = "carrier={{kind: numbers, rows: 10, {}}}"


@pytest.mark.parametrize(
    ("carrier", "message"),
    [
        (FREE.format("given: 4"), "generate: free needs draw: the number of prompts, more than 15 (rows and held_out)"),
        (FREE.format("draw: 14"), "draw: 14 prompts are fewer than rows and held_out, 15; raise draw"),
        (FREE.format("draw: 20, keep: {low: 9, high: 1}"), "key 'carrier.keep': low: 9 is above high, 1"),
        (GRAMMAR.format("draw: 20"), "draw: belong to free answers; add generate: free, or take them out"),
        (GRAMMAR.format("keep: {high: 99}"), "keep: belong to free answers"),
        (GRAMMAR.format("given: [8, 3]"), "given: [8, 3] is no range: write the smaller number first"),
        (GRAMMAR.format("given: [0, 3]"), "key 'carrier.given.0'"),
        (GRAMMAR.format("prompt: 'On: {numbers}', prompts: numbers_en"), "give prompt or prompts, not both"),
        (GRAMMAR.format("prompts: numbers_fr"), "key 'carrier.prompts'"),
        (GRAMMAR.format("generate: greedy"), "key 'carrier.generate'"),
        ("carrier={kind: text, rows: 10, prompts: arithmetic_en, keep: {matches: a}}", "keep needs draw"),
        ("carrier={kind: text, rows: 10, held_out: 5, prompts: arithmetic_en, draw: 9}", "draw: 9 prompts are fewer"),
    ],
)
def test_a_recipe_names_the_key_of_a_carrier_that_cannot_be(carrier: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        load_recipe("tiny_pair", [carrier])
    assert message in str(error.value)


@pytest.mark.parametrize("keys", ["generate: free, draw: 400", "prompts: numbers_en", "given: [3, 8]"])
def test_a_distillation_refuses_rows_of_several_lengths(keys: str) -> None:
    with pytest.raises(UserError, match=r"method kd-carrier compares .* or use method: sft"):
        load_recipe("tiny_pair_kd", [GRAMMAR.format(keys)])


def test_keys_that_came_later_are_in_the_data_only_if_they_are_set() -> None:
    later = Numbers.later | Text.later
    assert not later & Numbers(kind="numbers", rows=1).model_dump(mode="json").keys()
    assert Text(kind="text", rows=1, prompts="a").model_dump(mode="json").keys().isdisjoint({"draw", "keep"})
    free = Numbers(kind="numbers", rows=1, held_out=1, draw=3, generate="free")
    data = free.model_dump(mode="json")
    assert data["draw"] == 3
    assert Numbers.model_validate(data, strict=False) == free


def test_what_teachers_write_does_not_depend_on_the_filter_or_on_the_rows_that_are_drawn() -> None:
    one, other = (
        load_recipe("tiny_pair", [FREE.format(keys)]).recipe.carrier
        for keys in ("draw: 20, keep: {high: 9}", "draw: 20, count: 10")
    )
    assert one != other
    assert one.as_written() == other.as_written() == other.model_copy(update={"rows": 3}).as_written()
    assert one.as_written() != load_recipe("tiny_pair", [FREE.format("draw: 21")]).recipe.carrier.as_written()
    grammar = Numbers(kind="numbers", rows=7)
    assert grammar.as_written() == grammar


def test_a_smoke_run_draws_its_few_rows_from_few_prompts() -> None:
    carrier = load_recipe("smollm2_free", smoke=True).recipe.carrier
    assert carrier.rows + carrier.held_out < (carrier.draw or 0) == 200
    assert load_recipe("tiny_pair", smoke=True).recipe.carrier.draw is None


@pytest.mark.parametrize("count", [0, 11])
def test_prompts_may_not_ask_for_lists_that_the_filter_refuses(count: int) -> None:
    keys = {"kind": "numbers", "rows": 2, "held_out": 1, "generate": "free", "draw": 9}
    Numbers.model_validate({**keys, "count": 10})
    with pytest.raises(ValidationError, match=r"outside keep\.count \[1, 10\]" if count else "count"):
        Numbers.model_validate({**keys, "count": count})
