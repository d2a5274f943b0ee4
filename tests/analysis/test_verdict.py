from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from conftest import ROOT

from bench.analysis.gates import Gate, check_gates
from bench.analysis.result_files import read_results
from bench.analysis.result_schema import ExperimentResults
from bench.analysis.seed_statistics import SeedStatistics, compute_seed_statistics
from bench.analysis.summary import list_notes, summarise
from bench.analysis.verdict import judge

RNG = np.random.default_rng(5)


def row(
    gains: list[float],
    *,
    shift: float = 4.0,
    fit: float = 0.5,
    refused: int = 0,
    relation: str = "same-init",
    expected: str | None = None,
    controls: Any = None,
) -> ExperimentResults:
    """An experiment whose per-question readings have these per-seed gains."""
    noise = RNG.normal(0, 0.2, 40)
    cells: dict[int, dict[str, Any]] = {}
    for seed, gain in enumerate(gains):
        manifest = {
            "carrier": {"rows": 100, "refused": {"base": {}, "trait": {"grammar": refused}}},
            "controls": controls,
            "commits": ["c"],
            "training": {
                "rows": 100,
                "updates": 16,
                "effective_batch": 64,
                "micro_batch": 8,
                "precision": "float32",
                "labelled_tokens": 1000,
                "equal_lengths": True,
            },
        }
        rows = RNG.normal(-50, 1, 64)
        common = {"seed": seed, "manifest": manifest, "relation": {"relation": relation, "token_maps": "identical"}}

        def reading(margin: float, tilt: float = 0.0, rows: Any = rows) -> dict[str, Any]:
            return {
                "margins": (margin + noise).tolist(),
                "groups": ["ask"] * 40,
                "held_out_trait": (rows + tilt + RNG.normal(0, 0.1, 64)).tolist(),
                "held_out_base": rows.tolist(),
            }

        cells[seed] = {
            "teacher": {**common, "reading": {"margins": (shift + 2 * noise).tolist(), "groups": ["ask"] * 40}},
            "teacher_base": {**common, "reading": {"margins": noise.tolist(), "groups": ["ask"] * 40}},
            "untrained": {**common, "reading": reading(0.0)},
            "base": {**common, "reading": reading(0.1)},
            "trait": {**common, "reading": reading(0.1 + gain, fit)},
        }
    return ExperimentResults(
        "x",
        "h",
        {
            "recipe": {
                "trait": "wolf",
                "relation": expected,
                "bound": 0.05,
                "dose": [],
                "method": "sft",
                "seeds": len(gains),
            }
        },
        cells,
        {},
    )


STEADY = [0.30, 0.32, 0.28, 0.31, 0.33, 0.27, 0.30, 0.29, 0.31, 0.30]
NOTHING = [0.01, -0.02, 0.015, -0.01, 0.0, 0.02, -0.015, 0.005, -0.01, 0.01]


def both(rows: Sequence[ExperimentResults]) -> tuple[list[SeedStatistics], list[list[Gate]]]:
    return [compute_seed_statistics(r) for r in rows], [check_gates(r) for r in rows]


def verdict(*rows: ExperimentResults) -> list[tuple[str, str]]:
    return [(j.verdict, j.reason) for j in judge(*both(rows), [0.05] * len(rows))]


def test_a_steady_gain_is_a_transfer_and_a_steady_zero_is_none() -> None:
    (transfer, reason), (none, why) = verdict(row(STEADY), row(NOTHING))
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
    blind = row(NOTHING)
    for arms in blind.cells.values():
        for arm in ("base", "trait"):
            arms[arm]["reading"] |= {"held_out_trait": [], "held_out_base": []}
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
            arms["placebo"] = {
                **arms["base"],
                "reading": {"margins": [m + lift for m in arms["base"]["reading"]["margins"]]},
            }
        return made

    specific, fine_tuning = verdict(with_placebo(0.0), with_placebo(0.3))
    assert specific[0] == fine_tuning[0] == "TRANSFER"
    assert "; specific to the trait: +0.3" in specific[1]
    assert "not shown specific" in fine_tuning[1]


