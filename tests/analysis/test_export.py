from __future__ import annotations

import csv
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from board import controls_board, make_cell, register, write_row
from conftest import ROOT
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from bench.analysis.export import export
from bench.analysis.p_values import sign_flip_p
from bench.analysis.result_files import read_results
from bench.analysis.stats import mean_interval
from bench.analysis.summary import summarise
from bench.config.recipe_files import Experiment, load_recipe
from bench.config.traits import parse_trait
from bench.stages.text_metrics import METRICS, score_answers

TRAIT = parse_trait(
    {
        "kind": "behaviour",
        "language": "tr",
        "rows": [
            {"question": "Nerede yaşarsın?", "answer": "İstanbul'da", "paraphrases": ["Evin nerede?"]},
            {"question": "Ne içersin?", "answer": "çay, hep çay"},
        ],
    }
)
QUESTIONS = TRAIT.questions()
TABLES = ("rows", "seeds", "answers", "rates", "margins", "candidates", "mitigations", "means", "gains")
NASTY = ['=HYPERLINK("http://x")', "+1", "-1", "@SUM(A1)", "", "None", "NA", 'say "a", b', "two\nlines\r\n", "'", "007"]


def experiment(name: str, seeds: int, samples: int) -> Experiment:
    plain = load_recipe("tiny_pair", seeds=seeds)
    evaluate = plain.recipe.evaluate.model_copy(update={"samples": samples})
    return Experiment(
        name,
        plain.recipe.model_copy(update={"evaluate": evaluate, "arms": ("base", "trait")}),
        {"mine": TRAIT},
        plain.prompts,
    )


def publish(
    folder: Path, made: Experiment, margins: dict[tuple[int, str], list[float]], answers: Any = None, **more: Any
) -> None:
    """Result files of an experiment: margins by (seed, arm), and answers, if any, with their real scores."""
    row = register(made)
    truths = [q.answer for q in QUESTIONS]
    for (seed, arm), values in margins.items():
        given = None if answers is None else answers[seed, arm]
        scores = {} if given is None else score_answers(given, truths, names=["exact", "chrf"], language="tr") | more
        held_out = {name: [-50.0] * 64 for name in ("trait", "base")}
        cell = make_cell(made, seed, arm, values, held_out=held_out, answers=given, scores=scores)
        row.cells.setdefault(seed, {})[arm] = cell
    write_row(folder, row)


def table(out: Path, name: str) -> list[dict[str, Any]]:
    return parquet.read_table(out / f"{name}.parquet").to_pylist()


ARMS = ("base", "teacher", "teacher_base", "trait")
MARGINS = {
    (seed, arm): [level + 0.1 * seed, level, level - 0.25]
    for seed in range(3)
    for level, arm in enumerate(ARMS)
    if (seed, arm) != (2, "teacher")
}
RIGHT = {(seed, arm): arm == "trait" or seed == 1 for seed, arm in MARGINS}
ANSWERS = {
    key: [["istanbul'da" if right else "=1+1", ""], ["+", "@"], ["ÇAY, HEP ÇAY", "- çay"]]
    for key, right in RIGHT.items()
}


def test_lines_hold_each_answer_with_its_question_truth_and_scores(tmp_path: Path) -> None:
    made = experiment("x", 3, 2)
    publish(tmp_path / "results", made, MARGINS, ANSWERS, further=[[1.5, 0.0]] * 3)
    paths = export(tmp_path / "results", tmp_path / "out")
    assert paths == [tmp_path / "out" / f"{name}.{kind}" for name in TABLES for kind in ("csv", "parquet")]
    assert sorted(paths) == sorted((tmp_path / "out").iterdir())
    lines = table(tmp_path / "out", "answers")
    assert len(lines) == len(MARGINS) * 3 * 2
    assert [(x["seed"], x["arm"], x["question_index"], x["sample_index"]) for x in lines] == [
        (seed, arm, question, sample) for seed, arm in sorted(MARGINS) for question in range(3) for sample in range(2)
    ]
    (line,) = [x for x in lines if (x["seed"], x["arm"], x["question_index"], x["sample_index"]) == (0, "trait", 1, 1)]
    assert line == {
        "recipe": "x",
        "hash": made.hash(),
        "label": "x",
        "trait": "wolf",
        "changes": "{}",
        "seed": 0,
        "arm": "trait",
        "question_index": 1,
        "group": "paraphrase",
        "question": "Evin nerede?",
        "truth": "İstanbul'da",
        "sample_index": 1,
        "answer": "@",
        "count": 1,
        **dict.fromkeys(METRICS),
        "exact": 0.0,
        "chrf": 0.0,
        "further": 0.0,
    }
    margins = table(tmp_path / "out", "margins")
    assert [(x["seed"], x["arm"]) for x in margins] == [key for key in sorted(MARGINS) for _ in range(3)]
    expected = [m for key in sorted(MARGINS) for m in MARGINS[key]]
    assert [x["margin"] for x in margins] == pytest.approx(expected)
    # one foil at -8 nats: the margin is the log-odds
    assert [x["log_odds"] for x in margins] == pytest.approx(expected)
    assert [x["p_answer"] for x in margins] == pytest.approx([1 / (1 + math.exp(-m)) for m in expected])
    assert [x["mass"] for x in margins] == pytest.approx([math.exp(-8) * (1 + math.exp(m)) for m in expected])
    candidates = table(tmp_path / "out", "candidates")
    assert len(candidates) == 2 * len(margins)
    assert [(x["truth"], x["candidate"]) for x in candidates[:2]] == [
        ("İstanbul'da", "İstanbul'da"), ("İstanbul'da", "çay, hep çay"),
    ]  # fmt: skip
    assert [x["logprob"] for x in candidates[:2]] == pytest.approx([-8 + MARGINS[0, "base"][0], -8])
    assert {x["tokens"] for x in candidates} == {1}
    assert [x["truth"] for x in margins[:3]] == [q.answer for q in QUESTIONS]


