"""Nothing is ever lost: kills, damage, full disks, company and interruptions, on recipes of seconds.

`python -m tests.perf.kill_anywhere` does the killing at length.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import flip

from bench import experiment
from bench.cli import main
from bench.config.recipe_files import load_recipe
from bench.files import read_record, seal
from bench.models import tiny
from bench.pipeline.store import Store
from tests.perf.kill_anywhere import Tally, artefacts, computed, files, one_round, running, start, when_made, workers

pytestmark = pytest.mark.slow

# One seed, 15 stages, on a tiny model that hardly learnt to speak.
WORDS = [
    "--skip-controls",
    *("--seeds", "1", "--set", "first_seed=1000", "--set", "carrier.rows=64", "--set", "carrier.held_out=16"),
    *("--set", "teacher.train.max_steps=8", "--set", "student.train.max_steps=12", "--set", "dose=[2]"),
]
QUICK = {"TINY_STEPS": "20"}
PLANTED = {name: f"planted-{name}-4711" for name in ("HF_TOKEN", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY")}


def run(folder: Path, *more: str, store: Path | None = None, results: Path | None = None) -> int:
    """The command in this process: its workers come from one fork server for all tests here."""
    where = ["--store", str(store or folder / "store"), "--results", str(results or folder / "results")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny, "DEFAULT", tiny.DEFAULT.model_copy(update={"steps": int(QUICK["TINY_STEPS"])}))
        return main([*WORDS, *more, *where])


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The undisturbed run."""
    folder = tmp_path_factory.mktemp("reference")
    assert run(folder) == 0
    return folder


@pytest.fixture
def copy(reference: Path, tmp_path: Path) -> Path:
    """A copy of the undisturbed run, to be damaged."""
    for name in ("store", "results"):
        shutil.copytree(reference / name, tmp_path / name)
    return tmp_path


def same(folder: Path, reference: Path) -> None:
    """Every byte of results and artefacts is that of the undisturbed run, and nothing lies about."""
    assert files(folder / "results") == files(reference / "results")
    assert artefacts(folder / "store") == artefacts(reference / "store")
    assert not [p for name in ("tmp", "checkpoints") for p in (folder / "store" / name).glob("*")]


def test_killed_at_random_moments_it_ends_as_if_undisturbed(reference: Path, tmp_path: Path) -> None:
    tally = Tally()
    one_round(tmp_path, WORDS, reference, 2, random.Random(5), tally, {**PLANTED, **QUICK})
    assert tally.kills.total() == 2
    assert (tally.again, tally.outlived, tally.wrong) == ([], [], [])
    contents = [*files(tmp_path).values(), *(text.encode() for text in tally.output)]
    assert sum(map(len, contents)) > 1_000_000
    assert not [name for name, token in PLANTED.items() for data in contents if token.encode() in data]


# -- damage ------------------------------------------------------------------------------------------------------------


