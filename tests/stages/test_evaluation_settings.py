from __future__ import annotations

from bench.stages.evaluation_settings import Evaluate, ScoreAnswers


def test_a_key_leaves_out_what_has_its_default_and_holds_the_rest() -> None:
    scores = ScoreAnswers(truths=("wolf",), metrics=("exact",), language="en")
    assert scores.key_data() == {"truths": ["wolf"], "metrics": ["exact"], "language": "en"}
    assert {
        *("step", "writes", "answers", "system", "held_out_system", "prefixed"),
        *("writes_engine", "answers_engine"),
    } == {name for name, field in Evaluate.model_fields.items() if not field.is_required()}
