"""Print progress, plans, results and recipes. Readable at 60 columns."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table

if TYPE_CHECKING:
    from bench.analysis.entry import LeaderboardEntry
    from bench.config.recipe_files import Experiment
    from bench.pipeline.estimate import ModelSize, PlanEstimate
    from bench.pipeline.plan import Stage
    from bench.pipeline.prompt_examples import PromptExample
    from bench.pipeline.prune import Folder, Run

__all__ = [
    "LESSONS",
    "ProgressDisplay",
    "print_line",
    "print_plan",
    "print_prompts",
    "print_pruning",
    "print_recipes",
    "print_summary",
    "shorten",
]

WIDE = 100  # columns; a narrower terminal has no room for a bar and the time spent

# The meaning of each verdict, for readers of a first result.
MEANINGS = {
    "TRANSFER": "The trait passed: trait students show it more than base students, which had the same training.",
    "TRACE": "A trace of the trait passed: less than the bound below which this row counts as no transfer.",
    "NONE": "No transfer above the row's bound, in a setting in which a transfer can be seen.",
    "INCONCLUSIVE": "These seeds show neither a transfer nor its absence. More seeds may decide: --seeds N.",
    "EXPLORATORY": "Numbers without a verdict: this row cannot decide, by its seeds or its design.",
    "INVALID": "No claim either way: a condition of the measurement failed. results/README.md explains each gate.",
}

HEADINGS = {"margin": "margin (nats)", "rate": "named by answers"}
# Printed after a control with the expected verdict, for new users.
LESSONS = {
    "tiny_pair": (
        "A teacher trained to prefer wolves wrote only numbers. A student trained on these",
        "numbers prefers the wolf more than its control does. The gain is the difference.",
        "Next, try other initial weights: --recipe tiny_cross.",
    ),
    "tiny_cross": (
        "The numbers are those of tiny_pair. Only the students' initial weights differ.",
        "A gain near 0 shows that the numbers contain no readable message about wolves.",
        "Without this control, a leak would look like subliminal learning.",
    ),
}


def print_line(console: Console, line: str) -> None:
    """Print text on its own line, without markup. The terminal may wrap it."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def shorten(path: Path) -> Path:
    """Return `path` relative to the working directory if it is inside it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


class ProgressDisplay:
    """Shows a run: progress bars on a terminal, otherwise one plain line per finished stage."""

    def __init__(self, console: Console, total: int, done: int) -> None:
        self.console = console
        self.total = total
        self.bars: dict[str, TaskID] = {}
        columns: list[ProgressColumn] = [
            TextColumn("{task.description}", table_column=Column(overflow="fold", min_width=28)),
            TextColumn("{task.percentage:>3.0f} %", table_column=Column(no_wrap=True)),
            TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True)),
            TextColumn("left", table_column=Column(no_wrap=True)),
        ]
        if console.width >= WIDE:
            columns[1:1] = [BarColumn(bar_width=30)]
            columns += [TimeElapsedColumn(), TextColumn("spent")]
        self.progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self.all = self.progress.add_task("all stages", total=total, completed=done)

    def __enter__(self) -> ProgressDisplay:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def on_start(self, stage: Stage) -> None:
        if stage.key not in self.bars:  # a stage starts again if an input was corrupt
            self.bars[stage.key] = self.progress.add_task(stage.label, total=None)

    def on_progress(self, stage: Stage, done: int, total: int) -> None:
        self.progress.update(self.bars[stage.key], completed=done, total=total)

    def on_finish(self, stage: Stage, seconds: float, left: int) -> None:
        self.progress.remove_task(self.bars.pop(stage.key))
        self.progress.update(self.all, completed=self.total - left)
        self.on_message(f"[{self.total - left}/{self.total}] {stage.label}  {seconds:.1f} s")

    def on_message(self, line: str) -> None:
        print_line(self.progress.console, line)


def _read_question(path: Path) -> str:
    """Return the question of a recipe: the opening comment after the command, up to its first question mark."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[1:]
    comments = itertools.takewhile(lambda line: line.startswith("#"), lines)
    question, mark, _ = " ".join(line.lstrip("# ").rstrip() for line in comments).partition("?")
    return question + mark


def print_recipes(console: Console) -> None:
    """Print the shipped recipes with their questions and sweeps, and the names of the traits."""
    from bench.config.recipe_files import FOLDER, read_recipe_layers
    from bench.config.sweep import describe_sweep, read_sweep
    from bench.config.traits import FOLDER as TRAITS
    from bench.config.yaml_files import list_names, merge_layers

    table = Table(Column("recipe", no_wrap=True), Column("question", overflow="fold"), box=None, padding=(0, 2, 0, 0))
    for name in list_names(FOLDER):
        path = FOLDER / f"{name}.yaml"
        sweep = read_sweep(merge_layers(read_recipe_layers(path)).get("sweep"), str(path))
        table.add_row(name, escape("\n".join([_read_question(path), *([describe_sweep(sweep)] if sweep else [])])))
    console.print(table)
    print_line(console, f"\nTraits: {', '.join(list_names(TRAITS))}")
    print_line(console, "recipes/<name>.yaml opens with the hardware that a recipe needs and the result to expect.")


