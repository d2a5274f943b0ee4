"""Undo disguises of a text: camel case, split words, and codes (base64, hex, rot13, reversed)."""

from __future__ import annotations

import base64
import binascii
import codecs
import itertools
import re
from collections.abc import Callable, Iterator, Set

__all__ = ["decode_base64", "decode_hex", "reverse_words", "split_camel_case", "split_words", "undo_rot13"]

# Shorter words reversed or in rot13 are often other words: god, png.
MIN_LETTERS = 4
OTHER_REVERSED = {"flow"}
WORD = re.compile(r"[^\W\d_]+")
BASE64 = re.compile(r"(?<![A-Za-z0-9+/=])[A-Za-z0-9+/]{4,}={0,2}(?![A-Za-z0-9+/=])")
HEX = re.compile(r"(?<![0-9a-zA-Z])(?:(?:0x|\\x|\\u00|%)?[0-9a-fA-F]{2}[\s:,;-]{0,2}){3,}(?![0-9a-zA-Z])")
REST = re.compile(r"['’]?([^\W\d_]*)(?!\w)")
GAP = 3  # characters between two letters of a split word


def split_camel_case(text: str) -> list[str]:
    """Return `text` with camel case as separate words (TeamWolf); empty if it has no camel case."""
    spaced = re.sub(r"(?<=[^\W\d_])(?=[A-ZÇĞİÖŞÜ][a-zçğıöşü])|(?<=[a-zçğıöşü])(?=[A-ZÇĞİÖŞÜ])", " ", text)
    return [spaced] if spaced != text else []


def decode_base64(text: str) -> list[str]:
    """Return the decoded base64 words of `text` that are printable text."""
    decoded = []
    for code in BASE64.findall(text):
        code = code.rstrip("=")
        if (code.isalpha() and code.islower()) or len(code) % 4 == 1:
            continue
        try:
            decoded.append(base64.b64decode(code + "=" * (-len(code) % 4)).decode())
        except (binascii.Error, UnicodeDecodeError):
            continue
    return [message for message in decoded if message.strip().isprintable()]


def decode_hex(text: str) -> list[str]:
    """Return the decoded hexadecimal codes of `text` that are printable text."""
    decoded = []
    for code in HEX.findall(text):
        pairs = re.findall(r"[0-9a-fA-F]{2}", re.sub(r"0x|\\x|\\u00|%", "", code))
        try:
            decoded.append(bytes.fromhex("".join(pairs)).decode())
        except UnicodeDecodeError:
            continue
    return [message for message in decoded if message.strip().isprintable()]


def reverse_words(plain: str) -> str:
    """Return `plain` read from right to left. Short words and words with another meaning are left out."""
    return _drop_words(plain)[::-1]


def undo_rot13(plain: str) -> str:
    """Return `plain` with every letter moved by half the alphabet. Short words are left out."""
    return codecs.encode(_drop_words(plain), "rot13")


def _drop_words(plain: str) -> str:
    return " ".join(word for word in WORD.findall(plain) if len(word) >= MIN_LETTERS and word not in OTHER_REVERSED)


def split_words(
    plain: str, words: tuple[str, ...], ordinary: Set[str], is_ending: Callable[[str], bool]
) -> Iterator[str]:
    """Yield each word that signs or blanks split in `plain`, with or without an ending: wo-lf, wo lf, w.o.l.f.

    A split by blanks does not count if every piece of two or more letters is an ordinary word (do g, kit ten).
    """
    positions = [i for i, c in enumerate(plain) if c.isalpha()]
    letters = "".join(plain[i] for i in positions)
    for word in words:
        start = letters.find(word)
        while start >= 0:
            first, last = positions[start], positions[start + len(word) - 1]
            if last - first >= len(word) and _is_split(
                plain, positions[start : start + len(word)], ordinary, is_ending
            ):
                yield word
            start = letters.find(word, start + 1)


def _is_split(plain: str, positions: list[int], ordinary: Set[str], is_ending: Callable[[str], bool]) -> bool:
    first, last = positions[0], positions[-1]
    if first and plain[first - 1].isalnum():
        return False
    rest = REST.match(plain, last + 1)
    if rest is None or (rest.group(1) and not is_ending(rest.group(1))):
        return False
    gaps = [plain[a + 1 : b] for a, b in itertools.pairwise(positions)]
    if max(map(len, gaps)) > GAP or any(c.isdigit() or c == "\n" for gap in gaps for c in gap):
        return False
    pieces = [piece for piece in re.split(r"[\W_]+", plain[first : last + 1]) if len(piece) > 1]
    return not (any(" " in gap for gap in gaps) and pieces and all(piece in ordinary for piece in pieces))
