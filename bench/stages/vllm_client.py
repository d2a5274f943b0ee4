"""Start vLLM in its own environment and talk to it: see `bench.stages.vllm_server`."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import torch

from bench.config.carrier_settings import Sampling
from bench.config.schema import clip_line
from bench.errors import StageError, UserError
from bench.models.engine import Engine
from bench.models.loading import current_device, locate_weights
from bench.stages.settings import Loading

__all__ = ["VllmServer"]

Progress = Callable[[int, int], None]
SERVER = Path(__file__).with_name("vllm_server.py")
SPARE = 1 << 30  # bytes of a GPU that are left to this process
LINES = 3  # of the server's output in an error
END = 30.0  # seconds for an orderly end


class VllmServer:
    """A process of vLLM with one model. It runs in the `with` block.

    Args:
        engine: as in the stage's settings.
        start, trained: folders of the checkpoint and of the trained model, as for `bench.models.precision.load_writer`.
            An adapter stays unmerged.
        writes: a value of `Model.writing`, but `split`, which only this benchmark's layers know.
        model: the settings of the model.
        longest: tokens of the longest prompt and completion.
        batch_size: rows that are written together.

    Raises:
        UserError: the environment does not hold the engine of the settings.
        StageError: the process ended.
    """

    def __init__(
        self,
        engine: Engine,
        start: Path,
        trained: Path,
        *,
        writes: str,
        model: Loading,
        longest: int,
        batch_size: int,
    ) -> None:
        self.engine = engine
        self.dtype = "bfloat16" if writes == "bfloat16" else model.dtype
        weights, adapter = locate_weights(trained, start)
        self.settings = {
            "model": str(weights),
            "adapter": str(adapter) if adapter else None,
            "dtype": self.dtype,
            "longest": longest,
            "batch_size": batch_size,
        }

    def __enter__(self) -> VllmServer:
        python = self.engine.locate()
        gc.collect()  # of a model that was used before
        self.stderr = TemporaryFile()
        self.process = subprocess.Popen(
            [str(python), "-I", str(SERVER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            env=self._environment(python),
            text=True,
            encoding="utf-8",
        )
        try:
            self._write(self.settings | {"gpu_share": _gpu_share()})
            version = self._read()["version"]
            if version != self.engine.version:
                raise UserError(
                    f"vLLM at {python}: version {self.engine.version} expected, as in the plan, found {version}"
                )
            self._read()
        except BaseException:
            self._close(failed=True)
            raise
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._close(failed=kind is not None)

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        sampling: Sampling,
        *,
        stops: Sequence[int],
        progress: Progress,
    ) -> list[list[int]]:
        """Do as `bench.stages.decoder.decode` does."""
        task = {"task": "sample", "sampling": sampling.model_dump(), "stops": list(stops)}
        return self._run(task, list(zip(map(list, prompts), seeds, strict=True)), progress)

    def score(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], *, progress: Progress) -> list[float]:
        """Do as `bench.models.logprobs.sequence_logprobs` does."""
        return self._run({"task": "score"}, [(list(prompt), list(ids)) for prompt, ids in pairs], progress)

    def _run(self, task: dict[str, Any], rows: Sequence[Any], progress: Progress) -> list[Any]:
        for line in ({**task, "rows": len(rows)}, *rows):
            self._write(line, flush=False)
        self._flush()
        answers: dict[int, Any] = {}
        while len(answers) < len(rows):
            row, answer = self._read()
            answers[row] = answer
            progress(len(answers), len(rows))
        return [answers[row] for row in range(len(rows))]

    def _environment(self, python: Path) -> dict[str, str]:
        """Return the variables of the server: those of this process without its Python's, and vLLM's own."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        return {
            **inherited,
            "PATH": os.pathsep.join([str(python.parent), inherited.get("PATH", os.defpath)]),
            "OMP_NUM_THREADS": str(torch.get_num_threads()),
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # workers share the cores
            "VLLM_BATCH_INVARIANT": str(int(self.engine.batch_invariant)),
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # batches, and with them bits, would depend on time
            "VLLM_USE_V2_MODEL_RUNNER": "0",  # it has no logits processors of one's own
            "VLLM_NO_USAGE_STATS": "1",
        }

    def _write(self, data: Any, *, flush: bool = True) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(data) + "\n")
        except OSError:
            raise self._ended() from None
        if flush:
            self._flush()

    def _flush(self) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.flush()
        except OSError:
            raise self._ended() from None

    def _read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.endswith("\n"):
            raise self._ended()
        return json.loads(line)

    def _ended(self) -> StageError:
        """Return the error of a server that ended, with the last lines of its output."""
        code = self.process.wait()
        killed = " (killed: out of memory?)" if code == -signal.SIGKILL else ""
        lines = [line.strip() for line in self._output().splitlines() if line.strip()]
        return StageError(
            f"vLLM {self.engine.version} ended with code {code}{killed}: {clip_line(' | '.join(lines[-LINES:]), 500)}"
        )

    def _output(self) -> str:
        self.stderr.seek(0)
        return self.stderr.read().decode("utf-8", errors="replace")

    def _close(self, *, failed: bool) -> None:
        """End the process; its output goes to the log of this one."""
        if not failed:
            try:
                self._write(None)
                self.process.wait(END)
            except (StageError, subprocess.TimeoutExpired):
                pass  # all answers are there
        self.process.kill()
        self.process.communicate()
        sys.stderr.write(self._output())
        self.stderr.close()


def _gpu_share() -> float:
    """Return the share of this process's GPU that is free, less `SPARE`; 0 on a CPU."""
    if current_device().type != "cuda":
        return 0.0
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info()
    return round(max(0.0, (free - SPARE) / total), 3)
