from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import LORA, QUICK, Bench, rows, spec

from bench.errors import UserError
from bench.models.loading import load_tokenizer
from bench.stages.tracking import Tracking, check_tool
from bench.stages.train import train_model
from bench.stages.training_curve import read_curve

NAMES = ("loss", "learning_rate", "grad_norm")
# Records what the integration of transformers calls; the real package needs an account or writes files of its own.
STUB = """
from unittest.mock import MagicMock
run, calls, config, define_metric, termwarn = None, [], MagicMock(), MagicMock(), MagicMock()
def init(**options):
    global run
    run = MagicMock()
    calls.append(("init", options))
def log(values):
    calls.append(("log", dict(values)))
def finish():
    global run
    run = None
    calls.append(("finish", {}))
"""


def train(folder: Path, out: Path, tracking: Tracking | None) -> dict[str, bytes]:
    """Train with dropout, and return the files of the artefact."""
    out.mkdir(parents=True)
    train_model(
        rows(folder), checkpoint=folder, tokenizer=load_tokenizer(folder), seed=3, out=out,
        spec=spec().model_copy(update={"lora": LORA}), progress=lambda done, of: None, tracking=tracking,
    )  # fmt: skip
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.fixture
def wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The stub, and the variables that tracking sets restored at the end."""
    folder = tmp_path / "packages" / "wandb"
    (folder / "sdk" / "lib").mkdir(parents=True)
    for part in ("sdk", "sdk/lib"):
        (folder / part / "__init__.py").touch()
    (folder / "sdk" / "lib" / "config_util.py").write_text("class ConfigError(Exception): pass\n")
    (folder / "__init__.py").write_text(STUB)
    monkeypatch.syspath_prepend(folder.parent)
    for name in ("WANDB_PROJECT", "TENSORBOARD_LOGGING_DIR"):
        monkeypatch.setenv(name, "before")
    monkeypatch.delenv("WANDB_PROJECT")
    import wandb as stub

    yield stub
    for name in [name for name in sys.modules if name.partition(".")[0] == "wandb"]:
        del sys.modules[name]


@pytest.mark.slow
def test_a_tracked_training_reports_each_update_and_writes_the_same_artefact(
    gpt2_like: Path, tmp_path: Path, wandb: Any
) -> None:
    plain = train(gpt2_like, tmp_path / "plain", None)
    assert wandb.calls == []
    for run in ("student trait, seed 3", "student base, seed 3"):
        wandb.calls.clear()
        assert train(gpt2_like, tmp_path / run, Tracking("wandb", run, tmp_path / "unused")) == plain
        (first, options), *logs, last = wandb.calls
        assert (first, options) == ("init", {"project": "subliminal-bench", "name": run})
        assert last == ("finish", {})  # the next training starts its own run
        values = [values for _, values in logs if "train/loss" in values]
        curve = read_curve(tmp_path / "plain")
        assert [value["train/global_step"] for value in values] == [1, 2, 3, 4, 5, 6]
        for name in NAMES:
            assert [value[f"train/{name}"] for value in values] == pytest.approx(curve[name], rel=1e-5)


def test_a_training_that_fails_ends_its_run(
    gpt2_like: Path, tmp_path: Path, wandb: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise KeyError("a failure")

    monkeypatch.setattr(wandb, "log", fail)
    with pytest.raises(KeyError):
        train(gpt2_like, tmp_path / "out", Tracking("wandb", "run", tmp_path))
    assert wandb.calls[-1] == ("finish", {})


def test_a_missing_package_is_refused_before_anything_runs(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="the package no_such_tool is not installed; run: pip install no_such_tool"):
        check_tool("no_such_tool")
    check_tool("torch")
    assert "--track needs a run" in bench("--track", "wandb", "--dry-run", code=2).stderr
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    done = bench("--track", "wandb", code=2)
    assert done.stderr == "error: --track wandb: the package wandb is not installed; run: pip install wandb\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.extras
def test_tensorboard_holds_the_curve(gpt2_like: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.setenv("WANDB_PROJECT", "restored at the end")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", "restored at the end")
    plain = train(gpt2_like, tmp_path / "plain", None)
    assert train(gpt2_like, tmp_path / "out", Tracking("tensorboard", "a run", tmp_path / "boards")) == plain
    board = events.EventAccumulator(str(tmp_path / "boards" / "a run"))
    board.Reload()
    curve = read_curve(tmp_path / "plain")
    for name in NAMES:
        assert [event.value for event in board.Scalars(f"train/{name}")] == pytest.approx(curve[name], rel=1e-5)


@pytest.mark.extras
@pytest.mark.slow
def test_the_command_tracks_teachers_and_students_and_its_rows_stay(bench: Bench, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    words = [*QUICK, "--seeds", "1", "--recipe", "tiny_pair"]
    bench(*words)
    bench(*words, "--track", "tensorboard", "--store", str(tmp_path / "tracked"), "--results", str(tmp_path / "again"))
    runs = {path.name.rpartition(" ")[0] for path in (tmp_path / "tracked" / "tensorboard").iterdir()}
    assert runs == {"teacher wolf, seed 1000", "student base, seed 1000", "student trait, seed 1000"}
    assert not (tmp_path / "store" / "tensorboard").exists()

    def artefacts(store: str) -> dict[str, Any]:
        paths = (tmp_path / store / "artefacts").glob("*/done.json")
        return {path.parent.name: json.loads(path.read_text())["files"] for path in paths}

    assert artefacts("tracked") == artefacts("store")
