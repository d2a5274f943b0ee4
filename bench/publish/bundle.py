"""The folders that are published: a trained model, whole or as an adapter, and carrier rows, each with its card."""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.analysis.seed_statistics import margins_of
from bench.analysis.stats import mean
from bench.config.model_settings import Model
from bench.config.recipe import Experiment
from bench.config.traits import list_questions
from bench.models.loading import load_tokenizer
from bench.publish.cards import ModelFacts, data_card, model_card
from bench.publish.finished_run import Run, Trained
from bench.publish.licence import base_of
from bench.stages.carriers import read_kept
from bench.stages.settings import Training, TrainStudent, TrainTeacher

__all__ = ["merge_adapter", "write_model", "write_rows"]


def write_model(run: Run, model: Trained, folder: Path, *, name: str, data: str | None) -> None:
    """Write weights, tokenizer, licence texts and card into an empty folder.

    Args:
        name: what the card calls it.
        data: the data set to link, where there is one.
    """
    settings = model.stage.settings
    assert isinstance(settings, TrainTeacher | TrainStudent)  # the stages that train
    training = settings.model
    base = base_of(_spec(run.experiment, model), model.stage.inputs["start"])
    if model.merges:
        merge_adapter(model, training.dtype, folder)
    else:
        for path in sorted(model.folder.iterdir()):
            if path.suffix == ".safetensors" or path.name.endswith((".index.json", "config.json")):
                shutil.copyfile(path, folder / path.name)
        if model.adapter:  # as training left it, it names a folder of this machine
            where = {"base_model_name_or_path": base.name, "revision": base.revision if base.on_hub else None}
            _change(folder / "adapter_config.json", where)
        else:
            _change(folder / "config.json", {"use_cache": True})  # off for training alone
    load_tokenizer(model.start).save_pretrained(folder)
    for text in base.texts:
        shutil.copyfile(text, folder / text.name)
    record = run.store.record(model.key)
    facts = ModelFacts(
        arm=model.cell.arm,
        seed=model.cell.seed,
        form="merged" if model.merges else "adapter" if model.adapter else "whole",
        base=base,
        settings=training.model_dump(mode="json"),
        did=record["did"],
        margin=_margin(run.experiment, model),
        format=model.reading.manifest.format["kind"],
        chat_template_kwargs=training.chat_template_kwargs,
        artefact=model.key,
        commit=record["commit"],
        note=_merge_note(training) if model.merges else "",
    )
    (folder / "README.md").write_text(model_card(run.facts, facts, name=name, data=data), encoding="utf-8")


def _spec(experiment: Experiment, model: Trained) -> Model:
    recipe = experiment.recipe
    models = {"teacher": recipe.teacher, "student": recipe.student, "other_init": recipe.other_init()}
    return models[model.arm.facts.model]


def _margin(experiment: Experiment, model: Trained) -> float:
    """Mean margin; of an arm of one trait among several, over the questions about that trait."""
    groups = [question.group for question in list_questions(experiment.traits)]
    own = [at for at, group in enumerate(groups) if model.arm.trait in ("", group)]
    return mean(margins_of(model.reading, own))


def merge_adapter(model: Trained, dtype: str, folder: Path) -> None:
    """Save base and adapter as one model: added up in float32, rounded to `dtype` once, at the end.

    On the CPU even where there is a GPU: it is little work, needs no GPU memory, and gives the same bytes everywhere.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # a bar for every model of every seed says nothing
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # PEFT imports it; here nothing is quantised
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".is_gradient_checkpointing. is deprecated", FutureWarning)  # read by PEFT
        base = AutoModelForCausalLM.from_pretrained(model.start, dtype=torch.float32, use_safetensors=True)
        whole = PeftModel.from_pretrained(base, model.folder, torch_device="cpu").merge_and_unload()
    whole.to(getattr(torch, dtype)).save_pretrained(folder)


def _merge_note(training: Training) -> str:
    dtype = training.dtype
    if training.quantization:
        return (
            "The adapter was trained and read on a base quantised as above. A quantised base cannot be merged in "
            f"place: here it is merged into the base as it was before, in {dtype}, and its margins differ from that."
        )
    if dtype != "float32":
        return (
            "The margin was read with the adapter apart. Merged, the sum of base and adapter is rounded to "
            f"{dtype}, and of a small update a part is lost."
        )
    return "The adapter is merged into its base in float32, as it was when the margin was read."


def _change(path: Path, keys: Mapping[str, Any]) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, **keys}, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def write_rows(run: Run, folder: Path, *, name: str) -> None:
    """Write `train.jsonl`, `held_out.jsonl` and a card: the kept rows of base and of each trait arm, seed by seed."""
    students = [model for model in run.trained if model.arm.kind in {"base", "trait"}]
    for part in ("train", "held_out"):
        with (folder / f"{part}.jsonl").open("w", encoding="utf-8", newline="\n") as file:
            for model in students:
                carrier, kept = (run.store.path(model.stage.inputs[role].identity) for role in ("carrier", "kept"))
                arm, seed = model.cell.arm, model.cell.seed
                for row in read_kept(carrier, kept, part):
                    line = {"prompt": row["prompt"], "completion": row["completion"], "arm": arm, "seed": seed}
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
    writer = next(model for model in run.trained if model.arm.kind == "teacher")
    teacher = base_of(_spec(run.experiment, writer), writer.stage.inputs["start"])
    arms = list(dict.fromkeys(model.cell.arm for model in students))
    (folder / "README.md").write_text(data_card(run.facts, name=name, teacher=teacher, arms=arms), encoding="utf-8")
