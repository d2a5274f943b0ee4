"""Find the words of a trait in carrier text, in any form or disguise.

A false match costs one row in every arm. A missed match invalidates the result.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

from bench.stages.disguises import decode_base64, decode_hex, reverse_words, split_camel_case, split_words, undo_rot13
from bench.stages.spelling import replace_digits, shorten_runs, to_plain_letters
from bench.stages.word_forms import WordForms

__all__ = ["Lexicon"]

TOKEN = re.compile(r"[^\W\d_]+")
# Words of a hashtag or a handle have no spaces between them, so any word inside counts.
TAG = re.compile(r"[#@]\w+")
BETWEEN = r"[\W_]+"
NAME_ENDING = r"(?:s|es|n|en|e|lar|ler|['’]s)?"


class Lexicon:
    """The words of a trait, and its other names: emoji, scientific names and translations."""

    def __init__(self, words: Sequence[str], language: str, other_names: Sequence[str] = ()) -> None:
        singles = [word for word in words if not re.search(r"\s", word)]
        self._forms = WordForms(singles, language)
        phrases = [to_plain_letters(word) for word in words if re.search(r"\s", word)]
        names = [to_plain_letters(name) for name in other_names]
        signs = [name for name in names if _needs_no_border(name)]
        borders = [BETWEEN.join(map(re.escape, phrase.rstrip("y").split())) + r"\w{0,7}" for phrase in phrases]
        borders += [_name_pattern(name) for name in names if name not in signs]
        patterns = [rf"(?<![^\W_])(?:{'|'.join(borders)})(?![^\W_])"] if borders else []
        self._names = re.compile("|".join([*map(re.escape, signs), *patterns])) if signs or patterns else None

    def find(self, text: str) -> str | None:
        """Return the first match of a word of the trait in `text`, in plain letters, or None."""
        return next(self._matches(text), None)

    def _matches(self, text: str) -> Iterator[str]:
        plain = to_plain_letters(text)
        yield from self._plain_matches(plain)
        for view in (*replace_digits(plain), *shorten_runs(plain)):
            yield from self._plain_matches(view)
            for shorter in shorten_runs(view):
                yield from self._plain_matches(shorter)
        for view in split_camel_case(text):
            yield from self._plain_matches(to_plain_letters(view))
        for view in (reverse_words(plain), undo_rot13(plain)):
            if self._forms.may_hold_form(view):
                yield from (word for token in TOKEN.findall(view) if (word := self._forms.match_inflected(token)))
        for tag in TAG.findall(plain):
            yield from (word for word in self._forms.words if _tag_names(tag[1:], word))
        yield from split_words(plain, self._forms.words, self._forms.ordinary, self._forms.is_ending)
        for message in (*decode_base64(text), *decode_hex(text)):
            yield from self._plain_matches(to_plain_letters(message))

    def _plain_matches(self, plain: str) -> Iterator[str]:
        if self._names and (match := self._names.search(plain)):
            yield match.group()
        if self._forms.may_hold_form(plain):
            yield from (word for token in TOKEN.findall(plain) if (word := self._forms.match(token)))


def _tag_names(tag: str, word: str) -> bool:
    return tag.startswith(word) or tag.endswith(word) or (len(word) >= 4 and word in tag)


def _needs_no_border(name: str) -> bool:
    """Return whether a name is emoji, or in a script without spaces or cases (wolf in Chinese, Japanese, Arabic)."""
    return all(unicodedata.category(c) in {"So", "Lo", "Lm", "Sk"} for c in name)


def _name_pattern(name: str) -> str:
    """Return the pattern of a name with borders. A scientific name may shorten its genus: C. lupus."""
    words = [re.escape(word) for word in name.split()]
    if len(words) > 1:
        words[0] = rf"(?:{words[0]}|{words[0][0]}\.?)"
    return BETWEEN.join(words) + (NAME_ENDING if len(name) >= 4 else "")
