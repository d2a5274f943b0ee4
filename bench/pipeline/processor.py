"""The processor: its name, its instruction sets, its usable cores, and its speed in bfloat16."""

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

# The instruction sets that determine the speed of a matrix product.
FEATURE_FLAGS = {"avx2", "avx512f", "avx512_bf16", "amx_bf16", "bf16", "sve"}
MIN_SLOWDOWN = 1.25  # a smaller ratio of two short measurements may be chance


def count_cores() -> int:
    """Count the cores that this process may use. Slurm, taskset or a container's CPU set may allow fewer than all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpuinfo(*keys: str) -> str:
    """Return the first value of any of `keys` in Linux's list of processors; "" elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() in keys), "")


def processor_name() -> str:
    """Return the processor's name. Processors of one name may differ in their features."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def processor_features() -> list[str]:
    """List the processor's instruction sets that change the speed of a matrix product, sorted; [] outside Linux."""
    return sorted(FEATURE_FLAGS & set(_cpuinfo("flags", "Features").split()))  # x86, arm


def measure_bfloat16() -> float:
    """Measure the time of a layer's products in bfloat16 as a multiple of float32, on one core; takes about .5 s.

    The products are those of one update of a weight matrix of SmolLM2-135M (576 x 576) on 64 tokens, forward and
    backward. Without bfloat16 instructions their speeds differ. The shortest of at least three processor times counts,
    because other work only makes them longer.
    """
    import torch

    torch.set_num_threads(1)
    shortest = {}
    for dtype in (torch.float32, torch.bfloat16):
        tokens, weights, gradients = (torch.randn(rows, 576, dtype=dtype) for rows in (64, 576, 64))
        times: list[float] = []
        while len(times) < 3 or sum(times) < 0.2:
            start = time.thread_time()
            _ = tokens @ weights.T, gradients @ weights, gradients.T @ tokens
            times.append(time.thread_time() - start)
        shortest[dtype] = min(times)
    return shortest[torch.bfloat16] / shortest[torch.float32]


def bfloat16_options(recipe: Recipe) -> list[str]:
    """List the `KEY=VALUE` of `--set` that turn a recipe's bfloat16 off; [] if it uses none on a CPU."""
    models = {"teacher": recipe.teacher, "student": recipe.student}
    # A full fine-tune writes in float32.
    rounded = {role for role, spec in models.items() if spec.lora is not None or spec.train is None}
    options = ["carrier.bf16=false"] if recipe.carrier.bf16 and "teacher" in rounded else []
    options += [f"{role}.dtype=float32" for role, spec in models.items() if spec.dtype == "bfloat16"]
    options += [f"{role}.train.bf16=false" for role, spec in models.items() if (spec.train or {}).get("bf16")]
    answers = recipe.evaluate.bf16 and recipe.evaluate.samples and "student" in rounded
    return options + (["evaluate.bf16=false"] if answers else [])


def describe_bfloat16(recipe: str, options: list[str], slowdown: float) -> list[str]:
    """Describe to the user how slow bfloat16 is on this machine, and the options that avoid it; [] if it is not slow.

    Args:
        recipe: the name of the recipe.
        options: see `bfloat16_options`.
        slowdown: see `measure_bfloat16`.
    """
    if slowdown < MIN_SLOWDOWN or not options:
        return []
    name = f"{processor_name()}; {', '.join(processor_features())}".rstrip("; ")
    return [
        f"{recipe} computes in bfloat16. On this processor its products take {slowdown:.2g} times as long as those of "
        f"float32 ({name}).",
        f"To compute in float32, as another row: {' '.join(f'--set {option}' for option in options)}",
    ]
