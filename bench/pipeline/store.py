"""Artefacts by content key, shared by processes."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bench.errors import UserError
from bench.files import find_corrupt_files, lock_folder, read_record, seal

__all__ = ["Store"]


class Store:
    """A folder of artefacts, each a folder named by its key, shared by processes."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, key: str) -> Path:
        """Where the artefact `key` is, or will be."""
        return self.root / "artefacts" / key

    def checkpoints(self, key: str) -> Path:
        """Where the stage `key`, if it is a long training, keeps its own checkpoints until it is done."""
        return self.root / "checkpoints" / key

    def is_done(self, key: str) -> bool:
        """Whether the artefact is there and its files look uncorrupted: see `find_corrupt_files`, not thorough."""
        return not find_corrupt_files(self.path(key), thorough=False)

    def record(self, key: str) -> dict[str, Any]:
        """The artefact's record: its `files` with (size, SHA-256), and what its stage noted."""
        return read_record(self.path(key))

    def damaged(self, key: str) -> list[str]:
        """Names of the artefact's files whose bytes are not those that were written."""
        return find_corrupt_files(self.path(key))

    @contextmanager
    def lock(self, key: str, *, wait: bool = True) -> Iterator[None]:
        """Held by the one process that makes `key`; others wait. The system frees it when its holder dies.

        Raises:
            filelock.Timeout: another process holds it, and `wait` is False.
        """
        (self.root / "locks").mkdir(parents=True, exist_ok=True)
        with FileLock(self.root / "locks" / f"{key}.lock", timeout=-1 if wait else 0):
            yield

    def sweep(self) -> None:
        """Remove what killed processes left: artefacts half made, and checkpoints of stages that are done."""
        for left in [*(self.root / "tmp").glob("*"), *(self.root / "checkpoints").glob("*")]:
            key = left.name.partition(".")[0]
            with suppress(Timeout), self.lock(key, wait=False):
                if left.parent.name == "tmp" or self.is_done(key):
                    shutil.rmtree(left, ignore_errors=True)

    @contextmanager
    def in_use(self, *, alone: bool = False) -> Iterator[None]:
        """Held by every command that works with the store, or by one that must be alone with it, which does not wait.

        Raises:
            UserError: `alone`, and another command works with it.
        """
        with lock_folder(self.root, shared=not alone, wait=not alone) as free:
            if not free:
                raise UserError(f"{self.root}: another command works with this store; try again when it is done")
            yield

    @contextmanager
    def make(self, key: str, note: dict[str, Any]) -> Iterator[Path]:
        """A folder to write the artefact into; it takes its place when the block ends without an error.

        The caller holds the lock of `key`. `note` may be filled while the block runs: it is kept in the record.
        """
        for left in (self.root / "tmp").glob(f"{key}.*"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        aside = self.root / "tmp" / f"{key}.{uuid.uuid4().hex}"
        aside.mkdir(parents=True)
        try:
            yield aside
            seal(aside, {"key": key, **note})
            target = self.path(key)
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists():  # corrupt: moved away in one step, so that no process reads a part of it
                target.rename(aside.with_suffix(".old"))
            aside.rename(target)
        finally:
            for left in (aside, aside.with_suffix(".old")):
                shutil.rmtree(left, ignore_errors=True)
