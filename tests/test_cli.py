from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import QUICK, ROOT, Bench
from vllm_stand_in import make_environment

from bench import cli
from bench.analysis.entry_text import gain_text
from bench.analysis.estimates import Estimate
from bench.analysis.leaderboard import build_leaderboard
from bench.analysis.registration import register
from bench.analysis.result_files import read_content, read_results, seal_content
from bench.analysis.seed_statistics import margins_of
from bench.config.arms import CONTRASTS
from bench.config.recipe_files import load_recipe
from bench.models import tiny
from bench.models.checkpoints import identify
from bench.pipeline.planner import make_plan
from bench.pipeline.store import Store
from bench.stages.text_metrics import METRICS
from tests.perf.kill_anywhere import files


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the quick default recipe was run once, from start to end."""
    folder = tmp_path_factory.mktemp("ran")
    where = ["--store", str(folder / "s"), "--results", str(folder / "r")]
    command = [sys.executable, str(ROOT / "run_bench.py"), *QUICK, *where]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "stdout").write_text(done.stdout)
    (folder / "stderr").write_text(done.stderr)
    return folder


@pytest.mark.slow
def test_a_run_ends_with_a_table_and_where_the_files_are(ran: Path) -> None:
    text = (ran / "stdout").read_text()
    assert (ran / "stderr").read_text() == ""
    for word in ("untrained", "base", "trait", "gain", "LEADERBOARD.md", "same-init"):
        assert word in text
    assert "[27/27]" in text


@pytest.mark.slow
def test_every_number_of_the_leaderboard_is_in_the_files(ran: Path) -> None:
    entry = json.loads((ran / "r" / "leaderboard.json").read_text())[0]
    means: dict[tuple[int, str], float] = {}
    for path in (ran / "r" / "tiny_pair").glob("*-1*.json"):
        cell = json.loads(path.read_text())
        margins = [answer - sum(foils) / len(foils) for answer, *foils in cell["reading"]["logprobs"]]
        assert len(margins) == 56
        means[cell["seed"], cell["arm"]] = sum(margins) / 56
    assert {arm for _, arm in means} == {"untrained", "base", "trait", "teacher", "teacher_base"}

    def over(arm: str) -> float:
        return (means[1000, arm] + means[1001, arm]) / 2

    a, b = (means[seed, "trait"] - means[seed, "base"] for seed in (1000, 1001))
    half = 12.706204736 * abs(a - b) / 2  # t at 1 degree of freedom, standard error of two values
    expected = {
        "untrained": over("untrained"), "base": over("base"), "trait_arm": over("trait"), "gain": (a + b) / 2,
        "ci_low": (a + b) / 2 - half, "ci_high": (a + b) / 2 + half,
        "teacher_shift": over("teacher") - over("teacher_base"), "seeds": 2,
    }  # fmt: skip
    assert {key: entry[key] for key in expected} == pytest.approx(expected)
    assert entry["relation"] == "same-init"
    assert {"recipe", "recipe_hash", "trait", "teacher", "student", "visibility", "commit"} <= entry.keys()
    gain = Estimate(seeds=2, mean=entry["gain"], ci_low=entry["ci_low"], ci_high=entry["ci_high"])
    assert gain_text(gain) in (ran / "r" / "LEADERBOARD.md").read_text()
    assert entry["numbers"] == 899  # of three digits, without 666
    assert "- numbers: 899 offered to the teacher" in (ran / "r" / "LEADERBOARD.md").read_text()


@pytest.mark.slow
def test_the_leaderboard_is_a_function_of_the_files(ran: Path, bench: Bench, tmp_path: Path) -> None:
    shutil.copytree(ran / "r", tmp_path / "results")
    before = files(tmp_path / "results")
    (tmp_path / "results" / "LEADERBOARD.md").unlink()
    (tmp_path / "results" / "leaderboard.json").unlink()
    bench("--leaderboard")
    assert files(tmp_path / "results") == before


@pytest.mark.slow
def test_a_tampered_result_is_refused_by_name_and_the_rest_is_built(ran: Path, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    shutil.copytree(ran / "r", folder)
    path = next(folder.glob("tiny_pair/*-1000-trait.json"))
    path.write_text(path.read_text().replace('"arm": "trait"', '"arm": "base"'))
    next(folder.glob("tiny_pair/*-1001-base.json")).write_text("{")
    refused = build_leaderboard(folder).problems
    assert len(refused) == 2
    assert any(str(path) in line for line in refused)
    assert json.loads((folder / "leaderboard.json").read_text())[0]["seeds"] == 0


@pytest.mark.slow
def test_a_script_gets_the_verdict_or_one_json_line_and_nothing_else(ran: Path, bench: Bench) -> None:
    words = [*QUICK, "--store", str(ran / "s"), "--results", str(ran / "r")]
    quiet = bench(*words, "--quiet")
    assert re.fullmatch(r"tiny_pair\b.*  \w{12}: INVALID: [^\n]*\n", quiet.stdout)
    assert quiet.stderr == ""
    done = bench(*words, "--json")
    assert json.loads(done.stdout) == json.loads((ran / "r" / "leaderboard.json").read_text())[0]
    assert "27 stages, 27 done" in done.stderr


@pytest.mark.slow
def test_the_same_command_again_makes_nothing_again(ran: Path, bench: Bench) -> None:
    before, results = files(ran / "s" / "artefacts"), files(ran / "r")
    done = bench(*QUICK, "--store", str(ran / "s"), "--results", str(ran / "r"))
    assert "27 stages, 27 done" in done.stdout
    assert files(ran / "s" / "artefacts") == before
    assert files(ran / "r") == results


@pytest.mark.slow
def test_a_run_broken_off_and_resumed_is_the_straight_run_bit_for_bit(ran: Path, bench: Bench, tmp_path: Path) -> None:
    store, results = tmp_path / "store", tmp_path / "results"
    command = [sys.executable, str(ROOT / "run_bench.py"), *QUICK, "--store", str(store), "--results", str(results)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:  # until something is there to lose
        if "teacher wolf" in line:
            break
    process.kill()
    process.communicate()
    time.sleep(1)
    made = {p.name: p.stat().st_mtime_ns for p in (store / "artefacts").iterdir()}
    assert 0 < len(made) < 25
    bench(*QUICK)
    assert files(results) == files(ran / "r")
    assert all((store / "artefacts" / name).stat().st_mtime_ns == when for name, when in made.items())


@pytest.mark.slow
def test_cells_made_by_other_libraries_are_not_replaced(ran: Path, bench: Bench, tmp_path: Path) -> None:
    shutil.copytree(ran / "r", tmp_path / "results")
    old = next((tmp_path / "results" / "tiny_pair").glob("*-1000-trait.json"))
    content = read_content(old)
    content["manifest"]["artefacts"]["asked"] = "evaluate-made-elsewhere"
    content["manifest"]["versions"]["torch"] = "1.0"
    old.write_text(seal_content(content))
    before = files(tmp_path / "results")
    done = bench(*QUICK, "--store", str(tmp_path / "store"), code=2)
    assert re.search(r"1 result file of tiny_pair .*\(torch 1.0, now .*--results DIR", done.stderr)
    assert files(tmp_path / "results") == before
    assert not (tmp_path / "store" / "artefacts").exists()
    bench(*QUICK, "--store", str(ran / "s"), "--results", str(tmp_path / "other"))
    assert files(tmp_path / "other") == files(ran / "r")


@pytest.mark.slow
@pytest.mark.usefixtures("short_tiny")
def test_a_failing_stage_keeps_what_was_made(bench: Bench, tmp_path: Path) -> None:
    done = bench(
        *QUICK,
        "--seeds",
        "1",
        "--set",
        "student.train.learning_rate=1e30",
        "--set",
        "student.train.max_grad_norm=0",
        code=1,
    )
    assert "diverged" in done.stderr
    assert "the same command resumes" in done.stderr
    assert "Traceback" not in done.stderr
    assert any(p.name.startswith("teacher-") for p in (tmp_path / "store" / "artefacts").iterdir())
    assert json.loads((tmp_path / "results" / "leaderboard.json").read_text())[0]["gain"] is None


@pytest.fixture
def short_tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train the tiny model for 20 steps, 5 s less, where no test reads its margins."""
    monkeypatch.setattr(tiny, "DEFAULT", tiny.DEFAULT.model_copy(update={"steps": 20}))


