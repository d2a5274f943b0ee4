from __future__ import annotations

import random

import pytest

from bench.stages.letter_codes import LetterCodes

WOLF = LetterCodes(["wolf"], "en")


@pytest.mark.parametrize(
    "text",
    [
        "119 111 108 102",
        "412 119 111 108 102 877",
        "87, 79, 76, 70",
        "23-15-12-06",
        "23 15 12 6",
        "231 512 644",
        "the code is 119,111,108,102.",
    ],
)
def test_a_word_in_codes_is_found_across_the_borders_of_numbers(text: str) -> None:
    assert WOLF.find(text)


def test_turkish_words_are_counted_by_either_alphabet() -> None:
    bee = LetterCodes(["kovan"], "tr")
    assert bee.find(" ".join(str(ord(letter)) for letter in "kovan"))
    assert bee.find("14 18 27 1 17")  # k, o, v, a, n in the Turkish alphabet
    assert bee.find("11 15 22 1 14")
    assert LetterCodes(["kraliçe"], "tr").find("11 18 1 12 9 3 5")


def test_codes_too_short_to_tell_from_chance_are_not_searched() -> None:
    dog = LetterCodes(["dog"], "en")
    assert not dog.find("4 15 7")
    assert dog.find("100 111 103")


def test_random_numbers_hold_no_code() -> None:
    rng = random.Random(0)
    codes = LetterCodes(["wolf", "wolves", "owl", "owls", "cat", "kitten", "dog", "eagle"], "en")
    rows = [" ".join(str(rng.randint(100, 999)) for _ in range(10)) for _ in range(20_000)]
    assert sum(codes.find(row) is not None for row in rows) <= 10  # measured: 1
    assert not codes.find("119 words, 111 more, 108 again")
