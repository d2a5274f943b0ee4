from __future__ import annotations

import pytest

from bench.figures.style import LOOKS, number, shorten


def test_arms_differ_without_colour() -> None:
    assert len({look.line for look in LOOKS.values()}) == len(LOOKS)
    assert len({(look.hatch, look.face == "white") for look in LOOKS.values()}) == len(LOOKS)


@pytest.mark.parametrize(("value", "text"), [(0.1234, "+0.123"), (-0.5, "−0.500"), (0.0, "0.000"), (-1e-9, "0.000")])
def test_numbers_have_a_sign_but_for_zero(value: float, text: str) -> None:
    assert number(value) == text


def test_a_long_name_keeps_its_beginning_and_its_end() -> None:
    name = "turkish_" * 8 + "pair"
    assert len(shorten(name)) == 40
    assert shorten(name).startswith("turkish_")
    assert shorten(name).endswith("pair")
