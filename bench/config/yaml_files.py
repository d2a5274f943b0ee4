"""Read users' YAML files safely, and merge them along `from:`."""

from __future__ import annotations

import copy
import difflib
import functools
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from bench.config.schema import clip_line
from bench.errors import UserError

__all__ = [
    "PATH_RULE",
    "Layer",
    "find_file",
    "folder_of_key",
    "list_names",
    "load_yaml",
    "merge_layers",
    "read_assignment",
    "read_layers",
]

MAX_BYTES = 4_000_000
MAX_DEPTH = 20  # levels of nested keys
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}")
PATH_RULE = "a path in a file starts at that file's folder, one of --set at the working directory"

# PyYAML raises these on invalid YAML: a date that does not exist, or a key that is a list.
YAML_ERRORS = (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError, RecursionError)


class _Loader(yaml.SafeLoader):
    """A `SafeLoader` that refuses aliases, duplicate keys and empty values, and reads YAML 1.2 floats (2e-5).

    A few lines of aliases can expand to gigabytes. Of a duplicate key, PyYAML silently drops the first value. An empty
    value is null, which removes a key: `{separator: }` would silently be the default.
    """

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        line = self.peek_event().start_mark.line + 1  # type: ignore[no-untyped-call]  # PyYAML's stubs leave it untyped
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"line {line}: aliases (*name) are not allowed")
        if self.depth > MAX_DEPTH + 1:  # PyYAML takes a second for 3,000 brackets
            raise yaml.YAMLError(f"line {line}: nested more than {MAX_DEPTH} levels deep")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                line = key.start_mark.line + 1
                if isinstance(value, yaml.ScalarNode) and not value.value and value.style is None:
                    raise yaml.YAMLError(
                        f"line {line}: the key {clip_line(key.value)!r} has no value (quote a text of spaces, as in "
                        f'{clip_line(key.value, 80)}: " "; to remove the key: {clip_line(key.value, 80)}: null)'
                    )
                if key.value in keys:
                    raise yaml.YAMLError(f"line {line}: the key {clip_line(key.value)!r} appears twice")
                keys.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def list_names(folder: Path) -> list[str]:
    """List the names of the YAML files in `folder`, without `*.base.yaml`, which is for `from:` only."""
    return sorted(p.stem for p in folder.glob("*.yaml") if not p.stem.endswith(".base"))


