"""Data of a page in parts that the browser loads when it needs them.

A page opened from a folder may not read files, but it may run scripts. So each part is a script that hands over
compressed JSON: `part("<name>", "<base64 of gzip>")`.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.files import write_atomically

__all__ = ["PART_ROWS", "write_part", "write_parts"]

LEVEL = 4  # of gzip: 9 takes ten times as long for a tenth less
PART_ROWS = 250  # records of one part: a few hundred kilobytes before compression


def write_part(folder: Path, name: str, value: Any) -> None:
    """Write one part. The same value gives the same bytes."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    packed = base64.b64encode(gzip.compress(text.encode(), LEVEL, mtime=0)).decode()
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / f"{name}.js", f'part("{name}","{packed}")\n')


def write_parts(folder: Path, name: str, records: Sequence[Any]) -> int:
    """Write records as the parts `<name>_0`, `<name>_1`, ..., and return their number."""
    starts = range(0, len(records), PART_ROWS)
    for number, start in enumerate(starts):
        write_part(folder, f"{name}_{number}", records[start : start + PART_ROWS])
    return len(starts)
