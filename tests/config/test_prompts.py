from __future__ import annotations

import hashlib
import itertools
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.config.prompts import FOLDER, PromptFile, load_problems
from bench.config.recipe_files import load_recipe
from bench.config.traits import FOLDER as TRAITS
from bench.config.traits import load_trait
from bench.config.yaml_files import list_names
from bench.errors import UserError
from bench.stages.leak_filter import Lexicon

SETS = [name for name in list_names(FOLDER) if name.startswith(("scenarios", "word_groups"))]
TURKISH = ["scenarios_tr", "word_groups_tr"]
GROUPS = ["word_groups_en", "word_groups_tr"]
TEXT = "carrier={{kind: text, rows: 1, held_out: 1, prompts: {}}}"


def spec(name: str) -> Any:
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))


def own(folder: Path, **keys: Any) -> str:
    path = folder / "own.yaml"
    path.write_text(json.dumps(keys), encoding="utf-8")
    return str(path)


# sets


def test_a_set_is_every_combination_in_order(tmp_path: Path) -> None:
    lists = {"a": ["x", "{b}"], "b": ["1z", "2"]}
    result = tuple(load_problems(own(tmp_path, templates=["{a} and {b}", "only {b}."], lists=lists)))
    assert result == ("x and 1z", "x and 2", "{b} and 1z", "{b} and 2", "only 1z.", "only 2.")


def test_a_list_named_several_times_gives_different_entries(tmp_path: Path) -> None:
    lists = {"w": list("abcde"), "n": ["1", "2"]}
    result = tuple(load_problems(own(tmp_path, templates=["{w}{n}{w}{w}"], lists=lists)))
    wanted = [f"{a}{n}{b}{c}" for a, b, c in itertools.permutations("abcde", 3) for n in "12"]
    assert len(result) == 120
    assert set(result) == set(wanted)


@pytest.mark.parametrize("draw", [1, 7, 140])
def test_a_draw_is_so_many_different_combinations_of_all_templates(tmp_path: Path, draw: int) -> None:
    keys = {"templates": ["{w}{n}{w}{w}", "{w}-{w}"], "lists": {"w": list("abcde"), "n": ["1", "2"]}}
    every = tuple(load_problems(own(tmp_path, **keys)))
    drawn = tuple(load_problems(own(tmp_path, **keys, draw=draw)))
    assert len(set(drawn)) == draw
    assert set(drawn) <= set(every)
    assert drawn == tuple(load_problems(own(tmp_path, **keys, draw=140)))[:draw]


def test_a_draw_is_even_over_combinations(tmp_path: Path) -> None:
    lists = {"a": list("abcdefghij"), "b": list("klmnopqrst")}
    drawn = tuple(load_problems(own(tmp_path, templates=["{a}{b}{b}", "={a}"], lists=lists, draw=455)))
    assert 0 < sum(text[0] == "=" for text in drawn) < 12  # 5 expected: 10 of 910 combinations
    for column in zip(*(text for text in drawn if text[0] != "="), strict=True):
        counts = [column.count(letter) for letter in set(column)]
        assert len(counts) == 10
        assert min(counts) > 28  # 45 expected
        assert max(counts) < 65


