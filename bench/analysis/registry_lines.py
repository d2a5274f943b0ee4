"""The lines of a registry: the terms of a row, fixed before it is run, in a chain of hashes."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, SerializerFunctionWrapHandler, model_serializer

from bench.config.outcome import Outcome
from bench.files import sha256_of

__all__ = ["PinnedReference", "Registration", "RegistryLine"]

Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class PinnedReference(_Part):
    """The finished TRANSFER from which a row's bound was derived when the row was registered."""

    recipe: str
    """The name of the reference's recipe."""
    recipe_hash: Hash
    """The hash of the reference."""
    gain_low: FiniteFloat
    """The lower end of the 95 % interval of its gain, in the unit of the outcome."""
    share: FiniteFloat
    """The bound, as a share of `gain_low`."""

    def bound(self) -> float:
        """Return the bound in the unit of the outcome, rounded to ten digits."""
        return float(f"{self.share * self.gain_low:.10g}")


class Registration(_Part):
    """The terms of a row, fixed before it is run."""

    recipe: str
    """The name of the recipe."""
    recipe_hash: Hash
    """The hash of the experiment."""
    family: Hash
    """The hash without `seeds`, `first_seed` and `outcome`: rows of one family are looks at the same question."""
    outcome: Outcome = "margin"
    """The outcome on which the verdict rests. Lines of margins do not hold it, as those of earlier versions."""
    level: FiniteFloat
    """The level of the row's test."""
    seeds: int
    """The number of seeds."""
    first_seed: int
    """The first seed."""
    bound: FiniteFloat | None
    """The bound of NONE in the unit of the outcome; None puts NONE out of reach."""
    bound_source: str
    """The reason for the bound; without a bound, why there is none and how to get one."""
    reference: PinnedReference | None
    """The row from which the bound was derived; None where it was not."""
    commit: str
    """The commit of the code that registered the row."""

    def has_terms_of(self, other: Registration) -> bool:
        """Whether both have the same terms; the commit is none of them."""
        return self.model_copy(update={"commit": other.commit}) == other

    @model_serializer(mode="wrap")
    def _leave_out_margin(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in serialise(self).items() if (key, value) != ("outcome", "margin")}


class RegistryLine(_Part):
    """One line of a registry."""

    chain: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    """The chain, a random number."""
    number: Annotated[int, Field(ge=0)]
    """The place in the chain, from 0."""
    previous: str | None
    """The `sha256` of the line before; None for the first."""
    time: str
    """The time of the registration, in UTC."""
    entry: Registration
    """The registration."""
    sha256: str
    """The hash of the rest of the line."""

    def text(self) -> str:
        """Render the line, without a line end."""
        data = self.model_dump(mode="json")
        return json.dumps(data, sort_keys=True, ensure_ascii=False, separators=(",", ":"))

    def content_hash(self) -> str:
        """Return the hash that `sha256` must be."""
        return sha256_of(self.model_dump(mode="json", exclude={"sha256"}))
