from __future__ import annotations

import errno
from pathlib import Path

import pytest

from bench.files import write_atomically
from bench.pipeline.store import Store
from bench.pipeline.worker import describe_disk_error
from tests.perf.kill_anywhere import files


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), Exception("I/O error: (os error 28)")]
)
def test_a_write_that_fails_leaves_nothing_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    store = Store(tmp_path / "store")

    def fail() -> None:
        with store.make("k", {}) as out:
            (out / "half").write_text("half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert not list((tmp_path / "store" / "tmp").iterdir())
    assert not store.path("k").exists()
    assert describe_disk_error(error, tmp_path) == f"{tmp_path}: the disk is full: make room"
    assert describe_disk_error(ValueError("another"), tmp_path) is None
    write_atomically(tmp_path / "r" / "a.json", "old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(tmp_path / "r" / "a.json", "new")
    assert files(tmp_path / "r") == {"a.json": b"old"}
