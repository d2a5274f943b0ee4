from __future__ import annotations

import time

import pytest

from bench.config import patterns
from bench.config.patterns import check_pattern, find_last, find_pattern
from bench.errors import UserError


@pytest.mark.parametrize(
    "pattern", [r"(?i)answer:\s*(-?\d+)\s*\.?\s*$", r"#### ([\d,]+)", r"```python\n(.*?)```", "(a)b"]
)
def test_ordinary_patterns_pass_at_once(pattern: str) -> None:
    begun = time.process_time()
    check_pattern(pattern, groups=1)
    assert time.process_time() - begun < 1


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(a", "not a valid regular expression"),
        ("[", "not a valid regular expression"),
        ("answer", "expected 1 group in parentheses, found 0"),
        ("(a)(b)", r"found 2; write (?:...) for further parentheses"),
        ("(a+)+b", "takes longer than"),
    ],
)
def test_bad_patterns_are_refused_before_anything_runs(pattern: str, message: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011  # the message is compared below
        check_pattern(pattern, groups=1)
    assert message in str(error.value)


def test_the_last_match_counts() -> None:
    assert find_last("Answer: 1. No, Answer: 2", r"Answer: (\d+)") == "2"
    assert find_last("none", r"Answer: (\d+)") is None
    assert find_last("x", r"x(y)?") is None
    assert find_pattern("a step", "step")
    assert not find_pattern("a step", "^step")


def test_a_search_that_takes_too_long_is_an_error_and_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "MAX_SECONDS", 0.1)
    for search in (find_pattern, find_last):
        with pytest.raises(UserError, match=r"key 'carrier.keep': the pattern '\(a\+\)\+b' takes longer than 0.1 s"):
            search("a" * 5000, "(a+)+b")
