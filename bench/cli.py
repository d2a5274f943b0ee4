"""The command: flags, dispatch, exit codes. `bench.terminal` holds the screen."""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from bench.errors import StageError, UserError
from bench.files import ROOT
from bench.terminal import (
    LESSONS,
    ProgressDisplay,
    print_line,
    print_plan,
    print_pruning,
    print_recipes,
    print_summary,
    shorten,
)

if TYPE_CHECKING:
    from bench.config.model_settings import Model
    from bench.config.recipe import Experiment
    from bench.pipeline.local_workers import Pool
    from bench.pipeline.store import Store

__all__ = ["main"]

DEFAULT = "tiny_pair"
PUBLISHED = ROOT / "results"  # committed; runs write below it, where git does not look


def parser() -> argparse.ArgumentParser:
    """The flags of `run_bench.py`."""
    p = argparse.ArgumentParser(
        prog="run_bench.py",
        description="Does a student model inherit what its teacher never said? Makes teacher, controls and students, "
        "asks them, and tabulates trait against base. The same command again resumes.",
        allow_abbrev=False,
    )
    what = p.add_mutually_exclusive_group()
    what.add_argument("--list", action="store_true", help="the recipes, what each asks and what it needs")
    what.add_argument("--leaderboard", action="store_true", help="rebuild LEADERBOARD.md from the result files")
    what.add_argument("--dry-run", action="store_true", help="show the plan: stages, and which are done already")
    what.add_argument(
        "--prune",
        action="store_true",
        help="show what neither recipes/ nor a run of yours needs today (with --recipe: what those do not need)",
    )
    what.add_argument("--smoke", action="store_true", help="the same path on tiny budgets; leaves --results alone")
    p.add_argument("--yes", action="store_true", help="have --prune remove it from the store")
    p.add_argument("--recipe", nargs="+", metavar="NAME", help=f"names or YAML paths (default: {DEFAULT})")
    p.add_argument(
        "--seeds", type=int, metavar="N", help="how many seeds, in place of the recipe's number: another row"
    )
    p.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a key of the recipe: another row"
    )
    p.add_argument(
        "--results",
        type=Path,
        default=PUBLISHED / "local",
        metavar="DIR",
        help="result files (default: results/local/, yours alone; the published ones are in results/)",
    )
    p.add_argument("--store", type=Path, default=ROOT / ".bench", metavar="DIR", help="artefacts (default: .bench/)")
    p.add_argument(
        "--skip-controls", action="store_true", help="judge without this installation's controls; shows on the row"
    )
    p.add_argument(
        "--figures", action="store_true", help="figures and report.html from the results, after any --recipe"
    )
    p.add_argument(
        "--export", type=Path, metavar="DIR", help="answers, margins, means and gains as CSV and Parquet, likewise"
    )
    p.add_argument("--merge", action="store_true", help="write the models of a finished run, adapters merged, to --out")
    p.add_argument("--out", type=Path, metavar="DIR", help="where --merge writes")
    p.add_argument(
        "--only-arms", nargs="+", default=[], metavar="ARM", help="--merge and --publish models of these arms alone"
    )
    p.add_argument("--only-seeds", nargs="+", type=int, default=[], metavar="N", help="... and of these seeds alone")
    p.add_argument(
        "--publish",
        metavar="ORG",
        help="push a finished run's adapters (with --merge: models), rows and cards to the hub, private at first",
    )
    p.add_argument("--jobs", type=int, metavar="N", help="stages side by side (default: cores / the recipe's threads)")
    return p


