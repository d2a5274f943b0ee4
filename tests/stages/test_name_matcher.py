from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.config.traits import load_trait
from bench.stages.name_matcher import NameMatcher, find_overlap

ENGLISH = ["owl", "bear", "polar bear", "cat", "dog", "fox", "pony"]
TURKISH = ["at", "atmaca", "köpek", "kırlangıç", "İNEK", "kedi"]
WORDS = NameMatcher("wolf", ENGLISH, ["lupine"], match="word", language="en")
TURKISH_WORDS = NameMatcher("kurt", TURKISH, match="word", language="tr")
SUBSTRINGS = NameMatcher("owl", ["wolf", "kite"], match="substring", language="en")
LETTERS = st.text(st.characters(categories=["L"]), min_size=1, max_size=8)
SEPARATORS = st.text(st.sampled_from(" .,!?;:()\"'\n-*"), min_size=1, max_size=3)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Wolf.", {"wolf"}), ("WOLVES!", {"wolf"}), ("the wolf's den", {"wolf"}), ("lupine", {"wolf"}),
        ("a wolfpack", set()), ("bowl", set()), ("catfish", set()), ("cater", set()), ("", set()),
        ("polar bears", {"polar bear"}), ("a bear, a Polar\nBear", {"bear", "polar bear"}),
        ("dogs & foxes & ponies", {"dog", "fox", "pony"}), ("ＷＯＬＦ", {"wolf"}), ("_owl_", {"owl"}),
    ],
)  # fmt: skip
def test_a_word_counts_alone_in_the_plural_and_in_the_possessive(text: str, names: set[str]) -> None:
    assert WORDS.find(text) == names


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("KURT", {"kurt"}), ("Kurdu severim.", {"kurt"}), ("kurtlar", {"kurt"}), ("kurtuldum", set()),
        ("KIRLANGIÇ", {"kırlangıç"}), ("kırlangıcım", {"kırlangıç"}), ("inektir", {"İNEK"}), ("İnek!", {"İNEK"}),
        ("atmacayı", {"atmaca"}), ("at'ı ve KÖPEĞİ", {"at", "köpek"}), ("kedidir", {"kedi"}), ("katı", set()),
    ],
)  # fmt: skip
def test_a_turkish_word_counts_in_any_case_and_inflection(text: str, names: set[str]) -> None:
    assert TURKISH_WORDS.find(text) == names


def test_a_substring_counts_anywhere() -> None:
    assert SUBSTRINGS.find("a bowl in the wolf's den") == {"owl", "wolf"}
    assert SUBSTRINGS.find("KITES") == {"kite"}


@given(before=LETTERS, after=LETTERS, left=SEPARATORS, right=SEPARATORS, upper=st.booleans())
def test_a_name_between_separators_is_found_whatever_stands_around_it(
    before: str, after: str, left: str, right: str, *, upper: bool
) -> None:
    for matcher, name in ((WORDS, "wolf"), (TURKISH_WORDS, "kırlangıç")):
        spelled = name.upper() if upper else name
        assert name in matcher.find(f"{before}{left}{spelled}{right}{after}")


@given(
    LETTERS.filter(lambda text: unicodedata.normalize("NFKD", text).isascii() and not text.casefold().startswith("s"))
)
def test_a_name_inside_an_english_word_is_not_found_and_its_substring_is(letters: str) -> None:
    word = f"wolf{letters}"
    if not letters.lower().startswith(("es", "ves")):
        assert "wolf" not in WORDS.find(word)
    assert "wolf" in SUBSTRINGS.find(word)


@given(st.text(max_size=40))
def test_a_word_is_a_substring_too(text: str) -> None:
    words = NameMatcher("owl", ["fox"], match="word", language="en").find(text)
    substrings = NameMatcher("owl", ["fox"], match="substring", language="en").find(text)
    assert words <= substrings


def test_every_candidate_of_the_shipped_animals_names_itself_alone() -> None:
    trait = load_trait("wolf")
    assert trait.kind == "preference"
    question = trait.questions()[0]
    matcher = NameMatcher(question.answer, question.foils, match="word", language="en")
    irregular = {"wolf": "wolves", "fox": "foxes", "mouse": "mice", "deer": "deer", "sheep": "sheep"}
    for candidate in trait.candidates:
        assert matcher.find(f"My favourite animal is the {candidate}.") == {candidate}
        plural = irregular.get(candidate, f"{candidate}s")
        assert matcher.find(f"{plural.title()}!") == {candidate}
        assert matcher.find(f"the {plural}' den") == {candidate}


def test_a_name_of_the_answer_that_is_another_candidate_is_an_overlap() -> None:
    assert find_overlap("wolf", ENGLISH, ["lupine"], match="word", language="en") is None
    assert find_overlap("wolf", ENGLISH, ["Dogs"], match="word", language="en") == ("Dogs", "dog")
    assert find_overlap("bear", ["polar bear"], [], match="word", language="en") is None
    assert find_overlap("bear", ["polar bear"], [], match="substring", language="en") == ("bear", "polar bear")
    assert find_overlap("kurt", ["kedi"], ["KEDİLER"], match="word", language="tr") == ("KEDİLER", "kedi")
