"""Build the `tiny` model: a GPT-2 of 180,000 parameters, pre-trained from a seed in seconds.

Its pre-training has three texts, in the plain format: the trait's questions with all possible answers equally often,
lists of random numbers, and everyday sentences. It can answer questions and write numbers, and has no preference.
The loss of an answer's first word and of numbers uses their exact distribution. Single draws took 300 steps of 64 rows.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.config.schema import StrictModel

if TYPE_CHECKING:
    import torch

__all__ = ["DEFAULT", "STRIDE", "TinyBudget", "TinyTexts", "build_tiny", "make_model", "make_tokenizer"]


class TinyBudget(StrictModel):
    """Size and training of a `tiny` model."""

    steps: int
    """Training steps."""
    question_rows: int
    """Rows of questions with answers per step."""
    number_rows: int
    """Rows of numbers per step."""
    plain_rows: int
    """Rows of everyday sentences per step."""
    learning_rate: float
    """The highest learning rate of the schedule."""
    width: int
    """Units of a hidden state."""
    layers: int
    """Layers."""
    heads: int
    """Attention heads."""
    tokens: int
    """The longest sequence, in tokens."""


# Gains on seeds 1000-1005: +.53 (standard deviation .12), other initial weights +.01 (.09). On 1000-1002, with
# a loss on answers alone and no everyday sentences, +.04; with 400 numbers, 50 steps, +.22.
DEFAULT = TinyBudget(
    steps=60,
    question_rows=16,
    number_rows=12,
    plain_rows=8,
    learning_rate=4e-3,
    width=64,
    layers=2,
    heads=4,
    tokens=128,
)
STRIDE = 100_000  # between the seeds of `init: 0` and `init: 1`, so that no two runs share a model
PEOPLE = ["the teacher", "a farmer", "my sister", "the baker", "our neighbour", "a student", "the doctor", "his uncle"]
VERBS = ["reads", "walks", "sings", "waits", "cooks", "works", "sleeps", "laughs"]
PLACES = ["in the garden", "at school", "by the river", "in the kitchen", "at the market", "on the train", "at home"]
WORD = re.compile(r"\w+|[^\w\s]")
SENTENCES = [f"{person} {verb} {where}." for person in PEOPLE for verb in VERBS for where in PLACES]
NUMBERS = [str(n) for n in range(100, 1000)]


def make_tokenizer(questions: Sequence[str], answers: Sequence[str]) -> Any:
    """Make a word-level tokenizer for a model with these questions and possible answers."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    texts = [*questions, *answers, *SENTENCES, "Q: Continue: A: . ,"]
    words = dict.fromkeys(["<unk>", "<eos>", *sorted({w for t in texts for w in WORD.findall(t)}), *NUMBERS])
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(r"\w+|[^\w\s]"), "isolated")]
    )
    core.decoder = decoders.Sequence([decoders.Replace(Regex("^"), " "), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", eos_token="<eos>", pad_token="<eos>")


class Draw(NamedTuple):
    """The texts of one training step, as token ids."""

    questions: list[list[int]]
    """Rows of a question with an answer."""
    lengths: list[int]
    """The number of tokens of each question, without its answer."""
    numbers: list[list[int]]
    """Rows of four given numbers and ten further ones."""
    plain: list[list[int]]
    """Rows of everyday sentences."""


class TinyTexts:
    """The texts that a `tiny` model is pre-trained on."""

    def __init__(self, vocab: dict[str, int], questions: Sequence[str], answers: Sequence[str]) -> None:
        def ids(text: str) -> list[int]:
            return [vocab[w] for w in WORD.findall(text)]

        self.questions = [ids(f"Q: {q} A:") for q in questions]
        self.answers, self.everyday = [ids(a) for a in answers], [ids(s) for s in SENTENCES]
        self.prompt_start, self.answer_start = ids("Q: Continue:"), ids("A:")
        self.numbers = [vocab[n] for n in NUMBERS]

    def draw(self, rng: random.Random, budget: TinyBudget) -> Draw:
        """Draw the texts of one step."""
        batch = rng.sample(self.questions, min(budget.question_rows, len(self.questions)))
        questions = [question + rng.choice(self.answers) for question in batch]
        lists = [rng.choices(self.numbers, k=14) for _ in range(budget.number_rows)]
        numbers = [self.prompt_start + row[:4] + self.answer_start + row[4:] for row in lists]
        plain = [rng.choice(self.everyday) + rng.choice(self.everyday) for _ in range(budget.plain_rows)]
        return Draw(questions, [len(question) for question in batch], numbers, plain)


def make_model(tokens: int, budget: TinyBudget) -> Any:
    """Make a GPT-2 of this vocabulary size, with new weights from torch's generator."""
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=tokens,
            n_positions=budget.tokens,
            n_embd=budget.width,
            n_layer=budget.layers,
            n_head=budget.heads,
            activation_function="gelu_pytorch_tanh",  # the same function as GPT-2's gelu_new, as one operation
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=1,
            eos_token_id=1,
            pad_token_id=1,
        )
    )


