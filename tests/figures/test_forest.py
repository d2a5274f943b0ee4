from __future__ import annotations

from bench.figures.forest import VERDICTS


def test_verdicts_differ_without_colour() -> None:
    assert len({marker for _, marker, _ in VERDICTS.values()}) == len(VERDICTS)
