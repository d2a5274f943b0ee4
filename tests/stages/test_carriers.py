from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.config.carrier_settings import Numbers, Text
from bench.config.keep import Equals, KeepText
from bench.config.number_prompts import NumberPrompts
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


def write(folder: Path, completions: list[str], prompt: str = "p", cut: Sequence[int] = ()) -> Path:
    folder.mkdir()
    rows = [{"prompt": f"{prompt}{i}", "completion": c} for i, c in enumerate(completions)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (folder / "about.json").write_text(json.dumps({"numbers": 505, "cut": list(cut)}))
    return folder


def test_a_row_refused_in_one_arm_is_refused_in_both(tmp_path: Path) -> None:
    good = " ".join(["123"] * 10)
    arms = {
        "trait": write(tmp_path / "t", [good, "wolf", good, good]),
        "base": write(tmp_path / "b", [good, good, good, good]),
    }
    report = filter_rows(numbers(3), arms, tmp_path)
    assert json.loads((tmp_path / "kept.json").read_text()) == {"train": [0, 2], "held_out": [3]}
    assert json.loads((tmp_path / "reasons.json").read_text()) == {"base": {}, "trait": {"1": "grammar"}}
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
        "the format check refused {} of 4 rows ({}): expected 10 numbers of 3 digits separated by ' ', "
        "without forbidden numbers"
    )
    six = good.replace("123", "666", 1)
    arms = {
        "trait": write(tmp_path / "t", [good, wrong, good, good]),
        "base": write(tmp_path / "b", [six, *[good] * 3]),
    }
    forbidden, grammar = f"forbidden number: 1, for example {six!r} to 'p0'", "grammar: {}, for example {!r} to 'p1'"
    one = f"{forbidden}; {grammar.format(1, wrong)}"
    assert filter_rows(settings, arms, tmp_path)["notices"] == [notice.format(2, one)]
    assert "notices" not in json.loads((tmp_path / "audit.json").read_text())
    arms["trait"] = write(tmp_path / "t2", [good, wrong, wrong, good])
    commonest = f"{grammar.format(2, wrong)}; {forbidden}"
    with pytest.raises(StageError, match=re.escape(notice.format(3, commonest)) + r"\. Expected at least half"):
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


WORDING = NumberPrompts(templates=("{a} {numbers}, {count} of {digits}",), lists={"a": ("x", "y")}, separators=("; ",))


def test_number_prompts_draw_how_many_numbers_are_given_and_their_wording() -> None:
    carrier = Numbers(kind="numbers", rows=200, held_out=56, given=(3, 8))
    prompts = number_prompts(carrier, range(100, 1000), 3, WORDING)
    assert len(prompts) == 256
    parts = [re.fullmatch(r"([xy]) (\d{3}(?:; \d{3})+), 10 of 3", prompt) for prompt in prompts]
    assert {part[1] for part in parts if part} == {"x", "y"}
    assert {len(part[2].split("; ")) for part in parts if part} == {3, 4, 5, 6, 7, 8}
    assert prompts == number_prompts(carrier, range(100, 1000), 3, WORDING)
    assert prompts != number_prompts(carrier, range(100, 1000), 4, WORDING)


FREE = Numbers(kind="numbers", rows=3, held_out=1, draw=8, generate="free")


