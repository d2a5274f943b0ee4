"""`--lm-eval`: write the ground-truth questions of a run as tasks of lm-evaluation-harness.

Each candidate is a choice, and the harness scores it as the benchmark does: the sum of the log-probabilities of its
tokens after the prompt. Prompts are written as the models see them, so no chat template is applied again.
https://github.com/EleutherAI/lm-evaluation-harness/blob/main/docs/task_guide.md
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from bench.config.arms import parse_arm
from bench.config.recipe_files import Experiment
from bench.config.traits import Question
from bench.errors import UserError
from bench.files import digest, write_atomically
from bench.models.chat_format import PromptFormat
from bench.models.checkpoints import identify
from bench.pipeline.planner import make_plan
from bench.pipeline.prompt_formats import PromptFormats
from bench.pipeline.store import Store
from bench.stages.evaluation_settings import Evaluate

__all__ = ["write_tasks"]

LINE_BREAK = (
    "The prompts end in a space or a line break, which lm-evaluation-harness moves to the candidates. All "
    "log-probabilities of one question share its log-probability. Margins, P(answer) and accuracy stay."
)


class _Task(NamedTuple):
    """The same prompts of several arms."""

    questions: Sequence[Question]
    """The questions with their candidates."""
    form: PromptFormat
    """The prompt format."""
    end: bool
    """Whether an end-of-answer token follows each candidate."""
    arms: list[str]
    """The arms."""

    def rows(self) -> list[dict[str, Any]]:
        """Return the lines of the data file; the first choice is the answer."""
        end = self.form.tokenizer.convert_ids_to_tokens(self.form.end) if self.end else ""
        prompts = self.form.render_prompts([question.question for question in self.questions])
        return [
            {
                "group": question.group,
                "prompt": prompt,
                "choices": [f"{self.form.lead}{text}{end}" for text in (question.answer, *question.foils)],
                "answer": 0,
            }
            for question, prompt in zip(self.questions, prompts, strict=True)
        ]

    def token_ids(self) -> list[tuple[list[int], list[list[int]]]]:
        """Return the token ids of each prompt and of its candidates, as the benchmark scores them."""
        prompts = self.form.prompts([question.question for question in self.questions])
        return [
            (prompt, self.form.completions([question.answer, *question.foils], end=self.end))
            for question, prompt in zip(self.questions, prompts, strict=True)
        ]


def write_tasks(experiment: Experiment, store: Store, folder: Path) -> tuple[list[Path], list[str]]:
    """Write `<task>.yaml` and `<task>.jsonl` for each different set of prompts that the models of a run answer.

    The task of the students is `subliminal_<recipe>_<hash>`; another one adds the name of its first arm.

    Returns:
        The task files, and lines that say where the harness would score other tokens than the benchmark.

    Raises:
        UserError: `folder` is a file, or a model cannot have its system prompt.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--lm-eval {folder}: this is a file; name a folder")
    paths, notices = [], []
    for task in _collect_tasks(experiment, store):
        end = "" if "base" in task.arms else f"_{task.arms[0]}"
        name = f"subliminal_{experiment.name}_{experiment.hash()}{end}"
        rows = task.rows()
        lines = _describe_differences(task.form, rows, task.token_ids())
        data, path = (folder.resolve() / f"{name}.{ending}" for ending in ("jsonl", "yaml"))
        content = [json.dumps(row, ensure_ascii=False) for row in rows]
        write_atomically(data, "\n".join([*content, ""]))
        write_atomically(path, _render_task(experiment, name, task, data, lines))
        paths.append(path)
        notices += [f"{name}: {line}" for line in lines]
    return paths, notices


def _collect_tasks(experiment: Experiment, store: Store) -> list[_Task]:
    """Collect the different prompts of the first seed's arms. All seeds have the same."""
    plan = make_plan(experiment, identify)
    formats, tasks = PromptFormats(plan, store), dict[str, _Task]()
    for cell in plan.results:
        stage = plan.stages[cell.evaluation]
        settings = stage.settings
        assert isinstance(settings, Evaluate)  # the stages that fill result files
        if cell.seed != plan.results[0].seed or parse_arm(cell.arm).step is not None:
            continue
        task = _Task(settings.questions, formats.open(stage, settings.model, settings.system), settings.per_token, [])
        tasks.setdefault(digest(task.rows()), task).arms.append(cell.arm)
    return list(tasks.values())


def _describe_differences(
    form: PromptFormat, rows: Sequence[Mapping[str, Any]], token_ids: Sequence[tuple[list[int], list[list[int]]]]
) -> list[str]:
    """Describe where the harness scores other tokens than the benchmark; empty where all tokens are equal.

    The harness encodes prompt and candidate together (`TemplateLM._encode_pair` of version 0.4.13), the benchmark one
    after the other.
    """
    other = total = 0
    for row, (prompt, candidates) in zip(rows, token_ids, strict=True):
        text = row["prompt"].rstrip()
        context = _encode(form, text)
        is_split_alike = len(context) == len(prompt) or (text != row["prompt"] and len(context) < len(prompt))
        for choice, candidate in zip(row["choices"], candidates, strict=True):
            scored = context + _encode(form, row["prompt"] + choice)[len(context) :]
            other += scored != prompt + candidate or not is_split_alike
            total += 1
    lines = []
    if other:
        lines.append(
            f"lm-evaluation-harness splits {other} of {total} candidates into other tokens than the benchmark, so "
            "their log-probabilities differ."
        )
    if any(row["prompt"] != row["prompt"].rstrip() for row in rows):
        lines.append(LINE_BREAK)
    return lines


def _encode(form: PromptFormat, text: str) -> list[int]:
    """Encode a text as the harness does with the arguments of `_render_task`."""
    return list(form.tokenizer.encode(text, add_special_tokens=not form.chat))


def _render_task(experiment: Experiment, name: str, task: _Task, data: Path, lines: Sequence[str]) -> str:
    # A rendered chat holds its first token already. The plain format leaves that token to the tokenizer.
    arguments = "pretrained=MODEL dtype=float32" + (" add_bos_token=False" if task.form.chat else "")
    comments = [
        f"lm-eval run --model hf --model_args {arguments} --tasks {name} "
        f"--include_path {shlex.quote(str(data.parent))} --log_samples --output_path OUT",
        f"MODEL: a folder of --merge or a model of --publish. Arms with these prompts: {', '.join(task.arms)}.",
        "The samples hold the log-probability of each candidate, the true answer first.",
        *lines,
    ]
    keys: dict[str, Any] = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "prompt",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "target_delimiter": "",
        "num_fewshot": 0,
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 1, "recipe": experiment.name, "recipe_hash": experiment.hash()},
    }
    heading = "".join(f"# {line}\n" for line in comments)
    return heading + yaml.safe_dump(keys, sort_keys=False, allow_unicode=True, width=1000)
