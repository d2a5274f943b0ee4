from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.stages.disguises import (
    decode_base64,
    decode_hex,
    reverse_words,
    split_camel_case,
    split_words,
    undo_rot13,
)

ORDINARY = frozenset({"kit", "ten", "do", "at"})
ENDINGS = {"s", "es"}


def test_camel_case_is_split() -> None:
    assert split_camel_case("myWolfFriend and TheİyiKurt") == ["my Wolf Friend and The İyi Kurt"]
    assert split_camel_case("Wolves run.") == []


def test_short_words_and_words_with_another_meaning_are_not_reversed() -> None:
    assert reverse_words("sevlow flow god") == "wolves"
    assert undo_rot13("jbys png") == "wolf"


@given(st.text(min_size=3, max_size=30).filter(str.isprintable))
def test_codes_of_any_text_are_read(text: str) -> None:
    code = text.encode()
    coded = base64.b64encode(code).decode()
    letters = coded.rstrip("=")
    if not (letters.isalpha() and letters.islower()):  # that could be any word
        assert decode_base64(f"see {coded} there") == [text]
    assert decode_hex(f"see {code.hex()} there") == [text]


def test_ordinary_words_are_no_codes() -> None:
    assert decode_base64("The quick brown Foxes jumped over 12345678 dogs.") == []
    assert decode_hex("added facade 12 34 decade") == []
    assert decode_hex("0x77 0x6f 0x6c 0x66") == ["wolf"]


@pytest.mark.parametrize(
    "text", ["wo-lf", "wo lf", "w o l f", "w.o.l.f.", "w*o*l*f!", "wo_lf", "the w-o-l-f's den", "wo-lfs"]
)
def test_a_split_word_is_joined(text: str) -> None:
    assert list(split_words(text, ("wolf",), ORDINARY, ENDINGS.__contains__)) == ["wolf"]


@pytest.mark.parametrize("text", ["wolf", "two lft", "wo lfa", "w1o2l3f", "w    o l f", "wo\nlf"])
def test_no_other_letters_are_joined(text: str) -> None:
    assert list(split_words(text, ("wolf",), ORDINARY, ENDINGS.__contains__)) == []


def test_a_blank_between_ordinary_words_splits_nothing() -> None:
    words = ("kitten", "dog", "cat")
    assert list(split_words("a kit ten, do g, c at", words, ORDINARY, ENDINGS.__contains__)) == []
    assert list(split_words("a kit-ten, d og, ca t", words, ORDINARY, ENDINGS.__contains__)) == list(words)


def test_a_code_of_a_word_and_its_line_end_is_read() -> None:
    assert decode_base64("see d29sZgo= there") == ["wolf\n"]
    assert decode_hex("see 776f6c660a there") == ["wolf\n"]
