from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.config import prompts
from bench.config.carrier_prompts import CarrierPrompts, load_carrier_prompts
from bench.config.carrier_settings import Numbers, Text
from bench.config.keep import Equals, KeepText
from bench.config.prompts import PromptFile
from bench.config.recipe_files import load_recipe
from bench.config.yaml_files import Layer
from bench.errors import UserError

KEEP = KeepText(equals=Equals(pattern="#### (.+)", column="solution"))


def text(**keys: Any) -> Text:
    return Text(**{"kind": "text", "rows": 2, "held_out": 1, "prompts": PromptFile(file="mine.jsonl"), **keys})


def table(folder: Path, *rows: tuple[str, str]) -> list[Layer]:
    lines = [json.dumps({"prompt": prompt, "solution": solution}) for prompt, solution in rows]
    (folder / "mine.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return [Layer(folder, {"carrier": {"prompts": {"file": "mine.jsonl"}}})]


def test_prompts_bring_the_column_that_answers_must_equal(tmp_path: Path) -> None:
    layers = table(tmp_path, ("1 + 1?", "2"), ("1 + 2?", " 3 "), ("1 + 1?", "2"), ("9?", "9"))
    loaded = load_carrier_prompts(text(draw=3, keep=KEEP), layers)
    assert loaded == CarrierPrompts(("1 + 1?", "1 + 2?", "9?"), ("2", "3", "9"))
    assert load_carrier_prompts(text(draw=3), layers).truths == ()


def test_the_hash_is_that_of_prompts_truths_or_wording(tmp_path: Path) -> None:
    layers = table(tmp_path, ("a", "1"), ("b", "2"), ("c", "3"))
    hashes = {
        load_carrier_prompts(text(draw=3), layers).sha256(),
        load_carrier_prompts(text(draw=3, keep=KEEP), layers).sha256(),
        load_carrier_prompts(Numbers(kind="numbers", rows=2, prompts="numbers_en"), [Layer(tmp_path, {})]).sha256(),
        load_carrier_prompts(Numbers(kind="numbers", rows=2, prompts="numbers_tr"), [Layer(tmp_path, {})]).sha256(),
        load_carrier_prompts(Numbers(kind="numbers", rows=2), []).sha256(),
    }
    assert len(hashes) == 5
    assert None in hashes


def test_two_answers_to_one_prompt_are_an_error(tmp_path: Path) -> None:
    layers = table(tmp_path, ("1 + 1?", "2"), ("1 + 1?", "3"), ("9?", "9"))
    with pytest.raises(UserError, match=r"'1 \+ 1\?' is there twice, with solution '2' and '3'"):
        load_carrier_prompts(text(draw=3, keep=KEEP), layers)


def test_too_few_prompts_name_draw_or_rows(tmp_path: Path) -> None:
    layers = table(tmp_path, ("a", "1"), ("b", "2"))
    with pytest.raises(UserError, match=r"key 'carrier.draw': 3 prompts are needed, there are 2"):
        load_carrier_prompts(text(draw=3), layers)
    with pytest.raises(UserError, match=r"key 'carrier.rows': 3 prompts are needed \(with held_out\), there are 2"):
        load_carrier_prompts(text(), layers)


def test_a_column_needs_a_table(tmp_path: Path) -> None:
    layers = table(tmp_path, ("a", "1"))
    other = KeepText(equals=Equals(pattern="(.)", column="result"))
    with pytest.raises(UserError, match=r"equals.column': .*expected a column 'result', found 'prompt', 'solution'"):
        load_carrier_prompts(text(draw=3, keep=other), layers)
    (tmp_path / "mine.txt").write_text("a\nb\nc\n")
    with pytest.raises(UserError, match=r"mine.txt: expected a column 'solution', found none: a .txt file"):
        load_carrier_prompts(text(draw=3, keep=KEEP, prompts=PromptFile(file="mine.txt")), layers)
    with pytest.raises(UserError, match="expected a column 'solution', found none: a set of prompts has no columns"):
        load_carrier_prompts(text(draw=3, keep=KEEP, prompts="scenarios_en"), layers)


def test_prompts_of_a_hub_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def read_hub(name: str, columns: list[str], **how: Any) -> list[tuple[str, ...]]:
        calls.append((name, columns, how))
        return [(f"Problem {n}", f"{n}")[: len(columns)] for n in range(3)]

    monkeypatch.setattr(prompts, "read_hub", read_hub)
    layers = [Layer(Path(), {})]
    assert load_carrier_prompts(text(prompts="hub:a/b"), layers).texts == ("Problem 0", "Problem 1", "Problem 2")
    source = PromptFile(file="hub:a/b", column="question", split="test", revision="v1")
    assert load_carrier_prompts(text(draw=3, keep=KEEP, prompts=source), layers).truths == ("0", "1", "2")
    assert calls == [
        ("a/b", ["prompt"], {"split": "train", "revision": None}),
        ("a/b", ["question", "solution"], {"split": "test", "revision": "v1"}),
    ]


def test_the_wording_of_numbers_is_part_of_the_experiment(tmp_path: Path) -> None:
    recipe = load_recipe("tiny_pair", ["carrier={kind: numbers, rows: 8, prompts: numbers_en}"])
    assert recipe.prompts.wording is not None
    assert recipe.resolved()["prompts_sha256"] == recipe.prompts.sha256()
    assert recipe.hash() != load_recipe("tiny_pair", ["carrier={kind: numbers, rows: 8}"]).hash()
    with pytest.raises(UserError, match=r"key 'carrier.prompts': .*scenarios_en.yaml: .*\{numbers\} 0 times"):
        load_recipe("tiny_pair", ["carrier={kind: numbers, rows: 8, prompts: scenarios_en}"])
