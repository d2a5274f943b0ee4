"""The processor: its name and instruction sets, the cores this process may use, and how slow bfloat16 is on it."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

from bench.config.recipe import Recipe

__all__ = [
    "bfloat16_options",
    "count_cores",
    "describe_bfloat16",
    "measure_bfloat16",
    "processor_features",
    "processor_name",
]

FEATURE_FLAGS = {
    "avx2",
    "avx512f",
    "avx512_bf16",
    "amx_bf16",
    "bf16",
    "sve",
}  # those that decide how a product is computed
SLOWER = 1.25  # below this ratio of two short measurements the difference may be chance


def count_cores() -> int:
    """How many cores this process may use: what Slurm, taskset or a container's CPU set leaves of the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpuinfo(*keys: str) -> str:
    """The first value of any of `keys` in Linux's list of processors; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() in keys), "")


def processor_name() -> str:
    """The processor's name, as its maker writes it: one name may stand for several kinds, see `features`."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def processor_features() -> list[str]:
    """The processor's instruction sets that change a matrix product's speed, sorted; none outside Linux."""
    return sorted(FEATURE_FLAGS & set(_cpuinfo("flags", "Features").split()))  # x86, arm


def measure_bfloat16() -> float:
    """How many times as long a layer's products take in bfloat16 as in float32, on one core; takes about .5 s.

    They are the products of one update of a weight matrix of SmolLM2-135M (576 x 576) on 64 tokens, forward and
    backward: on a processor without instructions for bfloat16 each has a speed of its own. The shortest of at least
    three processor times counts: other work makes them longer, not shorter.
    """
    import torch

    torch.set_num_threads(1)
    shortest = {}
    for dtype in (torch.float32, torch.bfloat16):
        tokens, weights, gradients = (torch.randn(rows, 576, dtype=dtype) for rows in (64, 576, 64))
        times: list[float] = []
        while len(times) < 3 or sum(times) < 0.2:
            begun = time.thread_time()
            _ = tokens @ weights.T, gradients @ weights, gradients.T @ tokens
            times.append(time.thread_time() - begun)
        shortest[dtype] = min(times)
    return shortest[torch.bfloat16] / shortest[torch.float32]


def bfloat16_options(recipe: Recipe) -> list[str]:
    """The `KEY=VALUE` of `--set` that keep a recipe out of bfloat16 on a CPU; empty where it computes in none there."""
    models = {"teacher": recipe.teacher, "student": recipe.student}
    adapted = {role for role, spec in models.items() if spec.lora is not None}  # a full fine-tune writes in float32
    options = ["carrier.bf16=false"] if recipe.carrier.bf16 and "teacher" in adapted else []
    options += [f"{role}.dtype=float32" for role, spec in models.items() if spec.dtype == "bfloat16"]
    options += [f"{role}.train.bf16=false" for role, spec in models.items() if spec.train.get("bf16")]
    return options + (["ask.bf16=false"] if recipe.ask.bf16 and recipe.ask.samples and adapted else [])


def describe_bfloat16(recipe: str, options: list[str], slowdown: float) -> list[str]:
    """Lines for the user before a run: how slow bfloat16 is here, and the options that avoid it; none if it is not.

    Args:
        recipe: its name.
        options: see `bfloat16_options`.
        slowdown: see `measure_bfloat16`.
    """
    if slowdown < SLOWER or not options:
        return []
    known = f"{processor_name()}; {', '.join(processor_features())}".rstrip("; ")
    return [
        f"{recipe} computes in bfloat16, whose products take {slowdown:.2g} times as long as float32's on this "
        f"processor ({known}).",
        f"In float32, as another row: {' '.join(f'--set {option}' for option in options)}",
    ]
