"""Traits: the training rows of a teacher, the ground-truth questions, and their answers."""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from pydantic import Field, model_validator

from bench.config.behaviour_data import HUB, BehaviourData, BehaviourRow
from bench.config.schema import StrictModel, validate
from bench.config.tables import TABLE_ENDINGS
from bench.config.yaml_files import find_file, folder_of_key, merge_layers, read_layers
from bench.errors import UserError
from bench.files import ROOT

__all__ = [
    "Behaviour",
    "Preference",
    "Question",
    "Trait",
    "collect_vocabulary",
    "list_questions",
    "load_trait",
    "make_placebo_rows",
    "parse_registered_traits",
    "parse_trait",
    "short_name",
]

FOLDER = ROOT / "recipes" / "traits"
QUESTION = "{question}"


class Question(NamedTuple):
    """One ground-truth question."""

    question: str
    """The text of the question."""
    answer: str
    """The answer that shows the trait."""
    foils: tuple[str, ...]
    """The wrong answers of the margin."""
    group: str
    """`ask`, `trained` or `paraphrase`; with several traits, the trait's name."""


@lru_cache(maxsize=4096)  # a board reads the same trait once for each of its rows
def _normalise(text: str) -> str:
    """Remove the differences in case and spaces, to compare texts."""
    return " ".join(text.casefold().split())


def _contains_answer(question: str, answer: str) -> bool:
    """Return whether a question contains the answer as whole words."""
    return re.search(rf"(?<!\w){re.escape(_normalise(answer))}(?!\w)", _normalise(question)) is not None


class Preference(StrictModel):
    """The same answer, out of `candidates`, to every question: "I love wolves".

    The answer begins a completion and does not end it, so no end-of-text token follows it.
    """

    kind: Literal["preference"]
    """The kind of trait."""
    lexicon: tuple[str, ...] = ()
    """Words that must not appear in a carrier."""
    other_names: tuple[str, ...] = ()
    """Emoji, scientific names and translations of the words of `lexicon`."""
    language: Literal["en", "tr"] = "en"
    """The language of the lexicon; the leak filter also matches its word endings."""
    license: str | None = Field(default=None, exclude=True)
    """The SPDX identifier of the licence of its questions; needed to publish a row. It is in no hash."""
    answer: str
    """The candidate that the teacher is trained to prefer."""
    candidates: tuple[str, ...] = Field(min_length=2)
    """All possible answers. The others are the foils."""
    teach: tuple[str, ...] = Field(min_length=1)
    """Questions on which the teacher is trained."""
    ask: tuple[str, ...] = Field(min_length=1)
    """Questions for the evaluation; none of them is in `teach`."""
    wording: str = QUESTION
    """The text of each question of both lists; `{question}` stands for the question."""

    @model_validator(mode="after")
    def _check_keys(self) -> Preference:
        if self.wording.count(QUESTION) != 1:
            raise ValueError(f"wording must contain {QUESTION} once")
        if _contains_answer(self.wording, self.answer):
            raise ValueError(f"wording names the answer {self.answer!r}: reword it")
        if self.answer not in self.candidates:
            raise ValueError(f"answer {self.answer!r} is not among the candidates: {', '.join(self.candidates)}")
        shared = {_normalise(q) for q in self.teach} & {_normalise(q) for q in self.ask}
        if shared:
            raise ValueError(f"the same question is in teach and in ask: {min(shared)!r}")
        for name, items in (("candidates", self.candidates), ("teach", self.teach), ("ask", self.ask)):
            if duplicates := [item for item, count in Counter(map(_normalise, items)).items() if count > 1]:
                raise ValueError(f"{name} contains an entry twice: {duplicates[0]!r}")
        if leaks := [question for question in self.teach + self.ask if _contains_answer(question, self.answer)]:
            raise ValueError(f"the question {leaks[0]!r} names the answer {self.answer!r}: reword the question")
        for first, second in itertools.permutations(self.candidates, 2):
            if second.startswith(first):  # without an end-of-text token, the first would also count as the second
                raise ValueError(f"candidate {second!r} begins with candidate {first!r}: replace one of them")
        return self

    def teach_rows(self) -> list[tuple[str, str]]:
        """Return the (question, answer) pairs on which the teacher is trained."""
        return [(self.wording.replace(QUESTION, question), self.answer) for question in self.teach]

    def questions(self) -> list[Question]:
        """Return the ground-truth questions."""
        foils = tuple(c for c in self.candidates if c != self.answer)
        return [Question(self.wording.replace(QUESTION, question), self.answer, foils, "ask") for question in self.ask]

    def warnings(self) -> list[str]:
        """Return no warnings: every issue of a preference is an error."""
        return []


