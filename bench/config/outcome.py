"""The keys of the evaluation: free answers, and how they are sampled, matched and scored."""

from __future__ import annotations

from pydantic import Field

from bench.config.carrier_settings import Sampling
from bench.config.schema import StrictModel

__all__ = ["METRICS", "Evaluation"]

METRICS = ("bleu", "rouge_l", "jaccard", "tfidf", "exact", "contains", "chrf")  # implemented in this repository


class Evaluation(StrictModel):
    """How models are evaluated on the ground-truth questions."""

    samples: int = Field(default=0, ge=0, le=1000)
    """Free answers to each question, in addition to the log-probabilities of the candidates."""
    metrics: tuple[str, ...] = METRICS
    """Metrics of the free answers: names of `METRICS`, or of the `evaluate` library."""
    sample: Sampling = Sampling(max_new_tokens=16)
    """How free answers are sampled."""
    bf16: bool = False
    """Whether models write free answers in bfloat16, for speed; see `Model.writing`."""
    batch_size: int = Field(default=64, ge=1, le=65_536)
    """Questions evaluated together; halved on a GPU while memory runs out."""
