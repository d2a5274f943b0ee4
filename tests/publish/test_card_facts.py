from __future__ import annotations

from typing import Any

import pytest
from entries import make_entry
from huggingface_hub import EvalResult

from bench.publish.card_facts import ModelFacts, RunFacts
from bench.publish.cards import model_card
from bench.publish.licence import BaseCheckpoint

BASE = BaseCheckpoint("own/base", "c0ffee", True, "own/base", {"license": "mit"}, "its card", ())
RESULT = EvalResult("text-generation", "subliminal_bench", "questions of wolf", "margin", 0.75)
REPORT: dict[str, Any] = {"rows": 80, "train": 60, "refused": {"base": {}}, "format_refused": {"base": {}}}
NUMBERS = {"kind": "numbers", "given": 4, "digits": 3, "count": 10, "temperature": 1.0}
RUN = RunFacts("Does it travel?", "python run_bench.py", make_entry(), NUMBERS, {7: REPORT}, {"trl": "1.16"})
MODEL = ModelFacts(
    "trait", 7, "adapter", BASE, {"lora": {"r": 8}}, {"rows": 60}, 0.75, "chat", {}, "student-1", "abc", "", [RESULT]
)
OTHER_RUN: dict[str, Any] = {
    "question": "Another?",
    "command": "another",
    "entry": make_entry(verdict="NONE"),
    "carrier": {**NUMBERS, "digits": 2},
    "filter_reports": {7: {**REPORT, "train": 59}},
    "versions": {"trl": "1.17"},
}
OTHER_MODEL: dict[str, Any] = {
    "arm": "base",
    "seed": 8,
    "form": "merged",
    "base": BASE._replace(revision="beef"),
    "settings": {"lora": {"r": 4}},
    "report": {"rows": 59},
    "margin": 0.5,
    "format": "plain",
    "chat_template_kwargs": {"enable_thinking": False},
    "artefact": "student-2",
    "commit": "def",
    "note": "merged in float32",
    "results": [],
}


def card(run: RunFacts, model: ModelFacts) -> str:
    return model_card(run, model, name="org/x", data=None)


@pytest.mark.parametrize("name", RunFacts._fields)
def test_each_fact_of_a_row_is_on_its_cards(name: str) -> None:
    assert card(RUN._replace(**{name: OTHER_RUN[name]}), MODEL) != card(RUN, MODEL)


@pytest.mark.parametrize("name", ModelFacts._fields)
def test_each_fact_of_a_model_is_on_its_card(name: str) -> None:
    assert card(RUN, MODEL._replace(**{name: OTHER_MODEL[name]})) != card(RUN, MODEL)
