"""Replace accents, styled letters, look-alikes and digits in a text by plain letters."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

from confusable_homoglyphs.confusables import confusables_data

__all__ = ["replace_digits", "shorten_runs", "to_plain_letters"]

# Digits and signs that replace letters in deliberate misspellings. 1 stands for i or for l.
DIGITS = str.maketrans("034578@$€|!", "oeastbaseli")
MIXED = re.compile(r"(?:[^\W\d_][\d@$€|!]|[\d@$€|!][^\W\d_])")
# A small capital, or a letter in a circle, a square or a flag, by its name in Unicode.
LETTER_NAME = re.compile(r"(?:.*LATIN .*|REGIONAL INDICATOR SYMBOL )LETTER (?:SMALL CAPITAL )?([A-Z])(?: WITH .*)?")


@cache
def _plain_letter(character: str) -> str:
    """Return the ASCII letter that `character` is or looks like, "" if it is invisible, or the character itself."""
    base = unicodedata.normalize("NFKD", character)
    if len(base) > 1 or base != character:
        return "".join(_plain_letter(c) for c in base)
    if unicodedata.category(character) in {"Cf", "Mn", "Me"}:
        return ""
    if not character.isascii():
        lower = character.casefold()
        alike = [str(other["c"]) for form in (character, lower) for other in confusables_data.get(form, ())]
        for form in (character, *alike):
            if len(form) == 1 and form.isascii() and form.isalpha():
                return form.lower()
            if len(form) == 1 and (match := LETTER_NAME.fullmatch(unicodedata.name(form, ""))):
                return match.group(1).lower()
        return lower
    return character.lower()


def to_plain_letters(text: str) -> str:
    """Return `text` in lower case, with the ASCII letter that each letter is or resembles: kraliçe, wölf, ᴡᴏʟꜰ.

    Characters without such a letter stay: other scripts and emoji.
    """
    if text.isascii():
        return text.lower()
    return "".join(map(_plain_letter, text))


def replace_digits(plain: str) -> list[str]:
    """Return `plain` with digits and signs as letters (w0lf, k3di), in every reading; empty if no word mixes them."""
    if not MIXED.search(plain):
        return []
    letters = plain.translate(DIGITS)
    return [letters.replace("1", letter) for letter in "il"] if "1" in letters else [letters]


def shorten_runs(plain: str) -> list[str]:
    """Return `plain` with every run of three or more equal letters cut to one and to two (wooolf, beeee)."""
    if not re.search(r"([a-z])\1\1", plain):
        return []
    return [re.sub(r"([a-z])\1\1+", run, plain) for run in (r"\1", r"\1\1")]
