"""Write LEADERBOARD.md and leaderboard.json. A pure function of the result files."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.analysis.result_files import read_results
from bench.analysis.seed_statistics import CONTRASTS
from bench.analysis.summary import _rounded, summarise
from bench.files import exclusive_lock, write_atomically

__all__ = ["build_leaderboard", "gain_text", "short_table", "signed"]

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
    """A margin or a gain as the tables show it: +0.021, with a dash where there is none."""
    return "-" if value is None else f"{value:+.{digits}f}"


def gain_text(entry: dict[str, Any]) -> str:
    """A gain with its interval: +0.021 [+0.010, +0.032]."""
    if entry["ci_low"] is None:
        return signed(entry["gain"], 4) + (" [one seed: no interval]" if entry["seeds"] == 1 else "")
    return f"{entry['gain']:+.4f} [{entry['ci_low']:+.4f}, {entry['ci_high']:+.4f}]"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _shown(entry: dict[str, Any]) -> dict[str, str]:
    seeds, registered = entry["seeds"], entry["seeds_registered"]
    return {
        "recipe": entry["recipe"],
        "teacher -> student": f"{entry['teacher']} -> {entry['student']}",
        "relation": entry["relation"] or "-",
        "trait": entry["trait"],
        "carrier": entry["carrier"],
        "visibility": entry["visibility"],
        "seeds": str(seeds) if seeds == registered else f"{seeds} of {registered}",
        "untrained": signed(entry["untrained"]),
        "base": signed(entry["base"]),
        "trait arm": signed(entry["trait_arm"]),
        "gain [95 % CI]": gain_text(entry),
        "verdict": f"**{entry['verdict']}**",
        "p (Holm)": "-" if entry["p_holm"] is None else f"{entry['p_holm']:.2g}",
        "teacher shift": signed(entry["teacher_shift"], 2),
        "fraction": _share(entry["fraction"]),
        "hash": entry["recipe_hash"],
        "commit": entry["commit"] or "-",
    }


def _reasons(entry: dict[str, Any]) -> str:
    lines = [f"- **{entry['recipe']}** `{entry['recipe_hash']}`: {entry['verdict']}: {entry['verdict_reason']}."]
    for gate in entry["gates"]:
        state = "skipped" if gate["passed"] is None else "passed" if gate["passed"] else "FAILED"
        reading = f"{gate['reading']:.3g}" if isinstance(gate["reading"], float) else gate["reading"]
        lines.append(f"  - {gate['name']} {state}: {reading} (needed: {gate['threshold']})")
    lines += [f"  - {note}" for note in entry["notes"]]
    if entry["bootstrap_low"] is not None:
        redrawn = f"[{entry['bootstrap_low']:+.4f}, {entry['bootstrap_high']:+.4f}]"
        lines.append(f"  - gain with seeds and questions redrawn (hierarchical bootstrap): {redrawn}")
    if entry["numbers"] is not None:
        lines.append(f"  - numbers: {entry['numbers']:,} offered to the teacher")
    if entry["audit_auc"] is not None:
        files = [
            f"{entry['recipe']}/{entry['recipe_hash']}.{a.replace('trait', 'audit', 1)}.md" for a in entry["audits"]
        ]
        links = ", ".join(f"[audit]({file})" for file in files)
        lines.append(f"  - bag of words, trait against base rows: AUC {entry['audit_auc']:.3f} ({links})")
    return "\n".join(lines)


def _controls(board: Sequence[dict[str, Any]]) -> str:
    """The table of further controls, where a row has any."""
    lines = [
        {
            "recipe": entry["recipe"],
            "contrast": name,
            "seeds": str(found["seeds"]),
            "difference [95 % CI]": gain_text({**found, "gain": found["mean"]}),
            "p (uncorrected)": "-" if found["p"] is None else f"{found['p']:.2g}",
            "what it says": CONTRASTS[name][2],
        }
        for entry in board
        for name, found in entry["contrasts"].items()
    ]
    return _section("Further controls", lines)


def _groups(board: Sequence[dict[str, Any]]) -> str:
    """Gains on the wording that was taught and on paraphrases of it, apart."""
    lines = [
        {
            "recipe": entry["recipe"],
            "questions": group,
            "seeds": str(found["seeds"]),
            "gain [95 % CI]": gain_text({**found, "gain": found["mean"]}),
            "p (uncorrected)": "-" if found["p"] is None else f"{found['p']:.2g}",
        }
        for entry in board
        for group, found in entry["groups"].items()
    ]
    return _section("Trained wording and paraphrases", lines)


def _metrics(board: Sequence[dict[str, Any]]) -> str:
    """Free answers against the ground truth, per metric: means over seeds."""
    lines = []
    for entry in board:
        for metric, of in entry["metrics"].items():
            means = {arm: f"{of[arm]['mean']:.3f}" if arm in of else "-" for arm in ("untrained", "base", "trait")}
            gain = gain_text({**of["gain"], "gain": of["gain"]["mean"]})
            lines.append({"recipe": entry["recipe"], "metric": metric, **means, "gain [95 % CI]": gain})
    return _section("Free answers against the ground truth (0 to 1)", lines)


def _matrices(board: Sequence[dict[str, Any]]) -> str:
    """Trait x probe: gain of each trait's students on each trait's questions."""
    parts = []
    for entry in board:
        if entry["matrix"] is None:
            continue
        matrix = entry["matrix"]
        lines = [
            {
                "trait taught": name,
                **{f"asked: {probe}": signed(g) for probe, g in zip(matrix["traits"], row, strict=True)},
            }
            for name, row in zip(matrix["traits"], matrix["gains"], strict=True)
        ]
        excess = gain_text(
            {**matrix, "gain": matrix["excess"], "ci_low": matrix["excess_low"], "ci_high": matrix["excess_high"]}
        )
        text = _section(f"Trait x probe: {entry['recipe']}", lines)
        parts.append(f"{text}\nDiagonal minus off-diagonal: {excess}, permutation p = {matrix['p']:.2g}.\n")
    return "".join(parts)


def _section(title: str, lines: Sequence[dict[str, str]]) -> str:
    """A heading and a table; nothing where there is no line."""
    from tabulate import tabulate

    if not lines:
        return ""
    return f"\n## {title}\n\n" + tabulate(lines, headers="keys", tablefmt="github", disable_numparse=True) + "\n"


def _dose(board: Sequence[dict[str, Any]]) -> str:
    """The gains along the way, where a recipe asked for them; the last line of a recipe is its row's own gain."""
    lines = []
    for entry in board:
        if not entry["dose"]:
            continue
        for step, found in entry["dose"].items():
            gain = gain_text({**found, "gain": found["mean"]})
            lines.append({"recipe": entry["recipe"], "updates": step, "gain [95 % CI]": gain})
        lines.append({"recipe": entry["recipe"], "updates": "end", "gain [95 % CI]": gain_text(entry)})
    return _section("Dose", lines)


