"""Find the relation between the initial weights of student and teacher."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.models.checkpoints import WEIGHTS
from bench.models.loading import load_tokenizer

if TYPE_CHECKING:
    import torch

__all__ = ["relation"]

NEAR = 0.5  # correlation of two matrices of one shape that shows a common ancestor; unrelated ones stay below 0.05


def _load_tensors(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    tensors: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob(WEIGHTS)):
        tensors.update(load_file(path))
    return tensors


def relation(teacher: Path, student: Path) -> dict[str, Any]:
    """Find the relation between the initial weights of student and teacher from their files.

    Args:
        teacher, student: the folders of the checkpoints before training.

    Returns:
        `relation`: `same-init` (all tensors are equal), `lineage` (some matrices of the same shape are equal, or
        correlated above 0.5), `cross-init` (same architecture, no such matrices) or `cross-architecture`;
        `token_maps`: `identical`, `different`, or `trap` (different maps of equal size, which a check of sizes misses);
        `evidence`: counts and the best matches.
    """
    import torch

    a, b = _load_tensors(teacher), _load_tensors(student)
    maps = [load_tokenizer(folder).get_vocab() for folder in (teacher, student)]
    same_map = maps[0] == maps[1]
    token_maps = "identical" if same_map else "trap" if len(maps[0]) == len(maps[1]) else "different"
    equal = sum(k in b and a[k].shape == b[k].shape and torch.equal(a[k].float(), b[k].float()) for k in a)
    evidence: dict[str, Any] = {"tensors_teacher": len(a), "tensors_student": len(b), "equal": equal}
    if equal == len(a) == len(b):
        return {"relation": "same-init", "token_maps": token_maps, "evidence": evidence}
    configs = [json.loads((f / "config.json").read_text(encoding="utf-8")) for f in (teacher, student)]
    same_shape = {k: v.shape for k, v in a.items()} == {k: v.shape for k, v in b.items()}
    matches = _match_matrices(a, b)
    evidence["matrices_student"] = sum(t.dim() == 2 for t in b.values())
    evidence["near"] = [f"{s} ~ {t}: {r:.2f}" for s, t, r in matches]
    if matches:
        kind = "lineage"
    elif same_shape and configs[0]["architectures"] == configs[1]["architectures"]:
        kind = "cross-init"
    else:
        kind = "cross-architecture"
    return {"relation": kind, "token_maps": token_maps, "evidence": evidence}


def _match_matrices(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> list[tuple[str, str, float]]:
    """Find the best teacher matrix for each student matrix, with a correlation above `NEAR`.

    In large matrices only one value in 101 is compared. The correlation of unrelated matrices then stays below 0.05.

    Returns:
        (student matrix, teacher matrix, correlation) of each match.
    """

    def sample(t: torch.Tensor) -> torch.Tensor:
        flat = t.flatten().float()
        flat = flat[::101] if flat.numel() > 1_000_000 else flat
        flat = flat - flat.mean()
        unit: torch.Tensor = flat / flat.norm().clamp(min=1e-12)
        return unit

    by_shape: dict[tuple[int, ...], list[tuple[str, torch.Tensor]]] = {}
    for name, tensor in a.items():
        if tensor.dim() == 2:
            by_shape.setdefault(tuple(tensor.shape), []).append((name, sample(tensor)))
    matches = []
    for name, tensor in b.items():
        candidates = by_shape.get(tuple(tensor.shape), [])
        if tensor.dim() == 2 and candidates:
            values = sample(tensor)
            r, best = max((float(values @ other), other_name) for other_name, other in candidates)
            if r > NEAR:
                matches.append((name, best, r))
    return matches
