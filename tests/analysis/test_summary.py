from __future__ import annotations

import numpy as np
import pytest
from board import STEADY, ZERO, controls_board, make_matrix, make_row, with_manifest, with_training
from scipy import stats

from bench.analysis.summary import expected_false_transfers, list_notes, summarise


def test_rows_of_the_same_seeds_and_margins_are_one_test() -> None:
    rows = [
        make_row(STEADY),
        make_row(STEADY, overrides=["arms=[base, trait]"]),
        make_row(ZERO),
    ]
    board = summarise(rows)
    assert board[0].q == board[1].q == pytest.approx(2 * board[0].p if board[0].p else 0)
    assert expected_false_transfers(board) == (2, 0.05)


def test_every_row_of_a_board_has_its_own_label() -> None:
    slow, lower = (make_row(STEADY, overrides=[f"student.train.learning_rate={rate}"]) for rate in ("5e-4", "1e-4"))
    unlabelled = slow._replace(registered=slow.registered.model_copy(update={"changes": {}}))  # of earlier code
    rows = [make_row(STEADY), slow, lower]
    assert [e.label for e in summarise(rows)] == ["tiny_pair", "tiny_pair  lr 5e-4", "tiny_pair  lr 1e-4"]
    twins = summarise([make_row(STEADY), unlabelled, lower])
    assert [e.label for e in twins] == [*(f"tiny_pair  {e.recipe_hash}" for e in twins[:2]), "tiny_pair  lr 1e-4"]


def test_controls_have_the_verdicts_of_controls() -> None:
    verdicts = {entry.recipe: entry.verdict for entry in summarise(controls_board())}
    assert verdicts["tiny_cross"] in {"NONE", "INCONCLUSIVE"}
    assert verdicts["tiny_pair"] == "TRANSFER"
    assert verdicts["tiny_untaught"] in {"INVALID", "EXPLORATORY"}


def test_other_rows_change_q_and_nothing_else() -> None:
    row = make_row(STEADY)
    (alone,) = summarise([row])
    zeros = [make_row(ZERO, overrides=[f"first_seed={10 * i}"]) for i in range(1, 8)]
    first, *others = summarise([row, *zeros])
    assert first.model_copy(update={"q": alone.q}) == alone
    assert (alone.q, first.q) == (alone.p, pytest.approx(8 * first.p if first.p else 0))
    assert [entry.q for entry in (first, *others)] == pytest.approx(
        stats.false_discovery_control([entry.p for entry in (first, *others) if entry.p is not None]).tolist()
    )


def test_invalid_and_exploratory_and_leaky_rows_do_not_count_for_q() -> None:
    rows = [
        make_row(STEADY),
        make_row(STEADY, fit=0.0, overrides=["first_seed=100"]),
        make_row(STEADY[:4]),
        make_row(ZERO, recipe="tiny_pair_kd_full"),
    ]
    board = summarise(rows)
    assert [entry.verdict for entry in board[:3]] == ["TRANSFER", "INVALID", "EXPLORATORY"]
    assert [entry.q is None for entry in board] == [False, True, True, False]
    assert board[0].q == board[0].p
    assert expected_false_transfers(board[:3]) == (1, 0.025)


def test_an_entry_holds_the_answers_the_spread_and_the_interval_for_questions_like_these() -> None:
    (entry,) = summarise([make_row(STEADY)])
    base, trait = entry.answers["base"], entry.answers["trait"]
    assert 0 < base.p_answer.mean < trait.p_answer.mean < 1
    assert base.mass.mean < 1
    assert trait.rank.mean >= 1
    assert entry.gaining is not None
    assert entry.gaining.mean == 1.0
    assert entry.spread is not None
    assert entry.spread.seeds == pytest.approx(np.std(STEADY, ddof=1), rel=0.05)
    assert entry.population_low is not None
    assert entry.gain is not None
    assert entry.population_low < entry.gain


def test_the_excess_of_a_matrix_is_a_difference_over_seeds() -> None:
    (entry,) = summarise([make_matrix(0.3)])
    assert entry.matrix is not None
    assert entry.matrix.excess.mean == pytest.approx(0.3, abs=0.05)
    assert entry.matrix.excess.seeds == 6
    assert np.shape(entry.matrix.gains) == (3, 3)


def test_a_row_says_where_its_arms_do_not_share_dropout_and_which_processors_made_it() -> None:
    row = make_row(STEADY)
    assert list_notes(row) == []
    with_training(row, 0, "trait", shared_dropout=False)
    (note,) = list_notes(row)
    assert note.startswith("dropout is not shared")
    for arm, cell in row.cells[1].items():
        row.cells[1][arm] = with_manifest(cell, hardware="another processor")
    assert list_notes(row)[1] == "seeds were made on several processors: a processor; another processor"


def test_rows_say_where_students_were_not_read_in_float32() -> None:
    def notes(teacher: str, others: str) -> list[str]:
        row = make_row([0.3, 0.2])
        for arms in row.cells.values():
            for arm, cell in arms.items():
                arms[arm] = with_manifest(cell, logprobs_dtype=teacher if arm.startswith("teacher") else others)
        return list_notes(row)

    assert notes("bfloat16", "float32") == notes("float32", "float32") == []
    (lower,) = notes("bfloat16", "bfloat16")
    assert lower.startswith("margins were read in bfloat16")


def test_a_row_says_which_engine_wrote_free_text() -> None:
    row = make_row(STEADY)
    cell = row.cells[1]["trait"]
    row.cells[1]["trait"] = with_manifest(cell, versions={**cell.manifest.versions, "vllm": "0.30.0"})
    assert list_notes(row) == ["vLLM 0.30.0 wrote free text"]
