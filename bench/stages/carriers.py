"""Draw the prompts of carriers, and filter the rows that teachers write.

A carrier row is text, `{"prompt", "completion"}`, so that a student with any tokenizer can read it.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.config.carrier_settings import Numbers
from bench.config.number_prompts import NumberPrompts
from bench.errors import StageError
from bench.stages.leak_filter import Lexicon
from bench.stages.letter_codes import LetterCodes
from bench.stages.row_format import format_check
from bench.stages.selection import describe_retention, draw_rows, measure_selection
from bench.stages.sentences import Sentences
from bench.stages.settings import Carrier, FilterRows

__all__ = [
    "draw_text_prompts",
    "filter_rows",
    "number_prompts",
    "read_cut_rows",
    "read_filtered",
    "read_rows",
    "refusal_reasons",
]

LEAKS = frozenset({"letter code", "lexicon", "repeated"})  # every other reason is one of the format
CUT = "cut at max_new_tokens"
SHOWN_REASONS = 5  # in one line; the result files count all


def draw_text_prompts(prompts: int, rows: int, seed: int) -> list[int]:
    """Draw `rows` different prompts for one seed, as indices below `prompts`."""
    return random.Random(f"prompts {seed}").sample(range(prompts), rows)


def number_prompts(
    carrier: Numbers, numbers: Sequence[int], seed: int, wording: NumberPrompts | None = None
) -> list[str]:
    """Draw one prompt per row, held-out rows last: `given` random members of `numbers`, equal in all arms of a seed.

    Args:
        carrier: the carrier.
        numbers: the numbers to draw from.
        seed: the seed.
        wording: the clauses of the prompts; None for the carrier's `prompt`.
    """
    rng, size = random.Random(f"prompts {seed}"), carrier.prompts_needed()
    if isinstance(carrier.given, int):
        rows = [rng.choices(numbers, k=carrier.given) for _ in range(size)]
    else:
        rows = [rng.choices(numbers, k=rng.randint(*carrier.given)) for _ in range(size)]
    if wording is None:
        return [carrier.prompt.replace("{numbers}", carrier.separator.join(map(str, row))) for row in rows]
    prompts = []
    for row, (text, separator) in zip(rows, wording.draw(size, random.Random(f"wording {seed}")), strict=True):
        text = text.replace("{count}", str(carrier.count)).replace("{digits}", str(carrier.digits))
        prompts.append(text.replace("{numbers}", (separator or carrier.separator).join(map(str, row))))
    return prompts


def read_rows(folder: Path) -> list[dict[str, str]]:
    """Read the rows of a carrier artefact, in order."""
    with (folder / "rows.jsonl").open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def refusal_reasons(settings: FilterRows, rows: Sequence[Mapping[str, str]], cut: Collection[int] = ()) -> list[str]:
    """Return the reason to refuse each row, or "" for a row that passes.

    Leaks: the prompt and the completion must not contain a word of the trait's lexicon, in any inflection, disguise or
    letter code, or repeat a question or a persona's answer. Format: see `format_check`. Leaks come first, except where
    rows are drawn from those of a format: there the format comes first, because the rows without it are written off.

    Args:
        settings: the carrier and the trait's words.
        rows: the rows of one teacher.
        cut: the rows that were cut off, which a format may fit. Students would be trained to end where they were cut.
    """
    lexicon = Lexicon(settings.lexicon, settings.language, settings.other_names)
    sentences = Sentences(settings.sentences)
    codes = LetterCodes(settings.lexicon, settings.language)
    check, truths = format_check(settings.carrier), settings.truths or [""] * len(rows)

    def find_leak(row: Mapping[str, str]) -> str:
        texts = (row["completion"], row["prompt"])
        texts_with_letters = [text for text in texts if re.search(r"[^\W\d]", text)]  # words need a letter
        if any(codes.find(text) for text in texts):
            return "letter code"
        if any(lexicon.find(text) for text in texts_with_letters):
            return "lexicon"
        return "repeated" if any(sentences.find(text) for text in texts_with_letters) else ""

    reasons = []
    for i, (row, truth) in enumerate(zip(rows, truths, strict=True)):
        broken = check(row["completion"], truth) or (CUT if i in cut else "")
        reasons.append((broken or find_leak(row)) if settings.carrier.draw else (find_leak(row) or broken))
    return reasons


def filter_rows(settings: FilterRows, inputs: Mapping[str, Path], out: Path) -> dict[str, Any]:
    """Stage: filter the rows. A row refused in one arm is refused in all, so that all arms have the same prompts.

    A carrier with `draw` then draws its rows at random from those that pass. `kept.json` holds the indices of the rows
    that stay, `reasons.json` the reason of each refused row by arm and index.

    Args:
        settings: as for `refusal_reasons`.
        inputs: role -> carrier artefact; all have the same prompts in the same order.

    Returns:
        The report for result files, and `notices` if rows are refused. `refused` counts leaks by arm and reason,
        `format_refused` the rows that break the format alone, `selection` what the draw changed.

    Raises:
        StageError: prompts differ between the arms, fewer than half of the rows pass, or too few to draw from.
    """
    tables = {role: read_rows(folder) for role, folder in sorted(inputs.items())}
    first = next(iter(tables.values()))
    for role, rows in tables.items():
        if [r["prompt"] for r in rows] != [r["prompt"] for r in first]:
            raise StageError(f"the arms' prompts differ ({role}): the arms would not be comparable")
    reasons = {
        role: refusal_reasons(settings, rows, read_cut_rows(settings, inputs[role])) for role, rows in tables.items()
    }
    passing = [i for i in range(len(first)) if not any(of_arm[i] for of_arm in reasons.values())]
    carrier, border = settings.carrier, settings.carrier.rows
    notices = _describe_refusals(carrier, tables, reasons)
    if carrier.draw:
        notices.insert(0, describe_retention(reasons))
        indices = draw_rows(passing, carrier, settings.seed, "; ".join(notices))
    elif len(passing) < len(first) / 2:
        raise StageError(f"{'; '.join(notices)}. Expected at least half of the rows to pass")
    else:
        indices = {"train": [i for i in passing if i < border], "held_out": [i for i in passing if i >= border]}
    drawn = indices["train"] + indices["held_out"]
    identical = sum(len({rows[i]["completion"] for rows in tables.values()}) == 1 for i in drawn)
    report: dict[str, Any] = {
        "rows": len(first),
        "train": len(indices["train"]),
        "held_out": len(indices["held_out"]),
        "identical_rows": identical,
        "refused": {role: _count(of_arm, leaks=True) for role, of_arm in reasons.items()},
        "format_refused": {role: _count(of_arm, leaks=False) for role, of_arm in reasons.items()},
    }
    if carrier.draw:
        report["selection"] = measure_selection(carrier, tables, reasons, drawn)
    if carrier.kind == "numbers" and carrier.generate == "grammar":
        report["numbers"] = json.loads((next(iter(inputs.values())) / "about.json").read_text())["numbers"]
    refused = {role: {i: reason for i, reason in enumerate(of_arm) if reason} for role, of_arm in reasons.items()}
    (out / "kept.json").write_text(json.dumps(indices))
    (out / "reasons.json").write_text(json.dumps(refused))
    (out / "audit.json").write_text(json.dumps(report, indent=1))
    return {**report, "notices": notices}


def read_cut_rows(settings: FilterRows, folder: Path) -> frozenset[int]:
    """Read the rows of a carrier artefact that were cut off; none for a carrier that does not draw its rows."""
    if not settings.carrier.draw:
        return frozenset()
    return frozenset(json.loads((folder / "about.json").read_text())["cut"])


def _count(reasons: Sequence[str], *, leaks: bool) -> dict[str, int]:
    """Count the leaks or the format refusals among `reasons`, by reason."""
    names = sorted(set(reasons) - {""})
    return {name: reasons.count(name) for name in names if (name in LEAKS) == leaks}


def _describe_refusals(
    carrier: Carrier, tables: Mapping[str, Sequence[Mapping[str, str]]], reasons: Mapping[str, Sequence[str]]
) -> list[str]:
    """Describe the rows refused for leaks and for their format, one line each: counts by reason, with an example.

    The commonest reasons come first.
    A row counts under the reason of the first arm that has one, leaks first.
    """
    examples: dict[str, list[Mapping[str, str]]] = {}
    total = min(map(len, tables.values()))
    for i in range(total):
        pairs = [(reasons[role][i], rows[i]) for role, rows in tables.items() if reasons[role][i]]
        for reason, row in sorted(pairs, key=lambda pair: pair[0] not in LEAKS)[:1]:
            examples.setdefault(reason, []).append(row)
    lines = []
    for is_format in (False, True):
        part = {reason: rows for reason, rows in sorted(examples.items()) if (reason not in LEAKS) == is_format}
        if not part:
            continue
        each = [
            f"{reason}: {len(rows)}, for example {_clip(rows[0]['completion'])} to {_clip(rows[0]['prompt'])}"
            for reason, rows in sorted(part.items(), key=lambda item: -len(item[1]))[:SHOWN_REASONS]
        ]
        name = "the format check" if is_format else "the leak filter"
        line = f"{name} refused {sum(map(len, part.values())):,} of {total:,} rows ({'; '.join(each)})"
        if is_format and carrier.kind == "numbers" and carrier.generate == "grammar":
            line += (
                f": expected {carrier.count} numbers of {carrier.digits} digits separated by {carrier.separator!r}, "
                "without forbidden numbers"
            )
        lines.append(line)
    return lines


def _clip(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}...")


def read_filtered(carrier: Path, filtering: Path, part: str) -> list[dict[str, str]]:
    """Read the rows of a carrier artefact that pass the filter.

    Args:
        carrier: the carrier artefact.
        filtering: the artefact of the filter.
        part: `train` or `held_out`.
    """
    rows = read_rows(carrier)
    return [rows[i] for i in json.loads((filtering / "kept.json").read_text())[part]]
