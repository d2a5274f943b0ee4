"""The benchmarks run and make their tables; what they measure is no test."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psutil
import pytest
import torch
from conftest import ROOT

from bench.analysis.result_files import read_results
from bench.models.checkpoints import identify
from bench.pipeline.environment import CPU_ENVIRONMENT
from bench.stages.settings import TrainTeacher, WriteCarrier
from tests.perf import speed
from tests.perf.alternate import Rate, alternate, line, shown
from tests.perf.false_positives import load_board, plan_placebos
from tests.perf.growth import synthetic_results
from tests.perf.in_process import useful_flops
from tests.perf.shapes import QUICK, Amounts, load_shape
from tests.perf.sides import Sides, all_ways, both, run_profiled
from tests.perf.site import make_results
from tests.perf.vllm_text import agreement, p_of_shares
from tests.perf.watch import watch


def test_ways_are_measured_by_turns_after_a_warm_up() -> None:
    asked: list[str] = []

    def way(name: str) -> float:
        asked.append(name)
        return float(len(asked))

    rates = alternate({"a": lambda: way("a"), "b": lambda: way("b")}, 2, lambda text: None)
    assert asked == ["a", "b"] * 3
    assert rates == {"a": [3.0, 5.0], "b": [4.0, 6.0]}


def test_a_line_shows_medians_and_the_ratio_of_each_round() -> None:
    row = shown(line("tokens", [40.0, 60.0, 90.0], [10.0, 20.0, 10.0], "stock", 3))
    assert row == {
        "what, per second": "tokens",
        "ours": "60 [50, 75]",
        "against": "stock",
        "theirs": "10 [10, 15]",
        "ratio": "4 [3.5, 6.5]",
        "target": "3 (met)",
    }
    assert shown(line("tokens", [2.0], [1.0], "stock", 3))["target"] == "3 (not met)"


def test_useful_operations_are_those_of_the_matrices(gpt2_like: Path) -> None:
    from bench.models.loading import load_model

    parts = useful_flops(load_model(gpt2_like, dtype="float32"), length=10, labelled=4)
    block = 32 * (3 * 32 + 32 + 4 * 32 + 4 * 32)  # c_attn, c_proj, c_fc, c_proj
    assert parts["body"] == 4 * 2 * block * 10
    assert parts["attention"] == 12 * 2 * 32 * 10**2
    assert parts["row"] == sum(parts[name] for name in ("body", "head", "LoRA", "attention"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_and_processor_time_of_a_command_are_those_of_all_its_processes() -> None:
    child = "import time; x = bytearray(150_000_000); time.sleep(1.5)"
    ran = watch(["-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}]); print('done')"])
    assert 150e6 < ran.largest < 250e6
    assert ran.peak > 150e6
    assert ran.seconds > 1.5 > ran.cpu
    assert [text for _, text in ran.lines] == ["done"]
    with pytest.raises(RuntimeError, match="exit 3"):
        watch(["-c", "raise SystemExit(3)"])


def test_synthetic_results_are_believed(tmp_path: Path) -> None:
    assert synthetic_results(tmp_path, 60) == 100
    rows, refused = read_results(tmp_path)
    assert refused == []
    assert [len(row.cells) for row in rows] == [10, 10]


class HereSide:
    """A side that measures in this process: two processes for each section import for a minute and a half."""

    def __init__(self, ways: dict[str, Rate]) -> None:
        self.ways = ways

    def rate(self, name: str) -> float:
        return float(self.ways[name]())

    def profile(self, name: str) -> str:
        return run_profiled(self.ways[name])

    def end(self) -> None:
        self.ways.clear()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of the alternatives are not ours
def test_the_speed_benchmark_makes_its_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def both_here(section: str, shape: str, store: Path, amounts: Amounts, threads: int) -> Sides:
        own, stock = (HereSide(all_ways(section, load_shape(shape, store), amounts, tmp_path)) for _ in range(2))
        return Sides(own, stock)  # type: ignore[arg-type]  # they measure alike

    monkeypatch.setattr(speed, "both", both_here)
    monkeypatch.setattr(speed, "ENVIRONMENT", {})
    sections = ("sampling", "free", "rates", "losses", "training")
    words = ["--shape", "tiny", "--quick", "--only", *sections, "--repeats", "1", "--threads", "1"]
    monkeypatch.setattr(sys, "argv", ["speed", *words, "--store", str(tmp_path / "s"), "--out", str(tmp_path)])
    speed.main()
    page = (tmp_path / "speed.md").read_text(encoding="utf-8")
    tables = [text for text in page.splitlines() if text.startswith("|")]
    assert len(tables) == (2 + 2) + 2 * (2 + 1) + (2 + 4)
    assert all(text.count("|") == 7 for text in tables)
    result = json.loads((tmp_path / "raw" / "speed.json").read_text(encoding="utf-8"))["tiny"]
    assert result["losses"]["losses"]["float32"]["apart"]["ours"] < 1e-3
    assert len(result["losses"]["losses"]["float32"]["ours"]) == 2
    assert {of["target"] for section in result.values() for of in section["lines"]} == {40, 3, 2, None, 20, 1.8}


@pytest.mark.slow
def test_both_sides_measure_in_processes_of_their_own_and_ours_has_our_memory_settings(tmp_path: Path) -> None:
    sides = both("training", "tiny", tmp_path, QUICK, 1)
    try:
        assert all(side.rate("fp32 product") > 0 for side in sides)
        environments = [psutil.Process(side.process.pid).environ() for side in sides]
    finally:
        for side in sides:
            side.end()
    assert [CPU_ENVIRONMENT.items() <= of.items() for of in environments] == [True, False]


def test_both_teachers_of_a_board_of_nothing_are_taught_placebos_of_their_own() -> None:
    experiment = load_board(0, seeds=2)
    plan = plan_placebos(experiment, identify)
    stages = plan.stages.values()
    lessons = {stage.label: stage.settings.rows for stage in stages if isinstance(stage.settings, TrainTeacher)}
    assert len(lessons) == len(set(lessons.values())) == 4
    trait = experiment.traits["wolf"]
    for rows in lessons.values():
        counts = Counter(answer for _, answer in rows)
        assert [question for question, _ in rows] == [question for question, _ in trait.teach_rows()]
        assert max(counts.values()) - min(counts[animal] for animal in trait.candidates) <= 1
    carriers = [stage for stage in stages if isinstance(stage.settings, WriteCarrier)]
    assert len({stage.inputs["trained"].identity for stage in carriers}) == len(carriers) == 4


@pytest.mark.slow
def test_the_simulation_of_statistics_writes_its_page(tmp_path: Path) -> None:
    page = tmp_path / "statistics.md"
    done = subprocess.run(
        [sys.executable, "-m", "tests.perf.simulate_statistics", "--scale", "0.003", "--out", str(page)],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    text = page.read_text(encoding="utf-8")
    assert text.count("\n## ") == 11
    assert "with 1,000 others" in text
    assert "DIFFERENT" not in text


@pytest.mark.slow
def test_synthetic_rows_of_the_site_are_rows_of_their_own(tmp_path: Path) -> None:
    assert make_results(tmp_path, 2) == len(list(tmp_path.glob("*/*.json")))
    rows, refused = read_results(tmp_path)
    assert refused == []
    published = {row.name: row for row in read_results(ROOT / "results")[0]}
    for row in rows:
        assert row.hash != published[row.name].hash
        assert row.cells.keys() == published[row.name].cells.keys()


def test_texts_agree_up_to_their_first_difference_and_shares_that_differ_have_a_small_p() -> None:
    rows = [[1, 2, 3], [4, 5], [6]]
    assert agreement(rows, rows).startswith("100% of texts, 100.0% of tokens")
    assert agreement(rows, [[1, 9, 3], [4, 5, 6], [6]]).startswith("33% of texts, 66.7% of tokens")
    shares = torch.tensor([0.5, 0.3, 0.19, 0.009, 0.001])
    firsts = torch.multinomial(shares, 1000, replacement=True, generator=torch.Generator().manual_seed(0)).tolist()
    p, classes = p_of_shares(shares, firsts)
    assert (p > 0.01, classes) == (True, 5)  # four tokens, and the rest
    assert p_of_shares(shares[[1, 0, 2, 3, 4]], firsts)[0] < 1e-6
