"""Is anything lost when the command is killed? Kills the real one at random moments, and starts it again until done.

    python -m tests.perf.kill_anywhere [--kills 50] [--seed 0]

A round runs one small recipe from an empty store: SIGKILL goes to the command, to all of its processes at once, or to
one worker, as often as it takes; then the round's results and artefacts are held against an undisturbed run's. Rounds
follow each other until the kills are used up. Trainings keep a checkpoint every half second, in place of every minute.
"""

from __future__ import annotations

import argparse
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from tabulate import tabulate

from bench.analysis.registry import FILE as REGISTRY
from bench.files import write_atomically
from bench.pipeline.local_workers import current_commit

ROOT = Path(__file__).parent.parent.parent
SMALL = ["--skip-controls", "--set", "first_seed=1000", "--set", "carrier.held_out=16"]
RECIPES = {
    "many short stages": [*SMALL, "--seeds", "4", "--set", "carrier.rows=64", "--set", "teacher.train.max_steps=4",
                          "--set", "student.train.max_steps=3"],
    "long trainings": [*SMALL, "--seeds", "1", "--set", "carrier.rows=256", "--set", "teacher.train.max_steps=150",
                       "--set", "student.train.max_steps=300", "--set", "dose=[5, 100]"],
}  # fmt: skip
# Read by every Python that starts with its folder in the path, the workers' among them: checkpoints come sooner, and
# it is written down what is computed, and that the command itself has begun. SLOW: seconds until torch is there.
BESIDE = """
import os, signal, sys, time
import bench.stages.checkpointing, bench.models.tiny, bench.pipeline.worker

tiny = bench.models.tiny
tiny.DEFAULT = tiny.DEFAULT.model_copy(update=dict(steps=int(os.environ.get("TINY_STEPS", tiny.DEFAULT.steps))))

class Begun:
    def find_spec(name, *rest):
        if name == "bench.cli":
            open({begun!r}, "w").close()
        if name == "torch" and "SLOW" in os.environ:  # a library that is read from a slow disk hears no signal
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            time.sleep(float(os.environ["SLOW"]))

sys.meta_path.insert(0, Begun)
bench.stages.checkpointing.EVERY, bench.stages.checkpointing.SHARE = 0.5, 1
compute = bench.pipeline.worker.run_stage

def counted(stage, *rest):
    with open({computed!r}, "a") as file:
        file.write(stage.key + "\\n")
    return compute(stage, *rest)

bench.pipeline.worker.run_stage = counted
"""


@dataclass
class Tally:
    """What happened over all rounds."""

    kills: Counter[str] = field(default_factory=Counter)  # by what was killed
    at: Counter[str] = field(default_factory=Counter)  # by what was half made at that moment
    rounds: Counter[str] = field(default_factory=Counter)
    finished: int = 0  # stages that were done when a kill came
    again: list[str] = field(default_factory=list)  # of those, the ones that were made again all the same
    resumed: int = 0  # trainings that went on from a checkpoint of their own
    outlived: list[str] = field(default_factory=list)  # workers that went on without their command
    wrong: list[str] = field(default_factory=list)  # exit codes, tracebacks and differences that should not be
    output: list[str] = field(default_factory=list)  # all that the command printed
    seconds: float = 0.0


def files(folder: Path) -> dict[str, bytes]:
    """All files under `folder`, hidden ones too, without the registry, which holds times."""
    paths = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != REGISTRY]
    return {str(p.relative_to(folder)): p.read_bytes() for p in paths}


def artefacts(store: Path) -> dict[str, bytes]:
    """The files of all artefacts, without their records, which hold times."""
    return {name: data for name, data in files(store / "artefacts").items() if not name.endswith("done.json")}


def when_made(store: Path) -> dict[str, int]:
    """Finished stages, and when each was."""
    return {p.parent.name: p.stat().st_mtime_ns for p in (store / "artefacts").glob("*/done.json")}


