from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import flip

from bench.files import SMALL_FILE, digest, exclusive_lock, file_sha256, write_atomically
from bench.pipeline.store import Store


def make(store: Store, key: str = "k", text: str = "hello") -> None:
    with store.make(key, {"commit": "c"}) as out:
        (out / "sub").mkdir()
        (out / "sub" / "file.txt").write_text(text)


def test_an_artefact_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fail() -> None:
        with store.make("k", {}) as out:
            (out / "file.txt").write_text("half")
            assert not store.is_done("k")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not store.path("k").exists()
    assert not list((tmp_path / "tmp").iterdir())
    make(store)
    assert store.is_done("k")
    assert store.record("k")["commit"] == "c"


def test_damage_is_found_and_made_good(tmp_path: Path) -> None:
    store = Store(tmp_path)
    make(store)
    file = store.path("k") / "sub" / "file.txt"
    for damaged in ("jello", "hell", None):  # a byte, the size, the file
        file.write_text(damaged) if damaged else file.unlink()
        assert not store.is_done("k")
        assert store.corrupt_files("k") == ["sub/file.txt"]
        make(store)
        assert store.is_done("k")
        assert store.corrupt_files("k") == []
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize("text", ["", "[]", "{", '{"files": []}', '{"files": {"a": 1}}', "[" * 100_000, "\0", None])
def test_a_damaged_record_is_damage(tmp_path: Path, text: str | None) -> None:
    store = Store(tmp_path)
    make(store)
    done = store.path("k") / "done.json"
    done.write_text(done.read_text().replace('"commit": "c"', '"commit": "d"') if text is None else text)
    assert not store.is_done("k")
    assert store.corrupt_files("k") == ["done.json"]


def test_a_large_file_is_read_again_only_when_it_changed_or_a_stage_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, read = Store(tmp_path), []
    make(store, text="x" * (SMALL_FILE + 1))
    monkeypatch.setattr("bench.files.file_sha256", lambda path: read.append(path) or file_sha256(path))
    assert store.is_done("k")
    assert read == []
    file = store.path("k") / "sub" / "file.txt"
    when = file.stat().st_mtime_ns
    flip(file)
    os.utime(file, ns=(when, when))  # as a failing disk would do it
    assert store.is_done("k")
    assert store.corrupt_files("k") == store.corrupt_files("k") == ["sub/file.txt"]
    assert read == [file]
    os.utime(file)
    assert not store.is_done("k")


def test_what_killed_processes_left_is_swept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    make(store)
    for left in ("tmp/k.123", "tmp/held.123", "checkpoints/k", "checkpoints/half"):
        (tmp_path / left).mkdir(parents=True)
    with store.lock("held"):
        store.sweep()
    assert {str(p.relative_to(tmp_path)) for p in tmp_path.glob("[tc]*/*")} == {"tmp/held.123", "checkpoints/half"}


def test_only_this_host_s_dead_processes_temporary_files_are_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    killed = f"""
import os, signal
from pathlib import Path
from unittest.mock import patch
from bench.files import write_atomically
die = lambda _: os.kill(os.getpid(), signal.SIGKILL)
with patch("socket.gethostname", lambda: "node-1.b.json"), patch("os.fsync", die):
    write_atomically(Path({str(tmp_path)!r}) / "a.json", "half")
"""
    subprocess.run([sys.executable, "-c", killed], check=False)
    (left,) = tmp_path.iterdir()
    for host, swept in (("node-1", False), ("node-2.b.json", False), ("b.json", False), ("node-1.b.json", True)):
        monkeypatch.setattr("socket.gethostname", lambda host=host: host)
        write_atomically(tmp_path / "a.json", f"whole, by {host}")
        write_atomically(tmp_path / "b.json", f"whole, by {host}")
        assert left.exists() != swept
    own = tmp_path / left.name.replace(left.name.split(".")[-2], str(os.getpid()))
    own.write_text("half, by a process that lives")
    write_atomically(tmp_path / "a.json", "whole")
    assert own.exists()


def test_a_folder_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "n"
    path.write_text("0")

    def add() -> None:
        for _ in range(50):
            with exclusive_lock(tmp_path):
                path.write_text(str(int(path.read_text()) + 1))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() == "200"


def test_a_lock_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    store, inside, most = Store(tmp_path), [0], [0]

    def work() -> None:
        with store.lock("k"):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.02)
            inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


def test_keys_do_not_depend_on_order(tmp_path: Path) -> None:
    assert digest({"a": 1, "b": [2, "ş"]}) == digest({"b": [2, "ş"], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_a_failed_write_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
