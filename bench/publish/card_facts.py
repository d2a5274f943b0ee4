"""The facts that the cards of models and data sets state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from bench.analysis.entry import LeaderboardEntry
from bench.publish.licence import BaseCheckpoint

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

__all__ = ["ModelFacts", "RunFacts"]


class RunFacts(NamedTuple):
    """The facts about one row of the leaderboard that its cards state."""

    question: str
    """The question of the recipe."""
    command: str
    """The command that makes the run."""
    entry: LeaderboardEntry
    """The entry of the row."""
    carrier: Mapping[str, Any]
    """The carrier settings of the recipe."""
    filter_reports: Mapping[int, Mapping[str, Any]]
    """The report of the leak filter by seed."""
    versions: Mapping[str, str]
    """Versions of the libraries by name."""


class ModelFacts(NamedTuple):
    """The facts about one trained model that its card states."""

    arm: str
    """Its arm."""
    seed: int
    """Its seed."""
    form: Literal["adapter", "merged", "whole"]
    """Whether the folder holds an adapter, a merged adapter or a full fine-tune."""
    base: BaseCheckpoint
    """The checkpoint before training."""
    settings: Mapping[str, Any]
    """Its dtype and the arguments of TRL, PEFT and bitsandbytes."""
    report: Mapping[str, Any]
    """The report of the training."""
    margin: float
    """Its mean margin in nats."""
    format: str
    """The prompt format: `plain` or `chat`."""
    chat_template_kwargs: Mapping[str, Any]
    """Further variables of the chat template."""
    artefact: str
    """The artefact key."""
    commit: str
    """The commit of the code that trained it."""
    note: str
    """The effect of merging; empty for a model that is not merged."""
    results: Sequence[EvalResult]
    """Its evaluation results."""
