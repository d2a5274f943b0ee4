"""Results -> `LEADERBOARD.md` and `leaderboard.json`: a pure function of the files. Imports no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.results import Row, read_all
from bench.stats import Interval, diagonal_excess, hierarchical_bootstrap, mean_interval, sign_flip_p
from bench.store import alone, write_atomically
from bench.traits import short_name
from bench.verdict import CONTRASTS, Judgement, Readings, judge, readings

__all__ = ["build", "entries", "gain_text", "short_table", "signed"]

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


VISIBILITY = {"sft": "text", "kd-carrier": "logits-carrier", "kd-full": "logits-full"}
LEAK = """
## Not subliminal: students that saw the teacher's whole vocabulary

These students were handed the teacher's log-probabilities of the trait's own words at every position. A gain here is
that, and no message in the data: it appears whatever weights the student began from.

"""


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def entries(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The leaderboard's entries: one per registered experiment. Rows of `logits-full` are judged apart."""
    found = {id(row): readings(row) for row in rows}
    judged: dict[int, Judgement] = {}
    for leaky in (False, True):
        table = [row for row in rows if (row.experiment["recipe"]["method"] == "kd-full") == leaky]
        bounds = [row.experiment["recipe"]["bound"] for row in table]
        judged |= zip(map(id, table), judge([found[id(row)] for row in table], bounds), strict=True)
    return [_entry(row, found[id(row)], judged[id(row)]) for row in rows]


def _entry(row: Row, found: Readings, judged: Judgement) -> dict[str, Any]:
    recipe = row.experiment["recipe"]
    contents = [cell for arms in row.cells.values() for cell in arms.values()]
    carriers = [cell["manifest"]["carrier"] for cell in contents]
    found_of = [arms["base"]["relation"] for arms in row.cells.values() if "base" in arms]
    relations = sorted({relation["relation"] for relation in found_of})
    gain = judged.gain or Interval(math.nan, math.nan, math.nan)
    fraction = judged.fraction or Interval(math.nan, math.nan, math.nan)
    bootstrap = hierarchical_bootstrap(found.questions) if len(found.questions) > 1 else gain
    aucs = [audit["probe"]["auc"] for audit in row.audits.values() if audit["probe"]["auc"] is not None]
    return {
        "recipe": row.name,
        "recipe_hash": row.hash,
        "trait": recipe["trait"] if isinstance(recipe["trait"], str) else ", ".join(recipe["trait"]),
        "carrier": recipe["carrier"]["kind"],
        "numbers": min((of["numbers"] for of in carriers if of.get("numbers")), default=None),
        "teacher": recipe["teacher"]["model"],
        "student": recipe["student"]["model"],
        "relation": " / ".join(relations) or None,
        "token_maps": " / ".join(sorted({relation["token_maps"] for relation in found_of})) or None,
        "method": recipe["method"],
        "visibility": VISIBILITY[recipe["method"]],
        "seeds": len(found.gains),
        "seeds_registered": recipe["seeds"],
        "untrained": _mean(found.untrained),
        "base": _mean(found.base),
        "trait_arm": _mean(found.trait),
        "gain": _known(gain.mean),
        "ci_low": _known(gain.low),
        "ci_high": _known(gain.high),
        "bootstrap_low": _known(bootstrap.low),
        "bootstrap_high": _known(bootstrap.high),
        "teacher_shift": _mean(found.shifts),
        "verdict": judged.verdict,
        "verdict_reason": judged.reason,
        "p": judged.p,
        "p_holm": judged.p_holm,
        "mde": judged.mde,
        "fraction": _known(fraction.mean),
        "fraction_low": _known(fraction.low),
        "fraction_high": _known(fraction.high),
        "gates": [gate._asdict() for gate in found.gates],
        "notes": _notes(row),
        "audit_auc": max(aucs, default=None),
        "audits": sorted(row.audits),
        "contrasts": {name: _contrast(values) for name, values in found.contrasts.items()},
        "dose": {str(step): _contrast(gains) for step, gains in found.dose.items() if gains},
        "groups": {group: _contrast(gains) for group, gains in found.groups.items() if gains},
        "metrics": {metric: _scores(of) for metric, of in found.scores.items()},
        "matrix": _matrix(found, recipe["trait"]) if found.matrix else None,
        "commit": "+".join(sorted({commit for c in contents for commit in c["manifest"]["commits"]})) or None,
    }


