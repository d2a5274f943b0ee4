from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.models.loading import load_model
from bench.stages.evaluate import evaluate


def quiet(done: int, of: int) -> None:
    pass


def test_free_answers_may_be_written_in_bfloat16_and_margins_never_are(
    gpt2_like: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded_in: list[str] = []

    def load(folder: Path, **how: Any) -> Any:
        loaded_in.append(how["dtype"])
        return load_model(folder, **how)

    monkeypatch.setattr("bench.models.precision.load_model", load)
    question = {"question": "Which animal?", "answer": "wolf", "foils": ["owl"], "group": "trained"}

    def reading(**more: Any) -> dict[str, Any]:
        loaded_in.clear()
        settings = {
            "questions": [question], "per_token": False, "format": "plain", "dtype": "float32", "quantization": None,
            "seed": 0, "end": False, "ask": {"samples": 2, "sample": {"max_new_tokens": 4}}, **more,
        }  # fmt: skip
        evaluate(settings, {"start": gpt2_like}, tmp_path, quiet)
        return dict(json.loads((tmp_path / "reading.json").read_text()))

    plain = reading()
    assert loaded_in == ["float32"]
    rounded = reading(answers="bfloat16")
    assert loaded_in == ["float32", "bfloat16"]
    assert rounded["margins"] == plain["margins"]
    assert len(rounded["answers"][0]) == 2
