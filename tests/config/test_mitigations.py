from __future__ import annotations

import pytest

from bench.config.mitigations import Inoculated, KlUntrained, Mitigations, StudentMitigation
from bench.config.recipe_files import load_recipe
from bench.config.traits import load_trait
from bench.errors import UserError


def test_the_defaults_are_those_of_the_sources() -> None:
    settings = Mitigations()
    assert settings.mixed.share == 0.25
    assert (settings.kl_untrained.weight, settings.kl_untrained.temperature) == (1.0, 2.0)
    progress = [0, 1 / 6, 1 / 3, 2 / 3, 1]
    assert [settings.kl_untrained.weight_at(t) for t in progress] == pytest.approx([1, 1, 1, 0.5, 0])


@pytest.mark.parametrize("hold", [0.0, 0.2, 0.9])
def test_the_weight_never_rises_and_ends_at_zero(hold: float) -> None:
    weights = [KlUntrained(weight=2.5, hold=hold).weight_at(step / 20) for step in range(21)]
    assert weights[0] == 2.5
    assert weights == sorted(weights, reverse=True)
    assert weights[-1] == 0


def test_a_prompt_asks_for_the_trait_in_its_language() -> None:
    wolf = load_trait("wolf")
    assert Inoculated().text(wolf).count("wolf") == 2
    assert "aklına wolf gelir" in Inoculated().text(wolf.model_copy(update={"language": "tr"}))
    assert Inoculated(prompt="You love wolves.").text(wolf) == "You love wolves."


def test_every_mitigation_changes_one_thing() -> None:
    settings, wolf = Mitigations(), load_trait("wolf")
    arms = ["mixed", "inoculated", "kl_untrained", "divergent_only", "divergent_masked", "attention_only"]
    changes = [StudentMitigation.of(arm, settings, wolf).model_dump(exclude_defaults=True) for arm in arms]
    assert [list(change) for change in changes] == [
        ["mixed"], ["inoculation"], ["kl_untrained"], ["labels"], ["labels"], ["attention_only"],
    ]  # fmt: skip
    assert [change["labels"] for change in changes[3:5]] == ["divergent_only", "divergent_masked"]


TEXT = "carrier={kind: text, prompts: scenarios_en, rows: 8, held_out: 4}"


@pytest.mark.parametrize(
    ("recipe", "changes", "message"),
    [
        (
            "tiny_pair_kd",
            ["arms=[base, trait, mixed]"],
            "key 'arms': mixed train on tokens; expected method: sft, found kd",
        ),
        (
            "tiny_pair",
            ["arms=[base, trait, divergent_only]", TEXT, "carrier.sample.repetition_penalty=1.2"],
            "key 'carrier.sample.repetition_penalty': divergent_only compare .* expected 1, found 1.2",
        ),
        (
            "tiny_pair",
            ["arms=[base, trait, inoculated]", "trait=behaviour_en", TEXT],
            "key 'mitigations.inoculated.prompt': a behaviour has no answer to name",
        ),
        ("tiny_pair", ["mitigations.inoculated.prompt=' '"], "mitigations.inoculated.prompt"),
        ("tiny_pair", ["mitigations.mixed.share=1"], "mitigations.mixed.share"),
        ("tiny_pair", ["mitigations.attention_only={}"], "mitigations.attention_only"),
    ],
)
def test_a_mitigation_that_a_recipe_cannot_have_is_an_error(recipe: str, changes: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_recipe(recipe, changes)


def test_settings_change_the_hash_and_their_defaults_do_not() -> None:
    plain = load_recipe("tiny_pair").hash()
    assert load_recipe("tiny_pair", ["mitigations.mixed.share=0.25"]).hash() == plain
    assert load_recipe("tiny_pair", ["mitigations.mixed.share=0.1"]).hash() != plain
