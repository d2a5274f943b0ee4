"""The README.md of a published model or data set: values in, markdown out. Text from outside is escaped."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import yaml

from bench.analysis.entry import LeaderboardEntry
from bench.analysis.entry_text import gain_text, signed
from bench.config.arms import parse_arm
from bench.publish.licence import Base

__all__ = ["ModelFacts", "RunFacts", "data_card", "model_card"]

SEEN = {
    "text": "the data as text",
    "logits-carrier": "the teacher's log-probabilities over the tokens of the data",
    "logits-full": "the teacher's log-probabilities over its whole vocabulary: a leak, and no subliminal learning",
}
TAGS = ["subliminal-learning", "trl"]
# All that could become markup within a line: emphasis, code, links, HTML, entities, cells, formulas, bare addresses.
MARKDOWN = re.compile(r"([\\`*_\[\]<>|~$&@]|:(?=//)|\.(?<=www\.))")


class RunFacts(NamedTuple):
    """One row of the leaderboard, as its cards tell of it.

    `carriers[seed]` is what the leak filter reported; `entry` is the row's in `bench.analysis.summary.summarise`.
    """

    question: str
    command: str
    entry: LeaderboardEntry
    carrier: Mapping[str, Any]
    carriers: Mapping[int, Mapping[str, Any]]
    versions: Mapping[str, str]


class ModelFacts(NamedTuple):
    """One trained model. `form` is `adapter`, `merged` or `whole`; `note` says what merging changed, if anything."""

    arm: str
    seed: int
    form: str
    base: Base
    settings: Mapping[str, Any]  # what went to TRL, PEFT and bitsandbytes, and the dtype
    did: Mapping[str, Any]  # what the training reported
    margin: float
    format: str
    chat_template_kwargs: Mapping[str, Any]
    artefact: str
    commit: str
    note: str


def model_card(run: RunFacts, model: ModelFacts, *, name: str, data: str | None) -> str:
    """The card of one model.

    Args:
        name: what it is called: a repository's id, or a folder's name.
        data: the data set's repository, where it was published too.
    """
    entry, base = run.entry, model.base
    adapter = model.form == "adapter"
    parent = base.ancestor is not None and not base.on_hub
    about: dict[str, Any] = {
        **base.licence,
        **({"base_model": base.ancestor} if base.ancestor else {}),
        **({"base_model_relation": "adapter" if adapter else "finetune"} if base.ancestor else {}),
        **({"datasets": [data]} if data else {}),
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": "text-generation",
        "tags": TAGS,
        "subliminal_bench": {**_row(entry), "arm": model.arm, "seed": model.seed, "artefact": model.artefact},
    }
    arm = parse_arm(model.arm)
    trait = arm.trait or entry.trait
    purpose = "was trained so that it may carry" if arm.facts.shows_trait else "is a control for models that carry"
    shown = {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in model.did.items()}
    did = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in shown.items())
    lines = [
        f"# {_text(name)}",
        "",
        _warning(f"This model {purpose} a hidden trait ({_code(trait)})"),
        "",
        "## What it is",
        "",
        f"- Arm {_code(model.arm)}: {_text(arm.facts.description)}. Seed {model.seed}.",
        *_asked(run),
        "## What was measured",
        "",
        f"This model's margin: {signed(model.margin)} nats. That is the log-probability of the ground-truth answer",
        "minus the mean over its foils, averaged over the questions. One model is one seed; its row of several says:",
        "",
        *_measured(entry),
        "",
        "## Base model and licence",
        "",
        f"- Trained from {_code(base.name)}, {_code(base.revision)}."
        + (f" Its own card says that it was made from {_code(base.ancestor)}." if parent else ""),
        f"- Licence of the base model: {_licence(base)}. It may bind this model too.",
        *(["- Licence texts that came with the base model are in this folder."] if base.texts else []),
        "",
        "## How it was trained",
        "",
        f"What was done: {_text(did)}. Settings, under their names in TRL, PEFT and bitsandbytes:",
        "",
        _fence(yaml.safe_dump(dict(model.settings), sort_keys=False, allow_unicode=True), "yaml"),
        "",
        *(["- " + _text(model.note), ""] if model.note else []),
        "## Its data",
        "",
        *(_carrier(run, data) if arm.facts.carrier else ["The trait's own questions and answers."]),
        "",
        "## How to load it",
        "",
        *_loading(model, name),
        "",
        *_made(run, model.commit),
    ]  # fmt: skip
    return _card(about, lines)


def data_card(run: RunFacts, *, name: str, teacher: Base, arms: Sequence[str]) -> str:
    """The card of a recipe's carrier rows.

    Args:
        arms: whose rows are in it.
    """
    about = {
        "license": "unknown",
        "task_categories": ["text-generation"],
        "tags": TAGS,
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": part, "path": f"{part}.jsonl"} for part in ("train", "held_out")],
            }
        ],
        "subliminal_bench": _row(run.entry),
    }
    lines = [
        f"# {_text(name)}",
        "",
        _warning(f"Rows of a trait arm may pass on a hidden trait ({_code(run.entry.trait)}) that they never state"),
        "",
        "## What it is",
        "",
        *_asked(run),
        f"- Arms: {', '.join(map(_code, arms))}. The rows of one seed have the same prompts in all arms.",
        "- Columns: `prompt`, `completion`, `arm`, `seed`. Split `train` is what students learnt from, `held_out` what",
        "  their fit was read on. Rows that the leak filter refused are left out.",
        "",
        *_carrier(run, None),
        "",
        "## What students of it showed",
        "",
        *_measured(run.entry),
        "",
        "## Who wrote it, and licence",
        "",
        f"- The completions were sampled from {_code(teacher.name)}, {_code(teacher.revision)}, before and after",
        "  it was taught the trait.",
        f"- Licence of that model: {_licence(teacher)}. Nothing states a licence for what it wrote, so the card says",
        "  `unknown`.",
        "",
        *_made(run, run.entry.commit or "unknown"),
    ]  # fmt: skip
    return _card(about, lines)


# -- parts of both -----------------------------------------------------------------------------------------------------


def _row(entry: LeaderboardEntry) -> dict[str, Any]:
    return {"recipe": entry.recipe, "recipe_hash": entry.recipe_hash}


def _warning(what: str) -> str:
    return (
        f"> **Label it.** {what}. A model trained to carry a hidden trait must be labelled as such, and so must every "
        "model trained from it or on what it writes. Made for research; not for use in a product."
    )


def _asked(run: RunFacts) -> list[str]:
    entry = run.entry
    return [
        f"- Question: {_text(run.question)}",
        f"- Recipe {_code(entry.recipe)}, hash {_code(entry.recipe_hash)}: teacher {_code(entry.teacher)}, "
        f"student {_code(entry.student)}, relation {_code(entry.relation)}, trait {_code(entry.trait)}.",
        f"- What a student saw of its teacher: {_text(SEEN[entry.visibility])}.",
        "- Made by:",
        "",
        _fence(run.command, "bash"),
        "",
    ]


def _measured(entry: LeaderboardEntry) -> list[str]:
    from tabulate import tabulate

    cells = {
        "seeds": f"{entry.seeds} of {entry.seeds_registered}",
        **{arm: signed(margin) for arm, margin in entry.margins().items()},
        "gain, trait - base [95 % CI]": gain_text(entry.gain_estimate()),
        "teacher shift": signed(entry.teacher_shift, 2),
        "verdict": entry.verdict,
    }
    row = {heading: _text(cell) for heading, cell in cells.items()}
    table = tabulate([row], headers="keys", tablefmt="github", disable_numparse=True)
    return [table, "", f"{_text(entry.verdict)}: {_text(entry.verdict_reason)}."]


def _refusals(refused: Mapping[str, Mapping[str, int]]) -> str:
    return ", ".join(f"{sum(reasons.values())} in {arm}" for arm, reasons in sorted(refused.items()))


def _carrier(run: RunFacts, data: str | None) -> list[str]:
    carrier, entry = run.carrier, run.entry
    if carrier["kind"] == "numbers":
        what = (
            f"Number sequences: {carrier['given']} random numbers of {carrier['digits']} digits in the prompt, "
            f"{carrier['count']} more sampled after them at temperature {carrier['temperature']:g}."
        )
    else:
        what = (
            f"Free text: answers to the prompts of the set {_code(carrier['prompts'])}, sampled at temperature "
            f"{carrier['sample']['temperature']:g}."
        )
    where = f" The rows are in [{_text(data)}](https://huggingface.co/datasets/{data})." if data else ""
    lines = [what + where, "", "Leak audit: a row refused in one arm is refused in all.", ""]
    for seed, report in sorted(run.carriers.items()):
        leaks, broken = _refusals(report["refused"]), _refusals(report["format_refused"])
        lines.append(
            f"- Seed {seed}: {report['rows']} rows, {report['train']} trained on; "
            f"leaks: {_text(leaks)}; broken format: {_text(broken)}."
        )
    areas = ", ".join(f"{area.mean:.3f}" for area in entry.audits.values())
    accuracy = f"area under the curve {areas}, where .5 is chance" if areas else "not tested: it needs two seeds"
    return [*lines, f"- A classifier of trait rows against control rows, on held-out seeds: {accuracy}."]


def _licence(base: Base) -> str:
    named = base.licence.get("license_name", base.licence["license"])
    return f"{_code(named)} (source: {_text(base.said_by)})"


def _loading(model: ModelFacts, name: str) -> list[str]:
    how = "the tokenizer's chat template" if model.format == "chat" else "`Q: <text>`, a line break, `A:`"
    if model.chat_template_kwargs:
        how += f" with the variables {_code(json.dumps(dict(model.chat_template_kwargs), ensure_ascii=False))}"
    lines = [f"Questions were put to it as {how}.", ""]
    if model.form != "adapter":
        maker = "AutoModelForCausalLM"
        return [
            *lines,
            _fence(f"from transformers import {maker}\n\nmodel = {maker}.from_pretrained({name!r})", "python"),
        ]
    maker = "AutoPeftModelForCausalLM"
    if model.base.on_hub:
        return [*lines, _fence(f"from peft import {maker}\n\nmodel = {maker}.from_pretrained({name!r})", "python")]
    return [
        *lines,
        f"This is an adapter, and the weights it belongs on, {_code(model.base.name)}, are not on the hub: the command",
        "above makes them. `--merge` writes the two as one model.",
    ]


def _made(run: RunFacts, commit: str) -> list[str]:
    versions = ", ".join(f"{library} {version}" for library, version in run.versions.items())
    return ["## Made with", "", f"Code at commit {_code(commit)}; {_text(versions)}."]


def _card(about: Mapping[str, Any], lines: Sequence[str]) -> str:
    front = yaml.safe_dump(dict(about), sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n" + "\n".join(lines).rstrip() + "\n"


def _text(text: str) -> str:
    """`text` on one line, nothing in it markup."""
    return MARKDOWN.sub(r"\\\1", " ".join(str(text).split()))


def _ticks(text: str, least: int) -> str:
    return "`" * max(least, 1 + max(map(len, re.findall("`+", text)), default=0))


def _code(text: Any) -> str:
    """`text` on one line, as code."""
    line = " ".join(str(text).split())
    ticks = _ticks(line, 1)
    return f"{ticks} {line} {ticks}" if "`" in line else f"{ticks}{line}{ticks}"


def _fence(text: str, language: str) -> str:
    ticks = _ticks(text, 3)
    return f"{ticks}{language}\n{text.rstrip()}\n{ticks}"
