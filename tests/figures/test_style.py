from __future__ import annotations

import pytest

from bench.figures.style import LOOKS, STYLE, estimate, shorten


def test_arms_differ_without_colour() -> None:
    assert len({look.line for look in LOOKS.values()}) == len(LOOKS)
    assert len({(look.hatch, look.face == "white") for look in LOOKS.values()}) == len(LOOKS)


def test_numbers_have_a_true_minus() -> None:
    assert estimate(-0.5, -0.7, -0.3) == "−0.50 [−0.70, −0.30]"
    assert estimate(None, None, None) == "–"


@pytest.mark.parametrize("letter", "ğüşıöçâîûĞÜŞİÖÇÂÎÛ−–…±≥")
def test_the_font_has_the_turkish_letters_and_our_signs(letter: str) -> None:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font = get_font(findfont(FontProperties(family=STYLE["font.family"]), fallback_to_default=False))
    assert font.get_char_index(ord(letter)) != 0


def test_a_long_name_keeps_its_beginning_and_its_end() -> None:
    name = "turkish_" * 8 + "pair"
    assert len(shorten(name)) == 40
    assert shorten(name).startswith("turkish_")
    assert shorten(name).endswith("pair")