def _short_model(name: str) -> str:
    """A model's name without its owner, and without the quantisation of a package: `gemma3-270m`."""
    return re.sub(r"-q\d[\w-]*-gguf$", "", name.removeprefix("pypi:").rstrip("/").rpartition("/")[2])


def short_table(board: Sequence[dict[str, Any]]) -> str:
    """The six columns that the README shows, without the rows that are a leak."""
    from tabulate import tabulate

    lines = []
    for entry in board:
        if entry["visibility"] != "logits-full":
            teacher, student = _short_model(entry["teacher"]), _short_model(entry["student"])
            shown = _shown(entry)
            models = teacher if teacher == student else f"{teacher} -> {student}"
            columns = ("relation", "seeds", "gain [95 % CI]", "verdict")
            lines.append({"recipe": entry["recipe"], "model": models, **{name: shown[name] for name in columns}})
    return tabulate(lines, headers="keys", tablefmt="github", disable_numparse=True)


def _table(board: Sequence[dict[str, Any]]) -> str:
    from tabulate import tabulate

    rows = [_shown(entry) for entry in board]
    return tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True) + "\n"


def _pictures(folder: Path) -> str:
    """Links to the figures that `--figures` left beside the leaderboard."""
    found = sorted((folder / "figures").glob("*.png"))
    lines = [f"![{path.stem}](figures/{path.name})" for path in found]
    return "\n## Figures\n\n" + "\n\n".join(lines) + "\n" if lines else ""


def build_leaderboard(folder: Path) -> list[str]:
    """Write both leaderboard files into `folder`; returns a line for each result file that was refused."""
    with exclusive_lock(folder):  # another run may end at the same time: what is written last must know all
        rows, refused = read_results(folder)
        board = summarise(rows)
        text = "No results yet.\n"
        if board:
            fair = [entry for entry in board if entry["visibility"] != "logits-full"]
            leaky = [entry for entry in board if entry["visibility"] == "logits-full"]
            text = "".join(part(fair) for part in (_table, _matrices, _groups, _metrics, _controls, _dose))
            text += LEAK + _table(leaky) if leaky else ""
            text += _pictures(folder)
            text += "\n## Verdicts and gates\n\n" + "\n".join(map(_reasons, board)) + "\n"
        write_atomically(folder / "LEADERBOARD.md", HEAD + text + FOOT)
        write_atomically(folder / "leaderboard.json", json.dumps(_rounded(board), ensure_ascii=False, indent=1) + "\n")
        return refused
