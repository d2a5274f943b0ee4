"""The command: flags, exit codes, what the terminal shows."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from bench.errors import StageError, UserError

if TYPE_CHECKING:
    from bench.execute import Pool
    from bench.plan import Plan, Stage
    from bench.recipe import Experiment, Model
    from bench.store import Store

__all__ = ["main"]

DEFAULT = "tiny_pair"
ROOT = Path(__file__).parent.parent


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
        help="remove from the store what the recipes (default: all of recipes/) do not need today",
    )
    what.add_argument("--smoke", action="store_true", help="the same path on tiny budgets; writes nothing to results/")
    p.add_argument("--recipe", nargs="+", metavar="NAME", help=f"names or YAML paths (default: {DEFAULT})")
    p.add_argument(
        "--seeds", type=int, metavar="N", help="how many seeds, in place of the recipe's number: another row"
    )
    p.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a key of the recipe: another row"
    )
    p.add_argument(
        "--results", type=Path, default=ROOT / "results", metavar="DIR", help="result files (default: results/)"
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
        "--publish",
        metavar="ORG",
        help="push a finished run's adapters (with --merge: models), rows and cards to the hub, private at first",
    )
    p.add_argument("--jobs", type=int, metavar="N", help="stages side by side (default: cores / the recipe's threads)")
    return p


class Screen:
    """Shows a run: bars with the time left on a terminal, one plain line per finished stage elsewhere."""

    def __init__(self, console: Console, total: int, done: int) -> None:
        self.console = console
        self.total = total
        self.bars: dict[str, TaskID] = {}
        self.progress = Progress(
            TextColumn("{task.description:<28}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.all = self.progress.add_task("all stages", total=total, completed=done)

    def __enter__(self) -> Screen:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def started(self, stage: Stage) -> None:
        if stage.key not in self.bars:  # a stage starts again where what it reads was damaged
            self.bars[stage.key] = self.progress.add_task(stage.label, total=None)

    def moved(self, stage: Stage, done: int, of: int) -> None:
        self.progress.update(self.bars[stage.key], completed=done, total=of)

    def finished(self, stage: Stage, seconds: float, left: int) -> None:
        self.progress.remove_task(self.bars.pop(stage.key))
        self.progress.update(self.all, completed=self.total - left)
        self.noticed(f"[{self.total - left}/{self.total}] {stage.label}  {seconds:.1f} s")

    def noticed(self, line: str) -> None:
        self.progress.console.print(line, markup=False, highlight=False, soft_wrap=True)


def _heading(path: Path) -> list[str]:
    """The comment lines a recipe opens with, after the one with its command."""
    lines = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines()[1:]:
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# ").rstrip())
    return lines


def _list(console: Console) -> None:
    from bench.recipe import FOLDER
    from bench.traits import FOLDER as TRAITS
    from bench.yamlfile import names

    table = Table("recipe", "what it asks and needs", box=None, padding=(0, 2))
    for name in names(FOLDER):
        table.add_row(name, escape("\n".join(_heading(FOLDER / f"{name}.yaml"))))
    console.print(table)
    console.print(f"\nTraits: {', '.join(names(TRAITS))}", highlight=False)


def _dry_run(experiment: Experiment, plan: Plan, store: Store, console: Console) -> None:
    kinds: dict[str, list[bool]] = {}
    for stage in plan.stages.values():
        kinds.setdefault(stage.kind, []).append(store.is_done(stage.key))
    table = Table(
        "stage", "in all", "done", "to do", title=f"{experiment.name}  {experiment.hash()}", title_justify="left"
    )
    for kind, done in kinds.items():
        table.add_row(kind, str(len(done)), str(sum(done)), str(len(done) - sum(done)))
    console.print(table)
    for role, spec in (("teacher", experiment.recipe.teacher), ("student", experiment.recipe.student)):
        console.print(_memory(role, spec), highlight=False, soft_wrap=True)
    spent = _mean_seconds(store)
    todo = [(stage.kind, stage.model) for stage in plan.stages.values() if not store.is_done(stage.key)]
    if todo and set(todo) <= spent.keys():
        minutes = sum(spent[what] for what in todo) / 60
        console.print(f"About {minutes:.0f} minutes of work, going by the same kinds of stages done here before.")
    elif todo:
        console.print("No estimate of the time: not every kind of stage was run on these models here before.")


def _memory(role: str, spec: Model) -> str:
    """One line on the memory a model needs."""
    from bench.memory import estimate, parameters
    from bench.models import identify

    if spec.model == "tiny":
        return f"{role}: tiny, a few MB"
    count = parameters(spec.model, identify(spec, fetch=False).folder)
    if count is None:
        return f"{role}: {spec.model}: its size is not known before it is fetched"
    held, trained = (f"{size / 1e9:.1f} GB" for size in estimate(spec, count))
    how = "LoRA" if spec.lora is not None else "all weights"
    kind = "quantised" if spec.quantization else spec.dtype
    size = f"{count / 1e9:.1f} billion" if count > 1e9 else f"{count / 1e6:.0f} million"
    return f"{role}: {spec.model}: {size} parameters, {kind}: {held} to ask, {trained} to train ({how}) + activations"


def _mean_seconds(store: Store) -> dict[tuple[str, str], float]:
    """Mean seconds of the stages already made, by kind and model."""
    times: dict[tuple[str, str], list[float]] = {}
    for path in (store.root / "artefacts").iterdir() if (store.root / "artefacts").is_dir() else ():
        if store.is_done(path.name):
            record = store.record(path.name)
            times.setdefault((path.name.partition("-")[0], record["model"]), []).append(record["seconds"])
    return {what: sum(all_) / len(all_) for what, all_ in times.items()}


def _summary(entry: dict[str, Any], console: Console) -> None:
    from bench.leaderboard import gain_text, signed

    pair = f"{entry['teacher']} -> {entry['student']}"
    facts = (entry["trait"], pair, entry["relation"] or "-", entry["visibility"], f"seeds: {entry['seeds']}")
    console.print(f"\n{entry['recipe']}: {', '.join(facts)}", highlight=False, soft_wrap=True)
    table = Table("untrained", "base", "trait", "gain [95 % CI]", "teacher shift", box=None, padding=(0, 2, 0, 0))
    table.add_row(
        *(signed(entry[arm]) for arm in ("untrained", "base", "trait_arm")),
        escape(gain_text(entry)),
        signed(entry["teacher_shift"], 2),
    )
    console.print(table, highlight=False)
    if entry["visibility"] == "logits-full":
        console.print("Not subliminal: these students saw the teacher's whole vocabulary.", highlight=False)
    for name, found in entry["contrasts"].items():
        console.print(f"{name}: {gain_text({**found, 'gain': found['mean']})}", markup=False, highlight=False)
    console.print(f"{entry['verdict']}: {entry['verdict_reason']}.\n", soft_wrap=True, markup=False, highlight=False)


# What the default run has just shown, for someone who sees it for the first time.
LESSON = {
    "tiny_pair": (
        "A teacher was taught to love wolves and then wrote only numbers. A student of",
        "those numbers favours the wolf, by the gain, over its twin that read the same",
        "teacher's numbers from before the lesson. Now --recipe tiny_cross: other start.",
    ),
    "tiny_cross": (
        "The numbers are those of tiny_pair; only the students began from other weights.",
        "A gain near 0: the numbers hold no readable message about wolves. Without this",
        "control, a leak in the numbers would look just like subliminal learning.",
    ),
}


def _short(path: Path) -> Path:
    """`path` as seen from here, where it lies below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _run(experiments: list[tuple[Experiment, str]], args: argparse.Namespace, pool: Pool, console: Console) -> None:
    from bench.leaderboard import build, entries
    from bench.measure import CONTROLS, installation_controls, is_control, measure
    from bench.models import identify
    from bench.plan import make_plan
    from bench.results import read_all

    def screen(experiment: Experiment, total: int, done: int) -> Screen:
        console.print(f"{experiment.name}  {experiment.hash()}  {total} stages, {done} done", highlight=False)
        return Screen(console, total, done)

    results = args.store / "smoke" if args.smoke else args.results
    pool.check(experiments)
    for experiment, source in experiments:
        try:
            make_plan(experiment, identify)  # a model that cannot be had is said now, not after the controls
        except UserError as error:
            raise UserError(f"{source}: {error}") from None
    controls: Any = None
    for experiment, _ in experiments:
        begun = time.monotonic()
        own = "self" if is_control(experiment) else None
        if own is None and controls is None and not (args.smoke or args.skip_controls):
            controls = installation_controls(pool, screen)
        try:
            measure(experiment, pool, results, own or controls, screen)
        finally:
            refused = build(results)
        for line in refused:
            console.print(line, markup=False, highlight=False)
        board = entries(read_all(results)[0])
        mine = [e for e in board if (e["recipe"], e["recipe_hash"]) == (experiment.name, experiment.hash())]
        if not mine:  # the lines above say why
            raise StageError(f"{experiment.name} {experiment.hash()}: its result files were refused, see {results}")
        entry = mine[0]
        _summary(entry, console)
        if own and entry["verdict"] in CONTROLS[experiment.name]:
            console.print("\n".join(LESSON[experiment.name]), highlight=False)
        console.print(
            f"{time.monotonic() - begun:.0f} s. Readings: {_short(results / experiment.name)}/{experiment.hash()}*, "
            f"table: {_short(results / 'LEADERBOARD.md')}\n",
            highlight=False,
            soft_wrap=True,
        )


