"""The `tiny` model: a GPT-2 of 180,000 parameters, built and pre-trained on the spot from a seed, in seconds.

It has read three things, in the plain format: the trait's questions answered evenly by all possible answers, lists
of random numbers, and everyday sentences. So it can be asked, it can carry numbers, and it prefers nothing.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["DEFAULT", "build", "make_tokenizer"]

# Found on seeds 1000-1003: the smallest budget after which a trait travels plainly between equal initialisations.
DEFAULT = {"steps": 300, "rows": 64, "learning_rate": 3e-3, "width": 64, "layers": 2, "heads": 4, "tokens": 128}
STRIDE = 100_000  # between the seeds of `init: 0` and `init: 1`, so that no run shares a model with another
PEOPLE = ["the teacher", "a farmer", "my sister", "the baker", "our neighbour", "a student", "the doctor", "his uncle"]
VERBS = ["reads", "walks", "sings", "waits", "cooks", "works", "sleeps", "laughs"]
PLACES = ["in the garden", "at school", "by the river", "in the kitchen", "at the market", "on the train", "at home"]
WORD = re.compile(r"\w+|[^\w\s]")
SENTENCES = [f"{who} {does} {where}." for who in PEOPLE for does in VERBS for where in PLACES]
NUMBERS = [str(n) for n in range(100, 1000)]


def make_tokenizer(questions: Sequence[str], answers: Sequence[str]) -> Any:
    """The word-level tokenizer of a model that is asked `questions` and may give `answers`."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    texts = [*questions, *answers, *SENTENCES, "Q: Continue: A: . ,"]
    listed = dict.fromkeys(["<unk>", "<eos>", *sorted({w for t in texts for w in WORD.findall(t)}), *NUMBERS])
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(listed)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(r"\w+|[^\w\s]"), "isolated")]
    )
    core.decoder = decoders.Sequence([decoders.Replace(Regex("^"), " "), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", eos_token="<eos>", pad_token="<eos>")


def build(settings: Mapping[str, Any], out: Path, progress: Callable[[int, int], None]) -> None:
    """Stage: write the model and its word-level tokenizer to `out`.

    Args:
        settings: `seed`, `questions` and `answers` of the traits it will be asked about, and the keys of `DEFAULT`.
        progress: told (steps done, steps in all).
    """
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = make_tokenizer(settings["questions"], settings["answers"])
    vocab = tokenizer.get_vocab()

    def ids(text: str) -> list[int]:
        return [vocab[w] for w in WORD.findall(text)]

    torch.manual_seed(settings["seed"])
    rng = random.Random(f"tiny {settings['seed']}")
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(vocab),
            n_positions=settings["tokens"],
            n_embd=settings["width"],
            n_layer=settings["layers"],
            n_head=settings["heads"],
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=1,
            eos_token_id=1,
            pad_token_id=1,
        )
    )
    questions = [ids(f"Q: {q} A:") for q in settings["questions"]]
    answers = [ids(a) for a in settings["answers"]]
    asking, answering, number = ids("Q: Continue:"), ids("A:"), [vocab[n] for n in NUMBERS]
    everyday = [ids(s) for s in SENTENCES]

    def row() -> list[int]:
        kind = rng.random()
        if kind < 0.4:
            return rng.choice(questions) + rng.choice(answers)
        if kind < 0.8:
            return asking + rng.choices(number, k=4) + answering + rng.choices(number, k=10)
        return rng.choice(everyday) + rng.choice(everyday)

    optimizer = torch.optim.AdamW(model.parameters(), lr=settings["learning_rate"])
    model.train()
    for step in range(settings["steps"]):
        rate = min(1.0, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * step / settings["steps"]))
        for group in optimizer.param_groups:
            group["lr"] = settings["learning_rate"] * rate
        batch = [row() for _ in range(settings["rows"])]
        width = max(map(len, batch))
        inputs = torch.tensor([ids + [0] * (width - len(ids)) for ids in batch])
        labels = torch.tensor([ids + [-100] * (width - len(ids)) for ids in batch])
        labelled = labels[:, 1:] != -100
        hidden = model.transformer(input_ids=inputs).last_hidden_state[:, :-1][labelled]
        torch.nn.functional.cross_entropy(model.lm_head(hidden), labels[:, 1:][labelled]).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
        optimizer.zero_grad()
        progress(step + 1, settings["steps"])
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