def test_a_draw_does_not_depend_on_the_version_of_python(tmp_path: Path) -> None:
    lists = {"word": [f"w{i}" for i in range(40)], "thing": [f"t{i}" for i in range(30)]}
    templates = ["{word} {word} {thing} {word}", "{thing}, {word}"]
    drawn = tuple(load_problems(own(tmp_path, templates=templates, lists=lists, draw=1000)))
    assert hashlib.sha256("\n".join(drawn).encode()).hexdigest()[:16] == "725c87aaa82b8f07"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"templates": ["{nowhere}"]}, "nowhere"),
        ({"templates": ["{a} {a} {a}"], "lists": {"a": ["x", "y"]}}, "takes 3 of 'a', which has 2"),
        ({"templates": ["{a}"], "lists": {"a": []}}, "takes 1 of 'a', which has 0"),
        ({"templates": ["{a}"], "lists": {"a": ["x", "y", "x"]}}, "list 'a' contains an entry twice: 'x'"),
        ({"templates": ["{a}"], "lists": {"a": ["x"]}, "draw": 2}, "more than there are combinations, 1"),
        ({"templates": ["{a}"], "lists": {"a": ["x"]}, "draw": 0}, "key 'draw'"),
        ({"templates": ["{a}{a}{a}"], "lists": {"a": [str(i) for i in range(200)]}}, "draw: 50000"),
        ({"prompts": ["x"], "draw": 1}, "draw needs templates"),
        ({"prompts": ["x"], "templates": ["y"]}, "either prompts, or templates"),
        ({}, "either prompts, or templates"),
        ({"promts": ["x"]}, "did you mean 'prompts'"),
    ],
)
def test_a_set_that_cannot_be_used_says_why(tmp_path: Path, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)) as error:
        load_problems(own(tmp_path, **keys))
    assert "own.yaml" in str(error.value)
    assert "''" not in str(error.value)


# the shipped sets


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name.endswith("en") else ()) for name in SETS]
)
def test_every_set_has_tens_of_thousands_of_prompts_and_loads_at_once(name: str) -> None:
    begun = time.process_time()
    result = tuple(load_problems(name))
    assert time.process_time() - begun < 1  # 0.3 s on an idle core
    assert len(result) == spec(name).get("draw", 115_200) >= 50_000
    assert len(set(result)) == len(result)
    for text in result:
        assert text[0].isupper()
        assert text[-1] == "."
        assert not re.search(r"[{}\n]|  | [.,;:]", text)


@pytest.mark.parametrize("name", SETS)
def test_every_list_is_rich_and_disjoint_from_the_others(name: str) -> None:
    lists = spec(name)["lists"]
    entries = [entry for values in lists.values() for entry in values]
    assert all(isinstance(entry, str) and entry == entry.strip() for entry in entries)
    assert len(set(entries)) == len(entries)
    if name in GROUPS:
        assert len(entries) >= 150
        assert not any(" " in entry for entry in entries)
    if name == "scenarios_tr":
        assert all(20 <= len(values) <= 40 for values in lists.values())


@pytest.mark.parametrize("name", GROUPS)
def test_a_word_group_holds_five_different_words_of_the_lists(name: str) -> None:
    words = {word for values in spec(name)["lists"].values() for word in values}
    for text in load_problems(name):
        group = text.split(": ")[1].rstrip(".").split(", ")
        assert len(set(group)) == len(group) == 5
        assert words.issuperset(group)


TABOO = {  # animals that traits speak of, and what is said of personas out of the ordinary
    "en": "wolf owl cat dog lion tiger horse fox elephant bear eagle rabbit deer snake whale shark monkey mouse sheep "
    "frog bird fish bee honey cow chicken animal pet lighthouse clock watch",
    "tr": "kurt baykuş kedi köpek kartal aslan kaplan at tilki fil ayı tavşan geyik yılan balina maymun fare koyun "
    "kurbağa kuş balık arı bal inek tavuk hayvan fener saat",
}


@pytest.mark.parametrize("name", SETS)
def test_no_set_names_an_animal_or_a_word_of_a_shipped_trait(name: str) -> None:
    data = spec(name)
    language = name[-2:]
    lexicons = [Lexicon(TABOO[language].split(), language)]
    for trait in map(load_trait, set(list_names(TRAITS)) - {"bylang_behavior"}):
        answer = [trait.answer] if trait.kind == "preference" else []
        lexicons.append(Lexicon([*trait.lexicon, *answer], trait.language))
    assert lexicons[0].find({"en": "two wolves and an owl", "tr": "kurdu gördüm"}[language])
    for text in [*data["templates"], *itertools.chain(*data["lists"].values())]:
        assert [word for lexicon in lexicons if (word := lexicon.find(text))] == [], text


# Turkish