def find_file(
    name: str, folder: Path, file_type: str, *, relative_to: Path = Path(), endings: str = ".yaml, .yml"
) -> Path:
    """Find the file that `name` refers to: a path to a YAML file, or a name under `folder`.

    Args:
        name: the path or name.
        folder: the folder of the files that ship with the benchmark.
        file_type: for errors, such as `recipe`.
        relative_to: the folder at which a relative path starts.
        endings: for errors, the endings of the files that `name` may refer to.

    Raises:
        UserError: no such file; the error lists the names in `folder`.
    """
    if name.endswith((".yaml", ".yml")):
        if not NAME.fullmatch(Path(name).stem):  # the name of a folder of results; `...yaml` would be the parent folder
            raise UserError(
                f"{clip_line(name)}: a {file_type} file's name must begin with a letter or digit and contain only "
                "letters, digits, _ . - (at most 100)"
            )
        if _is_file(relative_to / name):
            return relative_to / name
        raise UserError(f"{clip_line(name)}: no such {file_type} file in {relative_to.absolute()} ({PATH_RULE})")
    path = folder / f"{name}.yaml"
    if not NAME.fullmatch(name) or not path.is_file():
        names = list_names(folder)
        near = difflib.get_close_matches(name[:100], names, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UserError(
            f"{file_type} {clip_line(name)!r} does not exist: {hint}there are {', '.join(names)} (in {folder}); "
            f"the name of a file ends in {endings}"
        )
    return path


class Layer(NamedTuple):
    """The keys of one file, or of one `--set`."""

    folder: Path
    """The folder at which their relative paths start."""
    keys: dict[str, Any]


def read_layers(path: Path, file_type: str, shipped: Path) -> list[Layer]:
    """Read a YAML file and the files that it inherits from, the most basic one first.

    `from:` names a file in the same folder, a file in `shipped`, or a path.

    Raises:
        UserError: a file is unreadable or not YAML, or `from:` goes in a circle.
    """
    layers: list[Layer] = []
    visited: set[Path] = set()
    current: Path | None = path
    while current is not None:
        if current.resolve() in visited:
            raise UserError(f"{path}: key 'from': goes in a circle through {current.name}")
        visited.add(current.resolve())
        keys = _read(current)
        parent = keys.pop("from", None)
        if parent is not None and not isinstance(parent, str):
            raise UserError(
                f"{current}: key 'from': expected the name of one {file_type}, found {clip_line(repr(parent), 80)}"
            )
        folder = current.parent
        layers.append(Layer(folder, keys))
        if parent is not None:
            names_folder = folder if _is_file(folder / f"{parent}.yaml") else shipped
            child = f"{file_type} (key 'from' of {current.name})"
            current = find_file(parent, names_folder, child, relative_to=folder)
        else:
            current = None
    return layers[::-1]


def merge_layers(layers: Sequence[Layer]) -> dict[str, Any]:
    """Merge the keys of all layers; later layers override earlier ones."""
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = _merge(merged, layer.keys)
    return merged


def folder_of_key(layers: Sequence[Layer], *path: str) -> Path:
    """Return the folder of the last layer that states a key: relative paths in the key start there."""
    for folder, keys in layers[::-1]:
        value: Any = keys
        for part in path:
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None:
            return folder
    return Path()


def load_yaml(path: Path, file_type: str, shipped: Path) -> dict[str, Any]:
    """Read a YAML file and merge it with the files that it inherits from; see `read_layers`."""
    return merge_layers(read_layers(path, file_type, shipped))


def read_assignment(assignment: str) -> dict[str, Any]:
    """Turn one `a.b.c=value` of the command line into nested keys; the value is YAML.

    Raises:
        UserError: another form, invalid YAML, or no value.
    """
    key, equals, text = assignment.partition("=")
    path = key.strip().split(".")
    flag = f"--set {clip_line(assignment, 80)}"
    if not equals or not all(path) or len(path) > MAX_DEPTH:
        raise UserError(f"{flag}: expected KEY=VALUE, as in --set student.train.learning_rate=1e-4")
    try:
        value = yaml.load(text, Loader=_Loader)
    except YAML_ERRORS as error:
        raise UserError(f"{flag}: not valid YAML: {clip_line(str(error))}") from None
    if value is None and text.strip().lower() not in {"null", "~"}:
        name = clip_line(key.strip(), 80)
        raise UserError(
            f"{flag}: no value; expected KEY=VALUE (quote a text of spaces, as in --set '{name}=\" \"'; "
            f"to remove the key: {name}=null)"
        )
    for part in reversed(path):
        value = {part: value}
    try:
        _check_json(value)
    except ValueError as error:
        raise UserError(f"{flag}: {error}") from None
    return dict(value)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long for the system
        return False


@functools.lru_cache(maxsize=64)  # 7 to 60 ms for a trait, which a recipe shares with its reference
def _parse(content: bytes) -> Any:
    return yaml.load(content.decode("utf-8"), Loader=_Loader)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = path.read_bytes()
        if len(content) > MAX_BYTES:
            raise UserError(f"{path}: {len(content):,} bytes; a file of this kind has at most {MAX_BYTES:,}")
        data = copy.deepcopy(_parse(content))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except YAML_ERRORS as error:
        raise UserError(f"{path}: not valid YAML: {clip_line(str(error))}") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected keys and values ('trait: wolf'), found {type(data).__name__}")
    try:
        _check_json(data)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    return data


def _check_json(data: Any, path: str = "", depth: int = 0) -> None:
    """Check that `data` is plain JSON: text, finite numbers of at most 63 bits, true, false, null, lists, text keys.

    Raises:
        ValueError: names the key.
    """
    key_name = f"key {clip_line(path, 80)!r}: " if path else ""
    if depth > MAX_DEPTH:
        raise ValueError(f"{key_name}keys are nested more than {MAX_DEPTH} levels deep")
    if isinstance(data, dict):
        for key, value in data.items():
            if not isinstance(key, str):
                raise ValueError(f"{key_name}the key {clip_line(repr(key), 40)} is not text; put it in quotes")
            _check_json(key, path, depth)
            _check_json(value, f"{path}.{key}".lstrip("."), depth + 1)
    elif isinstance(data, list):
        for i, value in enumerate(data):
            _check_json(value, f"{path}.{i}".lstrip("."), depth + 1)
    elif isinstance(data, str):
        if any(0xD800 <= ord(c) <= 0xDFFF or c == "\0" for c in data):
            raise ValueError(f"{key_name}contains a character that is not text (a lone surrogate or \\0)")
    elif isinstance(data, int):
        if data.bit_length() > 63:
            raise ValueError(f"{key_name}expected a number of at most 63 bits, found {data.bit_length()} bits")
    elif isinstance(data, float):
        if not math.isfinite(data):
            raise ValueError(f"{key_name}expected a finite number, found {data}")
    elif data is not None:
        raise ValueError(
            f"{key_name}expected text, a number, a list or keys, found a {type(data).__name__}; put it in quotes"
        )


def _merge(lower: dict[str, Any], upper: dict[str, Any]) -> dict[str, Any]:
    """Override `lower` by `upper`, key by key. `null` removes a key; another `kind` replaces all keys."""
    if lower.get("kind", upper.get("kind")) != upper.get("kind", lower.get("kind")):
        return upper
    merged = dict(lower)
    for key, value in upper.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _merge(merged[key], value)
        elif value is None and key in merged:
            del merged[key]
        else:
            merged[key] = value
    return merged
