from __future__ import annotations

import re

import pytest
from board import make_matrix, make_rates, make_row
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import UserError
from bench.report.answers import candidate_shares
from bench.report.carriers import CarrierRow, parting
from bench.report.side_by_side import choose_seed, render_answers, render_rows

PAIR = make_row([0.3])


def pair(base: str, trait: str, use: str = "train", /, **reasons: str) -> CarrierRow:
    return CarrierRow("Continue: 1", base, trait, parting(base, trait), use, reasons)


def test_answers_are_sorted_by_the_difference_and_are_those_of_the_seed() -> None:
    row = make_row([0.3, 0.9])
    head, unit, _, columns, *lines = render_answers(row, 1)
    assert head == f"tiny_pair  seeds 2 ({row.hash}), seed 1: 56 questions, the largest difference first."
    assert unit == "P(wolf | one of the candidates) in percent."
    assert columns.split() == ["trait", "-", "base", "untrained", "base", "trait", "question"]
    shares = {
        arm: dict(zip((q.question for q in row.questions), (of[0] for of in candidate_shares(cell)), strict=True))
        for arm, cell in row.cells[1].items()
    }
    gains = []
    for line in lines:
        gain, untrained, base, trait, question = line.split(maxsplit=4)
        gains.append(float(gain))
        for text, arm in ((untrained, "untrained"), (base, "base"), (trait, "trait")):
            assert float(text) == pytest.approx(100 * shares[arm][question], abs=0.00501)
        assert float(gain) == pytest.approx(float(trait) - float(base), abs=0.0101)
    assert len(lines) == 56
    assert gains == sorted(gains, reverse=True)
    assert gains[0] > gains[-1] > 0


def test_sampled_answers_follow_their_question() -> None:
    row = make_rates([{"base": 0.1, "trait": 0.4}])
    lines = render_answers(row, 0)
    assert "    base: 9 x An OWL | 9 x hm | 2 x Wolf." in lines
    assert lines.index("    trait: 8 x Wolf. | 6 x An OWL | 6 x hm") == lines.index(lines[5]) + 2


def test_answers_of_several_traits_name_the_answer_of_each_question() -> None:
    lines = render_answers(make_matrix(0.3, seeds=1), 0)
    assert lines[3].startswith("trait-wolf - base")
    assert {line.rpartition("(")[2] for line in lines[4:]} == {"wolf)", "owl)", "cat)"}


def test_a_seed_without_its_students_has_no_answers_to_compare() -> None:
    row = make_row([0.3])
    del row.cells[0]["base"]
    with pytest.raises(UserError, match="seed 0 has no result of base"):
        render_answers(row, 0)


def test_rows_mark_where_they_part_and_say_why_they_were_refused() -> None:
    row = make_row([0.3])
    carrier = [
        pair("12, 34, 5", "12, 35, 5"),
        pair("7", "7", "held_out"),
        pair("x", "wolf", "refused", trait="lexicon"),
    ]
    text = "\n".join(render_rows(row, 0, carrier))
    assert text.startswith(f"tiny_pair  seeds 1 ({row.hash}), seed 0: 3 rows, 1 refused, 1 with equal completions.\n")
    assert "row 0 (train)\n  prompt  Continue: 1\n  base    12, [34], 5\n  trait   12, [35], 5" in text
    assert "row 1 (held-out, equal)\n" in text
    assert "row 2 (refused, trait: lexicon)\n" in text
    short = "\n".join(render_rows(row, 0, carrier, 2))
    assert "row 2" not in short
    assert "2 of 3 rows." in short


@given(st.text(), st.text(), st.text(max_size=600))
def test_a_text_never_steers_the_terminal(one: str, other: str, common: str) -> None:
    assert all(line.isprintable() for line in render_rows(PAIR, 0, [pair(common + one, common + other)]))


WORDS = st.text("ab12 ,", max_size=60)


@given(WORDS, WORDS, WORDS)
def test_a_mark_changes_nothing_else(one: str, other: str, common: str) -> None:
    one, other = common + one, common + other
    *_, base, trait = render_rows(PAIR, 0, [pair(one, other)])
    for line, text in ((base, one), (trait, other)):
        assert line[10:].replace("[", "").replace("]", "") == text
        assert line.count("[") == line.count("]") == (one != other)
    if one != other:
        before = [re.split(r"\[|\]", line[10:])[:2] for line in (base, trait)]
        assert before[0][0] == before[1][0]
        assert before[0][1] != before[1][1]


def test_a_seed_is_the_first_or_one_that_is_there() -> None:
    row = make_row([0.3, 0.2])
    assert choose_seed(row, None, {4, 3}, "answers") == 3
    assert choose_seed(row, 4, {4, 3}, "answers") == 4
    with pytest.raises(UserError, match=r"--seed 7: tiny_pair .* has answers of the seeds 3, 4$"):
        choose_seed(row, 7, {4, 3}, "answers")
    with pytest.raises(UserError, match=r"there are no carrier rows in \.bench; run its recipe"):
        choose_seed(row, None, (), "carrier rows in .bench")