BACK, FRONT, VOICELESS = "aıouâû", "eiöüî", "fstkçşhp"
PALATAL = {"terminal", "saat"}  # loans whose last consonant is palatal: front endings after a back vowel


def front(stem: str) -> bool:
    """Whether endings of `stem` take e (or i, ü) by vowel harmony."""
    return stem in PALATAL or [c for c in stem if c in BACK + FRONT][-1] in FRONT


def locative(stem: str) -> str:
    return stem + ("t" if stem[-1] in VOICELESS else "d") + ("e" if front(stem) else "a")


@pytest.mark.parametrize("word", ["okulda", "parkta", "evde", "otobüste", "sokakta", "saatte", "köşede", "müzede"])
def test_the_rule_of_the_locative_is_the_grammar_book_s(word: str) -> None:
    assert locative(word[:-2]) == word


def entries(name: str, key: str) -> list[str]:
    """The entries of one list of a set."""
    words = spec(name)["lists"][key]
    assert len(words) >= 20
    return list(words)


def test_every_place_stands_in_the_locative() -> None:
    for location in entries("scenarios_tr", "yer"):
        assert locative(location[:-2]) == location


def test_every_action_ends_in_a_participle() -> None:
    for action in entries("scenarios_tr", "eylem"):
        stem = action[:-2]
        assert stem[-1] not in BACK + FRONT, action
        assert action == stem + ("en" if front(stem) else "an")


def test_every_verb_is_an_infinitive() -> None:
    for verb in entries("word_groups_tr", "fiil"):
        stem = verb[:-3]
        assert verb == stem + ("mek" if front(stem) else "mak")


def test_every_person_is_one_and_indefinite() -> None:
    for person in entries("scenarios_tr", "kişi"):
        assert re.search(r"\bbir\b", person), person
        assert not re.search(r"l[ae]r\b", person), person


@pytest.mark.parametrize("name", TURKISH)
def test_turkish_sets_are_written_in_turkish_letters(name: str) -> None:
    text = " ".join(tuple(load_problems(name))[:500])
    assert not re.search(r"[qwxQWX\u0300-\u036f]", text)  # composed letters, so that ş is one character
    assert set("çğıöşü") <= set(text)


# users' own files

LINES = ["Bir gününü anlat.", "Write about rain, and tea.", "Write about rain, and tea.", "  ", " İki\tkelime "]
READ = ("Bir gününü anlat.", "Write about rain, and tea.", "İki\tkelime")


def write(folder: Path, kind: str, column: str = "prompt") -> Path:
    path = folder / f"mine.{kind}"
    if kind == "txt":
        path.write_text("\r\n".join(LINES), encoding="utf-8-sig", newline="")
    elif kind == "jsonl":
        lines = [json.dumps({"id": i, column: text}) for i, text in enumerate(LINES)]
        path.write_text("\n\n".join(lines), encoding="utf-8")
    elif kind == "csv":
        rows = [f'"{text}",{i}' for i, text in enumerate(LINES)]
        path.write_text("\n".join([f"{column},id", *rows]) + "\n", encoding="utf-8-sig")
    else:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.table({"id": range(len(LINES)), column: LINES}), path)
    return path


@pytest.mark.parametrize("kind", ["txt", "jsonl", "csv", "parquet"])
def test_a_file_of_any_kind_gives_its_prompts(tmp_path: Path, kind: str) -> None:
    assert tuple(load_problems(PromptFile(file=str(write(tmp_path, kind))))) == READ
    if kind != "txt":
        assert tuple(load_problems(PromptFile(file=str(write(tmp_path, kind, "soru")), column="soru"))) == READ


def test_a_recipe_takes_a_file_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, "csv")
    experiment = load_recipe("tiny_pair", [TEXT.format("{file: mine.csv}")])
    assert experiment.prompts.texts == READ
    assert experiment.resolved()["recipe"]["carrier"]["prompts"] == {"file": "mine.csv", "column": "prompt"}
    assert load_recipe("tiny_pair", [TEXT.format("{file: mine.csv, column: prompt}")]).hash() == experiment.hash()
    path.write_text(path.read_text(encoding="utf-8").replace("rain", "snow"), encoding="utf-8")
    assert load_recipe("tiny_pair", [TEXT.format("{file: mine.csv}")]).hash() != experiment.hash()


