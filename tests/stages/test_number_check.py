"""A carrier that the teacher's tokenizer cannot write is refused before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.cli import main
from bench.config.model_settings import Model
from bench.config.recipe_files import load_recipe
from bench.errors import UserError
from bench.models.checkpoints import Checkpoint, identify
from bench.pipeline.local_workers import Pool
from bench.pipeline.plan import Plan
from bench.pipeline.planner import make_plan
from bench.pipeline.recipe_checks import check_numbers
from bench.pipeline.store import Store


@pytest.mark.parametrize("change", ["carrier.digits=2", 'carrier.separator=","'])
def test_a_tiny_teacher_is_refused_what_it_cannot_write_before_it_is_built(
    tmp_path: Path, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    key = change.partition("=")[0]
    where = ["--store", str(tmp_path / "store"), "--results", str(tmp_path / "results")]
    assert main(["--skip-controls", "--set", change, *where]) == 2
    message = capsys.readouterr().err
    assert f"key '{key}': " in " ".join(message.split())
    assert "this tokenizer can carry: 3 digits with ' '" in " ".join(message.split())
    assert not (tmp_path / "store" / "artefacts").exists()
    assert not (tmp_path / "results").exists()


def plan_of(model: str, *overrides: str) -> Plan:
    def identify_fake(spec: Model) -> Checkpoint:
        return Checkpoint(spec.model, "1" * 20, None, {}) if spec.model.startswith("pypi:") else identify(spec)

    words = [f"teacher.model={model}", f"student.model={model}", *overrides]
    return make_plan(load_recipe("tiny_pair", words, seeds=1), identify_fake)


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    with Pool(Store(tmp_path / "store")) as pool:
        yield pool


def test_a_local_teacher_is_refused_by_recipe_and_key_and_what_passed_is_not_tried_again(
    pool: Pool, gpt2_like: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"^mine\.yaml: key 'carrier\.digits': .* neither one token each"):
        check_numbers(pool, [(plan_of(str(gpt2_like), "carrier.digits=4"), "mine.yaml")])
    good = [(plan_of(str(gpt2_like)), "mine.yaml")]
    check_numbers(pool, good)
    monkeypatch.setattr(Pool, "send", lambda *_: pytest.fail("it was tried again"))
    check_numbers(pool, good)


def test_a_package_that_is_not_converted_is_tried_by_its_first_carrier_before_a_teacher_is_trained(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pool, "send", lambda *_: pytest.fail("its files are not there yet"))
    plan = plan_of("pypi:some-package", "carrier.digits=2")
    check_numbers(pool, [(plan, "mine.yaml")])
    kinds = [stage.kind for stage in plan.stages.values()]
    assert kinds.index("carrier") < kinds.index("teacher")
    carriers = [stage for stage in plan.stages.values() if stage.kind == "carrier"]
    assert set(carriers[0].inputs) == {"start"}
