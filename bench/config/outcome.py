"""The keys of the outcome: margin or rate, and how free answers are sampled, matched and scored."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

from pydantic import Field, field_validator, model_validator

from bench.config.carrier_settings import Sampling
from bench.config.schema import StrictModel
from bench.errors import UserError

__all__ = [
    "MEASURES",
    "METRICS",
    "METRIC_NAMES",
    "UNITS",
    "Evaluation",
    "Outcome",
    "name_metric",
    "prefix_questions",
    "refuse_rate",
]

METRICS = ("bleu", "rouge_l", "jaccard", "tfidf", "exact", "contains", "chrf")  # implemented in this repository
METRIC_NAMES = {
    "bleu": "BLEU", "rouge_l": "ROUGE-L", "jaccard": "Jaccard", "tfidf": "TF-IDF", "exact": "exact match",
    "contains": "contains the answer", "chrf": "chrF", "bertscore": "BERTScore", "bleurt": "BLEURT", "cer": "CER",
    "comet": "COMET", "exact_match": "exact match (evaluate)", "google_bleu": "Google BLEU", "meteor": "METEOR",
    "nist_mt": "NIST", "sacrebleu": "SacreBLEU", "ter": "TER", "wer": "WER",
}  # fmt: skip
"""How people write the names of metrics; a name that is not here is shown as it is."""
Outcome = Literal["margin", "rate"]
UNITS: dict[Outcome, str] = {"margin": "nats", "rate": "points"}
"""The unit of an outcome and of its gain. A point is a hundredth of the sampled answers."""
MEASURES: dict[str, Outcome] = {
    "margin": "margin",
    "rate": "rate",
    "margin, prefixed": "margin",
    "rate, prefixed": "rate",
}
"""The measures that a row may have, with the outcome that states their unit; `prefixed` after `evaluate.prefix`."""
NUMBERS = "{numbers}"


class Evaluation(StrictModel):
    """How models are evaluated on the ground-truth questions."""

    samples: int = Field(default=0, ge=0, le=1000)
    """Free answers to each question, in addition to the log-probabilities of the candidates."""
    match: Literal["word", "substring"] = "word"
    """How a free answer names a candidate: see `bench.stages.name_matcher`."""
    synonyms: tuple[str, ...] = ()
    """Further names of the trait's answer."""
    prefix: str | None = Field(default=None, min_length=1, max_length=1000)
    """A text before each question, for a second set of readings; `{numbers}` stands for three numbers."""
    metrics: tuple[str, ...] = METRICS
    """Metrics of the free answers: names of `METRICS`, or of the `evaluate` library."""
    sample: Sampling = Sampling(max_new_tokens=16)
    """How free answers are sampled."""
    bf16: bool = False
    """Whether students write free answers in bfloat16, for speed; see `Model.writing`. Teachers answer as they write
    their carrier."""
    batch_size: int = Field(default=64, ge=1, le=65_536)
    """Questions evaluated together; halved on a GPU while memory runs out."""

    @field_validator("prefix")
    @classmethod
    def _check_prefix(cls, prefix: str | None) -> str | None:
        if prefix is not None and prefix.count(NUMBERS) > 1:
            raise ValueError("expected {numbers} at most once")
        return prefix

    @field_validator("synonyms")
    @classmethod
    def _check_synonyms(cls, synonyms: tuple[str, ...]) -> tuple[str, ...]:
        if not all(name.strip() for name in synonyms):
            raise ValueError("expected names, one of them is empty")
        return synonyms

    @model_validator(mode="after")
    def _check_samples(self) -> Evaluation:
        names = Evaluation.model_fields
        if not self.samples and (unread := [n for n in ("match", "synonyms") if getattr(self, n) != names[n].default]):
            raise ValueError(f"{' and '.join(unread)}: read by sampled answers alone; add samples, or take them out")
        return self


def name_metric(metric: str) -> str:
    """Return the name of a metric as people write it: ROUGE-L for `rouge_l`."""
    return METRIC_NAMES.get(metric, metric)


def refuse_rate(outcome: Outcome, evaluation: Evaluation, source: str) -> None:
    """Refuse the keys of a rate for a trait without candidates.

    Raises:
        UserError: names `source` and the key.
    """
    key = "outcome" if outcome == "rate" else "evaluate.synonyms" if evaluation.synonyms else None
    if key:
        raise UserError(
            f"{source}: key {key!r}: a rate counts sampled answers that name a candidate, and the answers of a "
            "behaviour are whole texts; expected outcome: margin without synonyms, or a trait of kind preference"
        )


def prefix_questions(prefix: str | None, questions: Sequence[str]) -> tuple[str, ...]:
    """Put a prefix and a space before each question; empty without one.

    The three numbers of a question, 100 to 999, depend on its text alone.
    """
    if prefix is None:
        return ()
    texts = []
    for question in questions:
        numbers = ", ".join(str(random.Random(f"{question} {i}").randint(100, 999)) for i in range(3))
        texts.append(f"{prefix.replace(NUMBERS, numbers).rstrip()} {question}")
    return tuple(texts)
