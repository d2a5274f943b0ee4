"""YAML files a user writes: read with `yaml.safe_load`, merged along `from:`, checked against a schema."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from bench.errors import UserError

__all__ = [
    "STARTS",
    "Frozen",
    "Layer",
    "find_file",
    "lay",
    "layers",
    "list_names",
    "load_yaml",
    "read_assignment",
    "stated_in",
    "validate",
]

MAX_BYTES = 4_000_000
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}")
MAX_DEPTH = 20  # keys within keys
MAX_LINE = 200  # characters of a line that tells of an error, whatever was read
STARTS = "a path in a file starts at that file's folder, one of --set at the working directory"


class Frozen(BaseModel):
    """A contract between modules: immutable, and no key beyond those it names."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


M = TypeVar("M", bound=Frozen)


class _Loader(yaml.SafeLoader):
    """`safe_load` without aliases (a few lines of them can stand for gigabytes), without a key that is there twice (the
    first would be lost in silence), and with YAML 1.2 floats (2e-5)."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            line = self.peek_event().start_mark.line + 1  # type: ignore[no-untyped-call]  # PyYAML's stubs leave it untyped
            raise yaml.YAMLError(f"line {line}: aliases (*name) are not allowed")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.YAMLError(f"line {key.start_mark.line + 1}: the key {_clip(key.value)!r} is there twice")
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _clip(text: str, width: int = MAX_LINE) -> str:
    """`text` on one line of at most `width` characters, without those that would steer a terminal."""
    line = " ".join(text[: 4 * width].split())
    line = "".join(c if c.isprintable() else "?" for c in line)
    return line if len(line) <= width else line[: width - 3] + "..."


def _plain(data: Any, place: str = "", depth: int = 0) -> None:
    """Let only what JSON can hold pass: text, finite numbers of at most 64 bits, true, false, null, lists, keys.

    Raises:
        ValueError: naming the key.
    """
    where = f"key {_clip(place, 80)!r}: " if place else ""
    if depth > MAX_DEPTH:
        raise ValueError(f"{where}keys within keys, more than {MAX_DEPTH} deep")
    if isinstance(data, dict):
        for key, value in data.items():
            if not isinstance(key, str):
                raise ValueError(f"{where}the key {_clip(repr(key), 40)} is not text; put it in quotes")
            _plain(key, place, depth)
            _plain(value, f"{place}.{key}".lstrip("."), depth + 1)
    elif isinstance(data, list):
        for i, value in enumerate(data):
            _plain(value, f"{place}.{i}".lstrip("."), depth + 1)
    elif isinstance(data, str):
        if any(0xD800 <= ord(c) <= 0xDFFF or c == "\0" for c in data):
            raise ValueError(f"{where}holds a character that is no text (a lone surrogate or \\0)")
    elif isinstance(data, int):
        if data.bit_length() > 63:
            raise ValueError(f"{where}a number of {data.bit_length()} bits; at most 63 make sense")
    elif isinstance(data, float):
        if not math.isfinite(data):
            raise ValueError(f"{where}{data} is not a finite number")
    elif data is not None:
        raise ValueError(f"{where}a {type(data).__name__} is neither text, a number, a list nor keys; put it in quotes")


# What PyYAML raises on text that is none: for a date that does not exist, say, or a key that is a list.
YAML_ERRORS = (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError, RecursionError)


def list_names(folder: Path) -> list[str]:
    """The names of the YAML files in `folder`; those of `*.base.yaml`, which only serve a `from:`, left out."""
    return sorted(p.stem for p in folder.glob("*.yaml") if not p.stem.endswith(".base"))


def find_file(name: str, folder: Path, what: str, *, base: Path = Path(), endings: str = ".yaml, .yml") -> Path:
    """The file meant by `name`: a path to a YAML file, or a name under `folder`.

    Args:
        base: where a relative path starts.
        endings: of the files that `name` may be, for the error.

    Raises:
        UserError: no such file; the names that exist are listed.
    """
    if name.endswith((".yaml", ".yml")):
        if not NAME.fullmatch(Path(name).stem):  # it becomes a folder of results: `...yaml` would be their parent
            raise UserError(
                f"{_clip(name)}: a {what} file's name must begin with a letter or digit and hold only letters, digits, "
                "_ . - (at most 100)"
            )
        if _is_file(base / name):
            return base / name
        raise UserError(f"{_clip(name)}: no such {what} file in {base.absolute()} ({STARTS})")
    path = folder / f"{name}.yaml"
    if not NAME.fullmatch(name) or not path.is_file():
        known = list_names(folder)
        near = difflib.get_close_matches(name[:100], known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UserError(
            f"{what} {_clip(name)!r} does not exist: {hint}there are {', '.join(known)} (in {folder}); "
            f"the name of a file ends in {endings}"
        )
    return path


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long for the system
        return False


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = path.read_bytes()
        if len(raw) > MAX_BYTES:
            raise UserError(f"{path}: {len(raw):,} bytes; a file of this kind has at most {MAX_BYTES:,}")
        data = yaml.load(raw.decode("utf-8"), Loader=_Loader)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except YAML_ERRORS as error:
        raise UserError(f"{path}: not valid YAML: {_clip(str(error))}") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected keys and values ('trait: wolf'), found {type(data).__name__}")
    try:
        _plain(data)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    return data


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` laid on `base`, key by key; `null` takes a key of `base` away, another `kind` takes all of them."""
    if base.get("kind", over.get("kind")) != over.get("kind", base.get("kind")):
        return over
    out = dict(base)
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(out.get(key), dict):
            out[key] = _merge(out[key], value)
        elif value is None and key in out:
            del out[key]
        else:
            out[key] = value
    return out


