from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import QUICK

from bench.cli import main
from bench.config.recipe_files import load_recipe
from bench.models import tiny
from bench.pipeline import processor
from bench.pipeline.store import Store

AVX2_ONLY = Path("/proc/cpuinfo").exists() and processor.processor_features() == ["avx2"]
PRODUCTS = "computes in bfloat16"


@pytest.mark.parametrize(
    ("text", "name", "features"),
    [
        (
            "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu avx2 avx512f avx512_bf16 amx_bf16 avx\n\n"
            "processor\t: 1\nmodel name\t: AMD EPYC\nflags\t\t: fpu\n",
            "AMD EPYC",
            ["amx_bf16", "avx2", "avx512_bf16", "avx512f"],
        ),
        ("processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu avx2\n", "AMD EPYC", ["avx2"]),
        ("processor\t: 0\nFeatures\t: fp asimd sve bf16\n", "aarch64", ["bf16", "sve"]),
        ("", "aarch64", []),
    ],
)
def test_a_processor_is_known_by_its_name_and_its_instruction_sets(
    monkeypatch: pytest.MonkeyPatch, text: str, name: str, features: list[str]
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: text)
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert (processor.processor_name(), processor.processor_features()) == (name, features)


@pytest.mark.parametrize(
    ("overrides", "options"),
    [
        ([], []),
        (["carrier.bf16=true"], []),  # a full fine-tune writes in float32 on a CPU
        (["carrier.bf16=true", "teacher.lora={r: 4}"], ["carrier.bf16=false"]),
        (["student.train.bf16=true"], ["student.train.bf16=false"]),
        (["teacher.dtype=bfloat16", "teacher.train.bf16=true"], ["teacher.dtype=float32", "teacher.train.bf16=false"]),
        (["evaluate.bf16=true", "student.lora={r: 4}"], []),  # without samples nothing is written
        (["evaluate.bf16=true", "evaluate.samples=2", "student.lora={r: 4}"], ["evaluate.bf16=false"]),
        (["evaluate.bf16=true", "evaluate.samples=2", "teacher.lora={r: 4}"], []),  # the teacher answers as it writes
    ],
)
def test_only_the_options_that_a_recipe_needs_are_named_and_they_take_bfloat16_out(
    overrides: list[str], options: list[str]
) -> None:
    assert processor.bfloat16_options(load_recipe("tiny_pair", overrides).recipe) == options
    assert processor.bfloat16_options(load_recipe("tiny_pair", [*overrides, *options]).recipe) == []


def test_a_processor_that_is_not_slow_in_bfloat16_is_not_spoken_of() -> None:
    assert processor.describe_bfloat16("tiny_pair", ["evaluate.bf16=false"], 0.4) == []
    how_slow, options = processor.describe_bfloat16("tiny_pair", ["evaluate.bf16=false", "student.dtype=float32"], 48.3)
    assert how_slow.startswith("tiny_pair computes in bfloat16. On this processor its products take 48 times as long")
    assert options.endswith(": --set evaluate.bf16=false --set student.dtype=float32")


@pytest.mark.slow
def test_a_slow_bfloat16_is_measured_once_and_told_before_a_run_that_uses_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny, "DEFAULT", tiny.DEFAULT.model_copy(update={"steps": 20}))

    def shown(*words: str, gpus: str = "") -> str:
        """What the command prints, run in this process: its workers come from one fork server."""
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
        assert main([*words, "--store", str(tmp_path / "store"), "--results", str(tmp_path / "results")]) == 0
        return capsys.readouterr().out

    words = [*QUICK, "--seeds", "1", "--set", "student.train.bf16=true"]
    assert PRODUCTS not in shown("--dry-run", *QUICK)
    assert not (tmp_path / "store" / "processors").exists()
    shown("--dry-run", *words)
    (path,) = (tmp_path / "store" / "processors").iterdir()
    measured = json.loads(path.read_text())
    assert measured["features"] == processor.processor_features()
    if AVX2_ONLY:
        assert measured["bfloat16_slowdown"] > 5
    path.write_text(json.dumps({**measured, "bfloat16_slowdown": 34.5}))
    lines = shown("--dry-run", *words)
    assert f"tiny_pair {PRODUCTS}. On this processor its products take 34 times as long" in lines.replace("\n", " ")
    assert "--set student.train.bf16=false" in lines
    assert "teacher.train.bf16" not in lines
    assert PRODUCTS not in shown("--dry-run", *words, gpus="0")
    run = shown(*words)
    assert run.index(PRODUCTS) < run.index("stages, 0 done")
    assert PRODUCTS not in shown(*words)  # nothing is left to do
    for path in (tmp_path / "results" / "tiny_pair").glob("*-trait.json"):
        assert json.loads(path.read_text())["manifest"]["processor_features"] == processor.processor_features()
    key = next(p.name for p in (tmp_path / "store" / "artefacts").glob("student-*"))
    assert Store(tmp_path / "store").record(key)["processor_features"] == processor.processor_features()
