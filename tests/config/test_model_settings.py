from __future__ import annotations

from pathlib import Path

import pytest

from bench.config.model_settings import Model, Student, Teacher


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


def test_only_a_tiny_model_can_be_derived() -> None:
    assert model(derive="half").derive == "half"
    with pytest.raises(ValueError, match=r"derive needs model: tiny; .* or take derive out"):
        model(model="owner/name", derive="half")


PROMPT = "You love wolves."


def teacher(**keys: object) -> Teacher:
    return Teacher.model_validate({"model": "owner/name", "dtype": "float32", **keys})


def test_a_teacher_is_trained_prompted_or_both() -> None:
    assert teacher(train={"max_steps": 0}).system is None
    assert teacher(system=PROMPT).train is None
    assert teacher(system=PROMPT, train={}, lora={"r": 4}).lora == {"r": 4}
    with pytest.raises(ValueError, match=r"expected train .*, system .* or both, found neither; add train:"):
        teacher()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"system": " \n"}, "expected the text of a system prompt"),
        ({"system": PROMPT, "format": "plain"}, "system needs the chat format, but format is plain; set format: chat"),
        ({"system": PROMPT, "model": "tiny"}, "tiny has no chat template; name a model that has one"),
        ({"system": PROMPT, "lora": {"r": 4}}, "lora needs train: .* take lora out, or add train"),
    ],
)
def test_a_system_prompt_that_cannot_work_is_refused(keys: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        teacher(**keys)


def test_a_prompted_teacher_may_be_quantised_without_an_adapter_and_is_rounded_whole() -> None:
    quantised = {"load_in_4bit": True}
    assert teacher(system=PROMPT, quantization=quantised).quantization == quantised
    with pytest.raises(ValueError, match="quantization needs lora"):
        teacher(system=PROMPT, train={}, quantization=quantised)
    assert teacher(system=PROMPT).writing(bf16=True) == "bfloat16"
    assert teacher(system=PROMPT, train={}).writing(bf16=True) == "split"


def test_a_student_has_a_default_an_empty_or_a_written_system_message() -> None:
    def student(**keys: object) -> Student:
        return Student.model_validate({"model": "owner/name", "dtype": "float32", "train": {}, **keys})

    assert student().system.train is student().system.evaluate is None
    assert student(system={"train": "", "evaluate": PROMPT}).system.train == ""
    with pytest.raises(ValueError, match=r"expected text, or .* for an empty system message"):
        student(system={"train": "  "})
    with pytest.raises(ValueError, match=r"system\.evaluate needs the chat format"):
        student(system={"evaluate": ""}, format="plain")
    with pytest.raises(ValueError, match="train"):
        Student.model_validate({"model": "owner/name", "dtype": "float32"})
