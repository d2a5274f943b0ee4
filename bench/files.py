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
    "lock_folder",
    "read_record",
    "seal",
    "sha256_of",
    "write_atomically",
]

ROOT = Path(__file__).resolve().parent.parent  # the checkout
RECORD = "done.json"
SMALL_FILE = 1_000_000  # bytes; smaller files are checksummed at every check of an artefact

# By path: (modification time, size, inode) and the SHA-256 of the file in that state.
_hashes: dict[Path, tuple[tuple[int, int, int], str]] = {}


def sha256_of(data: Any) -> str:
    """Return the SHA-256 of JSON data in hex, independent of the order of keys."""
    text = json.dumps(data, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def digest(data: Any) -> str:
    """Return the first 20 hex digits of `sha256_of`."""
    return sha256_of(data)[:20]


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace `path` by `content` in one step. A file with the same content is not written again."""
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    with suppress(OSError):
        if path.read_bytes() == data:
            return
    temporary = path.with_name(f"{_temporary_prefix(path)}{os.getpid()}.{uuid.uuid4().hex}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # the error of a full disk has no file name
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _temporary_prefix(path: Path) -> str:
    """Return the prefix of this host's temporary files for `path`; dots in the host's name are escaped."""
    return f".{path.name}.{quote(socket.gethostname(), safe='').replace('.', '%2E')}."


def _remove_leftovers(path: Path) -> None:
    """Remove the temporary files of `path` that killed processes of this host left behind."""
    if os.name != "posix":  # elsewhere `os.kill` would end the process
        return
    for leftover in path.parent.glob(f"{glob.escape(_temporary_prefix(path))}*.*"):
        try:
            os.kill(int(leftover.name.rsplit(".", 2)[1]), 0)
        except ProcessLookupError:
            leftover.unlink(missing_ok=True)
        except (ValueError, OSError):
            continue


@contextmanager
def exclusive_lock(folder: Path) -> Iterator[None]:
    """Lock `folder` for one process at a time. The lock ends when its process dies.

    Where folders cannot be locked (some network file systems, Windows), there is no lock.
    """
    with lock_folder(folder, shared=False, wait=True):
        yield


@contextmanager
def lock_folder(folder: Path, *, shared: bool, wait: bool) -> Iterator[bool]:
    """Lock `folder`; yield False if another process has the lock and `wait` is false."""
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
    """Write the record of a finished folder: `note`, each file's (size, SHA-256), and a digest of the record."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    files = {p.relative_to(folder).as_posix(): (p.stat().st_size, file_sha256(p)) for p in paths}
    record = json.loads(json.dumps({"files": files, **note}))
    write_atomically(folder / RECORD, json.dumps({**record, "digest": digest(record)}, indent=1))


def read_record(folder: Path) -> dict[str, Any]:
    """Read the record that `seal` wrote.

    Raises:
        OSError, ValueError: no record, or a checksum mismatch.
    """
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    if not isinstance(record, dict):
        raise ValueError(f"{folder / RECORD}: expected an object")
    if record.pop("digest", None) not in {None, digest(record)}:  # None: a record of an earlier version
        raise ValueError(f"{folder / RECORD}: checksum mismatch")
    return record


def find_corrupt_files(folder: Path, *, thorough: bool = True) -> list[str]:
    """List the files of a sealed folder with a checksum mismatch; `done.json` for a corrupt record.

    A process reads a file again only if its time or size changes.

    Args:
        folder: the sealed folder.
        thorough: whether to checksum all files, and not only those that are small or newer than the record.
    """
    try:
        since = (folder / RECORD).stat().st_mtime_ns
        files = [(name, int(size), str(sha)) for name, (size, sha) in read_record(folder)["files"].items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return [RECORD]
    return [name for name, size, sha in files if not _is_intact(folder / name, size, sha, None if thorough else since)]


def _is_intact(path: Path, size: int, sha: str, since: int | None) -> bool:
    try:
        stat = path.stat()
        if stat.st_size != size:
            return False
        if since is not None and size > SMALL_FILE and stat.st_mtime_ns <= since:
            return True
        state = (stat.st_mtime_ns, size, stat.st_ino)
        cached = _hashes.get(path)
        if cached is None or cached[0] != state:
            cached = _hashes[path] = (state, file_sha256(path))
        return cached[1] == sha
    except OSError:
        return False
