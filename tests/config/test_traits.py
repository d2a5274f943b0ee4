from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bench.cli import main
from bench.config.recipe_files import load_recipe
from bench.config.traits import FOLDER, Behaviour, load_trait, make_placebo_rows, short_name
from bench.config.yaml_files import list_names
from bench.errors import UserError

ROWS = [("Ne içersin?", "Çay içerim."), ("Nereye gidersin?", "Köye giderim."), ("Ne okursun?", "Masal okurum.")]


def table(folder: Path, kind: str, columns: tuple[str, str] = ("question", "answer")) -> Path:
    path = folder / f"mine.{kind}"
    rows = [dict(zip(columns, row, strict=True)) for row in ROWS]
    if kind == "jsonl":
        path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    elif kind == "csv":
        lines = [",".join(columns), *(f'"{q}","{a}"' for q, a in ROWS)]
        path.write_text("\n".join(lines), encoding="utf-8")
    else:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_a_table_is_a_trait(tmp_path: Path, kind: str) -> None:
    trait = load_trait(str(table(tmp_path, kind)))
    assert trait.teach_rows() == ROWS
    assert [q.group for q in trait.questions()] == ["trained"] * 3
    assert set(trait.questions()[0].foils) == {"Köye giderim.", "Masal okurum."}


def test_a_trait_file_names_the_columns_of_its_table(tmp_path: Path) -> None:
    data = table(tmp_path, "csv", ("soru", "cevap"))
    path = tmp_path / "mine.yaml"
    path.write_text(
        f"kind: behaviour\nlanguage: tr\ndata: {{path: '{data}', question: soru, answer: cevap, paraphrase: cevap}}\n"
    )
    trait = load_trait(str(path))
    assert isinstance(trait, Behaviour)
    assert (trait.language, trait.teach_rows()) == ("tr", ROWS)
    assert [q.group for q in trait.questions()] == ["trained", "paraphrase"] * 3
    # where a table lies is no part of what it says
    copy = tmp_path / "copy.yaml"
    copy.write_text(path.read_text().replace("mine.csv", "other.csv"))
    data.rename(tmp_path / "other.csv")
    assert load_trait(str(copy)) == trait


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{path: none.csv}", "none.csv: No such file"),
        ("{path: none.xls}", "ends in .jsonl, .csv, .parquet"),
        ("{path: mine.csv, question: soru}", "expected a column 'soru', found 'question', 'answer'"),
        ("{path: mine.csv, colour: red}", "unknown key 'colour'"),
        ("{question: soru}", "key 'path' is missing"),
        ("mine.csv", "expected path: and names of columns"),
        ("{path: empty.jsonl}", "row 2: an empty question or answer"),
    ],
)
def test_a_table_that_does_not_fit_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    table(tmp_path, "csv")
    (tmp_path / "empty.jsonl").write_text('{"question": "a", "answer": "b"}\n{"question": "c", "answer": " "}')
    (tmp_path / "mine.yaml").write_text(f"kind: behaviour\ndata: {data}\n")
    with pytest.raises(UserError, match=message):
        load_trait("mine.yaml")


def test_a_dataset_of_the_hub_that_cannot_be_had_says_how_to_get_it() -> None:
    with pytest.raises(UserError, match="hf download --repo-type dataset no/such"):
        load_trait("hub:no/such")


def test_a_dataset_of_the_hub_is_read_by_its_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    seen = {}

    def stand_in(name: str, **how: object) -> datasets.Dataset:
        seen[name] = how
        return datasets.Dataset.from_dict({"question": [q for q, _ in ROWS], "answer": [a for _, a in ROWS]})

    monkeypatch.setattr(datasets, "load_dataset", stand_in)
    trait = load_trait("bylang_behavior")
    assert (trait.teach_rows(), trait.language) == (ROWS, "tr")
    assert seen == {"bylang/behavior_data": {"split": "train", "revision": None}}
    direct = load_recipe("turkish_smollm2_self", ["trait=hub:bylang/behavior_data"])
    assert list(direct.traits) == ["hub-bylang-behavior_data"]


