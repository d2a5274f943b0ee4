from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml
from conftest import QUICK, ROOT
from hub import Hub
from safetensors.torch import load_file

from bench.analysis.result_files import read_results
from bench.analysis.seed_statistics import margins_of
from bench.cli import main
from bench.config.recipe_files import Experiment, load_recipe
from bench.config.traits import load_trait
from bench.errors import StageError, UserError
from bench.pipeline.plan import Ref
from bench.pipeline.store import Store
from bench.publish import bundle, finished_run
from bench.publish.upload import RunCommand, merge, publish

TOKEN = "hf_PlantedTokenThatMustNotShow"
HEAD = (
    "# python run_bench.py --recipe x.yaml\n# Does it reach\n# the {name} student?\n# Needs nothing.\nfrom: tiny_pair\n"
)
LORA = "lora: {r: 4, lora_alpha: 8, target_modules: "


class Ran(NamedTuple):
    """A recipe that the command ran, and where."""

    experiment: Experiment
    command: RunCommand
    store: Store
    results: Path

    @property
    def row(self) -> str:
        return f"{self.experiment.name}-{self.experiment.hash()}"


def run(folder: Path, name: str, seeds: int, *, recipe: str | None = None) -> Ran:
    path = name
    if recipe is not None:
        (folder / f"{name}.yaml").write_text(HEAD.format(name=name) + recipe)
        path = str(folder / f"{name}.yaml")
    words = [*QUICK, "--seeds", str(seeds), "--recipe", path]
    where = ["--store", str(folder / "store"), "--results", str(folder / "results")]
    assert main([*words, *where]) == 0
    changes = tuple(words[i + 1] for i, word in enumerate(words) if word == "--set")
    experiment = load_recipe(path, list(changes), seeds=seeds)
    return Ran(experiment, RunCommand(path, changes, seeds), Store(folder / "store"), folder / "results")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The default recipe, whole models, one seed."""
    return run(tmp_path_factory.mktemp("tiny"), "tiny_pair", 1)


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory, gpt2_like: Path) -> Ran:
    """A whole teacher and LoRA students of a checkpoint in a local folder, two seeds, read along the way too."""
    base = tmp_path_factory.mktemp("secret-place") / "base"
    shutil.copytree(gpt2_like, base)
    (base / "README.md").write_text("---\nlicense: mit\nbase_model: someone/ancestor\n---\n# A checkpoint\n")
    (base / "LICENSE").write_text("Permission is granted.")
    recipe = f"teacher: {{model: {base}}}\nstudent: {{model: {base}, {LORA}[c_attn, c_proj]}}}}\ndose: [2]\n"
    return run(tmp_path_factory.mktemp("lora"), "lora", 2, recipe=recipe)


@pytest.fixture(scope="module")
def qlora(tmp_path_factory: pytest.TempPathFactory, gemma_like: Path) -> Ran:
    """A LoRA student of a quantised base."""
    quantised = f"quantization: {{load_in_8bit: true}}, {LORA}all-linear}}"
    recipe = f"teacher: {{model: {gemma_like}}}\nstudent: {{model: {gemma_like}, {quantised}}}\n"
    return run(tmp_path_factory.mktemp("qlora"), "qlora", 1, recipe=recipe)


def merge_to(ran: Ran, out: Path) -> list[Path]:
    reported: list[str] = []
    folders = merge(ran.experiment, ran.command, ran.store, out, ran.results, tell=reported.append)
    assert reported == [str(folder) for folder in folders]
    return folders


def stored(ran: Ran, arm: str, seed: int) -> list[float]:
    (row,) = [row for row in read_results(ran.results)[0] if row.hash == ran.experiment.hash()]
    return margins_of(row.cells[seed][arm])


def margins(folder: Path) -> list[float]:
    """Margins of the trait's questions, by transformers alone, all answers in one batch."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    assert model.dtype == torch.float32
    return margins_of_model(model, AutoTokenizer.from_pretrained(folder))


