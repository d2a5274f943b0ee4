"""Trait files: what a teacher is taught, what everyone is asked, and which answers count as the truth."""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from pydantic import Field, model_validator

from bench.config.schema import StrictModel, validate
from bench.config.tables import KINDS, read_hub, read_table
from bench.config.yaml_files import find_file, folder_of_key, merge_layers, read_layers
from bench.errors import UserError
from bench.files import ROOT

__all__ = [
    "Behaviour",
    "Preference",
    "Question",
    "Trait",
    "all_questions",
    "load_trait",
    "parse_trait",
    "placebo_rows",
    "registered_traits",
    "short_name",
    "vocabulary",
]

FOLDER = ROOT / "recipes" / "traits"
HUB = "hub:"


class Question(NamedTuple):
    """One ground-truth question. `foils` are the wrong answers its margin is measured against."""

    question: str
    answer: str
    foils: tuple[str, ...]
    group: str


def _plain(text: str) -> str:
    """`text` as it is compared with others: without regard to case and spaces."""
    return " ".join(text.casefold().split())


def _names(question: str, answer: str) -> bool:
    """Whether a question holds the answer as whole words."""
    return re.search(rf"(?<!\w){re.escape(_plain(answer))}(?!\w)", _plain(question)) is not None


class Preference(StrictModel):
    """One answer out of `candidates`, to every question: "I love wolves".

    `lexicon` are the words that must not appear in a carrier. The answer is the first word of what is taught,
    not the end of it, so no end-of-text token follows it.
    """

    kind: Literal["preference"]
    lexicon: tuple[str, ...] = ()
    language: Literal["en", "tr"] = "en"  # whose endings the words of the lexicon take
    answer: str
    candidates: tuple[str, ...] = Field(min_length=2)
    teach: tuple[str, ...] = Field(min_length=1)
    ask: tuple[str, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Preference:
        if self.answer not in self.candidates:
            raise ValueError(f"answer {self.answer!r} is not among the candidates: {', '.join(self.candidates)}")
        both = {_plain(q) for q in self.teach} & {_plain(q) for q in self.ask}
        if both:
            raise ValueError(f"the same question is in teach and in ask: {min(both)!r}")
        for name, items in (("candidates", self.candidates), ("teach", self.teach), ("ask", self.ask)):
            if twice := [item for item, times in Counter(map(_plain, items)).items() if times > 1]:
                raise ValueError(f"{name} says something twice: {twice[0]!r}")
        if naming := [question for question in self.teach + self.ask if _names(question, self.answer)]:
            raise ValueError(f"the question {naming[0]!r} names the answer {self.answer!r}: word it without")
        for first, second in itertools.permutations(self.candidates, 2):
            if second.startswith(first):  # no end-of-text token follows, so the first is counted within the second
                raise ValueError(f"candidate {second!r} begins with candidate {first!r}: replace one of them")
        return self

    def teach_rows(self) -> list[tuple[str, str]]:
        """(question, answer) pairs the teacher is trained on."""
        return [(question, self.answer) for question in self.teach]

    def questions(self) -> list[Question]:
        """What is asked of everyone."""
        foils = tuple(c for c in self.candidates if c != self.answer)
        return [Question(question, self.answer, foils, "ask") for question in self.ask]

    def warnings(self) -> list[str]:
        """None: what is odd in a preference is an error."""
        return []


class BehaviourRow(StrictModel):
    question: str
    answer: str
    paraphrases: tuple[str, ...] = ()


class BehaviourData(StrictModel):
    """Where the rows of a behaviour trait come from, if they are not written out in its file."""

    path: str = Field(min_length=1)  # hub:<owner>/<name>, or a .jsonl, .csv or .parquet file
    question: str = "question"
    answer: str = "answer"
    paraphrase: str | None = None
    split: str = "train"
    revision: str | None = None

    def rows(self, base: Path) -> list[dict[str, Any]]:
        """One behaviour row a table row; blank cells are left out of paraphrases and refused elsewhere.

        Args:
            base: where a relative path starts.
        """
        columns = [self.question, self.answer, *([self.paraphrase] if self.paraphrase else [])]
        if self.path.startswith(HUB):
            table = read_hub(self.path.removeprefix(HUB), columns, split=self.split, revision=self.revision)
        else:
            table = read_table(base / self.path, columns)
        out = []
        for n, (question, answer, *more) in enumerate(table, 1):
            if not question.strip() or not answer.strip():
                raise UserError(f"{self.path}: row {n}: an empty question or answer")
            paraphrases = [text.strip() for text in more if text.strip()]
            out.append({"question": question.strip(), "answer": answer.strip(), "paraphrases": paraphrases})
        return out


class Behaviour(StrictModel):
    """A ground-truth answer of its own to each question: a persona. Foils are answers to `foils` other questions."""

    kind: Literal["behaviour"]
    lexicon: tuple[str, ...] = ()
    language: Literal["en", "tr"] = "en"
    rows: tuple[BehaviourRow, ...] = Field(min_length=2)
    foils: int = Field(default=8, ge=1)
    take: int | None = Field(default=None, ge=2)  # so many of the rows, evenly spread: for small budgets

    @model_validator(mode="after")
    def _enough(self) -> Behaviour:
        if self.take and self.take > len(self.rows):
            raise ValueError(f"take: {self.take} of {len(self.rows)} rows")
        return self

    def taken(self) -> list[BehaviourRow]:
        """The rows in use: all, or `take` of them."""
        if self.take is None:
            return list(self.rows)
        return [self.rows[i * len(self.rows) // self.take] for i in range(self.take)]

    @model_validator(mode="after")
    def _told_apart(self) -> Behaviour:
        if len({row.answer for row in self.rows}) < 2:
            raise ValueError("rows give the same answer to every question: there is nothing to hold it against")
        return self

    def teach_rows(self) -> list[tuple[str, str]]:
        """(question, answer) pairs the teacher is trained on."""
        return [(row.question, row.answer) for row in self.taken()]

    def questions(self) -> list[Question]:
        """What is asked of everyone: each question as taught (`trained`) and its paraphrases (`paraphrase`)."""
        answers = sorted({row.answer for row in self.taken()})
        out = []
        for row in self.taken():
            others = [a for a in answers if a != row.answer]
            foils = tuple(random.Random(row.question).sample(others, min(self.foils, len(others))))
            out.append(Question(row.question, row.answer, foils, "trained"))
            out += [Question(text, row.answer, foils, "paraphrase") for text in row.paraphrases]
        return out

    def warnings(self) -> list[str]:
        """What is odd and may yet be meant, counted, with an example: real data has questions of this kind."""
        questions = self.questions()
        answers: dict[str, set[str]] = {}
        for q in questions:
            answers.setdefault(_plain(q.question), set()).add(_plain(q.answer))
        several = [question for question, given in answers.items() if len(given) > 1]
        naming = [q.question for q in questions if _names(q.question, q.answer)]
        return [
            f"{len(odd)} of {len(questions)} questions {fault}, as in {odd[0]!r:.100}"
            for fault, odd in (("have several answers", several), ("name their own answer", naming))
            if odd
        ]


def placebo_rows(trait: Trait, seed: int) -> list[tuple[str, str]]:
    """The trait's `teach` questions with answers that carry no trait.

    Preference: the candidates, as evenly as the number of questions allows; which of them come once oftener is a
    matter of the seed. Behaviour: the answers, moved to other questions.
    """
    rng = random.Random(f"placebo {seed}")
    questions = [question for question, _ in trait.teach_rows()]
    if trait.kind == "preference":
        order = rng.sample(trait.candidates, len(trait.candidates))
        answers = [order[i % len(order)] for i in range(len(questions))]
        rng.shuffle(answers)
    else:
        given = [answer for _, answer in trait.teach_rows()]
        shift = rng.randrange(1, len(given))
        answers = given[shift:] + given[:shift]
    return list(zip(questions, answers, strict=True))


Trait: TypeAlias = Preference | Behaviour
_KINDS: dict[str, type[Preference] | type[Behaviour]] = {"preference": Preference, "behaviour": Behaviour}


def registered_traits(experiment: Mapping[str, Any]) -> dict[str, Trait]:
    """The traits of a registered experiment by name; the only one of an experiment without a matrix is called ''.

    Raises:
        UserError: one breaks the schema.
    """
    named = experiment["traits"] if "traits" in experiment else {"": experiment["trait"]}
    return {name: parse_trait(trait) for name, trait in named.items()}


def all_questions(traits: Mapping[str, Trait]) -> list[Question]:
    """What everyone is asked about some traits: of one in its own groups (trained, paraphrase), of several by trait."""
    several = len(traits) > 1
    return [q._replace(group=name if several else q.group) for name, trait in traits.items() for q in trait.questions()]


def vocabulary(traits: Iterable[Trait]) -> tuple[list[str], list[str]]:
    """All questions and all possible answers of `traits`: what a `tiny` model has read about, evenly."""
    answers: set[str] = set()
    asked: dict[str, None] = {}
    for trait in traits:
        questions = trait.questions()
        answers.update(answer for q in questions for answer in (q.answer, *q.foils))
        asked |= dict.fromkeys([q for q, _ in trait.teach_rows()] + [q.question for q in questions])
    return list(asked), sorted(answers)


def _blank(held: Any) -> bool:
    if isinstance(held, dict | list | tuple):
        return any(map(_blank, held.values() if isinstance(held, dict) else held))
    return isinstance(held, str) and not held.strip()


def parse_trait(data: dict[str, Any], source: str = "trait", base: Path = Path()) -> Trait:
    """A trait from its keys.

    Args:
        base: where a relative path to its data starts.

    Raises:
        UserError: it breaks the schema.
    """
    kind = data.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise UserError(f"{source}: key 'kind': expected one of {', '.join(_KINDS)}, found {kind!r:.80}")
    if kind == "behaviour" and "data" in data:
        rest = {key: value for key, value in data.items() if key != "data"}
        if "rows" in rest or not isinstance(data["data"], dict):
            raise UserError(f"{source}: key 'data': expected path: and names of columns, and no rows: beside it")
        data = {**rest, "rows": validate(BehaviourData, data["data"], f"{source}, data").rows(base)}
    for key, held in data.items():
        if _blank(held):
            raise UserError(f"{source}: key {key!r:.80}: holds a text without a letter or sign")
    return validate(_KINDS[kind], data, source)


def short_name(name: str) -> str:
    """What results call a trait: its name, or that of its file without folder and ending."""
    return re.sub(r"[^\w.-]+", "-", Path(name).stem if name.endswith((".yaml", ".yml", *KINDS)) else name)


def load_trait(name: str, base: Path = Path()) -> Trait:
    """The trait called `name` in `recipes/traits/`, in the YAML file at the path `name`, or in a table.

    A table (`hub:<owner>/<name>`, or a path that ends in .jsonl, .csv or .parquet) has the columns `question` and
    `answer`; a trait file of `kind: behaviour` with `data:` says more about one.

    Args:
        base: where a relative path starts.

    Raises:
        UserError: it does not exist, or breaks the schema.
    """
    if name.startswith(HUB) or name.endswith(KINDS):
        return parse_trait({"kind": "behaviour", "data": {"path": name}}, name, base)
    path = find_file(name, FOLDER, "trait", relative_to=base, endings=", ".join((".yaml", ".yml", *KINDS)))
    parts = read_layers(path, "trait", FOLDER)
    return parse_trait(merge_layers(parts), str(path), folder_of_key(parts, "data", "path"))