class Layer(NamedTuple):
    """Keys that are stated together: by one file, or by one `--set`. Their relative paths start at `folder`."""

    folder: Path
    keys: dict[str, Any]


def layers(path: Path, what: str, home: Path) -> list[Layer]:
    """What a YAML file states, after what the file that its `from:` names states, and so on.

    `from:` names a file next to it, else in `home`, or is a path.

    Raises:
        UserError: unreadable, not YAML, or `from:` goes in a circle.
    """
    chain: list[tuple[Path, dict[str, Any]]] = []
    at: Path | None = path
    while at is not None:
        if any(at.resolve() == seen.resolve() for seen, _ in chain):
            raise UserError(f"{path}: key 'from': goes in a circle through {at.name}")
        data = _read(at)
        parent = data.pop("from", None)
        if parent is not None and not isinstance(parent, str):
            raise UserError(f"{at}: key 'from': expected the name of one {what}, found {_clip(repr(parent), 80)}")
        chain.append((at, data))
        if parent is not None:
            near = _is_file(at.parent / f"{parent}.yaml")
            at = find_file(parent, at.parent if near else home, f"{what} (key 'from' of {at.name})", base=at.parent)
        else:
            at = None
    return [Layer(file.parent, data) for file, data in reversed(chain)]


def lay(parts: Sequence[Layer]) -> dict[str, Any]:
    """The keys of all layers, the later ones laid over the earlier."""
    merged: dict[str, Any] = {}
    for layer in parts:
        merged = _merge(merged, layer.keys)
    return merged


def stated_in(parts: Sequence[Layer], *key: str) -> Path:
    """The folder of the last layer that states a key: where a relative path in it starts."""
    for folder, keys in parts[::-1]:
        value: Any = keys
        for part in key:
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None:
            return folder
    return Path()


def load_yaml(path: Path, what: str, home: Path) -> dict[str, Any]:
    """The keys of a YAML file laid over those of its `from:`; see `layers`."""
    return lay(layers(path, what, home))


def read_assignment(assignment: str) -> dict[str, Any]:
    """The keys that one `a.b.c=value` of the command states; the value is read as YAML.

    Raises:
        UserError: not of that form, or without a value.
    """
    key, eq, text = assignment.partition("=")
    parts = key.strip().split(".")
    flag = f"--set {_clip(assignment, 80)}"
    if not eq or not all(parts) or len(parts) > MAX_DEPTH:
        raise UserError(f"{flag}: expected KEY=VALUE, as in --set student.train.learning_rate=1e-4")
    try:
        value = yaml.load(text, Loader=_Loader)
    except YAML_ERRORS as error:
        raise UserError(f"{flag}: not valid YAML: {_clip(str(error))}") from None
    if value is None and text.strip().lower() not in {"null", "~"}:
        name = _clip(key.strip(), 80)
        raise UserError(
            f"{flag}: no value; expected KEY=VALUE (a text of spaces in quotes, as in --set '{name}=\" \"'; "
            f"to take the key out: {name}=null)"
        )
    for part in reversed(parts):
        value = {part: value}
    try:
        _plain(value)
    except ValueError as error:
        raise UserError(f"{flag}: {error}") from None
    return dict(value)


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models in an annotation: itself, or those of a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _kinds(model: type[BaseModel]) -> tuple[Any, ...]:
    """The values that the key `kind` of a model may have; none where it has no such key."""
    return get_args(model.model_fields["kind"].annotation) if "kind" in model.model_fields else ()


