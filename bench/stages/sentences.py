"""Find a trait's sentences in a text, including versions with replaced, missing or misspelt words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from rapidfuzz import fuzz

from bench.stages.spelling import to_plain_letters

__all__ = ["Sentences"]

SHARED = 0.5  # share of a sentence's letters in words that the text contains too: a cheap test before the exact one
# The minimum similarity, of 100, of a sentence and the best part of a text. For 378 sentences of a persona, 76 refuses
# .16 % of 6,841 everyday sentences, 70 refuses .6 %. Short sentences are close to many others ("Do you exercise?").
RATIO, SHORT_RATIO = 76, 90
SHORT = 5  # words: a sentence with fewer words is short


class Sentences:
    """Questions and answers of a trait."""

    def __init__(self, sentences: Sequence[str]) -> None:
        self._sentences = [(sentence, " ".join(words)) for sentence in sentences if (words := _words(sentence))]
        self._needed = np.array([SHARED * len(plain.replace(" ", "")) for _, plain in self._sentences])
        letters: dict[str, dict[int, int]] = {}
        for i, (_, plain) in enumerate(self._sentences):
            for word, count in Counter(plain.split()).items():
                letters.setdefault(word, {})[i] = len(word) * count
        self._index = {word: (np.array(list(of)), np.array(list(of.values()))) for word, of in letters.items()}

    def find(self, text: str) -> str | None:
        """Return the first sentence that `text` repeats, or None."""
        words = _words(text)
        shared = np.zeros(len(self._sentences))
        for word in self._index.keys() & set(words):
            sentences, letters = self._index[word]
            shared[sentences] += letters
        plain = " ".join(words)
        for i in np.flatnonzero(shared >= self._needed):
            sentence, needle = self._sentences[i]
            # a text that is shorter than the sentence must repeat it as a whole
            ratio = fuzz.partial_ratio if len(plain) > len(needle) else fuzz.ratio
            minimum = SHORT_RATIO if needle.count(" ") < SHORT - 1 else RATIO
            if ratio(needle, plain, score_cutoff=minimum):
                return sentence
        return None


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", to_plain_letters(text))
