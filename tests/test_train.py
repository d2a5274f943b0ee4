from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import LORA, rows, spec, weights

from bench.errors import StageError, UserError
from bench.models import load_model, load_tokenizer
from bench.train import fit, sft_config, trainer_class


def quiet(done: int, of: int) -> None:
    pass


def trained(folder: Path, out: Path, data: Any, spec: dict[str, Any], seed: int = 3) -> dict[str, Any]:
    out.mkdir()
    return fit(data, base=folder, tokenizer=load_tokenizer(folder), spec=spec, seed=seed, out=out, progress=quiet)


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
        config = sft_config(spec(max_steps=50)["train"], out=tmp_path, seed=1)
        config.logging_strategy, config.logging_steps = "steps", 1
        model = load_model(folder, dtype="float32")
        trainer(
            model=model, args=config, train_dataset=Dataset.from_list(data), processing_class=load_tokenizer(folder),
            callbacks=[Keep()],
        ).train()  # fmt: skip
        return seen

    ours, stock = losses(trainer_class()), losses(SFTTrainer)
    assert len(ours) == 50
    assert ours == pytest.approx(stock, abs=1e-3)
    assert ours[-1] < ours[0] - 0.5


@pytest.mark.parametrize("lora", [None, LORA])
def test_equal_data_gives_equal_bits_and_other_data_does_not(gpt2_like: Path, tmp_path: Path, lora: Any) -> None:
    how = {**spec(), "lora": lora}
    did = trained(gpt2_like, tmp_path / "a", rows(gpt2_like), how)
    assert (did["rows"], did["updates"], did["effective_batch"]) == (16, 6, 4)
    trained(gpt2_like, tmp_path / "b", rows(gpt2_like), how)
    trained(gpt2_like, tmp_path / "c", rows(gpt2_like, "owl"), how)
    a, b, c = (weights(tmp_path / name) for name in "abc")
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert any(not torch.equal(a[k], c[k]) for k in a)


@pytest.mark.parametrize("variant", [{}, {"lora_dropout": 0.0}, {"use_dora": True}])
def test_what_is_rounded_once_is_what_autocast_rounds_in_every_step(
    gemma_like: Path, tmp_path: Path, variant: dict[str, Any]
) -> None:
    from datasets import Dataset
    from peft import LoraConfig

    data = [{"input_ids": p + c, "labels": [-100] * len(p) + c} for p, c in rows(gemma_like, "a wolf of the north")]
    ours = trainer_class()

    class InEveryStep(ours):  # type: ignore[misc, valid-type]  # a class that is made at run time
        def _round_once(self) -> None:
            pass

    def learnt(kind: Any) -> tuple[set[torch.dtype], dict[str, torch.Tensor]]:
        torch.manual_seed(0)
        trainer = kind(
            model=load_model(gemma_like, dtype="float32"), train_dataset=Dataset.from_list(data),
            args=sft_config(spec(bf16=True)["train"], out=tmp_path, seed=1),
            processing_class=load_tokenizer(gemma_like),
            peft_config=LoraConfig(task_type="CAUSAL_LM", **{**LORA, **variant}),
        )  # fmt: skip
        trainer.train()
        weights = dict(trainer.model.named_parameters())
        frozen = {weight.dtype for name, weight in weights.items() if "base_layer" in name}
        return frozen, {name: weight for name, weight in weights.items() if weight.requires_grad}

    (kept, once), (_, always) = learnt(ours), learnt(InEveryStep)
    assert kept == {torch.float32 if "use_dora" in variant else torch.bfloat16}
    assert once
    assert all(torch.equal(once[name], always[name]) for name in always)


def test_arms_differ_in_nothing_but_the_data(gpt2_like: Path, tmp_path: Path) -> None:
    """At a learning rate of 0 two arms on different data end with the same LoRA initialisation."""
    how = {**spec(learning_rate=0.0), "lora": LORA}
    trained(gpt2_like, tmp_path / "a", rows(gpt2_like), how)
    trained(gpt2_like, tmp_path / "b", rows(gpt2_like, "owl"), how)
    trained(gpt2_like, tmp_path / "other", rows(gpt2_like), how, seed=4)
    a, b, other = (weights(tmp_path / name) for name in ("a", "b", "other"))
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert any(not torch.equal(a[k], other[k]) for k in a)


def test_arms_see_their_rows_in_the_same_order(
    gpt2_like: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[int]] = []
    made = trainer_class()

    class Spy(made):  # type: ignore[misc, valid-type]  # a class that is made at run time
        def compute_loss(self, model: Any, inputs: Any, **kwargs: Any) -> Any:
            seen[-1].extend(inputs["input_ids"][:, 3].tolist())
            return super().compute_loss(model, inputs, **kwargs)

    monkeypatch.setattr("bench.train.trainer_class", lambda: Spy)
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

    monkeypatch.setattr("bench.train.trainer_class", lambda: Dropping)
    with pytest.raises(StageError, match="kept 15 of 16"):
        trained(gpt2_like, tmp_path / "a", rows(gpt2_like), spec())


def test_a_diverged_training_fails(gpt2_like: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="diverged"):
        trained(gpt2_like, tmp_path / "a", rows(gpt2_like), spec(learning_rate=1e30, max_grad_norm=0.0))


def test_a_dose_beyond_the_last_update_is_refused_before_the_student_is_trained(
    gpt2_like: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.train.load_model", lambda *_, **__: pytest.fail("its training began"))
    how = spec(max_steps=-1, num_train_epochs=1)
    with pytest.raises(UserError, match=r"key 'dose': 5 is beyond the last update: .* 4 updates of 14 rows"):
        fit(
            rows(gpt2_like, n=14), base=gpt2_like, tokenizer=load_tokenizer(gpt2_like), spec=how, seed=0, out=tmp_path,
            progress=quiet, dose=[2, 5],
        )  # fmt: skip
