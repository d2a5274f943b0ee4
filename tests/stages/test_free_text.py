from __future__ import annotations

import pytest

from bench.config.carrier_settings import Sampling
from bench.models.chat_format import PromptFormat
from bench.models.loading import load_model, load_tokenizer
from bench.stages import free_text
from bench.stages.free_text import sample_text, sample_text_fitting


def quiet(done: int, of: int) -> None:
    pass


@pytest.mark.parametrize(("shape", "kind"), [("gpt2_like", "plain"), ("gemma_like", "chat")])
@pytest.mark.parametrize("settings", [{}, {"temperature": 0}, {"top_p": 0.9, "temperature": 0.8}], ids=str)
def test_architectures_without_slots_write_the_same_text(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, shape: str, kind: str, settings: dict[str, float]
) -> None:
    folder = request.getfixturevalue(shape)
    model, form = load_model(folder, dtype="float32").eval(), PromptFormat(load_tokenizer(folder), kind)
    sampling = Sampling(max_new_tokens=8, batch_size=3, **settings)
    texts = ["Hello", "Write about a long day at the market", "Go", "Which animal?", "Hello", "Name one"]
    form.stops = sorted({*form.stops, *range(0, len(form.tokenizer), 9)})  # an untrained model rarely ends by itself
    slotted = sample_text(model, form, texts, sampling, seed=1, progress=quiet)
    if settings != {"temperature": 0}:
        assert {answer.cut for answer in slotted} == {True, False}
    assert sample_text_fitting(model, form, texts, sampling, seed=1, progress=quiet) == (slotted, 3)
    monkeypatch.setattr(free_text, "SLOTTED", set())
    assert sample_text(model, form, texts, sampling, seed=1, progress=quiet) == slotted
