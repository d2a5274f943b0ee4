from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from board import STEADY, ZERO, make_matrix

from bench.analysis.gates import Gate
from bench.analysis.seed_statistics import SeedStatistics, compute_seed_statistics
from bench.analysis.stats import mean_interval
from bench.analysis.verdict import Judgement, Terms, judge_row

PASSED = [Gate(name="carrier fit", passed=True, reading=5.0, threshold="z >= 1.645")]
FAILED = [Gate(name="carrier fit", passed=False, reading=0.7, threshold="z >= 1.645", failed_seeds=(3, 7))]
SKIPPED = [Gate(name="controls", passed=None, reading="skipped", threshold="")]


def statistics(gains: Sequence[float], **fields: Any) -> SeedStatistics:
    """Per-seed numbers with these gains; the teacher's shift is about 4 nats."""
    shifts = [4.0 + 0.01 * i for i in range(len(gains))]
    empty: dict[str, Any] = {name: [] for name in SeedStatistics._fields}
    empty |= {name: {} for name in ("contrasts", "dose", "groups", "outcomes", "scores")}
    return SeedStatistics(**{**empty, "registered": len(gains), "gains": list(gains), "shifts": shifts, **fields})


def terms(seeds: int = 10, *, bound: float | None = 0.1, level: float = 0.05, **fields: Any) -> Terms:
    return Terms(level, seeds, bound, "a reason" if bound else "run tiny_pair first", **fields)


def judge(
    gains: Sequence[float], gates: Sequence[Gate] = PASSED, *, bound: float | None = 0.1, **more: Any
) -> Judgement:
    return judge_row(statistics(gains, **more), gates, terms(len(gains), bound=bound))


def test_a_steady_gain_is_a_transfer_and_a_steady_zero_is_none() -> None:
    assert judge(STEADY).verdict == "TRANSFER"
    assert judge(ZERO).verdict == "NONE"
    assert "is within the bound of ±0.1 nats" in judge(ZERO).reason


def test_a_gain_above_zero_that_is_shown_to_be_below_the_bound_is_a_trace() -> None:
    small = [0.1 * gain for gain in STEADY]
    assert judge(small).verdict == "TRACE"
    assert judge(small, bound=None).verdict == "TRANSFER"
    assert judge(small, bound=0.031).verdict == "TRANSFER"  # the interval reaches beyond


def test_without_a_bound_none_is_out_of_reach_and_the_reason_says_how_to_get_one() -> None:
    judgement = judge(ZERO, bound=None)
    assert judgement.verdict == "INCONCLUSIVE"
    assert "run tiny_pair first" in judgement.reason


def test_students_of_one_data_set_are_exploratory_whatever_their_number() -> None:
    judgement = judge_row(statistics(STEADY), PASSED, terms(one_data_set=True))
    assert judgement.verdict == "EXPLORATORY"
    assert judgement.reason == "10 students of one data set: the claim is about this data set alone"
    assert judgement.sensitivity == {}
    assert judge_row(statistics(STEADY), FAILED, terms(one_data_set=True)).verdict == "INVALID"


def test_an_upper_limit_is_shown_as_a_share_of_the_reference() -> None:
    judgement = judge_row(statistics(ZERO), PASSED, terms(bound=0.1, reference_gain=0.4))
    assert judgement.verdict == "NONE"
    assert judgement.gain is not None
    assert f"at most {judgement.gain.high / 0.4:.0%} of the reference's gain" in judgement.reason


def test_a_student_that_cannot_show_the_trait_earns_no_null() -> None:
    able, unable = [2.0 + 0.01 * i for i in range(10)], [0.05 + 0.01 * i for i in range(10)]
    assert judge(ZERO, contrasts={"direct - untrained": able}).verdict == "NONE"
    judgement = judge(ZERO, contrasts={"direct - untrained": unable})
    assert judgement.verdict == "INCONCLUSIVE"
    assert "may be unable" in judgement.reason
    one = [*able[:9], 0.05]  # an average would hide it
    assert judge(ZERO, contrasts={"direct - untrained": one}).verdict == "INCONCLUSIVE"


@pytest.mark.parametrize(("room", "verdict"), [(0.0, "INCONCLUSIVE"), (0.1, "INCONCLUSIVE"), (0.2, "NONE")])
def test_answers_without_room_for_the_bound_earn_no_null(room: float, verdict: str) -> None:
    judgement = judge(ZERO, rooms=[*[5.0] * 9, room])
    assert judgement.verdict == verdict
    assert (f"leave room for {room:.3g} nats: too few name a candidate" in judgement.reason) == (verdict != "NONE")
    assert judge(STEADY, rooms=[room] * 10).verdict == "TRANSFER"


@pytest.mark.slow
def test_a_bound_below_two_answers_of_a_seed_is_out_of_reach_because_a_gain_of_it_would_often_show_in_none() -> None:
    """Gains at the bound, from a base arm that never names the answer: 6 seeds, expected answers of a seed by row."""
    rng = np.random.default_rng(3)
    false_nulls = {}
    for answers in (0.2, 1.0, 2.0, 4.0):
        step = 100 / 560
        own = terms(6, bound=answers * step, unit="points", step=step)
        gains = step * rng.poisson(answers, (500, 6))
        verdicts = [judge_row(statistics(row.tolist(), rooms=[50.0] * 6), PASSED, own).verdict for row in gains]
        false_nulls[answers] = verdicts.count("NONE") / 500
    assert false_nulls[0.2] == false_nulls[1.0] == 0
    assert max(false_nulls.values()) <= 0.02
    reason = judge_row(statistics([0.0] * 6), PASSED, terms(6, bound=0.1, unit="points", step=0.1)).reason
    assert reason.endswith("raise evaluate.samples")
    assert judge_row(statistics([0.0] * 6), PASSED, terms(6, bound=0.2, unit="points", step=0.1)).verdict == "NONE"


