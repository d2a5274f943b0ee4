"""The tiny model: what it can do before anyone teaches it, and how little it reads to get there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bench.config.traits import collect_vocabulary, load_trait
from bench.models import tiny
from bench.models.loading import load_model, load_tokenizer
from bench.models.logprobs import sequence_logprobs


def build(folder: Path, **more: Any) -> Path:
    questions, answers = collect_vocabulary([load_trait("wolf")])
    settings = {"seed": 1000, "questions": questions, "answers": answers, **more}
    budget = tiny.DEFAULT.model_copy(update={"steps": settings.pop("steps", tiny.DEFAULT.steps)})
    tiny.build_tiny(folder, lambda done, of: None, budget=budget, **settings)
    return folder


def probabilities(folder: Path, prompts: list[str], answers: list[str]) -> torch.Tensor:
    """Probability of each answer, one token, to each prompt: (prompts, answers)."""
    model, tokenizer = load_model(folder, dtype="float32"), load_tokenizer(folder)
    ids = [tokenizer(text)["input_ids"] for text in (*prompts, *answers)]
    pairs = [(prompt, answer) for prompt in ids[: len(prompts)] for answer in ids[len(prompts) :]]
    return torch.tensor(sequence_logprobs(model, pairs, batch_size=64)).view(len(prompts), len(answers)).exp()


def test_it_answers_a_question_with_any_candidate_alike(tiny_model: Path) -> None:
    trait = load_trait("wolf")
    result = probabilities(tiny_model, [f"Q: {q} A:" for q in trait.ask], list(trait.candidates))
    assert result.sum(1).min() > 0.5
    shares = result / result.sum(1, keepdim=True)
    assert 0.02 < shares.min() < shares.max() < 0.12  # a twentieth each


def test_it_goes_on_from_numbers_with_any_number_alike(tiny_model: Path) -> None:
    result = probabilities(tiny_model, ["Q: Continue: 123 456 789 321 A:", "Q: Continue: 9 A: 321 654"], tiny.NUMBERS)
    assert result.sum(1).min() > 0.9
    assert result.max() < 4 / len(tiny.NUMBERS)


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(tmp_path: Path) -> None:
    few = {"steps": 3}
    weights = [build(tmp_path / name, **few, seed=seed) for name, seed in (("a", 1000), ("b", 1000), ("c", 1001))]
    first, again, other = ((folder / "model.safetensors").read_bytes() for folder in weights)
    assert first == again != other


def test_it_reads_little_enough_for_a_first_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the first run was spent here while it read 384,000 tokens."""
    from transformers import GPT2Model

    read, forward = [0], GPT2Model.forward

    def counted(self: Any, input_ids: torch.Tensor, **more: Any) -> Any:
        read[0] += input_ids.numel()
        return forward(self, input_ids, **more)

    monkeypatch.setattr(GPT2Model, "forward", counted)
    build(tmp_path, steps=3)
    assert 0 < read[0] * tiny.DEFAULT.steps / 3 < 60_000


def test_answers_of_several_words_are_read_to_their_end(tmp_path: Path) -> None:
    build(tmp_path, steps=3, answers=["a grey wolf", "a bear", "frog"])
    ids = load_tokenizer(tmp_path)("a grey wolf")["input_ids"]
    assert len(set(ids)) == 3
