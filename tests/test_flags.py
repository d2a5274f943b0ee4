from __future__ import annotations

import pytest

from bench.flags import PUBLISHED, make_parser


def test_runs_write_beside_the_published_rows() -> None:
    assert make_parser().parse_args([]).results == PUBLISHED / "local"


def test_a_command_has_one_mode(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        make_parser().parse_args(["--list", "--leaderboard"])
    assert "not allowed with argument" in capsys.readouterr().err


def test_a_flag_cannot_be_abbreviated() -> None:
    with pytest.raises(SystemExit):
        make_parser().parse_args(["--lis"])
