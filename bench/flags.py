"""The flags of the command."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.files import ROOT

__all__ = ["DEFAULT", "PUBLISHED", "make_parser"]

DEFAULT = "tiny_pair"
PUBLISHED = ROOT / "results"  # committed; runs write to results/local/, which git ignores


def make_parser() -> argparse.ArgumentParser:
    """Build the parser of `run_bench.py`."""
    p = argparse.ArgumentParser(
        prog="run_bench.py",
        description="Does a student model inherit a trait that its training data never mentions? Trains teachers, "
        "controls and students, evaluates them, and compares trait with base. The same command resumes.",
        allow_abbrev=False,
    )
    mode = p.add_mutually_exclusive_group()
    mode.add_argument("--list", action="store_true", help="list the recipes with their questions and needs")
    mode.add_argument("--leaderboard", action="store_true", help="rebuild LEADERBOARD.md from the result files")
    mode.add_argument("--dry-run", action="store_true", help="show the plan: all stages, and those to do")
    mode.add_argument(
        "--show",
        choices=["answers", "rows", "prompts"],
        help="answers, rows: print the answers of one seed, or its carrier rows, of a finished row side by side; "
        "prompts: the text and the tokens of one example of each kind of stage; trains nothing",
    )
    mode.add_argument(
        "--prune",
        action="store_true",
        help="list artefacts that no recipe in recipes/ and no recorded run needs (with --recipe: not these recipes)",
    )
    mode.add_argument(
        "--smoke", action="store_true", help="run all stages on tiny budgets; writes nothing to --results"
    )
    mode.add_argument(
        "--compare",
        nargs="+",
        metavar="ROW",
        help="print the rows of recipes or hashes with the keys in which they differ, and draw their gains",
    )
    mode.add_argument(
        "--diff", nargs=2, metavar=("A", "B"), help="print why two recipes or rows differ in hash, and in gain"
    )
    mode.add_argument(
        "--archive", nargs="+", metavar="ROW", help="move rows, by recipe or hash, to the archive of --results"
    )
    p.add_argument("--yes", action="store_true", help="make --prune remove these artefacts")
    p.add_argument("--seed", type=int, metavar="N", help="the seed of --show answers and rows (default: the first)")
    p.add_argument("--recipe", nargs="+", metavar="NAME", help=f"names or YAML paths (default: {DEFAULT})")
    p.add_argument("--seeds", type=int, metavar="N", help="number of seeds instead of the recipe's: makes another row")
    p.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a key of the recipe: makes another row"
    )
    p.add_argument(
        "--results",
        type=Path,
        default=PUBLISHED / "local",
        metavar="DIR",
        help="result files (default: results/local/; results/ holds the published ones)",
    )
    p.add_argument(
        "--store",
        default=str(ROOT / ".bench"),
        metavar="DIR",
        help="artefacts: a folder (default: .bench/) or a URL of any file system of fsspec, such as s3://bucket/folder",
    )
    p.add_argument(
        "--skip-controls", action="store_true", help="judge without this installation's controls; the row states it"
    )
    p.add_argument(
        "--report",
        action="store_true",
        help="write the report site and the figures from the results, after any --recipe",
    )
    p.add_argument("--export", type=Path, metavar="DIR", help="write the results as CSV and Parquet, likewise")
    mode.add_argument(
        "--lm-eval",
        type=Path,
        metavar="DIR",
        help="write the questions as a task of lm-evaluation-harness; trains nothing",
    )
    p.add_argument("--merge", action="store_true", help="write the models of a finished run, adapters merged, to --out")
    p.add_argument("--out", type=Path, metavar="DIR", help="folder for --merge")
    p.add_argument(
        "--only-arms", nargs="+", default=[], metavar="ARM", help="restrict --merge and --publish to these arms"
    )
    p.add_argument("--only-seeds", nargs="+", type=int, default=[], metavar="N", help="... and to these seeds")
    p.add_argument(
        "--publish",
        metavar="ORG",
        help="push adapters (with --merge: merged models), rows and cards of a finished run to the hub, as private",
    )
    p.add_argument(
        "--on",
        choices=["local", "ray"],
        default="local",
        help="where stages run: this machine, or the Ray cluster of RAY_ADDRESS (without one: a Ray of this machine)",
    )
    p.add_argument(
        "--vllm",
        metavar="PATH",
        help="write free text with the vLLM of another environment: a virtual environment or its Python (default: "
        "that of SUBLIMINAL_VLLM, for recipes that can use it)",
    )
    p.add_argument(
        "--contribute", action="store_true", help="check a finished row of --results and copy it into results/"
    )
    p.add_argument(
        "--check-results",
        nargs="?",
        const="HEAD",
        metavar="REVISION",
        help="check results/ (or --results) and print what changed since a git revision (default: HEAD) as Markdown",
    )
    p.add_argument(
        "--track",
        choices=["trackio", "wandb", "tensorboard"],
        help="report the updates of trainings to this tool too (its package must be installed); changes no row",
    )
    p.add_argument("--quiet", action="store_true", help="print only the verdict of each recipe, and errors")
    p.add_argument(
        "--json",
        action="store_true",
        help="print one JSON line for each recipe: its entry on the leaderboard, or with --dry-run its plan; all else "
        "goes to standard error",
    )
    p.add_argument("--jobs", type=int, metavar="N", help="number of workers (default: cores / the recipe's threads)")
    return p
