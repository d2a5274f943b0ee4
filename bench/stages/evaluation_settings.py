"""Settings of the stages that evaluate a model and score its answers."""

from __future__ import annotations

from bench.config.carrier_settings import Sampling
from bench.config.traits import Question
from bench.models.engine import Engine
from bench.stages.settings import Language, Loading, StageSettings

__all__ = ["Evaluate", "ScoreAnswers"]


class Evaluate(StageSettings):
    """Evaluate a model on the ground-truth questions."""

    kind = "evaluate"
    version = 12

    questions: tuple[Question, ...]
    """The questions with their answers and foils."""
    per_token: bool
    """Whether the margin is a mean over tokens. Candidates are then whole texts with an end-of-answer token."""
    samples: int
    """Free answers per question."""
    sampling: Sampling
    """How free answers are sampled."""
    batch_size: int
    """Sequences per batch."""
    model: Loading
    """The model."""
    seed: int
    """The seed of the sampler's noise."""
    end: bool
    """Whether the log-probability of a held-out row includes its end-of-answer token, as in the student's training."""
    step: int | None = None
    """The student update to evaluate; None evaluates the end of the training."""
    writes: str | None = None
    """The precision in which a teacher writes, if its `logprobs` use that precision; None for float32 if it fits."""
    answers: str = "own"
    """The precision of free answers, for a teacher that of its carrier: see `bench.models.precision.load_writer`."""
    system: str | None = None
    """The system prompt of the questions; None for the template's default."""
    held_out_system: str | None = None
    """The system prompt of held-out rows, as in the student's training."""
    prefixed: tuple[str, ...] = ()
    """The texts of the same questions after a prefix, for a second set of readings; empty for none."""
    writes_engine: Engine | None = None
    """The engine with which a teacher writes; its `logprobs` are then read by that engine."""
    answers_engine: Engine | None = None
    """The engine that writes free answers; None for this process."""


class ScoreAnswers(StageSettings):
    """Score free answers against the ground truth."""

    kind = "score_answers"
    version = 1

    truths: tuple[str, ...]
    """The true answer per question."""
    metrics: tuple[str, ...]
    """Names of metrics."""
    language: Language
    """The language of answers and truths."""
