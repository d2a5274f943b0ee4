from __future__ import annotations

from pathlib import Path

from bench.pipeline.imported_checkpoints import import_folder
from bench.pipeline.plan import Ref
from bench.pipeline.store import Store


def test_a_checkpoint_is_copied_once_and_other_inputs_stay(tmp_path: Path) -> None:
    folder, store = tmp_path / "model", Store(tmp_path / "store")
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "weights.bin").write_text("mine")
    ref = import_folder(store, Ref("abc", folder), "./model")
    assert ref.folder is None
    copied = store.path(ref.identity)
    assert {path.name for path in copied.iterdir()} == {"config.json", "done.json"}
    before = (copied / "done.json").stat().st_mtime_ns
    assert import_folder(store, Ref("abc", folder), "./model") == ref
    assert (copied / "done.json").stat().st_mtime_ns == before
    assert import_folder(store, ref, "") == ref
