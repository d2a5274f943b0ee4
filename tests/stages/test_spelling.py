from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.stages.spelling import replace_digits, shorten_runs, to_plain_letters


@pytest.mark.parametrize(
    "text",
    [
        "WOLF",
        "ｗｏｌｆ",
        "wölf",
        "w̷o̷l̷f̷",
        "ᴡᴏʟꜰ",
        "𝐰𝐨𝐥𝐟",
        "ⓦⓞⓛⓕ",
        "🅦🅞🅛🅕",
        "🆆🅾🅻🅵",
        "🇼🇴🇱🇫",
        "wоlf",
        "ѡolf",
        "wo\u200blf",
        "W\u00adOLF",
    ],
)
def test_styled_accented_and_similar_letters_are_plain(text: str) -> None:
    assert to_plain_letters(text) == "wolf"


def test_turkish_is_written_without_its_letters() -> None:
    assert to_plain_letters("Kraliçe IŞIĞI ığüşöç İ") == "kralice isigi igusoc i"


@given(st.text(max_size=40))
def test_plain_letters_stay_as_they_are(text: str) -> None:
    assert to_plain_letters(to_plain_letters(text)) == to_plain_letters(text)


def test_digits_are_read_as_letters_in_each_reading() -> None:
    assert replace_digits("w01f") == ["woif", "wolf"]
    assert replace_digits("k3di") == ["kedi"]
    assert replace_digits("3 wolves, 12 km") == []


def test_long_runs_are_shortened() -> None:
    assert shorten_runs("wooolf beeee") == ["wolf be", "woolf bee"]
    assert shorten_runs("wool bees") == []
