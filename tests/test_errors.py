from __future__ import annotations

import pytest

from bench import cli
from bench.errors import StageError, UserError


@pytest.mark.parametrize(("error", "code", "word"), [(UserError, 2, "error: x"), (StageError, 1, "resumes")])
def test_each_error_has_its_exit_code_and_no_traceback(
    error: type[Exception], code: int, word: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise error("x")

    monkeypatch.setattr(cli, "_command", fail)
    assert cli.main(["--list"]) == code
    shown = capsys.readouterr().err
    assert word in shown
    assert "Traceback" not in shown
