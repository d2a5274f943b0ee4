"""Run a command and watch its processes: memory, processor time, when each line came. Linux only."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

ROOT = Path(__file__).parent.parent.parent
EVERY = 0.25  # seconds between two looks, or more: looking takes at most a twentieth of the time of one core
TICK = os.sysconf("SC_CLK_TCK")


class Watched(NamedTuple):
    """What a command did.

    `peak` is the largest sum of proportional set sizes (shared pages counted once) over its processes, in bytes, and
    `largest` the highest resident size of any one of them; `cpu` the processor seconds of all; `lines` pairs of
    (seconds since the start, line).
    """

    seconds: float
    cpu: float
    peak: int
    largest: int
    lines: list[tuple[float, str]]


def _members(session: int) -> list[Path]:
    """The processes of a session: workers stay in it although the fork server, not the command, is their parent."""
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError, ValueError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == session:
                    members.append(entry)
    return members


def _kilobytes(path: Path, name: str) -> int:
    for row in path.read_text().splitlines():
        if row.startswith(name):
            return int(row.split()[1])
    return 0


def watch(words: Sequence[str]) -> Watched:
    """Run a Python command (`words` follow the interpreter) in the project's folder to its end.

    Raises:
        RuntimeError: it failed; holds its last lines.
    """
    begun = time.perf_counter()
    lines: list[tuple[float, str]] = []
    peak = largest = 0
    spent: dict[str, float] = {}
    ended = threading.Event()

    def listen(stream: IO[str]) -> None:
        for text in stream:
            lines.append((time.perf_counter() - begun, text.rstrip()))

    def look(session: int) -> None:
        nonlocal peak, largest
        while not ended.is_set():
            now, since = 0, time.perf_counter()
            for member in _members(session):
                with suppress(OSError, ValueError):  # it may have ended meanwhile
                    fields = (member / "stat").read_text().rpartition(")")[2].split()
                    spent[member.name] = (int(fields[11]) + int(fields[12])) / TICK
                    now += _kilobytes(member / "smaps_rollup", "Pss:") * 1024
                    largest = max(largest, _kilobytes(member / "status", "VmHWM:") * 1024)
            peak = max(peak, now)
            ended.wait(max(EVERY, 20 * (time.perf_counter() - since)))

    with subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, start_new_session=True, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:  # fmt: skip
        threads = [
            threading.Thread(target=listen, args=(process.stdout,)),
            threading.Thread(target=look, args=(process.pid,)),
        ]
        for thread in threads:
            thread.start()
        try:
            process.wait()
        except BaseException:  # its own session hears no Ctrl-C
            os.killpg(process.pid, signal.SIGTERM)
            raise
        finally:
            seconds = time.perf_counter() - begun
            ended.set()
        for thread in threads:
            thread.join()
    if process.returncode:
        output = "\n".join(text for _, text in lines[-20:])
        raise RuntimeError(f"{' '.join(words)}: exit {process.returncode}\n{output}")
    return Watched(seconds, sum(spent.values()), peak, largest, lines)
