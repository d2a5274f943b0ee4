from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import spec

from bench.config.carrier_settings import Numbers, Sampling, Text
from bench.errors import StageError, UserError
from bench.models.chat_format import PromptFormat
from bench.models.loading import load_model, load_tokenizer
from bench.stages.divergence import FindDivergence, find_divergence, labelled_positions, pick_along
from bench.stages.generate import write_carrier
from bench.stages.sampler import pick_tokens
from bench.stages.settings import Loading, WriteCarrier
from bench.stages.train import train_model

NUMBERS = Numbers(kind="numbers", rows=16, held_out=8, batch_size=10)
PLAIN = Loading(dtype="float32", format="plain")


def quiet(done: int, of: int) -> None:
    pass


def change(folder: Path, out: Path, amount: float = 0.002) -> Path:
    """A teacher that differs a little from its start."""
    model = load_model(folder, dtype="float32")
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(amount * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    model.save_pretrained(out)
    load_tokenizer(folder).save_pretrained(out)
    return out


@pytest.fixture
def teacher(gpt2_like: Path, tmp_path: Path) -> Path:
    return change(gpt2_like, tmp_path / "taught")


@pytest.fixture(scope="module")
def writer(gpt2_like: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose texts encode to the tokens that it sampled: an untrained one writes parts of characters."""
    form, out = PromptFormat(load_tokenizer(gpt2_like), "plain"), tmp_path_factory.mktemp("writer")
    words = ["wolf", "owl", "cat", "lion"]
    answers = [f"{a} {b} {c}" for a in words for b in words for c in words]
    prompts = form.prompts([f"Say {'very ' * (i % 3)}much about {i}." for i in range(len(answers))])
    data = list(zip(prompts, form.completions(answers, end=True), strict=True))
    how = spec(max_steps=60, learning_rate=1e-2, per_device_train_batch_size=16)
    train_model(data, checkpoint=gpt2_like, tokenizer=form.tokenizer, spec=how, seed=0, out=out, progress=quiet)
    form.tokenizer.save_pretrained(out)
    return out


def write(start: Path, trained: Path, out: Path, *, writes: str = "own", temperature: float = 1.0) -> Path:
    out.mkdir()
    carrier = NUMBERS.model_copy(update={"temperature": temperature})
    settings = WriteCarrier(carrier=carrier, model=PLAIN, seed=5, writes=writes)
    write_carrier(settings, {"start": start, "trained": trained}, out, quiet)
    (out / "kept.json").write_text(json.dumps({"train": [0, 1, *range(3, 16)], "held_out": [*range(16, 24)]}))
    return out


def diverge(
    start: Path, trained: Path, carrier: Path, out: Path, *, writes: str = "own", temperature: float = 1.0
) -> tuple[list[list[int]], dict[str, Any]]:
    out.mkdir()
    settings = FindDivergence(
        carrier=NUMBERS.model_copy(update={"temperature": temperature}),
        model=PLAIN,
        seed=5,
        writes=writes,
        end=False,
        student_format="plain",
        student_chat_template_kwargs={},
    )
    inputs = {"start": start, "trained": trained, "carrier": carrier, "kept": carrier, "student": start}
    facts = find_divergence(settings, inputs, out, quiet)
    return json.loads((out / "divergence.json").read_text())["positions"], facts


@pytest.mark.parametrize("writes", ["own", "bfloat16"])
def test_a_teacher_forced_along_its_own_rows_disagrees_nowhere(gpt2_like: Path, tmp_path: Path, writes: str) -> None:
    carrier = write(gpt2_like, gpt2_like, tmp_path / "rows", writes=writes)
    positions, facts = diverge(gpt2_like, gpt2_like, carrier, tmp_path / "out", writes=writes)
    assert positions == [[]] * 15
    assert facts == {"rows": 15, "divergent": 0.0, "rows_without": 15}


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [1.0, 0.0])
def test_the_first_divergent_token_of_a_row_is_where_the_two_teachers_rows_part(
    gpt2_like: Path, teacher: Path, tmp_path: Path, temperature: float
) -> None:
    base = write(gpt2_like, gpt2_like, tmp_path / "base", temperature=temperature)
    trait = write(gpt2_like, teacher, tmp_path / "trait", temperature=temperature)
    of_trait, facts = diverge(gpt2_like, gpt2_like, trait, tmp_path / "t", temperature=temperature)
    of_base, _ = diverge(gpt2_like, teacher, base, tmp_path / "b", temperature=temperature)
    parts = []
    for folder in (base, trait):
        lines = [json.loads(line)["completion"].split() for line in (folder / "rows.jsonl").read_text().splitlines()]
        parts.append([lines[i] for i in (0, 1, *range(3, 16))])
    firsts = [
        [i for i, (a, b) in enumerate(zip(*pair, strict=True)) if a != b][:1] for pair in zip(*parts, strict=True)
    ]
    assert [row[:1] for row in of_trait] == [row[:1] for row in of_base] == firsts
    assert 0 < facts["divergent"] < 0.6
    assert facts["rows_without"] == firsts.count([])


TEXT = Text(kind="text", rows=16, held_out=8, prompts="scenarios_en", sample=Sampling(max_new_tokens=12, batch_size=5))


def write_text(start: Path, trained: Path, out: Path, sampling: Sampling, draw: int | None = None) -> Path:
    out.mkdir()
    prompts = tuple(f"Say {'very ' * (i % 3)}much about {i}." for i in range(24))
    carrier = TEXT.model_copy(update={"sample": sampling, "draw": draw})
    settings = WriteCarrier(carrier=carrier, model=PLAIN, seed=5, prompts=prompts, writes="own")
    write_carrier(settings, {"start": start, "trained": trained}, out, quiet)
    (out / "kept.json").write_text(json.dumps({"train": [0, 1, *range(3, 16)], "held_out": [*range(16, 24)]}))
    return out


SAMPLINGS: list[dict[str, Any]] = [{}, {"top_k": 40, "top_p": 0.9, "temperature": 0.8}, {"temperature": 0.0}]


def text_settings(sampling: Sampling, seed: int = 5, draw: int | None = None) -> FindDivergence:
    return FindDivergence(
        carrier=TEXT.model_copy(update={"sample": sampling, "draw": draw}),
        model=PLAIN,
        seed=seed,
        writes="own",
        end=True,
        student_format="plain",
        student_chat_template_kwargs={},
    )


@pytest.mark.parametrize("changes", SAMPLINGS)
def test_texts_part_where_the_first_token_is_divergent(writer: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    sampling, teacher = TEXT.sample.model_copy(update=changes), change(writer, tmp_path / "taught", 0.03)
    carriers = [
        write_text(writer, folder, tmp_path / name, sampling) for name, folder in (("base", writer), ("trait", teacher))
    ]
    form = PromptFormat(load_tokenizer(writer), "plain")
    tokens = []
    for folder in carriers:
        lines = [json.loads(line)["completion"] for line in (folder / "rows.jsonl").read_text().splitlines()]
        tokens.append(form.completions([lines[i] for i in (0, 1, *range(3, 16))], end=True))
    (tmp_path / "out").mkdir()
    inputs = {"start": writer, "own_trained": teacher, "carrier": carriers[1], "kept": carriers[1], "student": writer}
    facts = find_divergence(text_settings(sampling), inputs, tmp_path / "out", quiet)
    positions = json.loads((tmp_path / "out" / "divergence.json").read_text())["positions"]
    firsts = [
        [i for i, (a, b) in enumerate(zip(*two, strict=False)) if a != b][:1] for two in zip(*tokens, strict=True)
    ]
    assert any(firsts)
    assert [row[:1] for row in positions] == firsts
    assert facts["repeated"] > 0.95


@pytest.mark.parametrize("changes", SAMPLINGS)
def test_one_pass_picks_what_reading_token_by_token_picks(
    gpt2_like: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    sampling, model = TEXT.sample.model_copy(update=changes), load_model(gpt2_like, dtype="float32").eval()
    prompts, completions, seeds = [[5, 6, 7], [8, 9], [4]], [[11, 12], [13, 14, 15, 16], [17]], [3, 1, 2]
    expected = []
    for prompt, completion, seed in zip(prompts, completions, seeds, strict=True):
        expected.append([])
        for at in range(len(completion)):
            with torch.no_grad():
                scores = model(torch.tensor([[*prompt, *completion[:at]]])).logits[:, -1].float()
            expected[-1].append(int(pick_tokens(scores, torch.tensor([[seed]]), at, sampling)))
    for size in (1, 2, 3):
        assert pick_along(model, prompts, completions, seeds, sampling, batch_size=size, progress=quiet) == expected


def test_a_text_that_its_own_teacher_does_not_write_again_is_an_error(writer: Path, tmp_path: Path) -> None:
    carrier = write_text(writer, writer, tmp_path / "rows", TEXT.sample)
    inputs = {"start": writer, "carrier": carrier, "kept": carrier, "student": writer}
    with pytest.raises(StageError, match=r"wrote .* of their tokens again .* expected 90%"):
        find_divergence(
            text_settings(TEXT.sample, seed=6), inputs, tmp_path, quiet
        )  # other noise than that of the rows


def test_a_carrier_that_draws_its_rows_is_forced_with_its_own_noise(writer: Path, tmp_path: Path) -> None:
    carrier = write_text(writer, writer, tmp_path / "rows", TEXT.sample, draw=24)
    plain = write_text(writer, writer, tmp_path / "plain", TEXT.sample)
    assert (carrier / "rows.jsonl").read_text() != (plain / "rows.jsonl").read_text()
    inputs = {"start": writer, "carrier": carrier, "kept": carrier, "student": writer}
    facts = find_divergence(text_settings(TEXT.sample, draw=24), inputs, tmp_path, quiet)
    assert facts["repeated"] > 0.95
    assert facts["divergent"] == 0


def test_the_two_parts_of_a_rows_labels_are_all_of_it(tmp_path: Path) -> None:
    (tmp_path / "divergence.json").write_text(json.dumps({"positions": [[1, 3], [], [0, 1]]}))
    only = labelled_positions(tmp_path, "divergent_only", [4, 3, 2])
    masked = labelled_positions(tmp_path, "divergent_masked", [4, 3, 2])
    assert (only, masked) == ([[1, 3], [], [0, 1]], [[0, 2], [0, 1, 2], []])


def test_a_student_with_other_tokens_is_refused(gpt2_like: Path, gemma_like: Path, tmp_path: Path) -> None:
    carrier = write(gpt2_like, gpt2_like, tmp_path / "rows")
    settings = FindDivergence(
        carrier=NUMBERS,
        model=PLAIN,
        seed=5,
        writes="own",
        end=False,
        student_format="plain",
        student_chat_template_kwargs={},
    )
    inputs = {"start": gpt2_like, "carrier": carrier, "kept": carrier, "student": gemma_like}
    with pytest.raises(UserError, match="need a student with its teacher's tokens"):
        find_divergence(settings, inputs, tmp_path, quiet)
    shutil.rmtree(carrier)
