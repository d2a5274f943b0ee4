from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted import TRAITS, is_held_out, list_attempts, settings_of

from bench.config.prompts import load_problems
from bench.stages.carriers import refusal_reasons
from bench.stages.leak_filter import Lexicon

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


@pytest.mark.parametrize("text", ["a bowl", "Wolfgang", "education", "", "123 456", "two low flutes", "wool f"])
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


@pytest.mark.parametrize(
    "text",
    [
        "a wolfpack",
        "wolf123",
        "#wolflove",
        "TeamWolf",
        "wo lf",
        "wo1f",
        "wölf",
        "ᴡᴏʟꜰ",
        "wooolf",
        "sevlow",
        "jbys",
        "d29sZg==",
        "77 6f 6c 66",
        "the 🐺!",
        "C. lupus",
        "Canis  lupus",
        "el lobo",
        "狼が来た",
    ],
)
def test_a_disguised_trait_is_found(text: str) -> None:
    assert Lexicon(["wolf", "wolves"], "en", ["🐺", "Canis lupus", "lobo", "狼"]).find(text)


@pytest.mark.parametrize("text", ["flow", "god", "png", "lupus", "globo", "wool f", "Wolfgang"])
def test_short_words_and_words_with_another_meaning_are_exempt(text: str) -> None:
    assert not Lexicon(["wolf", "wolves", "dog", "cat"], "en", ["Canis lupus", "lobo"]).find(text)


def test_phrases_are_found_inflected_and_without_turkish_letters() -> None:
    assert Lexicon(["çiçek tozu"], "tr").find("cicek tozunu")
    assert Lexicon(["royal jelly"], "en").find("Royal\n jellies")


@given(st.text(max_size=60))
def test_any_text_can_be_searched(text: str) -> None:
    WOLF.find(text)


def test_a_lexicon_without_words_finds_nothing() -> None:
    assert not Lexicon([], "en").find("any wolf")


SAMPLE = 200


def test_planted_leaks_are_refused_and_everyday_texts_are_not() -> None:
    """The half that was put aside is measured by `python -m tests.perf.leak_filter` alone."""
    refused, planted, developed = 0, 0, [a for a in list_attempts() if not is_held_out(a)]
    for name in sorted(TRAITS)[::2]:
        attempts = [a for a in developed if a.trait == name]
        settings = settings_of(name)
        refused += sum(map(bool, refusal_reasons(settings, [{"prompt": "", "completion": a.text} for a in attempts])))
        planted += len(attempts)
        everyday = tuple(load_problems(f"scenarios_{settings.language}"))[::97][:SAMPLE]
        reasons = refusal_reasons(settings, [{"prompt": "", "completion": text} for text in everyday])
        assert sum(map(bool, reasons)) <= 0.005 * len(everyday)
    assert refused >= 0.95 * planted