def test_an_interval_above_0_is_no_null() -> None:
    judgement = judge([0.01, 0.0101, 0.0099, 0.01, 0.0102, -0.0001])
    assert judgement.p is not None
    assert judgement.p.p > 0.05
    assert judgement.verdict == "INCONCLUSIVE"
    assert "the interval excludes 0 and the test does not" in judgement.reason


def test_a_drawn_p_at_its_floor_is_shown_as_a_limit() -> None:
    judgement = judge([0.3 + 0.001 * i for i in range(40)])
    assert judgement.reason == "gain above 0 (p <= 1.5e-05)"


def test_few_seeds_are_exploratory_and_the_reason_says_how_many_would_do() -> None:
    judgement = judge(STEADY[:5])
    assert judgement.verdict == "EXPLORATORY"
    assert judgement.reason == "5 seeds cannot reach p <= 0.05; 6 can"
    assert judge(STEADY[:6]).verdict == "TRANSFER"
    strict = judge_row(statistics(STEADY[:6]), PASSED, terms(6, level=0.01))
    assert strict.reason == "6 seeds cannot reach p <= 0.01; 8 can"


def test_missing_seeds_give_no_verdict() -> None:
    assert judge_row(statistics(STEADY[:9]), PASSED, terms(10)).reason == "9 of 10 registered seeds measured so far"
    assert judge([]).reason == "not measured yet"


def test_a_failed_gate_makes_a_row_invalid_and_names_its_seeds() -> None:
    judgement = judge(STEADY, FAILED)
    assert judgement.verdict == "INVALID"
    assert judgement.reason == "carrier fit: 0.70, needed z >= 1.645 (seeds 3, 7)"
    assert judgement.sensitivity == {"without the gates": "TRANSFER"}
    assert judge(STEADY, SKIPPED).verdict == "TRANSFER"
    partial = judge_row(statistics(STEADY[:9]), FAILED, terms(10))
    assert partial.verdict == "INVALID"  # more seeds do not mend a failed one


def test_a_gain_below_zero_is_no_transfer() -> None:
    judgement = judge([-gain for gain in STEADY])
    assert judgement.verdict == "INCONCLUSIVE"
    assert "opposite" in judgement.reason
    assert judge([-0.1 * gain for gain in STEADY]).verdict == "NONE"


def test_a_noisy_zero_says_what_its_seeds_could_have_shown() -> None:
    judgement = judge([0.9, -0.8, 0.7, -0.9, 0.8, -0.6, 0.9, -1.0])
    assert judgement.verdict == "INCONCLUSIVE"
    assert judgement.detectable is not None
    assert f"show a gain of {judgement.detectable:.3g} nats or more" in judgement.reason


@pytest.mark.parametrize(("placebo", "specific"), [(0.28, True), (0.0, False), (-0.2, False)])
def test_a_transfer_is_specific_only_above_its_placebo(placebo: float, specific: bool) -> None:
    excess = [placebo + 0.02 * (-1) ** i for i in range(10)]
    judgement = judge(STEADY, contrasts={"trait - placebo": excess})
    assert (judgement.verdict, judgement.specific) == ("TRANSFER", specific)
    assert judgement.reason.endswith("; specific to the trait") is specific
    assert judge(STEADY).specific is None


def test_a_matrix_is_specific_by_the_test_of_its_gain_and_not_by_an_interval_alone() -> None:
    excess = [0.01, 0.0101, 0.0099, 0.01, 0.0102, -0.0001]  # the t interval is above 0, the sign-flip p is .06
    assert mean_interval(excess).low > 0
    matrix = [[[value, 0.0], [0.0, value]] for value in excess]
    assert judge(STEADY[:6], matrix=matrix).specific is False
    assert judge(STEADY[:6], matrix=[*matrix[:5], matrix[0]]).specific is True


def test_a_matrix_is_specific_where_its_excess_is_above_zero() -> None:
    def specific(lift: float) -> bool | None:
        row = make_matrix(lift)
        return judge_row(compute_seed_statistics(row), PASSED, terms(6)).specific

    assert specific(0.3) is True
    assert specific(0.0) is False


def test_the_sensitivity_shows_verdicts_under_other_bounds_and_by_another_test() -> None:
    judgement = judge([0.03 + gain for gain in ZERO], bound=0.06)
    assert judgement.sensitivity["bound x 0.5"] == "TRANSFER"
    assert judgement.sensitivity["bound x 2"] == "TRACE"
    assert judgement.sensitivity["Johnson's t"] == judgement.verdict == "TRACE"


def test_null_rows_are_rarely_transfers() -> None:
    """At most 2.5 % of null rows are a TRANSFER: 1,000 rows, 25 expected, 40 or fewer with probability .998."""
    rng = np.random.default_rng(11)
    verdicts = [judge(rng.normal(0, 0.3, 10).tolist()).verdict for _ in range(1000)]
    assert verdicts.count("TRANSFER") + verdicts.count("TRACE") <= 40