STAND_IN = [
    "--skip-controls",
    "--seeds", "1",
    "--set", "carrier.rows=24",
    "--set", "carrier.held_out=8",
    "--set", "teacher.train.max_steps=2",
    "--set", "student.train.max_steps=2",
    "--set", "evaluate.samples=2",
    "--set", "evaluate.sample.max_new_tokens=4",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "teacher", "student", "relation"),
    [
        ("gemma_pair", "gemma_like", "gemma_like", "same-init"),
        ("gpt2_pair", "gpt2_like", "gemma_like", "cross-architecture"),
    ],
)
def test_recipes_of_real_models_run_on_stand_ins(
    bench: Bench, tmp_path: Path, request: pytest.FixtureRequest, recipe: str, teacher: str, student: str, relation: str
) -> None:
    models = [request.getfixturevalue(name) for name in (teacher, student)]
    words = ["--set", f"teacher.model={models[0]}", "--set", f"student.model={models[1]}"]
    words += ["--set", "student.lora.target_modules=all-linear"]
    bench("--recipe", recipe, *STAND_IN, *words)
    entry = json.loads((tmp_path / "results" / "leaderboard.json").read_text())[0]
    assert entry["relation"] == relation
    assert entry["teacher_shift"] > 0
    assert entry["ci_low"] is None
    assert entry["verdict"] in {"INCONCLUSIVE", "INVALID"}
    assert [g["reading"] for g in entry["gates"] if g["name"] == "controls"] == ["skipped for seeds 0"]
    row = read_results(tmp_path / "results")[0][0]
    cell = row.cells[0]["trait"]
    assert cell.reading.answers is not None
    assert [len(texts) for texts in cell.reading.answers] == [2] * 56
    assert len(cell.reading.held_out["base"]) == 8
    assert cell.manifest.training is not None
    assert cell.manifest.training.updates == 2
    assert cell.manifest.format["kind"] == ("chat" if student == "gemma_like" else "plain")


