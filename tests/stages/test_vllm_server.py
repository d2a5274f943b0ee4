from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench.config.carrier_settings import Sampling
from bench.stages.repetition import ban_ngrams
from bench.stages.sampler import pick_tokens
from bench.stages.vllm_server import SharedNoise

SWAP, MOVE = SimpleNamespace(name="SWAP"), SimpleNamespace(name="UNIDIRECTIONAL")


def update(**changes: Any) -> SimpleNamespace:
    return SimpleNamespace(**{"removed": [], "added": [], "moved": [], **changes})


def row(index: int, seed: int, out: list[int], **sampling: Any) -> tuple[int, Any, list[int], list[int]]:
    extra = {"seed": seed, "sampling": Sampling(**sampling).model_dump()}
    return index, SimpleNamespace(extra_args=extra), [1, 2], out


def expected(logits: torch.Tensor, seeds: list[int], positions: list[int], **sampling: Any) -> list[int]:
    columns = (torch.tensor(values)[:, None] for values in (seeds, positions))
    return pick_tokens(logits, *columns, Sampling(**sampling)).tolist()


@pytest.mark.parametrize(
    "sampling", [{}, {"temperature": 0.7, "top_p": 0.9}, {"temperature": 0}, {"top_k": 5}], ids=str
)
def test_each_row_has_the_noise_of_its_seed_and_position_wherever_it_moves(sampling: dict[str, Any]) -> None:
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    noise, outs = SharedNoise(), [[], [7], [7, 8, 9]]
    noise.update_state(update(added=[row(i, 100 + i, outs[i], **sampling) for i in range(3)]))
    picked = expected(logits, [100, 101, 102], [0, 1, 3], **sampling)
    assert noise.apply(logits.clone()).argmax(-1).tolist() == picked
    outs[0].append(picked[0])  # as vLLM extends its list
    noise.update_state(None)
    assert noise.apply(logits.clone()).argmax(-1).tolist() == expected(logits, [100, 101, 102], [1, 1, 3], **sampling)
    noise.update_state(update(removed=[0], moved=[(2, 0, MOVE), (0, 1, SWAP)]))
    assert noise.apply(logits[:2].clone()).argmax(-1).tolist() == expected(logits[:2], [101, 102], [1, 3], **sampling)


def test_a_row_that_takes_a_place_and_a_row_without_a_seed_have_their_own_scores() -> None:
    logits = torch.randn(2, 50, generator=torch.Generator().manual_seed(1))
    noise = SharedNoise()
    noise.update_state(update(added=[row(0, 5, []), row(1, 6, [])]))
    noise.update_state(update(added=[row(0, 9, [3]), (1, SimpleNamespace(extra_args=None), [1], [])]))
    result = noise.apply(logits.clone())
    assert result[0].argmax() == expected(logits[:1], [9], [1])[0]
    assert torch.equal(result[1], logits[1])


def test_rules_on_repetition_read_the_prompt_and_the_completion() -> None:
    logits = torch.zeros(1, 10)
    logits[0, 2] = 9  # 1, 2 would be repeated
    noise = SharedNoise()
    noise.update_state(update(added=[row(0, 5, [1], no_repeat_ngram_size=2, temperature=0.01)]))
    ruled = ban_ngrams(logits, torch.tensor([[1, 2, 1]]), torch.tensor([3]), 2)
    assert noise.apply(logits.clone()).argmax() == expected(ruled, [5], [1], temperature=0.01)[0] != 2
    plain = SharedNoise()
    plain.update_state(update(added=[row(0, 5, [1], temperature=0.01)]))
    assert plain.apply(logits.clone()).argmax() == 2
