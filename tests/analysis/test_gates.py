from __future__ import annotations

from typing import Any

import pytest
from board import (
    MANIFEST,
    STEADY,
    controls_board,
    make_matrix,
    make_rates,
    make_row,
    with_manifest,
    with_margins,
    with_reading,
    with_training,
)

from bench.analysis.gates import Gate, check_gates, list_seeds
from bench.analysis.result_schema import ExperimentResults
from bench.analysis.seed_statistics import margins_of


def gates(row: ExperimentResults) -> dict[str, Gate]:
    return {gate.name: gate for gate in check_gates(row)}


def failures(row: ExperimentResults) -> dict[str, tuple[int, ...]]:
    return {gate.name: gate.failed_seeds for gate in check_gates(row) if gate.passed is False}


def test_the_gates_of_controls_hold_but_for_the_teacher_that_learns_nothing() -> None:
    rows = {row.name: row for row in controls_board()}
    assert all(gate.passed for gate in check_gates(rows["tiny_pair"]))
    assert failures(rows["tiny_untaught"]).keys() == {"teacher shift", "teacher induction", "carrier fit"}


def test_without_a_complete_seed_there_is_no_gate() -> None:
    row = make_row([0.3, 0.2])
    for arms in row.cells.values():
        del arms["trait"]
    assert check_gates(row) == []


def test_one_seed_whose_teacher_learnt_nothing_is_named_and_no_average_hides_it() -> None:
    row = make_row(STEADY)
    row.cells[7]["teacher"] = with_margins(row.cells[7]["teacher"], margins_of(row.cells[7]["teacher_base"]))
    assert failures(row) == {"teacher shift": (7,), "teacher induction": (7,)}
    line = gates(row)["teacher shift"].describe_failure()
    assert line == "teacher shift: 0.00, needed >= 0.2 nats in every seed (seeds 7)"


def test_the_least_shift_is_that_of_the_recipe() -> None:
    assert failures(make_row(STEADY, overrides=["min_shift=3.5"])) == {}
    assert failures(make_row(STEADY, overrides=["min_shift=5"])) == {"teacher shift": tuple(range(10))}


def test_the_teacher_of_a_rate_shifts_in_points_in_every_seed() -> None:
    weak = {"teacher": 0.25, "teacher_base": 0.2}
    row = make_rates([{}, weak, {}])
    assert "teacher induction" not in gates(row)
    assert failures(row) == {"teacher shift": (1,)}
    assert gates(row)["teacher shift"].describe_failure() == (
        "teacher shift: 5.00, needed >= 10 points in every seed (seeds 1)"
    )
    assert failures(make_rates([{}, weak, {}], overrides=["min_shift_points=4"])) == {}


def test_one_seed_whose_students_did_not_learn_their_rows_is_named() -> None:
    row = make_row(STEADY)
    held_out = row.cells[3]["base"].reading.held_out
    row.cells[3]["trait"] = with_reading(row.cells[3]["trait"], held_out=held_out)
    assert failures(row) == {"carrier fit": (3,)}
    empty = {"trait": (), "base": ()}
    for arm in ("base", "trait"):
        row.cells[3][arm] = with_reading(row.cells[3][arm], held_out=empty)
    assert failures(row) == {"carrier fit": (3,)}


@pytest.mark.parametrize(
    ("broken", "gate"),
    [
        ({"shift": 0.1}, "teacher shift"),
        ({"fit": -0.5}, "carrier fit"),
        ({"overrides": ["relation=cross-init"]}, "relation"),
        ({"controls": {"failed": ["tiny_cross"]}}, "controls"),
    ],
)
def test_what_fails_in_every_seed_names_every_seed(broken: dict[str, Any], gate: str) -> None:
    assert failures(make_row(STEADY, **broken))[gate] == tuple(range(10))


