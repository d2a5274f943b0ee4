from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.config.carrier_settings import Numbers
from bench.errors import UserError
from bench.models.loading import load_model, load_tokenizer
from bench.stages.divergence import FindDivergence, find_divergence, labelled_positions
from bench.stages.generate import write_carrier
from bench.stages.settings import Loading, WriteCarrier

NUMBERS = Numbers(kind="numbers", rows=16, held_out=8, batch_size=10)
PLAIN = Loading(dtype="float32", format="plain")


def quiet(done: int, of: int) -> None:
    pass


@pytest.fixture
def taught(gpt2_like: Path, tmp_path: Path) -> Path:
    """A teacher that differs a little from its start."""
    model = load_model(gpt2_like, dtype="float32")
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.002 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    model.save_pretrained(tmp_path / "taught")
    load_tokenizer(gpt2_like).save_pretrained(tmp_path / "taught")
    return tmp_path / "taught"


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


@pytest.mark.parametrize("temperature", [1.0, 0.0])
def test_the_first_divergent_token_of_a_row_is_where_the_two_teachers_rows_part(
    gpt2_like: Path, taught: Path, tmp_path: Path, temperature: float
) -> None:
    base = write(gpt2_like, gpt2_like, tmp_path / "base", temperature=temperature)
    trait = write(gpt2_like, taught, tmp_path / "trait", temperature=temperature)
    of_trait, facts = diverge(gpt2_like, gpt2_like, trait, tmp_path / "t", temperature=temperature)
    of_base, _ = diverge(gpt2_like, taught, base, tmp_path / "b", temperature=temperature)
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


def test_the_two_parts_of_a_rows_labels_are_all_of_it(tmp_path: Path) -> None:
    (tmp_path / "divergence.json").write_text(json.dumps({"positions": [[1, 3], [], [0, 1]]}))
    only = labelled_positions(tmp_path, "divergent_only", [4, 3, 2])
    masked = labelled_positions(tmp_path, "divergent_masked", [4, 3, 2])
    assert (only, masked) == ([[1, 3], [], [0, 1]], [[0, 2], [0, 1, 2], []])


def test_a_student_with_other_tokens_is_refused(gpt2_like: Path, gemma_like: Path, tmp_path: Path) -> None:
    carrier = write(gpt2_like, gpt2_like, tmp_path / "rows")
    settings = FindDivergence(
        carrier=NUMBERS, model=PLAIN, seed=5, writes="own", student_format="plain", student_chat_template_kwargs={}
    )
    inputs = {"start": gpt2_like, "carrier": carrier, "kept": carrier, "student": gemma_like}
    with pytest.raises(UserError, match="need a student with its teacher's tokens"):
        find_divergence(settings, inputs, tmp_path, quiet)
    shutil.rmtree(carrier)
