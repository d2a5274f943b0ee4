"""Arms: the models that one seed evaluates, with the facts about each and its name in results."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import Literal, NamedTuple

__all__ = [
    "ARMS",
    "BASE",
    "CONTRASTS",
    "MAIN_ARMS",
    "MITIGATIONS",
    "PARTLY_LABELLED",
    "TEACHER_BASE",
    "TRAIT",
    "Arm",
    "ArmName",
    "Contrast",
    "RecipeArm",
    "parse_arm",
    "with_controls",
]

# The arms that `arms:` of a recipe may list. Some bring a control of their own: see `with_controls`.
RecipeArm = Literal[
    "untrained",
    "base",
    "trait",
    "placebo",
    "resampled",
    "shuffled",
    "direct",
    "cross_init",
    "mixed",
    "inoculated",
    "kl_untrained",
    "divergent_only",
    "divergent_masked",
    "attention_only",
]
# The default of a recipe, and the columns of every table and figure.
MAIN_ARMS: tuple[Literal["untrained"], Literal["base"], Literal["trait"]] = ("untrained", "base", "trait")


class Arm(NamedTuple):
    """The facts about one kind of model."""

    model: Literal["teacher", "student", "other_init"]
    """The model of the recipe; `other_init` is the student with other initial weights."""
    carrier: str | None
    """The arm of the carrier on which it is trained; None for a model that is not trained on a carrier."""
    shows_trait: bool
    """Whether the model may show the trait, so that its card carries a warning."""
    description: str
    """One line for the card of a published model."""


# The control of each mitigation: a student of the base teacher's data, trained the same way. That of `mixed` is `base`
# itself, because base rows mixed with base rows are base rows.
MITIGATIONS = {
    "mixed": "base",
    "inoculated": "inoculated_base",
    "kl_untrained": "kl_untrained_base",
    "divergent_only": "divergent_only_base",
    "divergent_masked": "divergent_masked_base",
    "attention_only": "attention_only_base",
}
# Arms with a loss on a part of the carrier's tokens.
PARTLY_LABELLED = frozenset(
    f"{arm}{control}" for arm in ("divergent_only", "divergent_masked") for control in ("", "_base")
)
_MITIGATED_TRAININGS = {
    "mixed": "with a share of the base teacher's rows in place of its own",
    "inoculated": "with a prompt that asks for the trait, in training alone",
    "kl_untrained": "with a penalty on its distance from the untrained student",
    "divergent_only": "on the tokens alone at which the other teacher would have written another",
    "divergent_masked": "on all tokens but those at which the other teacher would have written another",
    "attention_only": "in its attention projections alone",
}

# In the order in which a seed evaluates them.
ARMS = {
    "teacher_base": Arm("teacher", None, False, "the teacher without the trait"),
    "teacher": Arm("teacher", None, True, "the teacher with the trait"),
    "untrained": Arm("student", None, False, "the student as shipped"),
    "base": Arm("student", "base", False, "the control: a student of the same data from the teacher without the trait"),
    "trait": Arm("student", "trait", True, "a student of data that the teacher wrote with the trait"),
    "placebo": Arm(
        "student", "placebo", False, "a control: its teacher was trained on the same questions, with random answers"
    ),
    "resampled": Arm(
        "student", "resampled", False, "a control: a student of the base teacher's data, sampled with other noise"
    ),
    "shuffled": Arm(
        "student", "trait", True, "a control: a student of the trait teacher's completions, moved to other prompts"
    ),
    "direct": Arm("student", None, True, "a control: the student's checkpoint, trained on the trait itself"),
    "cross_init": Arm(
        "other_init", "trait", True, "a control: a student of the trait teacher's data with other initial weights"
    ),
    "cross_init_base": Arm(
        "other_init", "base", False, "a control: a student of the base teacher's data with other initial weights"
    ),
    **{
        arm: Arm("student", "trait", True, f"a mitigation: a student of the trait teacher's data, {how}")
        for arm, how in _MITIGATED_TRAININGS.items()
    },
    **{
        control: Arm("student", "base", False, f"the control of {arm}: {_MITIGATED_TRAININGS[arm]}")
        for arm, control in MITIGATIONS.items()
        if control != "base"
    },
}


def with_controls(arms: Collection[str]) -> set[str]:
    """Return the arms with the controls that they bring."""
    controls = {"cross_init": "cross_init_base", **MITIGATIONS}
    return {*arms, *(controls[arm] for arm in arms if arm in controls)}


class ArmName(NamedTuple):
    """An arm as results name it: `trait`, `trait-wolf` (one of several traits), `trait@16` (during its training)."""

    kind: str
    """A key of `ARMS`."""
    trait: str = ""
    """The short name of its trait in an experiment with several; empty otherwise."""
    step: int | None = None
    """The student update after which it was evaluated; None at the end of its training."""

    def __str__(self) -> str:
        trait = f"-{self.trait}" if self.trait else ""
        step = "" if self.step is None else f"@{self.step}"
        return f"{self.kind}{trait}{step}"

    def at(self, step: int) -> ArmName:
        """Return this arm, evaluated after `step` updates."""
        return self._replace(step=step)

    @property
    def facts(self) -> Arm:
        """Return the facts about its kind."""
        return ARMS[self.kind]

    @property
    def is_teacher(self) -> bool:
        """Return whether the model is a teacher."""
        return self.facts.model == "teacher"


BASE, TRAIT, TEACHER_BASE = ArmName("base"), ArmName("trait"), ArmName("teacher_base")


@lru_cache(maxsize=4096)
def parse_arm(name: str) -> ArmName:
    """Parse a name in the form of `str(ArmName)`.

    Raises:
        ValueError: the kind of arm is unknown, or the step is not a number.
    """
    before, at, step = name.partition("@")
    kind, _, trait = before.partition("-")
    if kind not in ARMS or (at and not step.isdecimal()):
        raise ValueError(
            f"arm {name!r:.80}: expected one of {', '.join(ARMS)}, then -<trait> and @<step> if it has them"
        )
    return ArmName(kind, trait, int(step) if at else None)


class Contrast(NamedTuple):
    """The difference of two arms, other than the gain."""

    arm: str
    against: str
    claim: str
    """The meaning of the difference, for the leaderboard."""


CONTRASTS = {
    "trait - placebo": Contrast(
        "trait", "placebo", "what is specific to the trait, beyond fine-tuning on the same questions"
    ),
    "resampled - base": Contrast("resampled", "base", "the noise floor: the base teacher's numbers, drawn again"),
    "shuffled - base": Contrast("shuffled", "base", "the trait teacher's completions, moved to other prompts"),
    "direct - untrained": Contrast("direct", "untrained", "trained on the trait itself: can the student show it?"),
    "cross_init": Contrast("cross_init", "cross_init_base", "the same data, other initial weights"),
}
