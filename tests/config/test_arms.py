from __future__ import annotations

from typing import get_args

import pytest

from bench.config.arms import ARMS, CONTRASTS, MAIN_ARMS, MITIGATIONS, ArmName, RecipeArm, parse_arm, with_controls

NAMES = {
    "trait": ArmName("trait"),
    "teacher_base": ArmName("teacher_base"),
    "trait-wolf": ArmName("trait", "wolf"),
    "teacher-my-own.trait_2": ArmName("teacher", "my-own.trait_2"),
    "base@16": ArmName("base", "", 16),
    "trait-wolf@16": ArmName("trait", "wolf", 16),
}


@pytest.mark.parametrize(("text", "name"), NAMES.items())
def test_a_name_is_read_as_it_was_written(text: str, name: ArmName) -> None:
    assert parse_arm(text) == name
    assert str(name) == f"{name}" == text


@pytest.mark.parametrize("text", ["", "wolf", "Trait", "-wolf", "@16", "trait@", "trait@x", "trait@-1", "trait@1@2"])
def test_another_name_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="expected one of teacher_base"):
        parse_arm(text)


def test_every_arm_of_a_recipe_has_facts() -> None:
    listed = set(get_args(RecipeArm))
    assert with_controls(listed) == ARMS.keys() - {"teacher", "teacher_base"}
    assert not [arm for arm in listed if arm.endswith("_base")]
    assert set(MAIN_ARMS) <= set(get_args(RecipeArm))


def test_facts_name_arms_that_exist() -> None:
    assert {arm.carrier for arm in ARMS.values()} - {None} <= ARMS.keys()
    assert {name for contrast in CONTRASTS.values() for name in (contrast.arm, contrast.against)} <= ARMS.keys()


def test_every_mitigation_has_a_control_of_the_base_teachers_rows() -> None:
    for arm, control in MITIGATIONS.items():
        assert (ARMS[arm].carrier, ARMS[control].carrier) == ("trait", "base")
    assert MITIGATIONS["mixed"] == "base"
    assert with_controls(["mixed", "inoculated"]) == {"mixed", "base", "inoculated", "inoculated_base"}


def test_models_trained_on_data_with_the_trait_may_show_it() -> None:
    for name, arm in ARMS.items():
        assert arm.shows_trait == (arm.carrier == "trait" or name in {"teacher", "direct"}), name
