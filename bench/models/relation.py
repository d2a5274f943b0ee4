"""Find the relation between the initial weights of student and teacher."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.models.checkpoints import WEIGHTS
from bench.models.loading import load_tokenizer

if TYPE_CHECKING:
    import torch

__all__ = ["relation"]

NEAR = 0.5  # correlation of two matrices of one shape that shows a common ancestor; unrelated ones stay below 0.05


class _Tensors:
    """The tensors of a checkpoint, read one by one."""

    def __init__(self, folder: Path) -> None:
        from safetensors import safe_open

        self.files = [path.resolve() for path in sorted(folder.glob(WEIGHTS))]
        self.opened = [safe_open(path, "pt") for path in self.files]
        self.file_of = {name: file for file in self.opened for name in file.keys()}  # noqa: SIM118  # no mapping
        self.shapes = {name: tuple(file.get_slice(name).get_shape()) for name, file in self.file_of.items()}

    def read(self, name: str) -> torch.Tensor:
        tensor: torch.Tensor = self.file_of[name].get_tensor(name)
        return tensor

    def matrices(self) -> list[str]:
        return [name for name, shape in self.shapes.items() if len(shape) == 2]


def _count_equal(a: _Tensors, b: _Tensors) -> int:
    """Count the tensors that are equal in both. The tensors of the same files are not read."""
    import torch

    if a.files == b.files:
        return len(a.shapes)
    names = (name for name, shape in a.shapes.items() if b.shapes.get(name) == shape)
    return sum(torch.equal(a.read(name).float(), b.read(name).float()) for name in names)


def relation(teacher: Path, student: Path) -> dict[str, Any]:
    """Find the relation between the initial weights of student and teacher from their files, tensor by tensor.

    Args:
        teacher, student: the folders of the checkpoints before training.

    Returns:
        `relation`: `same-init` (all tensors are equal), `lineage` (some matrices of the same shape are equal, or
        correlated above 0.5), `cross-init` (same architecture, no such matrices) or `cross-architecture`;
        `token_maps`: `identical`, `different`, or `trap` (different maps of equal size, which a check of sizes misses);
        `evidence`: counts and the best matches.
    """
    a, b = _Tensors(teacher), _Tensors(student)
    maps = [load_tokenizer(folder).get_vocab() for folder in (teacher, student)]
    same_map = maps[0] == maps[1]
    token_maps = "identical" if same_map else "trap" if len(maps[0]) == len(maps[1]) else "different"
    equal = _count_equal(a, b)
    evidence: dict[str, Any] = {"tensors_teacher": len(a.shapes), "tensors_student": len(b.shapes), "equal": equal}
    if equal == len(a.shapes) == len(b.shapes):
        return {"relation": "same-init", "token_maps": token_maps, "evidence": evidence}
    configs = [json.loads((f / "config.json").read_text(encoding="utf-8")) for f in (teacher, student)]
    same_shape = a.shapes == b.shapes
    matches = _match_matrices(a, b)
    evidence["matrices_student"] = len(b.matrices())
    evidence["near"] = [f"{s} ~ {t}: {r:.2f}" for s, t, r in matches]
    if matches:
        kind = "lineage"
    elif same_shape and configs[0]["architectures"] == configs[1]["architectures"]:
        kind = "cross-init"
    else:
        kind = "cross-architecture"
    return {"relation": kind, "token_maps": token_maps, "evidence": evidence}


def _match_matrices(a: _Tensors, b: _Tensors) -> list[tuple[str, str, float]]:
    """Find the best teacher matrix for each student matrix, with a correlation above `NEAR`.

    In large matrices only one value in 101 is compared. The correlation of unrelated matrices then stays below 0.05.

    Returns:
        (student matrix, teacher matrix, correlation) of each match.
    """

    def sample(tensors: _Tensors, name: str) -> torch.Tensor:
        flat = tensors.read(name).flatten().float()
        flat = flat[::101] if flat.numel() > 1_000_000 else flat
        flat = flat - flat.mean()
        unit: torch.Tensor = flat / flat.norm().clamp(min=1e-12)
        return unit

    by_shape: dict[tuple[int, ...], list[tuple[str, torch.Tensor]]] = {}
    for name in a.matrices():
        by_shape.setdefault(a.shapes[name], []).append((name, sample(a, name)))
    matches = []
    for name in b.matrices():
        if candidates := by_shape.get(b.shapes[name]):
            values = sample(b, name)
            r, best = max((float(values @ other), other_name) for other_name, other in candidates)
            if r > NEAR:
                matches.append((name, best, r))
    return matches
