"""Find a trait in carrier text: its words in any inflection or disguise, and its questions and answers.

A false match costs one row in every arm. A missed match invalidates the result. Spellings that differ only by language
(Turkish I, ı, İ, i) are therefore treated as equal.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

__all__ = ["Lexicon", "Sentences", "fold"]

# Letters of other scripts that look like Latin letters (the most common confusables of Unicode, UTS 39), and digits and
# signs that replace letters in deliberate misspellings.
LOOKALIKES = str.maketrans(
    "аеорсухіјѕԁһкмтвнгпαβεικνορτυχωɡ" + "013457@$",
    "aeopcyxijsdhkmtbhrnabeiknoptuxwg" + "oieastas",
)
# Turkish endings match folded text, where ı is i.
ENDINGS = {
    "en": r"(?:['’]?s|es|['’]|ish|like|y|ie|ies|hood|s['’])",
    # plural, possessive, case, person, copula and the most common derivations, in all vowel harmonies, with buffer
    # letters. At most six endings: no word has more, and an unbounded search could run forever.
    "tr": r"(?:l[ae]r|[iuü]m[iuü]z|[iuü]n[iuü]z|[ns]?[iuü]n?|[iuü]?[mn]|y?[iuü]|[ny]?[ae]|n?d[ae]n?|n?t[ae]n?|n?[iuü]n"
    r"|y?l[ae]|[cç][aeiuü]|l[iuü][kğ]?|s[iuü]z|ki|y?d[iuü]|t[iuü]|[dt][iuü]r|y?m[iuü]ş|c[iuü][kğ]|['’]){0,6}",
}
# A final voiceless stop softens before a vowel: kurt -> kurdu, köpek -> köpeği, ağaç -> ağacı, kitap -> kitabı.
SOFTENED = {"t": "d", "k": "ğ", "ç": "c", "p": "b"}


def fold(text: str, *, disguises: bool = False) -> str:
    """Normalise `text` for comparison: NFKC, no invisible characters, no stray accents, lower case, one kind of i.

    Args:
        text: any text.
        disguises: also replace look-alike letters and digits by the letters they imitate.
    """
    text = unicodedata.normalize("NFKC", text)
    text = "".join(c for c in text if unicodedata.category(c) != "Cf")
    text = text.replace("İ", "i").replace("I", "i").replace("ı", "i").casefold()
    # removes accents added as disguise (w̷o̷l̷f̷); the letters of a language (ö, ş) are single characters after NFKC
    text = "".join(c for c in text if not unicodedata.combining(c))
    return text.translate(LOOKALIKES) if disguises else text


def _spelled_out(text: str) -> list[str]:
    """Return words that are spelled letter by letter (`w-o-l-f`, `w o l f`, `w.o.l.f`), joined."""
    return [re.sub(r"[\W_]+", "", m) for m in re.findall(r"(?<!\w)\w(?:[\W_]{1,3}\w){2,}(?!\w)", text)]


class Lexicon:
    """The words of a trait. Matches whole, inflected or disguised words, never parts of other words (owl in bowl)."""

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
        """Return the first match of a lexicon word in `text`, folded, or None."""
        if self._pattern is None:
            return None
        for folded in (fold(text), fold(text, disguises=True)):
            for candidate in (folded, *_spelled_out(folded)):
                if match := self._pattern.search(candidate):
                    return match.group()
        return None


class Sentences:
    """Questions and answers of a trait. Matches verbatim copies and texts that repeat most of their trigrams."""

    SHARE = 0.8  # of a sentence's word trigrams

    def __init__(self, sentences: Sequence[str]) -> None:
        self._sentences = [(sentence, grams) for sentence in sentences if (grams := self._trigrams(sentence))]

    @staticmethod
    def _trigrams(text: str) -> set[tuple[str, ...]]:
        words = re.findall(r"\w+", fold(text, disguises=True))
        return {tuple(words[i : i + 3]) for i in range(max(1, len(words) - 2))} if words else set()

    def find(self, text: str) -> str | None:
        """Return the first sentence that `text` repeats, or None."""
        text_grams = self._trigrams(text)
        matches = (s for s, grams in self._sentences if len(grams & text_grams) >= self.SHARE * len(grams))
        return next(matches, None)
