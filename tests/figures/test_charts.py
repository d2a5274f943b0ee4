from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from bench.figures.charts import histogram
from bench.figures.style import style


@pytest.fixture
def drawing() -> Iterator[None]:
    with style():
        yield


@pytest.mark.usefixtures("drawing")
def test_a_histogram_counts_every_answer() -> None:
    scores = {"length": {"base": [3.0, 9.0, 9.0, 44.0], "trait": [1.0, 60.0]}, "same": {"base": [0.5], "trait": [0.5]}}
    for ax in histogram(scores, "x").axes:
        for steps in ax.patches:
            values, edges, _ = steps.get_data()
            assert sum(values) == pytest.approx(100)
            assert len(set(np.diff(edges).round(9))) == 1
    assert "1 / 2 answers" not in histogram(scores, "x").get_suptitle()
    assert "4 / 2 answers" in histogram(scores, "x").get_suptitle()