def _notes(row: Row) -> list[str]:
    """Sentences on margins not read in float32 or as the teacher writes, and on noise that arms do not share."""
    cells = [(arm, cell["manifest"].get("margins_dtype")) for arms in row.cells.values() for arm, cell in arms.items()]
    teachers = [dtype for arm, dtype in cells if arm.startswith("teacher")]
    lower = sorted({dtype for arm, dtype in cells if dtype and not arm.startswith("teacher")} - {"float32"})
    notes = []
    if row.experiment["recipe"]["carrier"]["bf16"] and None in teachers:
        notes.append(
            "made before the teacher's shift was read in the precision in which it writes: it wrote in bfloat16 "
            "(`carrier.bf16`), and may have written with less of the trait than its shift says"
        )
    if lower:
        notes.append(
            f"margins were read in {', '.join(lower)}, which moves each by about .01 nats: weights are quantised, or "
            "memory did not hold them in float32"
        )
    trainings = [cell["manifest"]["training"] or {} for arms in row.cells.values() for cell in arms.values()]
    if not all(facts.get("shared_dropout", True) for facts in trainings):
        notes.append("dropout is not shared: completions differ in length between the arms, and with them the noise")
    return notes


def _contrast(values: Sequence[float]) -> dict[str, float | int | None]:
    mean, low, high = mean_interval(values)
    p = sign_flip_p(values).p if len(values) > 1 else None
    return {"seeds": len(values), "mean": mean, "ci_low": _known(low), "ci_high": _known(high), "p": p}


def _scores(of: dict[str, list[float]]) -> dict[str, dict[str, float | int | None]]:
    """One metric's means over seeds, by arm, and its gain paired by seed."""
    gains = [trait - base for trait, base in zip(of["trait"], of["base"], strict=True)]
    out = {arm: _contrast(values) for arm, values in of.items() if values}
    for found in out.values():
        del found["p"]  # of a score being 0: no question anyone asks
    return {**out, "gain": _contrast(gains)}


def _matrix(found: Readings, traits: Sequence[str]) -> dict[str, Any]:
    """Mean gains of a trait x probe matrix and its diagonal excess, with a t interval over seeds."""
    k, n = len(traits), len(found.matrix)
    gains = [[math.fsum(seed[i][j] for seed in found.matrix) / n for j in range(k)] for i in range(k)]
    excess, p = diagonal_excess(found.matrix)
    interval = mean_interval([diagonal_excess([seed])[0] for seed in found.matrix])
    return {
        "traits": [short_name(name) for name in traits],
        "gains": gains,
        "excess": excess,
        "excess_low": _known(interval.low),
        "excess_high": _known(interval.high),
        "p": p.p,
        "seeds": n,
    }


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


def short_table(board: Sequence[dict[str, Any]]) -> str:
    """The few columns that the README shows, without the rows that are a leak."""
    from tabulate import tabulate

    columns = ("recipe", "teacher -> student", "relation", "seeds", "base", "trait arm", "gain [95 % CI]", "verdict")
    shown = [_shown(entry) for entry in board if entry["visibility"] != "logits-full"]
    return tabulate(
        [{name: row[name] for name in columns} for row in shown],
        headers="keys",
        tablefmt="github",
        disable_numparse=True,
    )


def _table(board: Sequence[dict[str, Any]]) -> str:
    from tabulate import tabulate

    rows = [_shown(entry) for entry in board]
    return tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True) + "\n"


def _rounded(value: Any) -> Any:
    """Ten digits of every number: more would differ between processors, and the file must not."""
    if isinstance(value, float):
        return float(f"{value:.10g}")
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list) else value


def _pictures(folder: Path) -> str:
    """Links to the figures that `--figures` left beside the leaderboard."""
    found = sorted((folder / "figures").glob("*.png"))
    lines = [f"![{path.stem}](figures/{path.name})" for path in found]
    return "\n## Figures\n\n" + "\n\n".join(lines) + "\n" if lines else ""


def build(folder: Path) -> list[str]:
    """Write both leaderboard files into `folder`; returns a line for each result file that was refused."""
    with alone(folder):  # another run may end at the same time: what is written last must know all
        rows, refused = read_all(folder)
        board = entries(rows)
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
