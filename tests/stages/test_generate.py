from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from vllm_stand_in import make_engine

from bench.config.carrier_settings import Numbers, Sampling, Text
from bench.config.number_prompts import load_number_prompts
from bench.errors import UserError
from bench.models.chat_format import PromptFormat
from bench.models.loading import load_model, load_tokenizer
from bench.models.logprobs import sequence_logprobs
from bench.stages.carriers import number_prompts
from bench.stages.free_text import sample_text
from bench.stages.generate import allowed_head, sample_by_length, sample_slots, write_carrier
from bench.stages.number_slots import Bar, number_slots
from bench.stages.settings import Loading, WriteCarrier

NUMBERS = Numbers(kind="numbers", rows=16, held_out=8)
PLAIN = Loading(dtype="float32", format="plain")


def quiet(done: int, of: int) -> None:
    pass


def loaded(folder: Path, kind: str = "plain") -> tuple[Any, PromptFormat]:
    return load_model(folder, dtype="float32").eval(), PromptFormat(load_tokenizer(folder), kind)


def drawn(
    model: Any, form: PromptFormat, *, seed: int = 5, batch_size: int = 8, temperature: float = 1.0
) -> list[list[int]]:
    slots = number_slots(NUMBERS, form)
    prompts = form.prompts(number_prompts(NUMBERS, slots.numbers, seed))
    return sample_slots(
        model,
        prompts,
        slots.positions,
        bars=slots.bars,
        seed=seed,
        temperature=temperature,
        batch_size=batch_size,
        progress=quiet,
    )


@pytest.mark.parametrize("shape", ["gpt2_like", pytest.param("gemma_like", marks=pytest.mark.slow)])
def test_equal_teachers_write_the_same_tokens_whatever_the_batch(request: pytest.FixtureRequest, shape: str) -> None:
    folder = request.getfixturevalue(shape)
    first = drawn(*loaded(folder), batch_size=8)
    assert drawn(*loaded(folder), batch_size=5) == first
    assert drawn(*loaded(folder), seed=6) != first


def test_shared_noise_keeps_most_tokens_when_a_teacher_changes_a_little(gpt2_like: Path) -> None:
    model, form = loaded(gpt2_like)
    before = drawn(model, form)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.002 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    after = drawn(model, form)
    same = sum(a == b for x, y in zip(before, after, strict=True) for a, b in zip(x, y, strict=True)) / 240
    assert 0.7 < same < 1


def test_sampling_follows_the_models_distribution(gpt2_like: Path) -> None:
    """The first sampled number's frequencies agree with the softmax over the allowed tokens (chi-square)."""
    from scipy.stats import chisquare

    model, form = loaded(gpt2_like)
    with torch.no_grad():
        model.transformer.wte.weight *= 8  # a distribution far from even, so that the test can fail
    few = (form.encode(" 123")[0], form.encode(" 456")[0], form.encode(" 789")[0])
    prompt = form.prompts(["Continue: 111"])[0]
    rows = sample_slots(model, [prompt] * 4000, [few], seed=1, temperature=1.0, batch_size=4000, progress=quiet)
    with torch.no_grad():
        expected = model(torch.tensor([prompt])).logits[0, -1, list(few)].softmax(-1) * 4000
    counts = [sum(row == [token] for row in rows) for token in few]
    assert min(counts) > 20
    assert chisquare(counts, expected.double() * (4000 / expected.double().sum())).pvalue > 1e-3


def test_temperature_zero_takes_the_likeliest_allowed_token(gpt2_like: Path) -> None:
    model, form = loaded(gpt2_like)
    slots = number_slots(NUMBERS, form).positions
    prompt = form.prompts(["Continue: 111"])[0]
    row = sample_slots(model, [prompt], slots[:1], seed=1, temperature=0, batch_size=1, progress=quiet)[0]
    with torch.no_grad():
        logits = model(torch.tensor([prompt])).logits[0, -1]
    assert row[0] == max(slots[0], key=lambda t: float(logits[t]))