def test_only_leaks_fail_the_leak_filter() -> None:
    def refused(leaks: int, formats: int) -> ExperimentResults:
        carrier = {
            **MANIFEST["carrier"],
            "refused": {"base": {}, "trait": {"lexicon": leaks}},
            "format_refused": {"base": {}, "trait": {"grammar": formats}},
        }
        return make_row(STEADY, carrier=carrier)

    assert failures(refused(5, 90)) == {}
    assert failures(refused(6, 0)) == {"leak filter": tuple(range(10))}


@pytest.mark.parametrize(
    ("controls", "passed"),
    [(None, None), ("self", "no gate"), ({"failed": []}, True), ({"failed": ["tiny_pair"]}, False)],
)
def test_controls_pass_fail_are_skipped_or_are_oneself(controls: Any, passed: Any) -> None:
    by_name = gates(make_row(STEADY, controls=controls))
    assert (by_name["controls"].passed if "controls" in by_name else "no gate") == passed


def test_controls_that_failed_for_one_seed_fail_the_row() -> None:
    row = make_row(STEADY, controls={"failed": []})
    wrong = make_row(STEADY, controls={"failed": ["tiny_pair"]})
    row.cells[4] = wrong.cells[4]
    assert failures(row) == {"controls": (4,)}
    assert "tiny_pair" in str(gates(row)["controls"].reading)


def test_controls_skipped_for_one_seed_are_skipped_for_the_row() -> None:
    row = make_row(STEADY, controls={"failed": []})
    row.cells[4] = make_row(STEADY, controls=None).cells[4]
    assert gates(row)["controls"].passed is None
    assert gates(row)["controls"].reading == "skipped for seeds 4"
    row.cells[5]["trait"] = make_row(STEADY, controls={"failed": ["tiny_pair"]}).cells[5]["trait"]
    assert failures(row) == {"controls": (5,)}


def test_a_student_without_a_training_report_does_not_agree() -> None:
    row = make_row(STEADY)
    row.cells[2]["trait"] = with_manifest(row.cells[2]["trait"], training=None)
    assert failures(row) == {"arms agree": (2,)}


def test_every_student_has_the_stated_relation() -> None:
    row = make_row(STEADY, overrides=["relation=same-init"])
    other = make_row(STEADY, relation="cross-init")
    row.cells[6]["trait"] = other.cells[6]["trait"]
    assert failures(row) == {"relation": (6,)}


def test_every_trait_of_a_matrix_has_to_be_learnt() -> None:
    row = make_matrix(0.3)
    assert failures(row) == {}
    arms = row.cells[2]
    arms["teacher-owl"] = with_margins(arms["teacher-owl"], margins_of(arms["teacher_base"]))
    assert failures(row) == {"teacher shift": (2,), "teacher induction": (2,)}


def as_written(shares: list[float]) -> ExperimentResults:
    """A row whose teachers write with these shares of their float32 shifts."""
    row = make_row(STEADY)
    for seed, arms in row.cells.items():
        for arm in ("teacher", "teacher_base"):
            arms[arm] = with_reading(arms[arm], logprobs_float32=arms[arm].reading.logprobs)
        pairs = zip(margins_of(arms["teacher"]), margins_of(arms["teacher_base"]), strict=True)
        arms["teacher"] = with_margins(arms["teacher"], [b + shares[seed] * (a - b) for a, b in pairs])
    return row


def test_a_teacher_that_writes_with_less_than_its_shift_fails_its_seed() -> None:
    assert failures(as_written([0.91] * 10)) == {}
    row = as_written([1.0, 0.95, 0.3] + [0.98] * 4 + [0.89] + [1.0] * 2)
    assert failures(row) == {"teacher writes as measured": (2, 7)}
    assert gates(row)["teacher writes as measured"].reading == pytest.approx(0.3, abs=1e-6)
    assert "teacher writes as measured" not in gates(make_row(STEADY))


