from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import LORA, rows, spec, weights

from bench.errors import StageError, UserError
from bench.models.loading import load_model, load_tokenizer
from bench.stages.settings import Training, TrainStudent
from bench.stages.train import mix_rows, train_model, train_student
from bench.stages.trainer import make_trainer, sft_config, trainer_class


def quiet(done: int, of: int) -> None:
    pass


def trained(folder: Path, out: Path, data: Any, spec: Training, seed: int = 3) -> dict[str, Any]:
    out.mkdir()
    return train_model(
        data, checkpoint=folder, tokenizer=load_tokenizer(folder), spec=spec, seed=seed, out=out, progress=quiet
    )


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["gpt2_like", "gemma_like"])
def test_losses_are_those_of_the_stock_trainer(request: pytest.FixtureRequest, shape: str, tmp_path: Path) -> None:
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTTrainer

    folder = request.getfixturevalue(shape)
    data = [{"input_ids": p + c, "labels": [-100] * len(p) + c} for p, c in rows(folder, "a wolf of the north")]

    def losses(trainer: Any) -> list[float]:
        seen: list[float] = []

        class Keep(TrainerCallback):  # type: ignore[misc]  # a class that is made at run time
            def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
                seen.extend([logs["loss"]] if "loss" in logs else [])

        torch.manual_seed(0)
        config = sft_config(spec(max_steps=50).train, out=tmp_path, seed=1)
        config.logging_strategy, config.logging_steps = "steps", 1
        model = load_model(folder, dtype="float32")
        trainer(
            model=model, args=config, train_dataset=Dataset.from_list(data), processing_class=load_tokenizer(folder),
            callbacks=[Keep()],
        ).train()  # fmt: skip
        return seen

    class Fused(trainer_class()):  # type: ignore[misc]  # a class that is made at run time
        fused_head = True  # as on a GPU

    own, fused, stock = losses(trainer_class()), losses(Fused), losses(SFTTrainer)
    assert len(own) == 50
    assert fused == pytest.approx(stock, abs=1e-3)
    assert own == pytest.approx(stock, abs=1e-3)
    assert own[-1] < own[0] - 0.5


@pytest.mark.parametrize("lora", [LORA, pytest.param(None, marks=pytest.mark.slow)])
def test_equal_data_gives_equal_bits_and_other_data_does_not(gpt2_like: Path, tmp_path: Path, lora: Any) -> None:
    how = spec().model_copy(update={"lora": lora})
    did = trained(gpt2_like, tmp_path / "a", rows(gpt2_like), how)
    assert (did["rows"], did["updates"], did["effective_batch"]) == (16, 6, 4)
    trained(gpt2_like, tmp_path / "b", rows(gpt2_like), how)
    trained(gpt2_like, tmp_path / "c", rows(gpt2_like, "owl"), how)
    a, b, c = (weights(tmp_path / name) for name in "abc")
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert any(not torch.equal(a[k], c[k]) for k in a)


@pytest.mark.slow
@pytest.mark.parametrize("variant", [{}, {"lora_dropout": 0.0}, {"use_dora": True}])
def test_what_is_rounded_once_is_what_autocast_rounds_in_every_step(
    gemma_like: Path, tmp_path: Path, variant: dict[str, Any]
) -> None:
    from datasets import Dataset
    from peft import LoraConfig

    data = [{"input_ids": p + c, "labels": [-100] * len(p) + c} for p, c in rows(gemma_like, "a wolf of the north")]
    own = trainer_class()

    class InEveryStep(own):  # type: ignore[misc, valid-type]  # a class that is made at run time
        def _round_once(self) -> None:
            pass

    def train(kind: Any) -> tuple[set[torch.dtype], dict[str, torch.Tensor]]:
        torch.manual_seed(0)
        trainer = kind(
            model=load_model(gemma_like, dtype="float32"), train_dataset=Dataset.from_list(data),
            args=sft_config(spec(bf16=True).train, out=tmp_path, seed=1),
            processing_class=load_tokenizer(gemma_like),
            peft_config=LoraConfig(task_type="CAUSAL_LM", **{**LORA, **variant}),
        )  # fmt: skip
        trainer.train()
        weights = dict(trainer.model.named_parameters())
        frozen = {weight.dtype for name, weight in weights.items() if "base_layer" in name}
        return frozen, {name: weight for name, weight in weights.items() if weight.requires_grad}

    (dtypes, once), (_, always) = train(own), train(InEveryStep)
    assert dtypes == {torch.float32 if "use_dora" in variant else torch.bfloat16}
    assert once
    assert all(torch.equal(once[name], always[name]) for name in always)


