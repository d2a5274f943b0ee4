from __future__ import annotations

from pathlib import Path

import pytest

from bench.config.model_settings import Model


def model(**keys: object) -> Model:
    return Model.model_validate({"model": "tiny", "dtype": "float32", "train": {}, **keys})


def test_models_of_one_checkpoint_have_one_origin_whatever_their_training() -> None:
    assert model(lora={"r": 4}).origin() == model(train={"max_steps": 3}).origin()
    assert model().origin() != model(model="owner/name").origin()


def test_a_local_path_starts_at_the_folder_of_its_file(tmp_path: Path) -> None:
    assert model(model="./base").with_folder(tmp_path).path() == tmp_path / "base"


def test_unknown_keys_are_refused() -> None:
    with pytest.raises(ValueError, match="Extra inputs"):
        model(loraa={"r": 4})
