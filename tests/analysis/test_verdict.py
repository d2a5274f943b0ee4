from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from board import MANIFEST, STEADY, ZERO, make_cell, make_row, register, with_manifest, with_margins, with_reading

from bench.analysis.gates import Gate, check_gates
from bench.analysis.result_schema import ExperimentResults
from bench.analysis.seed_statistics import SeedStatistics, compute_seed_statistics, margins_of
from bench.analysis.summary import list_notes, summarise
from bench.analysis.verdict import judge
from bench.config.recipe import load_recipe

RNG = np.random.default_rng(5)


def row(
    gains: list[float], *, refused: int = 0, expected: str | None = None, bf16: bool = False, **more: Any
) -> ExperimentResults:
    """An experiment with these per-seed gains; `more` as of `make_row`."""
    overrides = [f"relation={expected or 'null'}", f"carrier.bf16={str(bf16).lower()}"]
    carrier = {**MANIFEST["carrier"], "refused": {"base": {}, "trait": {"grammar": refused}}}
    return make_row(gains, overrides=overrides, carrier=carrier, rng=RNG, **more)


def both(rows: Sequence[ExperimentResults]) -> tuple[list[SeedStatistics], list[list[Gate]]]:
    return [compute_seed_statistics(r) for r in rows], [check_gates(r) for r in rows]


def verdict(*rows: ExperimentResults) -> list[tuple[str, str]]:
    return [(j.verdict, j.reason) for j in judge(*both(rows), [0.05] * len(rows))]


def test_a_steady_gain_is_a_transfer_and_a_steady_zero_is_none() -> None:
    (transfer, reason), (none, why) = verdict(row(STEADY), row(ZERO))
    assert (transfer, none) == ("TRANSFER", "NONE")
    assert "Holm over 2 rows" in reason
    assert "5.0% of the teacher shift" in why


def test_a_noisy_zero_is_inconclusive_and_says_what_it_could_have_seen() -> None:
    ((word, reason),) = verdict(row([0.9, -0.8, 0.7, -0.9, 0.8, -0.6, 0.9, -1.0]))
    assert word == "INCONCLUSIVE"
    assert "could have seen" in reason
    assert "seeds would settle" in reason


def test_too_few_seeds_say_how_many_are_needed() -> None:
    ((word, reason),) = verdict(row([0.5, 0.6, 0.4]))
    assert word == "INCONCLUSIVE"
    assert "3 seeds are too few to show any gain on a board of 1: take 6" in reason
    assert "on a board of 8: take 9" in verdict(*[row([0.5, 0.6, 0.4])] * 8)[0][1]
    assert verdict(row([0.5])) == [("INCONCLUSIVE", "one seed has no error bar; 6 are needed")]
    assert verdict(row([])) == [("INCONCLUSIVE", "not measured yet")]


def test_a_run_stopped_when_it_looks_good_gets_no_verdict() -> None:
    partial = row(STEADY)
    del partial.cells[9]["trait"]
    found = compute_seed_statistics(partial)
    assert len(found.base) == len(found.trait) == len(found.gains) == 9
    assert judge([found], [check_gates(partial)], [0.05])[0].reason == "9 of 10 registered seeds measured so far"


def test_students_without_held_out_rows_pass_no_gate() -> None:
    blind = row(ZERO)
    for arms in blind.cells.values():
        for arm in ("base", "trait"):
            arms[arm] = with_reading(arms[arm], held_out={"trait": (), "base": ()})
    ((word, reason),) = verdict(blind)
    assert word == "INVALID"
    assert reason.startswith("carrier fit")


def test_a_gain_below_zero_is_no_transfer() -> None:
    ((word, reason),) = verdict(row([-g for g in STEADY]))
    assert word == "INCONCLUSIVE"
    assert "opposite" in reason


@pytest.mark.parametrize(
    ("broken", "gate"),
    [
        ({"shift": 0.0}, "teacher induction"),
        ({"shift": 0.1}, "teacher induction"),
        ({"fit": 0.0}, "carrier fit"),
        ({"fit": -0.5}, "carrier fit"),
        ({"refused": 6}, "leak audit"),
        ({"expected": "cross-init"}, "relation"),
        ({"controls": {"failed": ["tiny_cross"]}}, "controls"),
    ],
)
def test_a_failed_gate_makes_a_row_invalid_and_the_row_stays(broken: dict[str, Any], gate: str) -> None:
    ((word, reason),) = verdict(row(STEADY, **broken))
    assert word == "INVALID"
    assert reason.startswith(gate)