def _of_kind(models: list[type[BaseModel]], data: Any) -> list[type[BaseModel]]:
    """Those of `models` that `data` says it is; all of them where it does not say."""
    kind = data.get("kind") if isinstance(data, dict) else None
    return [model for model in models if kind in _kinds(model)] or models


def _at(schema: type[Frozen], data: Any, place: tuple[Any, ...]) -> tuple[list[type[BaseModel]], Any]:
    """The models that may stand at a place of `data`, and what stands there."""
    models: list[type[BaseModel]] = [schema]
    for part in place:
        fitting = [model for model in _of_kind(models, data) if part in model.model_fields]
        models = [inner for model in fitting for inner in _models(model.model_fields[part].annotation)] or models
        data = data[part]
    return models, data


def _unknown_key(schema: type[Frozen], data: Any, place: tuple[Any, ...]) -> str:
    """What to do about a key that the schema does not know."""
    models, around = _at(schema, data, place[:-1])
    fitting = _of_kind(models, around)
    known = sorted({name for model in fitting for name in model.model_fields})
    others = [kind for model in models if place[-1] in model.model_fields for kind in _kinds(model)]
    if others:
        return f"a key of kind {', '.join(others)}; valid keys of kind {around['kind']}: {', '.join(known)}"
    near = difflib.get_close_matches(str(place[-1])[:100], known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"valid keys: {', '.join(known)}"


def _complaint(schema: type[Frozen], data: Any, place: tuple[Any, ...], item: Any) -> str:
    """One line on what is wrong at a place of `data`, in the words of a user's file."""
    dotted = _clip(".".join(str(p) for p in place), 80)
    message = _clip(item["msg"].removeprefix("Value error, ").replace("Input should be", "expected"))
    if not place:  # a rule between keys, which says what it found
        return message
    if item["type"] == "extra_forbidden":
        return f"unknown key {dotted!r}: {_unknown_key(schema, data, place)}"
    if item["type"] == "missing":
        return f"key {dotted!r} is missing"
    if item["type"] in {"union_tag_invalid", "union_tag_not_found"}:
        models, around = _at(schema, data, place)
        kinds = [str(kind) for model in models for kind in _kinds(model)]
        wanted = f"key '{dotted}.kind': expected one of {', '.join(kinds)}"
        if "kind" not in around:
            return f"{wanted}, found no such key"
        near = difflib.get_close_matches(str(around["kind"])[:100], kinds, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        return f"{wanted}{hint}, found {_clip(repr(around['kind']), 80)}"
    held = "" if isinstance(item["input"], dict) and item["type"] == "value_error" else _clip(repr(item["input"]), 80)
    return f"key {dotted!r}: {message}" + (f", found {held}" if held else "")


def _place(location: tuple[int | str, ...], data: Any, *, missing: bool) -> tuple[int | str, ...]:
    """A location in `data` without the names of union members that pydantic puts between and after its keys."""
    out: list[int | str] = []
    for at, part in enumerate(location):
        inside = isinstance(part, int) if isinstance(data, list | tuple) else isinstance(data, dict) and part in data
        if inside:
            data = data[part]
        if inside or (missing and at == len(location) - 1):
            out.append(part)
    return tuple(out)


def validate(schema: type[M], data: dict[str, Any], source: str) -> M:
    """`data` as a frozen model.

    Raises:
        UserError: naming `source`, every bad key, and for an unknown key the nearest valid one.
    """
    try:
        # as JSON, strictly: a list may be a tuple, but neither `true` nor "3" is the number of seeds
        return schema.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        found = [(_place(e["loc"], data, missing=e["type"] == "missing"), e) for e in error.errors(include_url=False)]
        around = {place[:depth] for place, _ in found for depth in range(len(place))}
        # where another member of a union came further, its complaint is the one that helps
        lines = [f"{source}: {_complaint(schema, data, place, item)}" for place, item in found if place not in around]
        raise UserError("\n".join(lines[:8])) from None
