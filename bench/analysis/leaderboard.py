"""Write LEADERBOARD.md and leaderboard.json. A pure function of the result files and the registry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic_core import to_json

from bench.analysis.archive import list_archived
from bench.analysis.board_sections import (
    contrast_section,
    dose_section,
    group_section,
    matrix_section,
    metric_section,
    mitigation_section,
    question_section,
    registration_section,
    replication_section,
    section,
    sensitivity_section,
)
from bench.analysis.entry import LeaderboardEntry
from bench.analysis.entry_text import gain_text, markdown_table, reading_text, score_text, selection_text, table_cells
from bench.analysis.gates import list_seeds
from bench.analysis.rate_sections import answer_section, measure_section
from bench.analysis.registry import read_registry
from bench.analysis.registry_lines import RegistryLine
from bench.analysis.replications import Replication, read_replications
from bench.analysis.result_files import audit_suffix, read_results
from bench.analysis.result_schema import ExperimentResults
from bench.analysis.summary import expected_false_transfers, summarise
from bench.files import exclusive_lock, write_atomically

__all__ = ["Board", "as_json", "build_leaderboard"]

SECTIONS = (
    matrix_section,
    group_section,
    measure_section,
    answer_section,
    metric_section,
    contrast_section,
    mitigation_section,
    dose_section,
    question_section,
    sensitivity_section,
)
HEAD = """# Leaderboard

How much more of the teacher's trait does a student show when its data came from the teacher **with** the trait
(`trait`) than when the same data came from the same teacher **without** it (`base`)?

The outcome is a margin in nats: the log-probability of the true answer minus the mean over its foils. The **gain** is
trait - base, paired by seed, with a 95 % t interval over seeds, for these questions. `P(answer)` is the probability of
the trait's answer among the candidates, as base -> trait. p is a sign-flip test over seeds. A verdict belongs to its
row and rests on p; q adjusts p for the number of tests on the board (Benjamini-Hochberg). Estimates have the digits
that their intervals justify; `leaderboard.json` has all.

"""

RATES = """
# Outcome: the rate of sampled answers

The outcome is a rate: the share of sampled answers that name the trait's answer, in percent. Gains, shifts and bounds
are in points, hundredths of the answers.

"""

MAIN = (
    "recipe",
    "teacher -> student",
    "relation",
    "seeds",
    "gain [95 % CI]",
    "P(answer)",
    "verdict",
    "p",
    "q",
)
DETAILS = (
    "recipe",
    "trait",
    "carrier",
    "visibility",
    "untrained",
    "base",
    "trait arm",
    "mass",
    "teacher shift",
    "fraction",
)
REGISTERED = ("recipe", "level", "bound", "looks", "replications", "hash", "commit")

FOOT = """
`untrained` is the student as shipped; with `base` and `trait arm` it is the mean outcome of each. The control moves
too, so never read trait - untrained. `mass` is the probability of all candidates together, as base -> trait. `teacher
shift` is the teacher's margin with the trait minus without. `fraction` is gain / teacher shift. `level` is that of the
verdict, as registered. `bound` is the gain in nats below which a row counts as no transfer. `looks` counts further
registrations of the same recipe with other seeds, or again with another bound, and `replications` its runs on other
machines. `relation` is found from the files of the initial weights. Every row is conditional on the checkpoints that it
names; `tiny` builds another one for each seed.

| verdict | when all gates pass and all registered seeds are there |
| --- | --- |
| TRANSFER | gain above 0 at the row's level, not shown to be below its bound; `specific`: also above the placebo |
| TRACE | gain above 0 at the row's level, and its interval is below the bound |
| NONE | neither, and its interval reaches 0 or below and is within ± the bound |
| INCONCLUSIVE | none of these |
| EXPLORATORY | too few seeds for any verdict |
| INVALID | a gate failed |

Made by `python run_bench.py --leaderboard --results <this folder>` from its files. The registry shows the order in
which rows were registered. It cannot show that nobody ran a row before its registration.
"""


LEAK = """
## Not subliminal: students that saw the teacher's whole vocabulary

These students were given the teacher's log-probabilities of all words, the trait's own included. Their gain is a leak
and no message in the data. It appears with any initial weights.

