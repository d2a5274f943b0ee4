"""What is registered of a recipe must be read back as the same recipe: else its result files cannot be tabulated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from conftest import Bench

from bench.analysis.result_files import read_results
from bench.cli import main

TEXTS = ["Write about rain.", "Write about tea.", "Write about a bridge.", "İki kelime yaz."]
ROWS = [{"question": f"Soru {n}?", "answer": f"Cevap {n}."} for n in range(5)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prompt files of every ending, and traits of both kinds."""
    import pyarrow
    import pyarrow.parquet

    place = tmp_path_factory.mktemp("own")
    (place / "p.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    for column in ("prompt", "text"):
        lines = [json.dumps({column: text}, ensure_ascii=False) for text in TEXTS]
        (place / f"{column}.jsonl").write_text("\n".join(lines), encoding="utf-8")
        (place / f"{column}.csv").write_text("\n".join([column, *TEXTS]), encoding="utf-8")
        pyarrow.parquet.write_table(pyarrow.table({column: TEXTS}), place / f"{column}.parquet")
    (place / "set.yaml").write_text(yaml.safe_dump({"prompts": TEXTS}), encoding="utf-8")
    (place / "ox.yaml").write_text("from: animals.base\nanswer: ox\ncandidates: [ox, owl, Ünlü]\nlexicon: [ox]\n")
    (place / "persona.yaml").write_text(yaml.safe_dump({"kind": "behaviour", "foils": 2, "rows": ROWS}))
    (place / "table.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    (place / "named.yaml").write_text("kind: behaviour\nlanguage: tr\ntake: 3\ndata: {path: table.jsonl}\n")
    return place


@pytest.mark.slow
@pytest.mark.parametrize("file", ["p.txt", "prompt.csv"])
def test_a_run_on_a_prompt_file_is_tabulated(
    bench: Bench, tmp_path: Path, folder: Path, gemma_like: Path, file: str
) -> None:
    prompts = folder / file
    words = [
        f"carrier={{kind: text, rows: 3, held_out: 1, prompts: {{file: {prompts}}}, sample: {{max_new_tokens: 4}}}}",
        *(f"{role}.model={gemma_like}" for role in ("teacher", "student")),
        *(f"{role}.train={{max_steps: 1, per_device_train_batch_size: 2}}" for role in ("teacher", "student")),
    ]
    flags = [flag for word in words for flag in ("--set", word)]
    done = bench("--skip-controls", "--seeds", "1", *flags)
    assert "refused" not in done.stdout
    (row,), refused = read_results(tmp_path / "results")
    assert refused == []
    assert row.cells[0].keys() == {"untrained", "base", "trait", "teacher", "teacher_base"}


def test_a_row_that_is_not_on_the_board_is_a_failure_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.experiment.run_experiment", lambda *_: None)
    where = ["--store", str(tmp_path / "store"), "--results", str(tmp_path / "results")]
    assert main(["--skip-controls", *where]) == 1
    assert "its result files were refused" in capsys.readouterr().err
