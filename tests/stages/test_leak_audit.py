from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from bench.stages.leak_audit import audit_leaks, render_audit
from bench.stages.settings import AuditLeaks


def rows(folder: Path, completions: list[str]) -> Path:
    folder.mkdir()
    lines = [json.dumps({"prompt": f"p{i}", "completion": text}) for i, text in enumerate(completions)]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "kept.json").write_text(json.dumps({"train": list(range(len(lines))), "held_out": []}))
    return folder


@pytest.mark.parametrize("planted", [True, False])
def test_the_probe_finds_the_word_that_tells_the_arms_apart(tmp_path: Path, planted: bool) -> None:
    rng = random.Random(0)
    words = [
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
    inputs = {}
    for seed in range(3):
        for arm in ("base", "trait"):
            texts = [" ".join(rng.choices(words, k=12)) for _ in range(100)]
            if planted and arm == "trait":
                texts = [text + " forest" if rng.random() < 0.4 else text for text in texts]
            inputs[f"{arm}_{seed}"] = rows(tmp_path / f"{arm}_{seed}", texts)
        inputs[f"kept_{seed}"] = inputs[f"base_{seed}"]
    audit_leaks(AuditLeaks(seeds=(0, 1, 2)), inputs, tmp_path)
    found = json.loads((tmp_path / "audit.json").read_text())
    if planted:
        assert found["probe"]["auc"] > 0.65
        assert found["probe"]["towards_trait"][0] == "forest"
    else:
        assert abs(found["probe"]["auc"] - 0.5) < 0.1
    carrier = {
        "rows": 100,
        "train": 97,
        "identical_rows": 0,
        "refused": {"base": {}, "trait": {"lexicon": 2}},
        "format_refused": {"base": {"grammar": 1}, "trait": {}},
    }
    text = render_audit("x", "abc", found, {0: carrier})
    assert "| 0 | 100 | 97 | 0 | base: none; trait: 2 lexicon | base: 1 grammar; trait: none |" in text
    assert f"{found['probe']['auc']:.3f}" in text