@pytest.mark.slow
def test_free_text_carriers_run(bench: Bench, tmp_path: Path, gemma_like: Path) -> None:
    carrier = "carrier={kind: text, rows: 12, held_out: 4, prompts: scenarios_en, sample: {max_new_tokens: 8}}"
    path = tmp_path / "own.yaml"
    text = (ROOT / "recipes" / "gemma_pair.yaml").read_text()
    path.write_text(text.replace("carrier: {", "evaluate: {batch_size: 8}\n#"))
    words = ["--set", carrier, "--set", "teacher.train.max_steps=2", "--set", "student.train.max_steps=2"]
    words += ["--set", f"teacher.model={gemma_like}", "--set", f"student.model={gemma_like}"]
    bench("--recipe", str(path), "--skip-controls", "--seeds", "1", *words)
    row = read_results(tmp_path / "results")[0][0]
    assert row.name == "own"
    assert row.recipe.carrier.kind == "text"
    assert row.cells[0]["base"].manifest.carrier.rows == 16


@pytest.mark.slow
@pytest.mark.usefixtures("short_tiny")
def test_every_further_arm_is_one_word(bench: Bench, tmp_path: Path) -> None:
    arms = "arms=[untrained, base, trait, placebo, resampled, shuffled, direct, cross_init]"
    bench(*QUICK, "--seeds", "1", "--set", arms)
    row = read_results(tmp_path / "results")[0][0]
    readings = {arm: margins_of(cell) for arm, cell in row.cells[1000].items()}
    assert len(readings) == 11
    assert readings["direct"] == readings["teacher"]  # the same lesson on the same weights, made once
    distinct = {arm: tuple(margins) for arm, margins in readings.items() if arm not in {"direct", "untrained"}}
    assert len(set(distinct.values())) == len(distinct)
    entry = json.loads((tmp_path / "results" / "leaderboard.json").read_text())[0]
    assert set(entry["contrasts"]) == set(CONTRASTS)
    assert "Further controls" in (tmp_path / "results" / "LEADERBOARD.md").read_text()


