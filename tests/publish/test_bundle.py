from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from bench.publish.bundle import merge_adapter


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_untrained_adapter_merges_into_its_base_rounded_once(gpt2_like: Path, tmp_path: Path, dtype: str) -> None:
    from peft import LoraConfig, get_peft_model  # takes four seconds: not while tests are collected
    from transformers import AutoModelForCausalLM

    config = LoraConfig(r=2, task_type="CAUSAL_LM", target_modules=["c_attn"], fan_in_fan_out=True)
    get_peft_model(AutoModelForCausalLM.from_pretrained(gpt2_like), config).save_pretrained(tmp_path / "adapter")
    merge_adapter(SimpleNamespace(start=gpt2_like, folder=tmp_path / "adapter"), dtype, tmp_path / "whole")
    whole, base = (load_file(folder / "model.safetensors") for folder in (tmp_path / "whole", gpt2_like))
    assert whole.keys() == base.keys()
    assert all(torch.equal(weight, base[name].to(getattr(torch, dtype))) for name, weight in whole.items())