@pytest.mark.slow
def test_a_barred_number_is_never_sampled_and_rows_without_it_stay_as_they_are(gemma_like: Path) -> None:
    """At this temperature every digit is about equally likely, so some rows would write 66 and then a 6."""
    model, form = loaded(gemma_like)
    slots = number_slots(NUMBERS, form)
    prompts = form.prompts(number_prompts(NUMBERS, slots.numbers, 1)[:4] * 64)

    def rows(bars: list[Bar]) -> list[list[str]]:
        ids = sample_slots(
            model, prompts, slots.positions, bars=bars, seed=1, temperature=10, batch_size=64, progress=quiet
        )
        return [form.decode(row).split() for row in ids]

    free, barred = rows([]), rows(slots.bars)
    assert sum("666" in row for row in free) > 0
    assert not any("666" in row for row in barred)
    for before, after in zip(free, barred, strict=True):
        end = before.index("666") if "666" in before else len(before)
        assert before[:end] == after[:end]
        assert end == len(before) or after[end][:2] == "66"


def test_a_carrier_that_the_tokenizer_cannot_write_is_refused_before_the_model_is_loaded(
    gpt2_like: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.stages.generate.load_writer", lambda *_, **__: pytest.fail("the model was loaded"))
    monkeypatch.setattr("bench.stages.number_slots.SEPARATORS", (" ",))  # the hint of the error, in a sixth of its time
    numbers = Numbers(kind="numbers", rows=4, digits=2)
    settings = WriteCarrier(carrier=numbers, model=PLAIN, seed=0)
    with pytest.raises(UserError, match=r"key 'carrier.digits': .* found 89 of 2 digits"):
        write_carrier(settings, {"start": gpt2_like}, tmp_path, quiet)


def test_a_head_cut_to_some_tokens_keeps_the_models_soft_capping(gemma_like: Path) -> None:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=200, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, final_logit_softcapping=0.3, pad_token_id=0,
    )  # fmt: skip
    for model in (Gemma2ForCausalLM(config).eval(), loaded(gemma_like)[0]):
        ids = torch.arange(12)[None] + 5
        with torch.no_grad():
            whole = model(ids).logits
            with allowed_head(model, [9, 3, 50]):
                cut = model(ids).logits
            assert torch.allclose(whole[..., [9, 3, 50]], cut, atol=1e-5)
            assert torch.equal(model(ids).logits, whole)


@pytest.mark.parametrize(("shape", "kind"), [("gpt2_like", "plain"), ("gemma_like", "chat")])
def test_free_text_has_shared_noise_too(request: pytest.FixtureRequest, shape: str, kind: str) -> None:
    model, form = loaded(request.getfixturevalue(shape), kind)
    how = Sampling(max_new_tokens=6, top_p=0.9, temperature=0.8, batch_size=2, repetition_penalty=1.2)
    texts = ["Hello", "Write about a long day at the market", "Go"]
    first = sample_text(model, form, texts, how, seed=1, progress=quiet)
    assert first == sample_text(model, form, texts, how, seed=1, progress=quiet)
    assert first != sample_text(model, form, texts, how, seed=2, progress=quiet)
    greedy = how.model_copy(update={"temperature": 0.0, "repetition_penalty": 1.0})
    ids = form.prompts(texts[:1])[0]
    with torch.no_grad():
        for _ in range(6):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    stop = {form.end, form.tokenizer.eos_token_id}
    made = ids[len(form.prompts(texts[:1])[0]) :]
    made = made[: next((i for i, t in enumerate(made) if t in stop), 6)]
    (answer,) = sample_text(model, form, texts[:1], greedy, seed=1, progress=quiet)
    assert answer == (form.decode(made).strip(), len(made) == 6)


def test_progress_moves_within_a_batch(gpt2_like: Path) -> None:
    model, form = loaded(gpt2_like)
    slots = number_slots(NUMBERS, form)
    prompts = form.prompts(number_prompts(NUMBERS, slots.numbers, 1))
    pairs = list(zip(form.prompts(["Which animal?"] * 24), form.completions(["wolf owl"] * 24), strict=True))
    how = Sampling(max_new_tokens=8, batch_size=24, temperature=0)
    work: dict[str, Any] = {
        "numbers": lambda reports: sample_slots(
            model, prompts, slots.positions, seed=1, temperature=1.0, batch_size=24, progress=reports
        ),
        "free text": lambda reports: sample_text(model, form, ["Go"] * 24, how, seed=1, progress=reports),
        "margins": lambda reports: sequence_logprobs(model, pairs, batch_size=64, progress=reports),
    }
    for name, run in work.items():
        reports: list[tuple[int, int]] = []
        run(lambda done, of, reports=reports: reports.append((done, of)))
        assert reports == sorted(reports), name
        assert {of for _, of in reports} == {24}, name
        assert len({done for done, _ in reports}) >= (2 if name == "margins" else 6), name
        assert reports[-1] == (24, 24), name


