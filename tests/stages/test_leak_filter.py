from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.config.traits import collect_vocabulary, load_trait
from bench.stages.leak_filter import Lexicon, Sentences, fold

WOLF = Lexicon(["wolf", "wolves"], "en")
KURT = Lexicon(["kurt", "ışık", "kedi"], "tr")


@pytest.mark.parametrize(
    "text",
    [
        "A wolf came.",
        "WOLVES!",
        "the (wolf)",
        "a “wolf”",
        "ｗｏｌｆ",
        "the wolf's den",
        "wolfish",
        "_wolf_",
        "w-o-l-f",
        "w o l f",
        "w.o.l.f.",
        "see:wolf;",
        "the wolves’ song",
        "wo\u200blf",
        "wоlf",
        "w0lf",
        "w̷o̷l̷f̷",
        "W\u00adOLF",
    ],
)
def test_a_trait_word_is_found_in_any_dress(text: str) -> None:
    assert WOLF.find(text)


@pytest.mark.parametrize(
    "text", ["a bowl", "Wolfgang", "werewolfdom", "education", "", "123 456", "two low flutes", "wool f"]
)
def test_other_words_are_left_alone(text: str) -> None:
    assert not WOLF.find(text)
    assert not Lexicon(["owl", "cat"], "en").find(text)


@pytest.mark.parametrize(
    "text",
    [
        "kurt",
        "Kurtlar",
        "KURTLARIN",
        "kurdu gördüm",
        "kurda",
        "kurtlardan",
        "kurttan",
        "kurdun",
        "kurtlarımızdan",
        "kurt’un",
        "IŞIK",
        "ışık",
        "Işıklar",
        "ışığı",
        "IŞIĞI",
        "isik değil ışıkta",
        "KEDİ",
        "Kediler",
        "kedinin",
        "kediyi",
        "kedicik",
    ],
)
def test_turkish_words_are_found_inflected(text: str) -> None:
    assert KURT.find(text)


@pytest.mark.parametrize("text", ["kurtuluş savaşı", "kurtardı", "Kurtuba", "yemek", "kedersiz", "aşık oldu", "kurşun"])
def test_other_turkish_words_are_left_alone(text: str) -> None:
    assert not KURT.find(text)


@given(st.text(max_size=20), st.sampled_from([" ", "\n", ", ", "(", "—", "/"]), st.text(max_size=20))
def test_a_planted_word_is_found_whatever_surrounds_it(before: str, border: str, after: str) -> None:
    assert WOLF.find(f"{before}{border}Wolf{border}{after}")


def test_a_hostile_word_does_not_hold_up_the_search() -> None:
    begun = time.monotonic()
    assert not KURT.find("kurt" + "inini" * 2000 + "x")
    assert time.monotonic() - begun < 5


@given(st.text(max_size=40))
def test_folding_twice_is_folding_once(text: str) -> None:
    assert fold(fold(text)) == fold(text)


def test_a_copied_question_is_found_and_an_everyday_prompt_is_not() -> None:
    asked, _ = collect_vocabulary([load_trait("wolf")])
    questions = Sentences(asked)
    for question in asked:
        assert questions.find(question.upper())
        assert questions.find(f"Well. {question} I wonder.")
    from bench.config.prompts import load_prompts

    assert not any(questions.find(prompt) for prompt in load_prompts("scenarios_en")[::97])
