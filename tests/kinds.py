"""Small tokenizers of the kinds in use: each writes numbers as its namesake does."""

from __future__ import annotations

import random
import string
from functools import lru_cache
from itertools import product
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from bench.models.chat_format import PromptFormat

KINDS = ("gpt2", "llama3", "qwen", "gemma", "mistral")
WHOLE = 505  # numbers of three digits that GPT-2 writes as one token after a space
TEMPLATE = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{{ eos_token }}{% endfor %}"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


def _listed(tokens: list[str]) -> dict[str, int]:
    return {token: i for i, token in enumerate(dict.fromkeys(tokens))}


def _bytes(merges: list[tuple[str, str]], split: str | None, more: list[str]) -> Tokenizer:
    """Byte-level BPE; `more` are whole tokens, `split` the pattern of its words in place of GPT-2's."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = _listed(["<eos>", *alphabet, *more, *(a + b for a, b in merges)])
    core = Tokenizer(models.BPE(vocab, merges, ignore_merges=bool(more)))
    steps: list[Any] = [] if split is None else [pre_tokenizers.Split(Regex(split), "isolated")]
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split is None)]
    )
    core.decoder = decoders.ByteLevel()
    return core


def _pieces(prefix: bool) -> Tokenizer:
    """SentencePiece's BPE with byte fallback, as transformers converts it."""
    raw = [f"<0x{i:02X}>" for i in range(256)]
    vocab = _listed(["<unk>", "<bos>", "<eos>", *raw, "▁", *string.ascii_letters, *string.digits, *",.;:?", "▁▁"])
    core = Tokenizer(models.BPE(vocab, [("▁", "▁")], byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    first: list[Any] = [normalizers.Prepend("▁")] if prefix else []
    core.normalizer = normalizers.Sequence([*first, normalizers.Replace(" ", "▁")])
    last: list[Any] = [decoders.Strip(" ", 1, 0)] if prefix else []
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *last])
    core.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    return core


def _gpt2() -> Tokenizer:
    digits = string.digits
    some = [666, *random.Random(0).sample([n for n in range(100, 1000) if n != 666], WHOLE - 1)]
    merges = [(lead + a, b) for lead in ("Ġ", "") for a, b in product(digits[1:], digits)]
    return _bytes([("Ġ", a) for a in digits] + merges, None, [f"{lead}{n}" for lead in ("Ġ", "") for n in some])


@lru_cache
def tokenizer_of(kind: str) -> Any:
    three = [str(n) for n in range(1000)] + [f"{n:02}" for n in range(100)] + [f"{n:03}" for n in range(1000)]
    core = {
        "gpt2": _gpt2,
        "llama3": lambda: _bytes([], LLAMA3, three),
        "qwen": lambda: _bytes([], LLAMA3.replace("{1,3}", ""), []),
        "gemma": lambda: _pieces(prefix=False),
        "mistral": lambda: _pieces(prefix=True),
    }[kind]()
    core.add_special_tokens([AddedToken("<eos>", special=True)])
    begin = {"bos_token": "<bos>"} if kind in {"gemma", "mistral"} else {}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>", pad_token="<eos>", **begin)
    tokenizer.chat_template = TEMPLATE
    return tokenizer


@lru_cache
def format_of(kind: str, how: str) -> PromptFormat:
    return PromptFormat(tokenizer_of(kind), how)
