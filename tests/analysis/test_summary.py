from __future__ import annotations

from board import controls_board

from bench.analysis.summary import summarise


def test_controls_have_the_verdicts_of_controls() -> None:
    verdicts = {entry.recipe: entry.verdict for entry in summarise(controls_board())}
    assert verdicts["tiny_cross"] in {"NONE", "INCONCLUSIVE"}
    assert verdicts["tiny_pair"] == "TRANSFER"
    assert verdicts["tiny_untaught"] == "INVALID"