def artefact(folder: Path, kind: str, file: str) -> Path:
    """One file of one artefact of a kind."""
    return next(p for p in sorted((folder / "store" / "artefacts").glob(f"{kind}-*")) if (p / file).exists()) / file


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def test_damage_is_named_and_made_again(copy: Path, reference: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damages: list[tuple[Callable[[Path], Any], Path]] = [
        (truncate, artefact(copy, "teacher", "model.safetensors")),
        (flip, artefact(copy, "student", "model.safetensors")),
        (Path.unlink, artefact(copy, "filter", "kept.json")),
        (flip, artefact(copy, "evaluate", "reading.json")),
        (truncate, artefact(copy, "relation", "done.json")),
        (lambda path: path.write_bytes(b"\xff\xfe"), next((copy / "results" / "tiny_pair").glob("*-trait.json"))),
        (truncate, next((copy / "results" / "tiny_pair").glob("*.recipe.json"))),
        (flip, next((copy / "results" / "tiny_pair").glob("*-base.json"))),
        (lambda path: path.write_text("[]"), next((copy / "results" / "tiny_pair").glob("*.audit.json"))),
    ]
    for damage, path in damages:
        damage(path)
    shutil.rmtree(artefact(copy, "carrier", "rows.jsonl").parent)
    assert run(copy) == 0
    message = capsys.readouterr().out.replace("\n", "")
    for _, path in damages:
        names = rf"{re.escape(str(path.parent))}[^;]*{re.escape(path.name)}"
        line = re.search(rf"corrupt: [^:]*:? ?{names}[^;]*; the (?:stage runs|run writes it) again", message)
        assert line, f"{path} is not named"
    assert "carrier" in message
    same(copy, reference)


def test_damage_that_only_reading_shows_is_found_when_a_stage_reads(
    copy: Path, reference: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.files.SMALL_FILE", 0)  # in this process, not in the workers: as if the file were large
    path = artefact(copy, "build_tiny", "model.safetensors")
    when = path.stat().st_mtime_ns
    flip(path)
    os.utime(path, ns=(when, when))
    shutil.rmtree(artefact(copy, "teacher", "model.safetensors").parent)
    for read in sorted((copy / "store" / "artefacts").glob("[sa][ts]*")):  # students and readings
        shutil.rmtree(read)
    assert run(copy) == 0
    message = capsys.readouterr().out.replace("\n", "")
    assert message.count(f"{path.parent}: model.safetensors; the stage runs again") == 1
    same(copy, reference)


# -- disks -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A file system of its own, which takes options: `size=1m`, `ro`."""
    location = tmp_path / "disk"
    location.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", location], capture_output=True).returncode:
        pytest.skip("mounting a file system takes root")

    def remount(options: str) -> Path:
        subprocess.run(["mount", "-o", f"remount,{options}", location], check=True)
        return location

    yield remount
    subprocess.run(["umount", "-l", location], check=True)


def test_a_full_and_a_read_only_store_stop_the_run_and_nothing_else(
    disk: Callable[[str], Path], reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = disk("size=3m")
    assert run(tmp_path, store=store) == 1
    message = capsys.readouterr().err
    assert "the disk is full: make room" in message or "No space left on device" in message
    assert "the same command resumes" in message
    assert len(message.splitlines()) < 6
    made = when_made(store)
    assert 0 < len(made) < 16
    assert all(Store(store).is_done(key) for key in made)
    assert {p.name for p in (store / "artefacts").iterdir()} == set(made)
    disk("size=64m,ro")
    assert run(tmp_path, store=store) == 1
    message = capsys.readouterr().err
    assert "Read-only file system" in message or "the disk is read-only" in message
    disk("size=64m,rw")
    assert run(tmp_path, store=store) == 0
    assert {key: when for key, when in when_made(store).items() if key in made} == made
    assert files(tmp_path / "results") == files(reference / "results")
    assert not list((store / "tmp").iterdir())


def test_a_full_and_a_read_only_results_folder_stop_the_run_and_nothing_else(
    disk: Callable[[str], Path], copy: Path, reference: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = disk("size=16k") / "results"
    for options, message in (("size=16k", "No space left on device"), ("size=1m,ro", "Read-only file system")):
        disk(options)
        assert run(copy, results=results) == 1
        error = capsys.readouterr().err
        assert message in error
        assert str(results) in error
        assert not [p for p in results.rglob("*") if p.name.startswith(".")]
        whole = files(reference / "results")
        assert all(data == whole[name] for name, data in files(results).items() if name.startswith("tiny_pair"))
    disk("size=1m,rw")
    assert run(copy, results=results) == 0
    assert files(results) == files(reference / "results")


# -- company, and interruptions ----------------------------------------------------------------------------------------


def holders() -> set[int]:
    """Ids of the processes that hold a lock, not of those that wait for one."""
    lines = Path("/proc/locks").read_text().splitlines()
    return {int(line.split()[4]) for line in lines if "FLOCK" in line and "->" not in line}


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="who holds a lock is read from /proc")
def test_three_at_once_make_each_stage_once_though_one_is_killed_with_a_lock(reference: Path, tmp_path: Path) -> None:
    company = [start(tmp_path, WORDS, QUICK) for _ in range(3)]
    victim = None
    until = time.monotonic() + 300
    while victim is None and time.monotonic() < until:
        time.sleep(0.05)
        busy = {p.name.rpartition(".")[0] for p in (tmp_path / "store" / "tmp").glob("[ts]*")}  # a model, a training
        for process in company if busy else []:
            if {p.pid for p in workers(process)} & holders():
                victim = process
    assert victim is not None
    victim.kill()
    ends = [process.communicate(timeout=300) for process in company]
    assert sorted(process.returncode for process in company) == [-signal.SIGKILL, 0, 0]
    assert not [text for end in ends for text in end if "Traceback" in text]
    same(tmp_path, reference)
    often = computed(tmp_path)
    assert set(often) == set(when_made(tmp_path / "store"))
    assert sum(often.values()) <= len(often) + 2  # what the killed one was making, on each of two cores


def everything(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_pruning_leaves_what_the_recipes_need(reference: Path, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def prune(*more: str) -> int:
        return run(copy, "--prune", "--yes", "--recipe", "tiny_pair", *more)

    before = artefacts(copy / "store")
    left = copy / "store" / "checkpoints" / "student-of-before"
    left.mkdir(parents=True)
    with Store(copy / "store").in_use():
        assert prune() == 2
    assert "another command uses this store" in capsys.readouterr().err
    assert prune() == 0
    assert not left.exists()
    assert artefacts(copy / "store") == before
    assert prune("--set", "student.train.learning_rate=2e-3") == 0
    left = [path.name.partition("-")[0] for path in (copy / "store" / "artefacts").iterdir()]
    assert sorted(left) == sorted(
        ["build_tiny", "relation", "teacher", "carrier", "carrier", "filter", "audit", "evaluate", "evaluate"]
    )
    assert re.search(r"student +0 +0\.0 +2 ", capsys.readouterr().out)
    assert run(copy) == 0
    same(copy, reference)
    assert run(copy, "--prune") == 2
    assert "--recipe" in capsys.readouterr().err
    assert main(["--yes"]) == 2


def test_pruning_shows_first_and_keeps_runs_of_own_files_and_settings(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = copy / "mine.yaml"
    own.write_text("from: tiny_pair\n")
    assert run(copy, "--recipe", str(own), "--set", "student.train.learning_rate=2e-3") == 0
    store = copy / "store"
    (key, *_) = (path.name for path in store.glob("artefacts/student-*"))
    checkpoint = store / "checkpoints" / key
    (checkpoint / "8").mkdir(parents=True)
    clean = everything(store)
    orphans = [store / "checkpoints" / "teacher-of-before" / "8", store / "artefacts" / "evaluate-of-before"]
    orphans.append(store / "tmp" / "student-of-before.123")
    for orphan in orphans:
        orphan.mkdir(parents=True)
        (orphan / "weights").write_bytes(bytes(1_500_000))
    before = everything(store)
    capsys.readouterr()

    def prune(*more: str) -> str:
        assert main(["--prune", *more, "--store", str(store)]) == 0
        return capsys.readouterr().out

    shown = prune()
    assert everything(store) == before
    assert "nothing was removed. Add --yes to remove 3 folders, 4.5 MB." in shown
    for line in (r"teacher, unfinished +0 +0\.0 +1 +1\.5 ", r"student, unfinished +1 +0\.0 +1 +1\.5 "):
        assert re.search(line, shown), shown
    assert re.search(r"mine \w{12} +1[67] +[\d.]+ +0 +0\.0 ", shown)
    assert re.search(r"tiny_pair \w{12} +1[67] +[\d.]+ +0 +0\.0 ", shown)
    assert re.search(r"no recorded run +0 +0\.0 +3 +4\.5 ", shown)
    assert "Removed 3 folders, 4.5 MB." in prune("--yes")
    assert not [path for path in clean if not path.exists()]
    assert not [path for path in orphans if path.exists()]
    assert "nothing to remove" in prune()
    assert run(copy, "--prune", "--yes", "--recipe", "tiny_pair") == 0
    # the unfinished student is of either run, as the folder lists them
    assert re.search(r"mine \w{12} +9 +[\d.]+ +[78] ", capsys.readouterr().out)
    assert "mine" not in prune()
    assert [path.name.partition("-")[0] for path in store.glob("plans/*")] == ["tiny_pair"]
    (store / "plans" / "x.json").write_text("{")
    assert main(["--prune", "--yes", "--store", str(store)]) == 2
    assert "x.json: corrupt" in capsys.readouterr().err


def test_pruning_keeps_the_artefacts_of_models_that_are_not_on_this_machine(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = next((copy / "store" / "artefacts").glob("evaluate-*"))
    other = made.with_name("evaluate-of-a-model")
    shutil.copytree(made, other)
    seal(other, {**read_record(made), "model": "nobody/knows"})
    words = ["--prune", "--yes", "--recipe", "tiny_pair", "--set", "student.model=nobody/knows"]
    assert run(copy, *words) == 0
    assert "not on this machine stay: nobody/knows" in capsys.readouterr().out
    assert other.exists()
    assert run(copy, "--prune", "--yes", "--recipe", "tiny_pair") == 0
    assert not other.exists()


def test_the_first_run_of_another_recipe_names_the_controls_that_run_before_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    brief = [word for word in WORDS if "=" in word and "dose" not in word]
    monkeypatch.setattr(experiment, "load_recipe", lambda name: load_recipe(name, brief, seeds=1))
    monkeypatch.setattr(tiny, "DEFAULT", tiny.DEFAULT.model_copy(update={"steps": 20}))
    words = [word for word in WORDS if word != "--skip-controls"]
    where = ["--store", str(tmp_path / "store"), "--results", str(tmp_path / "results")]
    assert main(["--recipe", "tiny_untaught", *words, *where]) == 0
    out = capsys.readouterr().out
    controls = (
        "First run the controls of this installation, once: tiny_pair and tiny_cross, 2 control seeds on tiny models, "
    )
    assert out.index("EXPLORATORY: 1 seed cannot reach") < out.index(controls)
    assert started(out) == ["tiny_pair", "tiny_cross", "tiny_untaught"]
    assert main(["--recipe", "tiny_untaught", *words, *where]) == 0
    out = capsys.readouterr().out
    assert started(out) == ["tiny_untaught"]
    assert "First run the controls" not in out


def started(out: str) -> list[str]:
    """The recipes whose stages began, in order."""
    return re.findall(r"^(\w+) .*\d+ stages, \d+ done$", out, re.MULTILINE)


def test_two_recipes_share_what_they_have_in_common(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = when_made(copy / "store")
    assert run(copy, "--recipe", "tiny_cross", "tiny_pair") == 0
    assert re.search(r"^tiny_cross .* 18 stages, 8 done$", capsys.readouterr().out, re.MULTILINE)
    now = when_made(copy / "store")
    assert {key: now[key] for key in before} == before
    board = json.loads((copy / "results" / "leaderboard.json").read_text())
    assert [entry["recipe"] for entry in board] == ["tiny_cross", "tiny_pair"]


@pytest.mark.parametrize(("moment", "slow"), [(0.0, 0), (2.0, 20), ("a stage", 0)])
def test_an_interruption_ends_within_five_seconds_and_says_how_to_go_on(
    moment: float | str, slow: float, tmp_path: Path
) -> None:
    process = start(tmp_path, WORDS, QUICK | ({"SLOW": str(slow)} if slow else {}))  # seconds until torch is there
    until = time.monotonic() + 300
    if moment == "a stage":
        while not list((tmp_path / "store" / "tmp").glob("[ts]*")) and time.monotonic() < until:
            time.sleep(0.05)
    else:
        while not (tmp_path / "begun").exists() and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(float(moment))
    family = workers(process)
    begun, worked = time.monotonic(), time.process_time()
    while time.process_time() - worked < 0.3:  # how much slower than alone is this machine now?
        pass
    slower = (time.monotonic() - begun) / 0.3
    begun = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    out, err = process.communicate(timeout=300)
    assert time.monotonic() - begun < 5 * max(1.0, slower)
    assert process.returncode == 130
    assert "the same command resumes" in err.lower()
    assert "Traceback" not in out + err
    assert running(family, 5 + slow) == []
