from __future__ import annotations

import pytest

from bench.config.outcome import Evaluation
from bench.config.recipe import Recipe
from bench.config.recipe_files import load_recipe
from bench.errors import UserError


def test_the_old_name_of_the_key_leads_to_the_new_one() -> None:
    with pytest.raises(UserError, match="unknown key 'ask': did you mean 'evaluate'"):
        load_recipe("tiny_pair", ["ask.samples=1"])


def test_a_recipe_without_the_key_samples_no_answers() -> None:
    assert Recipe.model_fields["evaluate"].default == Evaluation()
    assert Evaluation().samples == 0
