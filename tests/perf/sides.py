"""Two processes that measure by turns: own, with the memory settings of our workers, and stock, without them."""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from bench.pipeline.environment import (
    CPU_ENVIRONMENT,
    ENVIRONMENT,
    GPU_ENVIRONMENT,
    extend_environment,
    visible_gpus,
)
from tests.perf.alternate import Rate
from tests.perf.shapes import Amounts, Shape, load_shape

DEAREST = 10  # operations that a profile names


def _measure(conn: Connection, section: str, shape: str, store: Path, amounts: Amounts, threads: int) -> None:
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as scratch:
        ways = all_ways(section, load_shape(shape, store), amounts, Path(scratch))
        while (asked := conn.recv()) is not None:
            how, name = asked
            conn.send({"profile": run_profiled, "peak": measure_peak, "rate": lambda way: way()}[how](ways[name]))


def measure_peak(way: Rate) -> float:
    """The most bytes of GPU memory during one measurement; without a GPU, of this process since its start."""
    import torch

    if not torch.cuda.is_available():
        way()
        return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes on Linux
    torch.cuda.reset_peak_memory_stats()
    way()
    return float(torch.cuda.max_memory_allocated())


def all_ways(section: str, shape: Shape, amounts: Amounts, scratch: Path) -> dict[str, Rate]:
    """All ways of a section by name; each loads its models when it is asked."""
    from tests.perf import free_writing, in_process

    return (in_process.WAYS | free_writing.WAYS)[section](shape, amounts, scratch)


def run_profiled(way: Rate) -> str:
    """The dearest operations of one measurement, by their own time."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as seen:
        way()
    operations = sorted(seen.key_averages(), key=lambda of: -of.self_cpu_time_total)
    whole = sum(of.self_cpu_time_total for of in operations)
    lines = [
        f"{of.self_cpu_time_total / whole:6.1%} {of.self_cpu_time_total / 1e6:8.2f} s {of.count:8,} x {of.key}"
        for of in operations[:DEAREST]
    ]
    return "\n".join(lines)


class Side:
    """A process that knows all ways of a section; those that are asked for load their models."""

    def __init__(self, section: str, shape: str, store: Path, amounts: Amounts, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.conn, other_end = context.Pipe()
        # a daemon, so that a failure of the other process ends it
        self.process = context.Process(
            target=_measure, args=(other_end, section, shape, store, amounts, threads), daemon=True
        )
        self.process.start()
        other_end.close()

    def rate(self, name: str) -> float:
        """Units a second of one way, measured now.

        Raises:
            EOFError: the process failed; it has said why on standard error.
        """
        self.conn.send(("rate", name))
        return float(self.conn.recv())

    def peak(self, name: str) -> float:
        """Bytes of memory at the height of one measurement of a way; see `measure_peak`."""
        self.conn.send(("peak", name))
        return float(self.conn.recv())

    def profile(self, name: str) -> str:
        """Where one measurement of a way spends its time, as lines."""
        self.conn.send(("profile", name))
        return str(self.conn.recv())

    def end(self) -> None:
        if self.process.is_alive():
            self.conn.send(None)
        self.process.join()


class Sides(NamedTuple):
    """`own` in the environment of `bench.pipeline.scheduler`'s workers, `stock` without what it says of memory."""

    own: Side
    stock: Side


def both(section: str, shape: str, store: Path, amounts: Amounts, threads: int) -> Sides:
    """Start the two processes; the checkpoint is made first."""
    load_shape(shape, store)
    with extend_environment({**ENVIRONMENT, **(GPU_ENVIRONMENT if visible_gpus() else CPU_ENVIRONMENT)}):
        own = Side(section, shape, store, amounts, threads)
    return Sides(own, Side(section, shape, store, amounts, threads))