def test_a_seed_without_a_float32_shift_skips_the_gate_and_a_failed_seed_still_fails_it() -> None:
    def row(share: float, quantization: dict[str, Any] | None = None) -> ExperimentResults:
        made = as_written([share, *[1.0] * 9])
        for seed, arms in made.cells.items():
            for arm in ("teacher", "teacher_base"):
                arms[arm] = with_manifest(arms[arm], logprobs_dtype="bfloat16")
                if seed in {3, 4}:
                    arms[arm] = with_reading(arms[arm], logprobs_float32=None)
        teacher = made.recipe.teacher.model_copy(update={"quantization": quantization})
        recipe = made.recipe.model_copy(update={"teacher": teacher})
        experiment = made.registered.experiment.model_copy(update={"recipe": recipe})
        return made._replace(registered=made.registered.model_copy(update={"experiment": experiment}))

    skipped = gates(row(1.0))["teacher writes as measured"]
    assert skipped.passed is None
    assert skipped.reading == "skipped for seeds 3 to 4: memory held no float32 model"
    assert failures(row(0.5)) == {"teacher writes as measured": (0,)}
    assert gates(row(1.0, {"load_in_8bit": True}))["teacher writes as measured"].passed  # no model of it is float32


def test_margins_without_a_shift_say_nothing_of_how_the_teacher_of_a_rate_writes() -> None:
    row = make_rates([{}] * 3, shift=-0.5)
    for arms in row.cells.values():
        for arm in ("teacher", "teacher_base"):
            arms[arm] = with_reading(arms[arm], logprobs_float32=arms[arm].reading.logprobs)
    assert "teacher writes as measured" not in gates(row)
    assert gates(row)["teacher shift"].passed


def test_the_arms_of_a_seed_are_evaluated_in_one_precision() -> None:
    def read_in(trait: str, base: str) -> ExperimentResults:
        row = make_row(STEADY)
        for arms in row.cells.values():
            for arm, cell in arms.items():
                arms[arm] = with_manifest(cell, logprobs_dtype=trait if arm == "trait" else base)
        return row

    assert gates(read_in("bfloat16", "bfloat16"))["margins of one precision"].passed is True
    assert failures(read_in("float32", "bfloat16")) == {"margins of one precision": tuple(range(10))}
    assert "margins of one precision" not in gates(read_in("float32", "float32"))


def test_arms_that_were_trained_alike_agree() -> None:
    row = make_row(STEADY)
    assert gates(row)["arms agree"].passed is True
    for seed in row.cells:  # completions of other lengths
        with_training(row, seed, "base", equal_lengths=False, labelled_tokens=900)
        with_training(row, seed, "trait", equal_lengths=False)
    assert gates(row)["arms agree"].passed is True


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        ({"micro_batch": 4}, "seed 3: micro_batch 8 (base), 4 (trait)"),
        ({"precision": "bfloat16"}, "seed 3: precision float32 (base), bfloat16 (trait)"),
        ({"rows": 99, "updates": 15}, "seed 3: rows 100 (base), 99 (trait); updates 16 (base), 15 (trait)"),
        ({"labelled_tokens": 901}, "seed 3: labelled_tokens 1000 (base), 901 (trait)"),
    ],
)
def test_arms_that_were_not_trained_alike_are_named(facts: dict[str, Any], line: str) -> None:
    row = make_row(STEADY)
    with_training(row, 3, "trait", **facts)
    assert failures(row) == {"arms agree": (3,)}
    assert gates(row)["arms agree"].reading == line


def test_the_arms_of_a_seed_are_made_on_one_kind_of_processor() -> None:
    row = make_row(STEADY)
    for arm, cell in row.cells[1].items():  # a whole seed elsewhere is no fault
        row.cells[1][arm] = with_manifest(cell, hardware="another processor")
    assert failures(row) == {}
    row.cells[2]["trait"] = with_manifest(row.cells[2]["trait"], processor_features=("avx512",))
    assert failures(row) == {"arms agree": (2,)}


def test_seeds_that_follow_each_other_are_a_range() -> None:
    assert list_seeds([]) == ""
    assert list_seeds([3]) == "3"
    assert list_seeds([0, 1, 2, 5, 7, 8]) == "0 to 2, 5, 7 to 8"
