"""The claims that a recipe registers about its verdict: outcome, level, bound, reference, minimum shift, relation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from bench.config.outcome import UNITS, Outcome
from bench.config.schema import StrictModel, clip_line
from bench.config.yaml_files import Layer

__all__ = ["Bound", "Claims", "Reference", "drop_inherited_claims", "find_differences", "keep_shared_keys"]

NOT_INHERITED = {"bound", "reference", "relation"}  # claims about one pair, so `from:` does not pass them on
SHARED_KEYS = ("outcome", "trait", "teacher", "carrier", "method", "student.train")
"""The keys that a change (`--set`) of a recipe changes in its reference too."""
EQUAL_KEYS = (*SHARED_KEYS, "student.lora", "student.dtype")
"""The keys in which a recipe and its reference must be equal, but for the modules of LoRA."""
RATE_KEYS = tuple(f"evaluate.{key}" for key in ("samples", "match", "synonyms", "sample"))
"""Further keys in which both must be equal if the outcome is a rate."""
MAX_DIFFERENCES = 3  # in one error line


class Bound(StrictModel):
    """The largest gain that counts as none, in the unit of the outcome, with the reason for it."""

    nats: float | None = Field(default=None, gt=0)
    """The bound of a margin's gain, in nats."""
    points: float | None = Field(default=None, gt=0, le=100)
    """The bound of a rate's gain, in points."""
    reason: str = Field(pattern=r"\S", max_length=1000)
    """The reason why a gain below the bound does not matter."""

    @model_validator(mode="after")
    def _expect_one_unit(self) -> Bound:
        if (self.nats is None) == (self.points is None):
            raise ValueError("expected one of the keys nats (outcome: margin) and points (outcome: rate)")
        return self

    def value(self, outcome: Outcome) -> float:
        """Return the bound in the unit of `outcome`, which `Claims` checks."""
        value = self.points if outcome == "rate" else self.nats
        assert value is not None
        return value


class Reference(StrictModel):
    """A row that shows a transfer with the same teacher, carrier and training budget."""

    recipe: str = Field(min_length=1)
    """The name of a recipe, or a YAML file."""
    share: float = Field(default=0.25, gt=0, le=0.5)
    """The bound, as a share of the lower end of the 95 % interval of the reference's gain."""


class Claims(StrictModel):
    """The keys that fix a row's verdict before it is measured."""

    outcome: Outcome = "margin"
    """The outcome on which the verdict rests: the margin in nats, or the rate of sampled answers in points."""
    level: float = Field(default=0.05, ge=1e-4, le=0.05)
    """The level of the two-sided sign-flip test. Above 36 seeds its drawn p has a floor of 1.5e-5."""
    bound: Bound | None = None
    """The bound of NONE; None for a reference, or for no bound."""
    reference: Reference | None = None
    """The row from which the bound of NONE is derived when this one is registered; None for no reference."""
    min_shift: float = Field(default=0.2, gt=0)
    """The minimum shift of each seed's teacher in nats, for the outcome margin; a smaller one makes the row INVALID."""
    min_shift_points: float = Field(default=10, gt=0, le=100)
    """The minimum shift of each seed's teacher in points, for the outcome rate; a smaller one makes the row INVALID."""
    relation: Literal["same-init", "lineage", "cross-init", "cross-architecture"] | None = None
    """The expected relation between the initial weights of student and teacher; another one makes the row INVALID."""

    @field_validator("bound", mode="before")
    @classmethod
    def _expect_keys(cls, value: Any) -> Any:
        if not isinstance(value, dict | Bound | None):
            raise ValueError("expected {nats: 0.01, reason: TEXT}, or points in place of nats for outcome: rate")
        return value

    @field_validator("reference", mode="before")
    @classmethod
    def _expect_recipe(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"recipe": value}
        if not isinstance(value, dict | Reference | None):
            raise ValueError("expected the name of a recipe, or {recipe: NAME, share: 0.25}")
        return value

    @model_validator(mode="after")
    def _check_claims(self) -> Claims:
        if self.bound and self.reference:
            raise ValueError(
                "keys 'bound' and 'reference': expected one of them, found both; "
                "take one out (--set bound=null, or --set reference=null)"
            )
        unit = UNITS[self.outcome]
        if self.bound and getattr(self.bound, unit) is None:
            raise ValueError(
                f"key 'bound': expected {{{unit}: ..., reason: ...}} for outcome: {self.outcome}; or take it out "
                "(--set bound=null)"
            )
        return self


def keep_shared_keys(change: Mapping[str, Any], outcome: Outcome) -> dict[str, Any]:
    """Return the part of a change (`--set`, `--smoke`) that a recipe of `outcome` and its reference must share."""
    keys = (*SHARED_KEYS, "evaluate") if outcome == "rate" else SHARED_KEYS
    shared = {key: change[key] for key in keys if key in change}
    student = change.get("student")
    if isinstance(student, dict) and "train" in student:
        shared["student"] = {"train": student["train"]}
    return shared


def find_differences(experiment: Mapping[str, Any], reference: Mapping[str, Any]) -> str:
    """Name the keys in which a reference must be equal and differs, with both values; empty if there are none.

    Args:
        experiment: the result of `Experiment.resolved`.
        reference: that of its reference.
    """
    lines = []
    rate = experiment["recipe"]["outcome"] == "rate"
    for key in (*EQUAL_KEYS, *(RATE_KEYS if rate else ())):
        values = [_get(data["recipe"], key) for data in (experiment, reference)]
        lines += [line for line in _differences(key, *values) if not line.startswith("student.lora.target_modules")]
    if not lines:
        for key, name in (("trait", "trait"), ("traits", "trait"), ("prompts_sha256", "carrier.prompts")):
            if experiment.get(key) != reference.get(key):
                lines.append(f"{name}: the files differ")
    more = len(lines) - MAX_DIFFERENCES
    return "; ".join(lines[:MAX_DIFFERENCES]) + (f"; and {more} more" if more > 0 else "")


def _get(data: Any, path: str) -> Any:
    for part in path.split("."):
        data = data[part]
    return data


def _differences(key: str, expected: Any, value: Any) -> list[str]:
    """Compare two values key by key; one text for each difference."""
    if isinstance(expected, dict) and isinstance(value, dict):
        keys = sorted(expected.keys() | value.keys())
        return [line for name in keys for line in _differences(f"{key}.{name}", expected.get(name), value.get(name))]
    if expected == value:
        return []
    return [f"{key}: expected {clip_line(repr(expected), 40)}, found {clip_line(repr(value), 40)}"]


def drop_inherited_claims(layers: list[Layer]) -> list[Layer]:
    """Remove the keys that recipes do not inherit from all layers but the last.

    In the last layer, `bound: null` has nothing to remove.
    """
    *inherited, last = layers
    last_keys = {key: value for key, value in last.keys.items() if key not in NOT_INHERITED or value is not None}
    return [
        *(
            Layer(folder, {key: value for key, value in keys.items() if key not in NOT_INHERITED})
            for folder, keys in inherited
        ),
        Layer(last.folder, last_keys),
    ]