def margins_of_model(model: Any, tokenizer: Any) -> list[float]:
    questions = load_trait("wolf").questions()
    rows, starts = [], []
    for question in questions:
        prompt = tokenizer(f"Q: {question.question}\nA:", add_special_tokens=False)["input_ids"]
        for answer in (question.answer, *question.foils):
            rows.append(prompt + tokenizer(f" {answer}", add_special_tokens=False)["input_ids"])
            starts.append(len(prompt))
    width = max(map(len, rows))
    with torch.no_grad():  # what stands after a row is unseen from within it
        logprobs = model(torch.tensor([row + [0] * (width - len(row)) for row in rows])).logits.log_softmax(-1)
    scores = [
        float(sum(logprobs[i, j - 1, row[j]] for j in range(start, len(row))))
        for i, (row, start) in enumerate(zip(rows, starts, strict=True))
    ]
    each = [scores[i : i + len(questions[0].foils) + 1] for i in range(0, len(scores), len(questions[0].foils) + 1)]
    return [true - sum(foils) / len(foils) for true, *foils in each]


def front(folder: Path) -> dict[str, Any]:
    about = yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])
    assert isinstance(about, dict)
    return about


def holds(folder: Path, word: str) -> list[str]:
    return [str(p) for p in folder.rglob("*") if p.is_file() and word.encode() in p.read_bytes()]


# -- merging -----------------------------------------------------------------------------------------------------------


# The weights are the same to the last bit; batches of another shape add float32 numbers in another order. 1e-4 nats is
# a hundredth of the smallest effect that a margin has to resolve.
SAME = 1e-4


@pytest.mark.slow
def test_a_merged_model_read_by_transformers_alone_gives_the_stored_margins(
    tiny: Ran, lora: Ran, tmp_path: Path
) -> None:
    folders = merge_to(tiny, tmp_path / "out") + merge_to(lora, tmp_path / "out")
    assert [folder.name for folder in folders] == [
        *(f"tiny_pair-{arm}-seed1000" for arm in ("teacher", "base", "trait")),
        *(f"lora-{arm}-seed{seed}" for seed in (1000, 1001) for arm in ("teacher", "base", "trait")),
    ]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(folder.name for folder in folders)
    for ran, arm in ((tiny, "trait"), (lora, "trait"), (lora, "teacher")):
        folder = tmp_path / "out" / f"{ran.experiment.name}-{arm}-seed1000"
        logprobs, expected = margins(folder), stored(ran, arm, 1000)
        assert logprobs == pytest.approx(expected, abs=SAME)
        other = "base" if arm == "trait" else "teacher_base"
        assert max(abs(a - b) for a, b in zip(logprobs, stored(ran, other, 1000), strict=True)) > 10 * SAME


