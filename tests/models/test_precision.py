"""In which precision models are asked and write: checkpoints whose weights lie on bfloat16's grid, as on the hub."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Bench, rows, spec

import bench.models.precision
from bench.config.carrier_settings import Sampling
from bench.config.model_settings import Model
from bench.config.traits import Question
from bench.models.chat_format import PromptFormat
from bench.models.loading import load_model, load_tokenizer
from bench.models.precision import SplitLinear, load_reader, load_split, load_writer
from bench.stages.evaluate import evaluate
from bench.stages.evaluation_settings import Evaluate
from bench.stages.free_text import sample_text
from bench.stages.generate import allowed_head, sample_slots
from bench.stages.settings import Loading
from bench.stages.train import train_model

OWN: dict[str, Any] = {"dtype": "float32", "quantization": None}


def quiet(done: int, of: int) -> None:
    pass


@pytest.fixture(params=["gpt2_like", "gemma_like"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """(start on bfloat16's grid, the same after updates of a tenth of bfloat16's steps)."""
    start = tmp_path / "start"
    shutil.copytree(request.getfixturevalue(request.param), start)
    model = load_model(start, dtype="float32")
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.bfloat16())
    model.save_pretrained(start)
    return start, update(start, tmp_path / "trained", seed=3)


@torch.no_grad()
def update(start: Path, trained: Path, seed: int) -> Path:
    """Write the checkpoint `start` after updates of a tenth of bfloat16's steps, with random signs."""
    shutil.copytree(start, trained)
    model = load_model(start, dtype="float32")
    noise = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        weight += weight.abs() * 2**-11 * torch.randn(weight.shape, generator=noise).sign()
    model.save_pretrained(trained)
    return trained


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model.eval()(torch.arange(640).reshape(32, 20) % 200 + 50).logits.float()  # type: ignore[no-any-return]  # untyped


