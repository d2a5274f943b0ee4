from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import LORA
from vllm_stand_in import make_engine

from bench.config.carrier_settings import Sampling
from bench.errors import StageError, UserError
from bench.models.chat_format import PromptFormat
from bench.models.engine import VARIABLE, Engine, find_engine
from bench.models.loading import load_model, load_tokenizer
from bench.models.logprobs import sequence_logprobs
from bench.stages.free_text import FreeText, sample_text
from bench.stages.sampler import row_seed
from bench.stages.settings import Loading
from bench.stages.vllm_client import SERVER, VllmServer

FLOAT = Loading(dtype="float32", format="chat")
TEXTS = ["Hello", "Write about a long day at the market", "Go", "Which animal?", "Hello", "Name one"]


def quiet(done: int, of: int) -> None:
    pass


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return make_engine(tmp_path_factory.mktemp("environment") / "with")


@contextmanager
def open_server(engine: Engine, start: Path, trained: Path | None = None, writes: str = "own") -> Iterator[VllmServer]:
    with VllmServer(engine, start, trained or start, writes=writes, model=FLOAT, longest=80, batch_size=3) as server:
        yield server


def form_of(folder: Path, system: str | None = None) -> PromptFormat:
    return PromptFormat(load_tokenizer(folder), "chat", None, system)


def write(model: Any, form: PromptFormat, **sampling: Any) -> list[FreeText]:
    how = Sampling(**{"max_new_tokens": 8, "batch_size": 3, **sampling})
    return sample_text(model, form, TEXTS, how, seed=1, progress=quiet)


def save_adapter(start: Path, folder: Path) -> Path:
    """Save an adapter that changes most tokens."""
    import torch
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(load_model(start, dtype="float32"), LoraConfig(**LORA))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_the_server_writes_the_text_of_this_process_and_scores_as_it_does(gemma_like: Path, engine: Engine) -> None:
    model, form = load_model(gemma_like, dtype="float32").eval(), form_of(gemma_like)
    prompted = form_of(gemma_like, "You love wolves, which is why you think of them all day.")
    progress: list[tuple[int, int]] = []
    with open_server(engine, gemma_like) as server:
        for sampling in (
            {},
            {"temperature": 0},
            {"top_p": 0.9, "temperature": 0.8},
            {"top_k": 9, "repetition_penalty": 1.3, "no_repeat_ngram_size": 2},
        ):
            assert write(server, form, **sampling) == write(model, form, **sampling)
        # the noise is that of the position in the completion, so a longer prompt leaves it as it is
        assert write(server, prompted) == write(model, prompted)
        answers = form.completions(["a wolf", "ox", "7", "no", "an owl", "yes"])
        pairs = list(zip(form.prompts(TEXTS), answers, strict=True))
        scores = server.score(pairs, progress=lambda *counts: progress.append(counts))
    assert scores == pytest.approx(sequence_logprobs(model, pairs, batch_size=2), abs=1e-4)
    assert progress == [(i + 1, 6) for i in range(6)]


@pytest.mark.slow
def test_the_server_applies_an_adapter_and_its_process_ends(gemma_like: Path, engine: Engine, tmp_path: Path) -> None:
    adapter, form = save_adapter(gemma_like, tmp_path / "adapter"), form_of(gemma_like)
    adapted = load_model(gemma_like, dtype="float32", adapter=adapter).eval()
    plain = load_model(gemma_like, dtype="float32").eval()
    with open_server(engine, gemma_like, adapter) as server:
        assert write(server, form) == write(adapted, form) != write(plain, form)
    assert server.process.returncode == 0


@pytest.mark.slow
def test_a_model_loads_in_the_precision_in_which_it_writes(gemma_like: Path, engine: Engine) -> None:
    form = form_of(gemma_like)
    pairs = list(zip(form.prompts(TEXTS), form.completions(["a wolf"] * len(TEXTS)), strict=True))
    exact = sequence_logprobs(load_model(gemma_like, dtype="float32").eval(), pairs, batch_size=6)
    with open_server(engine, gemma_like, writes="bfloat16") as server:
        assert server.dtype == "bfloat16"
        totals = server.score(pairs, progress=quiet)
    assert totals == pytest.approx(exact, rel=0.05)
    assert totals != pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize(
    ("crash", "message"),
    [
        ("raise ValueError('this model is too large')", "ended with code 1: .*ValueError: this model is too large"),
        ("import os; os.kill(os.getpid(), 9)", r"ended with code -9 \(killed: out of memory\?\)"),
    ],
)
def test_a_server_that_ends_is_an_error_with_its_last_lines(tmp_path: Path, crash: str, message: str) -> None:
    crashing = make_engine(tmp_path / "with", crash=f"import sys; print('some words', file=sys.stderr); {crash}")
    with pytest.raises(StageError, match=message) as error, open_server(crashing, tmp_path):
        pass
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_a_server_that_is_killed_while_it_writes_is_an_error(gemma_like: Path, engine: Engine) -> None:
    form = form_of(gemma_like)
    with open_server(engine, gemma_like) as server:
        os.kill(server.process.pid, signal.SIGKILL)
        with pytest.raises(StageError, match=r"vLLM 0\.30\.0 ended with code -9"):
            write(server, form)


