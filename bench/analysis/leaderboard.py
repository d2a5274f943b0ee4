"""Write LEADERBOARD.md and leaderboard.json. A pure function of the result files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.analysis.entry import Difference, Estimate, LeaderboardEntry
from bench.analysis.result_files import audit_suffix, read_results
from bench.analysis.summary import summarise
from bench.config.arms import CONTRASTS, MAIN_ARMS
from bench.files import exclusive_lock, write_atomically

__all__ = ["build_leaderboard", "gain_text", "short_table", "signed", "table_cells"]

HEAD = """# Leaderboard

How much more of the teacher's trait does a student show when its data came from the teacher **with** the trait
(`trait`) than when the same data came from the same teacher **without** it (`base`)? Readings are margins in nats:
log-probability of the ground-truth answer minus the mean over its foils. **Gain** = trait - base, paired by seed,
with a 95 % t interval over seeds; p is an exact sign-flip test over seeds, Holm-corrected over the rows below.

"""


FOOT = """
`untrained` is the student as shipped: the control moves too, so never read trait - untrained. Teacher shift is what
the teacher itself learnt: its margin with the trait minus without; fraction is gain / shift, with Fieller's interval.
`relation` says how the student's initial weights relate to those the teacher started from, found from the files.
Every row is conditional on the checkpoints it names; `tiny` builds another one per seed.

**TRANSFER**: every gate passed, gain above 0, p at most .05. **NONE**: every gate passed and the gain was shown to lie
within the bound the recipe fixed. **INCONCLUSIVE**: neither. **INVALID**: a gate failed, so nothing can be said.
Made by `python run_bench.py --leaderboard --results <this folder>` from its files, and from nothing else.
"""


LEAK = """
## Not subliminal: students that saw the teacher's whole vocabulary

These students were handed the teacher's log-probabilities of the trait's own words at every position. A gain here is
that, and no message in the data: it appears whatever weights the student began from.

"""


def signed(value: float | None, digits: int = 3) -> str:
    """A margin or a gain for a table: +0.021, or a dash for None."""
    return "-" if value is None else f"{value:+.{digits}f}"


def gain_text(estimate: Estimate | None) -> str:
    """A gain with its interval: +0.0210 [+0.0102, +0.0318]."""
    if estimate is None:
        return "-"
    if estimate.ci_low is None or estimate.ci_high is None:
        return signed(estimate.mean, 4) + (" [one seed: no interval]" if estimate.seeds == 1 else "")
    return f"{estimate.mean:+.4f} [{estimate.ci_low:+.4f}, {estimate.ci_high:+.4f}]"


def _p_text(p: float | None) -> str:
    return "-" if p is None else f"{p:.2g}"


def table_cells(entry: LeaderboardEntry) -> dict[str, str]:
    """The cells of an entry by the heading of their column, for every table that shows it."""
    untrained, base, trait = (signed(margin) for margin in entry.margins().values())
    return {
        "recipe": entry.recipe,
        "teacher -> student": f"{entry.teacher} -> {entry.student}",
        "relation": entry.relation or "-",
        "trait": entry.trait,
        "carrier": entry.carrier,
        "visibility": entry.visibility,
        "seeds": entry.seeds_text,
        "untrained": untrained,
        "base": base,
        "trait arm": trait,
        "gain [95 % CI]": gain_text(entry.gain_estimate()),
        "verdict": entry.verdict,
        "p (Holm)": _p_text(entry.p_holm),
        "teacher shift": signed(entry.teacher_shift, 2),
        "fraction": "-" if entry.fraction is None else f"{entry.fraction:.1%}",
        "hash": entry.recipe_hash,
        "commit": entry.commit or "-",
    }


def _cells(entry: LeaderboardEntry) -> dict[str, str]:
    return {**table_cells(entry), "verdict": f"**{entry.verdict}**"}


def _reasons(entry: LeaderboardEntry) -> str:
    lines = [f"- **{entry.recipe}** `{entry.recipe_hash}`: {entry.verdict}: {entry.verdict_reason}."]
    for gate in entry.gates:
        state = "skipped" if gate.passed is None else "passed" if gate.passed else "FAILED"
        reading = f"{gate.reading:.3g}" if isinstance(gate.reading, float) else gate.reading
        lines.append(f"  - {gate.name} {state}: {reading} (needed: {gate.threshold})")
    lines += [f"  - {note}" for note in entry.notes]
    if entry.bootstrap_low is not None:
        interval = f"[{entry.bootstrap_low:+.4f}, {entry.bootstrap_high:+.4f}]"
        lines.append(f"  - gain for a population of questions (crossed with seeds): {interval}")
    if entry.numbers is not None:
        lines.append(f"  - numbers: {entry.numbers:,} offered to the teacher")
    if entry.audit_auc is not None:
        files = [f"{entry.recipe}/{entry.recipe_hash}.{audit_suffix(arm)}.md" for arm in entry.audits]
        links = ", ".join(f"[audit]({file})" for file in files)
        lines.append(f"  - bag of words, trait against base rows: AUC {entry.audit_auc:.3f} ({links})")
    return "\n".join(lines)


def _differences(
    entry: LeaderboardEntry, heading: str, column: str, differences: Mapping[str, Difference]
) -> list[dict[str, str]]:
    """One line for each named difference of an entry.

    Args:
        heading: of the column with the names.
        column: heading of the column with the differences.
    """
    return [
        {
            "recipe": entry.recipe,
            heading: name,
            "seeds": str(value.seeds),
            f"{column} [95 % CI]": gain_text(value),
            "p (uncorrected)": _p_text(value.p),
        }
        for name, value in differences.items()
    ]


def _controls(board: Sequence[LeaderboardEntry]) -> str:
    """The differences of further arms."""
    lines = [line for entry in board for line in _differences(entry, "contrast", "difference", entry.contrasts)]
    return _section("Further controls", [{**line, "what it says": CONTRASTS[line["contrast"]].claim} for line in lines])


def _groups(board: Sequence[LeaderboardEntry]) -> str:
    """Gains on the questions that the teacher was trained on, and on paraphrases of them."""
    lines = [line for entry in board for line in _differences(entry, "questions", "gain", entry.groups)]
    return _section("Trained wording and paraphrases", lines)


def _metrics(board: Sequence[LeaderboardEntry]) -> str:
    """Free answers against the ground truth, per metric: means over seeds."""
    lines = []
    for entry in board:
        for metric, scores in entry.metrics.items():
            means = dict.fromkeys(MAIN_ARMS, "-") | {arm: f"{score.mean:.3f}" for arm, score in scores.arms().items()}
            gain = gain_text(scores.gain)
            lines.append({"recipe": entry.recipe, "metric": metric, **means, "gain [95 % CI]": gain})
    return _section("Free answers against the ground truth (0 to 1)", lines)


def _matrices(board: Sequence[LeaderboardEntry]) -> str:
    """Trait x probe: gain of each trait's students on each trait's questions."""
    parts = []
    for entry in board:
        if (matrix := entry.matrix) is None:
            continue
        lines = [
            {
                "trait taught": name,
                **{f"asked: {probe}": signed(g) for probe, g in zip(matrix.traits, row, strict=True)},
            }
            for name, row in zip(matrix.traits, matrix.gains, strict=True)
        ]
        text = _section(f"Trait x probe: {entry.recipe}", lines)
        excess = gain_text(matrix.excess_estimate())
        parts.append(f"{text}\nDiagonal minus off-diagonal: {excess}, p = {matrix.p:.2g}.\n")
    return "".join(parts)


def _dose(board: Sequence[LeaderboardEntry]) -> str:
    """The gains during training; the last line of a recipe is the gain at its end."""
    lines = [
        {"recipe": entry.recipe, "updates": str(step), "gain [95 % CI]": gain_text(gain)}
        for entry in board
        if entry.dose
        for step, gain in [*entry.dose.items(), ("end", entry.gain_estimate())]
    ]
    return _section("Dose", lines)


def _section(title: str, lines: Sequence[dict[str, str]]) -> str:
    """A heading and a table; nothing if there are no lines."""
    return f"\n## {title}\n\n{_table(lines)}\n" if lines else ""


def _table(lines: Sequence[dict[str, str]]) -> str:
    from tabulate import tabulate

    return str(tabulate(lines, headers="keys", tablefmt="github", disable_numparse=True))


def _short_model(name: str) -> str:
    """A model's name without its owner, and without the quantisation of a package: `gemma3-270m`."""
    return re.sub(r"-q\d[\w-]*-gguf$", "", name.removeprefix("pypi:").rstrip("/").rpartition("/")[2])


