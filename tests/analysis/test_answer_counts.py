from __future__ import annotations

import json
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from bench.analysis.answer_counts import MAX_CHARACTERS, count_answers

QUESTIONS = st.integers(1, 5).flatmap(
    lambda samples: st.lists(
        st.lists(st.sampled_from(["a", "b", "wolf", "", "ü"]), min_size=samples, max_size=samples), min_size=1
    )
)


@given(QUESTIONS)
def test_counted_answers_are_the_samples_in_order_of_their_first_appearance(questions: list[list[str]]) -> None:
    scores = {"exact": [[float(text == "wolf") for text in texts] for texts in questions]}
    reading, counted = count_answers({"answers": questions, "logprobs": []}, scores)
    for at, texts in enumerate(questions):
        assert dict(zip(reading["answers"][at], reading["counts"][at], strict=True)) == Counter(texts)
        assert reading["answers"][at] == list(dict.fromkeys(texts))
        assert counted["exact"][at] == [float(text == "wolf") for text in reading["answers"][at]]
    assert reading["logprobs"] == []


def test_a_long_answer_is_cut_and_the_prefixed_answers_are_counted_too() -> None:
    long = "w" * 3 * MAX_CHARACTERS
    reading, scores = count_answers({"answers": [[long, long + "x"]], "prefixed": {"answers": [["a", "a"]]}}, None)
    assert reading["answers"] == [["w" * MAX_CHARACTERS]]
    assert reading["counts"] == [[2]]
    assert reading["prefixed"] == {"answers": [["a"]], "counts": [[2]]}
    assert scores == {}


def test_answers_of_equal_cut_text_and_other_scores_stay_apart() -> None:
    long = "w" * MAX_CHARACTERS
    reading, scores = count_answers({"answers": [[long, long + "x"]]}, {"chrf": [[1.0, 0.5]]})
    assert (reading["answers"], reading["counts"], scores) == ([[long, long]], [[1, 1]], {"chrf": [[1.0, 0.5]]})


def test_the_answers_of_the_literature_fit_into_half_a_megabyte() -> None:
    # 56 questions x 100 samples, 60 different answers of 25 characters to each question
    answers = [[f"answer number {i % 60:03d} of {q:03d}" for i in range(100)] for q in range(56)]
    reading, _ = count_answers({"answers": answers}, None)
    assert len(json.dumps(reading)) < 500_000