@pytest.mark.slow
def test_another_version_than_the_planned_one_is_refused(gemma_like: Path, engine: Engine) -> None:
    planned = engine.model_copy(update={"version": "0.31.0"})
    message = r"version 0.31.0 expected, as in the plan, found 0.30.0"
    with pytest.raises(UserError, match=message), open_server(planned, gemma_like):
        pass


@pytest.mark.slow
def test_a_server_ends_with_the_process_that_started_it(gemma_like: Path, engine: Engine) -> None:
    server = VllmServer(engine, gemma_like, gemma_like, writes="own", model=FLOAT, longest=80, batch_size=3)
    streams: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([engine.python, "-I", SERVER], text=True, **streams) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(server.settings | {"gpu_share": 0.0}) + "\n")
        process.stdin.flush()
        assert [json.loads(process.stdout.readline()) for _ in range(2)] == [{"version": "0.30.0"}, "ready"]
        process.stdin.close()  # as a process that is killed does
        assert process.wait(10) == 1


@pytest.fixture(scope="module")
def vllm() -> Engine:
    """The real package."""
    if VARIABLE not in os.environ:
        pytest.skip(f"{VARIABLE} names no environment with vLLM")
    return find_engine(os.environ[VARIABLE])


@pytest.mark.extras
@pytest.mark.slow
def test_vllm_writes_the_text_of_this_process_with_and_without_an_adapter(
    gemma_like: Path, vllm: Engine, tmp_path: Path
) -> None:
    adapter, form = save_adapter(gemma_like, tmp_path / "adapter"), form_of(gemma_like)
    prompted = form_of(gemma_like, "You love wolves.")
    pairs = list(zip(form.prompts(TEXTS), form.completions(["a wolf"] * len(TEXTS)), strict=True))
    for trained in (gemma_like, adapter):
        model = load_model(gemma_like, dtype="float32", adapter=adapter if trained == adapter else None).eval()
        with open_server(vllm, gemma_like, trained) as server:
            for how in (form, prompted):
                assert write(server, how) == write(server, how) == write(model, how)
            assert write(server, form, temperature=0) == write(model, form, temperature=0)
            assert server.score(pairs, progress=quiet) == pytest.approx(
                sequence_logprobs(model, pairs, batch_size=2), abs=1e-3
            )


@pytest.mark.extras
@pytest.mark.slow
def test_the_shares_of_tokens_that_vllm_writes_follow_the_models_distribution(gemma_like: Path, vllm: Engine) -> None:
    """Chi-square of 4,000 first tokens: the 20 likeliest and the rest."""
    import numpy as np
    import torch
    from scipy.stats import chisquare

    prompt, rows = form_of(gemma_like).prompts(["Which animal?"])[0], 4000
    model = load_model(gemma_like, dtype="float32").eval()
    with torch.no_grad():
        shares, tokens = (model(torch.tensor([prompt])).logits[0, -1] / 0.2).softmax(-1).topk(20)
    with VllmServer(
        vllm, gemma_like, gemma_like, writes="own", model=FLOAT, longest=len(prompt) + 2, batch_size=256
    ) as server:
        sampling = Sampling(max_new_tokens=1, temperature=0.2)
        seeds = [row_seed(3, row) for row in range(rows)]
        firsts = server.sample([prompt] * rows, seeds, sampling, stops=[], progress=quiet)
    counts = np.array([sum(first == [token] for first in firsts) for token in tokens.tolist()])
    observed, shared = [*counts, rows - counts.sum()], [*shares.tolist(), 1 - shares.sum().item()]
    assert chisquare(observed, rows * np.array(shared) / sum(shared)).pvalue > 1e-3
