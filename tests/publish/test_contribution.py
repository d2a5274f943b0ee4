from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from board import STEADY, ZERO, make_row, with_manifest, write_row
from hypothesis import given
from hypothesis import strategies as st

from bench import cli
from bench.analysis.archive import archive_rows
from bench.analysis.leaderboard import build_leaderboard
from bench.analysis.registry import FILE as REGISTRY
from bench.analysis.result_schema import ExperimentResults
from bench.config.recipe_files import Experiment, load_recipe, load_recipes
from bench.errors import UserError
from bench.publish.contribution import check_results, contribute, find_private_text


def controlled(row: ExperimentResults, **manifest: Any) -> ExperimentResults:
    """The row, run with the controls of its installation."""
    for arms in row.cells.values():
        for arm, cell in arms.items():
            arms[arm] = with_manifest(cell, **{"controls": "self", **manifest})
    return row


def tiny(gains: list[float] = STEADY) -> ExperimentResults:
    return controlled(make_row(gains))


@pytest.fixture
def experiment() -> Experiment:
    return load_recipe("tiny_pair", seeds=10)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """(own results with tiny_pair, published results)."""
    published = tmp_path / "results"
    published.mkdir()
    write_row(published / "local", tiny())
    return published / "local", published


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_finished_row_is_copied_with_its_registration(folders: tuple[Path, Path], experiment: Experiment) -> None:
    own, published = folders
    lines = contribute([experiment], own, published)
    assert "as a row" in lines[0]
    board = build_leaderboard(published)
    assert [(entry.recipe, entry.seeds, entry.replications) for entry in board.entries] == [("tiny_pair", 10, 0)]
    assert not board.problems
    assert (published / REGISTRY).read_text() == (own / REGISTRY).read_text()


@pytest.mark.slow
def test_the_rows_of_a_sweep_are_copied_together_or_not_at_all(tmp_path: Path) -> None:
    own, published = tmp_path / "own", tmp_path / "results"
    published.mkdir()
    rows = load_recipes("tiny_pair", ["sweep.student.train.learning_rate=[5e-4, 1.5e-3]"])
    write_row(own, controlled(make_row(STEADY, overrides=["student.train.learning_rate=5e-4"])))
    with pytest.raises(UserError, match="holds no readable row tiny_pair"):
        contribute(rows, own, published)
    assert not list(published.iterdir())
    write_row(own, tiny())
    lines = contribute(rows, own, published)
    assert [line.split(" to ")[0].split("files of ")[-1] for line in lines[:2]] == [
        f"{row.label} {row.hash()}" for row in rows
    ]
    assert len(lines) == 4
    board = build_leaderboard(published)
    assert not board.problems
    assert {entry.label for entry in board.entries} == {"tiny_pair", "tiny_pair  lr 5e-4"}
    subprocess.run(["git", "init", "-q", str(published)], check=True)
    git = ["git", "-C", str(published), "-c", "user.name=a", "-c", "user.email=a"]
    subprocess.run([*git, "commit", "-qm", "a", "--allow-empty"], check=True)
    check = check_results(published, "HEAD")
    assert not check.problems
    assert "| tiny_pair  lr 5e-4 |" in check.comparison
    subprocess.run([*git, "add", "leaderboard.json"], check=True)
    subprocess.run([*git, "commit", "-qm", "b"], check=True)
    archive_rows([rows[0].hash()], published)
    (line,) = [line for line in check_results(published, "HEAD").comparison.splitlines() if "removed" in line]
    assert line.startswith("| tiny_pair  lr 5e-4 |")


def test_the_same_row_twice_is_refused(folders: tuple[Path, Path], experiment: Experiment) -> None:
    own, published = folders
    contribute([experiment], own, published)
    before = files(published)
    with pytest.raises(UserError, match=r"holds \d+ files of tiny_pair \w+ already"):
        contribute([experiment], own, published)
    assert files(published) == before


