"""The command for a machine with a GPU, as far as it runs without one, and the floor that is computed for a GPU."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, flip

from bench.files import seal
from tests.perf.alternate import line
from tests.perf.costs import Dimensions
from tests.perf.gpu import Findings, make_page
from tests.perf.gpu_checks import Check, check_students, compare_stores
from tests.perf.gpu_floor import Device, Expected, Floor, count_tokens, qwen
from tests.perf.gpu_floor import make_page as make_floor
from tests.perf.gpu_rates import LINES, MEASURES, Limits, RateSection, Run
from tests.perf.shapes import QUICK, RANDOM, Shape, load_shape
from tests.perf.sides import Sides, all_ways, measure_peak
from tests.perf.vllm_rate import vllm_rate

TINY = Dimensions(layers=2, width=8, key_width=4, body=1000, head=100, embeddings=0, rank_width=60)
# Stands in for vLLM: writes as many tokens as it is asked for, a thousand a second.
VLLM = """
import time
class SamplingParams:
    def __init__(self, *, temperature, max_tokens, min_tokens, seed):
        self.tokens = max_tokens
class Text:
    def __init__(self, count): self.token_ids = [1] * count
class Row:
    def __init__(self, count): self.outputs = [Text(count)]
class LLM:
    def __init__(self, *, model, dtype, max_model_len, gpu_memory_utilization):
        assert max_model_len == 3 + 5 and dtype == "bfloat16"
    def generate(self, prompts, sampling, use_tqdm):
        assert prompts[0]["prompt_token_ids"] == [1, 2, 3]
        time.sleep(len(prompts) * sampling.tokens / 1000)
        return [Row(sampling.tokens) for _ in prompts]