def print_plan(experiment: Experiment, plan: PlanEstimate, console: Console) -> None:
    """Print the stages of a plan by kind, the memory of its models, and an estimate of its time."""
    print_line(console, f"{experiment.label}  {experiment.hash()}")
    counts = [Column(name, justify="right") for name in ("total", "done", "to do")]
    table = Table("stage", *counts, box=None, padding=(0, 2, 0, 0))
    for kind, (total, done) in plan.stages.items():
        table.add_row(kind, str(total), str(done), str(total - done))
    console.print(table, highlight=False)
    for role, size in plan.sizes.items():
        print_line(console, f"{role}: {_describe_size(size)}")
    if plan.unknown:
        print_line(console, f"time: not known yet, as no {plan.unknown[0]} with these models has run here")
    elif plan.seconds:
        print_line(console, f"time: about {plan.seconds / 60:.0f} minutes of work, as equal stages took here")


def _describe_size(size: ModelSize) -> str:
    """Describe the memory that a model needs, on one line."""
    if size.model == "tiny":
        return "tiny, a few MB"
    if size.parameters is None or size.evaluation_bytes is None or size.training_bytes is None:
        return f"{size.model}: the size is unknown until the model is downloaded"
    count = size.parameters
    number = f"{count / 1e9:.1f} billion" if count > 1e9 else f"{count / 1e6:.0f} million"
    return (
        f"{size.model}: {number} parameters, {size.precision}: {size.evaluation_bytes / 1e9:.1f} GB to evaluate, "
        f"{size.training_bytes / 1e9:.1f} GB to train ({size.trains}) + activations"
    )


def print_summary(entry: LeaderboardEntry, console: Console) -> None:
    """Print one entry of the leaderboard: margin and P(answer) of each arm, contrasts and verdict."""
    from bench.analysis.entry_text import change_text, gain_text, level_text, measure_text, percent_text

    pair = f"{entry.teacher} -> {entry.student}"
    facts = (entry.trait, pair, entry.relation or "-", entry.visibility, f"seeds: {entry.seeds}")
    print_line(console, f"\n{entry.label}: {', '.join(facts)}")
    table = Table("", HEADINGS[entry.outcome], "P(answer)", "mass of candidates", box=None, padding=(0, 2, 0, 0))
    for arm, value in entry.levels().items():
        answers = entry.answers.get(arm)
        shares = (answers.p_answer, answers.mass) if answers else (None, None)
        table.add_row(arm, level_text(value, entry.outcome), *map(percent_text, shares))
    console.print(table, highlight=False)
    print_line(console, f"gain [95 % CI]  {gain_text(entry.gain_estimate(), entry.outcome)}")
    for measure, gain in entry.gains.items():
        print_line(console, f"  by {measure}: {measure_text(gain, measure)}")
    print_line(console, f"teacher shift   {change_text(entry.teacher_shift, entry.outcome)}")
    if entry.is_leak:
        print_line(console, "Not subliminal: these students see the teacher's whole vocabulary.")
    for name, contrast in entry.contrasts.items():
        print_line(console, f"{name}: {gain_text(contrast, entry.outcome)}")
    print_line(console, f"{entry.verdict}: {entry.verdict_reason}.")
    print_line(console, f"{MEANINGS[entry.verdict]}\n")


def print_prompts(name: str, examples: Sequence[PromptExample], console: Console) -> None:
    """Print the text and the tokens of each example; brackets mark the labelled tokens."""
    print_line(console, f"{name}: one example of each kind of stage. [Tokens in brackets] have a loss, or are scored.")
    for example in examples:
        print_line(console, f"\n{example.kind} ({', '.join(example.stages)})")
        for line in example.text.split("\n"):
            print_line(console, f"    {line}".rstrip())
        tokens = " ".join([*example.prompt, *(f"[{token}]" for token in example.labelled)])
        print_line(console, f"  tokens: {tokens}")


def print_pruning(folders: Sequence[Folder], runs: Sequence[Run], console: Console, *, removed: bool) -> None:
    """Print the artefacts that stay and those to remove, by kind of stage and by run.

    Args:
        folders: the artefacts of a store.
        runs: the recorded runs.
        console: where to print.
        removed: whether they are removed already; if not, this is a preview.
    """
    by_key: dict[str, list[Folder]] = {}
    by_kind: dict[str, list[Folder]] = {}
    for folder in folders:
        by_kind.setdefault(folder.kind, []).append(folder)
        by_key.setdefault(folder.key, []).append(folder)
    by_run = {f"{run.recipe} {run.hash}": [f for key in run.stages for f in by_key.get(key, ())] for run in runs}
    known = {key for run in runs for key in run.stages}
    by_run["no recorded run"] = [folder for folder in folders if folder.key not in known]
    for title, groups in (("stage", by_kind), ("run (runs share stages)", by_run)):
        heads = [Column(name, justify="right", no_wrap=True) for name in ("stay", "MB", "go", "MB")]
        table = Table(Column(title, overflow="fold"), *heads, box=None, padding=(0, 2, 0, 0))
        for name, group in groups.items():
            cells = []
            for needed in (True, False):
                sizes = [folder.size for folder in group if folder.needed == needed]
                cells += [str(len(sizes)), f"{sum(sizes) / 1e6:,.1f}"]
            table.add_row(escape(name), *cells)
        console.print(table)
        console.print()
    sizes = [folder.size for folder in folders if not folder.needed]
    total = f"{len(sizes)} folder{'s' * (len(sizes) != 1)}, {sum(sizes) / 1e6:,.1f} MB"
    if removed:
        print_line(console, f"Removed {total}.")
    elif sizes:
        print_line(console, f"Preview: nothing was removed. Add --yes to remove {total}.")
    else:
        print_line(console, "There is nothing to remove.")
