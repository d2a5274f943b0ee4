from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from board import make_rates, make_row, with_reading
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis.rates import RateReader
from bench.analysis.reading import Answers

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
        found = singular & set(CANDIDATES)
        named.update(found)
        none += not found
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
