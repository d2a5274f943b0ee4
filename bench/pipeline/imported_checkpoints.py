"""Checkpoints outside the store, copied into it, so that other machines find them by their identity."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from bench.models.checkpoints import HUB_FILES
from bench.pipeline.plan import IMPORTED, Ref
from bench.pipeline.store import Store

__all__ = ["import_folder"]


def import_folder(store: Store, ref: Ref, model: str) -> Ref:
    """Copy an input outside the store into the store, once; a path of this host means nothing on others."""
    if ref.folder is None:
        return ref
    key = f"{IMPORTED}{ref.identity}"
    with store.lock(key):
        if store.corrupt_files(key):
            with store.make(key, {"stage": key, "model": model, "seconds": 0.0}) as out:
                for path in (path for pattern in HUB_FILES for path in ref.folder.glob(pattern)):
                    _link_or_copy(path.resolve(), out / path.name)
    return Ref(key)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copyfile(source, target)
