"""Parse the command line, call the right function, and return an exit code. `bench.terminal` prints."""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.console import Console

from bench.commands import archive, check, compare, diff, lm_eval, prune, share, show_prompts, show_results, tables
from bench.errors import StageError, UserError
from bench.flags import DEFAULT, PUBLISHED, make_parser
from bench.stages.tracking import check_tool
from bench.terminal import (
    LESSONS,
    ProgressDisplay,
    print_line,
    print_plan,
    print_recipes,
    print_summary,
    shorten,
)

if TYPE_CHECKING:
    from bench.config.recipe_files import Experiment
    from bench.pipeline.executor import Executor
    from bench.pipeline.local_workers import Pool

__all__ = ["main"]

RESUME = "Finished stages stay; the same command resumes."


def _run(
    experiments: list[tuple[Experiment, str]],
    args: argparse.Namespace,
    pool: Pool,
    executor: Executor,
    console: Console,
) -> None:
    """Run experiments on `executor`; `pool` checks them."""
    from bench.analysis.agreement import compare_with_published
    from bench.analysis.leaderboard import as_json, build_leaderboard
    from bench.analysis.registration import describe_registration, find_terms, refuse_other_cells
    from bench.experiment import CONTROLS, is_control, run_experiment, run_installation_controls
    from bench.models.checkpoints import identify
    from bench.models.engine import choose_engine
    from bench.pipeline.estimate import estimate_plan
    from bench.pipeline.planner import make_plan
    from bench.pipeline.prune import record_run
    from bench.pipeline.recipe_checks import (
        check_configurations,
        check_memory,
        check_numbers,
        check_systems,
        check_targets,
        check_tokens,
        describe_bfloat16,
    )

    def make_display(experiment: Experiment, total: int, done: int) -> ProgressDisplay:
        print_line(console, f"{experiment.label}  {experiment.hash()}  {total} stages, {done} done")
        return ProgressDisplay(console, total, done)

    results = pool.store.root / "smoke" if args.smoke else args.results
    check_configurations(pool, experiments)
    plans = []
    for experiment, source in experiments:
        try:
            engine = choose_engine(experiment.recipe, args.vllm)
            plans.append(make_plan(experiment, identify, engine))  # before the controls: a model may be missing
        except UserError as error:
            raise UserError(f"{source}: {error}") from None
        if args.smoke:
            shutil.rmtree(results / experiment.name, ignore_errors=True)
        refuse_other_cells(experiment, plans[-1], results)
        if not args.smoke:
            print_plan(experiment, estimate_plan(experiment, plans[-1], pool.store), console)
        for line in describe_bfloat16(pool, experiment, plans[-1]):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    if executor is pool:  # a worker elsewhere checks its own GPUs
        check_memory(pool, ((e, plan, source) for (e, source), plan in zip(experiments, plans, strict=True)))
    check_systems(pool, ((e, plan, source) for (e, source), plan in zip(experiments, plans, strict=True)))
    planned = list(zip(plans, (source for _, source in experiments), strict=True))
    check_numbers(pool, planned)
    check_tokens(pool, planned)
    check_targets(pool, planned)
    controls: Any = None
    for (experiment, _), plan in zip(experiments, plans, strict=True):
        is_own_control = is_control(experiment)
        if not args.smoke:
            record_run(pool.store, experiment, plan)
            terms = find_terms(experiment, plan, pool.store, results, PUBLISHED)
            if experiment.reference or not is_own_control:
                for line in describe_registration(experiment, terms):
                    print_line(console, line)
        start = time.monotonic()
        if not is_own_control and controls is None and not (args.smoke or args.skip_controls):
            controls = run_installation_controls(executor, make_display, partial(print_line, console))
        try:
            gates = "self" if is_own_control else controls
            run_experiment(experiment, plan, executor, results, gates, make_display, None if args.smoke else PUBLISHED)
        finally:
            board = build_leaderboard(results)
        for line in board.problems:
            print_line(console, line)
        row_and_entry = board.find(experiment.name, experiment.hash())
        if row_and_entry is None:  # the lines above give the reason
            raise StageError(f"{experiment.name} {experiment.hash()}: its result files were refused, see {results}")
        if args.smoke:
            print_line(
                console,
                f"\nSmoke run passed: all {len(plan.stages)} stages of {experiment.name} ran on tiny budgets "
                f"({time.monotonic() - start:.0f} s). It gives no verdict: leave --smoke out to measure.\n",
            )
            continue
        row, entry = row_and_entry
        if args.json:
            print(as_json([entry])[1:-1])
        elif args.quiet:
            print(f"{entry.label}  {entry.recipe_hash}: {entry.verdict}: {entry.verdict_reason}.")
        print_summary(entry, console)
        if results.resolve() != PUBLISHED:
            for line in compare_with_published(row, PUBLISHED):
                print_line(console, line)
        if is_own_control and entry.verdict in CONTROLS[experiment.name]:
            print_line(console, "\n".join(LESSONS[experiment.name]))
        print_line(
            console,
            f"{time.monotonic() - start:.0f} s. Result files: "
            f"{shorten(results / experiment.name)}/{experiment.hash()}*, "
            f"table: {shorten(results / 'LEADERBOARD.md')}. To look closer, add --report.\n",
        )


