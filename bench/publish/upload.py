"""`--merge` and `--publish`: the models and carrier rows of a finished run, in folders or on the Hugging Face hub.

Nothing that is written differs between two calls, so that a repeated upload finds its files there and skips them.
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

from bench.config.recipe import Experiment
from bench.errors import StageError, UserError
from bench.pipeline.store import Store
from bench.publish.bundle import write_model, write_rows
from bench.publish.finished_run import ALL, Origin, Pick, Run, Trained, load_finished_run

__all__ = ["Origin", "Pick", "merge", "publish"]

Tell = Callable[[str], None]


def merge(
    experiment: Experiment, origin: Origin, store: Store, out: Path, results: Path, *, tell: Tell, pick: Pick = ALL
) -> list[Path]:
    """Write the trained models of a finished run to `out/<recipe>-<arm>-seed<N>/`, adapters merged into their base.

    A folder of the same row is written anew. Models read along the way (`dose`) are left out.

    Args:
        tell: told each folder when it is complete.
        pick: which of them.

    Raises:
        UserError: the run is not finished or damaged, or a folder of that name holds something else.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: this is a file; name a folder")
    run = load_finished_run(experiment, origin, store, results, merged=True, pick=pick)
    targets = [out / f"{experiment.name}-{_arm(model)}" for model in run.picked]
    for target in targets:
        if target.exists() and not _is_of(target, experiment.hash()):
            raise UserError(f"{target} is there already and is no model of {run.mark}: move it, or name another --out")
    for model, target in zip(run.picked, targets, strict=True):
        with _aside(out) as folder:
            write_model(run, model, folder, name=target.name, data=None)
            if target.exists():
                shutil.rmtree(target)
            folder.rename(target)
        tell(str(target))
    return targets


def publish(
    experiment: Experiment,
    origin: Origin,
    store: Store,
    org: str,
    results: Path,
    *,
    merged: bool,
    tell: Tell,
    pick: Pick = ALL,
    private: bool = True,
) -> list[str]:
    """Push the carrier rows and the trained models of a finished run to the hub, each with its card.

    Rows go to the data set `<org>/<recipe>-<hash>-carrier`, models to `<org>/<recipe>-<hash>-<arm>-seed<N>` (with
    `-merged` after it where an adapter was merged): a repository outlives the checkout, so its name says which row it
    is of. The token is the one that huggingface_hub finds: `HF_TOKEN`, or what `hf auth login` left.

    Args:
        merged: push whole models where training left adapters.
        tell: told the address of each repository when it is complete.
        pick: which models; the rows are always those of all seeds.
        private: whether new repositories are private; one that is there stays as it is. They are opened on their
            settings page, or with `hf repos settings <id> --public`.

    Returns:
        The repositories' addresses.

    Raises:
        UserError: there is no token, the hub refuses it, the name cannot be one, or the run is not finished.
        StageError: an upload failed; says what was pushed. The same call goes on from there.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import get_token

    if get_token() is None:
        raise UserError("publishing takes a token of the Hugging Face hub. Run: hf auth login (or set HF_TOKEN)")
    run = load_finished_run(experiment, origin, store, results, merged=merged, pick=pick)
    row = f"{org}/{experiment.name}-{experiment.hash()}"
    data = f"{row}-carrier"
    jobs = [_Job("dataset", data, None)]
    jobs += [_Job("model", f"{row}-{_arm(m)}{'-merged' * m.merges}", m) for m in run.picked]
    for job in jobs:
        _check_name(job.repo)
    pushed: list[str] = []
    for job in jobs:
        with _aside(store.root / "publish") as folder:
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
    model: Trained | None


def _arm(model: Trained) -> str:
    return f"{model.cell.arm}-seed{model.cell.seed}"


def _is_of(target: Path, mark: str) -> bool:
    """Whether a folder holds a model of the row with this hash, by its card."""
    from huggingface_hub.repocard import metadata_load

    try:
        about = metadata_load(target / "README.md") or {}
        return bool(about["subliminal_bench"]["recipe_hash"] == mark)
    except (OSError, ValueError, KeyError, TypeError):
        return False


@contextmanager
def _aside(parent: Path) -> Iterator[Path]:
    """An empty folder under `parent` to write into, gone afterwards unless it was renamed."""
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
        raise UserError(f"--publish: {repo!r} cannot be a repository's name: {_one_line(error)}") from None


def _push(job: _Job, folder: Path, run: Run, private: bool, pushed: list[str]) -> str:
    """Create the repository where it is missing and upload the folder; returns its address."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi(token=True)  # the token that get_token finds, or an error
    message = f"{run.mark}: {_arm(job.model) if job.model else 'carrier rows'}"
    try:
        url = api.create_repo(job.repo, repo_type=job.kind, private=private, exist_ok=True)
        api.upload_folder(repo_id=job.repo, repo_type=job.kind, folder_path=folder, commit_message=message)
    except Exception as error:  # the client, its transports and its storage each raise errors of their own
        cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
        reason = _one_line(cause)
        done = f"Pushed before it: {', '.join(pushed)}." if pushed else "Nothing was pushed before it."
        if isinstance(error, HfHubHTTPError) and error.response.status_code in {401, 403}:
            owner = job.repo.partition("/")[0]
            raise UserError(
                f"{job.repo}: the hub refuses this token: {reason}. {done} It takes one that may write to {owner}: "
                "run hf auth login"
            ) from None
        raise StageError(f"{job.repo}: {reason or type(cause).__name__}. {done}") from None
    return str(url)


def _one_line(error: BaseException) -> str:
    """What an error says, without the token, should a server have sent it back, and without signed addresses."""
    from huggingface_hub import get_token

    reason = re.sub(r"(https?://[^\s?]+)\?[^\s']+", r"\1", " ".join(str(error).split()))
    return reason.replace(get_token() or "\n", "[token]")[:300].rstrip(".")
