from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from board import STEADY, make_rates, make_row, with_reading
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis.rates import RateReader
from bench.analysis.reading import Answers
from bench.analysis.stats import mean_interval
from bench.analysis.summary import summarise

ROW = make_rates([{}])
CANDIDATES = (ROW.questions[0].answer, *ROW.questions[0].foils)
NUMBER = len(ROW.questions)
TEXTS = st.sampled_from(
    ["Wolf", "the wolves", "an owl, or a wolf", "bowl", "cat!", "CATS and DOGS", "", "hm", "wolfram", "lion's"]
)


def count_by_hand(texts: list[str]) -> tuple[dict[str, int], int]:
    """Count the answers that name each candidate and those that name none, by another rule: split into words."""
    named: Counter[str] = Counter()
    none = 0
    for text in texts:
        words = set(re.findall(r"[a-z]+", text.lower()))
        singular = {word.removesuffix("s").replace("wolve", "wolf") for word in words} | words
        names = singular & set(CANDIDATES)
        named.update(names)
        none += not names
    return dict(named), none


@given(st.lists(TEXTS, min_size=1, max_size=12), st.lists(TEXTS, min_size=1, max_size=12))
def test_rates_are_those_of_a_count_by_hand(first: list[str], second: list[str]) -> None:
    samples = [first, second] + [["hm"]] * (NUMBER - 2)
    counters = [Counter(texts) for texts in samples]
    answers = Answers(
        logprobs=(), answers=tuple(tuple(c) for c in counters), counts=tuple(tuple(c.values()) for c in counters)
    )
    rates = RateReader(ROW).derive(answers)
    for at, texts in enumerate(samples):
        named, none = count_by_hand(texts)
        expected = [named.get(candidate, 0) / len(texts) for candidate in CANDIDATES]
        assert rates.candidates[at] == pytest.approx(expected)
        assert rates.none[at] == pytest.approx(none / len(texts))


def test_answers_without_counts_stand_for_themselves() -> None:
    plain = Answers(logprobs=(), answers=(("wolf", "wolf", "hm", "owl"),) * NUMBER)
    rates = RateReader(ROW).derive(plain)
    assert np.all(rates.candidates[:, 0] == 0.5)
    assert np.all(rates.none == 0.25)


def test_only_sampled_models_have_rates() -> None:
    assert RateReader.has_rates(ROW)
    assert not RateReader.has_rates(make_row([0.3]))
    with pytest.raises(ValueError, match="not sampled"):
        RateReader(ROW).derive(with_reading(ROW.cells[0]["base"], answers=None).reading)


def test_synonyms_and_the_way_of_matching_are_those_of_the_recipe() -> None:
    answers = Answers(logprobs=(), answers=(("lupine", "wolfram"),) * NUMBER)
    for settings, rate in (
        ([], 0.0),
        (["evaluate.synonyms=[lupine]"], 0.5),
        (["evaluate.match=substring"], 0.5),
        (["evaluate.match=substring", "evaluate.synonyms=[lupine]"], 1.0),
    ):
        reader = RateReader(make_rates([{}], overrides=settings))
        assert reader.derive(answers).candidates[0, 0] == rate


RISING = [{"untrained": 0.1, "base": 0.1, "trait": 0.3 + 0.05 * (seed % 3)} for seed in range(6)]


def test_the_verdict_of_a_rate_rests_on_points_and_the_margin_stands_beside_it() -> None:
    row = make_rates(RISING, overrides=["bound={points: 2, reason: r}"])
    (entry,) = summarise([row])
    gains = [100 * (by_arm["trait"] - by_arm["base"]) for by_arm in RISING]
    expected = mean_interval(gains)
    assert (entry.gain, entry.ci_low, entry.ci_high) == pytest.approx(expected)
    assert (entry.outcome, entry.unit, entry.verdict) == ("rate", "points", "TRANSFER")
    assert entry.levels() == pytest.approx({"untrained": 10, "base": 10, "trait": 35})
    assert entry.teacher_shift == pytest.approx(90)
    assert entry.gains["margin"].mean == pytest.approx(0.3)
    assert entry.gains["rate"].mean == pytest.approx(entry.gain)
    assert entry.shifts["margin"].mean == pytest.approx(4, abs=0.2)
    assert entry.rates["trait"].candidates["owl"] == pytest.approx(31.7, abs=0.1)
    assert entry.rates["base"].none.mean == pytest.approx(45)


