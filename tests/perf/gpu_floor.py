"""The least time of each stage of Qwen2.5-7B on one H100, computed from bytes and operations. Nothing is measured.

    python -m tests.perf.gpu_floor                 writes results/perf/gpu_floor.md

A phase takes at least its operations at the device's peak, and at least its bytes at the bandwidth; the larger of the
two is its floor. What the code should reach divides floors by the shares in `Expected`, and a step of decoding also
waits for the launches of its kernels. The amounts are those of the recipe cloud_qwen25_cat with 30,000 rows a teacher.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import NamedTuple

from tabulate import tabulate

from bench.config.carrier_settings import Numbers
from bench.config.number_prompts import load_number_prompts
from bench.config.recipe_files import load_recipe
from bench.files import ROOT, write_atomically
from bench.stages.carriers import number_prompts
from tests.perf.costs import Dimensions

__all__ = ["Device", "Expected", "Phase", "count_tokens", "make_page", "qwen"]

# Of Qwen/Qwen2.5-7B-Instruct, config.json.
QWEN = {
    "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
    "num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": False,
}  # fmt: skip
RECIPE = "cloud_qwen25_cat"
TRAINED_TEACHER = "llama32_1b_greedy"  # the teacher's training; that of RECIPE is prompted
CHAT = 34  # tokens around a question: the markers of Qwen's template, and its system message of 21 tokens
ANSWER = 2  # tokens of a one-word answer with its end


class Device(NamedTuple):
    """One H100 SXM, by NVIDIA's data sheet: dense products, no sparsity."""

    bfloat16: float = 989.4e12  # operations a second, tensor cores
    float32: float = 66.9e12  # ... without tensor cores: PyTorch's default uses no TF32 for products
    bandwidth: float = 3.35e12  # bytes a second
    host: float = 64e9  # bytes a second from main memory: PCIe 5.0 x16, one direction
    memory: float = 80e9


class Expected(NamedTuple):
    """Shares of the peaks that the code should reach. These are assumptions."""

    training: float = 0.45  # our own share on a CPU is .58 of a large product: results/perf/speed.md
    reading: float = 0.6  # of large products in a forward pass
    decoding: float = 0.7  # of the bandwidth or the products of a step
    loading: float = 0.15  # of PCIe, from unpinned memory
    kernels: int = 22  # launched by a layer for one token
    launch: float = 10e-6  # seconds of Python and driver a kernel


class Phase(NamedTuple):
    """A part of a stage."""

    name: str
    operations: float
    moved: float
    """Bytes of GPU memory."""
    seconds: float
    """The floor."""
    reached: float
    """Seconds that the code should reach."""


def qwen() -> Dimensions:
    """Return the dimensions of Qwen2.5-7B."""
    return Dimensions.of_config("qwen2", QWEN)


def count_tokens(text: str) -> int:
    """Estimate the tokens of a text in Qwen's tokenizer: one a word, digit and mark, and one a space before a digit."""
    return len(re.findall(r"\d|[^\W\d]+|[^\w\s]|\s(?=\d)", text))


class Floor:
    """The floors of one model on one device."""

    def __init__(self, model: Dimensions, device: Device, expected: Expected) -> None:
        self.model, self.device, self.expected = model, device, expected

    def phase(self, name: str, operations: float, moved: float, share: float, peak: float = 0) -> Phase:
        """Return a phase at the larger of its two times; `peak` is that of bfloat16 if it is 0."""
        seconds = max(operations / (peak or self.device.bfloat16), moved / self.device.bandwidth)
        return Phase(name, operations, moved, seconds, seconds / share)

    def load(self) -> Phase:
        """Return the way of the bfloat16 weights from main memory to the GPU."""
        size = 2.0 * self.model.weights
        return Phase("load", 0, size, size / self.device.host, size / self.device.host / self.expected.loading)

    def train(self, rows: float, length: float, labelled: float, rank: int) -> Phase:
        """Return a LoRA training; the weights are read for every micro-batch, which products of its size hide."""
        operations = rows * self.model.train_flops(length, labelled, rank)
        return self.phase("training", operations, 0, self.expected.training)

    def write(
        self, rows: float, prompt: float, prefilled: float, new: float, batch: int, size: int = 2
    ) -> tuple[Phase, Phase]:
        """Return the prompts and the decoding of `rows` texts in batches.

        Args:
            rows: texts.
            prompt: tokens of a prompt.
            prefilled: tokens of prompts that run, of all rows: those that they share run once.
            new: tokens of a text.
            batch: rows of a step.
            size: bytes of a weight, 4 for float32.
        """
        peak = self.device.bfloat16 if size == 2 else self.device.float32
        read = self.model.read_flops(prefilled, prompt, rows)
        prompts = self.phase("prompts", read, 0, self.expected.reading, peak)
        steps, length = rows * new / batch, prompt + new / 2
        operations, moved = self.model.read_flops(batch, length, batch), self.model.step_bytes(batch, length, size)
        step = self.phase("", operations, moved, self.expected.decoding, peak)
        launches = self.model.layers * self.expected.kernels * self.expected.launch
        return prompts, Phase(
            "decoding", steps * operations, steps * moved, steps * step.seconds, steps * max(step.reached, launches)
        )


