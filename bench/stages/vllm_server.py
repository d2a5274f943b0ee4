"""Sample free text with vLLM. A script for the Python of another environment: see `bench.models.engine`.

It reads JSON lines from standard input and writes JSON lines to standard output:

- the first line holds the model, see `serve`; its answers are `{"version": ...}`, and `"ready"` when it is loaded;
- `{"task": "sample", "rows": n, "sampling": {...}, "stops": [...]}` and n lines `[prompt, seed]` give n lines
  `[row, tokens]`, in the order in which rows end;
- `{"task": "score", "rows": n}` and n lines `[prompt, continuation]` give n lines `[row, log-probability]`.

Prompts and tokens are token ids. The line `null` ends it.

The noise is that of `bench.stages.sampler`: it depends on the row's seed and the position in the completion. vLLM's own
noise depends on the position in the prompt and completion, so a system prompt in one arm would change it.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, TextIO

__all__ = ["SharedNoise", "serve"]

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # of adapters that vLLM takes
CPU_CACHE = 2 << 30  # bytes of the cache of keys and values; vLLM's default is a share of all memory


class Row(NamedTuple):
    """A row that is sampled."""

    sampling: Any
    """The fields of `bench.config.carrier_settings.Sampling`."""
    seed: int
    prompt: list[int]
    completion: list[int]
    """vLLM extends this list."""


class SharedNoise:
    """A logits processor of vLLM that leaves the token that `bench.stages.sampler.pick_tokens` takes.

    vLLM then decodes greedily. Rows without a seed keep their logits.
    """

    def __init__(self, config: Any = None, device: Any = None, pin_memory: bool = False) -> None:
        self.rows: dict[int, Row] = {}

    @classmethod
    def validate_params(cls, params: Any) -> None:
        """Accept all rows: `serve` writes their parameters."""

    def is_argmax_invariant(self) -> bool:
        """Return that greedy decoding needs this processor."""
        return False

    def update_state(self, update: Any) -> None:
        """Follow the batch: rows leave, enter and move, in this order."""
        if update is None:
            return
        for index in update.removed:
            self.rows.pop(index, None)
        for index, params, prompt, completion in update.added:
            self.rows.pop(index, None)
            if extra := params.extra_args:
                self.rows[index] = Row(SimpleNamespace(**extra["sampling"]), extra["seed"], prompt, completion)
        for source, target, direction in update.moved:
            moved, other = self.rows.pop(source, None), self.rows.pop(target, None)
            if moved is not None:
                self.rows[target] = moved
            if other is not None and direction.name == "SWAP":
                self.rows[source] = other

    def apply(self, logits: Any) -> Any:
        """Leave one token of each row, (rows, vocabulary)."""
        import torch

        from bench.stages.repetition import ban_ngrams, penalise_repetition
        from bench.stages.sampler import pick_tokens

        if not self.rows:
            return logits
        rows = list(self.rows.values())
        sampling = rows[0].sampling  # one task runs at a time

        def to_device(values: Any) -> torch.Tensor:
            return torch.tensor(values, device=logits.device)

        indices = to_device(list(self.rows))
        scores = logits[indices].float()
        if sampling.repetition_penalty != 1 or sampling.no_repeat_ngram_size:
            texts = [[*row.prompt, *row.completion] for row in rows]
            width = max(map(len, texts))
            tokens = to_device([text + [0] * (width - len(text)) for text in texts])
            lengths = to_device([len(text) for text in texts])
            if sampling.repetition_penalty != 1:
                scores = penalise_repetition(scores, tokens, lengths, sampling.repetition_penalty)
            if sampling.no_repeat_ngram_size:
                scores = ban_ngrams(scores, tokens, lengths, sampling.no_repeat_ngram_size)
        seeds = to_device([[row.seed] for row in rows])
        picked = pick_tokens(scores, seeds, to_device([[len(row.completion)] for row in rows]), sampling)
        logits[indices] = -torch.inf
        logits[indices, picked] = 0.0
        return logits


class Server:
    """A loaded model that samples and scores."""

    def __init__(self, settings: dict[str, Any]) -> None:
        import torch
        from vllm import LLM
        from vllm.lora.request import LoRARequest
        from vllm.v1.sample.logits_processor import LogitsProcessor

        adapter, on_cpu = settings["adapter"], not torch.cuda.is_available()
        memory: dict[str, Any] = {"gpu_memory_utilization": settings["gpu_share"]}
        if on_cpu:  # compilation would take longer than it saves
            memory = {"kv_cache_memory_bytes": CPU_CACHE, "enforce_eager": True}
        lora: dict[str, Any] = {}
        if adapter:
            rank = json.loads((Path(adapter) / "adapter_config.json").read_text(encoding="utf-8"))["r"]
            lora = {"enable_lora": True, "max_loras": 1, "max_lora_rank": min(r for r in RANKS if r >= rank)}
        self.llm: Any = LLM(
            settings["model"],
            dtype=settings["dtype"],
            max_model_len=settings["longest"],
            max_num_seqs=settings["batch_size"],
            skip_tokenizer_init=True,
            load_format="safetensors",
            generation_config="vllm",  # and not that of the checkpoint
            trust_remote_code=False,
            async_scheduling=False,  # batches, and with them bits, would depend on time
            logits_processors=[type("Noise", (SharedNoise, LogitsProcessor), {})],
            **memory,
            **lora,
        )
        self.adapter = LoRARequest("adapter", 1, adapter) if adapter else None

    def sample(self, task: dict[str, Any], rows: list[Any]) -> Iterator[tuple[int, list[int]]]:
        """Sample completions of `[prompt, seed]`; yield the row's number and the tokens."""
        from vllm import SamplingParams

        sampling = task["sampling"]

        def set_up(seed: int) -> Any:
            return SamplingParams(
                temperature=0,
                max_tokens=sampling["max_new_tokens"],
                stop_token_ids=task["stops"],
                ignore_eos=True,  # the stops are listed
                detokenize=False,
                extra_args={"seed": seed, "sampling": sampling},
            )

        for row, output in self.run([(prompt, set_up(seed)) for prompt, seed in rows]):
            yield row, list(output.outputs[0].token_ids)

    def score(self, task: dict[str, Any], rows: list[Any]) -> Iterator[tuple[int, float]]:
        """Sum log-probabilities of `[prompt, continuation]` in nats; yield the row's number and the sum."""
        from vllm import SamplingParams

        params = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0, detokenize=False, ignore_eos=True)
        for row, output in self.run([(prompt + continuation, params) for prompt, continuation in rows]):
            start = len(rows[row][0])
            pairs = zip(rows[row][1], output.prompt_logprobs[start:], strict=True)
            yield row, sum(at[token].logprob for token, at in pairs)

    def run(self, requests: list[tuple[list[int], Any]]) -> Iterator[tuple[int, Any]]:
        """Run requests of token ids and parameters; yield the number and the output of each when it ends."""
        engine = self.llm.llm_engine
        for row, (prompt, params) in enumerate(requests):
            engine.add_request(str(row), {"prompt_token_ids": prompt}, params, lora_request=self.adapter)
        while engine.has_unfinished_requests():
            for output in engine.step():
                if output.finished:
                    yield int(output.request_id.partition("-")[0]), output