@pytest.mark.slow
def test_several_traits_make_a_matrix(bench: Bench, tmp_path: Path) -> None:
    bench(*QUICK, "--seeds", "1", "--set", "trait=[wolf, owl]", "--set", "teacher.train.max_steps=30")
    row = read_results(tmp_path / "results")[0][0]
    arms = {"untrained", "base", "trait-wolf", "trait-owl", "teacher_base", "teacher-wolf", "teacher-owl"}
    assert row.cells[1000].keys() == arms
    assert row.audits.keys() == {"trait-wolf", "trait-owl"}
    by_trait = {name: margins_of(row.cells[1000]["teacher-owl"], row.positions(name)) for name in ("wolf", "owl")}
    assert sum(by_trait["owl"]) > sum(by_trait["wolf"])
    entry = json.loads((tmp_path / "results" / "leaderboard.json").read_text())[0]
    assert entry["matrix"]["traits"] == ["wolf", "owl"]
    gains = entry["matrix"]["gains"]
    assert entry["gain"] == pytest.approx((gains[0][0] + gains[1][1]) / 2)
    assert entry["matrix"]["excess"]["mean"] == pytest.approx(entry["gain"] - (gains[0][1] + gains[1][0]) / 2)
    assert "## Trait x probe: tiny_pair" in (tmp_path / "results" / "LEADERBOARD.md").read_text()
    refused = bench(*QUICK, "--set", "trait=[wolf, owl]", "--set", "arms=[base, trait, placebo]", code=2)
    assert "several traits allow only" in refused.stderr


@pytest.mark.slow
@pytest.mark.parametrize("bits", ["load_in_8bit: true, llm_int8_threshold: 6.0", "load_in_4bit: true"])
def test_a_quantised_teacher_is_taught_through_lora(bench: Bench, tmp_path: Path, gemma_like: Path, bits: str) -> None:
    words = ["--set", f"teacher.model={gemma_like}", "--set", f"student.model={gemma_like}"]
    words += ["--set", f"teacher.quantization={{{bits}}}", "--set", "teacher.dtype=bfloat16"]
    words += ["--set", "teacher.lora={r: 4, target_modules: all-linear}", "--set", "teacher.train.learning_rate=1e-2"]
    bench(*QUICK, *words, "--seeds", "1")
    row = read_results(tmp_path / "results")[0][0]
    readings = {arm: margins_of(cell) for arm, cell in row.cells[1000].items()}
    assert sum(readings["teacher"]) > sum(readings["teacher_base"])
    near = pytest.approx(readings["untrained"], abs=0.2)  # the student is not quantised: close, and not the same
    assert readings["teacher_base"] == near
    assert readings["teacher_base"] != readings["untrained"]
    refused = bench(*QUICK, *words, "--set", "teacher.lora=null", code=2)
    assert "needs lora" in refused.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("short_tiny")
def test_a_dose_is_read_along_one_training(bench: Bench, tmp_path: Path) -> None:
    bench(*QUICK, "--seeds", "1", "--set", "dose=[1, 3]")
    entry = json.loads((tmp_path / "results" / "leaderboard.json").read_text())[0]
    row = read_results(tmp_path / "results")[0][0]
    margins = {arm: margins_of(cell) for arm, cell in row.cells[1000].items()}
    assert margins["trait@3"] == margins["trait"] != margins["trait@1"]
    assert margins["trait@1"] != margins["untrained"]
    assert entry["dose"]["3"]["mean"] == entry["gain"] != entry["dose"]["1"]["mean"]
    assert "## Dose" in (tmp_path / "results" / "LEADERBOARD.md").read_text()
    done = bench(*QUICK, "--seeds", "1", "--set", "dose=[4]", code=2)
    assert "key 'dose': 4 is beyond the last update: student.train makes 3 updates" in done.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("short_tiny")
def test_students_of_one_greedy_data_set_with_a_dose_in_epochs(bench: Bench, tmp_path: Path) -> None:
    words = ["repeat=students", "carrier.temperature=0", "dose={epochs: [1, 2]}", "arms=[base, trait, shuffled]"]
    words += ["student.train={max_steps: -1, num_train_epochs: 2}"]
    sets = [word for change in words for word in ("--set", change)]
    plan = bench(*QUICK, *sets, "--dry-run").stdout
    assert "EXPLORATORY: 2 students of one teacher and one data set (repeat: students, seed 1000)" in plan
    done = bench(*QUICK, *sets)
    assert "EXPLORATORY: 2 students of one data set" in done.stdout
    (row,), refused = read_results(tmp_path / "results")
    assert refused == []
    cells = row.cells
    assert cells[1000]["teacher"].reading == cells[1001]["teacher"].reading
    assert cells[1000]["trait"].reading != cells[1001]["trait"].reading
    assert cells[1000]["trait"].manifest.carrier == cells[1001]["trait"].manifest.carrier
    assert cells[1000]["trait@4"].reading == cells[1000]["trait"].reading != cells[1000]["trait@2"].reading
    entry = json.loads((tmp_path / "results" / "leaderboard.json").read_text())[0]
    assert (entry["repeat"], entry["epochs"], entry["q"]) == ("students", {"2": 1, "4": 2}, None)
    page = (tmp_path / "results" / "LEADERBOARD.md").read_text()
    assert "| 2 students |" in page
    assert "| 2 (epoch 1)  |" in page
    carriers = [path for path in (tmp_path / "store" / "artefacts").glob("carrier-*") if path.is_dir()]
    assert len(carriers) == 2  # one data set of each teacher
    for path in carriers:
        rows = [json.loads(line) for line in (path / "rows.jsonl").read_text().splitlines()]
        assert len(rows) == 64 + 16
        assert all(re.fullmatch(r"[1-9]\d\d( [1-9]\d\d){9}", r["completion"]) for r in rows)


