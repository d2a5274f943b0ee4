from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from bench.models.loading import load_model, load_tokenizer
from bench.models.relation import _Tensors, relation


def test_relation_is_found_from_the_weights(gpt2_like: Path, gemma_like: Path, tmp_path: Path) -> None:
    assert relation(gpt2_like, gpt2_like)["relation"] == "same-init"
    across = relation(gpt2_like, gemma_like)
    assert (across["relation"], across["token_maps"]) == ("cross-architecture", "different")

    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config.from_pretrained(gpt2_like)

    def saved(name: str, seed: int, layers: int) -> tuple[GPT2LMHeadModel, Path]:
        torch.manual_seed(seed)
        config.n_layer = layers
        folder = tmp_path / name
        shutil.copytree(gpt2_like, folder)
        return GPT2LMHeadModel(config), folder

    other, folder = saved("other", 7, 2)
    other.save_pretrained(folder)
    assert relation(gpt2_like, folder)["relation"] == "cross-init"

    # as distilgpt2 came from gpt2: fewer layers, the embeddings inherited and then trained on
    child, folder = saved("child", 8, 1)
    wte = load_model(gpt2_like, dtype="float32").transformer.wte.weight
    with torch.no_grad():
        child.transformer.wte.weight.copy_(wte + 0.3 * wte.std() * torch.randn(wte.shape))
    child.save_pretrained(folder)
    result = relation(gpt2_like, folder)
    assert result["relation"] == "lineage"
    assert [line.partition(" ~ ")[0] for line in result["evidence"]["near"]] == ["transformer.wte.weight"]

    # one tensor changed: no longer the same initialisation
    nearly, folder = saved("nearly", 0, 2)
    nearly.load_state_dict(load_model(gpt2_like, dtype="float32").state_dict())
    with torch.no_grad():
        nearly.transformer.h[1].mlp.c_fc.bias[3] += 1e-4
    nearly.save_pretrained(folder)
    assert relation(gpt2_like, folder)["relation"] == "lineage"


def test_equal_vocabulary_sizes_with_other_ids_are_a_trap(gpt2_like: Path, tmp_path: Path) -> None:
    text = (gpt2_like / "tokenizer.json").read_text()
    assert '"A":' in text
    folder = tmp_path / "swapped"
    shutil.copytree(gpt2_like, folder)
    vocab = load_tokenizer(gpt2_like).get_vocab()
    a, b = vocab["A"], vocab["B"]
    (folder / "tokenizer.json").write_text(
        text.replace(f'"A": {a},', f'"A": {b},').replace(f'"B": {b},', f'"B": {a},', 1)
    )
    assert relation(gpt2_like, folder)["token_maps"] == "trap"


def test_the_files_of_one_checkpoint_are_not_read_and_tensors_may_be_spread_over_files(
    gemma_like: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "shards"
    shutil.copytree(gemma_like, folder)
    (folder / "model.safetensors").unlink()
    load_model(gemma_like, dtype="float32").save_pretrained(folder, max_shard_size="200KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    whole = relation(gemma_like, folder)
    assert whole["relation"] == "same-init"
    linked = tmp_path / "linked"  # as the hub's cache has it
    shutil.copytree(gemma_like, linked)
    (linked / "model.safetensors").unlink()
    (linked / "model.safetensors").symlink_to(gemma_like / "model.safetensors")

    def read(*_: object) -> None:
        raise AssertionError("a tensor was read")

    monkeypatch.setattr(_Tensors, "read", read)
    assert relation(gemma_like, linked) == {**whole, "evidence": whole["evidence"]}
    with pytest.raises(AssertionError, match="was read"):
        relation(gemma_like, folder)
