"""Artefacts by content key: written aside, checksummed, renamed into place; a damaged one is made again."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from filelock import FileLock, Timeout

from bench.errors import UserError

__all__ = ["Store", "alone", "damage", "digest", "file_sha256", "record", "seal", "write_atomically"]

DONE = "done.json"
SMALL = 1_000_000  # bytes; files up to here are checksummed whenever it is asked whether an artefact is done
_hashed: dict[Path, tuple[tuple[int, int, int], str]] = {}


def digest(data: Any) -> str:
    """First 20 hex digits of the SHA-256 of JSON data, whatever the order of its keys."""
    text = json.dumps(data, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write so that `path` holds either all of `content` or what it held before; the same is not written again."""
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep_beside(path)
    with suppress(OSError):
        if path.read_bytes() == data:
            return
    aside = path.with_name(f"{_aside(path)}{os.getpid()}.{uuid.uuid4().hex}")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk is noticed while writing, where no name is known
        raise
    finally:
        aside.unlink(missing_ok=True)


def _aside(path: Path) -> str:
    """How the names of this host's temporary files of `path` begin; a host's name holds no dot in them."""
    return f".{path.name}.{quote(socket.gethostname(), safe='').replace('.', '%2E')}."


def _sweep_beside(path: Path) -> None:
    """Remove the temporary files of `path` that killed processes of this host left."""
    if os.name != "posix":  # elsewhere a process cannot be asked after without harm
        return
    for left in path.parent.glob(f"{glob.escape(_aside(path))}*.*"):
        try:
            os.kill(int(left.name.rsplit(".", 2)[1]), 0)
        except ProcessLookupError:
            left.unlink(missing_ok=True)
        except (ValueError, OSError):
            continue


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Held by one process at a time, for what must read and write `folder` in one go; freed when its holder dies.

    Where folders cannot be locked (some network file systems, Windows) nobody waits.
    """
    with _locked(folder, shared=False, wait=True):
        yield


@contextmanager
def _locked(folder: Path, *, shared: bool, wait: bool) -> Iterator[bool]:
    """A lock on `folder` itself; False where it was not to be had without waiting."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
    except (ImportError, PermissionError):
        yield True
        return
    free = True
    try:
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            free = False
        except OSError:
            pass
        yield free
    finally:
        os.close(handle)


def seal(folder: Path, note: dict[str, Any]) -> None:
    """Write the record of a finished folder: `note`, each file's (size, SHA-256), and a digest of the record itself."""
    found = sorted(p for p in folder.rglob("*") if p.is_file())
    files = {p.relative_to(folder).as_posix(): (p.stat().st_size, file_sha256(p)) for p in found}
    said = json.loads(json.dumps({"files": files, **note}))
    write_atomically(folder / DONE, json.dumps({**said, "digest": digest(said)}, indent=1))


def record(folder: Path) -> dict[str, Any]:
    """What `seal` wrote.

    Raises:
        OSError, ValueError: there is none, or it is not as it was written.
    """
    said = json.loads((folder / DONE).read_text(encoding="utf-8"))
    if not isinstance(said, dict) or said.pop("digest", None) not in {None, digest(said)}:  # None: by earlier versions
        raise ValueError(f"{folder / DONE}: not as it was written")
    return said


def damage(folder: Path, *, thorough: bool = True) -> list[str]:
    """Names of the files of a sealed folder that are not as they were written: `done.json` where the record is not.

    Args:
        thorough: checksum all files; else those that are small, or newer than the record. Either way a process reads
            a file once, for as long as its time and size stay.
    """
    try:
        since = (folder / DONE).stat().st_mtime_ns
        files = [(name, int(size), str(sha)) for name, (size, sha) in record(folder)["files"].items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return [DONE]
    return [name for name, size, sha in files if not _as_written(folder / name, size, sha, None if thorough else since)]


def _as_written(path: Path, size: int, sha: str, since: int | None) -> bool:
    try:
        found = path.stat()
        if found.st_size != size:
            return False
        if since is not None and size > SMALL and found.st_mtime_ns <= since:
            return True
        mark = (found.st_mtime_ns, size, found.st_ino)
        known = _hashed.get(path)
        if known is None or known[0] != mark:
            known = _hashed[path] = (mark, file_sha256(path))
        return known[1] == sha
    except OSError:
        return False


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
        """Whether the artefact is there and its files seem as they were written: see `damage`, not thorough."""
        return not damage(self.path(key), thorough=False)

    def record(self, key: str) -> dict[str, Any]:
        """The artefact's record: its `files` with (size, SHA-256), and what its stage noted."""
        return record(self.path(key))

    def damaged(self, key: str) -> list[str]:
        """Names of the artefact's files whose bytes are not those that were written."""
        return damage(self.path(key))

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
        with _locked(self.root, shared=not alone, wait=not alone) as free:
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
            place = self.path(key)
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.exists():  # damaged: out of the way in one step, so that no one finds a part of it
                place.rename(aside.with_suffix(".old"))
            aside.rename(place)
        finally:
            for left in (aside, aside.with_suffix(".old")):
                shutil.rmtree(left, ignore_errors=True)