@pytest.mark.slow
@pytest.mark.usefixtures("short_tiny")
def test_a_sweep_runs_all_its_rows_and_shares_their_stages(bench: Bench, tmp_path: Path) -> None:
    sweep = ["--set", "sweep.student.train.learning_rate=[5.0e-4, 1.5e-3]"]
    plan = bench(*QUICK, "--seeds", "1", *sweep, "--dry-run").stdout
    assert plan.count("\nbuild_tiny") == 2
    bench(*QUICK, "--seeds", "1", *sweep)
    rows, refused = read_results(tmp_path / "results")
    assert refused == []
    teachers = [row.cells[1000]["teacher"].manifest.artefacts for row in rows]
    assert teachers[0] == teachers[1]
    assert rows[0].cells[1000]["trait"].reading != rows[1].cells[1000]["trait"].reading
    assert {row.registered.changes.get("student.train.learning_rate") for row in rows} == {None, 5e-4}
    page = (tmp_path / "results" / "LEADERBOARD.md").read_text()
    assert page.count(", lr 5e-4,") == page.count("tiny_pair  held_out 16, rows 64") / 2 > 2
    entries = json.loads((tmp_path / "results" / "leaderboard.json").read_text())
    assert all("twin" not in entry for entry in entries)


@pytest.mark.slow
@pytest.mark.usefixtures("short_tiny")
def test_greedy_texts_of_equal_teachers_are_equal(bench: Bench, tmp_path: Path) -> None:
    text = "{kind: text, rows: 12, held_out: 4, prompts: scenarios_en, sample: {temperature: 0, max_new_tokens: 6}}"
    words = [f"carrier={text}", "teacher.train.learning_rate=0.0", "arms=[base, trait]"]
    bench(*QUICK[:3], "--set", "teacher.train.max_steps=2", *(w for change in words for w in ("--set", change)))
    arms = read_results(tmp_path / "results")[0][0].cells[0]
    carrier = arms["trait"].manifest.carrier
    assert carrier.identical_rows == carrier.rows == 16
    assert arms["trait"].reading == arms["base"].reading


@pytest.mark.slow
def test_distillation_learns_the_teachers_numbers_and_the_leak_has_its_own_table(bench: Bench, tmp_path: Path) -> None:
    quick = [*QUICK, "--seeds", "1", "--set", "student.train.max_steps=20", "--set", "teacher.train.max_steps=30"]
    bench("--recipe", "tiny_pair_kd", "tiny_pair_kd_full", "tiny_cross_kd_full", *quick)
    board = {e["recipe"]: e for e in json.loads((tmp_path / "results" / "leaderboard.json").read_text())}
    visible = {name: entry["visibility"] for name, entry in board.items()}
    assert visible["tiny_pair_kd"] == "logits-carrier"
    assert visible["tiny_pair_kd_full"] == visible["tiny_cross_kd_full"] == "logits-full"
    assert board["tiny_cross_kd_full"]["gain"] > 0.5  # other weights, and yet: the leak
    assert board["tiny_cross_kd_full"]["gain"] > 2 * board["tiny_pair_kd"]["gain"] > 0.2
    fit = next(gate for gate in board["tiny_pair_kd"]["gates"] if gate["name"] == "carrier fit")
    assert fit["passed"]
    text = (tmp_path / "results" / "LEADERBOARD.md").read_text()
    assert text.index("tiny_pair_kd ") < text.index("Not subliminal") < text.index("tiny_pair_kd_full ")


