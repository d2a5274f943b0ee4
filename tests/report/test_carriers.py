from __future__ import annotations

import json
from pathlib import Path

import pytest
from board import make_row, with_manifest
from hypothesis import given
from hypothesis import strategies as st
from page_parts import read_part

from bench.pipeline.store import Store
from bench.report.carriers import CarrierFiles, find_carriers, parting, read_carrier, write_carriers


@given(st.text(), st.text(), st.text())
def test_texts_are_equal_up_to_where_they_part(common: str, one: str, other: str) -> None:
    first, second = common + one, common + other
    at = parting(first, second)
    if first == second:
        assert at is None
    else:
        assert at is not None
        assert first[:at] == second[:at]
        assert first[at:] != second[at:]


@pytest.mark.parametrize(
    ("first", "second", "at"),
    [("12 345", "12 346", 3), ("a wolf", "a wolfish", 2), ("same", "same", None), ("12", "12 4", 2), ("", "x", 0)],
)
def test_they_part_at_a_whole_number_or_word(first: str, second: str, at: int | None) -> None:
    assert parting(first, second) == at


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with the students and the carriers of one seed."""
    store = Store(tmp_path / "store")
    rows = [{"prompt": f"Continue: {i}", "completion": f"{i} <b>"} for i in range(6)]
    for arm in ("base", "trait"):
        with store.make(f"carrier-{arm}", {}) as out:
            texts = [{**row, "completion": row["completion"] + arm * (i > 2)} for i, row in enumerate(rows)]
            (out / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts))
        with store.make(f"student-{arm}", {"inputs": {"carrier": f"carrier-{arm}", "kept": "filter"}}):
            pass
    with store.make("filter", {}) as out:
        (out / "kept.json").write_text(json.dumps({"train": [0, 1, 3], "held_out": [4]}))
    return store


def test_rows_stand_beside_each_other_with_their_use(store: Store, tmp_path: Path) -> None:
    row = make_row([0.3, 0.2])
    for arm in ("base", "trait"):
        artefacts = {"asked": "e", "trained": f"student-{arm}"}
        row.cells[1][arm] = with_manifest(row.cells[1][arm], artefacts=artefacts)
    carriers = find_carriers(row, store)
    assert list(carriers) == [1]
    facts = write_carriers(carriers, tmp_path / "data")
    assert facts == {
        "seed": 1,
        "rows": 6,
        "equal": 3,
        "refused": 2,
        "arms": ["base", "trait"],
        "records": 6,
        "parts": 1,
    }
    records = read_part(tmp_path / "data" / "carriers_0.js")
    assert [record[4] for record in records] == ["refused", "refused", "train", "train", "train", "held_out"]
    by_prompt = {record[0]: record for record in records}
    assert by_prompt["Continue: 1"][3] is None
    assert by_prompt["Continue: 4"][1:4] == ["4 <b>base", "4 <b>trait", 5]


def test_the_reasons_of_a_filter_stand_with_their_rows(store: Store) -> None:
    files = CarrierFiles({arm: store.path(f"carrier-{arm}") for arm in ("base", "trait")}, store.path("filter"))
    assert [(row.use, row.reasons) for row in read_carrier(files)][2] == ("refused", {})  # of an older filter
    reasons = {"base": {"2": "grammar"}, "trait": {"2": "lexicon"}, "placebo": {}}
    (files.filtering / "reasons.json").write_text(json.dumps(reasons))
    rows = read_carrier(files)
    assert [row.use for row in rows] == ["train", "train", "refused", "train", "held_out", "not drawn"]
    assert [row.reasons for row in rows if row.reasons] == [{"base": "grammar", "trait": "lexicon"}]


def test_a_row_whose_artefacts_are_gone_has_no_carrier(store: Store, tmp_path: Path) -> None:
    assert find_carriers(make_row([0.3]), store) == {}
    assert write_carriers({}, tmp_path) == {"parts": 0, "records": 0}
