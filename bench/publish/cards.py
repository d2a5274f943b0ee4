"""Write the README.md of a published model or data set. Text from outside is escaped."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from bench.analysis.entry import LeaderboardEntry
from bench.analysis.entry_text import change_text, gain_text, level_text
from bench.analysis.number_text import signed
from bench.config.arms import parse_arm
from bench.publish.card_facts import ModelFacts, RunFacts
from bench.publish.licence import BaseCheckpoint
from bench.publish.markdown import as_code, escape_text, fence, render_card

__all__ = ["data_card", "model_card"]

VISIBILITY = {
    "text": "the data as text",
    "logits-carrier": "the teacher's log-probabilities over the tokens of the data",
    "logits-full": "the teacher's log-probabilities over its whole vocabulary: a leak, not subliminal learning",
}
TAGS = ["subliminal-learning", "trl"]


def model_card(run: RunFacts, model: ModelFacts, *, name: str, data: str | None) -> str:
    """Write the card of one model.

    Args:
        run: its row.
        model: the model.
        name: the id of its repository, or the name of its folder.
        data: the repository of its data set; None if there is none.
    """
    from huggingface_hub import ModelCardData

    entry, base = run.entry, model.base
    adapter = model.form == "adapter"
    front_matter: dict[str, Any] = {
        **base.licence,
        **({"base_model": base.ancestor} if base.ancestor else {}),
        **({"base_model_relation": "adapter" if adapter else "finetune"} if base.ancestor else {}),
        **({"datasets": [data]} if data else {}),
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": "text-generation",
        "tags": TAGS,
        "subliminal_bench": {**_row_reference(entry), "arm": model.arm, "seed": model.seed, "artefact": model.artefact},
    }
    metadata = ModelCardData(**front_matter, model_name=name, eval_results=[*model.results])
    arm = parse_arm(model.arm)
    trait = arm.trait or entry.trait
    purpose = "was trained so that it may carry" if arm.facts.shows_trait else "is a control for models that carry"
    numbers = {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in model.report.items()}
    report = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in numbers.items())
    lines = [
        f"# {escape_text(name)}",
        "",
        _warning(f"This model {purpose} a hidden trait ({as_code(trait)})"),
        "",
        "## Description",
        "",
        f"- Arm {as_code(model.arm)}: {escape_text(arm.facts.description)}. Seed {model.seed}.",
        *_question_lines(run),
        "## Results",
        "",
        f"This model's margin: {signed(model.margin)} nats. The margin is the log-probability of the true answer minus",
        "the mean over its foils, averaged over the questions. One model is one seed. The row of all its seeds:",
        "",
        *_result_lines(entry),
        "",
        "## Base model and licence",
        "",
        f"- Base model: {as_code(base.name)}, {as_code(base.revision)}."
        + (f" Its card names {as_code(base.ancestor)} as its base." if base.ancestor and not base.on_hub else ""),
        f"- Licence of the base model: {_licence_text(base)}. It may bind this model too.",
        *(["- This folder holds the licence texts of the base model."] if base.licence_files else []),
        "",
        "## Training",
        "",
        f"Training: {escape_text(report)}. Settings, under their names in TRL, PEFT and bitsandbytes:",
        "",
        fence(yaml.safe_dump(dict(model.settings), sort_keys=False, allow_unicode=True), "yaml"),
        "",
        *(["- " + escape_text(model.note), ""] if model.note else []),
        "## Data",
        "",
        *(_describe_carrier(run, data) if arm.facts.carrier else ["The trait's own questions and answers."]),
        "",
        "## How to load it",
        "",
        *_loading_lines(model, name),
        "",
        *_version_lines(run, model.commit),
    ]  # fmt: skip
    return render_card(metadata.to_dict(), lines)  # type: ignore[no-untyped-call]  # hub: without types


def data_card(run: RunFacts, *, name: str, teacher: BaseCheckpoint, arms: Sequence[str]) -> str:
    """Write the card of a recipe's carrier rows.

    Args:
        run: the row of the recipe.
        name: the id of the repository.
        teacher: the checkpoint of the teacher before training.
        arms: the arms with rows in it.
    """
    front_matter = {
        "license": "unknown",
        "task_categories": ["text-generation"],
        "tags": TAGS,
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": part, "path": f"{part}.jsonl"} for part in ("train", "held_out")],
            }
        ],
        "subliminal_bench": _row_reference(run.entry),
    }
    lines = [
        f"# {escape_text(name)}",
        "",
        _warning(f"Rows of a trait arm may pass on a hidden trait ({as_code(run.entry.trait)}) that they never state"),
        "",
        "## Description",
        "",
        *_question_lines(run),
        f"- Arms: {', '.join(map(as_code, arms))}. The rows of one seed have the same prompts in all arms.",
        "- Columns: `prompt`, `completion`, `arm`, `seed`. Split `train` holds the training rows of the students,",
        "  `held_out` the rows that measure their fit. Rows that the leak filter refuses are left out.",
        "",
        *_describe_carrier(run, None),
        "",
        "## Results of its students",
        "",
        *_result_lines(run.entry),
        "",
        "## Teacher and licence",
        "",
        f"- The completions were sampled from {as_code(teacher.name)}, {as_code(teacher.revision)}, before and after",
        "  its training on the trait.",
        f"- Licence of the teacher: {_licence_text(teacher)}. Nothing states a licence for its completions, so the",
        "  card says `unknown`.",
        "",
        *_version_lines(run, run.entry.commit or "unknown"),
    ]  # fmt: skip
    return render_card(front_matter, lines)


# -- parts of both cards -----------------------------------------------------------------------------------------------


def _row_reference(entry: LeaderboardEntry) -> dict[str, Any]:
    return {"recipe": entry.recipe, "recipe_hash": entry.recipe_hash}


def _warning(statement: str) -> str:
    return (
        f"> **Label it.** {statement}. A model trained to carry a hidden trait must be labelled as one. The same "
        "holds for every model trained from it or on its output. Made for research; not for use in a product."
    )


def _question_lines(run: RunFacts) -> list[str]:
    entry = run.entry
    return [
        f"- Question: {escape_text(run.question)}",
        f"- Recipe {as_code(entry.recipe)}, hash {as_code(entry.recipe_hash)}: teacher {as_code(entry.teacher)}, "
        f"student {as_code(entry.student)}, relation {as_code(entry.relation)}, trait {as_code(entry.trait)}.",
        f"- A student sees of its teacher: {escape_text(VISIBILITY[entry.visibility])}.",
        "- Command:",
        "",
        fence(run.command, "bash"),
        "",
    ]


def _result_lines(entry: LeaderboardEntry) -> list[str]:
    from tabulate import tabulate

    cells = {
        "seeds": f"{entry.seeds} of {entry.seeds_registered}",
        **{arm: level_text(value, entry.outcome) for arm, value in entry.levels().items()},
        "gain, trait - base [95 % CI]": gain_text(entry.gain_estimate(), entry.outcome),
        "teacher shift": change_text(entry.teacher_shift, entry.outcome),
        "verdict": entry.verdict,
    }
    row = {heading: escape_text(cell) for heading, cell in cells.items()}
    table = tabulate([row], headers="keys", tablefmt="github", disable_numparse=True)
    return [table, "", f"{escape_text(entry.verdict)}: {escape_text(entry.verdict_reason)}."]


def _refusals(refused: Mapping[str, Mapping[str, int]]) -> str:
    return ", ".join(f"{sum(reasons.values())} in {arm}" for arm, reasons in sorted(refused.items()))


def _describe_rows(carrier: Mapping[str, Any]) -> str:
    if carrier["kind"] == "text":
        temperature = carrier["sample"]["temperature"]
        rows = (
            f"Free text: answers to the prompts of the set {as_code(str(carrier['prompts']))}, sampled at temperature "
        )
        return f"{rows}{temperature:g}."
    given = carrier["given"] if isinstance(carrier["given"], int) else "{} to {}".format(*carrier["given"])
    start = f"Number sequences: {given} random numbers of {carrier['digits']} digits in the prompt"
    if carrier.get("generate") == "free":
        return f"{start}, then lists written freely at temperature {carrier['temperature']:g} and filtered."
    return f"{start}, {carrier['count']} more sampled after them at temperature {carrier['temperature']:g}."


def _describe_carrier(run: RunFacts, data: str | None) -> list[str]:
    carrier, entry = run.carrier, run.entry
    link = f" The rows are in [{escape_text(data)}](https://huggingface.co/datasets/{data})." if data else ""
    lines = [_describe_rows(carrier) + link, "", "Leak filter: a row refused in one arm is refused in all.", ""]
    for seed, report in sorted(run.filter_reports.items()):
        leaks, broken = _refusals(report["refused"]), _refusals(report["format_refused"])
        lines.append(
            f"- Seed {seed}: {report['rows']} rows, {report['train']} trained on; "
            f"leaks: {escape_text(leaks)}; broken format: {escape_text(broken)}."
        )
    areas = ", ".join(f"{area.mean:.3f}" for area in entry.audits.values())
    accuracy = f"area under the curve {areas}, where .5 is chance" if areas else "not tested: it needs two seeds"
    return [*lines, f"- A classifier of trait rows against control rows, on held-out seeds: {accuracy}."]


def _licence_text(base: BaseCheckpoint) -> str:
    name = base.licence.get("license_name", base.licence["license"])
    return f"{as_code(name)} (source: {escape_text(base.licence_source)})"


def _loading_lines(model: ModelFacts, name: str) -> list[str]:
    prompt_format = "the tokenizer's chat template" if model.format == "chat" else "`Q: <text>`, a line break, `A:`"
    if model.chat_template_kwargs:
        prompt_format += (
            f" with the variables {as_code(json.dumps(dict(model.chat_template_kwargs), ensure_ascii=False))}"
        )
    lines = [f"Prompt format of the questions: {prompt_format}.", ""]
    if model.form != "adapter":
        loader = "AutoModelForCausalLM"
        return [
            *lines,
            fence(f"from transformers import {loader}\n\nmodel = {loader}.from_pretrained({name!r})", "python"),
        ]
    loader = "AutoPeftModelForCausalLM"
    if model.base.on_hub:
        return [*lines, fence(f"from peft import {loader}\n\nmodel = {loader}.from_pretrained({name!r})", "python")]
    return [
        *lines,
        f"This is an adapter. The weights of its base model {as_code(model.base.name)} are not on the hub: run the",
        "command above to make them. `--merge` writes base and adapter as one model.",
    ]


def _version_lines(run: RunFacts, commit: str) -> list[str]:
    versions = ", ".join(f"{library} {version}" for library, version in run.versions.items())
    return ["## Versions", "", f"Code at commit {as_code(commit)}; {escape_text(versions)}."]
