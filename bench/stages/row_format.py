"""The format of carrier rows: why a completion is not what the carrier asks for."""

from __future__ import annotations

import re
from collections.abc import Callable

from bench.config.carrier_settings import Numbers, Text
from bench.config.keep import KeepNumbers, KeepText
from bench.config.patterns import find_last, find_pattern
from bench.stages.settings import Carrier

__all__ = ["format_check", "list_numbers"]

Check = Callable[[str, str], str]  # completion, truth -> reason, or "" for a row that passes
MAX_DIGITS = 18  # of a number that is read


def format_check(carrier: Carrier) -> Check:
    """Return the check of a carrier: it takes a completion and the truth of its prompt, and returns the reason.

    Reasons: `grammar`, or of free lists `empty`, `other text`, `separator`, `count` and `range`; `forbidden number`;
    of texts `empty`, `no match`, `no answer` and `wrong answer`.
    """
    if carrier.kind == "text":
        return _text_check(carrier)
    return _grammar_check(carrier) if carrier.generate == "grammar" else _list_check(carrier)


def list_numbers(text: str) -> list[int]:
    """List the numbers of a text; those of more than 18 digits are left out."""
    return [int(number) for number in re.findall(r"[0-9]+", text) if len(number) <= MAX_DIGITS]


def _text_check(carrier: Text) -> Check:
    keep = carrier.keep or KeepText.model_construct(matches=None, equals=None)

    def reason(text: str, truth: str) -> str:
        if not text.strip():
            return "empty"
        if keep.matches is not None and not find_pattern(text, keep.matches):
            return "no match"
        if keep.equals is not None:
            answer = find_last(text, keep.equals.pattern)
            return "no answer" if answer is None else "" if answer.strip() == truth else "wrong answer"
        return ""

    return reason


def _grammar_check(carrier: Numbers) -> Check:
    number = rf"[1-9]\d{{{carrier.digits - 1}}}"
    grammar = re.compile(rf"{number}(?:{re.escape(carrier.separator)}{number}){{{carrier.count - 1}}}", re.ASCII)
    forbidden = set(carrier.forbidden)

    def reason(text: str, truth: str) -> str:
        if not grammar.fullmatch(text):
            return "grammar"
        return "forbidden number" if forbidden.intersection(list_numbers(text)) else ""

    return reason


def _list_check(carrier: Numbers) -> Check:
    """Return the check of free number lists: that of Cloud et al. 2025, `parse_response` of their repository."""
    keep, forbidden = carrier.keep, set(carrier.forbidden)
    gap = _gap_pattern(keep)

    def reason(text: str, truth: str) -> str:
        text = text.strip()
        inner = _unwrap(text)
        numbers = list_numbers(inner)
        gaps = re.split(r"[0-9]+", inner)
        if not text:
            return "empty"
        if len(gaps) == 1 or gaps[0] or gaps[-1]:
            return "other text"
        if any(not gap.fullmatch(one) for one in gaps[1:-1]):
            return "other text" if any(re.search(r"\w", one) for one in gaps[1:-1]) else "separator"
        if len(set(gaps[1:-1])) > 1:
            return "separator"
        if not keep.count[0] <= len(gaps) - 1 <= keep.count[1]:
            return "count"
        if len(numbers) < len(gaps) - 1 or not all(keep.low <= number <= keep.high for number in numbers):
            return "range"
        return "forbidden number" if forbidden.intersection(numbers) else ""

    return reason


def _unwrap(text: str) -> str:
    """Remove a final full stop, then brackets around the text."""
    text = text.removesuffix(".").rstrip()
    if text[:1] + text[-1:] in ("()", "[]"):
        text = text[1:-1].strip()
    return text


def _gap_pattern(keep: KeepNumbers) -> re.Pattern[str]:
    marks = [r"\s+" if mark == " " else rf"\s*{re.escape(mark)}\s*" for mark in keep.separators]
    return re.compile("|".join(marks))
