"""Under which licence a base checkpoint stands and who says so: read from what came with it, never guessed."""

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

__all__ = ["Base", "base_of"]

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
CARDS = "README*.MD"
LICENCE_KEYS = ("license", "license_name", "license_link")
TEXTS = ("LICEN[CS]E*", "NOTICE*", "COPYING*", "USE_POLICY*", "*TERMS*")
PROSE = {"", ".txt", ".md", ".html", ".rst"}
# Licences that a distribution's metadata and the hub call by the same name, but for the case:
# https://huggingface.co/docs/hub/repositories-licenses
SHARED = {
    "afl-3.0", "agpl-3.0", "apache-2.0", "artistic-2.0", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc-by-sa-4.0",
    "cc-by-nc-4.0", "cc0-1.0", "gemma", "gpl-3.0", "isc", "lgpl-3.0", "mit", "mpl-2.0", "unlicense",
}  # fmt: skip
UNKNOWN = {"license": "unknown"}


class Base(NamedTuple):
    """The checkpoint that a model was trained from, as a card names it."""

    name: str  # as the recipe names it; of a local folder its last part, for the rest is nobody's business
    revision: str
    on_hub: bool
    ancestor: str | None  # the hub id nearest to it: its own, or the one that its own card names
    licence: Mapping[str, str]  # the `license` keys of a card's front matter
    said_by: str  # where the licence stands
    texts: tuple[Path, ...]  # licence texts that came with it, to be passed on with its weights


def base_of(spec: Model, start: Ref) -> Base:
    """Describe the checkpoint of `spec`. For a hub id its card is looked up, on this machine if the network is away.

    Args:
        start: what the plan found it to be, as the `start` of a training stage.
    """
    name = spec.model
    if name == "tiny":
        source = "none; this benchmark built it on the spot from a seed, so its publisher may choose"
        return Base(name, start.identity, False, None, UNKNOWN, source, ())
    if name.startswith("pypi:"):
        package = name.removeprefix("pypi:")
        papers = [Path(str(file.locate())) for file in importlib.metadata.files(package) or []]
        statement = _by_card(papers) or _by_metadata(package) or _by_text(papers)
        revision = f"{package} {importlib.metadata.version(package)}"
        return Base(name, revision, False, statement.ancestor, statement.licence, statement.said_by, _texts(papers))
    folder = start.folder or spec.path()
    if HUB_ID.fullmatch(name) and not spec.path().is_dir():
        papers = _hub_papers(name, folder.name)
        statement = _by_card(papers) or _by_text(papers)
        return Base(name, folder.name, True, name, statement.licence, statement.said_by, _texts(papers))
    papers = sorted(folder.iterdir())
    statement = _by_card(papers) or _by_text(papers)
    shown = folder.resolve().name
    return Base(shown, start.identity, False, statement.ancestor, statement.licence, statement.said_by, _texts(papers))


class _Found(NamedTuple):
    licence: Mapping[str, str]
    said_by: str
    ancestor: str | None = None


def _hub_papers(name: str, commit: str) -> list[Path]:
    """The card and the licence texts of a model on the hub, at the commit that was trained on."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import snapshot_download

    with suppress(OSError):  # all that the hub's client raises for a refusal or a missing network
        folder = snapshot_download(name, revision=commit, allow_patterns=["README.md", *TEXTS])
        return sorted(Path(folder).iterdir())
    return []


def _by_card(papers: Sequence[Path]) -> _Found | None:
    """What the front matter of a README says."""
    import yaml
    from huggingface_hub.repocard import metadata_load

    for path in papers:
        if fnmatch(path.name.upper(), CARDS):
            with suppress(OSError, ValueError, yaml.YAMLError):
                about: dict[str, Any] = metadata_load(path) or {}
                if isinstance(about.get("license"), str):
                    licence = {key: str(about[key]) for key in LICENCE_KEYS if key in about}
                    parent = about.get("base_model")
                    ancestor = parent if isinstance(parent, str) and HUB_ID.fullmatch(parent) else None
                    return _Found(licence, f"the front matter of its {path.name}", ancestor)
    return None


def _by_metadata(package: str) -> _Found | None:
    about: Any = importlib.metadata.metadata(package)
    for key in ("License-Expression", "License"):
        if stated := about[key]:
            short = re.sub(r"[^a-z0-9.]+", "-", stated.strip().split("\n")[0].lower()).strip("-")[:60]
            licence = {"license": short} if short in SHARED else {"license": "other", "license_name": short}
            return _Found(licence, f"{key} in the metadata of the package {package}")
    return None


def _by_text(papers: Sequence[Path]) -> _Found:
    if texts := _texts(papers):
        licence = {"license": "other", "license_name": "see-licence-file", "license_link": texts[0].name}
        return _Found(licence, f"the file {texts[0].name} that came with it")
    return _Found(UNKNOWN, "none; nothing that came with it states one")


def _texts(papers: Sequence[Path]) -> tuple[Path, ...]:
    """The licence texts among `papers`, the first of each name."""
    named: dict[str, Path] = {}
    for path in papers:
        fits = path.suffix.lower() in PROSE and any(fnmatch(path.name.upper(), pattern) for pattern in TEXTS)
        if fits and path.is_file():
            named.setdefault(path.name, path)
    return tuple(named.values())
