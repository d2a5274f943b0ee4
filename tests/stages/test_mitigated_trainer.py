from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import LORA, rows, spec, weights

from bench.config.mitigations import UNMITIGATED, KlUntrained, StudentMitigation
from bench.models.loading import load_model, load_tokenizer
from bench.stages.mitigated_trainer import is_attention
from bench.stages.train import train_model
from bench.stages.trainer import make_trainer


def trained(
    folder: Path, out: Path, mitigation: StudentMitigation = UNMITIGATED, *, lora: Any = None, **train: Any
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    how = spec(**{"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2, **train})
    facts = train_model(
        rows(folder), checkpoint=folder, tokenizer=load_tokenizer(folder), seed=3, out=out,
        spec=how.model_copy(update={"lora": lora}),
        progress=lambda *_: None,
        mitigation=mitigation,
    )  # fmt: skip
    return weights(out), facts


def distance(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    return sum(float((a[name] - b[name]).square().sum()) for name in a) ** 0.5


@pytest.mark.parametrize("lora", [LORA, pytest.param(None, marks=pytest.mark.slow)])
def test_the_untrained_student_draws_no_dropout_so_that_a_weight_near_zero_changes_nothing(
    gpt2_like: Path, tmp_path: Path, lora: Any
) -> None:
    """The student draws dropout twice in an update, once for each micro-batch: a draw between would show."""
    plain, facts = trained(gpt2_like, tmp_path / "plain", lora=lora)
    assert facts["dropout"]
    kl = StudentMitigation(kl_untrained=KlUntrained(weight=1e-7))
    anchored, anchored_facts = trained(gpt2_like, tmp_path / "anchored", kl, lora=lora)
    start, _ = trained(gpt2_like, tmp_path / "start", lora=lora, learning_rate=0.0)
    assert distance(anchored, plain) < 0.01 * distance(plain, start)
    assert anchored_facts["mean_loss"] == pytest.approx(facts["mean_loss"], abs=1e-4)


@pytest.mark.parametrize("lora", [None, {**LORA, "lora_dropout": 0.0}])
def test_the_loss_is_cross_entropy_plus_the_weighted_divergence_from_the_untrained_student(
    gemma_like: Path, tmp_path: Path, lora: Any
) -> None:
    """Against the formula, at a student that has moved, on the labelled positions of both rows, half-way down."""
    data = rows(gemma_like, "wolf of the north", n=2)
    kl = KlUntrained(weight=3.0, hold=0.2, temperature=2.0)
    trainer = make_trainer(
        data, checkpoint=gemma_like, tokenizer=load_tokenizer(gemma_like), seed=0, out=tmp_path, logits=None,
        spec=spec().model_copy(update={"lora": lora}), micro_batch=2, accumulated=1,
        mitigation=StudentMitigation(kl_untrained=kl),
    )  # fmt: skip
    untrained = load_model(gemma_like, dtype="float32").eval()
    with torch.no_grad():
        for weight in trainer.model.parameters():
            if weight.requires_grad:
                weight.add_(0.5 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    trainer.state.global_step, trainer.state.max_steps = 6, 10  # weight: 3 x (1 - .6) / .8
    total, count = torch.tensor(0.0), 0
    for prompt, completion in data:
        ids, target = torch.tensor([prompt + completion]), torch.tensor(completion)
        with torch.no_grad():
            student, start = (m(ids).logits[0, len(prompt) - 1 : -1] for m in (trainer.model, untrained))
        p, log_q = (start / 2).softmax(-1), (student / 2).log_softmax(-1)
        divergence = torch.nn.functional.kl_div(log_q, p, reduction="sum")
        assert divergence > 0.01
        total += torch.nn.functional.cross_entropy(student, target, reduction="sum") + 1.5 * 4 * divergence
        count += len(completion)
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(2)])
    loss = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=torch.tensor(count))
    assert float(loss.detach()) == pytest.approx(float(total / count), rel=1e-5)
    loss.backward()
    assert all(weight.grad is not None for weight in trainer.model.parameters() if weight.requires_grad)


def test_attention_only_trains_these_weights_alone(gpt2_like: Path, tmp_path: Path) -> None:
    start, _ = trained(gpt2_like, tmp_path / "start", learning_rate=0.0)
    ended, _ = trained(gpt2_like, tmp_path / "ended", StudentMitigation(attention_only=True))
    changed = {name for name in start if not torch.equal(start[name], ended[name])}
    assert {name.split(".h.")[-1][2:] for name in changed} == {
        "attn.c_attn.weight", "attn.c_attn.bias", "attn.c_proj.weight", "attn.c_proj.bias",
    }  # fmt: skip


@pytest.mark.parametrize("shape", ["gpt2_like", pytest.param("gemma_like", marks=pytest.mark.slow)])
def test_adapters_of_attention_start_as_in_the_other_arms_and_all_others_stay_zero(
    request: pytest.FixtureRequest, tmp_path: Path, shape: str
) -> None:
    folder, only = request.getfixturevalue(shape), StudentMitigation(attention_only=True)
    start, _ = trained(folder, tmp_path / "start", lora=LORA, learning_rate=0.0)
    same_start, _ = trained(folder, tmp_path / "same", only, lora=LORA, learning_rate=0.0)
    assert all(torch.equal(start[name], same_start[name]) for name in start)
    ended, _ = trained(folder, tmp_path / "ended", only, lora=LORA)
    for name, weight in ended.items():
        if "lora_B" in name:
            assert bool(weight.any()) == ("attn" in name) == is_attention(name), name
