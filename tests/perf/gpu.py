"""All checks and rates of one GPU, the first that is visible, within ten minutes.

    python -m tests.perf.gpu                                     writes results/perf/gpu.md
    python -m tests.perf.gpu --vllm /opt/vllm/bin/python         with vLLM's rate beside ours
    python -m tests.perf.gpu --device cpu --quick --out FOLDER   checks the script where there is no GPU

Parts: `tiny_pair` and `smollm2_self` (random weights of its shape) twice from empty stores; what the arms of a seed
share; sampling, training and asking by turns with transformers' `generate` and TRL's `SFTTrainer`, also as shares of a
large bfloat16 product and of the memory bandwidth; peak memory. A part that would begin after `--minutes` is left out,
and the page names it. The exit code is 1 if a check failed or a part broke off.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tabulate import tabulate

from bench.files import ROOT, write_atomically
from bench.pipeline.environment import ENVIRONMENT, GPU_ENVIRONMENT, visible_gpus
from bench.pipeline.local_workers import current_commit
from tests.perf.alternate import shown
from tests.perf.gpu_checks import Check, check_pairing, check_recipe
from tests.perf.gpu_rates import GPU, LINES, Limits, RateSection, find_limits, measure_rates
from tests.perf.shapes import QUICK, load_shape

__all__ = ["Findings", "make_page"]

RECIPE = 200  # seconds for both runs of a recipe, at most


class Findings(NamedTuple):
    """What all parts found."""

    checks: list[Check]
    rates: list[RateSection]
    missing: dict[str, str]
    """Parts that broke off or did not begin, and why."""


def say(text: str) -> None:
    print(text, flush=True)


def _table(rows: list[dict[str, str]]) -> str:
    return tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True)


def make_page(findings: Findings, limits: Limits | None, where: Mapping[str, str]) -> str:
    """Return the page: checks, rates, memory, and the parts that are missing."""
    words = {True: "pass", False: "**fail**", None: "-"}
    parts = [
        "# One GPU",
        "Made by `python -m tests.perf.gpu`. " + "; ".join(f"{k}: {v}" for k, v in where.items()) + ".",
    ]
    if findings.missing:
        rows = [{"part": part, "why it is missing": why} for part, why in findings.missing.items()]
        parts += ["## Missing", _table(rows)]
    if findings.checks:
        rows = [{"check": c.what, "": words[c.passed], "found": c.result} for c in findings.checks]
        parts += ["## Checks", _table(rows)]
    if findings.rates:
        lines = [shown(of) for section in findings.rates for of in section.lines]
        notes = [note for section in findings.rates for note in section.notes]
        peaks = {name: of for section in findings.rates for name, of in section.peaks.items()}
        memory = [{"while": name, "GB at most": f"{of / 1e9:.3g}"} for name, of in peaks.items()]
        assert limits is not None
        parts += [
            "## Rates",
            "By turns in two processes after a warm-up; medians [quartiles] over the rounds. Ours has the settings of "
            "our workers. A large bfloat16 product runs at "
            f"{limits.product / 1e12:.4g} TFLOP/s, a large copy at {limits.bandwidth / 1e9:.4g} GB/s (best of five).",
            _table(lines), *notes, "## Memory", _table(memory),
        ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _where(args: argparse.Namespace, seconds: float) -> dict[str, str]:
    from bench.pipeline.worker import hardware_name

    names = ("torch", "transformers", "trl", "peft", "accelerate")
    return {
        "device": f"{hardware_name()} (`--device {args.device}`)",
        "weights": f"random, shape `{args.shape}`",
        "time": f"{seconds:.0f} s",
        "commit": current_commit(),
        "versions": ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names),
        **({"amounts": "**small, they only check the script**"} if args.quick else {}),
    }


def run_parts(args: argparse.Namespace) -> tuple[Findings, Limits | None]:
    """Run all parts in their order while there is time."""
    until = time.monotonic() + 60 * args.minutes
    amounts, findings = QUICK if args.quick else GPU, Findings([], [], {})
    limits: list[Limits] = []

    def left() -> float:
        return until - time.monotonic()

    def recipe(name: str, *, shaped: bool) -> None:
        shape = load_shape(args.shape, args.store) if shaped else None
        findings.checks.extend(check_recipe(name, shape, small=args.quick, seconds=min(left(), RECIPE), say=say))

    def rates(kind: str) -> None:
        if not limits:
            limits.append(find_limits(amounts, say))
        how = {"repeats": args.repeats, "threads": args.threads, "vllm": args.vllm, "say": say}
        findings.rates.append(measure_rates(kind, args.shape, args.store, amounts, limits[0], **how))

    parts: dict[str, Callable[[], None]] = {
        "pairing": lambda: findings.checks.extend(check_pairing(args.shape, args.store, say)),
        "tiny_pair": partial(recipe, "tiny_pair", shaped=False),
        "smollm2_self": partial(recipe, "smollm2_self", shaped=True),
        **{kind: partial(rates, kind) for kind in LINES},
    }
    for name in args.only or parts:
        if left() <= 0:
            findings.missing[name] = f"{args.minutes:g} minutes were over"
            continue
        say(f"-- {name}, {left():.0f} s left")
        try:
            parts[name]()
        except Exception as error:  # the other parts still say something of this device
            traceback.print_exc()
            findings.missing[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return findings, limits[0] if limits else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ("pairing", "tiny_pair", "smollm2_self", *LINES)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--shape", default="smollm2_random", help="of the random weights: see tests/perf/shapes.py")
    parser.add_argument("--only", nargs="+", choices=names, metavar="PART", help=f"of {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="small amounts: checks the script, measures nothing")
    parser.add_argument("--minutes", type=float, default=9, help="no part begins after these (default: 9)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds after the warm-up (default: 3)")
    parser.add_argument("--threads", type=int, default=2, help="of torch (default: 2)")
    vllm = os.environ.get("SUBLIMINAL_VLLM")
    parser.add_argument("--vllm", type=Path, default=vllm and Path(vllm), help="a Python with vLLM (SUBLIMINAL_VLLM)")
    parser.add_argument("--store", type=Path, default=ROOT / ".bench", help="where the random weights are kept")
    parser.add_argument("--out", type=Path, help="the page's folder (default: results/perf; needed with --device cpu)")
    args = parser.parse_args()
    if args.device == "cpu":
        if args.out is None:
            parser.error("--device cpu needs --out: results/perf/gpu.md is for figures of a GPU")
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif not (gpus := visible_gpus()):
        parser.error("there is no GPU here: use a machine with one, or --device cpu --quick to check the script")
    else:
        os.environ |= {**GPU_ENVIRONMENT, "CUDA_VISIBLE_DEVICES": gpus[0]}
    os.environ |= {name: value for name, value in ENVIRONMENT.items() if name != "OMP_WAIT_POLICY"}
    import torch
    from transformers.utils import logging

    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch cannot use the GPU: install a build of torch for CUDA")
    logging.disable_progress_bar()
    torch.set_num_threads(args.threads)
    begun = time.monotonic()
    findings, limits = run_parts(args)
    page = make_page(findings, limits, _where(args, time.monotonic() - begun))
    write_atomically((args.out or ROOT / "results" / "perf") / "gpu.md", page)
    print(page)
    return int(bool(findings.missing) or any(check.passed is False for check in findings.checks))


if __name__ == "__main__":
    sys.exit(main())