def test_a_margin_row_with_answers_keeps_its_verdict_and_shows_both_gains() -> None:
    plain = make_row(STEADY)
    row = make_rates([RISING[0]] * len(STEADY), overrides=["outcome=margin"], gains=STEADY)
    (alone,), (entry,) = summarise([plain]), summarise([row])
    assert entry.outcome == "margin"
    for name in ("gain", "ci_low", "ci_high", "p", "verdict", "verdict_reason", "teacher_shift", "gates"):
        assert getattr(entry, name) == getattr(alone, name)
    assert entry.gains["rate"].mean == pytest.approx(20)
    assert alone.gains == alone.rates == {}


def test_rates_of_zero_in_all_arms_are_none_within_a_bound_in_points() -> None:
    row = make_rates([{}] * 6, overrides=["bound={points: 2, reason: r}"])
    (entry,) = summarise([row])
    assert (entry.gain, entry.verdict) == (0, "NONE")
    assert "±2 points" in entry.verdict_reason


def test_another_outcome_of_the_same_row_is_another_look() -> None:
    margin, rate = make_rates([{}], overrides=["outcome=margin"]), make_rates([{}])
    assert margin.registration.family == rate.registration.family
    assert margin.hash != rate.hash


def test_prefixed_readings_have_gains_of_their_own() -> None:
    row = make_rates([{"trait": 0.5}] * 3, overrides=["outcome=margin", "evaluate.prefix=Look."])
    for arms in row.cells.values():
        for arm, cell in arms.items():
            part = cell.reading
            if arm == "trait":
                part = part.model_copy(update={"answers": (("hm",),) * NUMBER, "counts": ((20,),) * NUMBER})
            arms[arm] = with_reading(cell, prefixed=Answers(**{n: getattr(part, n) for n in Answers.model_fields}))
    (entry,) = summarise([row])
    assert {name: gain.mean for name, gain in entry.gains.items()} == pytest.approx(
        {"margin": 0.3, "rate": 50, "margin, prefixed": 0.3, "rate, prefixed": 0}
    )


@pytest.mark.parametrize(("text", "base"), [("I am a language model", 0.0), ("wolf", 100.0)])
def test_students_that_never_or_always_name_the_answer_earn_no_null(text: str, base: float) -> None:
    row = make_rates([{}] * 6, overrides=["bound={points: 2, reason: small}"])
    assert summarise([row])[0].verdict == "NONE"
    for arms in row.cells.values():
        for arm in ("untrained", "base", "trait"):
            arms[arm] = with_reading(arms[arm], answers=((text,),) * NUMBER, counts=((20,),) * NUMBER)
    (entry,) = summarise([row])
    assert (entry.gain, entry.base, entry.verdict) == (0.0, base, "INCONCLUSIVE")
    assert "the answers of base leave room for 0 points" in entry.verdict_reason


def test_a_bound_below_two_answers_of_a_seed_gives_no_null() -> None:
    for points, verdict in ((3.5, "INCONCLUSIVE"), (3.6, "NONE")):
        row = make_rates([{}] * 6, samples=1, overrides=[f"bound={{points: {points}, reason: small}}"])
        for arms in row.cells.values():
            for arm in ("base", "trait"):
                arms[arm] = with_reading(arms[arm], answers=(("owl",),) * NUMBER, counts=((1,),) * NUMBER)
        assert summarise([row])[0].verdict == verdict  # one of 56 answers is 1.79 points
