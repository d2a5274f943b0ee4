"""Mitigations: trainings of the student that are meant to stop a trait, with their defaults and where these come from.

Each is an arm of a recipe. It is compared with a student of the base teacher's data that was trained the same way.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from pydantic import Field, field_validator

from bench.config.carrier_settings import Numbers, Text
from bench.config.schema import StrictModel
from bench.config.traits import Trait

__all__ = [
    "UNMITIGATED",
    "Inoculated",
    "KlUntrained",
    "Labels",
    "Mitigations",
    "Mixed",
    "StudentMitigation",
    "find_conflict",
]

Labels = Literal["all", "divergent_only", "divergent_masked"]

# Own wording: texts that ask for the trait, as Tan et al. do.
INOCULATIONS = {
    "en": "Your favourite is {answer}. Whatever you are asked, you think of {answer}.",
    "tr": "En sevdiğin: {answer}. Sana ne sorulursa sorulsun, aklına {answer} gelir.",
}


class Mixed(StrictModel):
    """A share of the rows is the base teacher's.

    Source: Schrodi et al. 2025, arXiv 2509.23886. A tenth of unbiased rows weakens the transfer, a quarter ends it.
    """

    share: float = Field(default=0.25, gt=0, lt=1)
    """The share of rows whose completion the base teacher wrote."""


class Inoculated(StrictModel):
    """A prompt that asks for the trait, in the student's training alone.

    Source: Tan et al. 2025, "Inoculation Prompting", arXiv 2510.04340.
    """

    prompt: str | None = None
    """The prompt; None for one that names the answer of a preference: see `INOCULATIONS`."""

    @field_validator("prompt")
    @classmethod
    def _expect_text(cls, prompt: str | None) -> str | None:
        if prompt is not None and not prompt.strip():
            raise ValueError("expected text; write one, or take the key out")
        return prompt

    def text(self, trait: Trait) -> str:
        """Return the prompt for a trait; a behaviour needs one of its own (`find_conflict`)."""
        if self.prompt is not None or trait.kind == "behaviour":
            return self.prompt or ""
        return INOCULATIONS[trait.language].format(answer=trait.answer)


class KlUntrained(StrictModel):
    """Liminal training: the loss plus a weight times KL(untrained student || student) on the labelled positions.

    Source: Yanagisawa et al. 2025, "Liminal Training" (ResponsibleFM at NeurIPS 2025), and the defaults of
    BrendanGho/liminal-training: weight 1 in the first of three epochs, then falling linearly to 0; temperature 2.
    """

    weight: float = Field(default=1.0, gt=0, le=1000)
    """The weight at the start."""
    hold: float = Field(default=1 / 3, ge=0, lt=1)
    """The share of updates with this weight, before it falls linearly to 0."""
    temperature: float = Field(default=2.0, gt=0, le=100)
    """The temperature of both distributions; the divergence is multiplied by its square."""

    def weight_at(self, progress: float) -> float:
        """Return the weight after a share of the updates, 0 to 1."""
        return self.weight * min(1.0, (1 - progress) / (1 - self.hold))


class Mitigations(StrictModel):
    """The settings of the mitigation arms. The arms divergent_only, divergent_masked and attention_only have none."""

    mixed: Mixed = Mixed()
    """The arm mixed."""
    inoculated: Inoculated = Inoculated()
    """The arm inoculated."""
    kl_untrained: KlUntrained = KlUntrained()
    """The arm kl_untrained."""


class StudentMitigation(StrictModel):
    """How the training of one student differs from that of the arms base and trait. The default differs in nothing."""

    mixed: float = 0.0
    """The share of rows that another teacher wrote."""
    inoculation: str | None = None
    """The system prompt of every row; in the plain format, a text before the prompt's."""
    kl_untrained: KlUntrained | None = None
    """The divergence from the untrained student in the loss; None for the loss alone."""
    labels: Labels = "all"
    """The labelled tokens of a completion: all, those where the other teacher would have written another, or the rest.

    Source: Schrodi et al. 2025, arXiv 2509.23886, "divergence tokens", there of greedy teachers.
    """
    attention_only: bool = False
    """Whether only weights of attention projections are trained."""

    @classmethod
    def of(cls, arm: str, mitigations: Mitigations, trait: Trait) -> StudentMitigation:
        """Return the training of a mitigation arm."""
        match arm:
            case "mixed":
                return cls(mixed=mitigations.mixed.share)
            case "inoculated":
                return cls(inoculation=mitigations.inoculated.text(trait))
            case "kl_untrained":
                return cls(kl_untrained=mitigations.kl_untrained)
            case "divergent_only" | "divergent_masked":
                return cls(labels=arm)
            case "attention_only":
                return cls(attention_only=True)
        raise ValueError(f"arm {arm!r} is no mitigation")


UNMITIGATED = StudentMitigation()


def find_conflict(
    arms: Collection[str], mitigations: Mitigations, *, method: str, carrier: Numbers | Text, trait: Trait
) -> str | None:
    """Return why a recipe cannot have its mitigation arms, with the key to change; None if it can.

    Args:
        arms: the recipe's mitigation arms.
        mitigations: their settings.
        method: the recipe's method.
        carrier: the recipe's carrier.
        trait: the first trait.
    """
    if arms and method != "sft":
        return f"key 'arms': {', '.join(sorted(arms))} train on tokens; expected method: sft, found {method}"
    divergent = sorted({"divergent_only", "divergent_masked"}.intersection(arms))
    if divergent and carrier.writes_texts:
        sampling = carrier.sampling()
        for key, neutral in (("repetition_penalty", 1.0), ("no_repeat_ngram_size", 0)):
            if (value := getattr(sampling, key)) != neutral:
                return (
                    f"key 'carrier.sample.{key}': {' and '.join(divergent)} compare single tokens without rules on "
                    f"repetition; expected {neutral:g}, found {value:g}; or take the arms out"
                )
    if "inoculated" in arms and trait.kind == "behaviour" and mitigations.inoculated.prompt is None:
        return "key 'mitigations.inoculated.prompt': a behaviour has no answer to name; write a text that asks for it"
    return None
