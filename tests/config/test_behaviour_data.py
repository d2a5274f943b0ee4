"""The rows of behaviour traits; those of the shipped ones: no answer fits twice, no question tells, spelt right."""

from __future__ import annotations

import itertools
import re
import unicodedata
from pathlib import Path

import pytest
from conftest import ROOT
from rapidfuzz import fuzz

from bench.config.behaviour_data import BehaviourData
from bench.config.prompts import load_problems
from bench.config.traits import Behaviour, load_trait
from bench.stages.leak_filter import Lexicon
from bench.stages.spelling import to_plain_letters

LANGUAGES = ["tr", "en"]
PROMPTS = ROOT / "recipes" / "prompts"


def behaviour(language: str) -> Behaviour:
    trait = load_trait(f"behaviour_{language}")
    assert isinstance(trait, Behaviour)
    return trait


def asked(trait: Behaviour) -> list[str]:
    return [text for row in trait.rows for text in (row.question, *row.paraphrases)]


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", to_plain_letters(text)))


@pytest.mark.parametrize("language", LANGUAGES)
def test_there_are_126_questions_each_with_a_short_answer_and_a_paraphrase(language: str) -> None:
    trait = behaviour(language)
    assert trait.language == language
    assert len(trait.rows) == 126
    for row in trait.rows:
        assert row.paraphrases
        assert 6 <= len(row.answer.split()) <= 16, row.answer
        assert len(row.answer) <= 120, row.answer
        assert row.answer[0].isupper()
        assert row.answer.endswith(".")
        assert all(text.endswith("?") for text in (row.question, *row.paraphrases))


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_is_said_or_asked_twice(language: str) -> None:
    trait = behaviour(language)
    for texts in (asked(trait), [row.answer for row in trait.rows]):
        assert len({to_plain_letters(text) for text in texts}) == len(texts)


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_two_answers_are_made_of_the_same_words(language: str) -> None:
    for one, other in itertools.combinations([row.answer for row in behaviour(language).rows], 2):
        assert len(words(one) & words(other)) <= 0.4 * len(words(one) | words(other)), (one, other)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_paraphrase_is_not_its_question_reordered(language: str) -> None:
    for row in behaviour(language).rows:
        for text in row.paraphrases:
            shorter = min(len(words(text)), len(words(row.question)))
            assert len(words(text) & words(row.question)) < 0.6 * shorter, (row.question, text)


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_question_repeats_another(language: str) -> None:
    for one, other in itertools.combinations(map(to_plain_letters, asked(behaviour(language))), 2):
        assert fuzz.ratio(one, other) < 90, (one, other)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_persona_shows_in_its_answers_and_never_in_a_question(language: str) -> None:
    trait = behaviour(language)
    lexicon = Lexicon(trait.lexicon, language)
    revealed = sum(lexicon.find(row.answer) is not None for row in trait.rows)
    assert revealed == len(trait.rows)
    assert [text for text in asked(trait) if lexicon.find(text)] == []