def _run(experiments: list[tuple[Experiment, str]], args: argparse.Namespace, pool: Pool, console: Console) -> None:
    from bench.analysis.agreement import compare_with_published
    from bench.analysis.leaderboard import build_leaderboard
    from bench.analysis.registration import describe_registration, find_terms, refuse_other_cells
    from bench.experiment import CONTROLS, is_control, run_experiment, run_installation_controls
    from bench.models.checkpoints import identify
    from bench.pipeline.planner import make_plan
    from bench.pipeline.prune import record_run

    def screen(experiment: Experiment, total: int, done: int) -> ProgressDisplay:
        console.print(f"{experiment.name}  {experiment.hash()}  {total} stages, {done} done", highlight=False)
        return ProgressDisplay(console, total, done)

    results = args.store / "smoke" if args.smoke else args.results
    pool.check(experiments)
    plans = []
    for experiment, source in experiments:
        try:
            plans.append(make_plan(experiment, identify))  # a model that cannot be had is an error before the controls
        except UserError as error:
            raise UserError(f"{source}: {error}") from None
        if args.smoke:
            shutil.rmtree(results / experiment.name, ignore_errors=True)
        refuse_other_cells(experiment, plans[-1], results)
        for line in pool.describe_bfloat16(experiment, plans[-1]):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    pool.check_numbers(zip(plans, (source for _, source in experiments), strict=True))
    controls: Any = None
    for (experiment, _), plan in zip(experiments, plans, strict=True):
        if not args.smoke:
            record_run(pool.store, experiment, plan)
            for line in describe_registration(experiment, find_terms(experiment, pool.store, results, PUBLISHED)):
                print_line(console, line)
        begun = time.monotonic()
        own = "self" if is_control(experiment) else None
        if own is None and controls is None and not (args.smoke or args.skip_controls):
            controls = run_installation_controls(pool, screen, partial(print_line, console))
        try:
            run_experiment(experiment, plan, pool, results, own or controls, screen, None if args.smoke else PUBLISHED)
        finally:
            board = build_leaderboard(results)
        for line in board.problems:
            print_line(console, line)
        measured = board.find(experiment.name, experiment.hash())
        if measured is None:  # the lines above say why
            raise StageError(f"{experiment.name} {experiment.hash()}: its result files were refused, see {results}")
        if args.smoke:
            print_line(
                console,
                f"\nThe path works: all {len(plan.stages)} stages of {experiment.name} ran, on tiny budgets "
                f"({time.monotonic() - begun:.0f} s). No verdict is meant: leave --smoke out to measure.\n",
            )
            continue
        row, entry = measured
        print_summary(entry, console)
        if results.resolve() != PUBLISHED:
            for line in compare_with_published(row, PUBLISHED):
                print_line(console, line)
        if own and entry.verdict in CONTROLS[experiment.name]:
            console.print("\n".join(LESSONS[experiment.name]), highlight=False)
        print_line(
            console,
            f"{time.monotonic() - begun:.0f} s. Readings: {shorten(results / experiment.name)}/{experiment.hash()}*, "
            f"table: {shorten(results / 'LEADERBOARD.md')}\n",
        )


def _tables(args: argparse.Namespace, console: Console) -> None:
    """What is made from the result files alone: the leaderboard, the figures, the export."""
    from bench.analysis.leaderboard import build_leaderboard

    made: list[Path] = []
    if args.figures:
        from bench.figures.report import write_figures

        made += write_figures(args.results)  # first: the leaderboard links to those that are there
    for line in build_leaderboard(args.results).problems:
        print_line(console, line)
    made.append(args.results / "LEADERBOARD.md")
    if args.export:
        from bench.analysis.export import export

        made += export(args.results, args.export)
    for path in made:
        print_line(console, f"Wrote {shorten(path)}")


def _hand_out(named: list[tuple[Experiment, str]], args: argparse.Namespace, store: Store, console: Console) -> None:
    """`--merge` and `--publish`."""
    from bench.publish.upload import Origin, Selection, merge, publish

    if args.smoke or args.dry_run:
        raise UserError("--merge and --publish hand out finished runs: leave --smoke and --dry-run out")
    if args.merge and not args.publish and args.out is None:
        raise UserError("--merge: say where to, with --out DIR")
    tell = partial(print_line, console)
    selection = Selection(tuple(args.only_arms), tuple(args.only_seeds))
    for experiment, name in named:
        origin = Origin(name, tuple(args.set), args.seeds)
        if args.publish:
            publish(
                experiment,
                origin,
                store,
                args.publish,
                args.results,
                merged=args.merge,
                selection=selection,
                tell=tell,
            )
        else:
            merge(experiment, origin, store, args.out, args.results, selection=selection, tell=tell)


