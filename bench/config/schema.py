"""Check a user's keys against a schema, and describe errors in the words of the user's file."""

from __future__ import annotations

import difflib
import json
from typing import Any, ClassVar, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, ValidationError, model_serializer

from bench.errors import UserError

__all__ = ["GrowingModel", "StrictModel", "clip_line", "validate"]

LINE_WIDTH = 200  # characters of user input or library text in one error line
MAX_ERRORS = 8
RENAMED = {"ask": "evaluate"}  # a key of earlier versions, which is like no valid key


class StrictModel(BaseModel):
    """An immutable schema that refuses unknown keys and non-finite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class GrowingModel(StrictModel):
    """A schema whose later keys are left out of its data while they have their default.

    Hashes of experiments and keys of artefacts from before these keys stay as they are.
    """

    later: ClassVar[frozenset[str]]
    """The names of these keys."""

    @model_serializer(mode="wrap")
    def _leave_out_defaults(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data: dict[str, Any] = serialise(self)
        fields = type(self).model_fields
        unchanged = {name for name in self.later if getattr(self, name) == fields[name].default}
        return {name: value for name, value in data.items() if name not in unchanged}


M = TypeVar("M", bound=StrictModel)


def validate(schema: type[M], data: dict[str, Any], source: str) -> M:
    """Turn `data` into an instance of `schema`.

    Args:
        schema: the model to build.
        data: plain JSON data.
        source: the file or flag that errors name.

    Raises:
        UserError: one line for each of the first 8 bad keys; an unknown key comes with the nearest valid one.
    """
    try:
        # Strict JSON mode: a list may become a tuple, but neither `true` nor "3" is accepted as the number of seeds.
        return schema.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        paths = [_key_path(e["loc"], data, keep_last=e["type"] == "missing") for e in errors]
        parents = {path[:depth] for path in paths for depth in range(len(path))}
        # Every member of a union reports an error. Only the errors at the deepest keys help.
        lines = [
            f"{source}: {_describe_error(schema, data, path, e)}"
            for path, e in zip(paths, errors, strict=True)
            if path not in parents
        ]
        raise UserError("\n".join(lines[:MAX_ERRORS])) from None


def clip_line(text: str, width: int = LINE_WIDTH) -> str:
    """Put `text` on one line of at most `width` characters, with `?` in place of control characters."""
    line = " ".join(text[: 4 * width].split())
    line = "".join(c if c.isprintable() else "?" for c in line)
    return line if len(line) <= width else line[: width - 3] + "..."


def _key_path(location: tuple[int | str, ...], data: Any, *, keep_last: bool) -> tuple[int | str, ...]:
    """Remove the names of union members that pydantic puts between the keys of an error's location.

    Args:
        location: as pydantic reports it.
        data: the data that was checked.
        keep_last: keep the last part although `data` lacks it: it is the missing key.
    """
    path: list[int | str] = []
    for i, part in enumerate(location):
        exists = isinstance(part, int) if isinstance(data, list | tuple) else isinstance(data, dict) and part in data
        if exists:
            data = data[part]
        if exists or (keep_last and i == len(location) - 1):
            path.append(part)
    return tuple(path)


def _describe_error(schema: type[StrictModel], data: Any, path: tuple[Any, ...], error: Any) -> str:
    """Describe one pydantic error in one line: the key, the expected value, the value found."""
    dotted = clip_line(".".join(str(part) for part in path), 80)
    message = clip_line(error["msg"].removeprefix("Value error, ").replace("Input should be", "expected"))
    if not path:  # a rule between keys, and its message names them
        return message
    if error["type"] == "extra_forbidden":
        return f"unknown key {dotted!r}: {_suggest_key(schema, data, path)}"
    if error["type"] == "missing":
        return f"key {dotted!r} is missing"
    if error["type"] in {"union_tag_invalid", "union_tag_not_found"}:
        models, value = _resolve(schema, data, path)
        kinds = [str(kind) for model in models for kind in _kinds(model)]
        expected = f"key '{dotted}.kind': expected one of {', '.join(kinds)}"
        if "kind" not in value:
            return f"{expected}, but the key is missing"
        near = difflib.get_close_matches(str(value["kind"])[:100], kinds, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        return f"{expected}{hint}, found {clip_line(repr(value['kind']), 80)}"
    if isinstance(error["input"], dict) and error["type"] == "value_error":
        return f"key {dotted!r}: {message}"
    return f"key {dotted!r}: {message}, found {clip_line(repr(error['input']), 80)}"


def _suggest_key(schema: type[StrictModel], data: Any, path: tuple[Any, ...]) -> str:
    """Suggest a valid key for the unknown key at `path`."""
    models, siblings = _resolve(schema, data, path[:-1])
    valid = sorted({name for model in _select_kind(models, siblings) for name in model.model_fields})
    other_kinds = [kind for model in models if path[-1] in model.model_fields for kind in _kinds(model)]
    if other_kinds:
        return f"a key of kind {', '.join(other_kinds)}; valid keys of kind {siblings['kind']}: {', '.join(valid)}"
    key = RENAMED.get(path[-1], str(path[-1])[:100])
    near = difflib.get_close_matches(key, valid, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"valid keys: {', '.join(valid)}"


def _resolve(schema: type[StrictModel], data: Any, path: tuple[Any, ...]) -> tuple[list[type[BaseModel]], Any]:
    """Return the models that `schema` allows at `path`, and the value of `data` at `path`."""
    models: list[type[BaseModel]] = [schema]
    for part in path:
        parents = [model for model in _select_kind(models, data) if part in model.model_fields]
        models = [child for model in parents for child in _models_of(model.model_fields[part].annotation)] or models
        data = data[part]
    return models, data


def _models_of(annotation: Any) -> list[type[BaseModel]]:
    """Return the models in an annotation: the annotation itself, or the members of a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for member in get_args(annotation) for model in _models_of(member)]


def _kinds(model: type[BaseModel]) -> tuple[Any, ...]:
    """Return the valid values of a model's key `kind`; empty if it has no such key."""
    return get_args(model.model_fields["kind"].annotation) if "kind" in model.model_fields else ()


def _select_kind(models: list[type[BaseModel]], data: Any) -> list[type[BaseModel]]:
    """Return the `models` of the kind that `data` states; all of them if it states no valid kind."""
    kind = data.get("kind") if isinstance(data, dict) else None
    return [model for model in models if kind in _kinds(model)] or models
