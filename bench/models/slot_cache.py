"""A key-value cache for rows of different lengths: a row can leave the batch, and another can take its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import Cache

from bench.models.attention import GROUPED

__all__ = ["SLOTTED", "SlotCache", "layer_windows", "mask_positions"]

# Architectures that take positions and ready masks, and whose cache is keys and values alone.
SLOTTED = GROUPED | {"gpt2", "gpt_neox"}
SPARE = 64  # columns that the cache grows by, at least: growing copies it


class SlotCache(Cache):  # type: ignore[misc]  # untyped
    """Keys and values of up to `slots` rows. Column c of a slot is position c of its row, in every layer.

    Layers with a sliding window keep all columns, and their masks leave out the old ones. A cache that drops them, as
    transformers' own does, is wrong for rows of different lengths. The rows take up the first slots without a gap.

    Args:
        slots: the largest number of rows.
    """

    def __init__(self, slots: int) -> None:
        super().__init__(layers=[])
        self.slots = slots
        self.stores: list[list[torch.Tensor]] = []  # per layer: keys and values, (slots, heads, columns, width)
        self.positions = torch.empty(0, dtype=torch.long)
        self.columns = 0

    def begin_step(self, positions: torch.Tensor, columns: int) -> None:
        """Say where the next step writes: `positions` of the first rows, (rows,), all below `columns`."""
        self.positions, self.columns = positions, columns
        self.targets: dict[torch.device, tuple[torch.Tensor, torch.Tensor]] = {}  # rows and positions, by GPU
        self._grow(columns)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write one position of each row, (rows, heads, 1, width); return the columns of this step."""
        keys, values = self.stores[layer_idx]
        if keys.device not in self.targets:
            positions = self.positions.to(keys.device)
            self.targets[keys.device] = torch.arange(len(positions), device=keys.device), positions
        rows, positions = self.targets[keys.device]
        keys[rows, :, positions] = key_states[:, :, 0]
        values[rows, :, positions] = value_states[:, :, 0]
        count = len(rows)
        return keys[:count, :, : self.columns], values[:count, :, : self.columns]

    def add_rows(self, cache: Any, sources: Sequence[int], start: int) -> None:
        """Copy rows `sources` of another cache, from position 0 on, into the slots from `start` on."""
        length = cache.get_seq_length()
        index = torch.tensor(sources, device=cache.layers[0].keys.device)
        if not self.stores:
            for layer in cache.layers:
                shapes = [(self.slots, part.shape[1], 0, part.shape[3]) for part in (layer.keys, layer.values)]
                self.stores.append([layer.keys.new_zeros(shape) for shape in shapes])
        self._grow(length)
        for stores, layer in zip(self.stores, cache.layers, strict=True):
            for store, part in zip(stores, (layer.keys, layer.values), strict=True):
                store[start : start + len(sources), :, :length] = part[index.to(part.device)]

    def move_rows(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Copy rows from slots to other slots; no slot is in both."""
        device = self.positions.device
        source, target = (torch.tensor(list(slots), device=device) for slots in (sources, targets))
        for stores in self.stores:
            for store in stores:
                store[target.to(store.device)] = store[source.to(store.device)]

    def _grow(self, columns: int) -> None:
        present = self.stores[0][0].shape[2]
        if columns > present:
            more = max(columns - present, SPARE, present // 4)
            for stores in self.stores:
                # masked columns must be finite, as 0 * nan is nan
                stores[:] = [torch.nn.functional.pad(store, (0, 0, 0, more)) for store in stores]


def layer_windows(config: Any) -> dict[str, int | None]:
    """Return the kinds of attention layers of a model, and how many tokens each sees; None for all.

    The one kind of a model that takes a single mask is called "".
    """
    settings = config.get_text_config().to_dict()
    window, kinds = settings.get("sliding_window"), settings.get("layer_types")
    if not kinds:
        return {"": window}
    return {kind: window if kind == "sliding_attention" else None for kind in kinds}


def mask_positions(
    windows: Mapping[str, int | None], positions: torch.Tensor, columns: int, dtype: torch.dtype
) -> torch.Tensor | dict[str, torch.Tensor]:
    """Return the attention masks of queries at `positions`, (rows, new), over `columns` positions of the same rows.

    Args:
        windows: of the model, from `layer_windows`.
        positions: of the queries.
        columns: the number of positions in the cache, those of the queries included.
        dtype: of the masks, which are added to the scores.

    Returns:
        A mask of shape (rows, 1, new, columns), or one for each kind of layer.
    """
    column, query = torch.arange(columns, device=positions.device), positions[:, None, :, None]
    masks = {}
    for kind, window in windows.items():
        visible = column <= query
        if window is not None:
            visible &= column > query - window
        mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
        masks[kind] = mask.masked_fill_(~visible, torch.finfo(dtype).min)
    return masks.get("", masks)
