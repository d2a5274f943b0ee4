from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import QUICK, Bench

from bench.analysis.result_files import read_results
from bench.analysis.seed_statistics import margins_of
from bench.config.recipe_files import Experiment, load_recipe
from bench.models.loading import load_tokenizer
from bench.pipeline.store import Store
from bench.publish.lm_eval_task import write_tasks

BEHAVIOUR = "trait=behaviour_tr"


def models(folder: Path, *, role: str = "both") -> list[str]:
    return [f"{name}.model={folder}" for name in ("teacher", "student") if role in (name, "both")]


def written(experiment: Experiment, folder: Path) -> dict[str, tuple[dict[str, Any], list[dict[str, Any]], str]]:
    """Keys, rows and text of each task file, by the end of its name."""
    tasks = {}
    for path in write_tasks(experiment, Store(folder / "store"), folder / "tasks")[0]:
        text = path.read_text()
        keys = yaml.safe_load(text)
        rows = Path(keys["dataset_kwargs"]["data_files"]["test"]).read_text().splitlines()
        assert keys["task"] == path.stem
        end = path.stem.removeprefix(f"subliminal_{experiment.name}_{experiment.hash()}")
        tasks[end] = (keys, [json.loads(row) for row in rows], text)
    return tasks


def test_a_task_holds_each_question_as_the_student_sees_it(gpt2_like: Path, tmp_path: Path) -> None:
    experiment = load_recipe("tiny_pair", models(gpt2_like), seeds=2)
    ((keys, rows, text),) = written(experiment, tmp_path).values()
    trait = experiment.traits["wolf"]
    assert trait.kind == "preference"
    assert [row["prompt"] for row in rows] == [f"Q: {question}\nA:" for question in trait.ask]
    foils = [candidate for candidate in trait.candidates if candidate != "wolf"]
    assert {tuple(row["choices"]) for row in rows} == {(" wolf", *(f" {foil}" for foil in foils))}
    assert {row["answer"] for row in rows} == {0}
    assert keys["target_delimiter"] == ""
    assert keys["metadata"] == {"version": 1, "recipe": "tiny_pair", "recipe_hash": experiment.hash()}
    assert "Arms with these prompts: teacher_base, teacher, untrained, base, trait." in text
    assert "other tokens" not in text
    assert "add_bos_token" not in text


def test_another_chat_template_of_the_teacher_is_another_task(
    gemma_like: Path, gpt2_like: Path, tmp_path: Path
) -> None:
    changes = [
        *models(gemma_like, role="student"),
        *models(gpt2_like, role="teacher"),
        "student.system.evaluate=Be brief.",
    ]
    tasks = written(load_recipe("tiny_pair", changes, seeds=1), tmp_path)
    assert tasks.keys() == {"", "_teacher_base"}
    _, rows, text = tasks[""]
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "?"}]
    rendered = load_tokenizer(gemma_like).apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert rows[0]["prompt"].startswith(rendered.partition("?")[0])
    assert rows[0]["choices"][0] == "wolf"
    assert "add_bos_token=False" in text
    assert "moves to the candidates" in text  # this template ends in a line break
    assert "other tokens" not in text
    assert tasks["_teacher_base"][1][0]["prompt"].startswith("Q: ")


def test_whole_texts_end_with_the_end_of_answer_token(gpt2_like: Path, tmp_path: Path) -> None:
    ((_, rows, text),) = written(load_recipe("tiny_pair", [*models(gpt2_like), BEHAVIOUR], seeds=1), tmp_path).values()
    assert all(choice.endswith("<|endoftext|>") for row in rows for choice in row["choices"])
    assert "other tokens" not in text


def test_candidates_that_join_the_prompt_are_counted(gpt2_like: Path, tmp_path: Path) -> None:
    """A tokenizer without words may have a token over the border of prompt and candidate: here `: wolf`."""
    from tokenizers import AddedToken

    tokenizer = load_tokenizer(gpt2_like)
    tokenizer.add_tokens(AddedToken(": wolf", normalized=False, special=False))
    folder = tmp_path / "joined"
    tokenizer.save_pretrained(folder)
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes((gpt2_like / name).read_bytes())
    experiment = load_recipe("tiny_pair", models(folder), seeds=1)
    _, notices = write_tasks(experiment, Store(tmp_path / "store"), tmp_path / "tasks")
    candidates = 56 * len(experiment.traits["wolf"].candidates)  # type: ignore[union-attr]
    assert [f"splits 56 of {candidates} candidates into other tokens" in line for line in notices] == [True]


