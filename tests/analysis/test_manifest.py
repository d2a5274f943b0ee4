from __future__ import annotations

from typing import Any

import pytest
from board import MANIFEST
from pydantic import ValidationError

from bench.analysis.manifest import CarrierReport, Manifest


def parse(**fields: Any) -> Manifest:
    return Manifest.model_validate_json(Manifest.model_validate(MANIFEST, strict=False).model_dump_json()).model_copy(
        update=fields
    )


def test_a_manifest_reads_back_as_it_was_written() -> None:
    manifest = parse()
    assert manifest.training is not None
    assert manifest.training.micro_batch == 8
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest


@pytest.mark.parametrize(
    ("key", "value"), [("rows", 0), ("rows", "100"), ("held_out", -1), ("refused", {"base": {"lexicon": -1}})]
)
def test_a_carrier_with_an_impossible_count_is_refused(key: str, value: Any) -> None:
    report = {**MANIFEST["carrier"], key: value}
    with pytest.raises(ValidationError, match=key):
        CarrierReport.model_validate(report)


def test_keys_that_come_later_are_ignored() -> None:
    assert CarrierReport.model_validate({**MANIFEST["carrier"], "retention": 0.9}) == CarrierReport.model_validate(
        MANIFEST["carrier"]
    )