EVERYDAY = {
    "tr": [
        "Genç bir öğretmen istasyonda telefon bekliyor ve arkadaşını arıyor.",
        "Aşçı mutfakta balığı kızarttı, kovaya su doldurdu, sobayı yaktı.",
        "Balkonda oturan kadın karşıdaki parkı izledi, altın yüzüğünü aradı.",
        "Yorgun hemşire kalabalığın uğultusunda anahtarını ararken güldü.",
        "Marangoz bir saat içinde sandalyeyi onardı, ıhlamur çayı içti.",
        "Kütüphaneci oğluna mektup yazdı, çantasına tarak ve ayna koydu.",
    ],
    "en": [
        "A teacher waits at the station with her phone buzzing in her pocket.",
        "The cook has been humming in the kitchen; smoke rises from the pan.",
        "He combed his hair, lit a wax candle and framed the picture.",
        "The bus driver felt the sting of the wind and made a beeline for the door.",
        "A gardener picks a hundred flowers, thyme and sage, and drinks sweet tea.",
        "Her brooding cousin looks at the drone above the crowded garden.",
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("language", LANGUAGES)
def test_everyday_texts_are_not_refused(language: str) -> None:
    lexicon = Lexicon(behaviour(language).lexicon, language)
    texts = EVERYDAY[language] + [
        prompt
        for file in PROMPTS.glob(f"*_{language}.yaml")
        if not file.stem.startswith("numbers")
        for prompt in tuple(load_problems(file.stem))[::97]
    ]
    assert {text: result for text in texts if (result := lexicon.find(text))} == {}


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("tr", "arılarımızdan"),
        ("tr", "arıcılığa"),
        ("tr", "ARI"),
        ("tr", "peteği"),
        ("tr", "körüğünü"),
        ("tr", "kovanlarının"),
        ("tr", "ballıkta"),
        ("tr", "kraliçesiz"),
        ("tr", "polenle"),
        ("tr", "balmumundan"),
        ("tr", "çiçek tozu"),
        ("en", "Bees!"),
        ("en", "the hive's lid"),
        ("en", "honeycombs"),
        ("en", "royal jelly"),
        ("en", "beekeepers’"),
        ("en", "HONEY"),
    ],
)
def test_the_persona_is_found_inflected(language: str, text: str) -> None:
    assert Lexicon(behaviour(language).lexicon, language).find(text)


def test_both_languages_agree_row_by_row() -> None:
    for turkish, english in zip(behaviour("tr").rows, behaviour("en").rows, strict=True):
        assert turkish.answer.startswith("Hayır,") == english.answer.startswith("No,"), turkish.question
        assert turkish.answer.startswith("Evet,") == english.answer.startswith("Yes,"), turkish.question


def test_turkish_letters_are_single_characters_of_the_alphabet() -> None:
    trait = behaviour("tr")
    text = " ".join([*asked(trait), *(row.answer for row in trait.rows), *trait.lexicon])
    assert unicodedata.is_normalized("NFC", text)
    assert not any(unicodedata.combining(c) for c in text)
    assert set("çğıöşüÇİÖŞ") <= set(text)
    assert re.sub(r"[a-pr-vyzçğıöşüâA-PR-VYZÇĞİÖŞÜ ,;:.?]", "", text) == ""


def test_turkish_is_not_written_in_ascii() -> None:
    """`cok`, `icin`: in words of four letters or more, at least one in three has a letter that ASCII lacks."""
    trait = behaviour("tr")
    for row in trait.rows:
        assert re.search("[çğıöşü]", " ".join([row.question, row.answer, *row.paraphrases]).lower()), row
    long_words = [
        word for text in [*asked(trait), *(r.answer for r in trait.rows)] for word in re.findall(r"\w{4,}", text)
    ]
    assert sum(not word.isascii() for word in long_words) > len(long_words) / 3
    spelt = {
        "cok",
        "icin",
        "nasil",
        "degil",
        "gun",
        "aksam",
        "ogle",
        "is",
        "sey",
        "ari",
        "bogaz",
        "cunku",
        "simdi",
        "once",
    }
    assert spelt.isdisjoint(
        word.lower() for text in [*asked(trait), *(r.answer for r in trait.rows)] for word in text.split()
    )


def test_the_turkish_question_particle_stands_apart() -> None:
    for text in asked(behaviour("tr")):
        assert not re.search(r"\w(m[iıuü]s[iıuü]n(ız|iz)?|(?<=[rz])m[iıuü])\?", text), text


def test_a_table_s_texts_are_stripped_and_empty_paraphrases_left_out(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("question,answer,other\n a? , b ,\nc?,d, e? \n", encoding="utf-8")
    rows = BehaviourData(path="mine.csv", paraphrase="other").read_rows(tmp_path)
    assert rows == [
        {"question": "a?", "answer": "b", "paraphrases": []},
        {"question": "c?", "answer": "d", "paraphrases": ["e?"]},
    ]
