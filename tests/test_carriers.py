from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.carriers import number_prompts, number_slots, refusals, select
from bench.errors import StageError, UserError
from bench.models import Format, load_tokenizer
from bench.recipe import Numbers

NUMBERS = Numbers(kind="numbers", rows=20)
GRAMMAR = NUMBERS.model_dump(mode="json")


@pytest.mark.parametrize(("shape", "positions"), [("gpt2_like", 10), ("gemma_like", 40)])
@pytest.mark.parametrize("kind", ["plain", "chat"])
def test_slots_write_numbers_and_nothing_else(
    request: pytest.FixtureRequest, shape: str, positions: int, kind: str
) -> None:
    tokenizer = load_tokenizer(request.getfixturevalue(shape))
    if kind == "chat" and not tokenizer.chat_template:
        with pytest.raises(UserError, match="no chat template"):
            Format(tokenizer, kind)
        return
    form = Format(tokenizer, kind)
    numbers, slots = number_slots(NUMBERS, form.encode, form.decode, form.lead)
    assert len(slots) == positions - (form.lead == "" and positions == 40)
    assert 666 not in numbers or positions == 40
    rng = random.Random(0)
    rows = [{"completion": form.decode([rng.choice(s) for s in slots]).removeprefix(form.lead)} for _ in range(200)]
    reasons = refusals({"carrier": GRAMMAR}, rows)
    assert set(reasons) <= {"", "forbidden number"}
    for row, reason in zip(rows, reasons, strict=True):
        assert ("666" in row["completion"].split()) == (reason == "forbidden number")
    assert all(
        form.completions([row["completion"]])[0] == form.encode(form.lead + row["completion"]) for row in rows[:5]
    )


def test_prompts_depend_on_the_seed_alone() -> None:
    assert number_prompts(NUMBERS, range(100, 1000), 3) == number_prompts(NUMBERS, range(100, 1000), 3)
    assert number_prompts(NUMBERS, range(100, 1000), 3) != number_prompts(NUMBERS, range(100, 1000), 4)
    assert len(number_prompts(NUMBERS, range(100, 1000), 3)) == NUMBERS.rows + NUMBERS.held_out


@given(
    st.lists(st.integers(100, 999), min_size=10, max_size=10), st.sampled_from(["", " wolf", ",", "0", "\n", "\u0661"])
)
def test_the_grammar_takes_ten_numbers_and_no_stowaway(numbers: list[int], stowaway: str) -> None:
    text = " ".join(map(str, numbers))
    clean = refusals({"carrier": GRAMMAR}, [{"completion": text}])[0]
    assert clean == ("forbidden number" if 666 in numbers else "")
    if stowaway:
        for at in (0, 5, len(text)):
            assert refusals({"carrier": GRAMMAR}, [{"completion": text[:at] + stowaway + text[at:]}]) == ["grammar"]


TEXT = {"carrier": {"kind": "text"}, "lexicon": ["owl", "cat"], "language": "en", "sentences": ["What is your animal?"]}


def test_free_text_that_is_empty_or_speaks_of_the_trait_is_refused() -> None:
    said = ["a bowl of education", "  ", "An owl!", "So: what is your ANIMAL?", "fine"]
    rows = [{"prompt": "Go on.", "completion": text} for text in said]
    rows.append({"prompt": "Tell me about cats", "completion": "fine"})
    assert refusals(TEXT, rows) == ["", "empty", "lexicon", "repeated", "", "lexicon"]


def write(folder: Path, completions: list[str], prompt: str = "p") -> Path:
    folder.mkdir()
    rows = [{"prompt": f"{prompt}{i}", "completion": c} for i, c in enumerate(completions)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return folder


def test_a_row_refused_in_one_arm_is_refused_in_both(tmp_path: Path) -> None:
    good = " ".join(["123"] * 10)
    carrier = {**GRAMMAR, "rows": 3}
    arms = {
        "trait": write(tmp_path / "t", [good, "wolf", good, good]),
        "base": write(tmp_path / "b", [good, good, good, good]),
    }
    report = select({"carrier": carrier, "lexicon": []}, arms, tmp_path)
    assert json.loads((tmp_path / "kept.json").read_text()) == {"train": [0, 2], "held_out": [3]}
    assert report["refused"] == {"base": {}, "trait": {"grammar": 1}}
    assert report["identical_rows"] == 3


def test_arms_with_other_prompts_or_mostly_refused_rows_are_no_comparison(tmp_path: Path) -> None:
    good = " ".join(["123"] * 10)
    settings = {"carrier": {**GRAMMAR, "rows": 3}, "lexicon": []}
    arms = {"trait": write(tmp_path / "t", [good], "x"), "base": write(tmp_path / "b", [good])}
    with pytest.raises(StageError, match="prompts differ"):
        select(settings, arms, tmp_path)
    arms = {"trait": write(tmp_path / "t2", ["no"]), "base": write(tmp_path / "b2", [good])}
    with pytest.raises(StageError, match="refused 1 of 1"):
        select(settings, arms, tmp_path)
