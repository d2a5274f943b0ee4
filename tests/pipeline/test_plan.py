from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.pipeline.plan import LIBRARIES, Ref, environment_versions, library_versions, make_stage
from bench.stages.settings import AuditLeaks, Relation

LIBRARY = {"torch": "2.0"}
INPUTS = {"teacher": Ref("a"), "student": Ref("b")}


def key(label: str = "relation", settings: Any = None, inputs: Any = None, **more: Any) -> str:
    how: dict[str, Any] = {"model": "", "libraries": LIBRARY, "threads": 1, **more}
    return make_stage(label, settings or Relation(), inputs or INPUTS, **how).key


@pytest.mark.parametrize(
    "change",
    [
        {"settings": AuditLeaks(seeds=(0,), carrier="text", control="base")},
        {"inputs": {"teacher": Ref("a"), "student": Ref("c")}},
        {"inputs": {"teacher": Ref("b"), "student": Ref("a")}},
        {"libraries": {"torch": "2.1"}},
        {"threads": 2},
    ],
)
def test_a_key_changes_with_all_that_decides_the_artefact(change: dict[str, Any]) -> None:
    assert key(**change) != key()


def test_a_key_depends_on_no_name_order_or_folder() -> None:
    moved = {"student": Ref("b", Path("/elsewhere")), "teacher": Ref("a")}
    assert key(label="another", inputs=moved, model="gpt2") == key()
    assert key().startswith("relation-")


def test_the_versions_of_key_libraries_are_among_those_recorded() -> None:
    assert library_versions().keys() == set(LIBRARIES)
    assert library_versions().items() < environment_versions().items()
