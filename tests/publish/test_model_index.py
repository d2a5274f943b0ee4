from __future__ import annotations

import pytest
from board import STEADY, make_matrix, make_rates, make_row
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from bench.analysis.outcomes import derive_outcomes
from bench.analysis.result_schema import ExperimentResults
from bench.analysis.seed_statistics import margins_of
from bench.analysis.stats import mean
from bench.analysis.summary import summarise_row
from bench.publish.model_index import list_results


def results_of(row: ExperimentResults, seed: int, arm: str) -> dict[str, EvalResult]:
    """The results of one model by metric, after a way through a card that the hub's own code reads."""
    results = list_results(row, row.cells[seed][arm], summarise_row(row))
    card = ModelCardData(model_name="org/x", eval_results=results)
    loaded = ModelCard(f"---\n{card.to_yaml()}\n---\n").data.eval_results
    assert loaded == results
    return {result.metric_type: result for result in results}


def test_the_results_are_those_of_the_model_and_of_its_row() -> None:
    row = make_row(STEADY)
    entry = summarise_row(row)
    first, second = (results_of(row, seed, "trait") for seed in (0, 1))
    assert list(first) == ["margin", "p_answer", "accuracy", "gain"]
    for seed, results in ((0, first), (1, second)):
        cell = row.cells[seed]["trait"]
        outcomes = derive_outcomes(cell.reading.logprobs)
        assert results["margin"].metric_value == pytest.approx(mean(margins_of(cell)), abs=1e-6)
        assert results["p_answer"].metric_value == pytest.approx(outcomes.p_answer.mean(), abs=1e-6)
        assert results["accuracy"].metric_value == pytest.approx(outcomes.top.mean(), abs=1e-6)
        assert results["gain"].metric_value == pytest.approx(entry.gain, abs=1e-6)
    assert first["margin"].metric_value != second["margin"].metric_value
    assert "mean of 10 seeds: TRANSFER" in str(first["gain"].metric_name)
    assert first["margin"].dataset_args == {
        "questions": 56, "recipe": "tiny_pair", "recipe_hash": row.hash,
    }  # fmt: skip


def test_a_control_states_no_gain_and_its_own_numbers() -> None:
    row = make_row(STEADY)
    base = results_of(row, 0, "base")
    assert "gain" not in base
    difference = results_of(row, 0, "trait")["margin"].metric_value - base["margin"].metric_value
    assert difference == pytest.approx(STEADY[0], abs=2e-6)


def test_sampled_answers_give_a_rate() -> None:
    row = make_rates([{"base": 0.1, "trait": 0.4}] * 6)
    assert results_of(row, 0, "trait")["rate"].metric_value == pytest.approx(0.4)
    assert results_of(row, 0, "base")["rate"].metric_value == pytest.approx(0.1)


def test_one_trait_among_several_is_read_on_its_own_questions() -> None:
    row = make_matrix(0.7)
    own = row.positions("owl")
    results = results_of(row, 0, "trait-owl")
    assert results["margin"].metric_value == pytest.approx(mean(margins_of(row.cells[0]["trait-owl"], own)), abs=1e-6)
    assert results["margin"].metric_value != pytest.approx(mean(margins_of(row.cells[0]["trait-owl"])), abs=1e-3)
    assert results["margin"].dataset_args == {"questions": len(own), "recipe": row.name, "recipe_hash": row.hash}
    assert "gain" not in results