def _command(args: argparse.Namespace, console: Console) -> None:
    if args.yes and not args.prune:
        raise UserError("--yes needs --prune")
    if (args.only_arms or args.only_seeds) and not (args.merge or args.publish):
        raise UserError("--only-arms and --only-seeds need --merge or --publish")
    if args.seed is not None and args.show not in ("answers", "rows"):
        raise UserError("--seed needs --show answers or --show rows; --seeds sets the number of seeds of a run")
    if (args.json or args.quiet) and (args.list or args.show or args.prune or args.merge or args.publish):
        raise UserError("--json and --quiet need a run (--json also takes --dry-run)")
    if args.track:
        modes = ("list", "leaderboard", "dry_run", "show", "prune", "compare", "diff", "archive", "lm_eval")
        if any(vars(args)[name] for name in (*modes, "check_results", "contribute", "merge", "publish")):
            raise UserError("--track needs a run")
        check_tool(args.track)
    if args.list:
        print_recipes(console)
        return
    if args.results.is_file():
        raise UserError(f"--results {args.results}: this is a file; name a folder")
    if args.jobs is not None and args.jobs < 1:
        raise UserError(f"--jobs {args.jobs}: expected 1 or more")
    if args.check_results:
        check(PUBLISHED if args.results == PUBLISHED / "local" else args.results, args.check_results, console)
        return
    if args.leaderboard or ((args.report or args.export) and not (args.recipe or args.set or args.seeds)):
        tables(args, console)
        return
    for names, command in ((args.compare, compare), (args.diff, diff), (args.archive, archive)):
        if names:
            if args.recipe or args.set or args.seeds:
                raise UserError("--compare, --diff and --archive read results: leave --recipe, --set and --seeds out")
            command(names, args.results, console)
            return
    if args.show in ("answers", "rows"):
        show_results(args, console)
        return
    from bench.analysis.registration import describe_registration, find_terms
    from bench.config.recipe_files import load_recipes
    from bench.models.checkpoints import identify
    from bench.models.engine import choose_engine
    from bench.pipeline.estimate import estimate_plan
    from bench.pipeline.local_workers import Pool
    from bench.pipeline.planner import make_plan
    from bench.pipeline.ray_executor import RayExecutor
    from bench.pipeline.recipe_checks import check_configurations, describe_bfloat16
    from bench.pipeline.remote_store import RemoteStore, open_store

    store = open_store(args.store)
    if args.prune:
        if isinstance(store, RemoteStore):
            raise UserError("--prune needs a folder as --store; remove old artefacts of a URL with its own tools")
        prune(args, store, console)
        return
    names = args.recipe or [DEFAULT]
    rows = [(row, name) for name in names for row in load_recipes(name, args.set, seeds=args.seeds, smoke=args.smoke)]
    if args.show:
        show_prompts(names, args, store, console)
        return
    if args.lm_eval:
        lm_eval(rows, args.lm_eval, store, console)
        return
    if args.contribute:
        from bench.publish.contribution import contribute

        for line in contribute([experiment for experiment, _ in rows], args.results, PUBLISHED):
            print_line(console, line)
        return
    if args.merge or args.publish:
        share(rows, args, store, console)
        return
    for line in dict.fromkeys(line for experiment, _ in rows for line in experiment.warnings()):
        console.print(f"warning: {line}", markup=False, highlight=False, soft_wrap=True)
    with store.in_use(), Pool(store, args.jobs, args.track) as pool:
        if not args.dry_run:
            with RayExecutor(store, args.jobs, args.track) if args.on == "ray" else nullcontext(pool) as executor:
                _run(rows, args, pool, executor, console)
            if args.report or args.export:
                tables(args, console)
            return
        check_configurations(pool, rows)
        for experiment, _ in rows:
            engine = choose_engine(experiment.recipe, args.vllm)
            plan = make_plan(experiment, partial(identify, fetch=False), engine)
            estimate = estimate_plan(experiment, plan, store)
            if args.json:
                print(json.dumps({"recipe": experiment.name, "recipe_hash": experiment.hash(), **estimate.as_json()}))
            print_plan(experiment, estimate, console)
            for line in describe_registration(experiment, find_terms(experiment, plan, store, args.results, PUBLISHED)):
                print_line(console, line)
            for line in describe_bfloat16(pool, experiment, plan):
                console.print(line, markup=False, highlight=False, soft_wrap=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 done, 1 a stage failed, 2 the user must act, 130 interrupted."""
    args = make_parser().parse_args(argv)
    console = Console(soft_wrap=False, quiet=args.quiet, stderr=args.json)
    problems = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    try:
        _command(args, console)
    except UserError as error:
        problems.print(f"error: {error}")
        return 2
    except StageError as error:
        problems.print(f"failed: {error}\n{RESUME}")
        return 1
    except OSError as error:
        path = f"{error.filename}: " if error.filename else ""
        problems.print(f"failed: {path}{error.strerror or error}\n{RESUME}")
        return 1
    except KeyboardInterrupt:
        problems.print(f"\nInterrupted. {RESUME}")
        return 130
    return 0
