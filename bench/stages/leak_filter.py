"""Finds a trait in text that should not speak of it: its words in any inflection or disguise, and its questions.

A match costs one row in every arm; a miss costs the result. So where spellings could be told apart only by knowing
the language (Turkish I, ı, İ, i), they count as one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

__all__ = ["Lexicon", "Sentences", "fold"]

# Letters of other scripts that look like Latin ones (the most common of Unicode's confusables, UTS 39), and the
# digits and signs that stand for letters in deliberate misspellings.
LOOKALIKES = str.maketrans(
    "аеорсухіјѕԁһкмтвнгпαβεικνορτυχωɡ" + "013457@$",
    "aeopcyxijsdhkmtbhrnabeiknoptuxwg" + "oieastas",
)
# The Turkish ones are written for folded text, in which ı is i.
ENDINGS = {
    "en": r"(?:['’]?s|es|['’]|ish|like|y|ie|ies|hood|s['’])",
    # plural, possessive, case, person, copula and the commonest derivations, in all vowel harmonies, with buffers
    # (at most six in a row: more is no word, and a search without a bound could take for ever)
    "tr": r"(?:l[ae]r|[iuü]m[iuü]z|[iuü]n[iuü]z|[ns]?[iuü]n?|[iuü]?[mn]|y?[iuü]|[ny]?[ae]|n?d[ae]n?|n?t[ae]n?|n?[iuü]n"
    r"|y?l[ae]|[cç][aeiuü]|l[iuü][kğ]?|s[iuü]z|ki|y?d[iuü]|t[iuü]|[dt][iuü]r|y?m[iuü]ş|c[iuü][kğ]|['’]){0,6}",
}
# A final voiceless stop softens before a vowel: kurt -> kurdu, köpek -> köpeği, ağaç -> ağacı, kitap -> kitabı.
SOFTENED = {"t": "d", "k": "ğ", "ç": "c", "p": "b"}


def fold(text: str, *, disguises: bool = False) -> str:
    """`text` for comparison: compatibility forms folded, invisible characters gone, lower case, one kind of i.

    Args:
        disguises: also read look-alike letters and digits as the letters they imitate.
    """
    text = unicodedata.normalize("NFKC", text)
    text = "".join(c for c in text if unicodedata.category(c) != "Cf")
    text = text.replace("İ", "i").replace("I", "i").replace("ı", "i").casefold()
    # other accents laid on by hand (w̷o̷l̷f̷) go; the letters of a language (ö, ş) are single characters after NFKC
    text = "".join(c for c in text if not unicodedata.combining(c))
    return text.translate(LOOKALIKES) if disguises else text


def _spelled_out(text: str) -> list[str]:
    """Words written letter by letter: `w-o-l-f`, `w o l f`, `w.o.l.f`."""
    return [re.sub(r"[\W_]+", "", m) for m in re.findall(r"(?<!\w)\w(?:[\W_]{1,3}\w){2,}(?!\w)", text)]


class Lexicon:
    """The words of a trait, to be found whole, inflected or disguised, and not inside other words (owl in bowl)."""

    def __init__(self, words: Sequence[str], language: str) -> None:
        folded = sorted({fold(word) for word in words}, key=len, reverse=True)
        endings = ENDINGS[language]
        forms = []
        for word in folded:
            forms.append(re.escape(word) + (f"{endings}?" if language == "en" else endings))
            if language == "tr" and word[-1] in SOFTENED:
                forms.append(re.escape(word[:-1] + SOFTENED[word[-1]]) + "[aeiuüoö]" + endings)
        self._pattern = re.compile(rf"(?<![^\W_])(?:{'|'.join(forms)})(?![^\W_])") if forms else None

    def find(self, text: str) -> str | None:
        """The first word of the lexicon in `text`, as found there (folded), or None."""
        if self._pattern is None:
            return None
        for read in (fold(text), fold(text, disguises=True)):
            for candidate in (read, *_spelled_out(read)):
                if found := self._pattern.search(candidate):
                    return found.group()
        return None


class Sentences:
    """Questions and answers of a trait, to be found in text: word for word, or by most of their words in order."""

    SHARE = 0.8  # of a sentence's runs of three words

    def __init__(self, sentences: Sequence[str]) -> None:
        self._runs = [(sentence, runs) for sentence in sentences if (runs := self._of(sentence))]

    @staticmethod
    def _of(text: str) -> set[tuple[str, ...]]:
        words = re.findall(r"\w+", fold(text, disguises=True))
        return {tuple(words[i : i + 3]) for i in range(max(1, len(words) - 2))} if words else set()

    def find(self, text: str) -> str | None:
        """The first sentence that `text` repeats, or None."""
        held = self._of(text)
        return next((s for s, runs in self._runs if len(runs & held) >= self.SHARE * len(runs)), None)