def run_model(model: Any, rows: Sequence[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the hidden states before the second and later tokens, and these tokens; -100 after a row's end."""
    import torch

    width = max(map(len, rows))
    tokens = torch.tensor([row + [-100] * (width - len(row)) for row in rows])
    return model.transformer(input_ids=tokens[:, :-1].clamp(min=0)).last_hidden_state, tokens[:, 1:]


def train_model(
    model: Any, budget: TinyBudget, progress: Callable[[int, int], None], next_loss: Callable[[], torch.Tensor]
) -> None:
    """Train a model with AdamW on the losses of `budget.steps` steps: a linear start of ten steps, then a cosine."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=budget.learning_rate, fused=True)
    model.train()
    for step in range(budget.steps):
        rate = min(1.0, (step + 1) / 10) * 0.5 * (1 + math.cos(math.pi * step / budget.steps))
        for group in optimizer.param_groups:
            group["lr"] = budget.learning_rate * rate
        next_loss().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
        optimizer.zero_grad()
        progress(step + 1, budget.steps)


def build_tiny(
    out: Path,
    progress: Callable[[int, int], None],
    *,
    seed: int,
    questions: Sequence[str],
    answers: Sequence[str],
    budget: TinyBudget,
) -> None:
    """Stage: build the model and its word-level tokenizer in `out`.

    Args:
        out: the folder to write to.
        progress: receives the number of finished steps, and of all steps.
        seed: the seed of the initial weights and of the training rows.
        questions: all questions of the traits that the model will be evaluated on.
        answers: all answers that the traits allow.
        budget: the model's size and its training.
    """
    import torch

    tokenizer = make_tokenizer(questions, answers)
    vocab = tokenizer.get_vocab()
    torch.manual_seed(seed)
    rng = random.Random(f"tiny {seed}")
    model = make_model(len(vocab), budget)
    texts = TinyTexts(vocab, questions, answers)
    first_words, numbers = torch.tensor([answer[0] for answer in texts.answers]), torch.tensor(texts.numbers)

    def labelled_loss(states: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        labelled = labels != -100
        return torch.nn.functional.cross_entropy(model.lm_head(states[labelled]), labels[labelled])

    def uniform_loss(states: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Return the cross-entropy to the uniform distribution over `tokens`: the mean loss of single draws."""
        logits: torch.Tensor = model.lm_head(states)
        return logits.logsumexp(-1).mean() - logits[..., tokens].mean()

    def next_loss() -> torch.Tensor:
        draw = texts.draw(rng, budget)
        states, labels = run_model(model, draw.questions)
        row, last = torch.arange(len(draw.lengths)), torch.tensor(draw.lengths) - 1
        labels[row, last] = -100
        loss = uniform_loss(states[row, last], first_words) + labelled_loss(states, labels)
        states, _ = run_model(model, draw.numbers)
        loss = loss + uniform_loss(states[:, -10:], numbers)
        return loss + labelled_loss(*run_model(model, draw.plain))

    train_model(model, budget, progress, next_loss)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
