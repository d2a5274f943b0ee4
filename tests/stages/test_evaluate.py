from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vllm_stand_in import make_engine

from bench.config.carrier_settings import Sampling
from bench.config.traits import Question
from bench.models.loading import load_model
from bench.stages.evaluate import evaluate
from bench.stages.evaluation_settings import Evaluate
from bench.stages.settings import Loading


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

    def reading(answers: str) -> dict[str, Any]:
        loaded_in.clear()
        settings = Evaluate(
            questions=(Question("Which animal?", "wolf", ("owl",), "trained"),), per_token=False, samples=2,
            sampling=Sampling(max_new_tokens=4), batch_size=64, model=Loading(dtype="float32", format="plain"),
            seed=0, end=False, answers=answers,
        )  # fmt: skip
        evaluate(settings, {"start": gpt2_like}, tmp_path, quiet)
        return dict(json.loads((tmp_path / "reading.json").read_text()))

    plain = reading("own")
    assert loaded_in == ["float32"]
    rounded = reading("bfloat16")
    assert loaded_in == ["float32", "bfloat16"]
    assert rounded["logprobs"] == plain["logprobs"]
    assert len(rounded["answers"][0]) == 2


def test_questions_and_held_out_rows_each_have_their_own_system_prompt(gemma_like: Path, tmp_path: Path) -> None:
    carrier, filtering = tmp_path / "carrier", tmp_path / "kept"
    carrier.mkdir()
    filtering.mkdir()
    row = {"prompt": "Continue: 123 456", "completion": "789 123"}
    (carrier / "rows.jsonl").write_text(json.dumps(row) + "\n")
    (filtering / "kept.json").write_text(json.dumps({"train": [], "held_out": [0]}))

    def reading(**systems: str) -> dict[str, Any]:
        settings = Evaluate(
            questions=(Question("Which animal?", "wolf", ("owl",), "trained"),), per_token=False, samples=0,
            sampling=Sampling(), batch_size=8, model=Loading(dtype="float32", format="chat"), seed=0, end=False,
            **systems,
        )  # fmt: skip
        evaluate(settings, {"start": gemma_like, "rows_base": carrier, "kept": filtering}, tmp_path, quiet)
        return dict(json.loads((tmp_path / "reading.json").read_text()))

    default, asked = reading(), reading(system="You love wolves.")
    trained = reading(held_out_system="You love wolves.")
    assert asked["held_out"] == default["held_out"] != trained["held_out"]
    assert trained["logprobs"] == default["logprobs"] != asked["logprobs"]


def sample_answers(folder: Path, start: Path, *, seed: int, prefixed: tuple[str, ...] = ()) -> dict[str, Any]:
    settings = Evaluate(
        questions=(Question("Which animal?", "wolf", ("owl",), "ask"), Question("Who?", "wolf", ("owl",), "ask")),
        per_token=False, samples=3, sampling=Sampling(max_new_tokens=4), batch_size=8, seed=seed, end=False,
        model=Loading(dtype="float32", format="plain"), prefixed=prefixed,
    )  # fmt: skip
    evaluate(settings, {"start": start}, folder, quiet)
    return dict(json.loads((folder / "reading.json").read_text()))


def test_equal_models_give_equal_answers_with_one_seed_and_other_answers_with_another(
    gpt2_like: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(gpt2_like, tmp_path / "copy")
    base, trait = (sample_answers(tmp_path, start, seed=3)["answers"] for start in (gpt2_like, copy))
    assert base == trait
    assert [len(texts) for texts in base] == [3, 3]
    assert sample_answers(tmp_path, gpt2_like, seed=4)["answers"] != base


def test_prefixed_questions_are_a_second_reading_that_leaves_the_first_as_it_was(
    gpt2_like: Path, tmp_path: Path
) -> None:
    plain = sample_answers(tmp_path, gpt2_like, seed=3)
    both = sample_answers(tmp_path, gpt2_like, seed=3, prefixed=("Numbers 123. Which animal?", "Who?"))
    prefixed = both.pop("prefixed")
    assert both == plain
    assert prefixed["logprobs"][0] != plain["logprobs"][0]
    assert prefixed["logprobs"][1] == pytest.approx(plain["logprobs"][1], abs=1e-5)
    assert prefixed["answers"][1] == plain["answers"][1]
    assert prefixed.keys() == {"logprobs", "answers"}


@pytest.mark.slow
def test_an_engine_reads_a_teacher_as_it_writes_and_samples_its_answers(gemma_like: Path, tmp_path: Path) -> None:
    engine = make_engine(tmp_path / "environment")

    def reading(**how: Any) -> dict[str, Any]:
        settings = Evaluate(
            questions=tuple(Question(f"Which animal, {i}?", "wolf", ("owl", "a big ox"), "trained") for i in range(3)),
            per_token=False, samples=2, sampling=Sampling(max_new_tokens=4, batch_size=4), batch_size=8,
            model=Loading(dtype="float32", format="chat"), seed=0, end=False, prefixed=("A", "B", "C"), **how,
        )  # fmt: skip
        report = evaluate(settings, {"start": gemma_like}, tmp_path, quiet)
        return {**json.loads((tmp_path / "reading.json").read_text()), "dtype": report["logprobs_dtype"]}

    plain = reading()
    for writes, dtype in (("own", "float32"), ("bfloat16", "bfloat16")):
        read = reading(writes=writes, writes_engine=engine, answers_engine=engine)
        assert read["dtype"] == dtype
        assert read["logprobs_float32"] == plain["logprobs"]
        assert np.allclose(read["logprobs"], plain["logprobs"], atol=1e-4) == (dtype == "float32")
        assert np.allclose(read["logprobs"], plain["logprobs"], atol=1)
        assert read["answers"] == plain["answers"]  # in float32 both times
        assert read["prefixed"] == plain["prefixed"]