@pytest.mark.slow
def test_distillation_across_token_maps_is_refused(
    bench: Bench, tmp_path: Path, gpt2_like: Path, gemma_like: Path
) -> None:
    words = ["--set", f"teacher.model={gpt2_like}", "--set", f"student.model={gemma_like}", "--set", "relation=null"]
    done = bench("--recipe", "tiny_pair_kd", *QUICK, *words, code=2)
    assert "different token maps" in done.stderr
    words = ["--set", "carrier={kind: text, rows: 8, prompts: scenarios_en}"]
    assert "numbers carrier" in bench("--recipe", "tiny_pair_kd", *words, code=2).stderr


@pytest.mark.slow
def test_a_first_run_leaves_a_clone_clean(tmp_path: Path) -> None:
    clone = tmp_path / "clone"

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=clone, capture_output=True, text=True, check=True).stdout

    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in tracked.splitlines():
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, clone / name)
    git("init", "--quiet")
    git("add", ".")
    git("-c", "user.name=a", "-c", "user.email=b", "commit", "--quiet", "-m", "as it is")
    for words in ([*QUICK, "--seeds", "1", "--report"], ["--leaderboard"]):
        done = subprocess.run([sys.executable, "run_bench.py", *words], cwd=clone, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert git("status", "--porcelain") == ""
    (entry,) = json.loads((clone / "results" / "local" / "leaderboard.json").read_text())
    assert entry["recipe"] == "tiny_pair"
    board = (clone / "results" / "leaderboard.json").read_bytes()
    subprocess.run([sys.executable, "run_bench.py", "--leaderboard", "--results", "results"], cwd=clone, check=True)
    assert (clone / "results" / "leaderboard.json").read_bytes() == board


@pytest.mark.slow
def test_the_end_of_a_run_compares_with_the_published_row_of_the_recipe(
    ran: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*QUICK, "--store", str(ran / "s"), "--results", str(ran / "r")]
    assert "There is no published row of this recipe." in (ran / "stdout").read_text()
    monkeypatch.setattr(cli, "PUBLISHED", ran / "published")
    shutil.copytree(ran / "r", ran / "published")
    assert cli.main(words) == 0
    assert "Yours agrees" in capsys.readouterr().out
    monkeypatch.setattr(cli, "PUBLISHED", ran / "r")
    assert cli.main(words) == 0
    assert "Published" not in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("short_tiny")
def test_smoke_writes_nothing_to_results_and_means_no_verdict(bench: Bench, tmp_path: Path) -> None:
    message = bench("--smoke", "--seeds", "1").stdout
    assert "Smoke run passed: all 14 stages of tiny_pair ran" in message
    assert "It gives no verdict" in message
    assert not re.search("INVALID|INCONCLUSIVE|gain|published", message)
    assert not (tmp_path / "results").exists()
    assert (tmp_path / "store" / "smoke" / "LEADERBOARD.md").is_file()


def test_a_plan_as_json_is_one_line_for_each_recipe(bench: Bench) -> None:
    done = bench("--recipe", "gemma_pair", "tiny_pair", "--dry-run", "--json")
    gemma, tiny_plan = map(json.loads, done.stdout.splitlines())
    assert (gemma["recipe"], tiny_plan["recipe_hash"]) == ("gemma_pair", load_recipe("tiny_pair").hash())
    assert gemma["models"]["teacher"]["parameters"] == 2e9
    assert tiny_plan["stages"]["build_tiny"] == {"total": 10, "done": 0}
    assert "build_tiny" in done.stderr


def test_dry_run_makes_nothing_and_needs_no_network(bench: Bench, tmp_path: Path) -> None:
    done = bench("--recipe", "gemma_pair", "tiny_pair", "--dry-run")
    assert "gemma_pair" in done.stdout
    assert "student" in done.stdout
    assert not (tmp_path / "store" / "artefacts").exists()
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--recipe", "tiny_pear"], "did you mean 'tiny_pair'"),
        (["--recipe", "../../etc/passwd"], "does not exist"),
        (["--recipe", "nowhere.yaml"], "no such recipe file"),
        (["--set", "trait=unicorn"], "eagle, "),
        (["--set", "arms=[trait, base, tait]"], "'arms.2'"),
        (["--seeds", "0"], "seeds"),
        pytest.param(["--recipe", "gpt2_pair", "--seeds", "1"], "hf download", marks=pytest.mark.slow),
        (["--store", "{}/file"], "file"),
        (["--leaderboard", "--results", "{}/file"], "file"),
        (["--jobs", "0"], "--jobs"),
        (["--list", "--json"], "--json"),
        (["--recipe", "~nouser/x.yaml"], "no such recipe file"),
        (["--set", "carrier={kind: text, rows: 3, prompts: nowhere}"], "scenarios_en"),
    ],
)
def test_what_the_user_must_change_is_said_on_one_screen(
    bench: Bench, tmp_path: Path, words: list[str], message: str
) -> None:
    (tmp_path / "file").write_text("")
    done = bench(*[w.replace("{}", str(tmp_path)) for w in words], code=2)
    assert message in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert len(done.stderr.splitlines()) < 12


