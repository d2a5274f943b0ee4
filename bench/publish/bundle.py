"""Write the folders to publish: a trained model, merged or as an adapter, and carrier rows, each with its card."""

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
from bench.config.recipe_files import Experiment
from bench.models.loading import load_tokenizer
from bench.publish.card_facts import ModelFacts
from bench.publish.cards import data_card, model_card
from bench.publish.finished_run import FinishedRun, TrainedModel
from bench.publish.licence import describe_checkpoint
from bench.publish.model_index import list_results
from bench.stages.carriers import read_filtered
from bench.stages.settings import Training, TrainStudent, TrainTeacher

__all__ = ["merge_adapter", "write_model", "write_rows"]


def write_model(run: FinishedRun, model: TrainedModel, folder: Path, *, name: str, data: str | None) -> None:
    """Write weights, tokenizer, licence texts and card into an empty folder.

    Args:
        run: the finished run.
        model: the model.
        folder: the folder to write to.
        name: the model's name on the card.
        data: the data set to link; None if there is none.
    """
    settings = model.stage.settings
    assert isinstance(settings, TrainTeacher | TrainStudent)  # the stages that train
    training = settings.model
    base = describe_checkpoint(_recipe_model(run.experiment, model), model.stage.inputs["start"])
    if model.merges:
        merge_adapter(model, training.dtype, folder)
    else:
        for path in sorted(model.folder.iterdir()):
            if path.suffix == ".safetensors" or path.name.endswith((".index.json", "config.json")):
                shutil.copyfile(path, folder / path.name)
        if model.adapter:  # after training it names a folder of this machine
            origin = {"base_model_name_or_path": base.name, "revision": base.revision if base.on_hub else None}
            _update_json(folder / "adapter_config.json", origin)
        else:
            _update_json(folder / "config.json", {"use_cache": True})  # training turns it off
    load_tokenizer(model.start).save_pretrained(folder)
    for path in base.licence_files:
        shutil.copyfile(path, folder / path.name)
    record = run.store.record(model.key)
    facts = ModelFacts(
        arm=model.cell.arm,
        seed=model.cell.seed,
        form="merged" if model.merges else "adapter" if model.adapter else "whole",
        base=base,
        settings=training.model_dump(mode="json"),
        report=record["did"],
        margin=mean(margins_of(model.reading, run.row.positions(model.arm.trait or None))),
        format=model.reading.manifest.format["kind"],
        chat_template_kwargs=training.chat_template_kwargs,
        artefact=model.key,
        commit=record["commit"],
        note=_merge_note(training) if model.merges else "",
        results=list_results(run.row, model.reading, run.facts.entry),
    )
    (folder / "README.md").write_text(model_card(run.facts, facts, name=name, data=data), encoding="utf-8")


def _recipe_model(experiment: Experiment, model: TrainedModel) -> Model:
    recipe = experiment.recipe
    models = {"teacher": recipe.teacher, "student": recipe.student, "other_init": recipe.other_init()}
    return models[model.arm.facts.model]


def merge_adapter(model: TrainedModel, dtype: str, folder: Path) -> None:
    """Save base model and adapter as one model: sum them in float32, then round the sum to `dtype`.

    Always runs on the CPU: it needs no GPU memory and gives the same bytes on every machine.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # one bar per model would flood the screen
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # PEFT imports it, and it warns on a CPU
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".is_gradient_checkpointing. is deprecated", FutureWarning)  # PEFT reads it
        base = AutoModelForCausalLM.from_pretrained(model.start, dtype=torch.float32, use_safetensors=True)
        whole = PeftModel.from_pretrained(base, model.folder, torch_device="cpu").merge_and_unload()
    whole.to(getattr(torch, dtype)).save_pretrained(folder)


def _merge_note(training: Training) -> str:
    dtype = training.dtype
    if training.quantization:
        return (
            "The adapter was trained and evaluated on a base model quantised as above. A quantised base cannot be "
            f"merged in place. The adapter is merged into the base before quantisation, in {dtype}, so margins differ."
        )
    if dtype != "float32":
        return (
            "The margin was measured with an unmerged adapter. The merged sum of base and adapter is rounded to "
            f"{dtype}, which loses part of a small update."
        )
    return "The adapter is merged into its base in float32, the precision in which the margin was measured."


def _update_json(path: Path, keys: Mapping[str, Any]) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, **keys}, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def write_rows(run: FinishedRun, folder: Path, *, name: str) -> None:
    """Write `train.jsonl`, `held_out.jsonl` and a card: the rows of base and of each trait arm that pass the filter."""
    students = [model for model in run.models if model.arm.kind in {"base", "trait"}]
    for part in ("train", "held_out"):
        with (folder / f"{part}.jsonl").open("w", encoding="utf-8", newline="\n") as file:
            for model in students:
                roles = ("carrier", "kept")
                carrier, filtered = (run.store.path(model.stage.inputs[role].identity) for role in roles)
                arm, seed = model.cell.arm, model.cell.seed
                for row in read_filtered(carrier, filtered, part):
                    line = {"prompt": row["prompt"], "completion": row["completion"], "arm": arm, "seed": seed}
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
    trained = next(model for model in run.models if model.arm.kind == "teacher")
    teacher = describe_checkpoint(_recipe_model(run.experiment, trained), trained.stage.inputs["start"])
    arms = list(dict.fromkeys(model.cell.arm for model in students))
    (folder / "README.md").write_text(data_card(run.facts, name=name, teacher=teacher, arms=arms), encoding="utf-8")
