"""Rows are registered before they are run, and read back as they were registered."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from board import STEADY, ZERO, make_row, with_manifest, write_cells, write_row
from conftest import Bench

from bench.analysis.registration import (
    describe_registration,
    find_terms,
    propose_registration,
    refuse_other_cells,
    register,
)
from bench.analysis.registry import read_registry
from bench.analysis.registry_lines import Registration
from bench.analysis.result_files import read_results
from bench.analysis.result_writer import write_recipe_file, write_results
from bench.analysis.stats import mean_interval
from bench.cli import main
from bench.config.recipe_files import Experiment, load_recipe
from bench.errors import UserError
from bench.models.checkpoints import identify
from bench.pipeline.plan import environment_versions
from bench.pipeline.planner import make_plan
from bench.pipeline.store import Store

TEXTS = ["Write about rain.", "Write about tea.", "Write about a bridge.", "İki kelime yaz."]


@pytest.mark.slow
@pytest.mark.parametrize(("file", "head"), [("p.txt", []), ("prompt.csv", ["prompt"])])
def test_a_run_on_a_prompt_file_is_tabulated(
    bench: Bench, tmp_path: Path, gemma_like: Path, file: str, head: list[str]
) -> None:
    prompts = tmp_path / file
    prompts.write_text("\n".join([*head, *TEXTS]), encoding="utf-8")
    words = [
        f"carrier={{kind: text, rows: 3, held_out: 1, prompts: {{file: {prompts}}}, sample: {{max_new_tokens: 4}}}}",
        *(f"{role}.model={gemma_like}" for role in ("teacher", "student")),
        *(f"{role}.train={{max_steps: 1, per_device_train_batch_size: 2}}" for role in ("teacher", "student")),
    ]
    flags = [flag for word in words for flag in ("--set", word)]
    done = bench("--skip-controls", "--seeds", "1", *flags)
    assert "refused" not in done.stdout
    (row,), refused = read_results(tmp_path / "results")
    assert refused == []
    assert row.cells[0].keys() == {"untrained", "base", "trait", "teacher", "teacher_base"}


def test_a_row_that_is_not_on_the_board_is_a_failure_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.experiment.run_experiment", lambda *_: None)
    where = ["--store", str(tmp_path / "store"), "--results", str(tmp_path / "results")]
    assert main(["--skip-controls", *where]) == 1
    assert "its result files were refused" in capsys.readouterr().err


def enter(experiment: Experiment, store: Store, results: Path, published: Path | None) -> Registration:
    """Register an experiment with its plan."""
    return register(experiment, make_plan(experiment, identify), store, results, published)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def cross(*changes: str) -> Experiment:
    return load_recipe("tiny_cross", list(changes))


def test_a_row_without_its_reference_runs_and_says_how_none_comes_into_reach(store: Store, tmp_path: Path) -> None:
    registration = enter(cross(), store, tmp_path / "results", None)
    assert registration.bound is registration.reference is None
    (line,) = describe_registration(cross(), registration)
    mark = load_recipe("tiny_pair").hash()
    assert line.startswith(f"NONE is out of reach: the reference tiny_pair ({mark}) was not measured when this row was")
    assert (
        "run --recipe tiny_pair (with this row's other --set), then --recipe tiny_cross (with --set first_seed=10 once"
        in line
    )


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_the_bound_is_a_share_of_the_lower_end_of_a_finished_reference(
    store: Store, tmp_path: Path, share: float
) -> None:
    write_row(tmp_path / "published", make_row(STEADY))
    experiment = cross(f"reference={{recipe: tiny_pair, share: {share}}}")
    registration = enter(experiment, store, tmp_path / "results", tmp_path / "published")
    low = mean_interval(STEADY).low
    assert registration.reference
    assert registration.reference.gain_low == pytest.approx(low)
    assert registration.reference.recipe_hash == load_recipe("tiny_pair").hash()
    assert registration.bound == pytest.approx(share * low)
    assert describe_registration(experiment, registration) == []
    (row,), refused = read_results(tmp_path / "results")
    assert refused == []
    assert row.registration == registration


def test_a_reference_of_the_run_comes_before_a_published_one(store: Store, tmp_path: Path) -> None:
    write_row(tmp_path / "published", make_row(STEADY))
    write_row(tmp_path / "results", make_row([2 * gain for gain in STEADY]))
    registration = enter(cross(), store, tmp_path / "results", tmp_path / "published")
    assert registration.bound == pytest.approx(0.25 * 2 * mean_interval(STEADY).low)


@pytest.mark.parametrize(("gains", "state"), [(ZERO, "was INCONCLUSIVE"), (STEADY[:4], "had 4 of 10 seeds")])
def test_a_reference_that_is_no_finished_transfer_gives_no_bound(
    store: Store, tmp_path: Path, gains: list[float], state: str
) -> None:
    row = make_row([*gains, *[0.0] * (10 - len(gains))])
    for seed in range(len(gains), 10):
        del row.cells[seed]
    write_row(tmp_path / "results", row)
    registration = enter(cross(), store, tmp_path / "results", None)
    assert registration.bound is None
    assert f"{state} when this row was registered" in registration.bound_source


def test_a_reference_with_other_initial_weights_gives_no_bound(store: Store, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("from: tiny_pair\n")  # states no relation, so that no gate asks for it
    write_row(tmp_path / "results", make_row(STEADY, recipe=str(mine), relation="cross-init"))
    registration = enter(cross(f"reference={mine}"), store, tmp_path / "results", None)
    assert registration.bound is None
    assert "has other initial weights than its teacher (cross-init) when this row" in registration.bound_source


def test_a_later_run_of_the_reference_changes_nothing_for_a_row_with_results(store: Store, tmp_path: Path) -> None:
    results = tmp_path / "results"
    first = enter(cross(), store, results, None)
    row = make_row(ZERO, recipe="tiny_cross", relation="cross-init")
    write_cells(results, row)
    write_row(results, make_row(STEADY))
    before = (results / "registry.jsonl").read_bytes()
    assert (
        enter(cross(), store, results, None)
        == first
        == find_terms(cross(), make_plan(cross(), identify), store, results, results)
    )
    assert (results / "registry.jsonl").read_bytes() == before
    (read, _), refused = read_results(results)
    assert refused == []
    assert (read.name, read.registration) == ("tiny_cross", first)


def test_a_row_without_results_is_registered_again_with_its_bound(store: Store, tmp_path: Path) -> None:
    results = tmp_path / "results"
    enter(cross(), store, results, None)
    enter(cross(), store, results, None)
    assert len(read_registry(results).lines) == 1
    write_row(results, make_row(STEADY))
    second = enter(cross(), store, results, None)
    assert second.bound is not None
    lines = [line for line in read_registry(results).lines if line.entry.recipe == "tiny_cross"]
    assert [line.entry.bound for line in lines] == [None, second.bound]


def test_a_bound_in_nats_is_registered_with_its_reason(store: Store, tmp_path: Path) -> None:
    experiment = load_recipe("tiny_pair", ["bound={nats: .07, reason: too small to see}"])
    registration = enter(experiment, store, tmp_path / "results", None)
    assert (registration.bound, registration.bound_source, registration.reference) == (0.07, "too small to see", None)


def test_a_row_that_has_results_and_no_registration_is_not_run(store: Store, tmp_path: Path) -> None:
    results = tmp_path / "results"
    write_row(results, make_row(STEADY))
    (results / "registry.jsonl").unlink()
    with pytest.raises(UserError, match=r"has result files, and .*registry.jsonl does not hold its registration"):
        enter(load_recipe("tiny_pair"), store, results, None)


@pytest.mark.parametrize("damage", ["missing registry", "damaged recipe file"])
def test_a_row_with_results_finds_its_registration_in_the_store_again(
    store: Store, tmp_path: Path, damage: str
) -> None:
    results = tmp_path / "results"
    first = enter(cross(), store, results, None)
    write_cells(results, make_row(ZERO, recipe="tiny_cross"))
    if damage == "missing registry":
        (results / "registry.jsonl").unlink()
        assert "registry.jsonl is missing; its result files are left out" in read_results(results)[1][0]
    else:
        next(results.glob("*/*.recipe.json")).write_text("{")
    assert enter(cross(), store, results, None) == first
    if damage == "damaged recipe file":  # which is named and written again at the start of the run
        write_recipe_file(cross(), first, results)
    (row,), refused = read_results(results)
    assert (refused, len(row.cells)) == ([], 10)


def test_results_inside_the_store_have_a_chain_of_their_own(store: Store) -> None:
    enter(load_recipe("tiny_pair"), store, store.root / "smoke", None)
    assert read_registry(store.root).lines == ()
    assert len(read_registry(store.root / "smoke").lines) == 1


def test_two_stores_share_a_results_folder(tmp_path: Path) -> None:
    for name, recipe in (("a", "tiny_pair"), ("b", "tiny_cross"), ("a", "tiny_noise")):
        enter(load_recipe(recipe), Store(tmp_path / name), tmp_path / "results", None)
    registry = read_registry(tmp_path / "results")
    assert registry.problems == ()
    assert len({line.chain for line in registry.lines}) == 2
    assert {entry.recipe for entry in registry.entries} == {"tiny_pair", "tiny_cross", "tiny_noise"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["seeds=3"], r"EXPLORATORY: 3 seeds cannot reach the level of 0.05 .*: 0.25\).* --seeds 6 or more"),
        (["seeds=1"], r"EXPLORATORY: 1 seed cannot reach the level of 0.05 .*: 1\).* --seeds 6 or more"),
        (
            ["level=.01", "seeds=7"],
            r"EXPLORATORY: 7 seeds cannot reach the level of 0.01 .*: 0.016\).* --seeds 8 or ",
        ),
        (["repeat=students"], r"EXPLORATORY: 10 students of one teacher and one data set \(repeat: students, seed 0\)"),
    ],
)
def test_too_few_seeds_for_any_verdict_are_stated_before_the_run(
    tmp_path: Path, changes: list[str], message: str
) -> None:
    experiment = cross(*changes)
    (line,) = describe_registration(experiment, propose_registration(experiment, [tmp_path], "c"))
    assert re.search(message, line)
    enough = cross("level=.01", "seeds=8", "reference=null", "bound={nats: .1, reason: r}")
    assert describe_registration(enough, propose_registration(enough, [tmp_path], "c")) == []
    boundless = cross("reference=null")
    (line,) = describe_registration(boundless, propose_registration(boundless, [tmp_path], "c"))
    assert line == "NONE is out of reach: the recipe states neither bound nor reference."
    for samples, lines in ((1, 1), (2, 0)):  # of 56 questions
        settings = ["outcome=rate", f"evaluate.samples={samples}", "bound={points: 3, reason: r}"]
        rates = load_recipe("tiny_pair", settings)
        stated = describe_registration(rates, propose_registration(rates, [tmp_path], "c"))
        assert len(stated) == lines
        assert all("the bound of 3 points is fewer than 2 of the 56 x 1 answers" in line for line in stated), stated


def test_a_row_whose_students_were_evaluated_keeps_its_terms_in_any_folder(store: Store, tmp_path: Path) -> None:
    first = enter(cross(), store, tmp_path / "one", None)
    assert first.bound is None
    write_row(tmp_path / "published", make_row(STEADY))
    evaluation = next(cell.evaluation for cell in make_plan(cross(), identify).results if cell.arm == "trait")
    with store.make(evaluation, {"commit": "c"}):
        pass
    assert enter(cross(), store, tmp_path / "two", tmp_path / "published") == first


def test_a_finished_reference_of_the_run_decides_before_a_published_one(store: Store, tmp_path: Path) -> None:
    write_row(tmp_path / "results", make_row(STEADY, fit=0.0))  # INVALID here
    write_row(tmp_path / "published", make_row(STEADY))
    registration = enter(cross(), store, tmp_path / "results", tmp_path / "published")
    assert registration.bound is None
    assert "was INVALID" in registration.bound_source


def test_cells_of_other_code_are_named_and_not_replaced(tmp_path: Path) -> None:
    experiment = load_recipe("tiny_pair")
    row = make_row(STEADY)
    cell = row.cells[0]["trait"]
    row.cells[0]["trait"] = with_manifest(cell, versions={**environment_versions(), "torch": "1.0"})
    write_row(tmp_path, row)
    plan = make_plan(experiment, identify)
    with pytest.raises(
        UserError, match=r"50 result files of tiny_pair .*\(.*torch 1.0, 2.0, now .*commit c, now"
    ) as error:
        refuse_other_cells(experiment, plan, tmp_path)
    assert "--results DIR" in str(error.value)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    lines: list[str] = []
    write_results(experiment, row.registration, plan, Store(tmp_path / "store"), tmp_path, None, lines.append)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json")} == before
