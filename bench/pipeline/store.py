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
from bench.files import find_corrupt_files, lock_folder, read_record, seal, write_atomically

__all__ = ["Store"]


class Store:
    """A folder of artefacts, each a folder named by its key, shared by processes."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, key: str) -> Path:
        """Return the folder of the artefact `key`; it may not exist yet."""
        return self.root / "artefacts" / key

    def checkpoints(self, key: str) -> Path:
        """Return the folder of the checkpoints that the training `key` writes until it ends."""
        return self.root / "checkpoints" / key

    def is_done(self, key: str) -> bool:
        """Return whether the artefact exists and passes the quick check of `find_corrupt_files`."""
        return not find_corrupt_files(self.path(key), thorough=False)

    def record(self, key: str) -> dict[str, Any]:
        """Read the artefact's record: its `files` with (size, SHA-256), and the facts that its stage noted.

        Raises:
            OSError, ValueError: no record, or a checksum mismatch.
        """
        return read_record(self.path(key))

    def corrupt_files(self, key: str) -> list[str]:
        """List the artefact's files with a checksum mismatch."""
        return find_corrupt_files(self.path(key))

    @contextmanager
    def lock(self, key: str, *, wait: bool = True) -> Iterator[None]:
        """Lock `key` for the process that makes it; others wait. The lock ends when its process dies.

        Raises:
            filelock.Timeout: another process has the lock, and `wait` is False.
        """
        (self.root / "locks").mkdir(parents=True, exist_ok=True)
        with FileLock(self.root / "locks" / f"{key}.lock", timeout=-1 if wait else 0):
            yield

    def sweep(self) -> None:
        """Remove the leftovers of killed processes: unfinished artefacts, and checkpoints of finished stages."""
        for leftover in [*(self.root / "tmp").glob("*"), *(self.root / "checkpoints").glob("*")]:
            key = leftover.name.partition(".")[0]
            with suppress(Timeout), self.lock(key, wait=False):
                if leftover.parent.name == "tmp" or self.is_done(key):
                    shutil.rmtree(leftover, ignore_errors=True)

    @contextmanager
    def in_use(self, *, exclusive: bool = False) -> Iterator[None]:
        """Lock the store for this command: shared with others, or `exclusive` and without waiting.

        Raises:
            UserError: `exclusive`, and another command uses the store.
        """
        with lock_folder(self.root, shared=not exclusive, wait=not exclusive) as free:
            if not free:
                raise UserError(f"{self.root}: another command uses this store; try again when it ends")
            yield

    @contextmanager
    def keep_checkpoints(self, key: str) -> Iterator[Path]:
        """Yield the folder of a training's checkpoints; remove it if the block ends without an error."""
        yield self.checkpoints(key)
        shutil.rmtree(self.checkpoints(key), ignore_errors=True)

    def leave_mark(self, name: str) -> None:
        """Write a mark, by which another machine knows that it sees the same store."""
        write_atomically(self.root / "nodes" / name, "")

    def sees_mark(self, name: str) -> bool:
        """Return whether this machine sees the mark."""
        return (self.root / "nodes" / name).exists()

    def remove_mark(self, name: str) -> None:
        """Remove the mark."""
        (self.root / "nodes" / name).unlink(missing_ok=True)

    @contextmanager
    def make(self, key: str, note: dict[str, Any]) -> Iterator[Path]:
        """Yield a folder for the artefact's files. If the block ends without an error, the folder is the artefact.

        Args:
            key: the artefact. The caller has its lock.
            note: facts for the record; the block may add to them.
        """
        for leftover in (self.root / "tmp").glob(f"{key}.*"):  # of a killed process
            shutil.rmtree(leftover, ignore_errors=True)
        folder = self.root / "tmp" / f"{key}.{uuid.uuid4().hex}"
        folder.mkdir(parents=True)
        try:
            yield folder
            seal(folder, {"key": key, **note})
            target = self.path(key)
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists():  # corrupt: moved away in one step, so that no process reads a part of it
                target.rename(folder.with_suffix(".old"))
            folder.rename(target)
        finally:
            for path in (folder, folder.with_suffix(".old")):
                shutil.rmtree(path, ignore_errors=True)
