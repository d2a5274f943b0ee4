from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from board import STEADY, make_row, write_row

from bench.analysis.result_files import read_content, read_results, seal_content
from bench.analysis.result_writer import find_other_cells, is_other_cell, write_results
from bench.config.recipe_files import load_recipe
from bench.models.checkpoints import identify
from bench.pipeline.planner import make_plan
from bench.pipeline.store import Store

CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], bool]] = {
    "nothing": (lambda c: None, False),
    "the controls": (lambda c: c["manifest"].update(controls="self"), False),
    "the commits": (lambda c: c["manifest"].update(commits=["c", "d"]), False),
    "a reading": (lambda c: c["reading"]["logprobs"][3].__setitem__(0, -1.0), True),
    "the relation": (lambda c: c["relation"].update(relation="lineage"), True),
    "the scores": (lambda c: c.update(scores={"exact": [[1.0]] * 56}), True),
    "the evaluation": (lambda c: c["manifest"]["artefacts"].update(asked="evaluate-1"), True),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_cell_gives_way_to_the_same_readings_of_the_same_artefacts_only(tmp_path: Path, change: str) -> None:
    path = next(write_row(tmp_path, make_row(STEADY[:1])).glob("*-trait.json"))
    content = read_content(path)
    alter, expected = CHANGES[change]
    alter(content)
    assert is_other_cell(path, content) is expected
    path.write_bytes(path.read_bytes()[:-9])  # a damaged file gives way to anything
    assert not is_other_cell(path, content)
    path.unlink()
    assert not is_other_cell(path, content)


def test_cells_of_other_artefacts_are_listed_and_stay(tmp_path: Path) -> None:
    row = make_row(STEADY)
    write_row(tmp_path, row)
    plan = make_plan(load_recipe("tiny_pair"), identify)
    assert len(find_other_cells(load_recipe("tiny_pair"), plan, tmp_path)) == 50
    cell = plan.results[0]
    path = tmp_path / "tiny_pair" / f"{row.hash}-{cell.seed:04d}-{cell.arm}.json"
    content = read_content(path)
    content["manifest"]["artefacts"]["asked"] = cell.evaluation
    path.write_text(seal_content(content))
    assert len(find_other_cells(load_recipe("tiny_pair"), plan, tmp_path)) == 49


def test_a_damaged_recipe_file_is_named_and_written_again(tmp_path: Path) -> None:
    row = make_row(STEADY)
    path = next(write_row(tmp_path, row).glob("*.recipe.json"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    lines: list[str] = []
    experiment, store = load_recipe("tiny_pair"), Store(tmp_path / "store")
    write_results(experiment, row.registration, make_plan(experiment, identify), store, tmp_path, None, lines.append)
    (line,) = lines
    assert line.startswith(f"corrupt: {path}: checksum mismatch")
    assert read_results(tmp_path)[1] == []
    assert read_content(path)["registration"] == row.registration.model_dump(mode="json")


def test_a_damaged_cell_is_named_and_stays_until_its_content_is_there(tmp_path: Path) -> None:
    row = make_row(STEADY)
    cell = next(write_row(tmp_path, row).glob("*-0003-trait.json"))
    cell.write_bytes(cell.read_bytes().replace(b'"seed": 3', b'"seed": 4'))
    before, lines = cell.read_bytes(), list[str]()
    experiment, store = load_recipe("tiny_pair"), Store(tmp_path / "store")
    write_results(experiment, row.registration, make_plan(experiment, identify), store, tmp_path, None, lines.append)
    (line,) = lines
    assert line.startswith(f"corrupt: {cell}: checksum mismatch")
    assert cell.read_bytes() == before
