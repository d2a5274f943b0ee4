"""The commands that run no stage: they read results, artefacts and recipes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from bench.errors import UserError
from bench.flags import DEFAULT, PUBLISHED
from bench.terminal import (
    print_line,
    print_prompts,
    print_pruning,
    shorten,
)

if TYPE_CHECKING:
    from bench.config.recipe_files import Experiment
    from bench.pipeline.store import Store

__all__ = ["archive", "check", "compare", "diff", "lm_eval", "prune", "share", "show_prompts", "show_results", "tables"]


SCREEN_ROWS = 20  # carrier rows that a screen gets; a pipe gets all


def compare(names: Sequence[str], results: Path, console: Console) -> None:
    """Run `--compare`: print a table of rows, and draw their gains."""
    from bench.analysis.comparison import compare_rows, render_comparison
    from bench.analysis.row_selection import select_rows
    from bench.figures.comparison import write_comparison

    rows = compare_rows(select_rows(names, [results], "--compare"))
    print_line(console, f"{render_comparison(rows)}\n")
    for path in write_comparison(rows, names, results / "figures"):
        print_line(console, f"Wrote {shorten(path)}")


def diff(names: Sequence[str], results: Path, console: Console) -> None:
    """Run `--diff`: print the keys in which two experiments differ, and how their gains differ."""
    from bench.analysis.difference import compare_gains, compare_keys, find_side

    a, b = (find_side(name, [results, PUBLISHED]) for name in names)
    print_line(console, f"{compare_keys(a, b)}\n")
    print_line(console, compare_gains(a, b))


def archive(names: Sequence[str], results: Path, console: Console) -> None:
    """Run `--archive`: move rows to the archive, and rebuild the leaderboard."""
    from bench.analysis.archive import archive_rows
    from bench.analysis.leaderboard import build_leaderboard

    for line in archive_rows(names, results):
        print_line(console, line)
    build_leaderboard(results)


def tables(args: argparse.Namespace, console: Console) -> None:
    """Write everything that needs the result files alone: the leaderboard, the report, the export."""
    from bench.analysis.leaderboard import build_leaderboard

    paths: list[Path] = []
    if args.report:
        from bench.pipeline.remote_store import open_store
        from bench.report.site import write_report

        page, problems = write_report(args.results, open_store(args.store))
        paths.append(page)
    else:
        problems = build_leaderboard(args.results).problems
    for line in problems:
        print_line(console, line)
    paths.append(args.results / "LEADERBOARD.md")
    if args.export:
        from bench.analysis.export import export

        paths += export(args.results, args.export)
    for path in paths:
        print_line(console, f"Wrote {shorten(path)}")


def check(folder: Path, revision: str, console: Console) -> None:
    """Run `--check-results`."""
    from bench.publish.contribution import check_results

    check = check_results(folder, revision)
    console.print(check.comparison, markup=False, highlight=False, soft_wrap=True)
    if check.problems:
        raise UserError(f"{len(check.problems)} problems in {folder}:\n  " + "\n  ".join(check.problems[:20]))


def share(experiments: list[tuple[Experiment, str]], args: argparse.Namespace, store: Store, console: Console) -> None:
    """Run `--merge` or `--publish`."""
    from bench.config.sweep import write_assignments
    from bench.publish.upload import RunCommand, Selection, merge, publish

    if args.smoke or args.dry_run:
        raise UserError("--merge and --publish need a finished run: leave --smoke and --dry-run out")
    if args.merge and not args.publish and args.out is None:
        raise UserError("--merge needs --out DIR")
    tell = partial(print_line, console)
    selection = Selection(tuple(args.only_arms), tuple(args.only_seeds))
    for experiment, name in experiments:
        changes = (*args.set, *write_assignments(experiment.combination))
        command = RunCommand(name, changes, args.seeds, args.vllm)
        if args.publish:
            how: dict[str, Any] = {"merged": args.merge, "selection": selection, "tell": tell}
            publish(experiment, command, store, args.publish, args.results, **how)
        else:
            merge(experiment, command, store, args.out, args.results, selection=selection, tell=tell)


def lm_eval(experiments: list[tuple[Experiment, str]], folder: Path, store: Store, console: Console) -> None:
    """Run `--lm-eval`: write tasks of lm-evaluation-harness."""
    from bench.publish.lm_eval_task import write_tasks

    for experiment, _ in experiments:
        paths, notices = write_tasks(experiment, store, folder)
        for line in [*(f"Wrote {shorten(path)}" for path in paths), *notices]:
            print_line(console, line)


def prune(args: argparse.Namespace, store: Store, console: Console) -> None:
    from bench.config.recipe_files import FOLDER, load_recipe, load_recipes
    from bench.config.yaml_files import list_names
    from bench.experiment import CONTROLS
    from bench.pipeline.prune import find_needed, read_runs, remove, survey

    if (args.set or args.seeds) and not args.recipe:
        raise UserError("--prune with --set or --seeds needs --recipe NAME")
    names = args.recipe or list_names(FOLDER)
    experiments = [row for name in names for row in load_recipes(name, args.set, seeds=args.seeds)]
    runs = read_runs(store)
    needed = find_needed([*map(load_recipe, CONTROLS), *experiments], runs, only_named=bool(args.recipe))
    with store.in_use(exclusive=True) if args.yes else nullcontext():
        folders = survey(store, needed)
        if args.yes:
            remove(store, folders, runs, needed)
    print_pruning(folders, runs, console, removed=args.yes)
    if needed.models:
        print_line(
            console, f"Artefacts of models that are not on this machine stay: {', '.join(sorted(needed.models))}."
        )


def show_prompts(names: list[str], args: argparse.Namespace, store: Store, console: Console) -> None:
    """Print the examples of `--show prompts`, of each recipe's first seed."""
    from bench.config.recipe_files import load_recipes
    from bench.models.checkpoints import identify
    from bench.pipeline.planner import make_plan
    from bench.pipeline.prompt_examples import list_examples

    for name, experiment in [(path, row) for path in names for row in load_recipes(path, args.set, seeds=1)]:
        try:
            examples = list_examples(make_plan(experiment, identify), store)
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
        print_prompts(experiment.label, examples, console)


def show_results(args: argparse.Namespace, console: Console) -> None:
    """Run `--show answers` or `--show rows`: print one seed of a measured row. A screen gets the first rows."""
    from bench.analysis.row_selection import select_row
    from bench.config.recipe_files import load_recipes
    from bench.pipeline.remote_store import open_store
    from bench.report.carriers import find_carriers, read_carrier
    from bench.report.side_by_side import choose_seed, render_answers, render_rows

    names = args.recipe or [DEFAULT]
    if args.set or args.seeds:
        names = [row.hash() for name in names for row in load_recipes(name, args.set, seeds=args.seeds)]
    folders = [args.results] if args.results.resolve() == PUBLISHED else [args.results, PUBLISHED]
    for name in names:
        row = select_row(name, folders, f"--show {args.show}")
        if args.show == "answers":
            lines = iter(render_answers(row, choose_seed(row, args.seed, row.cells, "answers")))
        else:
            carriers = find_carriers(row, open_store(args.store))
            seed = choose_seed(row, args.seed, carriers, f"carrier rows in {args.store}")
            limit = SCREEN_ROWS if console.is_terminal else None
            lines = render_rows(row, seed, read_carrier(carriers[seed]), limit)
        for line in lines:
            print_line(console, line)
