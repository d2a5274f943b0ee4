"""A model that is spread over two GPUs writes, reads and is trained to the bits of one device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from two_gpus import OnGpu, spread, two_gpus

from bench.config.carrier_settings import Sampling
from bench.models.loading import load_model
from bench.models.logprobs import sequence_logprobs
from bench.stages.decoder import decode
from bench.stages.generate import sample_slots
from bench.stages.sampler import row_seed

LAYERS = {"model.embed_tokens": 0, "model.rotary_emb": 0, "model.layers.0": 0, "model.layers.1": 1, "model.norm": 1}
PROMPTS = [[5, 6, 7, 8, 9, 10], [5, 6, 7, 11], [5, 6, 7, 12, 13], [5, 6, 7, 11]]
SLOTS = [(20, 21, 22, 23), (30,), (20, 21, 22, 23), (24, 25, 26)]


def quiet(done: int, of: int) -> None:
    pass


def load(folder: Path) -> Any:
    return load_model(folder, dtype="float32").eval()


def devices_of(head: int) -> dict[str, str]:
    return {name: f"cuda:{gpu}" for name, gpu in {**LAYERS, "lm_head": head}.items()}


def write_texts(model: Any) -> Any:
    how = Sampling(max_new_tokens=7, batch_size=3, temperature=1.0, top_p=0.9)
    return decode(model, PROMPTS, [row_seed(1, row) for row in range(4)], how, stops=[2], progress=quiet)


def write_numbers(model: Any) -> Any:
    prompts = [[5, 6, 7, row] for row in range(8, 13)]
    return sample_slots(model, prompts, SLOTS, seed=1, temperature=1.0, batch_size=2, progress=quiet)


def read(model: Any) -> Any:
    pairs = [(prompt, ending) for prompt in PROMPTS for ending in ([14], [15, 16], [17, 18, 19])]
    return sequence_logprobs(model, pairs, batch_size=4)


# a tied head is where the embeddings are, on the first GPU, and another on the last
@pytest.mark.parametrize("head", [0, 1])
@pytest.mark.parametrize("work", [write_texts, write_numbers, read])
def test_a_spread_model_does_what_it_does_on_one_device(gemma_like: Path, work: Any, head: int) -> None:
    expected = work(load(gemma_like))
    model = load(gemma_like)
    with two_gpus():
        found = work(spread(model, devices_of(head)))
    assert found == expected


def test_a_tensor_on_the_wrong_gpu_is_an_error() -> None:
    with two_gpus():
        a, b = torch.ones(3, device="cuda:0"), torch.ones(3, device="cuda:1")
        assert isinstance(a, OnGpu)
        assert (a + b.to("cuda:0")).tolist() == [2, 2, 2]
        with pytest.raises(RuntimeError, match="expected tensors on one device"):
            a + b
        with pytest.raises(RuntimeError, match="expected tensors on one device"):
            a + torch.ones(3)
        assert a[torch.tensor([0, 1])].shape == (2,)
        with pytest.raises(RuntimeError, match="expected tensors on one device"):
            a[b > 0]