"""


def _pick(entry: LeaderboardEntry, columns: Sequence[str]) -> dict[str, str]:
    cells = table_cells(entry)
    return {name: f"**{cells[name]}**" if name == "verdict" else cells[name] for name in columns}


def _describe_false_transfers(board: Sequence[LeaderboardEntry]) -> str:
    """How many TRANSFERs chance alone would give."""
    tested, expected = expected_false_transfers(board)
    return (
        f"These rows hold {tested} different tests: rows of the same seeds and margins are one. If none transferred, "
        f"chance would make {expected:.2g} of them a TRANSFER or a TRACE on average.\n"
    )


def _reasons(entry: LeaderboardEntry) -> str:
    lines = [f"- **{entry.label}** `{entry.recipe_hash}`: {entry.verdict}: {entry.verdict_reason}."]
    for gate in entry.gates:
        state = "skipped" if gate.passed is None else "passed" if gate.passed else "FAILED"
        seeds = f"; seeds {list_seeds(gate.failed_seeds)}" if gate.failed_seeds else ""
        lines.append(f"  - {gate.name} {state}: {reading_text(gate)} (needed: {gate.threshold}{seeds})")
    lines += [f"  - {note}" for note in entry.notes]
    if entry.bound is not None:
        lines.append(f"  - bound: {entry.bound:.3g} {entry.unit}: {entry.bound_source}")
    if entry.numbers is not None:
        lines.append(f"  - numbers: {entry.numbers:,} offered to the teacher")
    if (refusals := entry.format_refusals) is not None and refusals.mean:
        lines.append(f"  - rows refused for their format, trait - base: {gain_text(refusals)}, a selection and no leak")
    for arm, selection in entry.selection.items():
        lines.append(f"  - {arm} keeps {selection_text(selection)}")
    for arm, auc in entry.audits.items():
        link = f"[audit]({entry.recipe}/{entry.recipe_hash}.{audit_suffix(arm)}.md)"
        lines.append(f"  - leak audit of {arm}: AUC {score_text(auc)} ({link})")
    return "\n".join(lines)


def _pictures(folder: Path) -> str:
    """Links to the figures that `--report` left next to the leaderboard."""
    pictures = sorted((folder / "figures").glob("*.png"))
    lines = [f"![{path.stem}](figures/{path.name})" for path in pictures]
    return "\n## Figures\n\n" + "\n\n".join(lines) + "\n" if lines else ""


def _markdown(
    board: Sequence[LeaderboardEntry],
    replications: Sequence[Replication],
    unmeasured: Sequence[RegistryLine],
    problems: Sequence[str],
    folder: Path,
) -> str:
    fair, leaky = ([entry for entry in board if entry.is_leak == leak] for leak in (False, True))
    parts = [HEAD, "" if board else "No results yet.\n"]
    if board:
        for heading, outcome in (("", "margin"), (RATES, "rate")):  # a table has one unit
            rows = [entry for entry in fair if entry.outcome == outcome]
            leaks = [entry for entry in leaky if entry.outcome == outcome]
            if rows or leaks:
                parts.append(heading)
            if rows:
                table = markdown_table([_pick(entry, MAIN) for entry in rows])
                parts += [table, "\n\n", _describe_false_transfers(rows)]
                parts.append(section("Details", [_pick(entry, DETAILS) for entry in rows]))
                parts.append(section("Registration", [_pick(entry, REGISTERED) for entry in rows]))
                parts += [render(rows) for render in SECTIONS]
            if leaks:
                parts += [LEAK, markdown_table([_pick(entry, MAIN) for entry in leaks]), "\n"]
        parts += [_pictures(folder), "\n## Verdicts and gates\n\n", "\n".join(map(_reasons, board)), "\n"]
    parts += [replication_section(replications), registration_section(unmeasured, list_archived(folder))]
    if problems:
        parts += ["\n## Left out\n\n", "".join(f"- {problem.replace(f'{folder}/', '')}\n" for problem in problems)]
    return "".join([*parts, FOOT])


def _round(value: Any) -> Any:
    """Round every number to ten digits: more would differ between processors, and the file must not."""
    if isinstance(value, float):
        return float(f"{value:.10g}")
    if isinstance(value, dict):
        return {key: _round(inner) for key, inner in value.items()}
    return [_round(inner) for inner in value] if isinstance(value, list | tuple) else value


class Board(NamedTuple):
    """A leaderboard and the results from which it was made."""

    rows: list[ExperimentResults]
    """The registered experiments."""
    entries: list[LeaderboardEntry]
    """Their entries, in the same order."""
    problems: list[str]
    """One line for each file that was refused."""

    def find(self, name: str, recipe_hash: str) -> tuple[ExperimentResults, LeaderboardEntry] | None:
        """Return a row and its entry; None where its files were refused."""
        pairs = zip(self.rows, self.entries, strict=True)
        return next((pair for pair in pairs if (pair[0].name, pair[0].hash) == (name, recipe_hash)), None)


def as_json(entries: Sequence[LeaderboardEntry], indent: int | None = None) -> str:
    """Render entries as `leaderboard.json` holds them."""
    return to_json([_round(entry.model_dump()) for entry in entries], indent=indent).decode()


def build_leaderboard(folder: Path, draw: Callable[[Board], None] | None = None) -> Board:
    """Write both leaderboard files into `folder`.

    Args:
        folder: the results folder.
        draw: draws the figures, to which the page links, before it is written.
    """
    with exclusive_lock(folder):  # two runs may end at the same time: the last one to write must have read all files
        rows, refused = read_results(folder)
        replications, faults = read_replications(folder, rows)
        counts = Counter(one.entry.recipe_hash for one in replications)
        board = [entry.model_copy(update={"replications": counts[entry.recipe_hash]}) for entry in summarise(rows)]
        content = as_json(board, indent=1)
        problems = [*refused, *faults]
        unmeasured = read_registry(folder).without_results({row.hash for row in rows if row.cells})
        made = Board(rows, board, problems)
        if draw is not None:
            draw(made)
        write_atomically(folder / "LEADERBOARD.md", _markdown(board, replications, unmeasured, problems, folder))
        write_atomically(folder / "leaderboard.json", content + "\n")
        return made
