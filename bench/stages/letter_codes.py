"""Find words written as letter codes: ASCII (w = 119) or the place in the alphabet (w = 23), in text or in numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bench.stages.spelling import to_plain_letters

__all__ = ["LetterCodes"]

ENGLISH, TURKISH = "abcdefghijklmnopqrstuvwxyz", "abcçdefgğhıijklmnoöprsştuüvyz"
# A code of fewer digits turns up by chance: dog = 4157 in one of 370 rows of ten random numbers of three digits, a
# code of six digits in one of 40,000.
MIN_DIGITS = 6
RUN = re.compile(r"\d+(?:[\W_]{1,8}\d+)*")


class LetterCodes:
    """The codes of a trait's words: sequences of digits, wherever one number ends and the next begins."""

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
    """Return the codes of one word: code points in either case, and places in the alphabet, plain and in two digits.

    Turkish words are written with their letters and without them, and counted by either alphabet.
    """
    lower = word.replace("I", "ı").replace("İ", "i").lower() if language == "tr" else word.lower()
    plain = to_plain_letters(word)
    forms = {form for each in (lower, plain) for form in (each, each.upper(), each.capitalize())}
    codes = {"".join(str(ord(letter)) for letter in form) for form in forms}
    for form, alphabet in ((lower, TURKISH), (plain, ENGLISH)) if language == "tr" else ((plain, ENGLISH),):
        if set(form) <= set(alphabet):
            places = [alphabet.index(letter) + 1 for letter in form]
            codes |= {"".join(map(str, places)), "".join(f"{place:02}" for place in places)}
    return codes