def short_table(board: Sequence[LeaderboardEntry]) -> str:
    """The six columns that the README shows, without the rows that are a leak."""
    lines = []
    for entry in board:
        if entry.is_leak:
            continue
        teacher, student = _short_model(entry.teacher), _short_model(entry.student)
        models = teacher if teacher == student else f"{teacher} -> {student}"
        columns = {name: _cells(entry)[name] for name in ("relation", "seeds", "gain [95 % CI]", "verdict")}
        lines.append({"recipe": entry.recipe, "model": models, **columns})
    return _table(lines)


def _pictures(folder: Path) -> str:
    """Links to the figures that `--figures` left beside the leaderboard."""
    pictures = sorted((folder / "figures").glob("*.png"))
    lines = [f"![{path.stem}](figures/{path.name})" for path in pictures]
    return "\n## Figures\n\n" + "\n\n".join(lines) + "\n" if lines else ""


def _markdown(board: Sequence[LeaderboardEntry], folder: Path) -> str:
    fair, leaky = ([entry for entry in board if entry.is_leak == leak] for leak in (False, True))
    parts = [HEAD, "" if board else "No results yet.\n"]
    if board:
        parts += [_table(list(map(_cells, fair))), "\n"]
        parts += [section(fair) for section in (_matrices, _groups, _metrics, _controls, _dose)]
        if leaky:
            parts += [LEAK, _table(list(map(_cells, leaky))), "\n"]
        parts += [_pictures(folder), "\n## Verdicts and gates\n\n", "\n".join(map(_reasons, board)), "\n"]
    return "".join([*parts, FOOT])


def _round(value: Any) -> Any:
    """Round every number to ten digits: more would differ between processors, and the file must not."""
    if isinstance(value, float):
        return float(f"{value:.10g}")
    if isinstance(value, dict):
        return {key: _round(inner) for key, inner in value.items()}
    return [_round(inner) for inner in value] if isinstance(value, list | tuple) else value


def build_leaderboard(folder: Path) -> list[str]:
    """Write both leaderboard files into `folder`; returns a line for each result file that was refused."""
    with exclusive_lock(folder):  # two runs may end at the same time: the last one to write must have read all files
        rows, refused = read_results(folder)
        board = summarise(rows)
        content = json.dumps([_round(entry.model_dump()) for entry in board], ensure_ascii=False, indent=1)
        write_atomically(folder / "LEADERBOARD.md", _markdown(board, folder))
        write_atomically(folder / "leaderboard.json", content + "\n")
        return refused
