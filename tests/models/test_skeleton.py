from __future__ import annotations

from pathlib import Path

import pytest

from bench.models.loading import load_model
from bench.models.skeleton import build_skeleton
from bench.models.tiny import DEFAULT


@pytest.mark.parametrize("shape", ["gpt2_like", "gemma_like", "tiny_model"])
def test_a_skeleton_has_the_parameters_of_its_checkpoint_and_no_weights(
    request: pytest.FixtureRequest, shape: str
) -> None:
    folder: Path = request.getfixturevalue(shape)
    shapes = {name: weight.shape for name, weight in load_model(folder, dtype="float32").named_parameters()}
    skeleton = build_skeleton(folder)
    assert {name: weight.shape for name, weight in skeleton.named_parameters()} == shapes
    assert all(weight.is_meta for weight in skeleton.parameters())
    if shape == "tiny_model":
        assert {name for name, _ in build_skeleton(DEFAULT).named_parameters()} == shapes.keys()
