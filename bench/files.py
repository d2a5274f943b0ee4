"""Hashes, atomic writes, locks, and records of finished folders."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

__all__ = [
    "ROOT",
    "digest",
    "exclusive_lock",
    "file_sha256",
    "find_corrupt_files",
    "read_record",
    "seal",
    "write_atomically",
]

ROOT = Path(__file__).resolve().parent.parent  # of the checkout
RECORD = "done.json"


SMALL_FILE = 1_000_000  # bytes; files up to here are checksummed whenever it is asked whether an artefact is done


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
def exclusive_lock(folder: Path) -> Iterator[None]:
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
    write_atomically(folder / RECORD, json.dumps({**said, "digest": digest(said)}, indent=1))


def read_record(folder: Path) -> dict[str, Any]:
    """What `seal` wrote.

    Raises:
        OSError, ValueError: there is none, or it is not as it was written.
    """
    said = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    if not isinstance(said, dict) or said.pop("digest", None) not in {None, digest(said)}:  # None: by earlier versions
        raise ValueError(f"{folder / RECORD}: not as it was written")
    return said


def find_corrupt_files(folder: Path, *, thorough: bool = True) -> list[str]:
    """Names of the files of a sealed folder that are not as they were written: `done.json` where the record is not.

    Args:
        thorough: checksum all files; else those that are small, or newer than the record. Either way a process reads
            a file once, for as long as its time and size stay.
    """
    try:
        since = (folder / RECORD).stat().st_mtime_ns
        files = [(name, int(size), str(sha)) for name, (size, sha) in read_record(folder)["files"].items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return [RECORD]
    return [name for name, size, sha in files if not _as_written(folder / name, size, sha, None if thorough else since)]


def _as_written(path: Path, size: int, sha: str, since: int | None) -> bool:
    try:
        found = path.stat()
        if found.st_size != size:
            return False
        if since is not None and size > SMALL_FILE and found.st_mtime_ns <= since:
            return True
        mark = (found.st_mtime_ns, size, found.st_ino)
        known = _hashed.get(path)
        if known is None or known[0] != mark:
            known = _hashed[path] = (mark, file_sha256(path))
        return known[1] == sha
    except OSError:
        return False
