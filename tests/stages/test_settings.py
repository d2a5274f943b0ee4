"""Settings of the stages: what their keys hold."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from conftest import ROOT

from bench.config.carrier_settings import Numbers
from bench.config.model_settings import Model
from bench.models.engine import Engine
from bench.stages.settings import Loading, StageSettings, Training, TrainStudent, WriteCarrier

KINDS = StageSettings.__subclasses__()
MODEL = Model(model="./my/folder", revision="abc", dtype="float32", train={"max_steps": 2})


def test_every_kind_of_stage_has_its_own_name_and_a_version() -> None:
    assert len({settings.kind for settings in KINDS}) == len(KINDS)
    assert all(settings.version >= 1 for settings in KINDS)


def test_a_key_holds_required_fields_and_those_that_differ_from_their_default() -> None:
    settings = TrainStudent(model=Training.of(MODEL), seed=3, end=False)
    assert settings.key_data().keys() == {"model", "seed", "end"}
    assert settings.model_copy(update={"shuffled": True}).key_data()["shuffled"] is True


def test_a_key_holds_every_field_of_the_carrier_that_is_not_a_later_one_with_its_default() -> None:
    settings = WriteCarrier(carrier=Numbers(kind="numbers", rows=3), model=Loading.of(MODEL), seed=0)
    assert settings.key_data()["carrier"].keys() == Numbers.model_fields.keys() - Numbers.later


def test_a_key_holds_an_engine_and_its_version_where_one_is_used_and_the_record_its_version() -> None:
    settings = WriteCarrier(carrier=Numbers(kind="numbers", rows=3), model=Loading.of(MODEL), seed=0)
    engine = Engine(version="0.30.0", batch_invariant=False, python=Path("/somewhere"))
    written = settings.model_copy(update={"engine": engine})
    expected = {"name": "vllm", "version": "0.30.0", "batch_invariant": False}
    assert written.key_data() == settings.key_data() | {"engine": expected}
    assert (settings.engine_versions(), written.engine_versions()) == ({}, {"vllm": "0.30.0"})


def test_a_key_does_not_depend_on_the_name_of_a_checkpoint() -> None:
    assert "folder" not in str(Training.of(MODEL).model_dump())


def test_settings_are_read_without_torch() -> None:
    code = "import sys, bench.stages.settings; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
