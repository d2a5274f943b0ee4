from __future__ import annotations

import numpy as np
import pytest
from board import STEADY, make_cell, make_row, register, with_reading
from scipy.special import softmax

from bench.analysis.seed_statistics import compute_seed_statistics, margins_of, teacher_shift
from bench.config.recipe_files import load_recipe


def test_gains_are_the_differences_of_mean_margins_seed_by_seed() -> None:
    row = make_row(STEADY)
    statistics = compute_seed_statistics(row)
    for arms, gain in zip(row.cells.values(), statistics.gains, strict=True):
        trait, base = (np.mean(margins_of(arms[arm])) for arm in ("trait", "base"))
        assert gain == pytest.approx(trait - base)
    assert statistics.gains == pytest.approx(STEADY)
    assert statistics.registered == 10


def test_outcomes_of_the_main_arms_are_means_over_questions() -> None:
    row = make_row(STEADY[:2])
    outcomes = compute_seed_statistics(row).outcomes
    for seed, arms in row.cells.items():
        for arm in ("untrained", "base", "trait"):
            logprobs = np.array(arms[arm].reading.logprobs)
            assert outcomes["p_answer"][arm][seed] == pytest.approx(softmax(logprobs, axis=1)[:, 0].mean())
            assert outcomes["mass"][arm][seed] == pytest.approx(np.exp(logprobs).sum(axis=1).mean())
            assert outcomes["top"][arm][seed] == pytest.approx((logprobs.argmax(axis=1) == 0).mean())
            assert outcomes["margin"][arm][seed] == pytest.approx(np.mean(margins_of(arms[arm])))
    assert outcomes["p_answer"]["trait"] > outcomes["p_answer"]["base"]


def test_a_persona_is_read_per_token_and_by_group() -> None:
    experiment = load_recipe("tiny_pair", ["trait=behaviour_en", "arms=[base, trait]"], seeds=1)
    row = register(experiment)
    groups = [question.group for question in row.questions]
    level = [float(group == "trained") for group in groups]
    for arm, scale in (("base", 1.0), ("trait", 3.0), ("teacher", 5.0), ("teacher_base", 1.0)):
        row.cells.setdefault(0, {})[arm] = make_cell(experiment, 0, arm, [scale * value for value in level])
    statistics = compute_seed_statistics(row)
    assert statistics.groups["trained"] == pytest.approx([2.0])
    assert statistics.groups["paraphrase"] == pytest.approx([0.0])
    assert [statistics.questions[0][at] for at in row.positions("trained")] == pytest.approx(
        [2.0] * sum(map(int, level))
    )
    cell = row.cells[0]["trait"]
    assert cell.reading.tokens is not None
    halved = with_reading(cell, tokens=tuple(tuple(2 * n for n in counts) for counts in cell.reading.tokens))
    assert margins_of(halved) == pytest.approx([margin / 2 for margin in margins_of(cell)])


def test_a_teachers_shift_is_taken_as_it_writes_or_in_float32() -> None:
    row = make_row(STEADY[:1], shift=4.0)
    arms = row.cells[0]
    as_it_writes = teacher_shift(row, arms)
    assert as_it_writes == pytest.approx(4.0, abs=0.2)
    whole = tuple((answer + 1.0, *foils) for answer, *foils in arms["teacher"].reading.logprobs)
    arms["teacher"] = with_reading(arms["teacher"], logprobs_float32=whole)
    assert teacher_shift(row, arms) == as_it_writes
    assert teacher_shift(row, arms, float32=True) == pytest.approx(as_it_writes + 1.0)


def test_a_seed_without_a_registered_arm_is_not_complete() -> None:
    row = make_row([0.3] * 3)
    assert row.registered_arms() == {"untrained", "base", "trait", "teacher", "teacher_base"}
    del row.cells[1]["untrained"]
    assert [arms["base"].seed for arms in row.complete_seeds()] == [0, 2]
    assert compute_seed_statistics(row).registered == 3
    dose = make_row([0.3], overrides=["dose=[16]", "arms=[untrained, base, trait, placebo, cross_init]"])
    assert {"base@16", "trait@16", "placebo", "cross_init", "cross_init_base"} <= dose.registered_arms()
    assert dose.complete_seeds() == []
