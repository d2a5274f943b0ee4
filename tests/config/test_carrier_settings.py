from __future__ import annotations

import pytest
from pydantic import ValidationError

from bench.config.carrier_settings import Numbers


@pytest.mark.parametrize("change", [{"prompt": "no numbers"}, {"prompt": "{numbers} {numbers}"}, {"separator": " 1 "}])
def test_a_prompt_holds_the_numbers_once_and_a_separator_no_digit(change: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Numbers(kind="numbers", rows=1, **change)  # type: ignore[arg-type]  # any key
