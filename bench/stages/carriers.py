"""Draw the prompts of carriers, and filter the rows that teachers write.

A carrier row is text, `{"prompt", "completion"}`, so that a student with any tokenizer can read it.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.config.carrier_settings import Numbers, Text
from bench.errors import StageError
from bench.stages.leak_filter import Lexicon
from bench.stages.letter_codes import LetterCodes
from bench.stages.sentences import Sentences
from bench.stages.settings import FilterRows

__all__ = ["filter_rows", "number_prompts", "read_filtered", "read_rows", "refusal_reasons", "text_prompts"]

FORMAT_REASONS = frozenset({"empty", "forbidden number", "grammar"})  # every other reason is a leak


def text_prompts(prompts: Sequence[str], rows: int, seed: int) -> list[str]:
    """Draw `rows` different prompts for one seed."""
    return random.Random(f"prompts {seed}").sample(list(prompts), rows)


def number_prompts(carrier: Numbers, numbers: Sequence[int], seed: int) -> list[str]:
    """Draw one prompt per row, held-out rows last: `given` random members of `numbers`, equal in all arms of a seed."""
    rng = random.Random(f"prompts {seed}")
    rows = [rng.choices(numbers, k=carrier.given) for _ in range(carrier.rows + carrier.held_out)]
    return [carrier.prompt.replace("{numbers}", carrier.separator.join(map(str, row))) for row in rows]


def read_rows(folder: Path) -> list[dict[str, str]]:
    """Read the rows of a carrier artefact, in order."""
    with (folder / "rows.jsonl").open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def refusal_reasons(settings: FilterRows, rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the reason to refuse each row, or "" for a row that passes.

    Leaks come first. The prompt and the completion must not contain a word of the trait's lexicon, in any inflection,
    disguise or letter code, or repeat a question or a persona's answer. Then the format: numbers must match the grammar
    exactly (count, digits, separator) and contain no forbidden number. Free text must not be empty.
    """
    lexicon = Lexicon(settings.lexicon, settings.language, settings.other_names)
    sentences = Sentences(settings.sentences)
    codes = LetterCodes(settings.lexicon, settings.language)
    check_format = _number_format(settings.carrier) if settings.carrier.kind == "numbers" else _text_format
    reasons = []
    for row in rows:
        texts = (row["completion"], row["prompt"])
        texts_with_letters = [text for text in texts if re.search(r"[^\W\d]", text)]  # words need a letter
        if any(codes.find(text) for text in texts):
            reasons.append("letter code")
        elif any(lexicon.find(text) for text in texts_with_letters):
            reasons.append("lexicon")
        elif any(sentences.find(text) for text in texts_with_letters):
            reasons.append("repeated")
        else:
            reasons.append(check_format(row["completion"]))
    return reasons


def _text_format(text: str) -> str:
    return "" if text.strip() else "empty"


def _number_format(carrier: Numbers) -> Callable[[str], str]:
    number = rf"[1-9]\d{{{carrier.digits - 1}}}"
    grammar = re.compile(rf"{number}(?:{re.escape(carrier.separator)}{number}){{{carrier.count - 1}}}", re.ASCII)
    forbidden = set(carrier.forbidden)

    def reason(text: str) -> str:
        if not grammar.fullmatch(text):
            return "grammar"
        return "forbidden number" if forbidden.intersection(map(int, re.findall(r"\d+", text))) else ""

    return reason


def filter_rows(settings: FilterRows, inputs: Mapping[str, Path], out: Path) -> dict[str, Any]:
    """Stage: filter the rows. A row refused in one arm is refused in all, so that all arms have the same prompts.

    Args:
        settings: as for `refusal_reasons`.
        inputs: role -> carrier artefact; all have the same prompts in the same order.

    Returns:
        The report for result files, and `notices` if rows are refused. `refused` counts leaks by arm and reason,
        `format_refused` the rows that break the format alone.

    Raises:
        StageError: prompts differ between the arms, or fewer than half of the rows pass.
    """
    tables = {role: read_rows(folder) for role, folder in sorted(inputs.items())}
    first = next(iter(tables.values()))
    for role, rows in tables.items():
        if [r["prompt"] for r in rows] != [r["prompt"] for r in first]:
            raise StageError(f"the arms' prompts differ ({role}): the arms would not be comparable")
    reasons = {role: refusal_reasons(settings, rows) for role, rows in tables.items()}
    passing = [i for i in range(len(first)) if not any(of_arm[i] for of_arm in reasons.values())]
    notices = _describe_refusals(settings.carrier, tables, reasons)
    if len(passing) < len(first) / 2:
        raise StageError(f"{'; '.join(notices)}. Expected at least half of the rows to pass")
    border = settings.carrier.rows
    identical = sum(len({rows[i]["completion"] for rows in tables.values()}) == 1 for i in passing)
    indices = {"train": [i for i in passing if i < border], "held_out": [i for i in passing if i >= border]}
    report = {
        "rows": len(first),
        "train": len(indices["train"]),
        "held_out": len(indices["held_out"]),
        "identical_rows": identical,
        "refused": {role: _count(of_arm, leaks=True) for role, of_arm in reasons.items()},
        "format_refused": {role: _count(of_arm, leaks=False) for role, of_arm in reasons.items()},
    }
    if settings.carrier.kind == "numbers":
        report["numbers"] = json.loads((next(iter(inputs.values())) / "about.json").read_text())["numbers"]
    (out / "kept.json").write_text(json.dumps(indices))
    (out / "audit.json").write_text(json.dumps(report, indent=1))
    return {**report, "notices": notices}


def _count(reasons: Sequence[str], *, leaks: bool) -> dict[str, int]:
    """Count the leaks or the format refusals among `reasons`, by reason."""
    names = sorted(set(reasons) - {""})
    return {name: reasons.count(name) for name in names if (name not in FORMAT_REASONS) == leaks}


def _describe_refusals(
    carrier: Numbers | Text, tables: Mapping[str, Sequence[Mapping[str, str]]], reasons: Mapping[str, Sequence[str]]
) -> list[str]:
    """Describe the rows refused for leaks and for their format, one line each: counts by reason, with an example.

    A row counts under the reason of the first arm that has one, leaks first.
    """
    examples: dict[str, list[Mapping[str, str]]] = {}
    total = min(map(len, tables.values()))
    for i in range(total):
        pairs = [(reasons[role][i], rows[i]) for role, rows in tables.items() if reasons[role][i]]
        for reason, row in sorted(pairs, key=lambda pair: pair[0] in FORMAT_REASONS)[:1]:
            examples.setdefault(reason, []).append(row)
    lines = []
    for is_format in (False, True):
        part = {reason: rows for reason, rows in sorted(examples.items()) if (reason in FORMAT_REASONS) == is_format}
        if not part:
            continue
        each = [
            f"{reason}: {len(rows)}, for example {_clip(rows[0]['completion'])} to {_clip(rows[0]['prompt'])}"
            for reason, rows in part.items()
        ]
        name = "the format check" if is_format else "the leak filter"
        line = f"{name} refused {sum(map(len, part.values())):,} of {total:,} rows ({'; '.join(each)})"
        if is_format and carrier.kind == "numbers":
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