def serve(read: Callable[[], Any], write: Callable[[Any], None]) -> None:
    """Load the model of the first line, then run one task after another; `read` returns None at the end.

    The first line holds `model` and `adapter` (folders; null for no adapter), `dtype`, `longest` (tokens of the longest
    prompt and completion), `batch_size` and `gpu_share` (of a GPU's memory).
    """
    import vllm

    settings = read()
    write({"version": vllm.__version__})
    server = Server(settings)
    write("ready")
    while (task := read()) is not None:
        rows = [read() for _ in range(task["rows"])]
        for answer in {"sample": server.sample, "score": server.score}[task["task"]](task, rows):
            write(answer)


def _read_lines(lines: queue.SimpleQueue[str]) -> None:
    """Read standard input. If it ends without `null`, the process that started this one has ended: end too."""
    line = ""
    for line in sys.stdin:
        lines.put(line)
    if line.strip() != "null":
        os._exit(1)


def main() -> None:
    """Serve on standard input and output. All other output goes to standard error."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    out: TextIO = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read_lines, args=(lines,), daemon=True).start()

    def write(answer: Any) -> None:
        out.write(json.dumps(answer) + "\n")
        out.flush()

    serve(lambda: json.loads(lines.get()), write)


if __name__ == "__main__":
    main()
