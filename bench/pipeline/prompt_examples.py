"""Render one example of each stage that puts text to a model, exactly as the stage does, before anything runs."""

from __future__ import annotations

import random
from typing import NamedTuple

from bench.pipeline.plan import Plan, Stage
from bench.pipeline.prompt_formats import PromptFormats
from bench.pipeline.store import Store
from bench.stages.carriers import number_prompts
from bench.stages.evaluation_settings import Evaluate
from bench.stages.number_slots import number_slots
from bench.stages.settings import Loading, TrainStudent, TrainTeacher, WriteCarrier

__all__ = ["PromptExample", "list_examples"]

TEXT = "(the text that the teacher writes)"  # stands for a completion of a text carrier


class PromptExample(NamedTuple):
    """One example, and the stages that have it."""

    kind: str
    """The kind of stage, in words."""
    stages: list[str]
    """The labels of the stages, without their seeds."""
    text: str
    """The rendered text, with its special tokens."""
    prompt: list[str]
    """The tokens of the prompt, as the tokenizer names them."""
    labelled: list[str]
    """The tokens after it: those with a loss, or whose log-probability is computed."""


def list_examples(plan: Plan, store: Store) -> list[PromptExample]:
    """List the different examples of a plan's teacher trainings, carriers, student trainings and evaluations.

    The completions of students are random numbers that the carrier allows, or a stand-in for a text.

    Raises:
        UserError: a model cannot have its system prompt, or cannot write the carrier's numbers.
    """
    renderer = _Renderer(plan, store)
    examples: dict[tuple[str, str], PromptExample] = {}
    for stage in plan.stages.values():
        example = renderer.render(stage)
        if example is not None:
            known = examples.setdefault((example.kind, example.text), example)
            known.stages.extend(label for label in example.stages if label not in known.stages)
    return list(examples.values())


class _Renderer:
    """Renders the examples of one plan. Each tokenizer is opened once."""

    def __init__(self, plan: Plan, store: Store) -> None:
        self.plan, self.formats = plan, PromptFormats(plan, store)
        self.rows: dict[str, tuple[str, str]] = {}

    def render(self, stage: Stage) -> PromptExample | None:
        """Render the first row of a stage; None for a stage without prompts."""
        match stage.settings:
            case TrainTeacher(rows=rows, model=model, system=system, end=end):
                return self.example("teacher training", stage, model, system, *rows[0], end=end)
            case WriteCarrier(model=model, system=system):
                return self.example("writing", stage, model, system, self.carrier_row(stage)[0])
            case TrainStudent(model=model, system=system, end=end, mitigation=mitigation):
                row = self.carrier_row(self.plan.stages[stage.inputs["carrier"].identity])
                prompt = mitigation.inoculation
                return self.example("student training", stage, model, system, *row, end=end, inoculation=prompt)
            case Evaluate(questions=questions, model=model, system=system, per_token=end):
                first = questions[0]
                return self.example("evaluation", stage, model, system, first.question, first.answer, end=end)
        return None

    def example(
        self,
        kind: str,
        stage: Stage,
        model: Loading,
        system: str | None,
        prompt: str,
        completion: str | None = None,
        *,
        end: bool = False,
        inoculation: str | None = None,
    ) -> PromptExample:
        """Tokenise a prompt and its completion as the stage does."""
        form = self.formats.open(stage, model, system)
        if inoculation is not None:
            form = form.inoculate(inoculation)
        ids = form.prompts([prompt])[0]
        labelled, text = [], form.render_prompts([prompt])[0]
        if completion is not None:
            labelled = form.completions([completion], end=end)[0]
            text += form.lead + completion + (form.tokenizer.convert_ids_to_tokens(form.end) if end else "")
        names = [form.tokenizer.convert_ids_to_tokens(part) for part in (ids, labelled)]
        return PromptExample(kind, [stage.label.partition(",")[0]], text, *names)

    def carrier_row(self, stage: Stage) -> tuple[str, str]:
        """Return the first prompt of a carrier, and a completion that its teacher could write."""
        if stage.key not in self.rows:
            settings = stage.settings
            assert isinstance(settings, WriteCarrier)
            carrier = settings.carrier
            if carrier.kind == "text":
                self.rows[stage.key] = settings.prompts[0], TEXT
            else:
                numbers = carrier.list_permitted()
                if carrier.generate == "grammar":
                    numbers = number_slots(carrier, self.formats.open(stage, settings.model, None)).numbers
                drawn = random.Random(0).choices(numbers, k=carrier.count)
                prompt = number_prompts(carrier, numbers, settings.seed, settings.wording)[0]
                self.rows[stage.key] = prompt, carrier.separator.join(map(str, drawn))
        return self.rows[stage.key]