class Stages(NamedTuple):
    """The stages of one seed, with their phases, and how often a seed has them."""

    phases: dict[str, tuple[int, list[Phase]]]
    facts: list[str]


def list_stages(floor: Floor, rows: int, batch: int) -> Stages:
    """Compute the phases of all stages; `rows` are written by each teacher, in batches of `batch`."""
    experiment = load_recipe(RECIPE)
    recipe, (trait,) = experiment.recipe, experiment.traits.values()
    carrier, evaluation, lora = recipe.carrier, recipe.evaluate, recipe.student.lora
    assert isinstance(carrier, Numbers)
    assert isinstance(carrier.prompts, str)
    assert lora is not None
    some = carrier.model_copy(update={"draw": 500})
    texts = number_prompts(some, carrier.list_permitted(), 0, load_number_prompts(carrier.prompts))
    wording = sum(map(count_tokens, texts)) / len(texts)
    new = count_tokens(carrier.separator.join(["123"] * carrier.count)) + 1
    prompt = CHAT + wording
    trained = load_recipe(TRAINED_TEACHER).recipe.teacher
    assert trained.train is not None
    assert trained.lora is not None
    lessons = trained.train["max_steps"] * trained.train["per_device_train_batch_size"]
    question = CHAT + sum(count_tokens(q) for q, _ in trait.teach_rows()) / len(trait.teach_rows())
    asked = trait.questions()
    readings = 2 if evaluation.prefix else 1
    candidates = 1 + len(asked[0].foils)
    answers = readings * len(asked) * evaluation.samples
    tokens = min(ANSWER + 2, evaluation.sample.max_new_tokens)  # a chat model adds a word now and then
    epochs = recipe.student.train["num_train_epochs"]
    passes = float(carrier.rows * epochs)
    load, length = floor.load(), question + ANSWER
    margin = floor.model.read_flops(
        readings * len(asked) * question, question, readings * len(asked) * (1 + candidates)
    ) + floor.model.read_flops(readings * len(asked) * candidates, question, 0)
    held_out = 2 * carrier.held_out
    read_held_out = floor.model.read_flops(held_out * (prompt + new), prompt, held_out * new)
    margins = floor.phase(
        "margins and held-out rows, float32", margin + read_held_out, 0, floor.expected.reading, floor.device.float32
    )
    sampled = floor.write(
        answers, question, readings * len(asked) * question, tokens, evaluation.sample.batch_size, size=4
    )
    own = floor.write(answers, question, readings * len(asked) * question, tokens, evaluation.sample.batch_size)
    phases = {
        "teacher training (LoRA)": (0, [load, floor.train(lessons, length, ANSWER, trained.lora["r"])]),
        "carrier": (2, [load, *floor.write(rows, prompt, rows * wording, new, batch)]),
        "student training (LoRA)": (2, [load, floor.train(passes, prompt + new, new, lora["r"])]),
        "evaluation": (5, [load, margins, *(p._replace(name=f"answers: {p.name}, float32") for p in sampled)]),
    }
    bf16 = sum(p.reached for p in own)
    facts = [
        f"Teacher training: {lessons:,} rows of {length:.0f} tokens, rank {trained.lora['r']}, the training of "
        f"{TRAINED_TEACHER}; {RECIPE} prompts its teacher and has no such stage.",
        f"Carrier: {rows:,} lists a teacher, prompts of {prompt:.0f} tokens of which {CHAT} are shared and run once, "
        f"lists of {new} tokens, {batch} at a time.",
        f"Student training: {carrier.rows:,} rows of {prompt + new:.0f} tokens, {new} labelled, {epochs} epochs "
        f"({passes:,.0f} rows), rank {lora['r']}.",
        f"Evaluation: {readings * len(asked)} questions of {question:.0f} tokens with {candidates} candidates, "
        f"{held_out} held-out rows, {answers:,} sampled answers of {tokens} tokens, "
        f"{evaluation.sample.batch_size} at a time. The weights fit into half of the memory in float32 "
        f"({4 * floor.model.weights / 1e9:.1f} of {floor.device.memory / 1e9:.0f} GB), so the model is read in "
        "float32, and its answers are sampled from the same weights. In bfloat16 the answers would take "
        f"{bf16:.0f} s in place of {sum(p.reached for p in sampled):.0f}.",
    ]
    return Stages(phases, facts)