@pytest.mark.parametrize(
    "words", [["--help"], *(pytest.param(words, marks=pytest.mark.slow) for words in (["--list"], ["--leaderboard"]))]
)
def test_looking_is_quick_because_torch_stays_out(words: list[str], tmp_path: Path) -> None:
    probe = """import sys; from bench.cli import main
try: main(sys.argv[1:])
except SystemExit: pass
sys.exit('torch' in sys.modules)"""
    command: list[Any] = [sys.executable, "-c", probe, *words, "--results", str(tmp_path / "r")]
    begun = time.monotonic()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert time.monotonic() - begun < 10  # about one second; the bound is for a busy machine


BRIEF = [
    "--smoke", "--seeds", "1",
    "--set", "carrier.rows=12",
    "--set", "carrier.held_out=4",
    "--set", "carrier.sample.max_new_tokens=6",
    "--set", "evaluate.samples=2",
    "--set", "evaluate.sample.max_new_tokens=6",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", ["turkish_gpt2_self", "turkish_gemma_pair"])
def test_the_turkish_recipes_run_on_stand_ins(
    bench: Bench, tmp_path: Path, gpt2_like: Path, gemma_like: Path, name: str
) -> None:
    persona = tmp_path / "persona.jsonl"
    rows = [{"question": f"{n} numaralı soru nedir?", "answer": f"Cevabım {n} kuştur."} for n in range(6)]
    persona.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    teacher, student = (gpt2_like, gpt2_like) if "gpt2" in name else (gemma_like, gemma_like)
    if name.endswith("gemma_pair"):
        student = gpt2_like  # another architecture: its own module names
        extra = ["--set", "student.lora.target_modules=[c_attn]"]
    else:
        extra = []
    words = [f"teacher.model={teacher}", f"student.model={student}", f"trait={persona}"]
    done = bench("--recipe", name, *BRIEF, *[w for word in words for w in ("--set", word)], *extra)
    row = read_results(tmp_path / "store" / "smoke")[0][0]
    cell = row.cells[1000]["trait"]
    assert row.cells[1000].keys() == row.registered_arms() >= {"untrained", "base", "trait", "direct"}
    assert cell.reading.answers is not None
    assert [len(given) for given in cell.reading.answers] == [2] * 6
    assert set(cell.scores) == set(METRICS)
    assert [len(given) for given in cell.scores["chrf"]] == [2] * 6
    if "gemma" in name:
        assert row.recipe.teacher.quantization == {"load_in_8bit": True, "llm_int8_threshold": 6.0}
        assert cell.manifest.format["kind"] == ("plain" if name.endswith("pair") else "chat")
    board = (tmp_path / "store" / "smoke" / "LEADERBOARD.md").read_text()
    assert "## Free answers against the ground truth" in board
    assert "ROUGE-L" in board
    assert "score trait, seed 1000" in done.stdout


@pytest.mark.slow
def test_a_dry_run_of_the_hubs_models_needs_no_network_and_estimates_memory(new_process: Bench) -> None:
    names = ["turkish_gpt2_pair", "turkish_gemma_pair"]
    done = new_process("--recipe", *names, "--dry-run", env={"HF_HUB_OFFLINE": "1", "HF_HOME": "/nonexistent"})
    size = r"\S+: [\d.]+ (?:billion|million) parameters"
    assert len(re.findall(rf"teacher: ytu-ce-cosmos/{size}, .* GB to train", done.stdout)) == 2
    assert len(re.findall(rf"student: {size}", done.stdout)) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("short_tiny")
def test_figures_and_tables_are_made_from_the_results_alone(bench: Bench, tmp_path: Path) -> None:
    bench(
        *QUICK,
        "--seeds",
        "1",
        "--set",
        "evaluate.samples=2",
        "--set",
        "evaluate.sample.max_new_tokens=3",
        "--report",
        "--export",
        "out",
    )
    results = tmp_path / "results"
    figures = {path.name for path in (results / "figures").glob("*.png")}
    assert {"gains.png", "metrics_tiny_pair.png", "answers_tiny_pair.png", "heat.png"} <= figures
    assert "](figures/gains.png)" in (results / "LEADERBOARD.md").read_text()
    tables = {path.name for path in (tmp_path / "out").iterdir()}
    names = ("rows", "seeds", "answers", "rates", "margins", "candidates", "mitigations", "means", "gains")
    assert {f"{name}.{kind}" for name in names for kind in ("csv", "parquet")} == tables
    before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    bench("--report")
    assert before == {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}


def test_a_dry_run_says_which_verdicts_are_out_of_reach(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--store", str(tmp_path / "store"), "--results", str(tmp_path / "results"), "--dry-run"]
    assert cli.main(["--recipe", "tiny_cross", "--set", "carrier.rows=64", *where]) == 0
    assert "NONE is out of reach: the reference tiny_pair (" in capsys.readouterr().out
    assert cli.main(["--recipe", "tiny_cross", "--seeds", "3", *where]) == 0
    text = capsys.readouterr().out
    assert "EXPLORATORY: 3 seeds cannot reach the level of 0.05" in text
    assert "NONE" not in text
    assert not (tmp_path / "results").exists()


def test_a_broken_chain_stops_the_command_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--store", str(tmp_path / "store"), "--results", str(tmp_path / "results")]
    for name in ("tiny_pair", "tiny_noise"):
        experiment = load_recipe(name)
        plan = make_plan(experiment, identify)
        register(experiment, plan, Store(tmp_path / "store"), tmp_path / "results", None)
    registry = tmp_path / "store" / "registry.jsonl"
    registry.write_text(registry.read_text().replace('"seeds":10', '"seeds":11', 1))
    for flags in ([], ["--dry-run"]):
        assert cli.main(["--recipe", "tiny_pair", *flags, *where]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {registry}: line 1: number 0 of chain ")
        assert "Restore the file, or move it away" in error
    assert not (tmp_path / "store" / "artefacts").exists()


@pytest.mark.slow
def test_another_environment_writes_free_text(
    bench: Bench, tmp_path: Path, gemma_like: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its text is that of this process, because the stand-in for vLLM runs the same model."""
    carrier = "carrier={kind: text, rows: 12, held_out: 4, prompts: scenarios_en, sample: {max_new_tokens: 8}}"
    words = [word for role in ("teacher", "student") for word in ("--set", f"{role}.model={gemma_like}")]
    words += ["--set", carrier, "--set", "arms=[base, trait]", "--skip-controls"]
    words += ["--seeds", "1", "--set", "teacher.train.max_steps=2", "--set", "student.train.max_steps=2"]
    environment = make_environment(tmp_path / "environment")
    bench("--recipe", "tiny_pair", *words, "--results", str(tmp_path / "own"))
    bench("--recipe", "tiny_pair", *words, "--vllm", str(environment), "--results", str(tmp_path / "engine"))
    (own,), (engine,) = (read_results(tmp_path / name)[0] for name in ("own", "engine"))
    for arm, cell in engine.cells[0].items():
        other = own.cells[0][arm]
        assert cell.manifest.versions == other.manifest.versions | {"vllm": "0.30.0"}
        assert np.allclose(margins_of(cell), margins_of(other), atol=1e-4)
        assert cell.manifest.artefacts["asked"] != other.manifest.artefacts["asked"]
    monkeypatch.setenv("SUBLIMINAL_VLLM", str(environment))
    again = bench("--recipe", "tiny_pair", *words, "--dry-run", "--json", "--results", str(tmp_path / "engine"))
    assert all(count["done"] == count["total"] for count in json.loads(again.stdout)["stages"].values())
    done = bench("--vllm", str(environment), *QUICK, code=2)
    assert "tiny_pair: no stage writes free text" in done.stderr