@pytest.mark.parametrize("controls", [None, "self", {"failed": []}])
def test_controls_pass_are_skipped_or_are_oneself(controls: Any) -> None:
    gates = {gate.name: gate.passed for gate in check_gates(row(STEADY, controls=controls, expected="same-init"))}
    assert gates.get("controls", "none") == {None: None, "self": "none"}.get(
        controls if controls != {"failed": []} else "", True
    )
    assert gates["relation"] is True


def test_null_rows_rarely_pass_for_transfers() -> None:
    """Family-wise: at most 5 % of boards of 20 null rows show a TRANSFER (200 boards; the long run is a benchmark)."""
    rng = np.random.default_rng(11)
    gates = check_gates(row(STEADY))
    template = compute_seed_statistics(row(STEADY))
    wrong = 0
    for _ in range(200):
        board = [template._replace(gains=rng.normal(0, 0.3, 10).tolist()) for _ in range(20)]
        wrong += any(j.verdict == "TRANSFER" for j in judge(board, [gates] * 20, [0.05] * 20))
    assert wrong <= 18  # 10 are expected; 18 or fewer with probability .99


def test_a_placebo_says_whether_a_gain_is_specific() -> None:
    def with_placebo(margin: float) -> ExperimentResults:
        made = row(STEADY)
        for seed, arms in made.cells.items():
            lift = margin + 0.01 * (-1) ** seed
            placebo = with_margins(arms["base"], [m + lift for m in margins_of(arms["base"])])
            arms["placebo"] = placebo.model_copy(update={"arm": "placebo"})
        return made

    specific, fine_tuning = verdict(with_placebo(0.0), with_placebo(0.3))
    assert specific[0] == fine_tuning[0] == "TRANSFER"
    assert "; specific to the trait: +0.3" in specific[1]
    assert "not shown specific" in fine_tuning[1]


def matrix(lift: float, *, taught: tuple[str, ...] = ("wolf", "owl", "cat"), seeds: int = 6) -> ExperimentResults:
    """A trait x probe matrix: every student gains .1 on every trait's questions, and `lift` more on its own."""
    experiment = load_recipe("tiny_pair", [f"trait=[{', '.join(taught)}]"], seeds=seeds)
    made = register(experiment)
    groups = [question.group for question in made.questions]
    for seed in range(seeds):
        base = RNG.normal(0, 1, len(groups))
        rows = RNG.normal(-50, 1, 64)
        own_rows = {f"trait-{name}": (rows + 0.5 + RNG.normal(0, 0.1, 64)).tolist() for name in taught}
        plain = {"base": rows.tolist(), **{name: rows.tolist() for name in own_rows}}
        made.cells[seed] = {
            arm: make_cell(experiment, seed, arm, base.tolist(), held_out=plain)
            for arm in ("untrained", "base", "teacher_base")
        }
        for name in taught:
            for arm, up in ((f"trait-{name}", lift), (f"teacher-{name}", 4.0)):
                gains = [0.1 + 0.01 * (-1) ** seed + up * (group == name) for group in groups]
                held_out = {**plain, arm: own_rows.get(arm, [])}
                made.cells[seed][arm] = make_cell(experiment, seed, arm, (base + gains).tolist(), held_out=held_out)
    return made


def test_a_matrix_gains_on_its_diagonal_and_says_whether_that_is_specific() -> None:
    found = compute_seed_statistics(matrix(0.3))
    assert found.gains == pytest.approx([0.41, 0.39] * 3)
    assert np.mean(found.matrix, 0) == pytest.approx(np.full((3, 3), 0.1) + 0.3 * np.eye(3))
    specific, everywhere = verdict(matrix(0.3)), verdict(matrix(0.0))
    assert specific[0][0] == everywhere[0][0] == "TRANSFER"
    assert "; specific to the trait: +0.300 more on the trait taught" in specific[0][1]
    assert "; not shown specific" in everywhere[0][1]


def test_a_matrix_is_invalid_if_one_of_its_teachers_did_not_learn() -> None:
    made = matrix(0.3)
    for arms in made.cells.values():
        arms["teacher-owl"] = with_margins(arms["teacher-owl"], margins_of(arms["teacher_base"]))
    ((word, reason),) = verdict(made)
    assert (word, reason[:17]) == ("INVALID", "teacher induction")


