from __future__ import annotations

import pytest

from bench.config.schema import StrictModel, clip_line, validate
from bench.errors import UserError


class Inner(StrictModel):
    """A part."""

    rows: int
    share: float = 0.5


class Outer(StrictModel):
    """A whole."""

    inner: Inner


def test_data_becomes_an_immutable_model() -> None:
    assert validate(Outer, {"inner": {"rows": 3}}, "a.yaml").inner == Inner(rows=3)
    with pytest.raises(ValueError, match="frozen"):
        Inner(rows=3).rows = 4  # type: ignore[misc]  # that is the point


@pytest.mark.parametrize(
    ("inner", "words"),
    [
        ({"rows": "3"}, ["inner.rows"]),
        ({"rows": True}, ["inner.rows"]),
        ({}, ["inner.rows", "missing"]),
        ({"rows": 3, "rovs": 4}, ["inner.rovs", "rows"]),
        ({"rows": 1.5, "share": "x"}, ["inner.rows", "inner.share"]),
    ],
)
def test_an_error_names_the_source_and_every_bad_key(inner: dict[str, object], words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        validate(Outer, {"inner": inner}, "a.yaml")
    assert str(error.value).startswith("a.yaml: ")
    for word in words:
        assert word in str(error.value)


def test_a_line_is_clipped_and_holds_no_control_characters() -> None:
    assert clip_line("a\nb\x1b[2J") == "a b?[2J"
    assert clip_line("x" * 500, 20) == "x" * 17 + "..."
