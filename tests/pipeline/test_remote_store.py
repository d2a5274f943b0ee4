"""A store at a URL: artefacts are whole or absent, whoever is killed. fsspec's memory is one of its file systems."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from conftest import flip

from bench.cli import main
from bench.errors import StageError, UserError
from bench.files import find_corrupt_files, seal
from bench.models import tiny
from bench.pipeline import remote_store
from bench.pipeline.remote_store import RemoteStore, open_store
from bench.pipeline.store import Store
from tests.perf.kill_anywhere import artefacts, files, start, wait_for_lines

WORDS = [
    "--skip-controls",
    *("--seeds", "1", "--set", "first_seed=1000", "--set", "carrier.rows=64", "--set", "carrier.held_out=16"),
    *("--set", "teacher.train.max_steps=8", "--set", "student.train.max_steps=12"),
]


class Machines:
    """Machines with caches of their own, and one file system."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import fsspec

        self.folder, self.patch = folder, monkeypatch
        self.fs = fsspec.filesystem("memory")
        self.fs.store.clear()

    def __call__(self, name: str) -> RemoteStore:
        self.patch.setenv("SUBLIMINAL_CACHE", str(self.folder / name))
        store = open_store("memory://bench")
        assert isinstance(store, RemoteStore)
        return store

    def names(self) -> list[str]:
        return sorted(path.removeprefix("/bench/") for path in self.fs.find("/bench"))

    def file(self) -> str:
        """The one file at the URL beside done.json."""
        (name,) = [name for name in self.names() if not name.endswith("done.json")]
        return name


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machines:
    return Machines(tmp_path, monkeypatch)


def make(store: Store, key: str = "rows-1", text: str = "rows") -> None:
    with store.make(key, {"model": "m"}) as out:
        (out / "step-2").mkdir()
        (out / "step-2" / "rows").write_text(text)


def test_an_artefact_of_one_machine_is_that_of_another(machines: Machines) -> None:
    a, b = machines("a"), machines("b")
    assert not b.is_done("rows-1")
    make(a)
    assert b.is_done("rows-1")
    assert b.record("rows-1") == a.record("rows-1")
    assert files(b.path("rows-1")) == files(a.path("rows-1"))
    assert a.root != b.root
    assert machines.file().startswith("artefacts/rows-1/")
    assert machines.file().endswith("/step-2/rows")


