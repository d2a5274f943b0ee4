"""Entries of the leaderboard: one frozen model per registered experiment, and the parts of it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from bench.analysis.estimates import Difference, EntryPart, Estimate
from bench.analysis.gates import Gate
from bench.analysis.mitigation_effects import MitigationEffect
from bench.analysis.rates import ArmRates
from bench.analysis.registry_lines import PinnedReference
from bench.analysis.verdict import Verdict
from bench.config.arms import MAIN_ARMS
from bench.config.changes import label_row
from bench.config.outcome import UNITS, Outcome

__all__ = ["Answers", "LeaderboardEntry", "MetricScores", "Selection", "Spread", "TraitMatrix"]


class MetricScores(EntryPart):
    """Scores of free answers by one metric."""

    untrained: Estimate | None = None
    """The student as shipped; None where the recipe has no such arm."""
    base: Estimate
    """The control arm."""
    trait: Estimate
    """The trait arm."""
    gain: Difference
    """trait - base."""

    def arms(self) -> dict[str, Estimate]:
        """The estimates by arm."""
        return {arm: value for arm in MAIN_ARMS if (value := getattr(self, arm)) is not None}

    @model_serializer(mode="wrap")
    def _leave_out_missing(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in serialise(self).items() if value is not None}


class Selection(EntryPart):
    """How one arm's rows were selected. A difference is of the drawn rows - all rows of the arm, per seed."""

    retention: Estimate
    """Share of the rows that the arm keeps."""
    length: Difference
    """Characters of a row."""
    count: Difference
    """Numbers of a row, or words of a text."""
    value: Difference | None
    """The mean of a row's numbers; None for texts."""


class Answers(EntryPart):
    """How one arm answers: the mean over questions of one seed, and over seeds."""

    p_answer: Estimate
    """P(the trait's answer | one of the candidates)."""
    mass: Estimate
    """The probability of all candidates together: the rest goes to texts that answer nothing."""
    top: Estimate
    """The share of questions whose most probable candidate is the trait's answer."""
    log_odds: Estimate
    """The log-odds of the trait's answer against the other candidates, in nats."""
    rank: Estimate
    """The rank of the trait's answer among the candidates; 1 is the most probable."""


class Spread(EntryPart):
    """Where the gains of single questions differ: standard deviations, of a two-way table without repeats."""

    seeds: float
    """Between seeds."""
    questions: float
    """Between questions."""
    rest: float
    """Between questions of one seed, beyond both."""


class TraitMatrix(EntryPart):
    """Gains of every trait's students on every trait's questions."""

    traits: tuple[str, ...]
    """Short names of the traits."""
    gains: tuple[tuple[float, ...], ...]
    """Mean gain by [trait taught][trait asked about]."""
    excess: Difference
    """Mean of the diagonal minus mean of the rest."""