@pytest.mark.slow
def test_a_published_adapter_on_its_base_by_peft_alone_gives_the_stored_margins(lora: Ran, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = next(m for m in finished(lora, merged=False).models if m.cell.arm == "trait")
    folder = tmp_path / "adapter"
    folder.mkdir()
    bundle.write_model(finished(lora, merged=False), model, folder, name="org/x", data=None)
    base = AutoModelForCausalLM.from_pretrained(model.start)
    loaded = PeftModel.from_pretrained(base, folder)
    scores = margins_of_model(loaded.eval(), AutoTokenizer.from_pretrained(folder))
    assert scores == pytest.approx(stored(lora, "trait", model.cell.seed), abs=SAME)


@pytest.mark.slow
def test_the_card_of_a_model_states_its_margin_for_the_hub(tiny: Ran, tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    for folder, arm in zip(merge_to(tiny, tmp_path), ("teacher", "base", "trait"), strict=True):
        card = ModelCard.load(folder / "README.md").data
        results = {result.metric_type: result.metric_value for result in card.eval_results}
        assert results["margin"] == pytest.approx(sum(stored(tiny, arm, 1000)) / 56, abs=1e-6)
        assert ("gain" in results) == (arm == "trait")
        assert card.model_name == folder.name


@pytest.mark.slow
def test_a_merged_adapter_is_base_plus_its_product(lora: Ran, tmp_path: Path) -> None:
    model = next(m for m in finished(lora).models if m.cell.arm == "trait")
    bundle.merge_adapter(model, "float32", tmp_path / "whole")
    bundle.merge_adapter(model, "bfloat16", tmp_path / "half")
    name = "transformer.h.1.attn.c_attn"
    base = load_file(model.start / "model.safetensors")
    adapter = load_file(model.folder / "adapter_model.safetensors")
    a, b = (adapter[f"base_model.model.{name}.lora_{side}.weight"] for side in "AB")
    expected = base[f"{name}.weight"] + 8 / 4 * (b @ a).T  # lora_alpha / r; GPT-2 keeps its matrices transposed
    whole = load_file(tmp_path / "whole" / "model.safetensors")
    assert (b @ a).abs().max() > 1e-4
    torch.testing.assert_close(whole[f"{name}.weight"], expected, atol=1e-7, rtol=0)
    torch.testing.assert_close(whole["transformer.wte.weight"], base["transformer.wte.weight"], atol=0, rtol=0)
    half = load_file(tmp_path / "half" / "model.safetensors")
    assert {name: t.dtype for name, t in half.items()} == dict.fromkeys(whole, torch.bfloat16)
    assert torch.equal(half[f"{name}.weight"], whole[f"{name}.weight"].bfloat16())


@pytest.mark.slow
def test_merging_again_writes_the_same_bytes(lora: Ran, tmp_path: Path) -> None:
    def files() -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    merge_to(lora, tmp_path)
    before = files()
    (tmp_path / "lora-base-seed1000" / "left over").write_text("by an earlier version")
    merge_to(lora, tmp_path)
    assert files() == before


@pytest.mark.slow
def test_a_quantised_base_is_merged_unquantised_and_the_card_says_so(qlora: Ran, tmp_path: Path) -> None:
    folders = {folder.name: folder for folder in merge_to(qlora, tmp_path)}
    folder = folders["qlora-trait-seed1000"]
    weights = load_file(folder / "model.safetensors")
    assert {t.dtype for t in weights.values()} == {torch.float32}
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    start = next(m for m in finished(qlora).models if m.cell.arm == "trait").start
    assert any(not torch.equal(t, weights[name]) for name, t in load_file(start / "model.safetensors").items())
    assert "A quantised base cannot be merged in place" in (folder / "README.md").read_text()
    assert "load_in_8bit: true" in (folder / "README.md").read_text()
    assert "the tokenizer's chat template" in (folder / "README.md").read_text()
    assert "merged" not in (folders["qlora-teacher-seed1000"] / "README.md").read_text()


@pytest.mark.slow
def test_weights_stored_quantised_are_refused_before_any_work(lora: Ran, tmp_path: Path) -> None:
    model = next(m for m in finished(lora).models if m.adapter)
    (tmp_path / "config.json").write_text('{"quantization_config": {"quant_method": "bitsandbytes"}}')
    stage = model.stage._replace(inputs={**model.stage.inputs, "start": Ref("x", tmp_path)})
    with pytest.raises(UserError, match="stored quantised"):
        finished_run.describe_training(model.cell, stage, model.reading, lora.store, True)
    assert not finished_run.describe_training(model.cell, stage, model.reading, lora.store, False).merges


@pytest.mark.slow
def test_an_adapter_of_a_hub_model_names_it_and_its_commit(lora: Ran, tmp_path: Path) -> None:
    """Also without a network, where the licence stays unknown: this process is offline."""
    run = finished(lora, merged=False)
    recipe = run.experiment.recipe
    student = recipe.student.model_copy(update={"model": "owner/name"})
    experiment = run.experiment._replace(recipe=recipe.model_copy(update={"student": student}))
    model = next(m for m in run.models if m.adapter)
    shutil.copytree(model.start, tmp_path / "c0ffee")
    inputs = {**model.stage.inputs, "start": Ref("x", tmp_path / "c0ffee")}
    folder = tmp_path / "out"
    folder.mkdir()
    moved = model._replace(stage=model.stage._replace(inputs=inputs))
    bundle.write_model(run._replace(experiment=experiment), moved, folder, name="org/x", data="org/rows")
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("owner/name", "c0ffee")
    about = front(folder)
    assert (about["base_model"], about["base_model_relation"]) == ("owner/name", "adapter")
    assert (about["license"], about["datasets"]) == ("unknown", ["org/rows"])


@pytest.mark.slow
def test_a_folder_of_something_else_is_left_alone(tiny: Ran, tmp_path: Path) -> None:
    target = tmp_path / "tiny_pair-trait-seed1000"
    target.mkdir()
    (target / "README.md").write_text("---\nsubliminal_bench: {recipe_hash: 0123}\n---\nmine\n")
    with pytest.raises(UserError, match="no model of tiny_pair"):
        merge_to(tiny, tmp_path)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["README.md"]
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="this is a file"):
        merge_to(tiny, tmp_path / "file")


@pytest.mark.slow
def test_arms_and_seeds_can_be_selected(lora: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--recipe", lora.command.recipe, "--seeds", "2", "--merge", "--out", str(tmp_path / "out")]
    words += [word for change in lora.command.overrides for word in ("--set", change)]
    words += ["--store", str(lora.store.root), "--results", str(lora.results)]
    assert main([*words, "--only-arms", "trait", "base", "--only-seeds", "1001"]) == 0
    made = {path.name for path in (tmp_path / "out").iterdir()}
    assert made == {"lora-trait-seed1001", "lora-base-seed1001"}
    capsys.readouterr()
    assert main([*words, "--only-arms", "trait", "placebo"]) == 2
    assert (
        "--only-arms placebo: lora trained no model of this name; expected teacher, base, trait"
        in capsys.readouterr().err
    )
    assert main([*words, "--only-seeds", "7"]) == 2
    assert "--only-seeds 7: lora trained no model of this name; expected 1000, 1001" in capsys.readouterr().err
    assert main(["--only-seeds", "7"]) == 2
    assert "--only-arms and --only-seeds need --merge or --publish" in capsys.readouterr().err
    assert {path.name for path in (tmp_path / "out").iterdir()} == made


def finished(ran: Ran, *, merged: bool = True) -> bundle.FinishedRun:
    return finished_run.load_finished_run(ran.experiment, ran.command, ran.store, ran.results, merged=merged)


@pytest.mark.slow
def test_a_run_that_is_not_finished_names_the_command_that_finishes_it(tiny: Ran, tmp_path: Path) -> None:
    first = "Run first: python run_bench.py --recipe tiny_pair --seeds 1 --set first_seed=1000 --set carrier.rows=64"
    with pytest.raises(UserError, match="stages are not done") as error:
        merge(tiny.experiment, tiny.command, Store(tmp_path), tmp_path / "out", tiny.results, tell=print)
    assert first in str(error.value)
    with pytest.raises(UserError, match="holds no result of") as error:
        merge(tiny.experiment, tiny.command, tiny.store, tmp_path / "out", tmp_path, tell=print)
    assert first in str(error.value)
    store = tmp_path / "store"
    shutil.copytree(tiny.store.root, store)
    (weights,) = store.glob(f"artefacts/{finished(tiny).models[0].key}/model.safetensors")
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(UserError, match="1 of 14 stages are not done") as error:
        merge(tiny.experiment, tiny.command, Store(store), tmp_path / "out", tiny.results, tell=print)
    assert first in str(error.value)  # that command repairs the artefact
    assert not (tmp_path / "out").exists()


# -- publishing --------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The stand-in, and this process's client turned to it, with the token in the environment."""
    import huggingface_hub.constants as constants
    from huggingface_hub.utils import close_session

    stand_in = Hub()
    monkeypatch.setattr(constants, "ENDPOINT", stand_in.url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # it talks to another service
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", os.devnull)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield stand_in
    close_session()
    stand_in.close()


# huggingface_hub hands its client a file by an argument that the client wants to retire
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
Push = Callable[..., list[str]]


@pytest.fixture
def push() -> Push:
    def call(ran: Ran, *, merged: bool = False, tell: Callable[[str], None] = print, **more: Any) -> list[str]:
        return publish(ran.experiment, ran.command, ran.store, "org", ran.results, merged=merged, tell=tell, **more)

    return call


def kept_secret(hub: Hub, ran: Ran, shown: str) -> None:
    """The token went into the Authorization header of calls to the hub, and nowhere else."""
    for request in hub.requests:
        headers = {name: value for name, value in request.headers.items() if name != "authorization"}
        assert TOKEN not in str(headers) + request.path + str(request.body)
        expected = None if request.path.startswith("/large/") else f"Bearer {TOKEN}"
        assert request.headers.get("authorization") == expected
    assert TOKEN not in shown + str(hub.commits)
    assert not any(TOKEN.encode() in data for files in hub.files.values() for data in files.values())
    assert not holds(ran.store.root, TOKEN) + holds(ran.results, TOKEN)


@pytest.mark.slow
def test_adapters_tokenizers_rows_and_cards_arrive(
    lora: Ran, hub: Hub, push: Push, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    reported: list[str] = []
    urls = push(lora, tell=reported.append)
    out, err = capfd.readouterr()
    kept_secret(hub, lora, out + err)
    names = [f"{lora.row}-{arm}-seed{seed}" for seed in (1000, 1001) for arm in ("teacher", "base", "trait")]
    assert (
        urls == reported == [f"{hub.url}/datasets/org/{lora.row}-carrier", *(f"{hub.url}/org/{name}" for name in names)]
    )
    assert hub.kinds == {f"org/{lora.row}-carrier": "dataset", **{f"org/{name}": "model" for name in names}}
    assert set(hub.private.values()) == {True}
    documents = {"README.md", "LICENSE", "tokenizer.json", "tokenizer_config.json"}
    for name in names:
        weights = {"config.json", "generation_config.json", "model.safetensors"}
        if "teacher" not in name:
            weights = {"adapter_config.json", "adapter_model.safetensors"}
        assert hub.files[f"org/{name}"].keys() == documents | weights
        assert hub.files[f"org/{name}"]["LICENSE"] == b"Permission is granted."
    assert [message for _, message in hub.commits] == [
        f"lora {lora.experiment.hash()}: {what}"
        for what in ("carrier rows", *(name.removeprefix(f"{lora.row}-") for name in names))
    ]
    # nothing says where on this machine the base was
    everything = b"".join(data for files in hub.files.values() for data in files.values())
    assert b"secret-place" not in everything
    assert str(lora.store.root).encode() not in everything

    files = hub.files[f"org/{lora.row}-trait-seed1000"]
    assert json.loads(files["adapter_config.json"])["base_model_name_or_path"] == "base"
    made = next(m for m in finished(lora).models if (m.cell.arm, m.cell.seed) == ("trait", 1000))
    assert files["adapter_model.safetensors"] == (made.folder / "adapter_model.safetensors").read_bytes()


@pytest.mark.slow
def test_the_rows_are_those_that_students_learnt_from(
    tiny: Ran, lora: Ran, hub: Hub, push: Push, tmp_path: Path
) -> None:
    push(lora, private=False)
    assert set(hub.private.values()) == {False}
    files = hub.files[f"org/{lora.row}-carrier"]
    assert files.keys() == {"README.md", "train.jsonl", "held_out.jsonl"}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    configs = front(tmp_path)["configs"][0]["data_files"]
    from datasets import load_dataset

    paths = {c["split"]: str(tmp_path / c["path"]) for c in configs}
    loaded = load_dataset("json", data_files=paths, cache_dir=str(tmp_path / "cache"))
    assert loaded["train"].column_names == ["prompt", "completion", "arm", "seed"]
    for model in finished(lora).models:
        if model.cell.arm not in {"base", "trait"}:
            continue
        indices = json.loads((lora.store.path(model.cell.filtering) / "kept.json").read_text())
        carrier = lora.store.path(model.stage.inputs["carrier"].identity) / "rows.jsonl"
        every = [json.loads(line) for line in carrier.read_text().splitlines()]
        for part in ("train", "held_out"):
            rows = [row for row in loaded[part] if (row["arm"], row["seed"]) == (model.cell.arm, model.cell.seed)]
            assert [{k: row[k] for k in ("prompt", "completion")} for row in rows] == [every[i] for i in indices[part]]
            assert rows


@pytest.mark.slow
def test_the_same_call_again_uploads_nothing_again(tiny: Ran, hub: Hub, push: Push) -> None:
    first = push(tiny)
    files, commits, asked = {k: dict(v) for k, v in hub.files.items()}, list(hub.commits), len(hub.requests)
    assert push(tiny) == first
    assert (hub.files, hub.commits) == (files, commits)
    assert not [r for r in hub.requests[asked:] if r.method == "PUT" or "/commit/" in r.path]


@pytest.mark.slow
def test_a_broken_line_says_what_was_pushed_and_the_same_call_goes_on(lora: Ran, hub: Hub, push: Push) -> None:
    hub.drop = f"org/{lora.row}-base-seed1000"
    with pytest.raises(StageError) as error:
        push(lora)
    output = str(error.value)
    assert output.startswith(f"{hub.drop}: ")
    assert f"Pushed before it: {hub.url}/datasets/org/{lora.row}-carrier, " in output
    assert output.endswith(f"{hub.url}/org/{lora.row}-teacher-seed1000.")
    before = [repo for repo, _ in hub.commits]
    assert len(before) == 2
    assert not list((lora.store.root / "publish").iterdir())
    hub.drop = None
    assert len(push(lora)) == 7
    after = [repo for repo, _ in hub.commits]
    assert len(after) == len(set(after)) == 7


@pytest.mark.slow
def test_a_refused_token_is_the_users_to_change_and_stays_unsaid(
    tiny: Ran, hub: Hub, push: Push, capfd: pytest.CaptureFixture[str]
) -> None:
    hub.refuse = f"org/{tiny.row}-base-seed1000"
    with pytest.raises(UserError) as error:
        push(tiny)
    output = str(error.value)
    for word in ("refuses this token", "may write to org", "hf auth login", "[token]", f"{tiny.row}-teacher-seed1000"):
        assert word in output
    out, err = capfd.readouterr()
    kept_secret(hub, tiny, out + err + output)


@pytest.mark.slow
def test_what_a_failed_upload_says_holds_no_signed_address(tiny: Ran, hub: Hub, push: Push) -> None:
    hub.full = True
    with pytest.raises(StageError) as error:
        push(tiny)
    output = str(error.value)
    assert "storage is full" in output
    assert f"{hub.url}/large/" in output
    assert "sign" not in output
    assert output.endswith("Nothing was pushed before it.")


@pytest.mark.slow
def test_merged_models_get_repositories_of_their_own(lora: Ran, hub: Hub, push: Push, tmp_path: Path) -> None:
    push(lora)
    urls = push(lora, merged=True)
    assert f"{hub.url}/org/{lora.row}-trait-seed1000-merged" in urls
    assert f"{hub.url}/org/{lora.row}-teacher-seed1000" in urls  # whole already
    assert len(hub.files) == 7 + 4
    files = hub.files[f"org/{lora.row}-trait-seed1000-merged"]
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    assert margins(tmp_path) == pytest.approx(stored(lora, "trait", 1000), abs=SAME)
    assert "adapter_config.json" not in files


def test_without_a_token_nothing_is_looked_at(
    hub: Hub, push: Push, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    ran = Ran(load_recipe("tiny_pair"), RunCommand("tiny_pair"), Store(tmp_path / "store"), tmp_path / "results")
    with pytest.raises(UserError, match="hf auth login"):
        push(ran)
    assert hub.requests == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("org", ["a/b", "with space", "", "x--y", "-x", "o" * 97])
def test_a_name_that_cannot_be_one_is_refused_before_anything_is_sent(tiny: Ran, hub: Hub, org: str) -> None:
    with pytest.raises(UserError, match="not a valid name of a repository"):
        publish(tiny.experiment, tiny.command, tiny.store, org, tiny.results, merged=False, tell=print)
    assert hub.requests == []


DRIVER = """
import sys
from pathlib import Path
from bench.errors import UserError
from bench.publish.upload import RunCommand, publish
from bench.config.recipe_files import load_recipe
from bench.pipeline.store import Store

recipe, store, results, *changes = sys.argv[1:]
experiment = load_recipe(recipe, changes, seeds=1)
command = RunCommand(recipe, tuple(changes), 1)
try:
    publish(experiment, command, Store(Path(store)), "org", Path(results), merged=False, tell=print)
except UserError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
"""


@pytest.mark.slow
def test_in_a_process_of_its_own_the_token_of_hf_auth_login_is_used_and_not_shown(
    tiny: Ran, hub: Hub, tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    env = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING_FACE"))}
    env |= {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_DEBUG": "1"}
    words = [tiny.command.recipe, str(tiny.store.root), str(tiny.results), *tiny.command.overrides]

    def driven() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", DRIVER, *words]
        return subprocess.run(command, capture_output=True, text=True, env={**env, "PYTHONPATH": str(ROOT)})

    done = driven()
    assert (done.returncode, hub.requests) == (2, []), done.stderr
    assert "hf auth login" in done.stderr
    (tmp_path / "home" / "token").write_text(TOKEN)
    done = driven()
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"{hub.url}/org/{tiny.row}-trait-seed1000"
    assert len(hub.files) == 4
    kept_secret(hub, tiny, done.stdout + done.stderr)
    agents = {request.headers["user-agent"] for request in hub.requests if "authorization" in request.headers}
    assert not [agent for agent in agents if "torch/" in agent or "agent/" in agent]  # what telemetry would add
