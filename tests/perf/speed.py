"""How fast is this beside the system it replaces, and beside the stock libraries?

    python -m tests.perf.speed --shape smollm2                        all sections: most of an hour on two cores
    python -m tests.perf.speed --shape smollm2 --only sampling        one of them; the others' results stay
    python -m tests.perf.speed --shape tiny --quick                   checks the script

Ours and the alternatives are measured by turns on the same rows, after a warm-up of each: A B C A B C. They live in two
processes, as only our workers keep the memory that a step gives back (see `environment.CPU_ENVIRONMENT`). Shown are
medians with quartiles; ratios are taken round by round. Weights: `smollm2` and `gemma3` from their packages; `gpt2`
(the shape of GPT-2 small) and `tiny` are random. Everything runs on the first visible GPU, where there is one;
`CUDA_VISIBLE_DEVICES=` before the command keeps it on the CPU. What is measured is written to
`results/perf/raw/speed.json`, by shape and section, and `results/perf/speed.md` is made from all that is there.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

from tabulate import tabulate

from bench.files import ROOT, write_atomically
from bench.pipeline.environment import ENVIRONMENT
from bench.pipeline.local_workers import current_commit
from bench.pipeline.processor import count_cores
from bench.pipeline.worker import hardware_name
from tests.perf.alternate import shown
from tests.perf.commands import RECIPES
from tests.perf.shapes import QUICK, SHAPES, Amounts, load_shape
from tests.perf.sides import both

SECTIONS = ("sampling", "free", "rates", "losses", "training", "asking", "recipe", "default")
TITLES = {
    "sampling": "Writing carriers",
    "free": "Writing number lists freely",
    "rates": "Sampling answers for a rate",
    "losses": "The same losses",
    "training": "Training students",
    "asking": "Asking",
    "recipe": "A whole recipe",
    "default": "The default run",
}
RATES = {"sampling": "prior tokens", "training": "prior rows", "asking": "prior questions"}


def say(text: str) -> None:
    print(text, flush=True)


def measure(section: str, args: argparse.Namespace, known: dict[str, Any]) -> dict[str, Any]:
    """One section's lines, tables, notes and raw numbers. `known` are the other sections of this shape."""
    from tests.perf import commands, free_writing, in_process

    amounts = QUICK if args.quick else Amounts()
    if section == "default":
        return commands.default(args.repeats, say, quick=args.quick)
    if section == "recipe":
        missing = [name for name in RATES if known.get(name, {}).get("where", {}).get("quick") != args.quick]
        if missing:
            raise SystemExit(f"recipe: measure --only {' '.join(missing)} first")
        rates = {rate: known[name]["rates"][rate] for name, rate in RATES.items()}
        return commands.recipe(args.shape, rates, say, quick=args.quick)
    if section == "losses":
        return in_process.losses(load_shape(args.shape, args.store), amounts, say)
    sides = both(section, args.shape, args.store, amounts, args.threads)
    try:
        module = free_writing if section in free_writing.WAYS else in_process
        return getattr(module, section)(load_shape(args.shape, args.store), amounts, args.repeats, say, sides)
    finally:
        sides.own.end()
        sides.stock.end()


def _where(args: argparse.Namespace, load: float) -> dict[str, Any]:
    """On what a section was measured."""
    return {
        "commit": current_commit(),
        "hardware": f"{hardware_name()}, {count_cores()} cores",
        "threads": args.threads,
        "repeats": args.repeats,
        "quick": args.quick,
        "load before": round(load, 2),
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in ("torch", "transformers", "trl", "peft")},
        },
    }


def _table(lines: list[dict[str, Any]]) -> str:
    return tabulate(lines, headers="keys", tablefmt="github", disable_numparse=True)


def markdown(sections_by_shape: dict[str, dict[str, Any]]) -> str:
    """The page of everything measured so far: shape -> section -> what `measure` returned, and where."""
    parts = [
        "# Speed",
        "Made by `python -m tests.perf.speed`: ours and the alternatives by turns on the same rows and one machine, "
        "after a warm-up of each. Medians [quartiles] over the rounds; ratios are taken round by round. Ours runs with "
        "the memory settings of our workers (`environment.CPU_ENVIRONMENT`), the alternatives without, as they come.",
    ]
    for shape, sections in sections_by_shape.items():
        parts.append(f"## {shape}")
        for section in SECTIONS:
            if section not in sections:
                continue
            result = sections[section]
            where = result["where"]
            parts.append(f"### {TITLES[section]}")
            if result["lines"]:
                parts.append(_table([shown(of) for of in result["lines"]]))
            parts += [_table(table) for table in result.get("tables", [])]
            parts += result["notes"]
            if "profile" in result:
                parts.append(f"Where ours spends it:\n\n```\n{result['profile']}\n```")
            versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
            quick = "; **small amounts that only check the script**" if where["quick"] else ""
            once = f"{where['threads']} threads, {where['repeats']} rounds, " * (section in (*RATES, "free", "rates"))
            parts.append(
                f"_{where['hardware']}, {once}load {where['load before']} before, commit {where['commit']}; "
                f"{versions}{quick}._"
            )
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="smollm2")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, metavar="SECTION")
    parser.add_argument("--repeats", type=int, default=5, help="rounds after the warm-up (default: 5)")
    parser.add_argument("--threads", type=int, default=2, help="of torch (default: 2)")
    parser.add_argument("--quick", action="store_true", help="small amounts: checks the script, measures nothing")
    parser.add_argument("--store", type=Path, default=ROOT / ".bench", help="where converted weights are kept")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "perf", help="default: results/perf")
    args = parser.parse_args()
    os.environ |= {name: value for name, value in ENVIRONMENT.items() if name != "OMP_WAIT_POLICY"}
    # one folder further down than result files lie, so that the leaderboard does not take it for one
    raw = args.out / "raw" / "speed.json"
    sections_by_shape = json.loads(raw.read_text(encoding="utf-8")) if raw.exists() else {}
    for section in SECTIONS:
        if section not in args.only or (section == "recipe" and args.shape not in RECIPES):
            continue
        import torch
        from transformers.utils import logging

        logging.disable_progress_bar()
        torch.set_num_threads(args.threads)
        say(f"-- {args.shape}: {section}")
        load = os.getloadavg()[0]
        # the default run is the same whatever shape is asked for
        sections = sections_by_shape.setdefault("tiny_pair" if section == "default" else args.shape, {})
        sections[section] = {**measure(section, args, sections), "where": _where(args, load)}
        write_atomically(raw, json.dumps(sections_by_shape, indent=1) + "\n")
        write_atomically(args.out / "speed.md", markdown(sections_by_shape))
    print(markdown(sections_by_shape))


if __name__ == "__main__":
    main()
