"""Artefacts by content key: written aside, checksummed, renamed into place; an incomplete one is made again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

__all__ = ["Store", "digest", "file_sha256", "write_atomically"]

DONE = "done.json"


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


def write_atomically(path: Path, text: str) -> None:
    """Write `text` so that `path` holds either all of it or what it held before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with aside.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


class Store:
    """A folder of artefacts, each a folder named by its key, shared by processes."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, key: str) -> Path:
        """Where the artefact `key` is, or will be."""
        return self.root / "artefacts" / key

    def is_done(self, key: str) -> bool:
        """Whether the artefact is there, each of its files with the size it was written with."""
        try:
            record = self.record(key)
            return all((self.path(key) / name).stat().st_size == size for name, (size, _) in record["files"].items())
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def record(self, key: str) -> dict[str, Any]:
        """The artefact's `done` record: its `files` with (size, SHA-256), and what its stage noted."""
        record = json.loads((self.path(key) / DONE).read_text(encoding="utf-8"))
        if not isinstance(record, dict):
            raise ValueError(f"{key}: {DONE} is not a record")
        return record

    def damaged(self, key: str) -> list[str]:
        """Names of the artefact's files whose bytes are not those that were written."""
        files = self.record(key)["files"]
        return [name for name, (_, sha) in files.items() if file_sha256(self.path(key) / name) != sha]

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Held by the one process that makes `key`; others wait. The system frees it when its holder dies."""
        (self.root / "locks").mkdir(parents=True, exist_ok=True)
        with FileLock(self.root / "locks" / f"{key}.lock"):
            yield

    def sweep(self, key: str) -> None:
        """Remove what a killed process left of `key`; the caller holds its lock."""
        for left in (self.root / "tmp").glob(f"{key}.*"):
            shutil.rmtree(left, ignore_errors=True)

    @contextmanager
    def make(self, key: str, note: dict[str, Any]) -> Iterator[Path]:
        """A folder to write the artefact into; it takes its place when the block ends without an error.

        `note` may be filled while the block runs: it is kept in the record.
        """
        aside = self.root / "tmp" / f"{key}.{uuid.uuid4().hex}"
        aside.mkdir(parents=True)
        try:
            yield aside
            files = {
                str(p.relative_to(aside)): (p.stat().st_size, file_sha256(p))
                for p in sorted(aside.rglob("*"))
                if p.is_file()
            }
            write_atomically(aside / DONE, json.dumps({"key": key, "files": files, **note}, indent=1))
            place = self.path(key)
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.exists():
                shutil.rmtree(place)
            aside.rename(place)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