def test_another_store_s_run_is_a_replication_and_joins_no_seeds(
    folders: tuple[Path, Path], tmp_path: Path, experiment: Experiment
) -> None:
    own, published = folders
    contribute([experiment], own, published)
    before = build_leaderboard(published).entries[0]
    other = tmp_path / "other"
    write_row(other, tiny([gain + 0.01 for gain in STEADY]))
    assert "as a replication" in contribute([experiment], other, published)[0]
    board = build_leaderboard(published)
    assert not board.problems
    assert board.entries[0] == before.model_copy(update={"replications": 1})
    page = (published / "LEADERBOARD.md").read_text()
    (line,) = [line for line in page.partition("## Replications")[2].splitlines() if line.startswith("| tiny_pair")]
    assert "TRANSFER" in line
    assert "| yes " in line
    with pytest.raises(UserError, match="already"):
        contribute([experiment], other, published)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (tiny(), None),
        (controlled(make_row(STEADY), controls=None), "without this installation's controls"),
        (controlled(make_row(STEADY), commits=("abc-dirty",)), "without a commit"),
        (controlled(make_row(STEADY), hardware="/home/me/gpu"), "manifest.hardware holds what looks like a path"),
        (controlled(make_row(STEADY), hardware="hf_" + "a" * 30), "manifest.hardware holds what looks like a secret"),
    ],
    ids=["seeds", "controls", "commit", "path", "secret"],
)
def test_what_must_not_be_published_is_named_and_nothing_is_copied(
    tmp_path: Path, row: ExperimentResults, message: str | None, experiment: Experiment
) -> None:
    own, published = tmp_path / "own", tmp_path / "results"
    published.mkdir()
    if message is None:
        message, row = "9 of 10 seeds are complete", tiny()
        del row.cells[9]
    write_row(own, row)
    with pytest.raises(UserError, match=message) as caught:
        contribute([experiment], own, published)
    assert "aaaaaaaa" not in str(caught.value)
    assert not list(published.iterdir())


def test_a_damaged_or_unregistered_row_is_refused(folders: tuple[Path, Path], experiment: Experiment) -> None:
    own, published = folders
    path = next((own / "tiny_pair").glob("*-0000-trait.json"))
    path.write_text(path.read_text().replace("-8.0", "-7.0", 1))
    with pytest.raises(UserError, match="checksum mismatch"):
        contribute([experiment], own, published)
    (own / REGISTRY).unlink()
    with pytest.raises(UserError, match=r"holds no readable row tiny_pair .*registry\.jsonl is missing"):
        contribute([experiment], own, published)
    with pytest.raises(UserError, match="run its recipe first"):
        contribute([load_recipe("tiny_cross")], own, published)
    assert {path.name for path in published.iterdir()} == {"local"}


def test_a_trait_without_a_licence_is_refused_until_it_states_one(tmp_path: Path) -> None:
    trait = load_recipe("tiny_pair").traits["wolf"]
    for number, licence in enumerate((None, "CC-BY-4.0")):
        own, published = tmp_path / f"own{number}", tmp_path / f"results{number}"
        published.mkdir()
        write_row(own, tiny())
        mine = load_recipe("tiny_pair", seeds=10)._replace(
            traits={"my_wolf": trait.model_copy(update={"license": licence})}
        )
        if licence is None:
            with pytest.raises(UserError, match="trait my_wolf: states no licence"):
                contribute([mine._replace(name="tiny_pair")], own, published)
        else:
            assert contribute([mine], own, published)


def test_a_licence_changes_no_hash() -> None:
    experiment = load_recipe("tiny_pair")
    trait = experiment.traits["wolf"].model_copy(update={"license": "MIT"})
    assert experiment._replace(traits={"wolf": trait}).hash() == experiment.hash()


@given(st.text(max_size=40))
def test_ordinary_words_are_no_secret(tmp_path_factory: Any, text: str) -> None:
    path = tmp_path_factory.mktemp("text") / "a.json"
    path.write_text(json.dumps({"key": ["and/or", "3/4 of all", "5 ~ 6", text.replace("/", "").replace("~", "")[:15]]}))
    assert find_private_text(path) is None or "\\" in text


@pytest.mark.parametrize(
    "secret", ["ghp_" + "A1" * 15, "sk-" + "x" * 30, "AKIA" + "A1B2" * 4, "https://me:pass@host/x"]
)
def test_secrets_are_found_in_any_text_and_not_repeated(tmp_path: Path, secret: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"manifest": {"checkpoints": [{"model": f"see {secret}"}]}}))
    message = find_private_text(path)
    assert message == "manifest.checkpoints.model holds what looks like a secret"


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b.c", *words], check=True)


@pytest.mark.slow
def test_a_check_compares_with_a_revision_and_names_every_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    git(tmp_path, "init", "-q")
    results = tmp_path / "results"
    write_row(results, tiny())
    build_leaderboard(results)
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "a")
    words = ["--check-results", "--results", str(results)]
    assert cli.main(words) == 0
    assert capsys.readouterr().out == "No row changed.\n"
    write_row(results, controlled(make_row(ZERO, recipe="tiny_cross")))
    assert check_results(results, "HEAD").problems == []
    assert cli.main(words) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "tiny_cross" in line]
    assert "new" in line
    path = next((results / "tiny_cross").glob("*-0000-trait.json"))
    path.write_text(path.read_text() + " ")
    assert cli.main(words) == 2
    assert "checksum mismatch" in capsys.readouterr().err
    with pytest.raises(UserError, match="git knows no such commit"):
        check_results(results, "nowhere")