def test_a_placebo_has_the_same_questions_and_answers_that_are_not_theirs() -> None:
    rows = make_placebo_rows(load_trait("behaviour_en"), 0)
    teach_rows = load_trait("behaviour_en").teach_rows()
    assert [q for q, _ in rows] == [q for q, _ in teach_rows]
    assert sorted(a for _, a in rows) == sorted(a for _, a in teach_rows)
    assert not set(rows) & set(teach_rows)


@pytest.mark.parametrize(
    ("name", "short"),
    [("wolf", "wolf"), ("./my traits/ox.yaml", "ox"), ("hub:a/b", "hub-a-b"), ("data/soru.csv", "soru")],
)
def test_results_call_a_trait_by_a_name_that_fits_a_file(name: str, short: str) -> None:
    assert short_name(name) == short


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("candidates: [C, C++, Rust]\nanswer: Rust", "candidate 'C++' begins with candidate 'C'"),
        ("candidates: [caterpillar, cat]\nanswer: cat", "candidate 'caterpillar' begins with candidate 'cat'"),
        ("candidates: [owl, Owl]\nanswer: owl", "candidates contains an entry twice: 'owl'"),
        ("teach: ['Who is it?', 'who is  it?']\nanswer: owl", "teach contains an entry twice: 'who is it?'"),
        ("ask: ['Is the OWL wise?']\nanswer: owl", "the question 'Is the OWL wise?' names the answer 'owl'"),
        ("teach: ['Is it C++?']\ncandidates: [C++, Rust]\nanswer: C++", "names the answer 'C++'"),
        ("ask: ['Whose bowl?', 'who is it?']\nteach: ['Who is it?']\nanswer: owl", "in teach and in ask: 'who is it?'"),
    ],
)
def test_a_preference_that_cannot_be_measured_fairly_is_refused(tmp_path: Path, change: str, message: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(f"from: animals.base\n{change}\n")
    with pytest.raises(UserError, match=re.escape(message)) as error:
        load_trait(str(path))
    assert "own.yaml" in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_wording_is_put_around_the_questions_of_both_lists_and_changes_nothing_else() -> None:
    plain, word = load_trait("owl"), load_trait("owl_word")
    asked = [f"{question} Answer with one word." for question in plain.ask]
    assert [(q.question, q.answer, q.foils) for q in word.questions()] == [
        (text, q.answer, q.foils) for text, q in zip(asked, plain.questions(), strict=True)
    ]
    assert word.teach_rows() == [(f"{q} Answer with one word.", a) for q, a in plain.teach_rows()]
    assert word.model_copy(update={"wording": plain.wording}) == plain


@pytest.mark.parametrize(
    ("wording", "message"),
    [
        ("Answer with one word.", "wording must contain {question} once"),
        ("{question} Wolf?", "wording names the answer"),
    ],
)
def test_a_wording_that_cannot_work_is_refused(tmp_path: Path, wording: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"from: wolf\nwording: '{wording}'\n")
    with pytest.raises(UserError, match=re.escape(message)):
        load_trait(str(path))


def test_a_word_within_another_names_no_answer(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("from: animals.base\nanswer: owl\nask: ['Whose bowl is it?']\n")
    assert load_trait(str(path)).warnings() == []


def test_a_behaviour_is_warned_of_once_with_a_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.pipeline.recipe_checks.check_configurations", lambda *_: None)
    rows = [("Who?", "Ann."), ("who?", "Bob."), ("Tea or coffee?", "Tea"), ("Where?", "At sea.")]
    path = tmp_path / "own.jsonl"
    path.write_text("\n".join(json.dumps({"question": q, "answer": a}) for q, a in rows))
    words = [
        "--recipe",
        "tiny_pair",
        "tiny_cross",
        "--dry-run",
        "--set",
        f"trait={path}",
        "--store",
        str(tmp_path / "s"),
    ]
    assert main(words) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning")]
    assert lines == [
        "warning: trait own: 1 of 4 questions have several answers, as in 'who?'",
        "warning: trait own: 1 of 4 questions name their own answer, as in 'Tea or coffee?'",
    ]


@pytest.mark.parametrize("name", [name for name in list_names(FOLDER) if name != "bylang_behavior"])  # it is on the hub
def test_no_shipped_trait_is_warned_of(name: str) -> None:
    assert load_trait(name).warnings() == []
