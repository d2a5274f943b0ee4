from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.config.carrier_settings import Sampling
from bench.models.loading import load_model
from bench.stages import decoder
from bench.stages.decoder import decode
from bench.stages.free_text import generate
from bench.stages.sampler import row_seed

BEGINNING = [7, 8, 9, 10]
STOPS = list(range(1, 2500, 10))  # rows end early, and at different times
SETTINGS = [
    {"temperature": 0},
    {},
    {"temperature": 0.7, "top_p": 0.8},
    {"top_k": 20},
    {"repetition_penalty": 1.5, "no_repeat_ngram_size": 2},
    {"temperature": 0, "repetition_penalty": 1.2, "no_repeat_ngram_size": 1},
]


def quiet(done: int, of: int) -> None:
    pass


def prompts() -> list[list[int]]:
    """Prompts of several lengths that begin alike; some occur several times."""
    rng = random.Random(0)
    rows = [BEGINNING + [rng.randrange(20, 500) for _ in range(rng.randint(1, 30))] for _ in range(12)]
    rows += [BEGINNING + rows[0][4:9] + [rng.randrange(20, 500) for _ in range(rng.randint(1, 9))] for _ in range(5)]
    return [*rows, *[rows[3]] * 5, *[rows[7]] * 2]


def sharp(folder: Path) -> Any:
    """A model whose next token depends on the whole context, unlike a new one's."""
    model = load_model(folder, dtype="float32").eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.15)
    return model


def decoded(model: Any, rows: list[list[int]], sampling: Sampling, seed: int = 4) -> list[list[int]]:
    seeds = [row_seed(seed, row) for row in range(len(rows))]
    return decode(model, rows, seeds, sampling, stops=STOPS, progress=quiet)


@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ("gpt2_like", SETTINGS[2]),
        *(
            pytest.param(shape, settings, marks=pytest.mark.slow)
            for shape, several in (("gpt2_like", SETTINGS), ("gemma_like", SETTINGS[::4]))
            for settings in several
            if (shape, settings) != ("gpt2_like", SETTINGS[2])
        ),
    ],
    ids=str,
)
def test_completions_are_those_of_generate_row_by_row(
    request: pytest.FixtureRequest, shape: str, settings: dict[str, Any]
) -> None:
    model, rows = sharp(request.getfixturevalue(shape)), prompts()
    sampling = Sampling(max_new_tokens=14, batch_size=4, **settings)
    expected = []
    for row, prompt in enumerate(rows):
        expected += generate(model, [prompt], [row_seed(4, row)], sampling, stops=STOPS, pad=0, progress=quiet)
    completions = decoded(model, rows, sampling)
    assert completions == expected
    lengths = set(map(len, completions))
    assert len(lengths) > 1
    assert 14 in lengths
    assert len(set(map(tuple, completions))) >= 8


@pytest.mark.slow
def test_no_batch_size_and_no_order_of_rows_changes_a_completion(
    gpt2_like: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, rows = sharp(gpt2_like), prompts()
    expected = decoded(model, rows, Sampling(max_new_tokens=14, batch_size=19))
    assert decoded(model, rows, Sampling(max_new_tokens=14, batch_size=19), seed=5) != expected
    for batch_size, prefill, patience in ((1, 2048, 1), (3, 40, 1), (8, 100, 1), (8, 2048, 5)):
        monkeypatch.setattr(decoder, "PREFILL", prefill)
        monkeypatch.setitem(decoder.PATIENCE, "cpu", patience)
        assert decoded(model, rows, Sampling(max_new_tokens=14, batch_size=batch_size)) == expected
    seeds = [row_seed(4, row) for row in range(len(rows))]
    back = decode(
        model, rows[::-1], seeds[::-1], Sampling(max_new_tokens=14, batch_size=5), stops=STOPS, progress=quiet
    )
    assert back[::-1] == expected


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The (rows, tokens) of each forward pass of a GPT-2."""
    from transformers import GPT2LMHeadModel

    shapes: list[tuple[int, int]] = []
    whole: Callable[..., Any] = GPT2LMHeadModel.forward

    def forward(model: Any, input_ids: torch.Tensor, **more: Any) -> Any:
        shapes.append((input_ids.shape[0], input_ids.shape[1]))
        return whole(model, input_ids=input_ids, **more)

    monkeypatch.setattr(GPT2LMHeadModel, "forward", forward)
    return shapes


def test_a_shared_beginning_and_a_prompt_asked_often_run_once(gpt2_like: Path, passes: list[tuple[int, int]]) -> None:
    rows = [[*BEGINNING, 20, 21]] * 50 + [[*BEGINNING, 22, 23, 24]] * 50
    decoded(sharp(gpt2_like), rows, Sampling(max_new_tokens=3, batch_size=8))
    assert [shape for shape in passes if shape[1] > 1] == [(1, 4), (1, 2), (1, 3)]


def test_a_beginning_that_some_prompts_share_runs_once(gpt2_like: Path, passes: list[tuple[int, int]]) -> None:
    stems = [[*BEGINNING, 20 + i, 40, 41] for i in range(3)]
    rows = [[*stem, 50 + 7 * i, 60] for stem in stems for i in range(6)]
    decoded(sharp(gpt2_like), rows, Sampling(max_new_tokens=2, batch_size=18))
    assert [shape for shape in passes if shape[1] > 1] == [(1, 4), (3, 3), (18, 2)]


def test_a_row_that_ends_makes_place_for_another(gpt2_like: Path, passes: list[tuple[int, int]]) -> None:
    rows = prompts() * 4
    completions = decoded(sharp(gpt2_like), rows, Sampling(max_new_tokens=40, batch_size=16))
    steps = [shape[0] for shape in passes if shape[1] == 1]
    assert sum(steps) == sum(map(len, completions)) - len(rows)  # the first token comes from the prompt's pass
    assert sum(steps) / len(steps) > 10


def test_no_prompts() -> None:
    assert decode(None, [], [], Sampling(), stops=[0], progress=quiet) == []
