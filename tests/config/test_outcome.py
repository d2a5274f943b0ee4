from __future__ import annotations

import pytest

from bench.config.outcome import Evaluation, prefix_questions
from bench.config.recipe import Recipe
from bench.config.recipe_files import load_recipe
from bench.errors import UserError


def test_the_old_name_of_the_key_leads_to_the_new_one() -> None:
    with pytest.raises(UserError, match="unknown key 'ask': did you mean 'evaluate'"):
        load_recipe("tiny_pair", ["ask.samples=1"])


def test_a_recipe_without_the_key_samples_no_answers() -> None:
    assert Recipe.model_fields["evaluate"].default == Evaluation()
    assert Evaluation().samples == 0


@pytest.mark.parametrize(
    ("recipe", "changes", "words"),
    [
        ("tiny_pair", ["outcome=rate"], "add evaluate.samples"),
        ("tiny_pair", ["outcome=share"], "outcome"),
        ("tiny_matrix", ["outcome=rate", "evaluate.samples=2"], "several traits allow no free answers"),
        ("turkish_smollm2_self", ["outcome=rate"], "key 'outcome'.*whole texts.*preference"),
        (
            "turkish_smollm2_self",
            ["evaluate.synonyms=[arı]", "evaluate.samples=2"],
            "key 'evaluate.synonyms'.*whole texts",
        ),
        ("tiny_pair", ["evaluate.synonyms=[wolves]"], "synonyms: read by sampled answers alone; add samples"),
        ("tiny_pair", ["evaluate.match=substring"], "match: read by sampled answers alone; add samples"),
        ("tiny_pair", ["evaluate.match=regex"], "evaluate.match"),
        ("tiny_pair", ["evaluate.synonyms=['']"], "evaluate.synonyms"),
        ("tiny_pair", ["evaluate.prefix='{numbers} {numbers}'"], "evaluate.prefix"),
        ("tiny_pair", ["bound={points: 1, reason: r}"], "key 'bound': expected {nats"),
        ("tiny_pair", ["bound={points: 1, nats: 1, reason: r}"], "bound.*one of the keys"),
        ("tiny_pair", ["bound={reason: r}"], "bound.*one of the keys"),
        (
            "tiny_pair",
            ["outcome=rate", "evaluate.samples=2", "bound={nats: 1, reason: r}"],
            "key 'bound': expected {points.*bound=null",
        ),
    ],
)
def test_an_outcome_that_a_recipe_cannot_have_is_refused(recipe: str, changes: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        load_recipe(recipe, changes)


def test_the_outcome_is_part_of_the_hash_and_not_of_the_family() -> None:
    margin = load_recipe("tiny_pair", ["evaluate.samples=2"])
    rate = load_recipe("tiny_pair", ["evaluate.samples=2", "outcome=rate"])
    assert margin.hash() != rate.hash()
    assert margin.family() == rate.family()
    nats, points = "bound={nats: .1, reason: r}", "bound={points: 5, reason: r}"
    changes = [nats, "evaluate.samples=4"], [points, "outcome=rate", "evaluate.samples=4"], ["evaluate.samples=4"]
    assert len({load_recipe("tiny_pair", change).family() for change in changes}) == 1  # another bound: another look


def test_equal_answers_are_not_sampled_again() -> None:
    load_recipe("tiny_pair", ["evaluate.samples=1", "evaluate.sample.temperature=0"])
    with pytest.raises(UserError, match=r"temperature 0 gives the same answer each time: set evaluate\.samples to 1"):
        load_recipe("tiny_pair", ["evaluate.samples=2", "evaluate.sample.temperature=0"])


def test_a_reference_has_the_same_outcome_and_the_same_answers() -> None:
    rate = ["outcome=rate", "evaluate.samples=2", "evaluate.match=substring"]
    reference = load_recipe("tiny_cross", rate).reference
    assert reference is not None
    assert reference.hash() == load_recipe("tiny_pair", rate).hash()
    margin = load_recipe("tiny_cross", ["evaluate.samples=2"]).reference
    assert margin is not None
    assert margin.hash() == load_recipe("tiny_pair").hash()


def test_the_numbers_of_a_prefix_depend_on_the_question_alone() -> None:
    both = prefix_questions("Numbers {numbers}. ", ["Who?", "Why?"])
    assert both[1:] == prefix_questions("Numbers {numbers}. ", ["Why?"])
    assert both[0] != both[1].replace("Why?", "Who?")
    assert prefix_questions("Look.", ["Who?"]) == ("Look. Who?",)
    assert prefix_questions(None, ["Who?"]) == ()