def start(folder: Path, words: list[str], env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """The real command in a process group of its own, its store and results in `folder`."""
    beside = BESIDE.format(computed=str(folder / "computed"), begun=str(folder / "begun"))
    write_atomically(folder / "path" / "sitecustomize.py", beside)  # others start in this folder at the same time
    where = ["--store", str(folder / "store"), "--results", str(folder / "results")]
    command = [sys.executable, "-u", str(ROOT / "run_bench.py"), *where, *words]
    path = os.pathsep.join([str(folder / "path"), str(ROOT)])
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=0, start_new_session=True,
        env={**os.environ, **(env or {}), "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}, cwd=folder,
    )  # fmt: skip


def computed(folder: Path) -> Counter[str]:
    """How often each stage was begun by the commands started in `folder`."""
    return Counter((folder / "computed").read_text().split()) if (folder / "computed").exists() else Counter()


def workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes that make stages: children of the fork server, itself a child of the command."""
    try:
        family = psutil.Process(process.pid).children(recursive=True)
        return [p for p in family if p.ppid() != process.pid]
    except psutil.Error:
        return []


def wait_for_lines(process: subprocess.Popen[str], lines: int, seconds: float) -> str:
    """What the command says, up to so many finished stages, its end, or so many seconds, whichever comes first."""
    assert process.stdout is not None
    output, until = b"", time.monotonic() + seconds
    while sum(line.startswith(b"[") for line in output.splitlines()) < lines:
        left = until - time.monotonic()
        if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
            break
        part = os.read(process.stdout.fileno(), 65_536)
        if not part:
            break
        output += part
    return output.decode()


def running(processes: list[psutil.Process], timeout: float) -> list[psutil.Process]:
    """Those that still run after `timeout` seconds. A zombie has ended, though init may be late to collect it."""
    until = time.monotonic() + timeout
    while True:
        left = []
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                left += [process] if process.status() != psutil.STATUS_ZOMBIE else []
        if not left or time.monotonic() > until:
            return left
        time.sleep(0.05)


def kill_once(folder: Path, words: list[str], rng: random.Random, tally: Tally, env: Mapping[str, str] | None) -> bool:
    """Start the command and kill something of it; True if it was done before the kill came."""
    store = folder / "store"
    process = start(folder, words, env)
    target = rng.choice(["the command", "the command", "all its processes", "a worker"])
    if rng.random() < 0.2:  # while it starts, or before its first stage ends
        output = wait_for_lines(process, 1, rng.uniform(0.0, 12.0))
    else:
        output = wait_for_lines(process, rng.randint(1, 4), 300)
        output += wait_for_lines(process, 10_000, rng.expovariate(1 / 0.4))
    hands = workers(process)
    half = sorted({path.name.partition("-")[0] for path in (store / "tmp").glob("*")})
    if process.poll() is None:
        tally.at["+".join(half) or "between stages, or before the first"] += 1
        if target == "a worker" and hands:
            rng.choice(hands).kill()
            process.wait(timeout=600)
        elif target == "all its processes":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            target = "the command"
            process.kill()
        tally.kills[target] += 1
    done = process.poll() == 0
    out, err = process.communicate()
    output += out + err
    if target == "a worker" and not done and (process.returncode != 1 or "killed: out of memory?" not in err):
        tally.wrong.append(f"a worker was killed: exit {process.returncode}: {err[-300:]}")
    tally.output.append(output)
    tally.resumed += output.count("resumes after update")
    if "Traceback" in output:
        tally.wrong.append(f"a traceback: {output[-500:]}")
    tally.outlived += [f"{p.pid} 5 s after {target} was killed" for p in running(hands, 5)]
    return done


def undisturbed(folder: Path, words: list[str]) -> None:
    """The same command, left alone."""
    process = start(folder, words)
    out, err = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"the undisturbed run failed: {out}{err}")


def one_round(
    folder: Path, words: list[str], reference: Path, kills: int, rng: random.Random, tally: Tally,
    env: Mapping[str, str] | None = None,
) -> None:  # fmt: skip
    """Kill and start again, at most `kills` times, then let it end; differences go into `tally.wrong`."""
    made: dict[str, int] = {}
    before = tally.kills.total()
    while tally.kills.total() - before < kills:
        done = kill_once(folder, words, rng, tally, env)
        now = when_made(folder / "store")
        tally.again += [key for key, when in made.items() if now.get(key) != when]
        made = now
        if done:
            break
    tally.finished += len(made)
    process = start(folder, words, env)
    out, err = process.communicate()
    tally.output.append(out + err)
    tally.resumed += out.count("resumes after update")
    now = when_made(folder / "store")
    tally.again += [key for key, when in made.items() if now.get(key) != when]
    if process.returncode != 0 or "Traceback" in out + err:
        tally.wrong.append(f"the last run: exit {process.returncode}: {err[-500:]}")
    for what, final, wanted in (
        ("results", files(folder / "results"), files(reference / "results")),
        ("artefacts", artefacts(folder / "store"), artefacts(reference / "store")),
    ):
        differing = sorted(name for name in final.keys() | wanted.keys() if final.get(name) != wanted.get(name))
        if differing:
            tally.wrong.append(f"{what} differ from the undisturbed run's: {', '.join(differing[:5])}")
    left = [str(p) for name in ("tmp", "checkpoints") for p in (folder / "store" / name).glob("*")]
    if left:
        tally.wrong.append(f"left behind: {', '.join(left[:5])}")


def report(tally: Tally, kills: int, seed: int) -> str:
    """The tally as markdown."""

    def shares(counts: Counter[str]) -> str:
        return ", ".join(f"{n} {what}" for what, n in counts.most_common())

    rows: list[list[Any]] = [
        ["kills", tally.kills.total(), shares(tally.kills)],
        ["half made at that moment", tally.at.total(), shares(tally.at)],
        ["rounds to the end", tally.rounds.total(), shares(tally.rounds)],
        ["stages finished before a kill", tally.finished, ""],
        ["of those, made again", len(tally.again), ", ".join(tally.again)],
        ["trainings that went on from a checkpoint", tally.resumed, ""],
        ["workers alive 5 s after their command", len(tally.outlived), "; ".join(tally.outlived)],
        ["differences from undisturbed runs", len(tally.wrong), "; ".join(tally.wrong)],
    ]
    table = tabulate(rows, headers=["", "count", "of which"], tablefmt="github", disable_numparse=True)
    return f"""# Killed anywhere

Made by `python -m tests.perf.kill_anywhere --kills {kills} --seed {seed}` at commit {current_commit()} in
{tally.seconds / 60:.0f} minutes: SIGKILL at random moments, the same command again, until every round has ended; then
all bytes of its results and artefacts against those of a run that nobody disturbed.

{table}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, metavar="N", help="how often to kill, over all rounds")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the moments and the victims")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "perf" / "durability.md", metavar="FILE")
    args = parser.parse_args()
    rng, tally, begun = random.Random(args.seed), Tally(), time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        for kind, words in RECIPES.items():
            undisturbed(Path(name) / kind, words)
            print(f"{kind}: undisturbed after {time.monotonic() - begun:.0f} s", flush=True)
        while tally.kills.total() < args.kills:
            kind = list(RECIPES)[tally.rounds.total() % len(RECIPES)]
            folder = Path(name) / f"round {tally.rounds.total()}"
            left = args.kills - tally.kills.total()
            one_round(folder, RECIPES[kind], Path(name) / kind, left, rng, tally)
            tally.rounds[kind] += 1
            print(f"{kind}: {tally.kills.total()} kills after {time.monotonic() - begun:.0f} s", flush=True)
    tally.seconds = time.monotonic() - begun
    text = report(tally, args.kills, args.seed)
    args.out.write_text(text, encoding="utf-8")
    print(text)
    sys.exit(bool(tally.again or tally.outlived or tally.wrong))


if __name__ == "__main__":
    main()