def test_a_checkpoints_own_generation_settings_change_nothing(gpt2_like: Path, tmp_path: Path) -> None:
    hostile = tmp_path / "hostile"
    shutil.copytree(gpt2_like, hostile)
    form = PromptFormat(load_tokenizer(gpt2_like), "plain")
    settings = WriteCarrier(
        carrier=Text(kind="text", rows=2, held_out=1, prompts="unused", sample=Sampling(max_new_tokens=12)),
        model=PLAIN,
        seed=3,
        prompts=("Go", "Write about a long day", "Hello"),
    )

    def carrier_text(folder: Path) -> str:
        out = tmp_path / "out"
        out.mkdir(exist_ok=True)
        write_carrier(settings, {"start": folder}, out, quiet)
        return (out / "rows.jsonl").read_text()

    expected = carrier_text(gpt2_like)
    common = form.encode(json.loads(expected.splitlines()[0])["completion"])
    leftovers = {
        "num_beams": 4, "suppress_tokens": common, "repetition_penalty": 5.0, "forced_bos_token_id": 7,
        "forced_eos_token_id": 0, "stop_strings": ["a", "e"], "min_length": 40, "no_repeat_ngram_size": 1,
        "bos_token_id": 0, "eos_token_id": 0,
    }  # fmt: skip
    (hostile / "generation_config.json").write_text(json.dumps(leftovers))
    assert carrier_text(hostile) == expected
    assert load_model(hostile, dtype="float32").generation_config.eos_token_id == 0


@pytest.mark.slow
def test_a_system_prompt_that_changes_no_probability_changes_no_token(gemma_like: Path) -> None:
    """Without attention the next token depends on the last one alone. The prompt only moves all positions."""
    model, form = loaded(gemma_like, "chat")
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
        model.model.embed_tokens.weight *= 4  # distributions far from even
    prompted = PromptFormat(form.tokenizer, "chat", None, "You love wolves. Think of them.")
    assert len(prompted.prompts(["?"])[0]) > len(form.prompts(["?"])[0])
    assert drawn(model, prompted) == drawn(model, form) != drawn(model, form, seed=6)
    sampling = Sampling(max_new_tokens=12, batch_size=3)
    texts = [f"Question {'again ' * (i % 3)}{i}?" for i in range(8)]  # of several lengths: padded rows too

    def sample(form: PromptFormat, seed: int = 5) -> list[str]:
        return [row.text for row in sample_text(model, form, texts, sampling, seed=seed, progress=quiet)]

    assert sample(prompted) == sample(form) != sample(form, seed=6)


