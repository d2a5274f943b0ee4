from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from board import make_row, write_row
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.analysis.leaderboard import build_leaderboard
from bench.analysis.registry import FILE as REGISTRY
from bench.analysis.result_files import read_content, read_results, seal_content
from bench.analysis.result_schema import Audit, Probe
from bench.cli import main


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """The files of one row of three seeds, with an audit, free to be changed."""
    row = make_row([0.3, 0.2, 0.25])
    row.audits["trait"] = Audit(carrier="numbers", control="placebo", probe=Probe(auc_per_seed={"0": 0.5}))
    write_row(tmp_path / "results", row)
    return tmp_path / "results"


def test_what_was_written_is_read_back(results: Path) -> None:
    row = make_row([0.3, 0.2, 0.25])
    (read,), refused = read_results(results)
    assert refused == []
    assert (read.registered, read.questions, read.cells) == (row.registered, row.questions, row.cells)
    assert read.audits["trait"].probe.auc_per_seed == {"0": 0.5}
    assert read.audits["trait"].control == "placebo"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda part: st.lists(part, max_size=4) | st.dictionaries(st.text(), part, max_size=4),
    max_leaves=20,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(), JSON, min_size=1, max_size=5).filter(lambda content: "sha256" not in content))
def test_sealed_content_is_read_back_and_any_changed_byte_is_refused(tmp_path: Path, content: dict[str, Any]) -> None:
    path = tmp_path / "x.json"
    try:
        data = seal_content(content).encode()
    except UnicodeEncodeError:  # lone surrogates are no text
        return
    path.write_bytes(data)
    assert read_content(path) == content
    assert seal_content(dict(reversed(content.items()))).encode() == data
    for at in (len(data) - 2, len(data) // 2):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(ValueError, match="checksum"):
            read_content(path)


def test_the_numbers_of_one_question_stand_on_one_line() -> None:
    lines = seal_content({"reading": {"logprobs": [[-1.5, -2.25], [-3.0, -4.0]]}, "empty": [], "no": {}}).splitlines()
    assert lines[2:] == [
        ' "empty": [],', ' "no": {},', ' "reading": {', '  "logprobs": [', "   [-1.5, -2.25],", "   [-3.0, -4.0]",
        "  ]", " }", "}",
    ]  # fmt: skip


def test_a_file_of_an_earlier_schema_is_refused_with_its_number(results: Path) -> None:
    path = next(results.glob("*/*-0001-trait.json"))
    content = {**read_content(path), "schema": 1}
    path.write_text(json.dumps({**content, "sha256": "0" * 64}, sort_keys=True, indent=1))
    assert read_results(results)[1] == [f"{path}: refused: schema 1, expected 2: run its recipe again"]


def test_keys_that_come_later_are_ignored(results: Path) -> None:
    path = next(results.glob("*/*-0001-trait.json"))
    content = read_content(path)
    resealed(path, rates={"wolf": 0.5}, reading={**content["reading"], "contexts": []})
    assert read_results(results)[1] == []


def resealed(path: Path, **more: Any) -> None:
    """Change a result file and seal it anew, as someone would who wants to be believed."""
    path.write_text(seal_content({**read_content(path), **more}))


def reading(content: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"reading": {**content["reading"], **more}}


def manifest(content: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"manifest": {**content["manifest"], **more}}


def logprobs(value: Any) -> Any:
    """One candidate of 56 questions of 20 with another value."""
    return [[value] + [-8.0] * 19, *[[-8.0] * 20 for _ in range(55)]]


TAMPERED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a log-probability that is no number": lambda c: reading(c, logprobs=logprobs(float("nan"))),
    "an infinite log-probability": lambda c: reading(c, logprobs=logprobs(-1e999)),
    "text for a log-probability": lambda c: reading(c, logprobs=logprobs("-1")),
    "a question too few": lambda c: reading(c, logprobs=c["reading"]["logprobs"][1:]),
    "a candidate too few": lambda c: reading(c, logprobs=[[-1.0] * 19, *c["reading"]["logprobs"][1:]]),
    "token counts of fewer questions": lambda c: reading(c, tokens=[[1] * 20]),
    "a token count of 0": lambda c: reading(c, tokens=[[0] * 20] * 56),
    "float32 of fewer questions": lambda c: reading(c, logprobs_float32=[[-1.0] * 20]),
    "no reading": lambda c: {"reading": {}},
    "a reading that is a list": lambda c: {"reading": []},
    "answers to fewer questions": lambda c: reading(c, answers=[["wolf"]]),
    "held-out rows of another number": lambda c: reading(c, held_out={**c["reading"]["held_out"], "base": [0.0]}),
    "no held-out rows": lambda c: reading(c, held_out={}),
    "no manifest": lambda c: {"manifest": None},
    "no carrier": lambda c: manifest(c, carrier=None),
    "another carrier": lambda c: manifest(c, carrier={**c["manifest"]["carrier"], "train": 1}),
    "a training of another kind": lambda c: manifest(c, training=3),
    "controls of another kind": lambda c: manifest(c, controls=3),
    "no commit": lambda c: manifest(c, commits=[]),
    "a seed that is text": lambda c: {"seed": "1"},
    "a seed that is not registered": lambda c: {"seed": 7},
    "another arm": lambda c: {"arm": "base"},
    "an arm that does not exist": lambda c: {"arm": "treat"},
    "another recipe": lambda c: {"recipe": "tiny_cross"},
    "a recipe outside": lambda c: {"recipe": "../tiny_pair"},
    "another hash": lambda c: {"recipe_hash": "0" * 12},
    "another schema": lambda c: {"schema": 3},
    "no relation": lambda c: {"relation": None},
    "scores that are none": lambda c: {"scores": {"rouge": "high"}},
    "scores of fewer questions": lambda c: {"scores": {"rouge": [[0.5]]}},
    "metrics of no other arm": lambda c: {"scores": {"rouge": [[0.5]] * 56}},
}


