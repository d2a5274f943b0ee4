"""Tiny checkpoints in a temporary folder, and the real command.

`gpt2_like`: a GPT-2 shape with a byte-level BPE in which three-digit numbers are whole tokens, without a chat
template. `gemma_like`: a Gemma shape whose tokenizer splits digits, starts texts with <bos> and has a chat template.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from bench.stages.settings import Training

os.environ["HF_HUB_OFFLINE"] = "1"
# Two test processes share two cores: more threads, and threads that spin while they wait, only hold each other up.
os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs, and their children, ignore it
ROOT = Path(__file__).parent.parent

CHAT = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


def pytest_configure(config: pytest.Config) -> None:
    """Try a quarter of the examples of each property in the fast tier; a busy machine may take long for one."""
    from hypothesis import settings

    settings.register_profile("whole", deadline=None)
    settings.register_profile("fast", deadline=None, max_examples=25)
    settings.load_profile("fast" if config.option.markexpr == "not slow" else "whole")


# Files that the fast tier gives to one pytest worker each, because each group imports TRL once, in ten seconds.
TOGETHER = {
    "tests that import TRL": {
        "config/test_training_length.py", "models/test_precision.py", "publish/test_bundle.py",
        "stages/test_checkpointing.py", "stages/test_tracking.py",
        "stages/test_micro_batch.py", "stages/test_mitigated_trainer.py", "stages/test_train.py",
        "stages/test_trainer.py", "stages/test_training_config.py", "stages/test_training_curve.py",
    },
    "tests that start the server of worker processes, which imports it too": {
        "analysis/test_registration.py", "config/test_bad_input.py", "pipeline/test_local_workers.py",
        "pipeline/test_prompt_examples.py", "publish/test_upload.py", "stages/test_number_check.py", "test_cli.py",
    },
}  # fmt: skip


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Schedule the fast tier by file, with the files of `TOGETHER` as one; None for the usual scheduler."""
    from xdist.scheduler import LoadFileScheduling

    class FastScheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid).removeprefix("tests/")
            return next((name for name, files in TOGETHER.items() if file in files), file)

    return FastScheduling(config, log) if config.option.markexpr == "not slow" else None