def _seconds(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _table(rows: list[dict[str, str]]) -> str:
    return tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True)


def make_page(rows: int, batch: int) -> str:
    """Return the page."""
    device, expected, model = Device(), Expected(), qwen()
    floor = Floor(model, device, expected)
    stages = list_stages(floor, rows, batch)
    lines, totals = [], []
    floor_total = reached_total = 0.0
    for name, (count, phases) in stages.phases.items():
        for phase in phases:
            bound = "PCIe" if phase.name == "load" else "bytes"
            if phase.operations / (device.float32 if "float32" in phase.name else device.bfloat16) >= phase.seconds:
                bound = "operations"
            lines.append({
                "stage": name, "phase": phase.name, "TFLOP": f"{phase.operations / 1e12:,.4g}",
                "GB": f"{phase.moved / 1e9:,.4g}" if phase.moved else "-", "bound by": bound,
                "floor, s": _seconds(phase.seconds), "should reach, s": _seconds(phase.reached),
            })  # fmt: skip
        least, reach = (sum(getattr(phase, of) for phase in phases) for of in ("seconds", "reached"))
        floor_total, reached_total = floor_total + count * least, reached_total + count * reach
        totals.append({"stage": name, "a seed has": str(count or "0 (prompted)"), "floor, s": _seconds(least),
                       "should reach, s": _seconds(reach)})  # fmt: skip
    totals.append({"stage": "**a seed**", "a seed has": "", "floor, s": f"**{_seconds(floor_total)}**",
                   "should reach, s": f"**{_seconds(reached_total)}**"})  # fmt: skip
    sizes = []
    for size in (64, 256, 1024):
        _, (_, _, decoding) = list_stages(floor, rows, size).phases["carrier"]
        sizes.append({"lists at a time": str(size), "floor, s": _seconds(decoding.seconds),
                      "should reach, s": _seconds(decoding.reached)})  # fmt: skip
    launches = model.layers * expected.kernels * expected.launch
    return "\n\n".join([
        "# The floor of Qwen2.5-7B on one H100",
        "**Computed, not measured.** Made by `python -m tests.perf.gpu_floor` from the model's configuration, the "
        f"recipe `{RECIPE}` and NVIDIA's data sheet. No GPU was at hand: no figure here comes from a run.",
        f"The model has {model.weights / 1e9:.3f} billion weights in matrices: {model.body / 1e9:.3f} in its layers, "
        f"{model.head / 1e9:.3f} in its head and as many in its embeddings; a token takes "
        f"{model.cache_bytes() / 1e3:.1f} kB of cache. The device: {device.bfloat16 / 1e12:.0f} TFLOP/s in bfloat16, "
        f"{device.float32 / 1e12:.0f} in float32, {device.bandwidth / 1e12:.2f} TB/s, PCIe {device.host / 1e9:.0f} "
        "GB/s.",
        _table(lines),
        "## One seed",
        _table(totals),
        *(f"- {fact}" for fact in stages.facts),
        "## What the code should reach",
        f"Floors divided by assumed shares: {expected.training:.0%} of the peak in training, {expected.reading:.0%} in "
        f"forward passes of many tokens, {expected.decoding:.0%} of the bound in decoding, {expected.loading:.0%} of "
        f"PCIe while loading. A step of decoding launches {expected.kernels} kernels a layer at "
        f"{1e6 * expected.launch:.0f} us, {1e3 * launches:.1f} ms, and cannot be shorter. Decoding a carrier by the "
        "number of lists at a time:",
        _table(sizes),
        "Token counts are estimates, one a word, digit and mark: the tokenizer is not in this repository.",
    ]) + "\n"  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=30_000, help="lists that each teacher writes (default: 30,000)")
    parser.add_argument("--batch", type=int, default=256, help="lists at a time (default: 256, the recipe's)")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "perf" / "gpu_floor.md")
    args = parser.parse_args()
    page = make_page(args.rows, args.batch)
    write_atomically(args.out, page)
    print(page)


if __name__ == "__main__":
    main()
