"""Contribute a local row to the published results, and check published results.

`--contribute` copies a checked row into `results/`, ready for a pull request. `--check-results` checks such a request.
Nothing is copied unless every check passes.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench.analysis.entry import LeaderboardEntry
from bench.analysis.entry_text import change_text, markdown_table
from bench.analysis.number_text import signed
from bench.analysis.registry import FILE as REGISTRY
from bench.analysis.registry import merge_registry, read_registry
from bench.analysis.replications import FOLDER, read_replications
from bench.analysis.result_files import read_results
from bench.analysis.result_schema import ExperimentResults
from bench.analysis.summary import summarise
from bench.config.changes import label_row
from bench.config.outcome import Outcome
from bench.config.recipe_files import Experiment
from bench.errors import UserError
from bench.files import ROOT, exclusive_lock

__all__ = ["check_results", "contribute", "find_private_text"]

LARGEST_FILE = 5_000_000  # bytes: the largest published file has 60,000
LARGEST_ROW = 100_000_000
# Tokens of the hub, GitHub, OpenAI and Anthropic, AWS, Google and Slack; private keys; addresses with a password.
SECRETS = re.compile(
    r"\bhf_[A-Za-z0-9]{20,}|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}|\bsk-[A-Za-z0-9_-]{20,}"
    r"|\bAKIA[0-9A-Z]{16}\b|\bAIza[\w-]{35}|\bxox[abprs]-[\w-]{10,}|-----BEGIN [A-Z ]*PRIVATE KEY|://[^\s/:@]+:[^\s/@]+@"
)
PATHS = re.compile(r"(?:^|[\s\"'=(])(?:/(?:home|Users|root|mnt|media|data|scratch|tmp|var|opt|srv)/\S|~/|[A-Za-z]:\\)")


class _Copy(NamedTuple):
    """The checked files of one row, and the folder of results to which they are copied."""

    row: str
    files: list[Path]
    target: Path
    is_replication: bool


def contribute(experiments: Sequence[Experiment], results: Path, published: Path) -> list[str]:
    """Copy finished local rows into the published results, all or none, and return lines for the user.

    A row that is published already, from another store, becomes a replication.

    Raises:
        UserError: a check of a row fails; nothing was copied.
    """
    if results.resolve() == published.resolve():
        raise UserError(f"--results {results}: these are the published results; name the folder of your own")
    copies = [_check_copy(experiment, results, published) for experiment in experiments]
    lines = []
    with exclusive_lock(published):
        for copy in copies:
            for path in copy.files:
                target = copy.target / path.relative_to(results)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
            merge_registry(results, copy.target)
            kind = "a replication of the published row" if copy.is_replication else "a row"
            lines.append(f"Copied {len(copy.files)} files of {copy.row} to {copy.target} as {kind}.")
    return [
        *lines,
        f"Your registry was merged: it shows {len(read_registry(results).lines)} registrations.",
        "Next: python run_bench.py --leaderboard --results results, commit results/, and open a pull request.",
    ]


def _check_copy(experiment: Experiment, results: Path, published: Path) -> _Copy:
    """Check a row and find the folder for its files.

    Raises:
        UserError: a check fails, or the published results hold these files.
    """
    label = f"{experiment.label} {experiment.hash()}"
    row, problems = _find_row(experiment, results)
    files = sorted((results / experiment.name).glob(f"{row.hash}*"))
    problems += _check_files(results, files) + _check_row(row) + _check_licence(experiment)
    if problems:
        more = f"\n  (and {len(problems) - 10} more)" if len(problems) > 10 else ""
        raise UserError(f"{label} cannot be contributed:\n  " + "\n  ".join(problems[:10]) + more)
    chain = _find_chain(results, row.hash)
    is_own = bool(list((published / experiment.name).glob(f"{row.hash}-*.json")))
    target = published / FOLDER / chain if is_own and chain != _find_chain(published, row.hash) else published
    if present := [path.name for path in files if (target / experiment.name / path.name).exists()]:
        raise UserError(
            f"{target / experiment.name}: holds {len(present)} files of {label} already, {present[0]} first"
        )
    return _Copy(label, files, target, target != published)


def _find_row(experiment: Experiment, results: Path) -> tuple[ExperimentResults, list[str]]:
    rows, problems = read_results(results, experiment.hash())
    for row in rows:
        if row.name == experiment.name:
            return row, problems
    raise UserError(
        f"{results}: holds no readable row {experiment.name} {experiment.hash()}"
        + (f" ({problems[0]})" if problems else "; run its recipe first")
    )


def _check_row(row: ExperimentResults) -> list[str]:
    """Return the reasons not to publish a row: missing seeds, code that no commit names, no controls."""
    problems = []
    if len(row.complete_seeds()) < row.recipe.seeds:
        problems.append(f"{len(row.complete_seeds())} of {row.recipe.seeds} seeds are complete: run the recipe again")
    cells = [cell for arms in row.cells.values() for cell in arms.values()]
    commits = {commit for cell in cells for commit in cell.manifest.commits}
    if unnamed := sorted(commit for commit in commits if commit == "unknown" or commit.endswith("-dirty")):
        problems.append(f"made by code without a commit ({', '.join(unnamed)}): commit it, and run the recipe again")
    if any(cell.manifest.controls is None for cell in cells):
        problems.append("run without this installation's controls: run it without --skip-controls")
    return problems


def _check_licence(experiment: Experiment) -> list[str]:
    """Return a problem for each trait that is not shipped and states no licence: nobody may share it."""
    shipped = {path.stem for path in (ROOT / "recipes" / "traits").glob("*.yaml")}
    return [
        f"trait {name}: states no licence: add license: (an SPDX identifier, such as CC-BY-4.0) to its file"
        for name, trait in experiment.traits.items()
        if trait.license is None and name not in shipped
    ]


def _check_files(folder: Path, files: Sequence[Path]) -> list[str]:
    """Return a problem for each file that is too large, or that contains a secret or a path of a machine."""
    problems = [f"{path.relative_to(folder)}: {path.stat().st_size:,} bytes, at most {LARGEST_FILE:,}" for path in files
                if path.stat().st_size > LARGEST_FILE]  # fmt: skip
    if (total := sum(path.stat().st_size for path in files)) > LARGEST_ROW:
        problems.append(f"{total:,} bytes in all, at most {LARGEST_ROW:,}")
    for path in files:
        if path.stat().st_size <= LARGEST_FILE and (text := find_private_text(path)):
            problems.append(f"{path.relative_to(folder)}: {text}")
    return problems


def find_private_text(path: Path) -> str | None:
    """Describe text in a file that looks like a secret or a path, without the secret; None if there is none."""
    text = path.read_text(encoding="utf-8", errors="replace")
    values = _texts(json.loads(text), "") if path.suffix == ".json" else [("text", text)]
    for key, value in values:
        if SECRETS.search(value):
            return f"{key} holds what looks like a secret"
        if match := PATHS.search(value):
            return f"{key} holds what looks like a path of your machine ({match.group().strip()}...)"
    return None


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Yield every text of JSON data with its key."""
    if isinstance(value, str):
        yield key or "text", value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts(inner, f"{key}.{name}".lstrip("."))
            yield key or "keys", name
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, key)