"""


def test_the_operations_of_a_model_follow_from_its_matrices() -> None:
    assert TINY.read_flops(tokens=10, length=5, scored=3) == 2 * 1000 * 10 + 2 * 100 * 3 + 2 * 2 * 8 * 10 * 5
    # full: forward and both gradients; LoRA: no gradient of frozen weights, and 6 a weight of its adapters
    attention = 6 * 2 * 8 * 5**2
    assert TINY.train_flops(length=5, labelled=2, rank=None) == 6 * (1000 * 5 + 100 * 2) + attention
    assert TINY.train_flops(length=5, labelled=2, rank=4) == 4 * (1000 * 5 + 100 * 2) + 6 * 4 * 60 * 5 + attention
    assert TINY.step_bytes(rows=3, length=7) == 2 * 1100 + 3 * 7 * (2 * 2 * 4 * 2)


def test_the_weights_of_qwen_are_the_published_7_62_billion_without_norms_and_biases() -> None:
    hidden, inner, vocabulary, layers, keys = 3584, 18944, 152064, 28, 4 * 128
    norms, biases = (2 * layers + 1) * hidden, layers * (hidden + 2 * keys)
    assert qwen().weights + norms + biases == 7_615_616_512
    assert qwen().body == layers * (2 * hidden**2 + 2 * hidden * keys + 3 * hidden * inner)
    assert qwen().cache_bytes() == 2 * layers * keys * 2
    assert qwen().embeddings == vocabulary * hidden


def test_the_floor_of_a_phase_is_the_longer_of_its_operations_and_its_bytes() -> None:
    device, expected = Device(bfloat16=100.0, float32=10.0, bandwidth=50.0), Expected(decoding=0.5, launch=0.0)
    floor = Floor(TINY, device, expected)
    assert floor.phase("", 200, 50, 0.5)[3:] == (2.0, 4.0)
    assert floor.phase("", 200, 500, 0.5)[3:] == (10.0, 20.0)
    _, decoding = floor.write(rows=8, prompt=6, prefilled=48, new=4, batch=2)
    step = max(TINY.read_flops(2, 8, 2) / 100, TINY.step_bytes(2, 8) / 50)
    assert decoding.seconds == pytest.approx(16 * step)
    slow = Floor(TINY, device, expected._replace(launch=1e3, kernels=3)).write(8, 6, 48, 4, 2)[1]
    assert (slow.seconds, slow.reached) == (decoding.seconds, 16 * 2 * 3 * 1e3)


def test_tokens_are_counted_by_word_digit_and_mark() -> None:
    assert count_tokens("Go on: 123, 45") == 3 + 4 + 1 + 3


def test_the_page_of_the_floor_is_what_its_command_makes() -> None:
    page = (ROOT / "results" / "perf" / "gpu_floor.md").read_text(encoding="utf-8")
    assert page == make_floor(30_000, 256)
    assert "**Computed, not measured.**" in page


def test_the_page_shows_checks_rates_memory_and_what_is_missing() -> None:
    checks = [Check("a", True, "x"), Check("b", False, "y"), Check("c", None, "z")]
    rates = [RateSection([line("tokens", [30.0], [10.0], "generate", None)], {"sampling": 2e9}, ["A note."])]
    findings = Findings(checks, rates, {"training": "9 minutes were over"})
    page = make_page(findings, Limits(4e12, 5e9), {"device": "a card"})
    cells = [[cell.strip() for cell in text.split("|")[1:-1]] for text in page.splitlines() if text.startswith("|")]
    assert [row for row in cells if row[0] in {"a", "b", "c"}] == [
        ["a", "pass", "x"], ["b", "**fail**", "y"], ["c", "-", "z"],
    ]  # fmt: skip
    assert ["tokens", "30", "generate", "10", "3", "-"] in cells
    assert ["sampling", "2"] in cells
    assert ["training", "9 minutes were over"] in cells
    assert "4 TFLOP/s, a large copy at 5 GB/s" in page


def write_student(store: Path, name: str, micro_batch: int, *, shared: bool) -> None:
    folder = store / "artefacts" / f"student-{name}"
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(bytes(range(50)))
    seal(folder, {"key": folder.name, "did": {"micro_batch": micro_batch, "shared_dropout": shared}})


def test_one_changed_bit_of_a_second_run_is_found_and_named(tmp_path: Path) -> None:
    write_student(tmp_path / "a", "1", 8, shared=True)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert compare_stores(tmp_path / "a", tmp_path / "b").passed
    flip(tmp_path / "b" / "artefacts" / "student-1" / "weights")
    check = compare_stores(tmp_path / "a", tmp_path / "b")
    assert (check.passed, check.result) == (False, "0 of 1 files of artefacts are equal; other: student 1")
    assert not compare_stores(tmp_path / "empty", tmp_path / "empty").passed


def test_students_that_were_not_trained_alike_are_found(tmp_path: Path) -> None:
    write_student(tmp_path, "1", 8, shared=True)
    assert [check.passed for check in check_students(tmp_path)] == [True, True]
    write_student(tmp_path, "2", 4, shared=False)
    assert [check.passed for check in check_students(tmp_path)] == [False, False]


def test_vllm_writes_in_its_own_python_and_its_errors_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vllm.py").write_text(VLLM)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    rate = vllm_rate(Path(sys.executable), tmp_path, [[1, 2, 3]] * 4, 5)
    assert 300 < rate < 1001
    (tmp_path / "vllm.py").write_text("raise ImportError('no such device')")
    with pytest.raises(RuntimeError, match="no such device"):
        vllm_rate(Path(sys.executable), tmp_path, [[1]], 1)


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.perf.gpu", *words], cwd=ROOT, capture_output=True, text=True, timeout=600,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip


class Here:
    """The measuring side of `tests.perf.sides`, in this process."""

    def __init__(self, section: str, shape: Shape, scratch: Path) -> None:
        self.ways = all_ways(section, shape, QUICK, scratch)

    def rate(self, name: str) -> float:
        return self.ways[name]()

    def peak(self, name: str) -> float:
        return measure_peak(self.ways[name])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of the alternatives are not ours
@pytest.mark.parametrize(
    ("kind", "section", "what", "lines"),
    [
        ("sampling", "sampling", "carrier tokens", 3), ("lists", "free", "number lists", 3),
        ("training", "training", "student rows trained on", 2), ("answers", "rates", "sampled answers", 3),
        ("margins", "asking", "questions by margin", 1),
    ],
)  # fmt: skip
def test_each_kind_of_work_is_measured_against_stock_code_and_the_device(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, kind: str, section: str, what: str, lines: int
) -> None:
    shape = load_shape("tiny", tmp_path_factory.getbasetemp() / "gpu")
    here = Here(section, shape, tmp_path)
    model = Dimensions.of_config("gpt2", RANDOM["tiny"])
    run = Run(shape, model, QUICK, 1, Limits(1e12, 1e11), lambda text: None, None)
    result = MEASURES[kind](run, Sides(here, here))  # type: ignore[arg-type]  # in the place of processes
    assert [of["what"].partition(":")[0] for of in result.lines] == [what] * lines
    assert all(value > 0 for of in result.lines for value in (*of["ours"], *of["other"]))
    assert all(1e7 < peak < 1e11 for peak in result.peaks.values())
    assert len(result.peaks) == (1 if kind == "margins" else 2)
    assert set(MEASURES) == set(LINES)


@pytest.mark.slow
def test_the_command_runs_on_a_cpu_and_makes_its_page(tmp_path: Path) -> None:
    refused = command("--device", "cpu")
    assert refused.returncode == 2
    assert "--device cpu needs --out" in refused.stderr
    words = ["--shape", "tiny", "--quick", "--repeats", "1", "--threads", "1", "--store", str(tmp_path / "s")]
    done = command(
        "--device", "cpu", *words, "--out", str(tmp_path), "--only", "pairing", "smollm2_self", "training"
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert "## Missing" not in page
    assert "fail" not in page
    assert page.count("| pass") == 9 + 4
    assert page.count("a bfloat16 product of 512 x 512") == 1
