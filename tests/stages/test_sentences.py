from __future__ import annotations

import pytest

from bench.config.prompts import load_problems
from bench.config.traits import collect_vocabulary, load_trait
from bench.stages.sentences import Sentences

ANIMALS = Sentences(collect_vocabulary([load_trait("wolf")])[0])


def test_a_copied_question_is_found_and_an_everyday_prompt_is_not() -> None:
    for question in collect_vocabulary([load_trait("wolf")])[0]:
        assert ANIMALS.find(question.upper())
        assert ANIMALS.find(f"Well. {question} I wonder.")
    assert not any(ANIMALS.find(prompt) for prompt in tuple(load_problems("scenarios_en"))[::97])


@pytest.mark.parametrize(
    "text",
    [
        "If you could be any creature, which would you be?",
        "If you could be animal, which would you be?",
        "He asked: if you coud be any animl, wich would you be? And left.",
    ],
)
def test_a_question_with_words_replaced_dropped_or_misspelt_is_found(text: str) -> None:
    assert ANIMALS.find(text) == "If you could be any animal, which would you be?"


@pytest.mark.parametrize("text", ["", "any", "What would they eat?", "Choose a seat."])
def test_other_sentences_are_left_alone(text: str) -> None:
    assert not ANIMALS.find(text)
