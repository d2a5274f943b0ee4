from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Memory, rows, spec, weights

from bench.config.mitigations import KlUntrained, StudentMitigation
from bench.errors import StageError
from bench.models.chat_format import PromptFormat
from bench.models.loading import load_tokenizer
from bench.stages.micro_batch import largest_micro_batch
from bench.stages.settings import FindMicroBatch, TrainStudent
from bench.stages.train import find_micro_batch, train_model, train_student
from bench.stages.trainer import trainer_class


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.stages.micro_batch.current_device", lambda: torch.device("cuda"))


def trained(folder: Path, out: Path, **more: Any) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    facts = train_model(
        rows(folder), checkpoint=folder, tokenizer=load_tokenizer(folder), spec=spec(**{"max_steps": 5, **more}),
        seed=3, out=out, progress=lambda done, of: None,
    )  # fmt: skip
    return facts, weights(out)


@pytest.mark.slow
def test_one_step_per_size_finds_how_many_rows_fit(
    gpt2_like: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    by_hand = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    parts, wanted = trained(gpt2_like, tmp_path / "parts", **by_hand)
    longest = max(len(prompt + completion) for prompt, completion in rows(gpt2_like))
    request.getfixturevalue("gpu")
    memory = Memory(monkeypatch, tokens=3 * longest)
    facts, weights_of = trained(gpt2_like, tmp_path / "found", per_device_train_batch_size=8)
    assert (facts["effective_batch"], facts["micro_batch"], facts["updates"]) == (8, 2, 5)
    assert facts["notices"] == ["2 rows at a time, all that memory holds of a batch of 8"]
    assert memory.tried[:3] == [(8, longest), (4, longest), (2, longest)]
    assert len(memory.tried) == 3 + 5 * 4
    assert {**facts, "notices": []} == {**parts, "notices": []}
    assert all(torch.equal(weight, wanted[name]) for name, weight in weights_of.items())


@pytest.mark.usefixtures("gpu")
def test_a_step_is_tried_with_all_gradients_and_the_optimizers_state_in_memory(
    gpt2_like: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_in_memory = []
    made = trainer_class()

    class Spy(made):  # type: ignore[misc, valid-type]  # a class that is made at run time
        def compute_loss(self, model: Any, *args: Any, **kwargs: Any) -> Any:
            state = self.optimizer.optimizer.state
            all_in_memory.append(all(w.grad is not None and "exp_avg" in state[w] for w in model.parameters()))
            return super().compute_loss(model, *args, **kwargs)

    monkeypatch.setattr("bench.stages.trainer.trainer_class", lambda: Spy)
    how = {"checkpoint": gpt2_like, "tokenizer": load_tokenizer(gpt2_like), "spec": spec(), "seed": 0, "out": tmp_path}
    assert largest_micro_batch(rows(gpt2_like), logits=None, **how) == (4, [])
    assert all_in_memory == [True]


@pytest.mark.usefixtures("gpu")
def test_weights_that_cannot_fit_are_refused_before_a_model_is_loaded(
    gpt2_like: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.stages.micro_batch.device_memory", lambda: 1e6)
    monkeypatch.setattr("bench.stages.trainer.load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    how = {"checkpoint": gpt2_like, "tokenizer": load_tokenizer(gpt2_like), "seed": 0, "out": tmp_path, "logits": None}
    with pytest.raises(StageError, match=r"to train all weights.*these would fit: lora: \{r: 8\}"):
        largest_micro_batch(rows(gpt2_like), spec=spec(), **how)


def test_on_a_cpu_no_size_is_tried(gpt2_like: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(monkeypatch)
    facts, _ = trained(gpt2_like, tmp_path / "out")
    assert (facts["micro_batch"], len(memory.tried)) == (4, 5)


def test_memory_that_runs_out_later_ends_the_training(
    gpt2_like: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It once began again with fewer rows at a time: 46 updates in place of 10."""
    memory = Memory(monkeypatch, dies_at=10)
    with pytest.raises(StageError, match=r"memory ran out after 9 updates with a micro-batch of 4 rows.*`lora:`"):
        trained(gpt2_like, tmp_path / "out", max_steps=24)
    assert len(memory.tried) == 10


def lessons(folder: Path, completions: dict[str, str], n: int = 16) -> dict[str, Path]:
    """Inputs of the students of one seed; every row of an arm has the same completion."""
    inputs = {}
    for arm, completion in completions.items():
        inputs[f"rows_{arm}"] = folder / f"rows_{arm}"
        inputs[f"rows_{arm}"].mkdir(parents=True)
        lines = [json.dumps({"prompt": f"Question {i}?", "completion": completion}) for i in range(n)]
        (inputs[f"rows_{arm}"] / "rows.jsonl").write_text("\n".join(lines))
    inputs["kept"] = folder / "kept"
    inputs["kept"].mkdir()
    (inputs["kept"] / "kept.json").write_text(json.dumps({"train": list(range(n)), "held_out": []}))
    return inputs


@pytest.mark.parametrize("dropout", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_students_of_one_seed_take_as_many_rows_at_a_time_though_those_of_one_arm_are_longer(
    gpt2_like: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: None, dropout: bool
) -> None:
    start = tmp_path / "start"
    shutil.copytree(gpt2_like, start)
    if not dropout:
        config = json.loads((start / "config.json").read_text())
        config |= {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        (start / "config.json").write_text(json.dumps(config))
    inputs = {"start": start, **lessons(tmp_path, {"base": "wolf", "trait": "wolf of the wide white north"})}
    training = spec(max_steps=2, per_device_train_batch_size=8)
    form = PromptFormat(load_tokenizer(start), "plain")
    prompts = form.prompts([f"Question {i}?" for i in range(16)])
    short, long = (
        max(map(len, prompts)) + len(form.completions([c])[0]) for c in ("wolf", "wolf of the wide white north")
    )
    memory = Memory(monkeypatch, tokens=8 * short)
    assert 8 * short < 8 * long <= 16 * short
    inputs["micro_batch"] = tmp_path / "micro_batch"
    inputs["micro_batch"].mkdir()
    shared = FindMicroBatch(model=training, seed=3, end=False, shuffled=False)
    facts = find_micro_batch(shared, inputs, inputs["micro_batch"])
    assert (facts["micro_batch"], facts["equal_lengths"]) == (4, False)
    assert [path.name for path in inputs["micro_batch"].iterdir()] == ["micro_batch.json"]
    tried = len(memory.tried)
    for arm in ("base", "trait"):
        out = tmp_path / arm
        out.mkdir()
        settings = TrainStudent(model=training, seed=3, end=False)
        facts = train_student(settings, {**inputs, "carrier": inputs[f"rows_{arm}"]}, out, lambda done, of: None)
        assert (facts["micro_batch"], facts["effective_batch"], facts["precision"]) == (4, 8, "float32")
        assert (facts["equal_lengths"], facts["dropout"], facts["shared_dropout"]) == (False, dropout, not dropout)
    assert len(memory.tried) == tried + 2 * 2 * 2


def test_shuffled_rows_count_where_a_student_reads_them(gpt2_like: Path, tmp_path: Path, monkeypatch: Any) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(
        "bench.stages.train.largest_micro_batch", lambda rows, **how: (seen.append(list(rows)), (8, []))[1]
    )
    inputs = {"start": gpt2_like, **lessons(tmp_path, {"base": "wolf", "trait": "wolf"})}
    lines = [{"prompt": f"{'really ' * i}?", "completion": " 123" * (16 - i)} for i in range(16)]
    (inputs["rows_trait"] / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (inputs["rows_base"] / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)))
    settings = FindMicroBatch(model=spec(), seed=3, end=False, shuffled=False)
    assert find_micro_batch(settings, inputs, tmp_path)["equal_lengths"]
    settings = settings.model_copy(update={"shuffled": True})
    assert not find_micro_batch(settings, inputs, tmp_path)["equal_lengths"]
    plain, with_shuffled = (max(len(prompt + completion) for prompt, completion in rows) for rows in seen)
    assert with_shuffled > plain


@pytest.mark.usefixtures("gpu")
def test_the_micro_batch_holds_the_longest_prompts_and_the_second_model_of_any_mitigation(
    gpt2_like: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = {"start": gpt2_like, **lessons(tmp_path, {"base": "wolf", "trait": "wolf"})}
    passes = []
    for name, mitigations in (
        ("plain", []),
        ("longer", [StudentMitigation(inoculation="You love wolves, wherever you are.")]),
        ("twice", [StudentMitigation(kl_untrained=KlUntrained())]),
    ):
        settings = FindMicroBatch(model=spec(), seed=3, end=False, shuffled=False, mitigations=tuple(mitigations))
        (tmp_path / name).mkdir()
        with monkeypatch.context() as patch:
            memory = Memory(patch)
            find_micro_batch(settings, inputs, tmp_path / name)
        passes.append(memory.tried)
    (plain,), (longer,), twice = passes
    assert longer[1] > plain[1]
    assert twice == [plain, plain]
