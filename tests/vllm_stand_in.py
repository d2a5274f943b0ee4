"""A stand-in for an environment with vLLM: its `LLM` has the interface of vLLM's, and runs transformers' models.

The real `bench/stages/vllm_server.py` runs on it, with logits processors, adapters and log-probabilities of prompts.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bench.models.engine import Engine

__all__ = ["make_engine", "make_environment"]

PYTHON = """#!{python}
import runpy, sys
sys.path.insert(0, {packages!r})
isolated, *arguments = sys.argv[1:]
assert isolated == "-I"
if arguments[0] == "-c":
    exec(arguments[1])
else:
    sys.argv = arguments
    runpy.run_path(arguments[0], run_name="__main__")
"""

VLLM = '''
{crash}
import torch
from types import SimpleNamespace as Of

__version__ = {version!r}


class SamplingParams:
    def __init__(self, *, temperature, max_tokens, ignore_eos, detokenize, stop_token_ids=(), prompt_logprobs=None,
                 extra_args=None):
        assert temperature == 0 and ignore_eos and not detokenize
        self.max_tokens, self.stops, self.prompt_logprobs = max_tokens, stop_token_ids, prompt_logprobs
        self.extra_args = extra_args


class LLM:
    """Both the interface and its engine: greedy decoding of a batch whose rows move as vLLM moves them."""

    def __init__(self, model, *, dtype, max_model_len, max_num_seqs, logits_processors, enable_lora=False, **more):
        from transformers import AutoModelForCausalLM

        print("loading", model)  # vLLM prints on standard output
        for name in ("skip_tokenizer_init", "load_format", "generation_config", "async_scheduling"):
            more.pop(name)
        assert more.pop("trust_remote_code") is False
        self.llm_engine = self
        self.model = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)).eval()
        self.adapter, self.longest, self.seats, self.lora = None, max_model_len, max_num_seqs, enable_lora
        self.processors = [kind(None, "cpu", False) for kind in logits_processors]
        self.waiting, self.active, self.steps = [], [], 0

    def add_request(self, name, prompt, params, lora_request=None):
        ids = prompt["prompt_token_ids"]
        assert len(ids) + params.max_tokens <= self.longest + 1
        assert self.lora == (lora_request is not None)
        if lora_request and self.adapter is None:
            from peft import PeftModel

            self.adapter = self.model = PeftModel.from_pretrained(self.model, lora_request.path).eval()
        self.waiting.append(Of(name=name, prompt=ids, params=params, out=[]))

    def has_unfinished_requests(self):
        return bool(self.waiting or any(row is not None for row in self.active))

    @torch.no_grad()
    def logits(self, ids):
        return self.model(torch.tensor([ids])).logits[0]

    def step(self):
        gaps = [i for i, row in enumerate(self.active) if row is None]
        added, moved = [], []
        while self.waiting and (gaps or len(self.active) < self.seats):
            row = self.waiting.pop(0)
            index = gaps.pop(0) if gaps else len(self.active)
            self.active[index : index + 1] = [row]
            added.append((index, row.params, row.prompt, row.out))
        for gap in gaps:  # no row takes it, so the last row moves there
            while self.active and self.active[-1] is None:
                self.active.pop()
            if gap < len(self.active):
                moved.append((len(self.active) - 1, gap, Of(name="UNIDIRECTIONAL")))
                self.active[gap] = self.active.pop()
        self.steps += 1
        if len(self.active) > 1 and self.steps % 2:
            self.active[:2] = self.active[1::-1]
            moved.append((0, 1, Of(name="SWAP")))
        logits = torch.stack([self.logits(row.prompt + row.out)[-1] for row in self.active]).float()
        for processor in self.processors:
            processor.update_state(Of(batch_size=len(self.active), removed=gaps, added=added, moved=moved))
            logits = processor.apply(logits)
        ended = []
        for index, (row, token) in enumerate(zip(list(self.active), logits.argmax(-1).tolist())):
            row.out.append(token)
            if token in row.params.stops or len(row.out) == row.params.max_tokens:
                ended.append(row)
                self.active[index] = None
        return [Of(request_id=row.name, finished=True, outputs=[Of(token_ids=row.out)],
                   prompt_logprobs=self.prompt_logprobs(row)) for row in ended]

    def prompt_logprobs(self, row):
        if row.params.prompt_logprobs is None:
            return None
        shares = self.logits(row.prompt).float().log_softmax(-1)
        return [None, *({{token: Of(logprob=shares[i, token].item())}} for i, token in enumerate(row.prompt[1:]))]
'''


def make_environment(folder: Path, *, version: str | None = "0.30.0", crash: str = "") -> Path:
    """Make a folder like a virtual environment; `crash` is a statement that runs when vLLM is imported."""
    packages = folder / "packages"
    for name in ("", "lora", "v1", "v1/sample"):
        (packages / "vllm" / name).mkdir(parents=True)
        (packages / "vllm" / name / "__init__.py").touch()
    (packages / "vllm" / "__init__.py").write_text(VLLM.format(version=version, crash=crash))
    (packages / "vllm/lora/request.py").write_text(
        "class LoRARequest:\n    def __init__(self, name, number, path):\n        self.path = path\n"
    )
    (packages / "vllm/v1/sample/logits_processor.py").write_text("class LogitsProcessor:\n    pass\n")
    if version is not None:
        about = packages / f"vllm-{version}.dist-info" / "METADATA"
        about.parent.mkdir()
        about.write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")
    python = folder / "bin" / "python"
    python.parent.mkdir()
    python.write_text(PYTHON.format(python=sys.executable, packages=str(packages)))
    python.chmod(0o755)
    return folder


def make_engine(folder: Path, *, version: str = "0.30.0", crash: str = "") -> Engine:
    """Make an environment in `folder` and return its engine."""
    python = make_environment(folder, version=version, crash=crash) / "bin" / "python"
    return Engine(version=version, batch_invariant=False, python=python)
