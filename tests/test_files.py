from __future__ import annotations

import hashlib
from pathlib import Path

from bench.files import digest, file_sha256, find_corrupt_files, seal, write_atomically


def test_a_digest_follows_content_and_not_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1}) != digest({"a": 1, "b": [3]})


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    for content in ("old", "İ"):
        write_atomically(path, content)
        assert path.read_text(encoding="utf-8") == content
        assert file_sha256(path) == hashlib.sha256(content.encode()).hexdigest()
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


def test_corrupt_and_missing_files_are_named(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
    seal(tmp_path, {})
    assert find_corrupt_files(tmp_path) == []
    (tmp_path / "a").write_text("x")
    (tmp_path / "c").unlink()
    assert sorted(find_corrupt_files(tmp_path)) == ["a", "c"]
