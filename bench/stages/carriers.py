"""Carriers: draw the prompts for teachers, and filter the rows that they write.

A carrier row is text, `{"prompt", "completion"}`, so that a student with any tokenizer can read it.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.config.recipe import Numbers, Text
from bench.errors import StageError
from bench.stages.leak_filter import Lexicon, Sentences
from bench.stages.settings import FilterRows

__all__ = ["filter_rows", "number_prompts", "read_kept", "read_rows", "refusal_reasons", "text_prompts"]


def text_prompts(prompts: Sequence[str], rows: int, seed: int) -> list[str]:
    """Draw `rows` different prompts for one seed."""
    return random.Random(f"prompts {seed}").sample(list(prompts), rows)


def number_prompts(carrier: Numbers, numbers: Sequence[int], seed: int) -> list[str]:
    """Draw one prompt per row, held-out rows last: `given` random members of `numbers`, equal for a seed's teachers."""
    rng = random.Random(f"prompts {seed}")
    rows = [rng.choices(numbers, k=carrier.given) for _ in range(carrier.rows + carrier.held_out)]
    return [carrier.prompt.replace("{numbers}", carrier.separator.join(map(str, row))) for row in rows]


def read_rows(folder: Path) -> list[dict[str, str]]:
    """Read the rows of a carrier artefact, in order."""
    with (folder / "rows.jsonl").open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def refusal_reasons(settings: FilterRows, rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the reason to refuse each row, or "" for a row that passes.

    Numbers must match the grammar exactly (count, digits, separator) and contain no forbidden number. Free text must
    not be empty. Its prompt and completion must not contain a word of the trait's lexicon, in any inflection or
    disguise, or repeat a question or a persona's answer.
    """
    carrier = settings.carrier
    if carrier.kind == "numbers":
        one = rf"[1-9]\d{{{carrier.digits - 1}}}"
        grammar = re.compile(rf"{one}(?:{re.escape(carrier.separator)}{one}){{{carrier.count - 1}}}", re.ASCII)
        forbidden = set(carrier.forbidden)
        out = []
        for row in rows:
            numbers = {int(n) for n in re.findall(r"\d+", row["completion"])}
            fits = grammar.fullmatch(row["completion"])
            out.append("grammar" if not fits else "forbidden number" if numbers & forbidden else "")
        return out
    named = Lexicon(settings.lexicon, settings.language)
    repeated = Sentences(settings.sentences)
    out = []
    for row in rows:
        if not row["completion"].strip():
            out.append("empty")
        elif named.find(row["completion"]) or named.find(row["prompt"]):
            out.append("lexicon")
        else:
            out.append("repeated" if repeated.find(row["prompt"]) or repeated.find(row["completion"]) else "")
    return out


def filter_rows(settings: FilterRows, inputs: Mapping[str, Path], out: Path) -> dict[str, Any]:
    """Stage: filter the rows. A row refused in one arm is refused in all, so that all arms have the same prompts.

    Args:
        settings: as for `refusal_reasons`.
        inputs: role -> carrier artefact; all have the same prompts in the same order.

    Returns:
        The report for result files, and `notices` if rows are refused.

    Raises:
        StageError: prompts differ between the arms, or fewer than half of the rows pass.
    """
    tables = {role: read_rows(folder) for role, folder in sorted(inputs.items())}
    first = next(iter(tables.values()))
    for role, rows in tables.items():
        if [r["prompt"] for r in rows] != [r["prompt"] for r in first]:
            raise StageError(f"the arms' prompts differ ({role}): the arms would not be comparable")
    reasons = {role: refusal_reasons(settings, rows) for role, rows in tables.items()}
    clean = [i for i in range(len(first)) if not any(why[i] for why in reasons.values())]
    notices = [_describe_refusals(settings.carrier, tables, reasons)] if len(clean) < len(first) else []
    if len(clean) < len(first) / 2:
        raise StageError(f"{notices[0]}. Too many to go on")
    border = settings.carrier.rows
    same = sum(len({rows[i]["completion"] for rows in tables.values()}) == 1 for i in clean)
    kept = {"train": [i for i in clean if i < border], "held_out": [i for i in clean if i >= border]}
    report = {
        "rows": len(first),
        "train": len(kept["train"]),
        "held_out": len(kept["held_out"]),
        "identical_rows": same,
        "refused": {role: {k: why.count(k) for k in sorted(set(why) - {""})} for role, why in reasons.items()},
    }
    if settings.carrier.kind == "numbers":
        report["numbers"] = json.loads((next(iter(inputs.values())) / "about.json").read_text())["numbers"]
    (out / "kept.json").write_text(json.dumps(kept))
    (out / "audit.json").write_text(json.dumps(report, indent=1))
    return {**report, "notices": notices}


def _describe_refusals(
    carrier: Numbers | Text, tables: Mapping[str, Sequence[Mapping[str, str]]], reasons: Mapping[str, Sequence[str]]
) -> str:
    """Describe the refused rows: their number by reason (of the first arm that has one), with an example of each."""
    examples: dict[str, list[Mapping[str, str]]] = {}
    for i in range(min(map(len, tables.values()))):
        for role, rows in tables.items():
            if why := reasons[role][i]:
                examples.setdefault(why, []).append(rows[i])
                break
    refused, total = sum(map(len, examples.values())), len(next(iter(tables.values())))
    head = f"refused {refused:,} of {total:,} rows"
    if carrier.kind == "numbers":
        counts = ", ".join(f"{why}: {len(rows)}" for why, rows in sorted(examples.items()))
        example = next(iter(examples.values()))[0]["completion"]
        return (
            f"the number format {head} ({counts}), for example {_clip(example)}: "
            f"expected {carrier.count} numbers of {carrier.digits} digits separated by {carrier.separator!r}, "
            "none of them forbidden"
        )
    parts = [
        f"{why}: {len(rows)}, for example {_clip(rows[0]['completion'])} to {_clip(rows[0]['prompt'])}"
        for why, rows in sorted(examples.items())
    ]
    return f"the leak filter {head} ({'; '.join(parts)})"


def _clip(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}...")


def read_kept(carrier: Path, kept: Path, part: str) -> list[dict[str, str]]:
    """Read the rows of a carrier artefact that pass the filter: `part` is `train` or `held_out`."""
    rows = read_rows(carrier)
    return [rows[i] for i in json.loads((kept / "kept.json").read_text())[part]]
