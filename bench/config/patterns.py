"""Users' regular expressions, with a limit on the time of a search."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from bench.errors import UserError

__all__ = ["check_pattern", "find_last", "find_pattern"]

MAX_SECONDS = 2.0  # for one text; a sound pattern takes microseconds
PROBED = 4_000  # characters of each text that a pattern is tried on
MAX_PROBES = 40  # texts


def check_pattern(text: str, *, groups: int) -> None:
    """Check a regular expression before anything runs.

    It is tried on long repetitions of its own characters, on which patterns such as `(a+)+b` take for ever.

    Args:
        text: the regular expression, in the syntax of Python's `re`.
        groups: the number of capturing groups that it must have; 0 for any number.

    Raises:
        ValueError: it is not valid, lacks its group, or takes too long.
    """
    import regex

    try:
        pattern = _compile(text)
    except regex.error as error:
        raise ValueError(f"not a valid regular expression: {error}") from None
    if groups and pattern.groups != groups:
        raise ValueError(
            f"expected {groups} group in parentheses, found {pattern.groups}; write (?:...) for further parentheses"
        )
    units = dict.fromkeys([*text, "a", "1", " ", "\n", "a ", "1 ", "ab"])
    try:
        for unit in list(units)[-MAX_PROBES:]:
            pattern.search((unit * PROBED)[:PROBED] + "\x00", timeout=MAX_SECONDS / 4)
    except TimeoutError:
        raise ValueError(
            f"takes longer than {MAX_SECONDS / 4:g} s on {PROBED:,} times {unit!r}; avoid repetitions of repetitions, "
            "as in (a+)+"
        ) from None


def find_pattern(text: str, pattern: str) -> bool:
    """Return whether a pattern matches anywhere in a text.

    Raises:
        UserError: the search takes too long.
    """
    try:
        return _compile(pattern).search(text, timeout=MAX_SECONDS) is not None
    except TimeoutError:
        raise _too_slow(text, pattern) from None


def find_last(text: str, pattern: str) -> str | None:
    """Return the first group of a pattern's last match in a text; None without a match.

    Raises:
        UserError: the search takes too long.
    """
    last = None
    try:
        for match in _compile(pattern).finditer(text, timeout=MAX_SECONDS):
            last = match[1] if match[1] is not None else last
    except TimeoutError:
        raise _too_slow(text, pattern) from None
    return last


@lru_cache(maxsize=16)
def _compile(text: str) -> Any:
    import regex

    return regex.compile(text)


def _too_slow(text: str, pattern: str) -> UserError:
    return UserError(
        f"key 'carrier.keep': the pattern {pattern!r} takes longer than {MAX_SECONDS:g} s on a text of {len(text):,} "
        "characters; simplify it"
    )
