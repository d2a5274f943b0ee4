from __future__ import annotations

from bench.stages.compound_parts import INNOCENT, ORDINARY, PARTS


def test_no_part_is_so_short_that_it_ends_other_words() -> None:
    assert all(len(word) >= 3 for word in PARTS["en"])
    assert not PARTS["en"] & {"ion", "ness", "ing", "able", "ation"}


def test_lists_are_of_words_in_lower_case() -> None:
    for language in ("en", "tr"):
        for words in (PARTS[language], ORDINARY[language], INNOCENT[language]):
            assert all(word.isalpha() and word == word.lower() for word in words)