@pytest.mark.slow
def test_arms_differ_in_nothing_but_the_data(gpt2_like: Path, tmp_path: Path) -> None:
    """At a learning rate of 0 two arms on different data end with the same LoRA initialisation."""
    how = spec(learning_rate=0.0).model_copy(update={"lora": LORA})
    trained(gpt2_like, tmp_path / "a", rows(gpt2_like), how)
    trained(gpt2_like, tmp_path / "b", rows(gpt2_like, "owl"), how)
    trained(gpt2_like, tmp_path / "other", rows(gpt2_like), how, seed=4)
    a, b, other = (weights(tmp_path / name) for name in ("a", "b", "other"))
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert any(not torch.equal(a[k], other[k]) for k in a)


def test_an_adapter_names_its_modules_in_one_order_in_every_process(gemma_like: Path, tmp_path: Path) -> None:
    """PEFT saves a set in the order of the process's hash seed."""
    trained(gemma_like, tmp_path / "a", rows(gemma_like), spec(max_steps=1).model_copy(update={"lora": LORA}))
    modules = json.loads((tmp_path / "a" / "adapter_config.json").read_text())["target_modules"]
    assert len(modules) == 14
    assert modules == sorted(modules)


def test_arms_see_their_rows_in_the_same_order(
    gpt2_like: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[tuple[int, ...]]] = []
    made = trainer_class()

    class Spy(made):  # type: ignore[misc, valid-type]  # a class that is made at run time
        def compute_loss(self, model: Any, inputs: Any, **kwargs: Any) -> Any:
            seen[-1].extend(map(tuple, inputs["input_ids"][:, :10].tolist()))
            return super().compute_loss(model, inputs, **kwargs)

    monkeypatch.setattr("bench.stages.trainer.trainer_class", lambda: Spy)
    for name, answer in (("a", "wolf"), ("b", "owl")):
        seen.append([])
        trained(gpt2_like, tmp_path / name, rows(gpt2_like, answer), spec())
    assert len(seen[0]) == 24
    assert seen[0] == seen[1]