def test_free_rows_are_drawn_from_those_of_all_arms_and_format_and_leaks_stay_two_things(tmp_path: Path) -> None:
    settings = FilterRows(carrier=FREE, lexicon=("wolf",), seed=1)
    trait = ["1, 2", "The wolf: 1, 2", "3", "4", "5", "6", "7", "23 15 12 6"]  # the last spells w o l f
    arms = {"trait": write(tmp_path / "t", trait), "base": write(tmp_path / "b", ["1, 2"] * 7 + ["1;2,3"])}
    report = filter_rows(settings, arms, tmp_path)
    assert report["refused"] == {"base": {}, "trait": {"letter code": 1}}
    assert report["format_refused"] == {"base": {"separator": 1}, "trait": {"other text": 1}}
    reasons = {"base": {"7": "separator"}, "trait": {"1": "other text", "7": "letter code"}}
    assert json.loads((tmp_path / "reasons.json").read_text()) == reasons
    rows = json.loads((tmp_path / "kept.json").read_text())
    assert len(rows["train"]) == 3
    assert len(rows["held_out"]) == 1
    assert {*rows["train"], *rows["held_out"]} <= {0, 2, 3, 4, 5, 6}
    assert report["selection"]["trait"]["kept"] == 6
    assert report["selection"]["base"]["kept"] == 7
    assert report["notices"][0] == "of 8 rows the arms keep: base 7, trait 6; in common 6"
    assert "numbers" not in report
    other = filter_rows(settings.model_copy(update={"seed": 2}), arms, tmp_path)
    assert other["selection"] != report["selection"]


def test_a_free_answer_that_was_cut_is_refused_in_all_arms_though_it_has_the_format(tmp_path: Path) -> None:
    trait = write(tmp_path / "t", ["1, 2"] * 7 + ["so 1, 2"], cut=[1, 7])
    arms = {"trait": trait, "base": write(tmp_path / "b", ["1, 2"] * 8, cut=[0])}
    report = filter_rows(FilterRows(carrier=FREE), arms, tmp_path)
    assert report["format_refused"] == {
        "base": {"cut at max_new_tokens": 1},
        "trait": {"cut at max_new_tokens": 1, "other text": 1},
    }
    rows = json.loads((tmp_path / "kept.json").read_text())
    assert {*rows["train"], *rows["held_out"]} <= {2, 3, 4, 5, 6}
    good = " ".join(["123"] * 10)
    arms = {"base": write(tmp_path / "grammar", [good] * 4, cut=[0, 1, 2, 3])}
    assert filter_rows(numbers(3), arms, tmp_path)["format_refused"] == {"base": {}}


def test_a_filter_that_keeps_little_says_why_with_counts_and_an_example(tmp_path: Path) -> None:
    texts = ["Sure! 1, 2"] * 4 + ["1 2 3 4 5 6 7 8 9 10 11"] * 2 + ["1"] * 2
    arms = {"trait": write(tmp_path / "t", texts), "base": write(tmp_path / "b", ["1"] * 8)}
    message = (
        "of 8 rows the arms keep: base 8, trait 2; in common 2; the format check refused 6 of 8 rows (other text: 4, "
        "for example 'Sure! 1, 2' to 'p0'; count: 2, for example '1 2 3 4 5 6 7 8 9 10 11' to 'p4'). Expected 4 rows"
    )
    with pytest.raises(StageError, match=re.escape(message)):
        filter_rows(FilterRows(carrier=FREE), arms, tmp_path)


def test_texts_with_a_wrong_answer_to_their_row_are_refused(tmp_path: Path) -> None:
    keep = KeepText(equals=Equals(pattern=r"= (\d+)", column="answer"))
    carrier = Text(kind="text", rows=1, held_out=1, draw=3, prompts="unused", keep=keep)
    arms = {"trait": write(tmp_path / "t", ["= 1", "= 2", "= 2"]), "base": write(tmp_path / "b", ["= 1", "= 2", "3"])}
    settings = FilterRows(carrier=carrier, truths=("1", "2", "3"))
    with pytest.raises(StageError, match="Expected") as error:
        filter_rows(settings.model_copy(update={"truths": ("1", "9", "9")}), arms, tmp_path)
    assert "wrong answer: 1" in str(error.value)
    report = filter_rows(settings, arms, tmp_path)
    assert report["format_refused"] == {"base": {"no answer": 1}, "trait": {"wrong answer": 1}}
    assert report["train"] == report["held_out"] == 1
