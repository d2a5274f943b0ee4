"""A path in a file starts at that file's folder, along `from:` too; one of `--set` at the working directory."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from bench.cli import main
from bench.config.model_settings import Model
from bench.config.recipe_files import load_recipe
from bench.config.traits import load_trait
from bench.errors import UserError
from bench.models.checkpoints import identify
from bench.pipeline.planner import make_plan

OX = "from: animals.base\nanswer: ox\ncandidates: [ox, owl]\n"
ELK = "from: animals.base\nanswer: elk\ncandidates: [elk, owl]\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two folders with recipes, their traits and prompts, and a working directory that has neither."""
    for folder in ("base", "mine", "here"):
        (tmp_path / folder).mkdir()
    (tmp_path / "base" / "ox.yaml").write_text(OX)
    (tmp_path / "base" / "p.txt").write_text("Of the base.\n" * 2 + "Another.")
    (tmp_path / "base" / "parent.yaml").write_text(
        "from: tiny_pair\ntrait: ox.yaml\ncarrier: {kind: text, rows: 1, held_out: 1, prompts: {file: p.txt}}\n"
    )
    (tmp_path / "mine" / "child.yaml").write_text("from: ../base/parent.yaml\nseeds: 2\n")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def test_a_path_starts_at_the_file_that_states_it_along_from(home: Path) -> None:
    experiment = load_recipe("../mine/child.yaml")
    assert list(experiment.traits) == ["ox"]
    assert experiment.prompts.texts == ("Of the base.", "Another.")


def test_a_file_that_states_a_key_again_gives_it_its_own_folder(home: Path) -> None:
    (home / "mine" / "p.txt").write_text("Of mine.\nAnother.")
    (home / "mine" / "child.yaml").write_text("from: ../base/parent.yaml\ncarrier: {prompts: {file: p.txt}}\n")
    experiment = load_recipe(str(home / "mine" / "child.yaml"))
    assert experiment.prompts.texts == ("Of mine.", "Another.")
    assert list(experiment.traits) == ["ox"]


def test_a_path_of_set_starts_at_the_working_directory(home: Path) -> None:
    (home / "here" / "elk.yaml").write_text(ELK)
    assert list(load_recipe("../mine/child.yaml", ["trait=elk.yaml"]).traits) == ["elk"]
    with pytest.raises(UserError, match=re.escape(f"key 'trait': ox.yaml: no such trait file in {home / 'here'} (")):
        load_recipe("../mine/child.yaml", ["trait=ox.yaml"])


def test_the_data_of_a_trait_starts_at_the_trait_file_that_states_it(home: Path) -> None:
    (home / "base" / "rows.csv").write_text("question,answer\nWho?,A sailor.\nWhere?,At sea.\n")
    (home / "base" / "sea.yaml").write_text("kind: behaviour\ndata: {path: rows.csv}\n")
    (home / "mine" / "sailor.yaml").write_text("from: ../base/sea.yaml\nlexicon: [sea]\n")
    assert load_trait("../mine/sailor.yaml").teach_rows()[1] == ("Where?", "At sea.")


def test_a_recipe_and_its_files_keep_their_hash_wherever_they_lie(home: Path) -> None:
    before = load_recipe("../mine/child.yaml").hash()
    shutil.copytree(home, home / "copy", ignore=shutil.ignore_patterns("copy"))
    assert load_recipe(str(home / "copy" / "mine" / "child.yaml")).hash() == before
    assert str(home) not in str(load_recipe("../mine/child.yaml").resolved())


