"""A store at a URL of any file system that fsspec knows, such as s3://bucket/folder.

Object stores neither rename nor lock. The files of an artefact are put under `artefacts/<key>/<uuid>/`. One conditional
put of `artefacts/<key>/done.json`, which names that folder, makes them the artefact. Every machine has a cache.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.errors import StageError, UserError
from bench.files import RECORD, digest, find_corrupt_files
from bench.pipeline.store import Store

__all__ = ["RemoteStore", "open_store"]

CACHE = "SUBLIMINAL_CACHE"  # environment variable: the folder of the caches
PERIOD = 5.0  # seconds between two looks for a new checkpoint


def open_store(location: str) -> Store:
    """Open the store at a folder or a URL.

    Raises:
        UserError: the location is a file, or the file system of the URL does not answer or refuses to write.
    """
    if "://" not in location:
        if Path(location).is_file():
            raise UserError(f"--store {location}: this is a file; name a folder")
        return Store(Path(location).absolute())
    store = RemoteStore(location)
    try:
        store.leave_mark("probe")
        store.remove_mark("probe")
    except StageError as error:
        raise UserError(str(error)) from None
    return store


class RemoteStore(Store):
    """Artefacts at a URL, with a cache in a folder of this machine."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        cache = Path(os.environ.get(CACHE, "~/.cache/subliminal-bench")).expanduser()
        super().__init__(cache / digest(self.url))
        self.records: dict[str, dict[str, Any]] = {}
        """The contents of `done.json` by key, as far as they were read."""

    def __reduce__(self) -> tuple[type[RemoteStore], tuple[str]]:
        return RemoteStore, (self.url,)  # another machine has another cache

    @cached_property
    def base(self) -> tuple[Any, str]:
        """The file system and the path in it."""
        import fsspec

        # Object stores have no folders; making one could create a bucket.
        local = {"auto_mkdir": True} if self.url.startswith(("file:", "local:")) else {}
        system, path = fsspec.core.url_to_fs(self.url, use_listings_cache=False, **local)
        return system, path

    @contextmanager
    def remote(self, name: str) -> Iterator[tuple[Any, str]]:
        """Yield the file system and the path of `name` in it.

        Raises:
            FileExistsError: the block creates a file that exists.
            StageError: any other error; libraries of file systems have no common one.
        """
        try:
            fs, path = self.base
            yield fs, f"{path}/{name}"
        except FileExistsError:
            raise
        except ImportError as error:
            raise StageError(f"--store {self.url}: {error}") from None
        except PermissionError as error:
            raise StageError(f"--store {self.url}: access denied, check your credentials: {error!s:.200}") from None
        except FileNotFoundError as error:
            raise StageError(f"--store {self.url}: not found, was it removed? {error!s:.200}") from None
        except Exception as error:
            reason = " ".join(str(error).split())
            raise StageError(f"--store {self.url}: {type(error).__name__}: {reason:.200}") from error

    def leave_mark(self, name: str) -> None:
        """Write the file `nodes/<name>`."""
        with self.remote(f"nodes/{name}") as (fs, path):
            fs.pipe_file(path, b"mark")

    def sees_mark(self, name: str) -> bool:
        """Return whether this machine can read the mark."""
        with self.remote(f"nodes/{name}") as (fs, path):
            return bool(fs.exists(path))

    def remove_mark(self, name: str) -> None:
        """Remove the mark."""
        with self.remote(f"nodes/{name}") as (fs, path):
            fs.rm_file(path)

    def _read(self, key: str) -> dict[str, Any] | None:
        """Read the remote `done.json`; None if there is none or it is corrupt."""
        if key not in self.records:
            with (
                self.remote(f"artefacts/{key}/{RECORD}") as (fs, path),
                suppress(FileNotFoundError, ValueError, LookupError, TypeError),
            ):
                entry = json.loads(fs.cat_file(path))
                if digest(entry["record"]) == entry["digest"]:
                    self.records[key] = entry
        return self.records.get(key)

    def is_done(self, key: str) -> bool:
        """Return whether the remote store has the artefact."""
        return self._read(key) is not None

    def path(self, key: str) -> Path:
        """Return the artefact's folder in the cache, after fetching it if the remote store has it."""
        folder = super().path(key)
        if not folder.exists() and self._read(key):
            self._fetch(key)
        return folder

    def record(self, key: str) -> dict[str, Any]:
        """Read the artefact's record, after fetching it."""
        self.path(key)
        return super().record(key)

    def corrupt_files(self, key: str) -> list[str]:
        """List the artefact's files with a checksum mismatch. A corrupt copy in the cache is fetched again."""
        self.records.pop(key, None)  # another machine may have made it again
        intact = not find_corrupt_files(super().path(key))
        if self._read(key) is None:
            if intact:  # a killed process had not put all of it
                self._put(key)
            return [] if intact else [RECORD]
        return [] if intact else self._fetch(key)

    def _fetch(self, key: str) -> list[str]:
        """Fetch an artefact into the cache; return the files with a checksum mismatch on arrival."""
        entry, target = self.records[key], super().path(key)
        folder = self.root / "tmp" / f"{key}.{uuid.uuid4().hex}"
        folder.mkdir(parents=True)
        try:
            names = json.loads(entry["record"])["files"]
            with self.remote(f"artefacts/{key}/{entry['folder']}") as (fs, path):
                for name in names:
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    with suppress(FileNotFoundError):
                        fs.get_file(f"{path}/{name}", str(folder / name))
            (folder / RECORD).write_text(entry["record"], encoding="utf-8")
            if names := find_corrupt_files(folder):
                return list(names)
            shutil.rmtree(target, ignore_errors=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            with suppress(OSError):  # another process of this machine was faster
                folder.rename(target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return []

    @contextmanager
    def make(self, key: str, note: dict[str, Any]) -> Iterator[Path]:
        """Yield a folder for the artefact's files; put them at the URL if the block ends without an error."""
        self.records.pop(key, None)  # none, or a corrupt one
        with self.remote(f"artefacts/{key}/{RECORD}") as (fs, path), suppress(FileNotFoundError):
            fs.rm_file(path)
        shutil.rmtree(super().path(key), ignore_errors=True)
        with super().make(key, note) as folder:
            yield folder
        self._put(key)

    def _put(self, key: str) -> None:
        """Put an artefact of the cache at the URL. The first machine that makes an artefact wins."""
        source, name = super().path(key), uuid.uuid4().hex
        record = (source / RECORD).read_text(encoding="utf-8")
        entry = {"folder": name, "record": record, "digest": digest(record)}
        with self.remote(f"artefacts/{key}") as (fs, path):
            _put_folder(fs, source, f"{path}/{name}")
            try:
                fs.pipe_file(f"{path}/{RECORD}", json.dumps(entry).encode(), mode="create")
            except FileExistsError:
                fs.rm(f"{path}/{name}", recursive=True)
                shutil.rmtree(source, ignore_errors=True)  # the winner's is fetched
                return
            for other in fs.ls(path, detail=False):  # of killed machines, or corrupt
                if Path(other).name not in {name, RECORD}:
                    fs.rm(other, recursive=True)

    @contextmanager
    def keep_checkpoints(self, key: str) -> Iterator[Path]:
        """Yield the folder of a training's checkpoints, and put them at the URL, so that other machines can resume."""
        folder = self.checkpoints(key)
        self._fetch_checkpoint(key, folder)
        end = threading.Event()
        thread = threading.Thread(target=self._put_checkpoints, args=(key, folder, end), daemon=True)
        thread.start()
        try:
            with super().keep_checkpoints(key):
                yield folder
            finished = True
        except BaseException:
            finished = False
            raise
        finally:
            end.set()
            thread.join()
            if finished:
                with self.remote(f"checkpoints/{key}") as (fs, path), suppress(FileNotFoundError):
                    fs.rm(path, recursive=True)

    def _fetch_checkpoint(self, key: str, folder: Path) -> None:
        """Fetch the newest checkpoint, if the cache has no newer one."""
        with self.remote(f"checkpoints/{key}") as (fs, path), suppress(FileNotFoundError):
            steps = sorted(int(Path(name).parent.name) for name in fs.glob(f"{path}/*/{RECORD}"))
            if steps and not any(int(p.name) >= steps[-1] for p in folder.glob("*") if p.name.isdecimal()):
                folder.mkdir(parents=True, exist_ok=True)
                fs.get(f"{path}/{steps[-1]}/", f"{folder / str(steps[-1])}/", recursive=True)

    def _put_checkpoints(self, key: str, folder: Path, end: threading.Event) -> None:
        """Put every new checkpoint at the URL until `end`. A failure costs a later machine time, not this training."""
        last = 0
        while not end.wait(PERIOD):
            steps = [int(p.parent.name) for p in folder.glob(f"*/{RECORD}") if p.parent.name.isdecimal()]
            if (newest := max(steps, default=0)) <= last:
                continue
            with suppress(StageError), self.remote(f"checkpoints/{key}") as (fs, path):
                source = folder / str(newest)
                _put_folder(fs, source, f"{path}/{newest}")
                fs.put_file(str(source / RECORD), f"{path}/{newest}/{RECORD}")
                if last:
                    fs.rm(f"{path}/{last}", recursive=True)
                last = newest


def _put_folder(fs: Any, source: Path, target: str) -> None:
    """Put all files of a sealed folder except its record."""
    for path in sorted(p for p in source.rglob("*") if p.is_file() and p.name != RECORD):
        fs.put_file(str(path), f"{target}/{path.relative_to(source).as_posix()}")
