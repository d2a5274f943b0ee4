"""`--merge` and `--publish`: write the models and carrier rows of a finished run to folders or to the hub.

Two calls write the same bytes, so a repeated upload skips the files that the hub has already.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bench.config.recipe_files import Experiment
from bench.errors import StageError, UserError
from bench.pipeline.store import Store
from bench.publish.bundle import write_model, write_rows
from bench.publish.finished_run import ALL, FinishedRun, RunCommand, Selection, TrainedModel, load_finished_run

__all__ = ["RunCommand", "Selection", "merge", "publish"]

Tell = Callable[[str], None]


def merge(
    experiment: Experiment,
    command: RunCommand,
    store: Store,
    out: Path,
    results: Path,
    *,
    tell: Tell,
    selection: Selection = ALL,
) -> list[Path]:
    """Write the trained models of a finished run to `out/<recipe>-<arm>-seed<N>/`, adapters merged into their base.

    A folder of the same row is replaced. Intermediate models (`dose`) are left out.

    Args:
        experiment: the run's experiment.
        command: the command that makes the run.
        store: the store of its artefacts.
        out: the folder to write to.
        results: folder of its result files.
        tell: receives each folder when it is complete.
        selection: the models to write.

    Raises:
        UserError: the run is not finished or corrupt, or a folder of that name holds something different.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: this is a file; name a folder")
    run = load_finished_run(experiment, command, store, results, merged=True, selection=selection)
    targets = [out / f"{experiment.name}-{_arm(model)}" for model in run.selected]
    for target in targets:
        if target.exists() and not _is_of(target, experiment.hash()):
            raise UserError(f"{target} exists and holds no model of {run.label}: move it, or name another --out")
    for model, target in zip(run.selected, targets, strict=True):
        with _temporary_folder(out) as folder:
            write_model(run, model, folder, name=target.name, data=None)
            if target.exists():
                shutil.rmtree(target)
            folder.rename(target)
        tell(str(target))
    return targets


def publish(
    experiment: Experiment,
    command: RunCommand,
    store: Store,
    org: str,
    results: Path,
    *,
    merged: bool,
    tell: Tell,
    selection: Selection = ALL,
    private: bool = True,
) -> list[str]:
    """Push the carrier rows and the trained models of a finished run to the hub, each with its card.

    Rows go to the data set `<org>/<recipe>-<hash>-carrier`, models to `<org>/<recipe>-<hash>-<arm>-seed<N>`, with
    `-merged` at the end for a merged adapter. The name of a repository identifies its row. The token is that of
    huggingface_hub: `HF_TOKEN`, or the one that `hf auth login` saves.

    Args:
        experiment: the run's experiment.
        command: the command that makes the run.
        store: the store of its artefacts.
        org: user or organisation on the hub.
        results: folder of its result files.
        merged: whether to push merged models instead of adapters.
        tell: receives the address of each repository when it is complete.
        selection: the models to push; rows are pushed for all seeds.
        private: whether new repositories are private; existing ones stay as they are. To make one public, use its
            settings page or `hf repos settings <id> --public`.

    Returns:
        The repositories' addresses.

    Raises:
        UserError: there is no token, the hub refuses it, the name is not valid, or the run is not finished.
        StageError: an upload failed; the message lists finished uploads. The same call resumes.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import get_token

    if get_token() is None:
        raise UserError("--publish needs a token of the Hugging Face hub. Run: hf auth login (or set HF_TOKEN)")
    run = load_finished_run(experiment, command, store, results, merged=merged, selection=selection)
    row = f"{org}/{experiment.name}-{experiment.hash()}"
    data = f"{row}-carrier"
    jobs = [_Job("dataset", data, None)]
    jobs += [_Job("model", f"{row}-{_arm(m)}{'-merged' * m.merges}", m) for m in run.selected]
    for job in jobs:
        _check_name(job.repo)
    pushed: list[str] = []
    for job in jobs:
        with _temporary_folder(store.root / "publish") as folder:
            if job.model is None:
                write_rows(run, folder, name=job.repo)
            else:
                write_model(run, job.model, folder, name=job.repo, data=data)
            pushed.append(_push(job, folder, run, private, pushed))
        tell(pushed[-1])
    return pushed


class _Job(NamedTuple):
    """One repository; `model` is None for the carrier rows."""

    kind: str
    repo: str
    model: TrainedModel | None


def _arm(model: TrainedModel) -> str:
    return f"{model.cell.arm}-seed{model.cell.seed}"


def _is_of(target: Path, recipe_hash: str) -> bool:
    """Return whether the card of a folder names the row with this hash."""
    from huggingface_hub.repocard import metadata_load

    try:
        front = metadata_load(target / "README.md") or {}
        return bool(front["subliminal_bench"]["recipe_hash"] == recipe_hash)
    except (OSError, ValueError, KeyError, TypeError):
        return False


@contextmanager
def _temporary_folder(parent: Path) -> Iterator[Path]:
    """Make an empty folder under `parent`; on exit remove it, unless it was renamed."""
    folder = parent / f".{uuid.uuid4().hex}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check_name(repo: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # hub: not among its exports

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise UserError(f"--publish: {repo!r} is not a valid name of a repository: {_one_line(error)}") from None


def _push(job: _Job, folder: Path, run: FinishedRun, private: bool, pushed: list[str]) -> str:
    """Create the repository if it does not exist, upload the folder, and return the address."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi(token=True)  # the token that get_token finds, or an error
    message = f"{run.label}: {_arm(job.model) if job.model else 'carrier rows'}"
    try:
        url = api.create_repo(job.repo, repo_type=job.kind, private=private, exist_ok=True)
        api.upload_folder(repo_id=job.repo, repo_type=job.kind, folder_path=folder, commit_message=message)
    except Exception as error:  # the client, its transports and its storage raise errors of many classes
        cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
        reason = _one_line(cause)
        done = f"Pushed before it: {', '.join(pushed)}." if pushed else "Nothing was pushed before it."
        if isinstance(error, HfHubHTTPError) and error.response.status_code in {401, 403}:
            owner = job.repo.partition("/")[0]
            raise UserError(
                f"{job.repo}: the hub refuses this token: {reason}. {done} Use a token that may write to {owner}: "
                "run hf auth login"
            ) from None
        raise StageError(f"{job.repo}: {reason or type(cause).__name__}. {done}") from None
    return str(url)


def _one_line(error: BaseException) -> str:
    """Return the message of an error, without the token and without the parameters of signed addresses."""
    from huggingface_hub import get_token

    reason = re.sub(r"(https?://[^\s?]+)\?[^\s']+", r"\1", " ".join(str(error).split()))
    return reason.replace(get_token() or "\n", "[token]")[:300].rstrip(".")
