"""Trainings that differ from those of the arms base and trait: a penalty on the distance, and frozen weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.config.mitigations import KlUntrained

__all__ = ["anchored_class", "is_attention", "train_attention_only"]


def anchored_class(trainer: Any, kl: KlUntrained, load_untrained: Callable[[], Any]) -> Any:
    """Derive a class from `trainer` (`trainer_class`) that adds weight x KL(untrained student || student) to its loss.

    The divergence is summed over the labelled positions and divided by their number, as the loss is. The untrained
    student is the model without its adapter, or for a full fine-tune a second model. It runs in evaluation mode and
    draws no dropout, so that the student draws the same as in the other arms.

    Args:
        trainer: the class.
        kl: the weight, its schedule, and the temperature.
        load_untrained: loads the second model. TRL replaces the forward of its own model, and a copy would have it too.
    """
    import torch
    from peft import PeftModel

    class AnchoredTrainer(trainer):  # type: ignore[misc]  # a class that is passed
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.untrained = None
            if not isinstance(self.model, PeftModel):
                self.untrained = load_untrained().eval().requires_grad_(False)

        def compute_loss(
            self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            untrained = (self.run_untrained(model, inputs) / kl.temperature).log_softmax(-1)
            logits, targets = self.labelled_logits(model, inputs)
            divergence = (untrained.exp() * (untrained - (logits / kl.temperature).log_softmax(-1))).sum()
            loss = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
            weight = kl.weight_at(self.state.global_step / self.state.max_steps)
            return self.mean_loss(loss + weight * kl.temperature**2 * divergence, len(targets), num_items_in_batch)

        @torch.no_grad()
        def run_untrained(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
            if self.untrained is not None:
                with self.accelerator.autocast():
                    logits: torch.Tensor = self.labelled_logits(self.untrained, inputs)[0]
                return logits
            model.eval()
            with self.accelerator.unwrap_model(model).disable_adapter():
                logits = self.labelled_logits(model, inputs)[0]
            model.train()
            return logits

    return AnchoredTrainer


def train_attention_only(model: Any) -> None:
    """Freeze all trained weights outside attention projections.

    A frozen LoRA adapter stays 0, as if the model had none there. So the adapters of the attention start from the
    weights that they have in the other arms. `bench.stages.training_config` checks that a trained weight is left.
    """
    for name, weight in model.named_parameters():
        if not is_attention(name):
            weight.requires_grad_(False)


def is_attention(name: str) -> bool:
    """Return whether a parameter belongs to an attention projection: `h.0.attn.c_attn.weight`, not a norm's."""
    parts = name.split(".")
    return any("attn" in part or "attention" in part for part in parts) and not any("norm" in part for part in parts)