def test_another_machine_unpickles_a_store_with_its_own_cache(
    machines: Machines, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = pickle.dumps(machines("a"))
    monkeypatch.setenv("SUBLIMINAL_CACHE", str(tmp_path / "b"))
    assert pickle.loads(data).root.parent == tmp_path / "b"


def test_a_checksum_mismatch_on_arrival_is_named_and_the_artefact_made_again(machines: Machines) -> None:
    a, b = machines("a"), machines("b")
    make(a)
    path = f"/bench/{machines.file()}"
    machines.fs.pipe_file(path, b"cows")
    assert b.corrupt_files("rows-1") == ["step-2/rows"]
    assert not list(b.root.glob("artefacts/*"))
    make(b)
    assert b.corrupt_files("rows-1") == []
    assert path != f"/bench/{machines.file()}"
    shutil.rmtree(a.root)
    assert a.corrupt_files("rows-1") == []


@pytest.mark.parametrize("data", [b"", b"{}", b'{"folder": "x", "record": "{}", "digest": "0"}'])
def test_a_corrupt_record_is_no_artefact(machines: Machines, data: bytes) -> None:
    make(machines("a"))
    machines.fs.pipe_file("/bench/artefacts/rows-1/done.json", data)
    b = machines("b")
    assert not b.is_done("rows-1")
    assert b.corrupt_files("rows-1") == ["done.json"]
    make(b)
    assert machines("c").corrupt_files("rows-1") == []


def test_a_corrupt_cache_is_fetched_again(machines: Machines) -> None:
    a = machines("a")
    make(a)
    flip(a.path("rows-1") / "step-2" / "rows")
    assert a.corrupt_files("rows-1") == []
    assert (a.path("rows-1") / "step-2" / "rows").read_text() == "rows"


def test_what_a_killed_machine_put_is_no_artefact_and_is_removed(machines: Machines) -> None:
    machines.fs.pipe_file("/bench/artefacts/rows-1/0123/step-2/rows", b"half")
    a = machines("a")
    assert not a.is_done("rows-1")
    assert a.corrupt_files("rows-1") == ["done.json"]
    make(a)
    assert "/0123/" not in machines.file()


def test_an_artefact_that_was_made_but_not_put_is_put_later(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = machines("a")
    with monkeypatch.context() as patch:
        patch.setattr(RemoteStore, "_put", lambda *_: (_ for _ in ()).throw(StageError("no network")))
        with pytest.raises(StageError, match="no network"):
            make(a)
    assert not a.is_done("rows-1")
    assert a.corrupt_files("rows-1") == []
    assert machines("b").is_done("rows-1")


def test_of_two_machines_that_make_an_artefact_the_first_wins(machines: Machines) -> None:
    a, b = machines("a"), machines("b")
    with b.make("rows-1", {}) as out:
        make(a, text="first")
        (out / "rows").write_text("second")
    assert machines.file()
    assert (b.path("rows-1") / "step-2" / "rows").read_text() == "first"
    assert b.corrupt_files("rows-1") == []


def checkpoint(folder: Path, step: int) -> None:
    path = folder / str(step) / "trainer"
    path.mkdir(parents=True)
    (path / "state").write_text(f"{step}")
    seal(path.parent, {"loss": 0.0})


def test_a_training_goes_on_from_the_checkpoint_of_another_machine(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_store, "PERIOD", 0.01)
    a, b = machines("a"), machines("b")

    def killed_after(steps: tuple[int, ...]) -> None:
        with a.keep_checkpoints("student-1") as folder:
            for step in steps:
                checkpoint(folder, step)
                while f"checkpoints/student-1/{step}/done.json" not in machines.names():
                    pass
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed_after((3, 12))
    with b.keep_checkpoints("student-1") as folder:
        assert [path.name for path in folder.iterdir()] == ["12"]
        assert find_corrupt_files(folder / "12") == []
    assert machines.names() == []
    assert not folder.exists()


@pytest.mark.parametrize(
    ("url", "message"),
    [("nosuch://bucket", "nosuch://bucket: "), ("file:///proc/nobody/store", "file:///proc/nobody/store: ")],
)
def test_a_url_that_cannot_be_used_is_an_error_before_anything_runs(url: str, message: str) -> None:
    with pytest.raises(UserError, match=f"^--store {message}"):
        open_store(url)


def run(folder: Path, store: str) -> int:
    """The command in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny, "DEFAULT", tiny.DEFAULT.model_copy(update={"steps": 20}))
        return main([*WORDS, "--store", store, "--results", str(folder / "results")])


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run with a folder as its store."""
    folder = tmp_path_factory.mktemp("reference")
    assert run(folder, str(folder / "store")) == 0
    return folder


def same(folder: Path, reference: Path, cache: Path) -> None:
    assert artefacts(cache) == artefacts(reference / "store")
    assert files(folder / "results") == files(reference / "results")


@pytest.mark.slow
def test_a_run_at_a_url_ends_with_the_bytes_of_a_folder_and_a_second_machine_computes_nothing(
    tmp_path: Path, reference: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"file://{tmp_path}/shared"
    for name, finished in (("a", 14), ("b", 0)):
        monkeypatch.setenv("SUBLIMINAL_CACHE", str(tmp_path / name))
        capsys.readouterr()
        assert run(tmp_path, url) == 0
        assert sum(line.startswith("[") for line in capsys.readouterr().out.splitlines()) == finished
    (cache,) = (tmp_path / "a").iterdir()
    same(tmp_path, reference, cache)


# -- an S3 server of this machine: pip install "moto[server]" s3fs -----------------------------------------------------


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of a server with the bucket `bench`; environment variables point the command to it."""
    moto = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    import boto3

    server = moto.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "planted-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
    monkeypatch.setenv("SUBLIMINAL_CACHE", str(tmp_path / "cache"))
    client = boto3.client("s3", region_name="us-east-1")
    client.create_bucket(Bucket="bench")
    yield client
    urlopen(Request(f"http://{host}:{port}/moto-api/reset", method="POST")).close()  # or the next one has its buckets
    server.stop()


@pytest.mark.extras
@pytest.mark.slow
def test_killed_between_puts_a_run_on_s3_ends_as_if_undisturbed(bucket: Any, tmp_path: Path, reference: Path) -> None:
    words = [*WORDS, "--store", "s3://bench/runs"]
    for lines in (1, 5, 9):
        process = start(tmp_path, words, {"TINY_STEPS": "20"})
        wait_for_lines(process, lines, 120)
        process.kill()
        process.communicate()
        shutil.rmtree(tmp_path / "cache")  # another machine goes on
    process = start(tmp_path, words, {"TINY_STEPS": "20"})
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "[1/14]" not in out
    os.environ["SUBLIMINAL_CACHE"] = str(tmp_path / "cache")
    for key in artefacts(reference / "store"):
        RemoteStore("s3://bench/runs").path(key.partition("/")[0])
    (cache,) = (tmp_path / "cache").iterdir()
    same(tmp_path, reference, cache)
    assert "planted" not in out + err + "".join(str(data) for data in files(cache).values())


@pytest.mark.extras
def test_wrong_credentials_and_a_missing_bucket_are_one_clear_line(
    bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"^--store s3://nobody/x: not found, was it removed"):
        open_store("s3://nobody/x")
    store = open_store("s3://bench/x")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", "/nowhere")
    __import__("s3fs").S3FileSystem.clear_instance_cache()
    with pytest.raises(UserError, match=r"^--store s3://bench/y: NoCredentialsError: Unable to locate credentials"):
        open_store("s3://bench/y")
    bucket.delete_bucket(Bucket="bench")
    with pytest.raises(StageError, match=r"^--store s3://bench/x: not found, was it removed"):
        make(store)