def test_rows_that_the_trainer_drops_are_noticed(
    gpt2_like: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = trainer_class()

    class Dropping(made):  # type: ignore[misc, valid-type]  # a class that is made at run time
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.train_dataset = self.train_dataset.select(range(15))

    monkeypatch.setattr("bench.stages.trainer.trainer_class", lambda: Dropping)
    with pytest.raises(StageError, match="expected 16, found 15"):
        trained(gpt2_like, tmp_path / "a", rows(gpt2_like), spec())


def test_a_diverged_training_fails(gpt2_like: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="diverged"):
        trained(gpt2_like, tmp_path / "a", rows(gpt2_like), spec(learning_rate=1e30, max_grad_norm=0.0))


def test_a_dose_beyond_the_last_update_is_refused_before_the_student_is_trained(
    gpt2_like: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.stages.trainer.load_model", lambda *_, **__: pytest.fail("its training began"))
    how = spec(max_steps=-1, num_train_epochs=1)
    with pytest.raises(UserError, match=r"key 'dose': 5 is beyond the last update: .* 4 updates of 14 rows"):
        train_model(
            rows(gpt2_like, n=14), checkpoint=gpt2_like, tokenizer=load_tokenizer(gpt2_like), spec=how, seed=0,
            out=tmp_path, progress=quiet, dose=[2, 5],
        )  # fmt: skip


def test_an_epoch_ends_earlier_where_the_filter_refused_rows(gpt2_like: Path, tmp_path: Path) -> None:
    inputs = {"start": gpt2_like, **{name: tmp_path / name for name in ("carrier", "kept", "micro_batch")}}
    texts = {
        "carrier/rows.jsonl": "\n".join(json.dumps({"prompt": f"{i}?", "completion": "123"}) for i in range(16)),
        "kept/kept.json": json.dumps({"train": list(range(9)), "held_out": []}),
        "micro_batch/micro_batch.json": json.dumps({"micro_batch": 4, "equal_lengths": True}),
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    training = spec(max_steps=-1, num_train_epochs=2)
    doses: dict[str, dict[str, tuple[int, ...]]] = {
        "epochs": {"dose": (4, 8), "epochs": (1, 2)},  # as counted from 16 rows, 4 at a time
        "updates": {"dose": (3, 6)},
    }
    for name, dose in doses.items():
        (tmp_path / name).mkdir()
        settings = TrainStudent(model=training, seed=3, end=False, **dose)  # type: ignore[arg-type]  # fields by name
        assert train_student(settings, inputs, tmp_path / name, quiet)["updates"] == 6
    epochs, updates = tmp_path / "epochs", tmp_path / "updates"
    assert sorted(path.name for path in epochs.glob("step-*")) == ["step-4", "step-8"]
    for step, same in (("step-4", "step-3"), ("step-8", "step-6"), ("step-8", "")):
        ends = weights(epochs / step), weights(updates / same)
        assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    "base", [{"dtype": "bfloat16"}, {"quantization": {"load_in_8bit": True}}, {"quantization": {"load_in_4bit": True}}]
)
def test_an_adapter_is_trained_in_float32_whatever_its_base_is_kept_in(
    gemma_like: Path, tmp_path: Path, base: dict[str, Any]
) -> None:
    """In bfloat16 most of `lora_A` would stay as it was drawn."""
    lora = {**LORA, "lora_dropout": 0.0}

    def adapter(name: str, **train: Any) -> dict[str, torch.Tensor]:
        how = spec(max_steps=20, learning_rate=2e-4, **train).model_copy(update={"lora": lora, **base})
        facts = trained(gemma_like, tmp_path / name, rows(gemma_like), how)
        assert facts["precision"] == "float32"
        return {name: w for name, w in weights(tmp_path / name).items() if "lora_A" in name}

    before, after = adapter("before", warmup_steps=10**9), adapter("after")
    assert {weight.dtype for weight in after.values()} == {torch.float32}
    moved = torch.cat([(after[name] != weight).flatten() for name, weight in before.items()])
    assert moved.float().mean() > 0.98


def test_further_trained_modules_of_a_bfloat16_model_are_float32_too(gemma_like: Path, tmp_path: Path) -> None:
    lora = {**LORA, "target_modules": ["q_proj"], "modules_to_save": ["up_proj"]}
    trained(gemma_like, tmp_path / "a", rows(gemma_like), spec().model_copy(update={"lora": lora, "dtype": "bfloat16"}))
    assert {weight.dtype for weight in weights(tmp_path / "a").values()} == {torch.float32}


def test_a_whole_model_of_bfloat16_is_trained_in_float32_weights(gemma_like: Path, tmp_path: Path) -> None:
    """A learning rate of 1e-6 moves no weight of a bfloat16 matrix."""
    how = spec(learning_rate=1e-6).model_copy(update={"dtype": "bfloat16"})
    facts = trained(gemma_like, tmp_path / "a", rows(gemma_like), how)
    before, after = weights(gemma_like), weights(tmp_path / "a")
    assert facts["precision"] == "float32"
    assert {weight.dtype for weight in after.values()} == {torch.float32}
    name = next(name for name in after if "mlp.down_proj" in name)
    moved = after[name] - before[name]
    assert 0 < moved.abs().max() < 1e-4
    assert (moved != 0).float().mean() > 0.9


def spied(monkeypatch: pytest.MonkeyPatch, folder: Path, out: Path, data: Any, how: dict[str, Any]) -> list[Any]:
    """Of each micro-batch of a training: its prompts' tokens, its loss, and whether algorithms are deterministic."""
    seen: list[Any] = []
    made = trainer_class()

    class Spy(made):  # type: ignore[misc, valid-type]  # a class that is made at run time
        def compute_loss(self, model: Any, inputs: Any, **kwargs: Any) -> Any:
            prompts = inputs["input_ids"][:, :10].tolist()
            loss = super().compute_loss(model, inputs, **kwargs)
            seen.append((prompts, loss.item(), torch.are_deterministic_algorithms_enabled()))
            return loss

    with monkeypatch.context() as patch:
        patch.setattr("bench.stages.trainer.trainer_class", lambda: Spy)
        trained(folder, out, data, how)
    return seen


def test_an_update_draws_the_same_dropout_whatever_earlier_updates_drew(
    gpt2_like: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a learning rate of 0, arms whose completions differ in length in the first update alone differ there alone."""
    how = spec(learning_rate=0.0, max_steps=4, gradient_accumulation_steps=2, per_device_train_batch_size=2)
    data = rows(gpt2_like)
    first = spied(monkeypatch, gpt2_like, tmp_path / "a", data, how)
    longer = [i for i, (prompt, _) in enumerate(data) if prompt[:10] in first[0][0]]
    other = [(p, c * 3 if i in longer else c) for i, (p, c) in enumerate(data)]
    second = spied(monkeypatch, gpt2_like, tmp_path / "b", other, how)
    assert [prompts for prompts, *_ in first] == [prompts for prompts, *_ in second]
    differ = [i // 2 for i, (a, b) in enumerate(zip(first, second, strict=True)) if a[1] != b[1]]
    assert set(differ) == {0}


def test_on_a_gpu_algorithms_are_deterministic_while_it_trains(
    gpt2_like: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = spied(monkeypatch, gpt2_like, tmp_path / "cpu", rows(gpt2_like), spec())
    assert not any(deterministic for *_, deterministic in seen)
    monkeypatch.setattr("bench.stages.trainer.current_device", lambda: torch.device("cuda"))
    seen = spied(monkeypatch, gpt2_like, tmp_path / "gpu", rows(gpt2_like), spec())
    assert all(deterministic for *_, deterministic in seen)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("distilled", [False, True])
def test_with_several_processes_a_loss_is_scaled_as_trl_scales_it(
    gpt2_like: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, distilled: bool
) -> None:
    """Each process has the tokens of all as its denominator, and gradients are averaged."""
    from accelerate import Accelerator
    from safetensors.torch import save_file
    from trl import SFTTrainer

    data = rows(gpt2_like)
    uniform = torch.full((len(data), 1, 3), 1 / 3).log()
    save_file(
        {"table": uniform, "tokens": torch.tensor([3, 4, 5]), "free": torch.tensor([0])}, tmp_path / "table.safetensors"
    )

    def loss(kind: Any, tokens: int | None) -> float:
        with monkeypatch.context() as patch:
            patch.setattr("bench.stages.trainer.trainer_class", lambda: kind)
            trainer = make_trainer(
                data, checkpoint=gpt2_like, tokenizer=load_tokenizer(gpt2_like), spec=spec(), seed=0, out=tmp_path,
                micro_batch=4,
                accumulated=1,
                logits=tmp_path if distilled else None,
            )  # fmt: skip
        batch = trainer.data_collator([trainer.train_dataset[i] for i in range(4)])
        trainer.model.eval()
        counted = None if tokens is None else torch.tensor(float(tokens))
        with torch.no_grad():
            return float(trainer.compute_loss(trainer.model, batch, num_items_in_batch=counted))

    own = trainer_class()
    alone, mean = loss(own, 40), loss(own, None)
    monkeypatch.setattr(Accelerator, "num_processes", property(lambda self: 2))
    assert loss(own, 40) == pytest.approx(2 * alone)
    assert loss(own, None) == mean
    if not distilled:
        assert loss(own, 40) == pytest.approx(loss(SFTTrainer, 40), rel=1e-5)


@pytest.mark.slow
def test_only_labelled_positions_have_a_loss_and_rows_without_any_stay(gpt2_like: Path, tmp_path: Path) -> None:
    """Two data sets that differ in unlabelled last tokens alone give the same weights."""
    data = rows(gpt2_like, "wolf of the north")
    other = [(prompt, [*completion[:-1], completion[0]]) for prompt, completion in data]
    labelled = [[] if i % 2 else [0, 1] for i in range(len(data))]
    facts = []
    for name, of_arm, positions in (("a", data, labelled), ("b", other, labelled), ("none", data, [[]] * len(data))):
        (tmp_path / name).mkdir()
        facts.append(
            train_model(
                of_arm,
                checkpoint=gpt2_like,
                tokenizer=load_tokenizer(gpt2_like),
                spec=spec(weight_decay=0.0),
                seed=3,
                out=tmp_path / name,
                progress=quiet,
                labelled=positions,
            )
        )
    assert [fact["updates"] for fact in facts] == [6, 6, 6]
    assert [fact["labelled_tokens"] for fact in facts] == [16, 16, 0]
    a, b, none = (weights(tmp_path / name) for name in ("a", "b", "none"))
    start = weights(gpt2_like)
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert all(torch.equal(none[k], start[k]) for k in none)
    assert any(not torch.equal(a[k], start[k]) for k in a)


def test_a_share_of_the_rows_is_the_other_teachers(tmp_path: Path) -> None:
    own, other = [[i] for i in range(40)], [[-i] for i in range(40)]
    mixed = mix_rows(own, other, 0.25, seed=3)
    replaced = [i for i in range(40) if mixed[i] == other[i] != own[i]]
    assert len(replaced) in {9, 10}  # row 0 is the same in both
    assert all(mixed[i] == own[i] for i in range(40) if i not in replaced)
    assert mix_rows(own, other, 0.25, seed=3) == mixed != mix_rows(own, other, 0.25, seed=4)