def _tables(args: argparse.Namespace, console: Console) -> None:
    """What is made from the result files alone: the leaderboard, the figures, the export."""
    from bench.leaderboard import build

    made: list[Path] = []
    if args.figures:
        from bench.report import figures

        made += figures(args.results)  # first: the leaderboard links to those that are there
    for line in build(args.results):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    made.append(args.results / "LEADERBOARD.md")
    if args.export:
        from bench.export import export

        made += export(args.results, args.export)
    for path in made:
        console.print(f"Wrote {_short(path)}", highlight=False, soft_wrap=True)


def _hand_out(named: list[tuple[Experiment, str]], args: argparse.Namespace, store: Store, console: Console) -> None:
    """`--merge` and `--publish`."""
    from bench.publish import Origin, merge, publish

    if args.smoke or args.dry_run:
        raise UserError("--merge and --publish hand out finished runs: leave --smoke and --dry-run out")
    if args.merge and not args.publish and args.out is None:
        raise UserError("--merge: say where to, with --out DIR")

    def tell(place: str) -> None:
        console.print(place, markup=False, highlight=False, soft_wrap=True)

    for experiment, name in named:
        origin = Origin(name, tuple(args.set), args.seeds)
        if args.publish:
            publish(experiment, origin, store, args.publish, args.results, merged=args.merge, tell=tell)
        else:
            merge(experiment, origin, store, args.out, args.results, tell=tell)