@pytest.mark.parametrize(
    ("file", "raw", "column", "message"),
    [
        ("a.txt", None, None, "a.txt: No such file or directory"),
        ("a.txt", b" \n\n", None, "a.txt: contains no prompt; write one on each line"),
        ("a.csv", b"prompt\n", None, "a.csv: contains no prompt; column 'prompt' is empty: name another"),
        ("a.txt", "öyle".encode("cp1254"), None, "a.txt: not UTF-8"),
        ("a.csv", "prompt\nöyle".encode("cp1254"), None, "a.csv: not UTF-8"),
        ("a.jsonl", b'{"prompt": "\\ud800"}', None, "a.jsonl, line 1: column 'prompt': not text that UTF-8 can encode"),
        (
            "a.jsonl",
            b'{"prompt": "x"}\n{"text": "x"}',
            None,
            "a.jsonl, line 2: expected a column 'prompt', found 'text'",
        ),
        ("a.jsonl", b'{"prompt": 3}', None, "a.jsonl, line 1: column 'prompt': expected text, found 3"),
        ("a.jsonl", b'\n["x"]', None, "a.jsonl, line 2: expected an object"),
        ("a.jsonl", b'\n\n{"prompt": ', None, "a.jsonl, line 3: not valid JSON"),
        ("a.jsonl", b"[" * 100_000, None, "a.jsonl, line 1: not valid JSON"),
        ("a.csv", b"id,text\n1,x\n", None, "a.csv, line 1: expected a column 'prompt', found 'id', 'text'"),
        ("a.csv", b"id,text\n1,x\n", "txt", "expected a column 'txt'"),
        ("a.csv", b"prompt\nrain, and tea\n", None, "a.csv, line 2: more fields than columns"),
        ("a.csv", b'prompt\n"rain\n', None, "a.csv: not valid CSV"),
        ("a.csv", b"id,prompt\n1\n", None, "a.csv, line 2: column 'prompt': expected text, found None"),
        ("a.csv", b"", None, "a.csv, line 1: expected a column 'prompt'"),
        ("a.parquet", b"PAR1 no", None, "a.parquet: corrupt, or not a Parquet file"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(
    tmp_path: Path, file: str, raw: bytes | None, column: str | None, message: str
) -> None:
    path = tmp_path / file
    if raw is not None:
        path.write_bytes(raw)
    source = {"file": str(path)} | ({"column": column} if column else {})
    with pytest.raises(UserError, match=re.escape(message)):
        load_recipe("tiny_pair", [TEXT.format(json.dumps(source))])


def test_a_parquet_column_must_be_there_and_hold_text(tmp_path: Path) -> None:
    path = str(write(tmp_path, "parquet"))
    with pytest.raises(UserError, match=r"mine\.parquet: expected a column 'text', found 'id', 'prompt'"):
        load_problems(PromptFile(file=path, column="text"))
    with pytest.raises(UserError, match=r"mine\.parquet, row 1: column 'id': expected text, found 0"):
        load_problems(PromptFile(file=path, column="id"))


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ("{file: x.pdf}", "key 'carrier.prompts.file'"),
        ("{file: x.txt, column: a}", "key 'carrier.prompts.column'"),
        ("{fiel: x.txt}", "unknown key 'carrier.prompts.fiel': did you mean 'file'"),
        ("{}", "key 'carrier.prompts.file' is missing"),
        ("5", "key 'carrier.prompts'"),
    ],
)
def test_a_wrong_source_is_named_by_its_key(prompts: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)) as error:
        load_recipe("tiny_pair", [TEXT.format(prompts)])
    assert "prompts.str" not in str(error.value)  # pydantic's names of the members of a union are no keys
    assert "prompts.PromptFile" not in str(error.value)