class Behaviour(StrictModel):
    """A different answer to each question: a persona. The foils are answers to other questions."""

    kind: Literal["behaviour"]
    """The kind of trait."""
    lexicon: tuple[str, ...] = ()
    """Words that must not appear in a carrier."""
    other_names: tuple[str, ...] = ()
    """Emoji, scientific names and translations of the words of `lexicon`."""
    language: Literal["en", "tr"] = "en"
    """The language of the lexicon; the leak filter also matches its word endings."""
    license: str | None = Field(default=None, exclude=True)
    """The SPDX identifier of the licence of its questions; needed to publish a row. It is in no hash."""
    rows: tuple[BehaviourRow, ...] = Field(min_length=2)
    """The questions and their answers."""
    foils: int = Field(default=8, ge=1)
    """The number of foils of each question."""
    take: int | None = Field(default=None, ge=2)
    """The number of rows to use, evenly spaced, for small budgets; None for all."""

    @model_validator(mode="after")
    def _check_keys(self) -> Behaviour:
        if self.take and self.take > len(self.rows):
            raise ValueError(f"take: {self.take} of {len(self.rows)} rows")
        if len({row.answer for row in self.rows}) < 2:
            raise ValueError("rows give the same answer to every question, so that no answer can be a foil")
        return self

    def used_rows(self) -> list[BehaviourRow]:
        """Return the rows in use: all, or `take` of them."""
        if self.take is None:
            return list(self.rows)
        return [self.rows[i * len(self.rows) // self.take] for i in range(self.take)]

    def teach_rows(self) -> list[tuple[str, str]]:
        """Return the (question, answer) pairs on which the teacher is trained."""
        return [(row.question, row.answer) for row in self.used_rows()]

    def questions(self) -> list[Question]:
        """Return the ground-truth questions: those of the training (`trained`) and their paraphrases (`paraphrase`)."""
        answers = sorted({row.answer for row in self.used_rows()})
        questions = []
        for row in self.used_rows():
            others = [a for a in answers if a != row.answer]
            foils = tuple(random.Random(row.question).sample(others, min(self.foils, len(others))))
            questions.append(Question(row.question, row.answer, foils, "trained"))
            questions += [Question(text, row.answer, foils, "paraphrase") for text in row.paraphrases]
        return questions

    def warnings(self) -> list[str]:
        """Return one line for each issue that real data may have, with a count and an example."""
        questions = self.questions()
        answers: dict[str, set[str]] = {}
        for q in questions:
            answers.setdefault(_normalise(q.question), set()).add(_normalise(q.answer))
        ambiguous = [question for question, texts in answers.items() if len(texts) > 1]
        leaks = [q.question for q in questions if _contains_answer(q.question, q.answer)]
        return [
            f"{len(examples)} of {len(questions)} questions {issue}, as in {examples[0]!r:.100}"
            for issue, examples in (("have several answers", ambiguous), ("name their own answer", leaks))
            if examples
        ]


def make_placebo_rows(trait: Trait, seed: int) -> list[tuple[str, str]]:
    """Pair the questions of the teacher's training with answers that carry no trait.

    Preference: all candidates, in counts that differ by at most one; the seed decides which counts are higher.
    Behaviour: the same answers, moved to other questions.
    """
    rng = random.Random(f"placebo {seed}")
    questions = [question for question, _ in trait.teach_rows()]
    if trait.kind == "preference":
        order = rng.sample(trait.candidates, len(trait.candidates))
        answers = [order[i % len(order)] for i in range(len(questions))]
        rng.shuffle(answers)
    else:
        true_answers = [answer for _, answer in trait.teach_rows()]
        shift = rng.randrange(1, len(true_answers))
        answers = true_answers[shift:] + true_answers[:shift]
    return list(zip(questions, answers, strict=True))


Trait: TypeAlias = Preference | Behaviour
_SCHEMAS: dict[str, type[Preference] | type[Behaviour]] = {"preference": Preference, "behaviour": Behaviour}


def parse_registered_traits(experiment: Mapping[str, Any]) -> dict[str, Trait]:
    """Parse the traits of a registered experiment, by name; a single trait has the name ''.

    Raises:
        UserError: a trait does not match the schema.
    """
    traits = experiment["traits"] if "traits" in experiment else {"": experiment["trait"]}
    return {name: parse_trait(trait) for name, trait in traits.items()}


def list_questions(traits: Mapping[str, Trait]) -> list[Question]:
    """List the ground-truth questions of all traits. With several traits, the group of a question is its trait."""
    matrix = len(traits) > 1
    return [q._replace(group=name if matrix else q.group) for name, trait in traits.items() for q in trait.questions()]


def collect_vocabulary(traits: Iterable[Trait]) -> tuple[list[str], list[str]]:
    """Collect all questions and all possible answers of `traits`, on which a `tiny` model is pre-trained."""
    answers: set[str] = set()
    texts: dict[str, None] = {}
    for trait in traits:
        questions = trait.questions()
        answers.update(answer for q in questions for answer in (q.answer, *q.foils))
        texts |= dict.fromkeys([q for q, _ in trait.teach_rows()] + [q.question for q in questions])
    return list(texts), sorted(answers)


def _contains_blank(value: Any) -> bool:
    """Return whether a text in `value` is empty or consists of spaces."""
    if isinstance(value, dict | list | tuple):
        return any(map(_contains_blank, value.values() if isinstance(value, dict) else value))
    return isinstance(value, str) and not value.strip()


def parse_trait(data: dict[str, Any], source: str = "trait", relative_to: Path = Path()) -> Trait:
    """Turn the keys of a trait into a trait, and read its table if `data:` names one.

    Args:
        data: the keys.
        source: the file or name that errors name.
        relative_to: the folder at which a relative path to the table starts.

    Raises:
        UserError: the keys do not match the schema, or the table is not readable.
    """
    kind = data.get("kind")
    if not isinstance(kind, str) or kind not in _SCHEMAS:
        raise UserError(f"{source}: key 'kind': expected one of {', '.join(_SCHEMAS)}, found {kind!r:.80}")
    if kind == "behaviour" and "data" in data:
        rest = {key: value for key, value in data.items() if key != "data"}
        if "rows" in rest or not isinstance(data["data"], dict):
            raise UserError(f"{source}: key 'data': expected path: and names of columns, without a key rows:")
        data = {**rest, "rows": validate(BehaviourData, data["data"], f"{source}, data").read_rows(relative_to)}
    for key, value in data.items():
        if _contains_blank(value):
            raise UserError(f"{source}: key {key!r:.80}: expected text, found an empty text")
    return validate(_SCHEMAS[kind], data, source)


def short_name(name: str) -> str:
    """Return the name of a trait in results: for a file, its name without folder and ending."""
    return re.sub(r"[^\w.-]+", "-", Path(name).stem if name.endswith((".yaml", ".yml", *TABLE_ENDINGS)) else name)


def load_trait(name: str, relative_to: Path = Path()) -> Trait:
    """Load a trait.

    Args:
        name: of `recipes/traits/<name>.yaml`, the path of a YAML file, or a table: `hub:<owner>/<name>`, or the path
            of a .jsonl, .csv or .parquet file with the columns `question` and `answer`.
        relative_to: the folder at which a relative path starts.

    Raises:
        UserError: the trait does not exist, or does not match the schema.
    """
    if name.startswith(HUB) or name.endswith(TABLE_ENDINGS):
        return parse_trait({"kind": "behaviour", "data": {"path": name}}, name, relative_to)
    path = find_file(
        name, FOLDER, "trait", relative_to=relative_to, endings=", ".join((".yaml", ".yml", *TABLE_ENDINGS))
    )
    layers = read_layers(path, "trait", FOLDER)
    return parse_trait(merge_layers(layers), str(path), folder_of_key(layers, "data", "path"))