@pytest.mark.parametrize("what", TAMPERED)
def test_the_leaderboard_refuses_a_malformed_cell_by_name(results: Path, what: str) -> None:
    path = next((results / "tiny_pair").glob("*-0001-trait.json"))
    resealed(path, **TAMPERED[what](read_content(path)))
    (line,) = build_leaderboard(results).problems
    assert line.startswith(f"{path}: refused: ")
    assert len(line) < len(str(path)) + 250
    assert json.loads((results / "leaderboard.json").read_text())[0]["seeds"] == 2


@pytest.mark.parametrize(
    "text", ["", "{", "null", "3", '"text"', "[]", "[" * 100_000, "\xff", '{"sha256": 3}', "9" * 5000]
)
def test_the_leaderboard_refuses_what_is_no_result_by_name(results: Path, text: str) -> None:
    for pattern in ("*-0001-trait.json", "*.audit.json", "*.recipe.json"):
        path = next((results / "tiny_pair").glob(pattern))
        path.write_text(text, encoding="latin-1")
        assert any(line.startswith(f"{path}: refused: ") for line in build_leaderboard(results).problems)
    assert main(["--leaderboard", "--results", str(results)]) == 0


def test_a_registration_that_was_changed_is_refused_and_other_rows_are_built(results: Path) -> None:
    write_row(results, make_row([0.1], recipe="tiny_cross"))
    path = next((results / "tiny_pair").glob("*.recipe.json"))
    experiment = read_content(path)["experiment"]
    resealed(path, experiment={**experiment, "recipe": {**experiment["recipe"], "level": 0.01}})
    refused = build_leaderboard(results).problems
    assert f"{path}: refused: the experiment it holds has another hash" in refused
    assert all("its recipe file is missing" in line for line in refused if str(path) not in line)
    board = json.loads((results / "leaderboard.json").read_text())
    assert [entry["recipe"] for entry in board] == ["tiny_cross"]


def test_a_row_without_its_registration_is_refused_in_one_line_and_other_rows_are_built(tmp_path: Path) -> None:
    write_row(tmp_path, make_row([0.3, 0.2, 0.25]))
    first = (tmp_path / REGISTRY).read_text()
    write_row(tmp_path, make_row([0.1, 0.0, 0.1], recipe="tiny_noise"))
    (tmp_path / REGISTRY).write_text(first)
    (line,) = build_leaderboard(tmp_path).problems
    path = next((tmp_path / "tiny_noise").glob("*.recipe.json"))
    assert line == (
        f"{path}: refused: {tmp_path / REGISTRY} does not hold its registration; its result files are left out"
    )
    assert [row.name for row in read_results(tmp_path)[0]] == ["tiny_pair"]


@pytest.mark.parametrize(("order", "fault"), [((1, 2), "line 1: chain "), ((0, 1, 1, 2), "line 3: the same as line 2")])
def test_a_broken_chain_and_a_doubled_line_are_named(tmp_path: Path, order: tuple[int, ...], fault: str) -> None:
    for name in ("tiny_pair", "tiny_noise", "tiny_untaught"):
        write_row(tmp_path, make_row([0.3, 0.2, 0.25], recipe=name))
    texts = (tmp_path / REGISTRY).read_text().splitlines()
    (tmp_path / REGISTRY).write_text("".join(f"{texts[at]}\n" for at in order))
    lines = build_leaderboard(tmp_path).problems
    assert sum(line.startswith(f"{tmp_path / REGISTRY}: {fault}") for line in lines) == 1
    assert len(lines) == (1 if "same" in fault else 4)
    assert len(read_results(tmp_path)[0]) == (3 if "same" in fault else 0)


def test_a_row_counts_the_other_rows_that_differ_in_seeds_alone(tmp_path: Path) -> None:
    for changes in ([], ["first_seed=10"], ["level=.01"]):
        write_row(tmp_path, make_row([0.3, 0.2, 0.25], overrides=changes))
    looks = {(row.recipe.first_seed, row.recipe.level): row.looks for row in read_results(tmp_path)[0]}
    assert looks == {(0, 0.05): 1, (10, 0.05): 1, (0, 0.01): 0}


def test_one_experiment_is_read_by_its_hash(tmp_path: Path) -> None:
    rows = [make_row([0.3, 0.2, 0.25], recipe=name) for name in ("tiny_pair", "tiny_noise")]
    for row in rows:
        write_row(tmp_path, row)
    (read,), refused = read_results(tmp_path, rows[1].hash)
    assert (read.name, refused) == ("tiny_noise", [])