def _prune(args: argparse.Namespace, store: Store, console: Console) -> None:
    from bench.config.recipe import FOLDER, load_recipe
    from bench.config.yaml_files import list_names
    from bench.experiment import CONTROLS
    from bench.pipeline.prune import find_needed, read_runs, remove, survey

    if (args.set or args.seeds) and not args.recipe:
        raise UserError("--prune with --set or --seeds: say of which recipes, with --recipe")
    experiments = [load_recipe(name, args.set, seeds=args.seeds) for name in args.recipe or list_names(FOLDER)]
    runs = read_runs(store)
    needed = find_needed([*map(load_recipe, CONTROLS), *experiments], runs, only_named=bool(args.recipe))
    with store.in_use(exclusive=True) if args.yes else nullcontext():
        folders = survey(store, needed)
        if args.yes:
            remove(store, folders, runs, needed)
    print_pruning(folders, runs, console, removed=args.yes)
    if needed.models:
        print_line(
            console, f"Artefacts of these models stay, not known here today: {', '.join(sorted(needed.models))}."
        )


def _command(args: argparse.Namespace, console: Console) -> None:
    if args.yes and not args.prune:
        raise UserError("--yes goes with --prune alone")
    if (args.only_arms or args.only_seeds) and not (args.merge or args.publish):
        raise UserError("--only-arms and --only-seeds go with --merge and --publish alone")
    if args.list:
        print_recipes(console)
        return
    for flag, folder in (("--store", args.store), ("--results", args.results)):
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{flag} {folder}: this is a file; name a folder")
    if args.jobs is not None and args.jobs < 1:
        raise UserError(f"--jobs {args.jobs}: expected 1 or more")
    if args.leaderboard or ((args.figures or args.export) and not (args.recipe or args.set or args.seeds)):
        _tables(args, console)
        return
    from bench.analysis.registration import describe_registration, find_terms
    from bench.config.recipe import load_recipe
    from bench.models.checkpoints import identify
    from bench.pipeline.local_workers import Pool
    from bench.pipeline.planner import make_plan
    from bench.pipeline.store import Store

    store = Store(args.store)
    if args.prune:
        _prune(args, store, console)
        return
    names = args.recipe or [DEFAULT]
    experiments = [load_recipe(name, args.set, seeds=args.seeds, smoke=args.smoke) for name in names]
    if args.merge or args.publish:
        _hand_out(list(zip(experiments, names, strict=True)), args, store, console)
        return
    for line in dict.fromkeys(line for experiment in experiments for line in experiment.warnings()):
        console.print(f"warning: {line}", markup=False, highlight=False, soft_wrap=True)
    with store.in_use(), Pool(store, args.jobs) as pool:
        if not args.dry_run:
            _run(list(zip(experiments, names, strict=True)), args, pool, console)
            if args.figures or args.export:
                _tables(args, console)
            return
        pool.check(zip(experiments, names, strict=True))
        for experiment in experiments:

            def known(spec: Model) -> Any:
                return identify(spec, fetch=False)

            plan = make_plan(experiment, known)
            print_plan(experiment, plan, store, console)
            for line in describe_registration(experiment, find_terms(experiment, store, args.results, PUBLISHED)):
                print_line(console, line)
            for line in pool.describe_bfloat16(experiment, plan):
                console.print(line, markup=False, highlight=False, soft_wrap=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0 done, 1 a stage failed, 2 the user must act, 130 interrupted."""
    args = parser().parse_args(argv)
    console = Console(soft_wrap=False)
    problems = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    try:
        _command(args, console)
    except UserError as error:
        problems.print(f"error: {error}")
        return 2
    except StageError as error:
        problems.print(f"failed: {error}\nWhat was finished is kept; the same command resumes.")
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        problems.print(
            f"failed: {where}{error.strerror or error}\nWhat was finished is kept; the same command resumes."
        )
        return 1
    except KeyboardInterrupt:
        problems.print("\nInterrupted. What was finished is kept; the same command resumes.")
        return 130
    return 0
