"""Read the data files of the report site."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["read_part", "read_shares"]

SCRIPT = re.compile(r'part\("(\w+)","([A-Za-z0-9+/=]*)"\)\n')


def read_shares(part: Any, arm: str) -> Any:
    """The shares of one arm in a part of the answers, (records, candidates)."""
    return np.frombuffer(base64.b64decode(part["shares"][arm]), dtype="<u2").reshape(part["rows"], -1)


def read_part(path: Path) -> Any:
    """The value that a data file hands over."""
    match = SCRIPT.fullmatch(path.read_text(encoding="ascii"))
    assert match is not None
    assert match[1] == path.stem
    return json.loads(gzip.decompress(base64.b64decode(match[2])))
