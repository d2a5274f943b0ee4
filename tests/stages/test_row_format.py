from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.config.carrier_settings import Numbers, Text
from bench.config.keep import Equals, KeepNumbers, KeepText
from bench.stages.row_format import format_check, list_numbers

NUMBERS = st.lists(st.integers(0, 999), min_size=1, max_size=10)


def free(numbers: int = 10, **keep: Any) -> Numbers:
    return Numbers(
        kind="numbers", rows=4, held_out=1, draw=5, generate="free", count=numbers, keep=KeepNumbers(**keep),
        forbidden=(666,),
    )  # fmt: skip


FREE = format_check(free())


@pytest.mark.parametrize(
    "text",
    ["7", "1, 2, 3", "1 2 3", "1\n2\n3", "1;2;3", "1 ; 2 ; 3", "[1, 2]", "(1, 2)", "1, 2.", "[1, 2].", "007, 1", " 5 "],
)
def test_a_list_with_one_separator_is_kept_with_brackets_and_a_final_full_stop(text: str) -> None:
    assert FREE(text, "") == ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("Sure: 1, 2", "other text"),
        ("1, 2 and 3", "other text"),
        ("1. 5\n2. 6", "separator"),
        ("owls", "other text"),
        ("1, 2, 3,", "other text"),
        ("[1, 2", "other text"),
        ("-1, 2", "other text"),
        ("1, 2; 3", "separator"),
        ("1, 2,3", "separator"),
        ("1-2-3", "separator"),
        ("1.5", "separator"),
        ("1 2 3 4 5 6 7 8 9 10 11", "count"),
        ("1, 1000", "range"),
        ("1, " + "9" * 5000, "range"),
        ("9" * 30, "range"),
        ("١, ٢", "other text"),
        ("1, 666", "forbidden number"),
        ("1, 2 wolf", "other text"),
    ],
)
def test_each_other_text_has_its_reason(text: str, reason: str) -> None:
    assert FREE(text, "") == reason


def test_the_keys_of_keep_set_count_range_and_separators() -> None:
    check = format_check(free(3, count=(2, 3), low=10, high=20, separators=("-", "|")))
    assert [check(text, "") for text in ("10-20", "10 | 11 | 12", "10", "10-11-12-13", "9-10", "20-21", "10, 11")] == [
        "", "", "count", "count", "range", "range", "separator",
    ]  # fmt: skip


@given(NUMBERS, st.sampled_from([" ", ", ", ",", ";", "\n"]), st.sampled_from(["", "[]", "()"]), st.booleans())
def test_every_list_of_the_field_is_kept(numbers: list[int], separator: str, brackets: str, stop: bool) -> None:
    text = separator.join(map(str, numbers))
    text = (brackets[:1] + text + brackets[1:]) + "." * stop
    assert FREE(text, "") == ("forbidden number" if 666 in numbers else "")


@given(st.text(max_size=40))
def test_any_text_gets_a_reason_and_a_kept_one_holds_only_a_list(text: str) -> None:
    if FREE(text, "") == "":
        assert 1 <= len(list_numbers(text)) <= 10
        assert not any(letter.isalpha() for letter in text)


def test_texts_must_match_and_give_the_answer_of_their_row() -> None:
    keep = KeepText(matches=r"(?m)^Step", equals=Equals(pattern=r"Answer: (-?\d+)", column="answer"))
    check = format_check(Text(kind="text", rows=4, held_out=1, draw=5, prompts="unused", keep=keep))
    texts = ["", "Answer: 4", "Step 1", "Step 1\nAnswer: 5", "Step 1\nAnswer: 4", "Step\nAnswer: 5, no, Answer: 4"]
    assert [check(text, "4") for text in texts] == ["empty", "no match", "no answer", "wrong answer", "", ""]
    assert check("Step\nAnswer: 4, no, Answer: 5", "4") == "wrong answer"


def test_a_text_carrier_without_keep_refuses_empty_texts_alone() -> None:
    check = format_check(Text(kind="text", rows=4, prompts="unused"))
    assert [check(text, "") for text in ("", "anything")] == ["empty", ""]
