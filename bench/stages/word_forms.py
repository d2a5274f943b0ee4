"""Recognise the forms of a trait's words: inflections, derivations and compounds.

A token is a form of a word if it contains the word, and the text before and after it is empty, an ending, or a word
that forms compounds. A long word needs no known neighbour. Wolfpack, werewolf and wolfish are forms of wolf; bowl is
not a form of owl.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

import snowballstemmer

from bench.stages.compound_parts import ENGLISH_ENDINGS, INNOCENT, ORDINARY, PARTS, TURKISH_ENDINGS
from bench.stages.spelling import to_plain_letters

__all__ = ["WordForms", "list_roots"]

SHORTEST = 3  # letters of a word that forms compounds
LONG = 5  # letters: a word of this length with any three letters before or after it is a compound
MAX_ENDING = 30  # letters: the length of six Turkish endings
MIN_READ = 4  # letters of a word that is matched in reversed and in rot13 text
# A final voiceless stop softens before a vowel: kurt -> kurdu, köpek -> köpeği, ağaç -> ağacı, kitap -> kitabı.
SOFTENED = {"t": "d", "k": "g", "c": "c", "p": "b"}


class WordForms:
    """The forms of single words, in plain letters."""

    def __init__(self, words: Sequence[str], language: str) -> None:
        self.words = tuple(sorted(set(map(to_plain_letters, words)), key=len, reverse=True))
        self.ordinary = frozenset(map(to_plain_letters, ORDINARY[language]))
        self._language = language
        self._parts = frozenset(map(to_plain_letters, PARTS[language]))
        innocent = "|".join({to_plain_letters(word) for word in INNOCENT[language]} - set(self.words))
        self._innocent = re.compile(rf"(?:{innocent}){'.*' if language == 'tr' else ''}")
        self._stems = {root: word for word in self.words for root in list_roots(word, language)}
        # the first letters of all roots: a cheap test before the exact one
        self._seeds = re.compile("|".join(sorted({root[:4] for root in self._stems}, key=len))) if words else None
        self._endings = re.compile(rf"(?:{TURKISH_ENDINGS}){{0,6}}") if language == "tr" else None
        self._stemmer = snowballstemmer.stemmer("english")
        self._stemmed = {self._stemmer.stemWord(word): word for word in self.words if len(word) >= LONG}
        self.match = cache(self._match)
        self.match_inflected = cache(self._match_inflected)

    def may_hold_form(self, plain: str) -> bool:
        """Return whether a text can contain a form at all."""
        return self._seeds is not None and self._seeds.search(plain) is not None

    def _match(self, token: str) -> str | None:
        """Return the word of which `token`, in plain letters, is a form."""
        if not self.may_hold_form(token) or self._innocent.fullmatch(token):
            return None
        for root, word in self._stems.items():
            start = token.find(root)
            while start >= 0:
                if self._fits(root, word, token[:start], token[start + len(root) :]):
                    return word
                start = token.find(root, start + 1)
        if self._endings is None and len(token) >= LONG:  # the Turkish stemmer maps kova and kovan to one stem
            return self._stemmed.get(self._stemmer.stemWord(token))
        return None

    def _match_inflected(self, token: str) -> str | None:
        """Return the word of which `token` is an inflection or derivation; compounds do not count."""
        for root, word in self._stems.items():
            if (
                len(word) >= MIN_READ
                and token.startswith(root)
                and self._fits(root, word, "", token[len(root) :], compounds=False)
            ):
                return word
        return None

    def _fits(self, root: str, word: str, before: str, after: str, *, compounds: bool = True) -> bool:
        long = len(word) >= LONG
        loose = long and self._endings is None  # in Turkish only words stand before a word
        compounds = compounds and len(word) >= SHORTEST
        if before and not compounds:
            return False
        if before and before not in self._parts and not (loose and len(before) >= 3):
            return False
        if root != word and not after:  # wolv, kurd: not words without an ending
            return False
        if not after or self.is_ending(after):
            return root == word or after[:1] in "aeiouy"
        return compounds and root == word and (self._is_compound_end(after) or (long and len(after) >= 3))

    def is_ending(self, after: str) -> bool:
        """Return whether `after` is one or more endings of the language."""
        if self._endings is None:
            return after in ENGLISH_ENDINGS
        return len(after) <= MAX_ENDING and self._endings.fullmatch(after) is not None

    def _is_compound_end(self, after: str) -> bool:
        """Return whether `after` is a word that forms compounds, with or without an ending."""
        ends = range(min(len(after), MAX_ENDING), 1, -1)
        return any(after[:i] in self._parts and (i == len(after) or self.is_ending(after[i:])) for i in ends)


def list_roots(word: str, language: str) -> set[str]:
    """Return the word and its shapes before endings."""
    roots = {word}
    if language == "tr":
        if word[-1] in SOFTENED:
            roots.add(word[:-1] + SOFTENED[word[-1]])
    elif len(word) >= 3:
        if re.search(r"[^aeiouy][aeiou][bdgklmnprtz]$", word):
            roots.add(word + word[-1])  # dog -> doggy
        if re.search(r"[^aeiouy]e$", word) and len(word) > 3:
            roots.add(word[:-1])  # hive -> hiving
        if re.search(r"[^aeiou]y$", word):
            roots.add(word[:-1] + "i")  # puppy -> puppies
        if word.endswith("f"):
            roots.add(word[:-1] + "v")  # wolf -> wolves
    return roots