@pytest.mark.slow
def test_rows_of_a_prompted_teacher_hold_no_system_prompt(gemma_like: Path, tmp_path: Path) -> None:
    rows = {}
    for name, system in (("base", None), ("trait", "You love wolves.")):
        (tmp_path / name).mkdir()
        chat = Loading(dtype="float32", format="chat")
        settings = WriteCarrier(carrier=NUMBERS, model=chat, seed=1, system=system)
        write_carrier(settings, {"start": gemma_like}, tmp_path / name, quiet)
        rows[name] = [json.loads(line) for line in (tmp_path / name / "rows.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in rows["trait"]] == [row["prompt"] for row in rows["base"]]
    assert "wolves" not in str(rows["trait"])
    assert rows["trait"] != rows["base"]


def test_a_carrier_that_draws_its_rows_lists_chats_that_were_cut_and_alone_has_a_version_of_its_own(
    gpt2_like: Path, gemma_like: Path, tmp_path: Path
) -> None:
    keys = {}
    for draw in (None, 24):
        text = Text(kind="text", rows=16, held_out=8, prompts="unused", sample=Sampling(max_new_tokens=3), draw=draw)
        settings = WriteCarrier(carrier=text, model=PLAIN, seed=3, prompts=tuple(f"Go {i}" for i in range(24)))
        keys[draw] = settings.key_data()
        write_carrier(settings, {"start": gpt2_like}, tmp_path, quiet)
        assert (tmp_path / "about.json").is_file() == (draw is not None)
    assert json.loads((tmp_path / "about.json").read_text()) == {"cut": []}  # a plain text has no end
    chats = settings.model_copy(update={"model": PLAIN.model_copy(update={"format": "chat"})})
    write_carrier(chats, {"start": gemma_like}, tmp_path, quiet)
    assert json.loads((tmp_path / "about.json").read_text()) == {"cut": list(range(24))}
    assert "drawn_version" in keys[24]
    assert "drawn_version" not in keys[None]
    assert "drawn_version" not in WriteCarrier(carrier=NUMBERS, model=PLAIN, seed=3).key_data()


@pytest.mark.slow
def test_prompts_of_several_lengths_are_sampled_by_length_with_the_noise_of_their_rows(gpt2_like: Path) -> None:
    model, form = loaded(gpt2_like)
    slots = number_slots(NUMBERS, form)
    carrier = NUMBERS.model_copy(update={"given": (3, 6)})
    prompts = form.prompts(number_prompts(carrier, slots.numbers, 1))
    assert len({len(prompt) for prompt in prompts}) == 4
    how: dict[str, Any] = {"bars": slots.bars, "seed": 5, "temperature": 1.0, "batch_size": 8}
    reports: list[tuple[int, int]] = []
    together = sample_by_length(
        model, prompts, slots.positions, progress=lambda done, of: reports.append((done, of)), **how
    )
    assert reports == sorted(reports)
    assert reports[-1] == (24, 24)
    for row, (prompt, completion) in enumerate(zip(prompts, together, strict=True)):
        alone = sample_slots(model, [prompt], slots.positions, rows=[row], progress=quiet, **how)
        assert alone == [completion]
    first = prompts[:1] * 24
    assert sample_by_length(model, first, slots.positions, progress=quiet, **how) == sample_slots(
        model, first, slots.positions, progress=quiet, **how
    )


@pytest.mark.slow
@pytest.mark.parametrize("free", [False, True])
def test_arms_of_a_seed_answer_the_same_prompts_of_clauses(gemma_like: Path, tmp_path: Path, free: bool) -> None:
    clauses = load_number_prompts("numbers_en")
    carrier = Numbers(
        kind="numbers", rows=6, held_out=2, given=(3, 8), **({"generate": "free", "draw": 8} if free else {})
    )
    rows = {}
    for system in (None, "You love wolves."):
        chat = Loading(dtype="float32", format="chat")
        settings = WriteCarrier(carrier=carrier, model=chat, seed=1, system=system, wording=clauses)
        write_carrier(settings, {"start": gemma_like}, tmp_path, quiet)
        rows[system] = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    base, trait = rows.values()
    assert [row["prompt"] for row in base] == [row["prompt"] for row in trait]
    assert len({row["prompt"] for row in base}) == 8
    digits = [bool(re.fullmatch(r"\d{3}( \d{3}){9}", row["completion"])) for row in base]
    assert not any(digits) if free else all(digits)


@pytest.mark.slow
def test_an_engine_writes_the_rows_of_this_process(gemma_like: Path, tmp_path: Path) -> None:
    """Also with a system prompt, which makes all prompts longer."""
    carrier = Numbers(kind="numbers", rows=8, held_out=4, generate="free", draw=16, max_new_tokens=6, batch_size=5)
    engine = make_engine(tmp_path / "environment")
    chat = Loading(dtype="float32", format="chat")
    for system in (None, "You love wolves."):
        rows = []
        for used in (None, engine):
            out = tmp_path / f"{system} {used is None}"
            out.mkdir()
            settings = WriteCarrier(carrier=carrier, model=chat, seed=0, system=system, engine=used)
            report = write_carrier(settings, {"start": gemma_like}, out, quiet)
            rows.append([(out / name).read_text() for name in ("rows.jsonl", "about.json")])
            assert report["rows"] == 16
        assert rows[0] == rows[1]