def _find_chain(folder: Path, recipe_hash: str) -> str:
    """Return the chain of the last registration of a row."""
    lines = [line for line in read_registry(folder).lines if line.entry.recipe_hash == recipe_hash]
    return max(lines, key=lambda line: (line.time, line.number)).chain if lines else ""


class Check(NamedTuple):
    """The result of `check_results`."""

    problems: list[str]
    """One line for each fault."""
    comparison: str
    """The rows that were added, changed or removed, in Markdown."""


def check_results(folder: Path, revision: str) -> Check:
    """Check every file of a results folder, and compare its board with that of a git revision.

    Args:
        folder: the results folder, in a git repository.
        revision: the revision to compare with, such as `origin/main`.

    Raises:
        UserError: git does not know the revision.
    """
    rows, problems = read_results(folder)
    problems += read_replications(folder, rows)[1]
    for row in rows:
        files = sorted((folder / row.name).glob(f"{row.hash}*"))
        problems += [f"{folder / row.name}: {text}" for text in _check_files(folder, files)]
        if row.cells:
            problems += [f"{row.name} {row.hash}: {text}" for text in _check_row(row)]
    problems += [f"{folder}: {text}" for text in _check_files(folder, [folder / REGISTRY])]
    before = _read_board(folder, revision)
    return Check(problems, _compare(before, summarise(rows)))


def _read_board(folder: Path, revision: str) -> dict[str, dict[str, Any]]:
    """Return the entries of the board at a revision, by hash; none where the file did not exist."""

    def git(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=False)

    if git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}").returncode:
        raise UserError(f"--check-results {revision}: git knows no such commit in {folder}")
    shown = git("show", f"{revision}:./leaderboard.json")
    return {entry["recipe_hash"]: entry for entry in json.loads(shown.stdout)} if shown.returncode == 0 else {}


def _compare(before: Mapping[str, Mapping[str, Any]], board: Sequence[LeaderboardEntry]) -> str:
    lines = []
    for entry in board:
        old = before.get(entry.recipe_hash)
        new = _board_cells(entry.verdict, entry.gain, entry.outcome, entry.seeds)
        old_cells = _old_cells(old) if old else {}
        if new == old_cells:
            continue
        changes = {
            key: value if old_cells.get(key, value) == value else f"{old_cells[key]} -> {value}"
            for key, value in new.items()
        }
        lines.append({"row": entry.label, "hash": entry.recipe_hash, "change": "changed" if old else "new", **changes})
    hashes = {entry.recipe_hash for entry in board}
    for key, old in before.items():
        if key not in hashes:
            label = label_row(old["recipe"], old.get("changes", {}))
            lines.append({"row": label, "hash": key, "change": "removed", **_old_cells(old)})
    return markdown_table(lines) if lines else "No row changed."


def _board_cells(verdict: str, gain: float | None, outcome: Outcome, seeds: int) -> dict[str, str]:
    text = "-" if gain is None else f"{signed(gain)} nats" if outcome == "margin" else change_text(gain, outcome)
    return {"verdict": verdict, "gain": text, "seeds": str(seeds)}


def _old_cells(entry: Mapping[str, Any]) -> dict[str, str]:
    """Return the cells of a line of an earlier leaderboard.json; lines of margins do not hold their outcome."""
    return _board_cells(entry["verdict"], entry["gain"], entry.get("outcome", "margin"), entry["seeds"])