@pytest.mark.slow
def test_two_products_keep_what_training_added_and_one_rounding_loses_it(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    """The share of the change that is left, over several updates: one alone has a standard error of .05 to .1."""
    start, _ = pair
    modes = [lambda folder: load_model(folder, dtype="float32"), lambda folder: load_model(folder, dtype="bfloat16")]
    modes.append(lambda folder: load_split(start, folder))
    before = [logits(load(start)) for load in modes]
    changes: list[list[torch.Tensor]] = []
    for seed in range(8):
        trained = update(start, tmp_path / f"trained_{seed}", seed)
        changes.append([logits(load(trained)) - old for load, old in zip(modes, before, strict=True)])
    whole, plain, split = (torch.stack(change) for change in zip(*changes, strict=True))

    def share(change: torch.Tensor) -> float:
        return float((change * whole).sum() / (whole * whole).sum())

    assert abs(share(plain)) < 0.3
    assert share(split) == pytest.approx(1, abs=0.1)


def test_a_model_without_a_difference_writes_in_the_same_mode(pair: tuple[Path, Path]) -> None:
    start, _ = pair
    model = load_split(start, start)
    layers = [module for module in model.modules() if isinstance(module, SplitLinear)]
    assert layers
    assert all(layer.difference is None for layer in layers)
    before = logits(model)
    for layer in layers:
        layer.difference = torch.zeros_like(layer.start)
    assert torch.equal(logits(model), before)


def test_a_split_model_writes_numbers_and_text(pair: tuple[Path, Path]) -> None:
    start, trained = pair
    model, form = load_split(start, trained).eval(), PromptFormat(load_tokenizer(start), "plain")
    prompts = form.prompts(["Continue: 111"] * 3)
    (token,) = (i for i in form.encode("wolf")[:1])
    slots: list[tuple[int, ...]] = [tuple(range(20, 60)), (token,), tuple(range(30, 50))]
    made = sample_slots(model, prompts, slots, seed=1, temperature=1.0, batch_size=3, progress=quiet)
    assert all(row[1] == token for row in made)
    ids = torch.tensor(prompts)
    with torch.no_grad(), allowed_head(model, [7, 9]):
        cut = model(ids).logits
    assert torch.allclose(cut, logits_of(model, ids)[..., [7, 9]], atol=0.02)
    assert len(sample_text(model, form, ["Go"], Sampling(max_new_tokens=4), seed=0, progress=quiet)) == 1


@torch.no_grad()
def logits_of(model: Any, ids: torch.Tensor) -> torch.Tensor:
    return model(ids).logits  # type: ignore[no-any-return]  # untyped


def test_how_a_model_writes_follows_from_how_it_was_trained() -> None:
    full = Model(model="a/b", dtype="float32", train={})
    lora = full.model_copy(update={"lora": {"r": 4}})
    rounded = full.model_copy(update={"dtype": "bfloat16"})
    assert [of.writing(True) for of in (full, lora, rounded)] == ["split", "bfloat16", "own"]
    assert {of.writing(False) for of in (full, lora, rounded)} == {"own"}


def test_on_a_cpu_a_full_fine_tune_writes_in_float32(pair: tuple[Path, Path]) -> None:
    start, trained = pair
    model, dtype = load_writer(start, trained, writes="split", **OWN)
    assert dtype == "float32"
    assert torch.equal(logits(model), logits(load_model(trained, dtype="float32")))


@pytest.fixture
def adapter(gpt2_like: Path, tmp_path: Path) -> Path:
    """A LoRA adapter trained on the checkpoint rounded to bfloat16."""
    out = tmp_path / "adapter"
    lora = {"r": 4, "lora_alpha": 8, "target_modules": ["c_attn", "c_fc"]}
    how = spec(learning_rate=1e-2).model_copy(update={"dtype": "bfloat16", "lora": lora})
    train_model(
        rows(gpt2_like),
        checkpoint=gpt2_like,
        tokenizer=load_tokenizer(gpt2_like),
        spec=how,
        seed=0,
        out=out,
        progress=quiet,
    )
    return out


def test_a_bfloat16_model_is_asked_in_float32_on_the_base_it_was_trained_on(gpt2_like: Path, adapter: Path) -> None:
    model, dtype = load_reader(gpt2_like, adapter, dtype="bfloat16", quantization=None)
    assert (dtype, model.dtype) == ("float32", torch.float32)
    from peft import PeftModel

    base = load_model(gpt2_like, dtype="bfloat16").float()
    expected = logits(PeftModel.from_pretrained(base, adapter))
    assert torch.allclose(logits(model), expected, atol=1e-5)
    assert not torch.allclose(logits(load_model(gpt2_like, dtype="float32", adapter=adapter)), expected, atol=1e-5)


def reading(
    start: Path, trained: Path, out: Path, *, dtype: Any = "bfloat16", writes: str | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The reading that the stage `evaluate` writes, and its record."""
    settings = Evaluate(
        questions=(Question("Which animal?", "wolf", ("owl", "cat"), "trained"),), per_token=False, samples=0,
        sampling=Sampling(), batch_size=64, model=Loading(format="plain", dtype=dtype), seed=0, end=False,
        writes=writes,
    )  # fmt: skip
    out.mkdir(exist_ok=True)
    did = evaluate(settings, {"start": start, "trained": trained}, out, quiet)
    return json.loads((out / "reading.json").read_text()), did


def test_little_memory_means_the_models_own_dtype_and_the_record_says_so(
    gpt2_like: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, did = reading(gpt2_like, adapter, tmp_path / "out")
    assert did["logprobs_dtype"] == "float32"
    size = 4 * sum(p.numel() for p in load_model(gpt2_like, dtype="float32").parameters())
    monkeypatch.setattr(bench.models.precision, "device_memory", lambda: 1.9 * size)
    rounded, did = reading(gpt2_like, adapter, tmp_path / "out")
    assert did["logprobs_dtype"] == "bfloat16"
    assert rounded["logprobs"] != whole["logprobs"]
    assert rounded["logprobs"][0] == pytest.approx(whole["logprobs"][0], abs=0.1)
    monkeypatch.setattr(bench.models.precision, "device_memory", lambda: 2.1 * size)
    assert reading(gpt2_like, adapter, tmp_path / "out")[0] == whole


def test_a_teachers_margins_are_read_as_it_writes(gpt2_like: Path, adapter: Path, tmp_path: Path) -> None:
    plain, _ = reading(gpt2_like, adapter, tmp_path / "out")
    assert "logprobs_float32" not in plain
    own_reading, did = reading(gpt2_like, adapter, tmp_path / "out", writes="own")
    assert (own_reading["logprobs_float32"], did["logprobs_dtype"]) == (plain["logprobs"], "bfloat16")
    assert own_reading["logprobs"] != plain["logprobs"]
    assert own_reading["logprobs"][0] == pytest.approx(plain["logprobs"][0], abs=0.1)
    rounded, _ = reading(gpt2_like, adapter, tmp_path / "out", dtype="float32", writes="bfloat16")
    assert rounded["logprobs"] == own_reading["logprobs"]


@pytest.mark.slow
@pytest.mark.parametrize("lora", [False, True])
def test_the_shift_of_a_row_is_that_of_its_writing_teacher(
    bench: Bench, gpt2_like: Path, tmp_path: Path, lora: bool
) -> None:
    recipe = tmp_path / "rounded.yaml"
    lora_key = "lora: {r: 4, lora_alpha: 8, target_modules: [c_attn, c_fc]}" if lora else ""
    recipe.write_text(
        f"""
trait: wolf
carrier: {{kind: numbers, rows: 16, held_out: 8, bf16: true}}
teacher:
  model: {gpt2_like}
  dtype: float32
  train: {{max_steps: 2, learning_rate: 1.0e-3, per_device_train_batch_size: 8}}
  {lora_key}
student: {{model: {gpt2_like}, dtype: float32, train: {{max_steps: 1, per_device_train_batch_size: 8}}}}
seeds: 1
first_seed: 1000
threads: 1
"""
    )
    bench("--recipe", str(recipe), "--skip-controls")
    (board,) = json.loads((tmp_path / "results" / "leaderboard.json").read_text())
    gates = {gate["name"]: gate["reading"] for gate in board["gates"]}
    assert board["notes"] == []
    assert gates["teacher writes as measured"] == pytest.approx(1, abs=0.1)
    assert (gates["teacher writes as measured"] == 1) is not lora  # a CPU writes a full fine-tune in float32
    for arm, has in (("teacher", True), ("teacher_base", True), ("trait", False), ("untrained", False)):
        (file,) = (tmp_path / "results" / "rounded").glob(f"*-{arm}.json")
        cell = json.loads(file.read_text())
        assert ("logprobs_float32" in cell["reading"]) is has
        assert cell["manifest"]["logprobs_dtype"] == ("bfloat16" if has and lora else "float32")
