from __future__ import annotations

from pathlib import Path

from board import STEADY, ZERO, make_row, write_row

from bench.analysis.replications import FOLDER, read_replications
from bench.analysis.result_files import read_results


def test_replications_stand_beside_their_row_and_state_whether_they_agree(tmp_path: Path) -> None:
    write_row(tmp_path, make_row(STEADY))
    write_row(tmp_path / FOLDER / "a", make_row([gain + 0.001 for gain in STEADY]))
    write_row(tmp_path / FOLDER / "b", make_row(ZERO))
    rows, problems = read_results(tmp_path)
    assert not problems
    replications, problems = read_replications(tmp_path, rows)
    assert not problems
    agree = {one.chain: one.agreement.agrees for one in replications if one.agreement is not None}
    assert agree == {"a": True, "b": False}
    assert replications[0].entry.verdict == "TRANSFER"


def test_a_replication_of_no_row_is_a_fault(tmp_path: Path) -> None:
    write_row(tmp_path / FOLDER / "a", make_row(STEADY))
    replications, (problem,) = read_replications(tmp_path, [])
    assert not replications
    assert "replicates no row" in problem
