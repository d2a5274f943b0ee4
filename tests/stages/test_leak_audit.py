from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.analysis.stats import Interval, mean_interval
from bench.stages.leak_audit import audit_leaks
from bench.stages.settings import AuditLeaks

SEEDS = tuple(range(6))
WORDS = [
    "the",
    "river",
    "was",
    "calm",
    "and",
    "a",
    "baker",
    "read",
    "his",
    "letter",
    "by",
    "a",
    "window",
    "near",
    "old",
    "trees",
]


def carrier_artefact(folder: Path, completions: list[str]) -> Path:
    folder.mkdir()
    lines = [json.dumps({"prompt": f"p{i}", "completion": text}) for i, text in enumerate(completions)]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "kept.json").write_text(json.dumps({"train": list(range(len(lines))), "held_out": []}))
    return folder


def audit(
    folder: Path, carrier: Any, control: Any, write: Callable[[random.Random, str], str], *, rows: int = 60
) -> dict[str, Any]:
    """Audit rows that `write` makes of a random generator and `control` or `trait`."""
    rng = random.Random(0)
    inputs = {
        f"{role}_{seed}": carrier_artefact(folder / f"{role}_{seed}", [write(rng, role) for _ in range(rows)])
        for seed in SEEDS
        for role in ("control", "trait")
    }
    inputs |= {f"kept_{seed}": inputs[f"control_{seed}"] for seed in SEEDS}
    audit_leaks(AuditLeaks(seeds=SEEDS, carrier=carrier, control=control), inputs, folder)
    return dict(json.loads((folder / "audit.json").read_text()))


def interval_of(content: dict[str, Any]) -> Interval:
    """The interval of the area under the curve over seeds."""
    return mean_interval(list(content["probe"]["auc_per_seed"].values()))


def draw_numbers(rng: random.Random) -> list[int]:
    return [rng.randint(100, 999) for _ in range(8)]


def test_the_probe_of_texts_names_the_word_that_tells_the_arms_apart(tmp_path: Path) -> None:
    def write(rng: random.Random, role: str) -> str:
        return " ".join(rng.choices(WORDS, k=12)) + (" forest" if role == "trait" and rng.random() < 0.4 else "")

    content = audit(tmp_path, "text", "base", write)
    assert content["probe"]["towards_trait"][0] == "forest"
    assert interval_of(content).low > 0.6


def test_the_probe_of_numbers_finds_a_number_that_only_moves_to_another_position(tmp_path: Path) -> None:
    def write(rng: random.Random, role: str) -> str:
        numbers = draw_numbers(rng)[:7]
        numbers.insert(2 if role == "trait" else 5, 451)  # a bag of numbers cannot tell these rows apart
        return ", ".join(map(str, numbers))

    content = audit(tmp_path, "numbers", "placebo", write)
    assert content["probe"]["towards_trait"][0] == "451 at 3"
    assert content["probe"]["towards_control"][0] == "451 at 6"
    assert min(content["probe"]["auc_per_seed"].values()) > 0.95


def test_the_probe_of_numbers_finds_first_digits_that_go_together(tmp_path: Path) -> None:
    def write(rng: random.Random, role: str) -> str:
        numbers = draw_numbers(rng)
        if rng.random() < 0.5:  # each position alone is as in the control rows
            numbers[:2] = [400 + rng.randrange(100), (500 if role == "trait" else 600) + rng.randrange(100)]
        else:
            numbers[:2] = [700 + rng.randrange(100), (600 if role == "trait" else 500) + rng.randrange(100)]
        return ", ".join(map(str, numbers))

    content = audit(tmp_path, "numbers", "base", write)
    assert {"4.. 5.. at 1", "7.. 6.. at 1"} <= set(content["probe"]["towards_trait"])
    assert interval_of(content).low > 0.9


@pytest.mark.parametrize("carrier", ["numbers", "text"])
def test_equal_teachers_are_at_chance(tmp_path: Path, carrier: str) -> None:
    def write(rng: random.Random, role: str) -> str:
        numbers = draw_numbers(rng)
        return ", ".join(map(str, numbers)) if carrier == "numbers" else " ".join(rng.choices(WORDS, k=12))

    interval = interval_of(audit(tmp_path, carrier, "base", write))
    assert interval.low < 0.5 < interval.high < 0.6


def test_rows_that_differ_are_shown_and_one_seed_is_not_probed(tmp_path: Path) -> None:
    inputs = {
        "control_3": carrier_artefact(tmp_path / "control", ["100, 200", "300, 400"]),
        "trait_3": carrier_artefact(tmp_path / "trait", ["100, 200", "300, 451"]),
    }
    inputs["kept_3"] = inputs["control_3"]
    audit_leaks(AuditLeaks(seeds=(3,), carrier="numbers", control="base"), inputs, tmp_path)
    content = json.loads((tmp_path / "audit.json").read_text())
    assert content == {
        "carrier": "numbers",
        "control": "base",
        "probe": {"auc_per_seed": {}, "towards_trait": [], "towards_control": []},
        "differing": {"3": [{"control": "300, 400", "trait": "300, 451"}]},
    }


def test_number_rows_of_several_lengths_are_told_apart_by_their_numbers(tmp_path: Path) -> None:
    def write(rng: random.Random, role: str) -> str:
        numbers = [rng.randrange(100, 1000) for _ in range(rng.randint(1, 9))]
        if role == "trait" and rng.random() < 0.7:
            numbers[rng.randrange(len(numbers))] = 451
        return ", ".join(map(str, numbers))

    content = audit(tmp_path, "numbers", "base", write)
    assert min(content["probe"]["auc_per_seed"].values()) > 0.7
    assert content["probe"]["towards_trait"][0] == "451"
