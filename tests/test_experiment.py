from __future__ import annotations

from bench.config.recipe import load_recipe
from bench.experiment import CONTROLS, is_control


def test_only_an_unchanged_shipped_control_is_a_control() -> None:
    assert CONTROLS.keys() == {"tiny_pair", "tiny_cross"}
    for name in CONTROLS:
        assert is_control(load_recipe(name))
        assert not is_control(load_recipe(name, seeds=3))
    assert not is_control(load_recipe("tiny_noise"))