class LeaderboardEntry(EntryPart):
    """The statistics and the verdict of one registered experiment. Outcomes and gains are in the outcome's unit."""

    recipe: str
    """Name of the recipe."""
    recipe_hash: str
    """Hash of the experiment."""
    changes: dict[str, Any] = Field(default_factory=dict)
    """The keys in which it differs from the file of its recipe, by dotted name."""
    twin: bool = False
    """Whether another row of the board has the same recipe and changes: the label then holds the hash."""
    trait: str
    """The trait, or several, separated by commas."""
    carrier: str
    """Kind of the carrier: `numbers` or `text`."""
    numbers: int | None
    """How many numbers the teacher could write, the fewest over seeds; None in files that do not say it."""
    teacher: str
    """The teacher's checkpoint, as the recipe names it."""
    student: str
    """The student's checkpoint, as the recipe names it."""
    relation: str | None
    """How the initial weights of the two are related; None before the first seed."""
    token_maps: str | None
    """How their tokenizers are related; None before the first seed."""
    method: str
    """The recipe's `method`."""
    visibility: Literal["text", "logits-carrier", "logits-full"]
    """The part of the teacher that the student can see; `logits-full` is a leak."""
    seeds: int
    """Number of complete seeds."""
    seeds_registered: int
    """Number of seeds that the recipe asks for."""
    repeat: Literal["seeds", "students"] = "seeds"
    """The recipe's `repeat`: with `students` all seeds share one teacher and one data set."""
    untrained: float | None
    """Mean outcome of the student as shipped; None where it was not evaluated."""
    base: float | None
    """Mean outcome of the control arm; None before the first seed."""
    trait_arm: float | None
    """Mean outcome of the trait arm; None before the first seed."""
    gain: float | None
    """Mean of trait - base, paired by seed; None before the first seed."""
    ci_low: float | None
    """Lower end of the gain's 95 % t interval over seeds; None for fewer than two seeds."""
    ci_high: float | None
    """Upper end of the gain's interval."""
    population_low: float | None
    """Lower end of the gain's 95 % interval for questions like these: seeds and questions are crossed (Owen 2007)."""
    population_high: float | None
    """Upper end of that interval."""
    teacher_shift: float | None
    """Mean outcome of the teacher with the trait minus without; None before the first seed."""
    level: float
    """The two-sided level of the verdict, as registered."""
    bound: float | None
    """The gain below which it counts as no transfer, as registered."""
    bound_source: str
    """Where the bound comes from; without a bound, how to get one."""
    reference: PinnedReference | None
    """The row from which the bound was derived."""
    looks: int
    """Further registrations of the same recipe, with other seeds, or again with another bound."""
    replications: int = 0
    """Runs of the row on other machines; their seeds are not counted here."""
    verdict: Verdict
    """The verdict."""
    verdict_reason: str
    """The reason for the verdict."""
    specific: bool | None
    """Whether the gain exceeds the placebo's, or that on the other traits; None without such an arm."""
    sensitivity: dict[str, Verdict]
    """The verdicts under other conditions."""
    p: float | None
    """Sign-flip p of the gain; None for fewer than two seeds."""
    p_error: float | None
    """Its standard error; 0 where it is exact."""
    p_at_floor: bool
    """Whether the true p is at most this one."""
    measurement: str
    """Digest of the seeds and margins behind the gain. Rows that share it are one test."""
    q: float | None
    """The same, adjusted for the size of the board (Benjamini-Hochberg); None for a row without a test."""
    johnson_p: float | None
    """p of Johnson's modified t test, which allows for skewed gains."""
    skewness: float | None
    """Skewness of the gains over seeds."""
    detectable: float | None
    """The smallest gain that these seeds show with 80 % probability, at their spread; None where they can show none."""
    fraction: float | None
    """Gain / teacher shift."""
    fraction_low: float | None
    """Lower end of the fraction's interval (Fieller)."""
    fraction_high: float | None
    """Upper end of the fraction's interval."""
    gates: tuple[Gate, ...]
    """The gates that were checked."""
    notes: tuple[str, ...]
    """Sentences on precision, noise and machines."""
    format_refusals: Difference | None
    """Share of carrier rows that broke their format, trait - base: such rows are a selection, and no leak."""
    audits: dict[str, Estimate]
    """Area under the curve of the leak audit's probe, by trait arm."""
    answers: dict[str, Answers]
    """How the main arms answer, by arm."""
    gaining: Estimate | None
    """Share of questions with a gain above 0."""
    spread: Spread | None
    """Where the gains differ; None for fewer than two seeds or questions."""
    contrasts: dict[str, Difference]
    """Further comparisons by their name in `bench.config.arms.CONTRASTS`."""
    mitigations: dict[str, MitigationEffect] = Field(default={})
    """The effects of the mitigation arms; left out of files where there is none."""
    dose: dict[int, Difference]
    """Gains during training, by student updates."""
    epochs: dict[int, int] = Field(default_factory=dict)
    """The epochs of a dose in epochs, by student updates."""
    dose_slope: Difference | None
    """Gain per doubling of the updates; None without a dose."""
    groups: dict[str, Difference]
    """Gains by group of questions, where there are several."""
    metrics: dict[str, MetricScores]
    """Scores of free answers by metric."""
    matrix: TraitMatrix | None
    """The trait x probe matrix of a recipe with several traits."""
    selection: dict[str, Selection] = Field(default_factory=dict)
    """What the draw of rows kept and changed, by arm; empty for carriers that draw no rows, and then left out."""
    commit: str | None
    """The commits of the code that made the results, joined by `+`."""
    outcome: Outcome = "margin"
    """The registered outcome. `margin`: in nats. `rate`: in points, hundredths of the sampled answers."""
    rates: dict[str, ArmRates] = Field(default_factory=dict)
    """What sampled answers name, by arm; empty without sampled answers."""
    gains: dict[str, Difference] = Field(default_factory=dict)
    """The gain by measure (`bench.config.outcome.MEASURES`), each in its unit, where there are several."""
    shifts: dict[str, Estimate] = Field(default_factory=dict)
    """The shift of the teacher in the same way."""

    @model_serializer(mode="wrap")
    def _leave_out_defaults(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out fields with their default, so that a new field does not change the entries of published rows."""
        fields = type(self).model_fields
        return {
            name: value
            for name, value in serialise(self).items()
            if fields[name].is_required() or getattr(self, name) != fields[name].get_default(call_default_factory=True)
        }

    @property
    def label(self) -> str:
        """The recipe with what differs from it: `tiny_pair  lr 5e-4`. No other row of the board has the same label."""
        label = label_row(self.recipe, self.changes)
        return f"{label}  {self.recipe_hash}" if self.twin else label

    @property
    def is_leak(self) -> bool:
        """Whether the students saw the log-probabilities of the teacher's whole vocabulary."""
        return self.visibility == "logits-full"

    @property
    def seeds_text(self) -> str:
        """`10`, or `3 of 10` while seeds are missing; `10 students` of one data set."""
        number = str(self.seeds) if self.seeds == self.seeds_registered else f"{self.seeds} of {self.seeds_registered}"
        return number if self.repeat == "seeds" else f"{number} students"

    @property
    def unit(self) -> str:
        """The unit of the outcome and of the gain."""
        return UNITS[self.outcome]

    def levels(self) -> dict[str, float | None]:
        """Mean outcomes of the main arms."""
        return dict(zip(MAIN_ARMS, (self.untrained, self.base, self.trait_arm), strict=True))

    def gain_estimate(self) -> Difference | None:
        """The gain with its interval; None before the first seed."""
        if self.gain is None:
            return None
        return Difference(
            seeds=self.seeds,
            mean=self.gain,
            ci_low=self.ci_low,
            ci_high=self.ci_high,
            p=self.p,
            p_error=self.p_error,
            p_at_floor=self.p_at_floor,
        )
