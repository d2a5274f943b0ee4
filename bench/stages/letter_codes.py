"""Find words written as letter codes: ASCII (w = 119) or the index in the alphabet (w = 23), in text or in numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bench.stages.spelling import to_plain_letters

__all__ = ["LetterCodes"]

ENGLISH, TURKISH = "abcdefghijklmnopqrstuvwxyz", "abcçdefgğhıijklmnoöprsştuüvyz"
# Shorter codes appear by chance. Of rows of ten random numbers of three digits, one in 370 contains dog = 4157, and one
# in 40,000 contains a given code of six digits.
MIN_DIGITS = 6
RUN = re.compile(r"\d+(?:[\W_]{1,8}\d+)*")


class LetterCodes:
    """The codes of a trait's words: sequences of digits, regardless of the borders between numbers."""

    def __init__(self, words: Sequence[str], language: str) -> None:
        codes = {code for word in words for code in _encode("".join(filter(str.isalpha, word)), language)}
        needles = sorted(code for code in codes if len(code) >= MIN_DIGITS)
        self._pattern = re.compile("|".join(needles)) if needles else None

    def find(self, text: str) -> str | None:
        """Return the first code of a word in `text`, or None."""
        if self._pattern is None:
            return None
        for run in RUN.findall(text):
            if match := self._pattern.search(re.sub(r"\D", "", run)):
                return match.group()
        return None


def _encode(word: str, language: str) -> set[str]:
    """Return the codes of one word: code points in either case, and indices in the alphabet, plain and in two digits.

    Turkish words are encoded with Turkish letters and with plain letters, each by its own alphabet.
    """
    lower = word.replace("I", "ı").replace("İ", "i").lower() if language == "tr" else word.lower()
    plain = to_plain_letters(word)
    forms = {form for each in (lower, plain) for form in (each, each.upper(), each.capitalize())}
    codes = {"".join(str(ord(letter)) for letter in form) for form in forms}
    for form, alphabet in ((lower, TURKISH), (plain, ENGLISH)) if language == "tr" else ((plain, ENGLISH),):
        if set(form) <= set(alphabet):
            indices = [alphabet.index(letter) + 1 for letter in form]
            codes |= {"".join(map(str, indices)), "".join(f"{index:02}" for index in indices)}
    return codes
