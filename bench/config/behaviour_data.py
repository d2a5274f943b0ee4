"""The rows of a behaviour trait, and the table that contains them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from bench.config.schema import StrictModel
from bench.config.tables import read_hub, read_table
from bench.errors import UserError

__all__ = ["HUB", "BehaviourData", "BehaviourRow"]

HUB = "hub:"  # prefix of the name of a hub data set


class BehaviourRow(StrictModel):
    """One question of a behaviour."""

    question: str
    """The question on which the teacher is trained."""
    answer: str
    """Its answer."""
    paraphrases: tuple[str, ...] = ()
    """Other wordings of the question, for the evaluation."""


class BehaviourData(StrictModel):
    """A table with the rows of a behaviour."""

    path: str = Field(min_length=1)
    """`hub:<owner>/<name>`, or a .jsonl, .csv or .parquet file."""
    question: str = "question"
    """The column of questions."""
    answer: str = "answer"
    """The column of answers."""
    paraphrase: str | None = None
    """The column of paraphrases, if any."""
    split: str = "train"
    """The split of a hub data set."""
    revision: str | None = None
    """The branch, tag or commit of a hub data set."""

    def read_rows(self, relative_to: Path) -> list[dict[str, Any]]:
        """Read one behaviour row from each table row. Empty paraphrases are left out.

        Args:
            relative_to: the folder at which a relative path starts.

        Raises:
            UserError: the table is not readable, or a question or answer is empty.
        """
        columns = [self.question, self.answer, *([self.paraphrase] if self.paraphrase else [])]
        if self.path.startswith(HUB):
            table = read_hub(self.path.removeprefix(HUB), columns, split=self.split, revision=self.revision)
        else:
            table = read_table(relative_to / self.path, columns)
        rows = []
        for n, (question, answer, *others) in enumerate(table, 1):
            if not question.strip() or not answer.strip():
                raise UserError(f"{self.path}: row {n}: an empty question or answer")
            paraphrases = [text.strip() for text in others if text.strip()]
            rows.append({"question": question.strip(), "answer": answer.strip(), "paraphrases": paraphrases})
        return rows
