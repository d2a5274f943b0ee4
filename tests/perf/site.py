"""How long the report site takes: 1,000 rows from nothing, after one row changed, and with nothing new.

    python -m tests.perf.site              1,000 rows; 2 GB of temporary disk, 5 minutes
    python -m tests.perf.site --rows 120   fewer
    python -m tests.perf.site --profile    and where the time goes: the ten dearest functions

Rows are made from the published ones in turn: each has another learning rate, and thus another hash, a registration of
its own, and trait students whose answers are shifted by a drawn amount. Every command runs in a process of its own.
Writes `results/perf/site.md` when 1,000 rows were measured.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.analysis.registration import propose_registration
from bench.analysis.registry import FILE
from bench.analysis.registry_lines import RegistryLine
from bench.analysis.result_files import read_content, read_results, seal_content
from bench.analysis.result_schema import ExperimentResults
from bench.analysis.result_writer import write_recipe_file
from bench.config.arms import parse_arm
from bench.config.recipe_files import load_recipe
from bench.files import ROOT, write_atomically
from bench.pipeline.local_workers import current_commit
from bench.pipeline.worker import hardware_name
from tests.perf.growth import profile_call
from tests.perf.watch import Watched, watch

ROWS = 1000
WANTED, REBUILD = 60.0, 5.0  # seconds: the whole site, and a rebuild with nothing new
SHIFT = 0.1  # nats: the standard deviation of what is added to the answers of trait students


def copy_row(
    published: Sequence[ExperimentResults], source: Path, target: Path, number: int, last: RegistryLine | None
) -> RegistryLine:
    """Write a published row again under another learning rate; return its line of the registry.

    Args:
        published: the published rows.
        source: the results folder that holds them.
        target: the results folder to write to.
        number: of the copy, which decides its row, its learning rate and its answers.
        last: the registry's line before.
    """
    rng, row = random.Random(number), published[number % len(published)]
    rate = 1e-3 * (1 + (number + 1) / 1e5)  # no published row has it
    experiment = load_recipe(row.name, [f"student.train.learning_rate={rate:.8e}"], seeds=len(row.cells))
    name = experiment.hash()
    registration = propose_registration(experiment, [source], "c")
    write_recipe_file(experiment, registration, target)
    for path in sorted((source / row.name).glob(f"{row.hash}*.json")):
        ending = path.name.removeprefix(row.hash)
        if ending != ".recipe.json":
            is_trait = not ending.startswith(".") and parse_arm(ending[6:-5]).kind == "trait"
            text = _shift(path, name, rng.gauss(0, SHIFT)) if is_trait else _rename(path, row.hash, name)
            (target / row.name / f"{name}{ending}").write_text(text, encoding="utf-8")
    line = RegistryLine(
        chain=last.chain if last else "0" * 16, number=number, previous=last.sha256 if last else None,
        time="2026-01-01T00:00:00Z", entry=registration, sha256="",
    )  # fmt: skip
    return line.model_copy(update={"sha256": line.content_hash()})


def _rename(path: Path, old: str, new: str) -> str:
    """Return the text of a result file with another recipe hash, without parsing it."""
    _, _, rest = path.read_text(encoding="utf-8").partition('",')  # after the checksum
    rest = rest.replace(f'"recipe_hash": "{old}"', f'"recipe_hash": "{new}"', 1)
    return f'{{\n "sha256": "{hashlib.sha256(rest.encode()).hexdigest()}",{rest}'


def _shift(path: Path, name: str, shift: float) -> str:
    """Return the text of a student's result file with another recipe hash and shifted answers."""
    content = {**read_content(path), "recipe_hash": name}
    for question in content["reading"]["logprobs"]:
        question[0] = round(question[0] + shift, 6)
    return seal_content(content)


