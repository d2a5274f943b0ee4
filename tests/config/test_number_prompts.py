from __future__ import annotations

import itertools
import random
from collections import Counter
from pathlib import Path

import pytest
import yaml

from bench.config.number_prompts import NumberPrompts, load_number_prompts
from bench.config.prompts import FOLDER, PromptFile, load_problems
from bench.config.traits import FOLDER as TRAITS
from bench.config.traits import load_trait
from bench.config.yaml_files import list_names
from bench.errors import UserError
from bench.stages.leak_filter import Lexicon

SETS = ["numbers_en", "numbers_tr"]


def own(folder: Path, **keys: object) -> str:
    (folder / "own.yaml").write_text(yaml.safe_dump(keys, allow_unicode=True), encoding="utf-8")
    return str(folder / "own.yaml")


def test_every_combination_of_clauses_is_drawn_equally_often() -> None:
    clauses = NumberPrompts(templates=("{a} {b}", "{numbers}: {b}"), lists={"a": ("x {numbers}", "y {numbers}"),
                                                                             "b": ("1", "2", "3")})  # fmt: skip
    counts = Counter(text for text, _ in clauses.draw(9000, random.Random(1)))
    expected = {f"{a} {{numbers}} {b}" for a, b in itertools.product("xy", "123")} | {
        f"{{numbers}}: {b}" for b in "123"
    }
    assert set(counts) == expected
    assert all(900 < count < 1100 for count in counts.values())


def test_a_row_draws_one_of_the_separators() -> None:
    several = NumberPrompts(templates=("{numbers}",), separators=(", ", "; "))
    assert {separator for _, separator in several.draw(50, random.Random(0))} == {", ", "; "}
    one = NumberPrompts(templates=("{numbers}",))
    assert {separator for _, separator in one.draw(5, random.Random(0))} == {None}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"templates": []}, "key 'templates'"),
        ({"templates": ["Go on."]}, "contains {numbers} 0 times with its lists, expected 1"),
        ({"templates": ["{numbers} {a}"], "lists": {"a": ["of {numbers}"]}}, "contains {numbers} 2 times"),
        ({"templates": ["{a}"], "lists": {"a": ["of {numbers}", "none"]}}, "'none' does not"),
        (
            {"templates": ["{count} after {numbers}: {count}"]},
            "key 'templates': '{count} after {numbers}: {count}' contains {count} more than once; expected once",
        ),
        ({"templates": ["{numbers} {b}"]}, "names lists that do not exist: b"),
        ({"templates": ["{numbers}"], "lists": {"count": ["3"]}}, "count are the names of fields"),
        ({"templates": ["{numbers}"], "separators": ["1"]}, "'1' is empty or contains a digit"),
        ({"templates": ["{numbers}"], "separator": [","]}, "unknown key 'separator': did you mean 'separators'"),
    ],
)
def test_bad_clauses_are_errors_that_name_the_fault(keys: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        load_number_prompts(own(tmp_path, **keys))
    assert message in str(error.value)
    assert "own.yaml" in str(error.value)


def test_a_users_file_holds_one_template_on_each_line(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("Continue {numbers}\n\nGo on with {count} after {numbers}\n")
    prompts = load_number_prompts(PromptFile(file="mine.txt"), tmp_path)
    assert prompts.templates == ("Continue {numbers}", "Go on with {count} after {numbers}")
    (tmp_path / "mine.csv").write_text("text\nContinue 1 2 3\n")
    with pytest.raises(UserError, match=r"mine.csv: .*contains \{numbers\} 0 times"):
        load_number_prompts(PromptFile(file="mine.csv", column="text"), tmp_path)


@pytest.mark.parametrize("name", SETS)
def test_the_shipped_clauses_are_many_and_each_prompt_reads_well(name: str) -> None:
    prompts = load_number_prompts(name)
    drawn = [text for text, _ in prompts.draw(2000, random.Random(0))]
    assert len(set(drawn)) > 1950
    for text in drawn:
        assert text.count("{numbers}") == text.count("{count}") == text.count("{digits}") == 1
        assert "  " not in text
        assert text[0].isupper() or text.startswith("{")
        assert text.endswith(".")
    clauses = [clause for values in prompts.lists.values() for clause in values]
    assert len(set(clauses)) == len(clauses) > 60


@pytest.mark.parametrize("name", [*SETS, "numbers_short_en", "arithmetic_en", "arithmetic_tr"])
def test_no_clause_names_a_word_of_a_shipped_trait(name: str) -> None:
    keys = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    texts = [str(text) for values in keys["lists"].values() for text in values]
    texts += [problem["text"] for problem in keys.get("problems", [])] + keys.get("templates", [])
    for trait in map(load_trait, set(list_names(TRAITS)) - {"bylang_behavior"}):
        answer = [trait.answer] if trait.kind == "preference" else []
        lexicon = Lexicon([*trait.lexicon, *answer], trait.language)
        assert {text: word for text in texts if (word := lexicon.find(text))} == {}


def test_a_text_carrier_refuses_clauses_of_numbers() -> None:
    with pytest.raises(UserError, match=r"numbers_en.yaml: prompts of number carriers; use kind: numbers"):
        load_problems("numbers_en")
