"""The manifest of a result file: how a model was made and evaluated."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveInt

__all__ = ["CarrierReport", "ControlsReport", "FilePart", "Manifest", "SelectionReport", "TrainingReport"]


class FilePart(BaseModel):
    """A part of a result file: frozen, strict, and with unknown keys ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, allow_inf_nan=False)


class RowMeans(FilePart):
    """Means over some rows of one arm."""

    length: NonNegativeFloat
    """Characters of a row."""
    count: NonNegativeFloat
    """Numbers of a row, or words of a text."""
    value: NonNegativeFloat | None
    """The mean of a row's numbers within the carrier's range; None for texts, and where no row has one."""


class SelectionReport(FilePart):
    """The rows that one arm keeps, and what the draw from the rows that all arms keep changed."""

    kept: NonNegativeInt
    """Rows that this arm keeps."""
    all: RowMeans
    """Means over all rows of this arm."""
    drawn: RowMeans
    """Means over the rows that were drawn."""


class CarrierReport(FilePart):
    """The counts of the rows that the teachers of one seed wrote."""

    rows: PositiveInt
    """Rows that each teacher wrote."""
    train: NonNegativeInt
    """Rows that the students were trained on."""
    held_out: NonNegativeInt
    """Rows that no student was trained on."""
    identical_rows: NonNegativeInt
    """Kept rows that are equal in all arms."""
    numbers: PositiveInt | None = None
    """How many numbers the teacher could write; None for a text carrier."""
    refused: dict[str, dict[str, NonNegativeInt]]
    """Rows refused for a leak, by arm and reason. A row refused in one arm is refused in all."""
    format_refused: dict[str, dict[str, NonNegativeInt]]
    """Rows refused because they break the format, by arm and reason."""
    selection: dict[str, SelectionReport] | None = None
    """The rows kept and drawn, by arm; None for a carrier that draws no rows."""

    def leak_share(self) -> float:
        """Return the share of rows refused for a leak, in the worst arm.

        Where rows are drawn, it is a share of those with the carrier's format: no others could be drawn.
        """
        shares = []
        for arm, reasons in self.refused.items():
            broken = sum(self.format_refused.get(arm, {}).values()) if self.selection is not None else 0
            shares.append(sum(reasons.values()) / max(1, self.rows - broken))
        return max(shares)


class ControlsReport(FilePart):
    """How the controls of the installation came out."""

    failed: tuple[str, ...]
    """Names of the controls without the expected verdict."""


class TrainingReport(FilePart):
    """One training. The arms of a seed must agree in most of it; None where the training does not state a fact."""

    rows: PositiveInt
    """Rows that were trained on."""
    updates: NonNegativeInt
    """Optimiser steps."""
    effective_batch: PositiveInt
    """Rows per update."""
    micro_batch: PositiveInt
    """Rows per forward pass."""
    precision: str
    """The dtype of the trained weights."""
    labelled_tokens: NonNegativeInt
    """Tokens with a loss, over all rows."""
    equal_lengths: bool | None = None
    """Whether completions have the same length in every arm of the seed."""
    shared_dropout: bool | None = None
    """Whether the arms of the seed share the noise of dropout."""


class Manifest(FilePart):
    """How a model was made and evaluated."""

    commits: Annotated[tuple[str, ...], Field(min_length=1)]
    """Commits of the code that made it and all that it was made from."""
    versions: dict[str, str]
    """Versions of the libraries, by name; several versions of one are separated by commas."""
    checkpoints: dict[str, dict[str, str]]
    """The checkpoints of `teacher` and `student`: name, revision, checksum."""
    hardware: str
    """The processor or accelerator of the evaluation."""
    processor_features: tuple[str, ...]
    """The processor's features that decide its arithmetic."""
    threads: PositiveInt
    """CPU threads of the evaluation."""
    format: dict[str, str]
    """The prompt format: see `bench.models.chat_format.PromptFormat.describe`."""
    logprobs_dtype: str
    """The precision in which `Reading.logprobs` were computed."""
    training: TrainingReport | None
    """The training of the model; None for a checkpoint as shipped."""
    carrier: CarrierReport
    """The carrier rows of the seed; equal in all arms."""
    artefacts: dict[str, str | None]
    """Keys of the artefacts: `asked` (the evaluation) and `trained` (the model)."""
    controls: Literal["self"] | ControlsReport | None
    """The controls of the installation; `self` for a control, None where they were skipped."""
