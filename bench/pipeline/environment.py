"""The environment variables of worker processes, and the visible GPUs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile

__all__ = ["CPU_ENVIRONMENT", "ENVIRONMENT", "GPU_ENVIRONMENT", "extend_environment", "gpu_memory", "visible_gpus"]

# Variables of every worker process.
ENVIRONMENT = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",  # all downloads happen before the stages
    "USE_HUB_KERNELS": "0",  # the code of a checkpoint is neither downloaded nor run
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    # Waiting threads sleep. By default they spin, also on cores that other work needs: with a load of 18 on two cores
    # a training took 2.9 to 11 times as long, and 3 to 5.5 times the processor time.
    "OMP_WAIT_POLICY": "PASSIVE",
    # Python removes the semaphores of a killed worker; the user does not need its warning.
    "PYTHONWARNINGS": "ignore::UserWarning:multiprocessing.resource_tracker",
}
# Variables of workers without a GPU.
CPU_ENVIRONMENT = {
    # glibc returns large blocks to the system and fetches them again, page by page, at every step of a model. Without
    # that, a training of SmolLM2 on two cores takes two thirds of the time. Other systems ignore these variables.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**33),  # bytes
}
# Variables of workers with a GPU: cuBLAS gives equal runs equal bits only with a fixed workspace.
GPU_ENVIRONMENT = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}


def visible_gpus() -> list[str]:
    """List the ids of the visible GPUs without initialising CUDA in this process."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        ids = [part.strip() for part in visible.split(",")]
        return list(takewhile(lambda gpu: gpu not in {"", "-1"}, ids))  # CUDA ends the list at an invalid id
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    return [str(i) for i, line in enumerate(listed.stdout.splitlines()) if line.startswith("GPU ")]


def gpu_memory(gpus: Sequence[str]) -> float | None:
    """Return the bytes of the smallest of some GPUs, without initialising CUDA; None if they are unknown."""
    if not gpus or shutil.which("nvidia-smi") is None:
        return None
    words = ["nvidia-smi", "-i", ",".join(gpus), "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    listed = subprocess.run(words, capture_output=True, text=True)
    sizes = [line.strip() for line in listed.stdout.splitlines()]
    if listed.returncode or not sizes or not all(size.isdecimal() for size in sizes):
        return None
    return min(map(float, sizes)) * 2**20


@contextmanager
def extend_environment(more: dict[str, str]) -> Iterator[None]:
    """Extend the environment of processes that start inside the block; restore this process's at its end."""
    before = dict(os.environ)
    os.environ.update(more)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