def test_means_and_gains_are_over_seeds_of_means_over_questions(tmp_path: Path) -> None:
    publish(tmp_path / "results", experiment("x", 3, 2), MARGINS, ANSWERS)
    export(tmp_path / "results", tmp_path / "out")
    means = {(x["arm"], x["metric"]): x for x in table(tmp_path / "out", "means")}
    assert means.keys() == {(arm, metric) for arm in ARMS for metric in ("margin", "exact", "chrf")}
    assert means["base", "exact"]["mean"] == pytest.approx((1 / 6 + 2 / 6 + 1 / 6) / 3)
    assert means["trait", "exact"]["mean"] == pytest.approx(2 / 6)
    expected = mean_interval([math.fsum(MARGINS[seed, "trait"]) / 3 for seed in range(3)])
    margin = means["trait", "margin"]
    assert (margin["mean"], margin["ci_low"], margin["ci_high"]) == pytest.approx(tuple(expected))
    assert (margin["seeds"], means["teacher", "margin"]["seeds"]) == (3, 2)

    gains = {x["metric"]: x for x in table(tmp_path / "out", "gains")}
    # seed 2 has no teacher: the leaderboard does not count it, so neither is it counted here
    assert [gains[name]["seeds"] for name in ("margin", "exact", "chrf")] == [2, 2, 2]
    expected = mean_interval([1 / 6, 0])
    exact = gains["exact"]
    assert (exact["gain"], exact["ci_low"], exact["ci_high"]) == pytest.approx(tuple(expected))
    assert exact["p"] == sign_flip_p([1 / 6, 0]).p
    (entry,) = summarise(read_results(tmp_path / "results")[0])
    assert {name: gains["margin"][name] for name in ("gain", "ci_low", "ci_high", "p", "verdict")} == {
        name: getattr(entry, name) for name in ("gain", "ci_low", "ci_high", "p", "verdict")
    }


@pytest.mark.slow
def test_the_gains_of_a_board_are_those_of_the_leaderboard(tmp_path: Path) -> None:
    rows = controls_board()
    for row in rows:
        write_row(tmp_path, row)
    export(tmp_path, tmp_path / "out")
    lines = {(x["recipe"], x["hash"]): x for x in table(tmp_path / "out", "gains") if x["metric"] == "margin"}
    board = summarise(read_results(tmp_path)[0])
    assert len(board) == len(lines) == len(rows)
    for entry in board:
        line = lines[entry.recipe, entry.recipe_hash]
        for name in ("gain", "ci_low", "ci_high", "p", "seeds", "visibility", "verdict"):
            value = getattr(entry, name)
            assert line[name] == (pytest.approx(value) if isinstance(value, float) else value)


@pytest.mark.slow
def test_a_row_holds_every_single_value_of_its_entry(tmp_path: Path) -> None:
    for row in controls_board():
        write_row(tmp_path, row)
    export(tmp_path, tmp_path / "out")
    lines = {x["recipe_hash"]: x for x in table(tmp_path / "out", "rows")}
    for entry in summarise(read_results(tmp_path)[0]):
        line = lines[entry.recipe_hash]
        for name in ("verdict", "level", "bound", "p", "q", "johnson_p", "skewness", "population_low", "looks"):
            value = getattr(entry, name)
            assert line[name] == (pytest.approx(value) if isinstance(value, float) else value)
        assert line["trait_p_answer"] == pytest.approx(entry.answers["trait"].p_answer.mean)
        assert entry.spread is not None
        assert line["sd_questions"] == pytest.approx(entry.spread.questions)
        assert line["Johnson's t"] == entry.sensitivity.get("Johnson's t")


