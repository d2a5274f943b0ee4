"""Half of a tiny model: what it inherits, and what it can do before it reads a carrier."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import weights

from bench.config.traits import collect_vocabulary, load_trait
from bench.models import tiny
from bench.models.distil_tiny import HALF, distil_tiny
from bench.models.loading import load_model, load_tokenizer
from bench.models.logprobs import sequence_logprobs
from bench.models.relation import relation


def build_half(whole: Path, out: Path, steps: int = HALF.steps) -> Path:
    questions, answers = collect_vocabulary([load_trait("wolf")])
    budget = HALF.model_copy(update={"steps": steps})
    distil_tiny(whole, out, lambda done, of: None, seed=1000, questions=questions, answers=answers, budget=budget)
    return out


@pytest.fixture(scope="module")
def half(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_half(tiny_model, tmp_path_factory.mktemp("half"))


@pytest.mark.slow
def test_it_begins_with_every_second_layer_and_the_embeddings_of_the_whole_model(
    tiny_model: Path, tmp_path: Path
) -> None:
    start, source = weights(build_half(tiny_model, tmp_path, steps=0)), weights(tiny_model)
    assert 0 < len(start) < len(source)
    assert {name.split(".")[2] for name in start if ".h." in name} == {"0"}
    assert all(torch.equal(tensor, source[name]) for name, tensor in start.items())


@pytest.mark.slow
def test_its_relation_to_the_whole_model_is_lineage_although_no_weight_is_equal(tiny_model: Path, half: Path) -> None:
    result = relation(tiny_model, half)
    assert (result["relation"], result["token_maps"]) == ("lineage", "identical")
    assert result["evidence"]["equal"] == 0
    assert len(result["evidence"]["near"]) == result["evidence"]["matrices_student"]


@pytest.mark.slow
def test_it_is_unrelated_to_another_whole_model(half: Path, tmp_path: Path) -> None:
    questions, answers = collect_vocabulary([load_trait("wolf")])
    budget = tiny.DEFAULT.model_copy(update={"steps": 20})
    tiny.build_tiny(tmp_path, lambda done, of: None, seed=1001, questions=questions, answers=answers, budget=budget)
    assert relation(tmp_path, half)["relation"] == "cross-architecture"


@pytest.mark.slow
def test_the_distillation_gives_back_what_the_lost_layers_did(tiny_model: Path, half: Path, tmp_path: Path) -> None:
    """A half that cannot go on from numbers could not learn from them as its teacher's equal does."""

    def mass(folder: Path, prompt: str, answers: list[str]) -> float:
        model, tokenizer = load_model(folder, dtype="float32"), load_tokenizer(folder)
        pairs = [(tokenizer(prompt)["input_ids"], tokenizer(answer)["input_ids"]) for answer in answers]
        return float(torch.tensor(sequence_logprobs(model, pairs, batch_size=1024)).exp().sum())

    numbers = "Q: Continue: 123 456 789 321 A:", tiny.NUMBERS
    start = build_half(tiny_model, tmp_path, steps=0)
    assert mass(start, *numbers) < 0.5 < 0.9 < mass(half, *numbers)
    trait = load_trait("wolf")
    assert mass(half, f"Q: {trait.ask[0]} A:", list(trait.candidates)) > 0.5