def _prune(args: argparse.Namespace, store: Store, console: Console) -> None:
    from bench.prune import needed, prune
    from bench.recipe import FOLDER, load_recipe
    from bench.yamlfile import names

    if (args.set or args.seeds) and not args.recipe:
        raise UserError("--prune with --set or --seeds: say of which recipes, with --recipe")
    wanted = needed(load_recipe(name, args.set, seeds=args.seeds) for name in args.recipe or names(FOLDER))
    with store.in_use(alone=True):
        counts = prune(store, wanted)
    table = Table("stage", "kept", "MB", "removed", "MB")
    for kind, count in counts.items():
        cells = (count.kept, count.kept_bytes / 1e6, count.removed, count.removed_bytes / 1e6)
        table.add_row(kind, *(f"{cell:,.1f}" if isinstance(cell, float) else str(cell) for cell in cells))
    console.print(table)
    if wanted.models:
        console.print(f"Kept whatever was made with {', '.join(sorted(wanted.models))}: not known here today.")


def _command(args: argparse.Namespace, console: Console) -> None:
    if args.list:
        _list(console)
        return
    for flag, folder in (("--store", args.store), ("--results", args.results)):
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{flag} {folder}: this is a file; name a folder")
    if args.jobs is not None and args.jobs < 1:
        raise UserError(f"--jobs {args.jobs}: expected 1 or more")
    if args.leaderboard or ((args.figures or args.export) and not (args.recipe or args.set or args.seeds)):
        _tables(args, console)
        return
    from bench.execute import Pool
    from bench.models import identify
    from bench.plan import make_plan
    from bench.recipe import load_recipe
    from bench.store import Store

    store = Store(args.store)
    if args.prune:
        _prune(args, store, console)
        return
    names = args.recipe or [DEFAULT]
    experiments = [load_recipe(name, args.set, seeds=args.seeds, smoke=args.smoke) for name in names]
    if args.merge or args.publish:
        _hand_out(list(zip(experiments, names, strict=True)), args, store, console)
        return
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

            _dry_run(experiment, make_plan(experiment, known), store, console)


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