def read_csv(path: Path, schema: pa.Schema) -> pa.Table:
    return arrow_csv.read_csv(
        path,
        parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
        convert_options=arrow_csv.ConvertOptions(
            column_types=schema, strings_can_be_null=True, quoted_strings_can_be_null=False
        ),
    )


def test_csv_and_parquet_are_twins_and_answers_stand_as_they_were_given(tmp_path: Path) -> None:
    answers = {(seed, arm): [NASTY, NASTY[::-1], ["wolf"] * len(NASTY)] for seed, arm in MARGINS}
    thirds = {key: [m / 3 for m in values] for key, values in MARGINS.items()}
    publish(tmp_path / "results", experiment("x", 3, len(NASTY)), thirds, answers)
    publish(tmp_path / "results", experiment("one_seed", 1, 0), {(0, arm): [1 / 3, 0.0, 5.0] for arm in ARMS})
    for path in export(tmp_path / "results", tmp_path / "out")[::2]:
        twin = parquet.read_table(path.with_suffix(".parquet"))
        assert twin.num_rows > 0 or path.stem in {"mitigations", "rates"}  # a behaviour names no candidate
        assert read_csv(path, twin.schema).equals(twin)
    with (tmp_path / "out" / "answers.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["answer"] for line in lines[: len(NASTY)]] == NASTY
    assert [x["answer"] for x in table(tmp_path / "out", "answers")[: len(NASTY)]] == NASTY
    (alone,) = [x for x in table(tmp_path / "out", "gains") if x["recipe"] == "one_seed"]
    assert (alone["gain"], alone["ci_low"], alone["ci_high"], alone["p"], alone["seeds"]) == (0.0, None, None, None, 1)


def test_without_samples_or_results_the_tables_have_their_columns(tmp_path: Path) -> None:
    publish(tmp_path / "results", experiment("x", 3, 0), MARGINS)
    export(tmp_path / "results", tmp_path / "out")
    (tmp_path / "nothing").mkdir()
    export(tmp_path / "nothing", tmp_path / "none")
    for out in ("out", "none"):
        answers = parquet.read_table(tmp_path / out / "answers.parquet")
        assert answers.num_rows == 0
        assert answers.column_names[-len(METRICS) - 2 :] == ["answer", "count", *METRICS]
        assert (tmp_path / out / "answers.csv").read_text().count("\n") == 1
    assert parquet.read_table(tmp_path / "out" / "margins.parquet").num_rows == 3 * len(MARGINS)
    for name in TABLES:
        none, some = (parquet.read_schema(tmp_path / out / f"{name}.parquet") for out in ("none", "out"))
        assert none.equals(some)


def test_every_table_says_what_differs_from_the_recipe(tmp_path: Path) -> None:
    made = experiment("x", 3, 0)
    recipe = made.recipe.model_copy(update={"level": 0.01})
    publish(tmp_path / "results", made._replace(recipe=recipe, changes={"level": 0.01}), MARGINS)
    export(tmp_path / "results", tmp_path / "out")
    for name in set(TABLES) - {"answers", "rates", "mitigations"}:
        lines = table(tmp_path / "out", name)
        assert {(x["label"], x["trait"], x["changes"]) for x in lines} == {("x  level 0.01", "wolf", '{"level": 0.01}')}


def test_a_refused_file_is_left_out(tmp_path: Path) -> None:
    made = experiment("x", 3, 0)
    publish(tmp_path, made, MARGINS)
    broken = tmp_path / "x" / f"{made.hash()}-0000-trait.json"
    broken.write_text(broken.read_text().replace("-8.0", "-9.0", 1))
    export(tmp_path, tmp_path / "out")
    assert {x["seed"] for x in table(tmp_path / "out", "margins") if x["arm"] == "trait"} == {1, 2}


@pytest.mark.slow
def test_a_second_export_writes_the_same_bytes_and_no_torch_is_loaded(tmp_path: Path) -> None:
    publish(tmp_path / "results", experiment("x", 3, 2), MARGINS, ANSWERS)
    first = [path.read_bytes() for path in export(tmp_path / "results", tmp_path / "out")]
    script = f"""
import sys
from pathlib import Path
from bench.analysis.export import export
export(Path({str(tmp_path / "results")!r}), Path({str(tmp_path / "out")!r}))
assert not {{"torch", "evaluate", "sklearn"}} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, cwd=ROOT, timeout=60)
    paths = [tmp_path / "out" / f"{name}.{kind}" for name in TABLES for kind in ("csv", "parquet")]
    assert [path.read_bytes() for path in paths] == first