def make_results(target: Path, rows: int) -> int:
    """Write this many rows into a results folder; return the number of their files."""
    source = ROOT / "results"
    published, _ = read_results(source)
    lines: list[RegistryLine] = []
    for number in range(rows):
        lines.append(copy_row(published, source, target, number, lines[-1] if lines else None))
    (target / FILE).write_text("".join(f"{line.text()}\n" for line in lines), encoding="utf-8")
    return sum(1 for _ in target.glob("*/*.json"))


def measure(results: Path, store: Path) -> dict[str, Watched]:
    """Build the site, change one file of one row, and build it again twice."""
    words = ["run_bench.py", "--report", "--results", str(results), "--store", str(store)]
    runs = {"from nothing": watch(words)}
    refused = [text for _, text in runs["from nothing"].lines if "Wrote" not in text]
    if refused:
        raise SystemExit(f"{len(refused)} lines: {refused[0]}")
    cell = next(results.glob("*/*-0000-trait*.json"))
    content = read_content(cell)
    content["reading"]["logprobs"][0][0] = round(content["reading"]["logprobs"][0][0] + 0.01, 6)
    cell.write_text(seal_content(content), encoding="utf-8")
    runs["one row changed"] = watch(words)
    runs["nothing new"] = watch(words)
    return runs


def _met(seconds: float, wanted: float, rows: int) -> str:
    if rows != ROWS:
        return f"(wanted of {ROWS:,} rows: {wanted:g} s)"
    return f"(wanted: {wanted:g} s, {'met' if seconds < wanted else 'not met'})"


def describe(results: Path, files: int, rows: int, runs: dict[str, Watched]) -> list[str]:
    """Return the paragraphs of the page."""
    size = sum(path.stat().st_size for path in results.glob("*/*.json"))
    site = [path for path in (results / "report").rglob("*") if path.is_file()]
    first, changed, again = runs.values()
    pages = sorted(path.stat().st_size for path in (results / "report" / "rows").iterdir())
    index = (results / "report" / "index.html").stat().st_size
    return [
        f"{rows:,} rows in turn of the published ones, {files:,} result files, {size / 1e9:.2f} GB. `--report` writes "
        "the leaderboard too. Seconds of the wall, and in brackets of the processor, with the start of Python.",
        f"- from nothing: **{first.seconds:.1f} s** ({first.cpu:.1f}) {_met(first.seconds, WANTED, rows)}\n"
        f"- one row changed: {changed.seconds:.1f} s ({changed.cpu:.1f})\n"
        f"- nothing new: **{again.seconds:.2f} s** ({again.cpu:.2f}) {_met(again.seconds, REBUILD, rows)}",
        f"Memory at most {first.peak / 1e9:.2f} GB. The site has {len(site):,} files, "
        f"{sum(path.stat().st_size for path in site) / 1e6:.0f} MB: the board {index / 1e6:.1f} MB, the page of a row "
        f"{pages[len(pages) // 2] / 1e3:.0f} kB (the largest {pages[-1] / 1e3:.0f} kB). Published rows have no sampled "
        "answers, and this store no carriers, so neither is part of it.",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS, help=f"default: {ROWS:,}")
    parser.add_argument("--profile", action="store_true", help="the ten dearest functions")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "perf", help="default: results/perf")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results, store = Path(folder) / "results", Path(folder) / "store"
        files = make_results(results, args.rows)
        runs = measure(results, store)
        parts = [
            "# The report site",
            f"Made by `python -m tests.perf.site` on {hardware_name()}, commit {current_commit()}.",
            *describe(results, files, args.rows, runs),
        ]
        if args.profile:
            (results / "report" / "built.txt").unlink()
            modules = (
                "from pathlib import Path; from bench.pipeline.store import Store; from bench.report.site import *"
            )
            call = f"{modules}; write_report(Path({str(results)!r}), Store(Path({str(store)!r})))"
            parts.append("```\n" + "\n".join(profile_call(call, Path(folder) / "site.prof")) + "\n```")
    text = "\n\n".join(parts) + "\n"
    print(text)
    if args.rows == ROWS:
        write_atomically(args.out / "site.md", text)


if __name__ == "__main__":
    main()