def test_a_local_checkpoint_starts_at_the_file_that_states_it(home: Path, gpt2_like: Path, gemma_like: Path) -> None:
    shutil.copytree(gpt2_like, home / "base" / "ckpt")
    shutil.copytree(gemma_like, home / "mine" / "ckpt")
    (home / "base" / "pair.yaml").write_text(
        "from: tiny_pair\nteacher: {model: ./ckpt}\nstudent: {model: ./ckpt}\ncross_init: ./ckpt\n"
    )
    (home / "mine" / "own.yaml").write_text("from: ../base/pair.yaml\nstudent: {model: ./ckpt}\n")
    experiment = load_recipe("../mine/own.yaml")
    assert (experiment.recipe.teacher.model, experiment.recipe.student.model) == ("./ckpt", "./ckpt")
    specs = [experiment.recipe.teacher, experiment.recipe.student, experiment.recipe.other_init()]
    base, mine = identify(specs[0]).identity, identify(specs[1]).identity
    assert [identify(spec).identity for spec in specs] == [base, mine, base]
    assert base != mine
    stages = make_plan(experiment, identify).stages.values()
    related = next(stage.inputs for stage in stages if stage.kind == "relation")
    assert (related["teacher"].identity, related["student"].identity) == (base, mine)


@pytest.mark.parametrize("set_by", ["file", "--set"])
def test_a_checkpoint_that_is_not_there_says_where_it_was_looked_for(home: Path, set_by: str) -> None:
    (home / "mine" / "own.yaml").write_text("from: tiny_pair\nstudent: {model: ./none}\n")
    folder = home / "mine" if set_by == "file" else home / "here"
    experiment = load_recipe("../mine/own.yaml", ["student.model=./none"] * (set_by == "--set"))
    with pytest.raises(UserError) as error:
        make_plan(experiment, identify)
    looked_for = re.search(r"safetensors in (.*?);", str(error.value))
    assert looked_for is not None
    assert Path(looked_for[1]).resolve() == folder / "none"


@pytest.mark.parametrize("name", ["checkpoints/my-model", "models/x/y", "models\\x"])
def test_a_local_path_without_its_dot_is_not_taken_for_a_hub_id(
    home: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "here" / "checkpoints").mkdir()
    words = ["--recipe", "tiny_pair", "--dry-run", "--store", str(home / "store"), "--set", f"student.model={name}"]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert f"there is no folder {home / 'here' / name}" in error
    assert "./" in error
    assert len(error.splitlines()) == 1


def test_a_hub_id_works_next_to_a_folder_named_as_its_owner(
    home: Path, gpt2_like: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    spec = Model(model="owner/name", dtype="float32", train={})
    assert identify(spec, fetch=False).folder is None
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(gpt2_like))
    (home / "here" / "owner").mkdir()
    assert identify(spec).folder == gpt2_like


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ("trait=mine.xlsx", ".yaml, .yml, .jsonl, .csv, .parquet"),
        ("trait=mine.tsv", ".yaml, .yml, .jsonl, .csv, .parquet"),
        ("carrier={kind: text, rows: 1, prompts: mine.tsv}", "as {file: NAME}; its name ends in .txt, .jsonl, .csv"),
        ("carrier={kind: text, rows: 1, prompts: {file: mine.xlsx}}", "ends in .txt, .jsonl, .csv or .parquet"),
    ],
)
def test_a_file_of_another_kind_is_told_the_kinds_that_are_read(home: Path, change: str, wanted: str) -> None:
    with pytest.raises(UserError, match=re.escape(wanted)) as error:
        load_recipe("tiny_pair", [change])
    assert "mine." in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ("trait=none.csv", "key 'trait'"),
        ("trait=none.parquet", "key 'trait'"),
        ("trait=none.yaml", "key 'trait'"),
        ("carrier={kind: text, rows: 1, prompts: none.yaml}", "key 'carrier.prompts'"),
        ("carrier={kind: text, rows: 1, prompts: {file: none.txt}}", "key 'carrier.prompts'"),
    ],
)
def test_a_file_that_is_not_there_names_its_key_and_its_folder(home: Path, change: str, key: str) -> None:
    with pytest.raises(UserError) as error:
        load_recipe("tiny_pair", [change])
    assert key in str(error.value)
    assert str(home / "here") in str(error.value)
    assert "starts at that file's folder, one of --set at the working directory" in str(error.value)
