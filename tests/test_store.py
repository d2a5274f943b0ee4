from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from bench.store import Store, digest, write_atomically


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
    file.write_text("jello")
    assert store.is_done("k")  # same size: only its checksum tells
    assert store.damaged("k") == ["sub/file.txt"]
    file.write_text("hell")
    assert not store.is_done("k")
    make(store)
    assert store.is_done("k")
    assert store.damaged("k") == []
    (store.path("k") / "done.json").write_text("[]")
    assert not store.is_done("k")


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
