from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache, Gemma3TextConfig, LlamaConfig, MistralConfig

from bench.models import slot_cache
from bench.models.kv_cache import CACHE
from bench.models.slot_cache import SLOTTED, SlotCache, layer_windows, mask_positions

WINDOW = 4
SMALL = {
    "vocab_size": 60, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "initializer_range": 0.3,
}  # fmt: skip
WINDOWED = {"gemma2", "gemma3_text", "mistral"}


def test_windows_of_layers() -> None:
    assert layer_windows(LlamaConfig()) == {"": None}
    assert layer_windows(MistralConfig(sliding_window=7)) == {"": 7}
    kinds = ["sliding_attention", "full_attention"]
    config = Gemma3TextConfig(num_hidden_layers=2, layer_types=kinds, sliding_window=5)
    assert layer_windows(config) == {"sliding_attention": 5, "full_attention": None}


def test_a_query_sees_its_past_and_of_a_window_the_last_tokens() -> None:
    positions = torch.tensor([[2, 3], [5, 6]])
    masks = mask_positions({"all": None, "near": 3}, positions, 7, torch.float32)
    assert isinstance(masks, dict)
    for kind, window in (("all", 7), ("near", 3)):
        assert masks[kind].shape == (2, 1, 2, 7)
        for row in range(2):
            for query in range(2):
                at = int(positions[row, query])
                visible = (masks[kind][row, 0, query] == 0).nonzero()[:, 0].tolist()
                assert visible == list(range(max(0, at - window + 1), at + 1))
    assert isinstance(mask_positions({"": None}, positions, 7, torch.float32), torch.Tensor)


KINDS = [
    pytest.param(kind, marks=() if kind in {"gpt2", "gemma3_text", "mistral"} else pytest.mark.slow)
    for kind in sorted(SLOTTED)
]


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_rows_that_come_and_go_have_the_logits_of_single_passes(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of other lengths than their neighbours', in every architecture of `SLOTTED`, beyond its window."""
    monkeypatch.setattr(slot_cache, "SPARE", 3)
    torch.manual_seed(0)
    more = {"sliding_window": WINDOW} if kind in WINDOWED else {}
    if kind in {"gemma2", "gemma3_text"}:
        more["layer_types"] = ["sliding_attention", "full_attention"] * 2
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SMALL, **more)).eval()
    windows = layer_windows(model.config)
    rows = [torch.randint(5, 60, (length,)) for length in (3, 9, 6, 14)]
    cache, active = SlotCache(3), [0, 1, 2]

    def enter(row: int, slot: int) -> None:
        prefill = DynamicCache()
        model(input_ids=rows[row][None, :-1], use_cache=True, **{CACHE: prefill})
        cache.add_rows(prefill, [0], slot)

    def check_step() -> None:
        positions = torch.tensor([len(rows[row]) - 1 for row in active])
        columns = int(positions.max()) + 1
        cache.begin_step(positions, columns)
        logits = model(
            input_ids=torch.stack([rows[row][-1:] for row in active]),
            position_ids=positions[:, None],
            attention_mask=mask_positions(windows, positions[:, None], columns, torch.float32),
            use_cache=True,
            **{CACHE: cache},
        ).logits[:, -1]
        for row, actual in zip(active, logits, strict=True):
            expected = model(input_ids=rows[row][None], use_cache=False).logits[0, -1]
            torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)
            rows[row] = torch.cat([rows[row], torch.randint(5, 60, (1,))])

    for slot, row in enumerate(active):
        enter(row, slot)
    for _ in range(3):
        check_step()
    cache.move_rows([2], [0])
    active = [2, 1]
    check_step()
    enter(3, 2)
    active = [2, 1, 3]
    for _ in range(8):  # the cache grows
        check_step()
