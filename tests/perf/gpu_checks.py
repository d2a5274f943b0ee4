"""Checks of one device: recipes run twice to equal bytes, and what the arms of a seed share is equal there too."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench.files import ROOT, file_sha256
from bench.stages.settings import Training
from tests.perf.in_process import Say, quiet
from tests.perf.shapes import Shape, load_shape

__all__ = ["Check", "check_pairing", "check_recipe"]

TINY = [
    "--set", "carrier.rows=256", "--set", "carrier.held_out=64", "--set", "teacher.train.max_steps=24",
    "--set", "student.train.max_steps=24", "--set", "arms=[untrained, base, trait, placebo]",
]  # fmt: skip
SMALL = [
    "--set", "carrier.rows=64", "--set", "carrier.held_out=16", "--set", "teacher.train.max_steps=4",
    "--set", "student.train.max_steps=3",
]  # fmt: skip
ROWS, UPDATES = 32, 4  # of the trainings of `check_pairing`


class Check(NamedTuple):
    """One check."""

    what: str
    passed: bool | None
    """None for a figure without a bound."""
    result: str


def digests(store: Path) -> dict[str, str]:
    """The SHA-256 of all files of artefacts, without their records, which hold times."""
    paths = [p for p in (store / "artefacts").rglob("*") if p.is_file() and p.name != "done.json"]
    return {str(path.relative_to(store / "artefacts")): file_sha256(path) for path in paths}


def records(store: Path) -> dict[str, dict[str, Any]]:
    """The records of all artefacts."""
    paths = (store / "artefacts").glob("*/done.json")
    return {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in paths}


def compare_stores(first: Path, second: Path) -> Check:
    """Compare the bytes of all artefacts of two runs."""
    one, two = digests(first), digests(second)
    other = sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))
    kinds = Counter(name.partition("-")[0] for name in other)
    found = ", ".join(f"{kind} {count}" for kind, count in kinds.items())
    return Check(
        "equal bytes of two runs", bool(one) and not other,
        f"{len(one) - len(other)} of {len(one)} files of artefacts are equal{f'; other: {found}' if found else ''}",
    )  # fmt: skip


def check_students(store: Path) -> list[Check]:
    """Check in the records that the students of a seed had one micro-batch and shared their dropout."""
    facts = [record["did"] for key, record in records(store).items() if key.startswith("student-")]
    sizes = {fact["micro_batch"] for fact in facts}
    shared = sum(fact["shared_dropout"] for fact in facts)
    return [
        Check("one micro-batch for all students", len(sizes) == 1, f"{len(facts)} students: {sorted(sizes)}"),
        Check("students share their dropout, or draw none", shared == len(facts), f"{shared} of {len(facts)}"),
    ]


def check_recipe(recipe: str, shape: Shape | None, *, small: bool, seconds: float, say: Say) -> list[Check]:
    """Run one seed of a recipe twice from empty stores, and compare the bytes of all artefacts.

    Args:
        recipe: its name.
        shape: the checkpoint of teacher and student; None for the recipe's.
        small: with as few rows and updates as a test needs.
        seconds: the time for both runs.

    Raises:
        RuntimeError: a run failed, or its time was over.
    """
    words = ["--recipe", recipe, "--skip-controls", "--seeds", "1", "--set", "first_seed=1000"]
    if shape is not None:
        words += [word for role in ("teacher", "student") for word in ("--set", f"{role}.model={shape.folder}")]
        words += ["--set", "arms=[untrained, base, trait]"]
    words += SMALL if small else TINY if shape is None else []
    until, times = time.monotonic() + seconds, []
    with tempfile.TemporaryDirectory() as folder:
        stores = [Path(folder) / name / "store" for name in ("first", "second")]
        for store in stores:
            begun = time.monotonic()
            _run([*words, "--store", str(store), "--results", str(store.parent / "results")], until - begun)
            times.append(time.monotonic() - begun)
            say(f"{recipe}: {times[-1]:.1f} s")
        spent: Counter[str] = Counter()
        for record in records(stores[1]).values():
            spent[record["key"].partition("-")[0]] += record["seconds"]  # type: ignore[assignment]  # a float
        parts = ", ".join(f"{kind} {value:.1f}" for kind, value in spent.most_common(5))
        checks = [
            Check("runs to its result files", True, f"{times[0]:.0f} and {times[1]:.0f} s; in stages: {parts} s"),
            compare_stores(*stores),
            *check_students(stores[0]),
        ]
    return [check._replace(what=f"{recipe}: {check.what}") for check in checks]


def _run(words: Sequence[str], seconds: float) -> None:
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    try:
        done = subprocess.run(
            [sys.executable, str(ROOT / "run_bench.py"), *words], capture_output=True, text=True, timeout=seconds,
            env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"the time was over after {seconds:.0f} s") from None
    if done.returncode:
        raise RuntimeError(f"exit {done.returncode}: {(done.stderr.strip().splitlines() or ['no output'])[-1][:300]}")


def check_pairing(name: str, store: Path, say: Say) -> list[Check]:
    """Check what two arms share: noise of sampling, order of prompts, initial adapters, random numbers of updates."""
    from bench.models.loading import load_model

    shape = load_shape(name, store)
    model = load_model(shape.folder, dtype="float32").eval()
    checks = [*_check_noise(), *_check_rows(shape, model)]
    del model
    checks += _check_arms(shape)
    for check in checks:
        say(f"{check.what}: {check.result}")
    return checks


def _check_noise() -> list[Check]:
    """Compare the noise of free text on this device with that of a CPU."""
    import torch

    from bench.models.loading import current_device
    from bench.stages.sampler import row_seed, split_mix, token_noise

    seeds = torch.tensor([[row_seed(1000, row)] for row in range(16)])
    tokens = torch.arange(5000)
    there = current_device()
    integers = split_mix(split_mix(seeds, 3), tokens), split_mix(split_mix(seeds.to(there), 3), tokens.to(there)).cpu()
    noise = token_noise(split_mix(seeds, 3), tokens), token_noise(split_mix(seeds.to(there), 3), tokens.to(there)).cpu()
    apart = float((noise[0] - noise[1]).abs().max())
    return [
        Check("integers of the noise are those of a CPU", torch.equal(*integers), "80,000 numbers"),
        Check("Gumbel noise is that of a CPU", apart < 1e-4, f"at most {apart:.2g} apart (wanted: 1e-4)"),
    ]


def _check_rows(shape: Shape, model: Any) -> list[Check]:
    """Compare rows that one model writes twice, and in other batches."""
    from bench.config.carrier_settings import Sampling
    from bench.stages.free_text import sample_text
    from bench.stages.generate import sample_slots

    prompts = shape.prompts(ROWS)
    ids = shape.form.prompts(prompts)
    how: dict[str, Any] = {"seed": 1000, "temperature": 1.0, "progress": quiet}
    ways: dict[str, Callable[[int], Sequence[Any]]] = {
        "number rows": lambda size: sample_slots(model, ids, shape.slots, batch_size=size, **how),
        "free texts": lambda size: sample_text(
            model, shape.form, prompts, Sampling(max_new_tokens=16, batch_size=size), seed=1000, progress=quiet
        ),
    }
    checks = []
    for what, write in ways.items():
        first, again, other = write(ROWS), write(ROWS), write(ROWS // 4)
        equal, elsewhere = (sum(a == b for a, b in zip(first, rows, strict=True)) for rows in (again, other))
        checks += [
            Check(f"{what} of equal teachers are equal", equal == ROWS, f"{equal} of {ROWS}"),
            Check(f"{what} in batches of a quarter", None, f"{elsewhere} of {ROWS} equal"),
        ]
    return checks


def _check_arms(shape: Shape) -> list[Check]:
    """Train two students whose completions differ, and one of them twice, with dropout."""
    rows = shape.rows(2 * ROWS)
    prompts = [prompt for prompt, _ in rows[:ROWS]]
    arms = [list(zip(prompts, [row[1] for row in part], strict=True)) for part in (rows[:ROWS], rows[ROWS:])]
    trait, again, base = (_trace(shape, arm) for arm in (arms[0], arms[0], arms[1]))
    return [
        Check("arms start from equal adapters", trait.start == base.start, "by their SHA-256"),
        Check("arms read their prompts in one order", trait.prompts == base.prompts, f"{UPDATES} updates"),
        Check("arms draw the same random numbers", trait.random == base.random, f"{UPDATES} updates, dropout .1"),
        Check("arms learn from their own completions", trait.end != base.end, "their adapters differ"),
        Check("two trainings end with equal bits", trait.end == again.end, "by the SHA-256 of their adapters"),
    ]


class Trace(NamedTuple):
    """What a training read and drew."""

    start: str
    """The SHA-256 of the trained weights before."""
    end: str
    """... and after."""
    prompts: list[list[list[int]]]
    """Token ids of the prompts of each update."""
    random: list[str]
    """The SHA-256 of the random state after each update."""


def _trace(shape: Shape, rows: list[tuple[list[int], list[int]]]) -> Trace:
    import torch
    from transformers import TrainerCallback

    from bench.stages.trainer import make_trainer

    prompts: list[list[list[int]]] = []
    states: list[str] = []
    length = len(rows[0][0])

    def digest(tensors: Sequence[torch.Tensor]) -> str:
        whole = hashlib.sha256()
        for tensor in tensors:
            whole.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return whole.hexdigest()

    class Watch(TrainerCallback):  # type: ignore[misc]  # transformers has no types
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            state = torch.cuda.get_rng_state() if torch.cuda.is_available() else torch.get_rng_state()
            states.append(digest([state]))

    def read(module: Any, args: Any, options: dict[str, Any]) -> None:
        prompts.append(options["input_ids"][:, :length].tolist())

    spec = Training(
        dtype="float32", format="plain", lora={"r": 8, "target_modules": "all-linear", "lora_dropout": 0.1},
        train={"max_steps": UPDATES, "learning_rate": 1e-3, "per_device_train_batch_size": 8},
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(
            rows, checkpoint=shape.folder, tokenizer=shape.form.tokenizer, spec=spec, seed=1000, out=Path(folder),
            logits=None, micro_batch=8, accumulated=1,
        )  # fmt: skip
        trainer.add_callback(Watch())
        trained = [weight for weight in trainer.model.parameters() if weight.requires_grad]
        start = digest(trained)
        trainer.model.register_forward_pre_hook(read, with_kwargs=True)
        trainer.train()
        return Trace(start, digest(trained), prompts, states)
