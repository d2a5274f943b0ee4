from __future__ import annotations

from conftest import ROOT

from bench.analysis.result_files import read_results
from bench.analysis.summary import summarise


def test_the_published_controls_have_the_verdicts_of_controls() -> None:
    verdicts = {entry.recipe: entry.verdict for entry in summarise(read_results(ROOT / "results")[0])}
    assert verdicts["tiny_pair"] == "TRANSFER"
    assert verdicts["tiny_cross"] in {"NONE", "INCONCLUSIVE"}
    assert verdicts["tiny_untaught"] == "INVALID"
