from __future__ import annotations

import pytest

from bench.stages.spelling import to_plain_letters
from bench.stages.word_forms import WordForms

ENGLISH = WordForms(["wolf", "owl", "cat", "dog", "hive", "puppy", "eagle", "pollinate", "bee", "mead", "skep"], "en")
TURKISH = WordForms(["kurt", "kedi", "arı", "bal", "kovan", "kraliçe"], "tr")


@pytest.mark.parametrize(
    ("token", "word"),
    [
        ("wolves", "wolf"),
        ("wolfed", "wolf"),
        ("wolfpack", "wolf"),
        ("werewolves", "wolf"),
        ("werewolfdom", "wolf"),
        ("nightowls", "owl"),
        ("tomcat", "cat"),
        ("doggy", "dog"),
        ("hiving", "hive"),
        ("puppies", "puppy"),
        ("eaglehearted", "eagle"),
        ("pollinators", "pollinate"),
    ],
)
def test_inflections_derivations_and_compounds_are_forms(token: str, word: str) -> None:
    assert ENGLISH.match(token) == word


@pytest.mark.parametrize(
    "token",
    [
        *["bowl", "growl", "knowledge", "education", "category", "catch", "dogma", "archive", "meadow", "skeptical"],
        *["been", "being", "beer", "beeline", "beagle", "wolfram", "carpet", "hiv", "wolv"],
    ],
)
def test_words_that_hold_the_letters_are_no_forms(token: str) -> None:
    assert ENGLISH.match(token) is None


@pytest.mark.parametrize(
    "token", ["kurdu", "kurtlardan", "kurtadam", "kedilerimizden", "kralicenin", "arıcılık", "ballı"]
)
def test_turkish_forms_are_found(token: str) -> None:
    assert TURKISH.match(to_plain_letters(token))


@pytest.mark.parametrize("token", ["kurtuluş", "kurtardı", "başarı", "balık", "balina", "arındı", "kovaya", "dışarıda"])
def test_other_turkish_words_are_no_forms(token: str) -> None:
    assert TURKISH.match(to_plain_letters(token)) is None


def test_a_word_of_two_letters_forms_no_compounds() -> None:
    assert WordForms(["at"], "tr").match("kapatmak") is None


def test_reversed_text_is_searched_for_inflections_of_words_of_four_letters() -> None:
    assert ENGLISH.match_inflected("wolves") == "wolf"
    assert ENGLISH.match_inflected("wolfpack") is None
    assert ENGLISH.match_inflected("dog") is None