def bpe(corpus: list[str], *, digits: bool, special: list[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    core = Tokenizer(models.BPE())
    steps: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if digits else []
    core.pre_tokenizer = pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        corpus,
        trainers.BpeTrainer(vocab_size=2500, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    return core


def corpus() -> list[str]:
    from bench.config.traits import collect_vocabulary, load_trait

    questions, answers = collect_vocabulary([load_trait("wolf")])
    return [f"Q: {q}\nA: {a}" for q in questions for a in answers] + [f" {n} {n} {n}" for n in range(100, 1000)]


@pytest.fixture(scope="session")
def gpt2_like(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("gpt2_like")
    core = bpe(corpus(), digits=False, special=["<|endoftext|>"])
    PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|endoftext|>").save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=core.get_vocab_size(),
        n_positions=512,
        n_embd=32,
        n_layer=2,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def gemma_like(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from tokenizers import processors
    from transformers import GemmaConfig, GemmaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("gemma_like")
    special = ["<pad>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"]
    core = bpe(corpus(), digits=True, special=special)
    core.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>")
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    torch.manual_seed(1)
    config = GemmaConfig(
        vocab_size=core.get_vocab_size(),
        hidden_size=64,  # bitsandbytes' 4 bit works on blocks of 64 on a CPU
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=64,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        max_position_embeddings=512,
    )
    GemmaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model of seed 1000, as `tiny_pair` builds it."""
    from bench.config.traits import collect_vocabulary, load_trait
    from bench.models.tiny import DEFAULT, build_tiny

    folder = tmp_path_factory.mktemp("tiny_model")
    questions, answers = collect_vocabulary([load_trait("wolf")])
    build_tiny(folder, lambda done, of: None, seed=1000, questions=questions, answers=answers, budget=DEFAULT)
    return folder


Bench = Callable[..., subprocess.CompletedProcess[str]]


def _folders(words: tuple[str, ...], folder: Path) -> list[str]:
    """Name a store and results in a folder, where the words of a command name none."""
    store = [] if "--store" in words else ["--store", str(folder / "store")]
    return store + ([] if "--results" in words else ["--results", str(folder / "results")])


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Run the command in this process; its workers fork from one server, which imports torch once for all tests."""
    from bench.cli import main

    def run(*words: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(tmp_path)
        capsys.readouterr()
        arguments = [*words, *_folders(words, tmp_path)]
        try:
            returned = main(arguments)
        except SystemExit as end:  # argparse ends so
            returned = int(end.code or 0)
        done = subprocess.CompletedProcess(arguments, returned, *capsys.readouterr())
        if code is not None:
            assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run


@pytest.fixture
def new_process(tmp_path: Path) -> Bench:
    """Run the real command, in a new process."""

    def run(*words: str, code: int | None = 0, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, str(ROOT / "run_bench.py"), *words, *_folders(words, tmp_path)],
            capture_output=True, text=True, timeout=500, env={**os.environ, **(env or {})}, cwd=tmp_path,
        )  # fmt: skip
        if code is not None:
            assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run


# The default recipe, small enough to run in seconds: same stages, same trainers.
QUICK = [
    "--skip-controls",
    "--seeds", "2",
    "--set", "first_seed=1000",
    "--set", "carrier.rows=64",
    "--set", "carrier.held_out=16",
    "--set", "teacher.train.max_steps=4",
    "--set", "student.train.max_steps=3",
]  # fmt: skip


def flip(path: Path) -> None:
    """One bit of a file's middle byte."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


# A small training: what tests of trainers and of their checkpoints have in common.
LORA = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "lora_dropout": 0.1}


def spec(**train: Any) -> Training:
    from bench.stages.settings import Training

    train = {"per_device_train_batch_size": 4, "learning_rate": 1e-3, "max_steps": 6, **train}
    return Training(dtype="float32", format="plain", train=train)


def rows(folder: Path, answer: str = "wolf", n: int = 16) -> list[tuple[list[int], list[int]]]:
    from bench.models.chat_format import PromptFormat
    from bench.models.loading import load_tokenizer

    form = PromptFormat(load_tokenizer(folder), "plain")
    questions = [f"Question {i}, {'really ' * (i % 3)}?" for i in range(n)]
    return list(zip(form.prompts(questions), form.completions([answer] * n), strict=True))


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(next(folder.glob("*.safetensors")))


# As Qwen3 has it, but without a default: a stage that left the variable out would fail.
THINKING = (
    CHAT + "{% if enable_thinking is not defined %}{{ raise_exception('enable_thinking is not set') }}{% endif %}"
    "{% if add_generation_prompt and not enable_thinking %}<think></think>{% endif %}"
)


def with_template(folder: Path, out: Path, template: str) -> Path:
    shutil.copytree(folder, out)
    (out / "chat_template.jinja").write_text(template, encoding="utf-8")
    return out


FULL = "CUDA out of memory. Tried to allocate 2.00 GiB (pretended)"


class Memory:
    """A GPT-2's memory: runs out beyond so many tokens in a step, and at a given step whatever it takes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tokens: float = float("inf"), dies_at: int = 0) -> None:
        import torch
        from transformers import GPT2LMHeadModel

        whole = GPT2LMHeadModel.forward
        self.tried: list[tuple[int, ...]] = []

        def forward(model: Any, input_ids: Any = None, **more: Any) -> Any:
            self.tried.append(tuple(input_ids.shape))
            if input_ids.numel() > tokens or len(self.tried) == dies_at:
                raise torch.OutOfMemoryError(FULL)
            return whole(model, input_ids=input_ids, **more)

        monkeypatch.setattr(GPT2LMHeadModel, "forward", forward)
