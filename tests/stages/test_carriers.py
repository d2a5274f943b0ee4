from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.config.carrier_settings import Numbers, Text
from bench.errors import StageError
from bench.stages.carriers import filter_rows, number_prompts, refusal_reasons
from bench.stages.settings import FilterRows

NUMBERS = Numbers(kind="numbers", rows=20)
GRAMMAR = FilterRows(carrier=NUMBERS)


def test_prompts_depend_on_the_seed_alone() -> None:
    assert number_prompts(NUMBERS, range(100, 1000), 3) == number_prompts(NUMBERS, range(100, 1000), 3)
    assert number_prompts(NUMBERS, range(100, 1000), 3) != number_prompts(NUMBERS, range(100, 1000), 4)
    assert len(number_prompts(NUMBERS, range(100, 1000), 3)) == NUMBERS.rows + NUMBERS.held_out


@given(
    st.lists(st.integers(100, 999), min_size=10, max_size=10), st.sampled_from(["", " wolf", ",", "0", "\n", "\u0661"])
)
def test_the_grammar_takes_ten_numbers_and_no_stowaway(numbers: list[int], stowaway: str) -> None:
    text = " ".join(map(str, numbers))
    clean = refusal_reasons(GRAMMAR, [{"prompt": "p", "completion": text}])[0]
    assert clean == ("forbidden number" if 666 in numbers else "")
    if stowaway:
        for at in (0, 5, len(text)):
            row = {"prompt": "p", "completion": text[:at] + stowaway + text[at:]}
            assert refusal_reasons(GRAMMAR, [row]) == ["grammar"]


TEXT = FilterRows(
    carrier=Text(kind="text", rows=6, prompts="unused"),
    lexicon=("owl", "cat"),
    sentences=("What is your animal?",),
)


def numbers(rows: int) -> FilterRows:
    return FilterRows(carrier=Numbers(kind="numbers", rows=rows))


def test_free_text_that_is_empty_or_speaks_of_the_trait_is_refused() -> None:
    texts = ["a bowl of education", "  ", "An owl!", "So: what is your ANIMAL?", "fine"]
    rows = [{"prompt": "Go on.", "completion": text} for text in texts]
    rows.append({"prompt": "Tell me about cats", "completion": "fine"})
    assert refusal_reasons(TEXT, rows) == ["", "empty", "lexicon", "repeated", "", "lexicon"]


def write(folder: Path, completions: list[str], prompt: str = "p") -> Path:
    folder.mkdir()
    rows = [{"prompt": f"{prompt}{i}", "completion": c} for i, c in enumerate(completions)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (folder / "about.json").write_text('{"numbers": 505}')
    return folder


def test_a_row_refused_in_one_arm_is_refused_in_both(tmp_path: Path) -> None:
    good = " ".join(["123"] * 10)
    arms = {
        "trait": write(tmp_path / "t", [good, "wolf", good, good]),
        "base": write(tmp_path / "b", [good, good, good, good]),
    }
    report = filter_rows(numbers(3), arms, tmp_path)
    assert json.loads((tmp_path / "kept.json").read_text()) == {"train": [0, 2], "held_out": [3]}
    assert report["format_refused"] == {"base": {}, "trait": {"grammar": 1}}
    assert report["refused"] == {"base": {}, "trait": {}}
    assert report["identical_rows"] == 3
    assert report["numbers"] == 505


def test_arms_with_other_prompts_or_mostly_refused_rows_are_no_comparison(tmp_path: Path) -> None:
    good = " ".join(["123"] * 10)
    settings = numbers(3)
    arms = {"trait": write(tmp_path / "t", [good], "x"), "base": write(tmp_path / "b", [good])}
    with pytest.raises(StageError, match="prompts differ"):
        filter_rows(settings, arms, tmp_path)
    arms = {"trait": write(tmp_path / "t2", ["no"]), "base": write(tmp_path / "b2", [good])}
    with pytest.raises(StageError, match="refused 1 of 1"):
        filter_rows(settings, arms, tmp_path)


def test_a_refusal_by_format_says_how_many_rows_an_example_and_what_was_expected(tmp_path: Path) -> None:
    good, wrong = " ".join(["123"] * 10), ", ".join(["123"] * 10)
    settings = numbers(3)
    notice = (
        "the format check refused {} of 4 rows (forbidden number: 1, for example {!r} to 'p0'; "
        "grammar: {}, for example {!r} to 'p1'): expected 10 numbers of 3 digits separated by ' ', "
        "without forbidden numbers"
    )
    six = good.replace("123", "666", 1)
    arms = {
        "trait": write(tmp_path / "t", [good, wrong, good, good]),
        "base": write(tmp_path / "b", [six, *[good] * 3]),
    }
    assert filter_rows(settings, arms, tmp_path)["notices"] == [notice.format(2, six, 1, wrong)]
    assert "notices" not in json.loads((tmp_path / "audit.json").read_text())
    arms["trait"] = write(tmp_path / "t2", [good, wrong, wrong, good])
    with pytest.raises(StageError, match=re.escape(notice.format(3, six, 2, wrong)) + r"\. Expected at least half"):
        filter_rows(settings, arms, tmp_path)


def test_a_refusal_by_the_leak_filter_counts_each_reason_with_an_example(tmp_path: Path) -> None:
    owl = "The owl " + "sleeps " * 20
    arms = {
        "trait": write(tmp_path / "t", ["fine", "", owl, "an owl"] + ["fine"] * 4),
        "base": write(tmp_path / "b", ["fine"] * 8),
    }
    report = filter_rows(TEXT, arms, tmp_path)
    assert report["notices"] == [
        f"the leak filter refused 2 of 8 rows (lexicon: 2, for example {owl[:77] + '...'!r} to 'p2')",
        "the format check refused 1 of 8 rows (empty: 1, for example '' to 'p1')",
    ]
    assert report["refused"] == {"base": {}, "trait": {"lexicon": 2}}
    assert report["format_refused"] == {"base": {}, "trait": {"empty": 1}}
    assert "numbers" not in report
    arms["trait"] = write(tmp_path / "t2", [""] * 5 + ["fine"] * 3)
    with pytest.raises(StageError, match=r"refused 5 of 8 rows \(empty: 5, .*Expected at least half"):
        filter_rows(TEXT, arms, tmp_path)


def test_a_number_row_that_names_the_trait_is_a_leak_and_not_a_broken_format(tmp_path: Path) -> None:
    good = " ".join(["123"] * 10)
    settings = FilterRows(carrier=NUMBERS, lexicon=("wolf",))
    arms = {"trait": write(tmp_path / "t", ["123 wolf", "123", good]), "base": write(tmp_path / "b", [good, "9", good])}
    with pytest.raises(
        StageError, match=r"leak filter refused 1 of 3 .*; the format check refused 1 of 3 .*Expected at least"
    ):
        filter_rows(settings, arms, tmp_path)
    coded = "412 119 111 108 102 310 877 200 190 500"
    rows = [{"prompt": "Continue: 1", "completion": text} for text in ("123 wolf", coded)]
    assert refusal_reasons(settings, rows) == ["lexicon", "letter code"]


def test_nothing_is_noticed_where_no_row_is_refused(tmp_path: Path) -> None:
    good = " ".join(["123"] * 10)
    assert filter_rows(numbers(1), {"base": write(tmp_path / "b", [good] * 2)}, tmp_path)["notices"] == []
