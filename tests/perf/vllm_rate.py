"""How fast does vLLM write? Runs in the environment of vLLM, whose transformers is another; imports only vLLM there.

PYTHON_WITH_VLLM tests/perf/vllm_rate.py < request.json > answer.json
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

LIMIT = 240  # seconds for loading, a warm-up and a run


def vllm_rate(python: Path, model: Path, prompts: Sequence[Sequence[int]], tokens: int) -> float:
    """Return the tokens a second that vLLM writes after `prompts`, `tokens` each, in bfloat16.

    Raises:
        RuntimeError: vLLM failed; holds its last line.
    """
    request = {"model": str(model), "prompts": [list(prompt) for prompt in prompts], "tokens": tokens}
    done = subprocess.run(
        [str(python), __file__], input=json.dumps(request), capture_output=True, text=True, timeout=LIMIT
    )
    if done.returncode:
        raise RuntimeError(f"vLLM: {(done.stderr.strip().splitlines() or ['no output'])[-1][:300]}")
    return float(json.loads(done.stdout.splitlines()[-1])["rate"])


def main() -> None:
    """Write as the request on standard input says, and print the rate."""
    from vllm import LLM, SamplingParams  # type: ignore[import-not-found]  # not in this environment

    request = json.load(sys.stdin)
    longest = max(map(len, request["prompts"])) + request["tokens"]
    llm = LLM(model=request["model"], dtype="bfloat16", max_model_len=longest, gpu_memory_utilization=0.5)
    sampling = SamplingParams(temperature=1.0, max_tokens=request["tokens"], min_tokens=request["tokens"], seed=0)
    prompts = [{"prompt_token_ids": ids} for ids in request["prompts"]]
    llm.generate(prompts[:64], sampling, use_tqdm=False)
    begun = time.perf_counter()
    made = llm.generate(prompts, sampling, use_tqdm=False)
    seconds = time.perf_counter() - begun
    print(json.dumps({"rate": sum(len(of.outputs[0].token_ids) for of in made) / seconds}))


if __name__ == "__main__":
    main()
