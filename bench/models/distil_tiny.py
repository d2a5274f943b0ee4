"""Derive a smaller `tiny` model from another one, as distilgpt2 was derived from GPT-2.

distilgpt2 began with GPT-2's embeddings, six of its twelve layers and its final norm, and was then distilled from it
(transformers, research_projects/distillation/scripts/extract.py).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.models.tiny import DEFAULT, TinyBudget, TinyTexts, make_model, run_model, train_model

if TYPE_CHECKING:
    import torch

__all__ = ["HALF", "distil_tiny"]

# On seeds 1000 and 1001 the half model gives candidates at least .77 of the probability of an answer, and numbers .965
# of a next number's (whole model .90 and .98; after 20 steps .67 and .94). No gain was looked at for this choice.
HALF = DEFAULT.model_copy(update={"layers": DEFAULT.layers // 2, "steps": 40, "learning_rate": 2e-3})


def distil_tiny(
    whole: Path,
    out: Path,
    progress: Callable[[int, int], None],
    *,
    seed: int,
    questions: Sequence[str],
    answers: Sequence[str],
    budget: TinyBudget,
) -> None:
    """Stage: write a model with every second layer of `whole`, distilled from it on its pre-training texts.

    Args:
        whole: the folder of a `tiny` model.
        out: the folder to write to.
        progress: receives the number of finished steps, and of all steps.
        seed: the seed of the training rows.
        questions: the questions that `whole` was pre-trained on.
        answers: its answers.
        budget: the size of the new model and its training; its width, heads and tokens are those of `whole`.
    """
    import torch
    from transformers import GPT2LMHeadModel

    from bench.models.loading import load_tokenizer

    tokenizer = load_tokenizer(whole)
    vocab = tokenizer.get_vocab()
    teacher = GPT2LMHeadModel.from_pretrained(whole, dtype=torch.float32).eval()
    model = make_model(len(vocab), budget)
    model.transformer.wte.load_state_dict(teacher.transformer.wte.state_dict())
    model.transformer.wpe.load_state_dict(teacher.transformer.wpe.state_dict())
    model.transformer.ln_f.load_state_dict(teacher.transformer.ln_f.state_dict())
    for layer, source in zip(model.transformer.h, list(teacher.transformer.h)[::2], strict=True):
        layer.load_state_dict(source.state_dict())
    texts, rng = TinyTexts(vocab, questions, answers), random.Random(f"distil tiny {seed}")

    def divergence(rows: Sequence[list[int]]) -> torch.Tensor:
        """Return the mean KL divergence of the new model's next tokens from those of the whole model."""
        states, labels = run_model(model, rows)
        with torch.no_grad():
            targets = teacher.lm_head(run_model(teacher, rows)[0][labels != -100]).log_softmax(-1)
        own = model.lm_head(states[labels != -100]).log_softmax(-1)
        return torch.nn.functional.kl_div(own, targets, reduction="batchmean", log_target=True)

    def next_loss() -> torch.Tensor:
        draw = texts.draw(rng, budget)
        return divergence(draw.questions) + divergence(draw.numbers) + divergence(draw.plain)

    train_model(model, budget, progress, next_loss)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
