"""Carriers: the prompts teachers answer, the tokens they may answer with, and the rows that are refused.

A carrier row is text, `{"prompt", "completion"}`, so that a student of any tokenizer can read it.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.errors import StageError
from bench.leaks import Lexicon, Sentences
from bench.recipe import Numbers

__all__ = ["number_prompts", "number_slots", "read_kept", "read_rows", "refusals", "select", "text_prompts"]


def text_prompts(prompts: Sequence[str], rows: int, seed: int) -> list[str]:
    """`rows` different prompts, drawn for one seed."""
    return random.Random(f"prompts {seed}").sample(list(prompts), rows)


def number_prompts(carrier: Numbers, numbers: Sequence[int], seed: int) -> list[str]:
    """One prompt a row, held-out rows last: `given` random members of `numbers`, equal for all teachers of a seed."""
    rng = random.Random(f"prompts {seed}")
    rows = [rng.choices(numbers, k=carrier.given) for _ in range(carrier.rows + carrier.held_out)]
    return [carrier.prompt.replace("{numbers}", carrier.separator.join(map(str, row))) for row in rows]


def number_slots(
    carrier: Numbers, encode: Callable[[str], list[int]], decode: Callable[[Sequence[int]], str], lead: str
) -> tuple[list[int], list[tuple[int, ...]]]:
    """What a completion of numbers looks like in one tokenizer.

    Args:
        encode: text -> token ids, without special tokens.
        decode: token ids -> text.
        lead: what stands between prompt and completion ("" or " ").

    Returns:
        The numbers that may be sampled, and per position of the completion the token ids allowed there: one id
        where the grammar forces the token. Where whole numbers are tokens (GPT-2) a number is one position,
        elsewhere (Gemma, SmolLM2) one position per digit.

    Raises:
        StageError: the tokenizer does neither.
    """
    low, high = 10 ** (carrier.digits - 1), 10**carrier.digits
    every = [n for n in range(low, high) if n not in carrier.forbidden]

    def ids(n: int) -> list[int]:
        return encode(lead + carrier.separator.join([str(n)] * carrier.count))

    whole = {n: seq for n in every if len(seq := ids(n)) == carrier.count or len(seq) == 2 * carrier.count - 1}
    step = 1 if whole and len(next(iter(whole.values()))) == carrier.count else 2
    whole = {n: seq for n, seq in whole.items() if len(seq) == step * (carrier.count - 1) + 1}
    if len(whole) >= 50:
        slots = [tuple(sorted({seq[i] for seq in whole.values()})) for i in range(len(next(iter(whole.values()))))]
        numbers = sorted(whole)
    else:
        repeated = [ids(int(str(d) * carrier.digits)) for d in range(1, 10)]
        round_ids = ids(low)  # 100: the only place a zero shows
        if len({len(seq) for seq in [*repeated, round_ids]}) != 1:
            raise StageError(
                "this tokenizer writes numbers neither as whole tokens nor digit by digit: no number carrier"
            )
        slots = [tuple(dict.fromkeys(column)) for column in zip(*repeated, strict=True)]
        firsts = [i for i, slot in enumerate(slots) if len(slot) == 9][:: carrier.digits]
        slots = [(round_ids[i], *slot) if len(slot) == 9 and i not in firsts else slot for i, slot in enumerate(slots)]
        numbers = every
    rng = random.Random(0)
    for _ in range(50):  # what is sampled must read back as it was written, or a student sees other tokens
        sample = [rng.choice(slot) for slot in slots]
        if encode(decode(sample)) != sample:
            raise StageError(f"number carrier: {decode(sample)!r} does not keep its tokens when it is read back")
    return numbers, slots


def read_rows(folder: Path) -> list[dict[str, str]]:
    """The rows of a carrier artefact, in order."""
    with (folder / "rows.jsonl").open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def refusals(settings: Mapping[str, Any], rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Per row, why it is refused, or "".

    Numbers must follow the grammar to the letter (count, digits, separator, none forbidden). Free text must not be
    empty, hold a word of the trait's lexicon in any inflection or disguise, or repeat a question or a persona's answer,
    in the prompt or in the answer.

    Args:
        settings: `carrier` (as in the recipe); for text `lexicon`, `language` and `sentences`.
    """
    carrier = settings["carrier"]
    if carrier["kind"] == "numbers":
        one = rf"[1-9]\d{{{carrier['digits'] - 1}}}"
        grammar = re.compile(rf"{one}(?:{re.escape(carrier['separator'])}{one}){{{carrier['count'] - 1}}}", re.ASCII)
        forbidden = set(carrier["forbidden"])
        out = []
        for row in rows:
            held = {int(n) for n in re.findall(r"\d+", row["completion"])}
            fits = grammar.fullmatch(row["completion"])
            out.append("grammar" if not fits else "forbidden number" if held & forbidden else "")
        return out
    named = Lexicon(settings["lexicon"], settings["language"])
    repeated = Sentences(settings["sentences"])
    out = []
    for row in rows:
        if not row["completion"].strip():
            out.append("empty")
        elif named.find(row["completion"]) or named.find(row["prompt"]):
            out.append("lexicon")
        else:
            out.append("repeated" if repeated.find(row["prompt"]) or repeated.find(row["completion"]) else "")
    return out


def select(settings: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> dict[str, Any]:
    """Stage: which rows stay. A row refused in one arm is refused in all, so arms keep equal rows.

    Args:
        settings: as for `refusals`.
        inputs: role -> carrier artefact; every one has the same prompts in the same order.

    Raises:
        StageError: prompts differ between the arms, or fewer than half of the rows stay.
    """
    tables = {role: read_rows(folder) for role, folder in sorted(inputs.items())}
    first = next(iter(tables.values()))
    for role, rows in tables.items():
        if [r["prompt"] for r in rows] != [r["prompt"] for r in first]:
            raise StageError(f"the arms' prompts differ ({role}): the arms would not be comparable")
    reasons = {role: refusals(settings, rows) for role, rows in tables.items()}
    clean = [i for i in range(len(first)) if not any(why[i] for why in reasons.values())]
    if len(clean) < len(first) / 2:
        raise StageError(
            f"the leak filter refused {len(first) - len(clean):,} of {len(first):,} rows: too many to go on"
        )
    border = settings["carrier"]["rows"]
    same = sum(len({rows[i]["completion"] for rows in tables.values()}) == 1 for i in clean)
    kept = {"train": [i for i in clean if i < border], "held_out": [i for i in clean if i >= border]}
    report = {
        "rows": len(first),
        "train": len(kept["train"]),
        "held_out": len(kept["held_out"]),
        "identical_rows": same,
        "refused": {role: {k: why.count(k) for k in sorted(set(why) - {""})} for role, why in reasons.items()},
    }
    (out / "kept.json").write_text(json.dumps(kept))
    (out / "audit.json").write_text(json.dumps(report, indent=1))
    return report


def read_kept(carrier: Path, kept: Path, part: str) -> list[dict[str, str]]:
    """The rows of a carrier artefact that `select` kept: `part` is `train` or `held_out`."""
    rows = read_rows(carrier)
    return [rows[i] for i in json.loads((kept / "kept.json").read_text())[part]]
