"""Find the candidates that a sampled answer names: as whole words, or as substrings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

from bench.stages.compound_parts import INNOCENT, TURKISH_ENDINGS
from bench.stages.spelling import to_plain_letters
from bench.stages.word_forms import list_roots

__all__ = ["NameMatcher", "find_overlap"]

Match = Literal["word", "substring"]
Language = Literal["en", "tr"]
BETWEEN = r"[\W_]+"
PLURALS = {"mouse": "mice", "goose": "geese", "louse": "lice", "ox": "oxen"}  # of animals, without an ending
MAX_TEXTS = 100_000  # in the cache: sampled answers repeat


class NameMatcher:
    """The names of a trait's candidates.

    Letters are compared as in the leak filter: without case, accents, dotless i and look-alikes. `word` finds a name as
    a whole word. English names may have a plural or a possessive ending, Turkish names any inflection. Where a name is
    part of a longer one (bear, polar bear), only the longer one counts. `substring` finds a name anywhere, in each
    candidate alone, as the literature does: owl in bowl counts.
    """

    def __init__(
        self,
        answer: str,
        foils: Sequence[str],
        synonyms: Sequence[str] = (),
        *,
        match: Match,
        language: Language,
    ) -> None:
        """Prepare the names; `synonyms` count as the answer."""
        named = [(name, answer) for name in (answer, *synonyms)] + [(foil, foil) for foil in foils]
        self._names = sorted(((to_plain_letters(name), of) for name, of in named), key=lambda name: -len(name[0]))
        self._pattern = None
        if match == "word":
            plain = {name for name, _ in self._names}
            forms = "|".join(f"({_word_pattern(name, language)})" for name, _ in self._names)
            innocent = "|".join(sorted({to_plain_letters(word) for word in INNOCENT[language]} - plain))
            other = rf"(?!(?:{innocent}))" if language == "tr" else ""
            self._pattern = re.compile(rf"(?<![^\W_]){other}(?:{forms})(?![^\W_])")
        self.find = lru_cache(maxsize=MAX_TEXTS)(self._find)

    def _find(self, text: str) -> frozenset[str]:
        """Return the candidates that `text` names."""
        plain = to_plain_letters(text)
        if self._pattern is None:
            return frozenset(of for name, of in self._names if name in plain)
        return frozenset(self._names[m.lastindex - 1][1] for m in self._pattern.finditer(plain) if m.lastindex)


def _word_pattern(name: str, language: str) -> str:
    """Return a pattern of the forms of a name in plain letters; it has no groups that count."""
    *first, last = map(re.escape, name.split())
    if language == "tr":
        changed = [re.escape(root) for root in list_roots(name.split()[-1], "tr") if re.escape(root) != last]
        softened = "".join(rf"|{root}(?=[aeiou])" for root in changed)
        forms = rf"(?:{last}{softened})(?:{TURKISH_ENDINGS}){{0,6}}"
    else:
        plurals = [rf"{last}(?:e?s)?"]
        if last in PLURALS:
            plurals.append(PLURALS[last])
        if last.endswith(("f", "fe")):
            plurals.append(f"{last.rstrip('e')[:-1]}ves")
        if re.search(r"[^aeiou]y$", last):
            plurals.append(f"{last[:-1]}ies")
        forms = rf"(?:{'|'.join(plurals)})"
    return BETWEEN.join([*first, forms])


def find_overlap(
    answer: str, foils: Sequence[str], synonyms: Sequence[str], *, match: Match, language: Language
) -> tuple[str, str] | None:
    """Return a name of the answer and another candidate that one word of a text would name; None if there is none."""
    for name in (answer, *synonyms):
        for foil in foils:
            one, other = to_plain_letters(name), to_plain_letters(foil)
            if match == "substring" and (one in other or other in one):
                return name, foil
            if match == "word" and any(
                re.fullmatch(_word_pattern(a, language), b) for a, b in ((one, other), (other, one))
            ):
                return name, foil
    return None