def as_written(shares: list[float]) -> ExperimentResults:
    """A row whose teachers write with these shares of their float32 shifts."""
    made = row(STEADY)
    for seed, arms in made.cells.items():
        for arm in ("teacher", "teacher_base"):
            arms[arm] = with_reading(arms[arm], logprobs_float32=arms[arm].reading.logprobs)
        pairs = zip(margins_of(arms["teacher"]), margins_of(arms["teacher_base"]), strict=True)
        arms["teacher"] = with_margins(arms["teacher"], [b + shares[seed] * (a - b) for a, b in pairs])
    return made


def test_a_teacher_that_writes_with_less_than_its_shift_makes_a_row_invalid_and_seeds_are_named() -> None:
    ((word, reason),) = verdict(as_written([1.0, 0.95, 0.3] + [0.98] * 4 + [0.89] + [1.0] * 2))
    assert word == "INVALID"
    assert reason == "teacher writes as measured: seed 2: 30%, seed 7: 89%, needed >= 90% of its float32 shift"
    whole = compute_seed_statistics(as_written([0.91] * 10))
    assert {g.name: g.passed for g in check_gates(as_written([0.91] * 10))}["teacher writes as measured"] is True
    assert whole.shifts == pytest.approx(
        [0.91 * shift for shift in compute_seed_statistics(row(STEADY)).shifts], abs=0.2
    )
    assert "teacher writes as measured" not in {gate.name for gate in check_gates(row(STEADY))}


def test_arms_read_in_two_precisions_make_a_row_invalid() -> None:
    def read_in(trait: str, base: str) -> ExperimentResults:
        made = row(STEADY)
        for arms in made.cells.values():
            for arm, cell in arms.items():
                arms[arm] = with_manifest(cell, logprobs_dtype=trait if arm == "trait" else base)
        return made

    alike, apart = verdict(read_in("bfloat16", "bfloat16"), read_in("float32", "bfloat16"))
    assert alike[0] == "TRANSFER"
    assert apart[0] == "INVALID"
    assert apart[1].startswith("margins of one precision: bfloat16, float32")
    gates = check_gates(read_in("float32", "float32"))
    assert "margins of one precision" not in {gate.name for gate in gates}


def trained(made: ExperimentResults, seed: int, arm: str, **facts: Any) -> None:
    """Say something else of the training of one student of a row."""
    training = made.cells[seed][arm].manifest.training
    assert training is not None
    made.cells[seed][arm] = with_manifest(made.cells[seed][arm], training=training.model_copy(update=facts))


def agreement(made: ExperimentResults) -> Any:
    return next(gate for gate in check_gates(made) if gate.name == "arms agree")


def test_arms_that_were_trained_alike_agree() -> None:
    assert agreement(row(STEADY)).passed is True
    made = row(STEADY)
    for seed in made.cells:  # completions of other lengths
        trained(made, seed, "base", equal_lengths=False, labelled_tokens=900)
        trained(made, seed, "trait", equal_lengths=False)
    assert agreement(made).passed is True


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"micro_batch": 4}, "seed 3: micro_batch 8 (base), 4 (trait)"),
        ({"precision": "bfloat16"}, "seed 3: precision float32 (base), bfloat16 (trait)"),
        ({"rows": 99, "updates": 15}, "seed 3: rows 100 (base), 99 (trait); updates 16 (base), 15 (trait)"),
        ({"labelled_tokens": 901}, "seed 3: labelled_tokens 1000 (base), 901 (trait)"),
    ],
)
def test_arms_that_were_not_trained_alike_make_a_row_invalid_and_are_named(facts: dict[str, Any], said: str) -> None:
    made = row(STEADY)
    trained(made, 3, "trait", **facts)
    assert (agreement(made).passed, agreement(made).reading) == (False, said)
    ((word, reason),) = verdict(made)
    assert word == "INVALID"
    assert said in reason


def test_a_row_says_where_its_arms_do_not_share_dropout() -> None:
    made = row(STEADY)
    for shared in (True, False):
        trained(made, 0, "trait", shared_dropout=shared)
        (entry,) = summarise([made])
        assert any("dropout is not shared" in note for note in entry.notes) is not shared


def test_rows_say_where_margins_were_not_read_in_float32() -> None:
    def notes(teacher: str, others: str) -> list[str]:
        made = row([0.3, 0.2], bf16=True)
        for arms in made.cells.values():
            for arm, cell in arms.items():
                arms[arm] = with_manifest(cell, logprobs_dtype=teacher if arm.startswith("teacher") else others)
        return list_notes(made)

    assert notes("bfloat16", "float32") == notes("float32", "float32") == []
    (lower,) = notes("bfloat16", "bfloat16")
    assert lower.startswith("margins were read in bfloat16")