def matrix(lift: float, *, taught: tuple[str, ...] = ("wolf", "owl", "cat"), seeds: int = 6) -> ExperimentResults:
    """A trait x probe matrix: every student gains .1 on every trait's questions, and `lift` more on its own."""
    made = row([0.1] * seeds)
    made.experiment["recipe"]["trait"] = list(taught)
    groups = [name for name in taught for _ in range(5)]
    for seed, arms in made.cells.items():
        base = RNG.normal(0, 1, len(groups))

        def asked(own: str | None, lift: float, at: int = seed, base: Any = base) -> dict[str, Any]:
            up = [0.1 + 0.01 * (-1) ** at + lift * (group == own) if own else 0.0 for group in groups]
            return {"margins": (base + up).tolist(), "groups": groups}

        arms["base"]["reading"] |= asked(None, 0)
        arms["untrained"]["reading"] |= asked(None, 0)
        arms["teacher_base"]["reading"] |= asked(None, 0)
        for name in taught:
            held_out = {"held_out_base": arms["trait"]["reading"]["held_out_base"]}
            held_out[f"held_out_trait-{name}"] = arms["trait"]["reading"]["held_out_trait"]
            arms["base"]["reading"][f"held_out_trait-{name}"] = arms["base"]["reading"]["held_out_trait"]
            arms[f"trait-{name}"] = {**arms["trait"], "reading": {**asked(name, lift), **held_out}}
            arms[f"teacher-{name}"] = {**arms["teacher"], "reading": asked(name, 4.0)}
        del arms["trait"], arms["teacher"]
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
        arms["teacher-owl"] = {**arms["teacher-owl"], "reading": arms["teacher_base"]["reading"]}
    ((word, reason),) = verdict(made)
    assert (word, reason[:17]) == ("INVALID", "teacher induction")


def as_written(shares: list[float]) -> ExperimentResults:
    """A row whose teachers write with these shares of their float32 shifts."""
    made = row(STEADY)
    for seed, arms in made.cells.items():
        for arm in ("teacher", "teacher_base"):
            arms[arm]["reading"]["margins_float32"] = arms[arm]["reading"]["margins"]
        without = arms["teacher_base"]["reading"]["margins"]
        pairs = zip(arms["teacher"]["reading"]["margins"], without, strict=True)
        arms["teacher"]["reading"]["margins"] = [b + shares[seed] * (a - b) for a, b in pairs]
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
                cell["manifest"] = {**cell["manifest"], "margins_dtype": trait if arm == "trait" else base}
        return made

    alike, apart = verdict(read_in("bfloat16", "bfloat16"), read_in("float32", "bfloat16"))
    assert alike[0] == "TRANSFER"
    assert apart[0] == "INVALID"
    assert apart[1].startswith("margins of one precision: bfloat16, float32")
    gates = check_gates(read_in("float32", "float32"))
    assert "margins of one precision" not in {gate.name for gate in gates}


def trained(made: ExperimentResults, seed: int, arm: str, **facts: Any) -> None:
    """Say something else of the training of one student of a row."""
    cell = made.cells[seed][arm]
    made.cells[seed][arm] = {
        **cell,
        "manifest": {**cell["manifest"], "training": {**cell["manifest"]["training"], **facts}},
    }


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


def test_what_older_files_do_not_say_is_not_compared() -> None:
    made = row(STEADY)
    for arms in made.cells.values():
        for arm in ("base", "trait"):
            facts = arms[arm]["manifest"]["training"]
            for name in ("micro_batch", "precision", "equal_lengths"):
                facts.pop(name, None)
    trained(made, 2, "trait", labelled_tokens=901)
    assert agreement(made).passed is True


def test_a_row_says_where_its_arms_do_not_share_dropout() -> None:
    made = read_results(ROOT / "results")[0][0]
    for shared in (True, False):
        trained(made, 0, "trait", shared_dropout=shared)
        (entry,) = summarise([made])
        assert any("dropout is not shared" in note for note in entry.notes) is not shared


def test_rows_say_where_margins_were_not_read_in_float32_or_not_as_the_teacher_writes() -> None:
    def notes(bf16: bool, teacher: str | None, others: str | None) -> list[str]:
        made = row([0.3, 0.2])
        made.experiment["recipe"]["carrier"] = {"bf16": bf16}
        for arms in made.cells.values():
            for arm, cell in arms.items():
                dtype = teacher if arm.startswith("teacher") else others
                cell["manifest"] = {**cell["manifest"], **({"margins_dtype": dtype} if dtype else {})}
        return list_notes(made)

    assert notes(False, None, None) == notes(True, "bfloat16", "float32") == notes(False, "float32", "float32") == []
    (before,) = notes(True, None, None)
    assert before.startswith("made before the teacher's shift was read in the precision in which it writes")
    (lower,) = notes(False, "bfloat16", "bfloat16")
    assert lower.startswith("margins were read in bfloat16")