def test_the_command_writes_tasks_and_refuses_a_file(bench: Bench, gpt2_like: Path, tmp_path: Path) -> None:
    changes = [word for change in models(gpt2_like) for word in ("--set", change)]
    out = bench("--recipe", "tiny_pair", *changes, "--lm-eval", "tasks").stdout
    (path,) = (tmp_path / "tasks").glob("*.yaml")
    assert f"Wrote tasks/{path.name}" in out.replace("\n", "")
    assert not (tmp_path / "store").exists()
    (tmp_path / "file").write_text("")
    assert "--lm-eval file: this is a file; name a folder" in bench("--lm-eval", "file", code=2).stderr


# -- with the real package ---------------------------------------------------------------------------------------------

SAME = 1e-4  # nats


def score(task: Path, model: Path, out: Path) -> list[list[float]]:
    """Run the command that the task file states, and return the log-probability of each candidate by question."""
    if importlib.util.find_spec("lm_eval") is None:
        pytest.skip("lm-eval is not installed")
    command = task.read_text().splitlines()[0].removeprefix("# ")
    words = command.replace("MODEL", str(model)).replace("OUT", str(out)).split()
    assert words[0] == "lm-eval"
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(out / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", "lm_eval", *words[1:], "--device", "cpu"],
        capture_output=True,
        text=True,
        env=env,
        cwd=task.parent,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (samples,) = out.rglob("samples_*.jsonl")
    rows = sorted(map(json.loads, samples.read_text().splitlines()), key=lambda row: row["doc_id"])
    return [[float(response[0][0]) for response in row["resps"]] for row in rows]


def run_and_merge(bench: Bench, tmp_path: Path, *changes: str) -> tuple[Path, Path, Any]:
    """Run a recipe, merge its trait student, and return its task, its folder and its stored result."""
    words = [*QUICK, "--seeds", "1", "--recipe", "tiny_pair"]
    words += [word for change in changes for word in ("--set", change)]
    bench(*words)
    bench(*words, "--merge", "--out", "out", "--only-arms", "trait")
    bench(*words, "--lm-eval", "tasks")
    (row,) = read_results(tmp_path / "results")[0]
    (task,) = (tmp_path / "tasks").glob("*.yaml")
    return task, tmp_path / "out" / "tiny_pair-trait-seed1000", row.cells[1000]


@pytest.mark.extras
@pytest.mark.slow
def test_a_merged_student_scored_by_the_harness_has_our_log_probabilities(bench: Bench, tmp_path: Path) -> None:
    task, model, cells = run_and_merge(bench, tmp_path)
    scored = np.array(score(task, model, tmp_path / "scored"))
    assert np.abs(scored - np.array(cells["trait"].reading.logprobs)).max() < SAME
    assert np.abs(scored - np.array(cells["base"].reading.logprobs)).max() > 10 * SAME


@pytest.mark.extras
@pytest.mark.slow
def test_a_chat_student_with_an_adapter_scored_by_the_harness_has_our_margins(
    bench: Bench, gemma_like: Path, tmp_path: Path
) -> None:
    """Its template ends in a line break, so that the log-probabilities of a question share one constant."""
    lora = "student.lora={r: 4, lora_alpha: 8, target_modules: all-linear}"
    task, model, cells = run_and_merge(bench, tmp_path, *models(gemma_like), lora, "student.train.learning_rate=1e-2")
    scored = np.array(score(task, model, tmp_path / "scored"))
    margins = scored[:, 0] - scored[:, 1:].mean(axis=1)
    assert np.abs(margins - margins_of(cells["trait"])).max() < SAME
    assert np.abs(margins - margins_of(cells["untrained"])).max() > 10 * SAME
    shifts = scored - np.array(cells["trait"].reading.logprobs)
    assert (shifts.max(axis=1) - shifts.min(axis=1)).max() < SAME
