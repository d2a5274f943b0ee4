"""The registry: one line for each registration, chained by hashes, written before the row is run.

A store has one chain, `<store>/registry.jsonl`. Its lines are merged into the `registry.jsonl` of each results folder,
which is a set of lines of any number of chains, so that git may merge two copies line by line. Within a chain each line
holds the hash of the line before. So an edited line, a line taken out of the middle and a changed order are noticed.
The registry shows order, not honesty. It does not notice lines cut off the end, a wrong clock, or a new chain in the
place of another.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench.analysis.registry_lines import Registration, RegistryLine
from bench.errors import UserError

__all__ = [
    "FILE",
    "Registry",
    "append_entry",
    "check_chain",
    "merge_registry",
    "read_registry",
]

FILE = "registry.jsonl"


@dataclass(frozen=True)
class Registry:
    """The verified lines of a registry, and a sentence for each fault."""

    lines: tuple[RegistryLine, ...]
    """The lines whose chain is unbroken up to them, by chain and number."""
    problems: tuple[str, ...]
    """One line for each fault; names the file and the line."""

    @property
    def entries(self) -> tuple[Registration, ...]:
        """The registrations, by chain and number."""
        return tuple(line.entry for line in self.lines)

    def find(self, recipe_hash: str) -> Registration | None:
        """Return the last registration of a row; None for a row that was never registered."""
        lines = [line for line in self.lines if line.entry.recipe_hash == recipe_hash]
        return max(lines, key=lambda line: (line.time, line.number)).entry if lines else None

    def looks(self, recipe_hash: str) -> int:
        """Count the further registrations of a row's family: other seeds, or the row under other terms."""
        return len(self._families.get(recipe_hash, ("",))) - 1

    @cached_property
    def _families(self) -> dict[str, set[str]]:
        """The terms registered in each row's family, by the row's hash."""
        terms: dict[str, set[str]] = {}
        for entry in self.entries:
            terms.setdefault(entry.family, set()).add(entry.model_dump_json(exclude={"commit"}))
        return {entry.recipe_hash: terms[entry.family] for entry in self.entries}

    def without_results(self, measured: Collection[str]) -> list[RegistryLine]:
        """Return the last line of each registered row whose hash is not in `measured`, by time."""

        def by_time(line: RegistryLine) -> tuple[str, str, int]:
            return line.time, line.chain, line.number

        last = {line.entry.recipe_hash: line for line in sorted(self.lines, key=by_time)}
        return sorted((line for recipe_hash, line in last.items() if recipe_hash not in measured), key=by_time)


def read_registry(folder: Path) -> Registry:
    """Read and verify the registry of a results folder or a store. A missing one has no lines and no faults."""
    path = folder / FILE
    faults: list[tuple[int, str]] = []
    lines: dict[str, tuple[int, RegistryLine]] = {}  # by hash, with the number of the line in the file
    last: dict[str, int] = {}
    for at, text in enumerate(_read_texts(path), 1):
        try:
            line = _parse(text)
        except ValueError as error:
            faults.append((at, str(error)))
            continue
        if line.sha256 in lines:
            faults.append((at, f"the same as line {lines[line.sha256][0]}; counted once"))
            continue
        if line.number < last.get(line.chain, 0):
            faults.append((at, f"number {line.number} of chain {line.chain} is out of order; counted by its number"))
        last[line.chain] = line.number
        lines[line.sha256] = at, line
    verified: dict[str, RegistryLine] = {}
    broken: set[str] = set()
    numbers: set[tuple[str, int]] = set()
    for at, line in sorted(lines.values(), key=lambda item: (item[1].chain, item[1].number, item[0])):
        before = verified.get(line.previous or "")
        number = 0 if line.previous is None else before.number + 1 if before and before.chain == line.chain else None
        if number == line.number:
            verified[line.sha256] = line
            if (line.chain, line.number) in numbers:
                faults.append((at, f"chain {line.chain} has two lines of number {number} (a copied store); both count"))
            numbers.add((line.chain, line.number))
        elif line.chain not in broken:
            broken.add(line.chain)
            faults.append(
                (at, f"chain {line.chain} is broken before number {line.number}: this registration and those after it "
                 "do not count; restore the missing line")
            )  # fmt: skip
    problems = [f"{path}: line {at}: {fault}" for at, fault in sorted(faults)]
    return Registry(tuple(verified.values()), tuple(problems))


def check_chain(folder: Path) -> Registry:
    """Read the chain of a store, without a last line that a crash cut off; the caller holds the lock.

    Raises:
        UserError: the chain has a fault.
    """
    _drop_torn_line(folder / FILE)
    registry = read_registry(folder)
    if registry.problems:
        more = f" (and {len(registry.problems) - 1} more)" if len(registry.problems) > 1 else ""
        raise UserError(f"{registry.problems[0]}{more}. Restore the file, or move it away to begin another chain")
    return registry


def append_entry(folder: Path, entry: Registration) -> Registration:
    """Register a row in the chain of a store; the caller holds the lock. Return the registration that is in force.

    A row whose last registration has the same terms is not registered again.

    Raises:
        UserError: the chain has a fault.
    """
    path = folder / FILE
    registry = check_chain(folder)
    last = registry.lines[-1] if registry.lines else None
    known = next((line.entry for line in registry.lines[::-1] if line.entry.recipe_hash == entry.recipe_hash), None)
    if known is not None and known.has_terms_of(entry):
        return known
    line = RegistryLine(
        chain=last.chain if last else uuid.uuid4().hex[:16],
        number=last.number + 1 if last else 0,
        previous=last.sha256 if last else None,
        time=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        entry=entry,
        sha256="",
    )
    _append(path, [line.model_copy(update={"sha256": line.content_hash()}).text()])
    return entry


def merge_registry(source: Path, target: Path) -> None:
    """Add the lines of one folder's registry that another folder's registry lacks; the caller holds both locks."""
    _drop_torn_line(target / FILE)
    present = set(_read_texts(target / FILE))
    _append(target / FILE, [text for text in dict.fromkeys(_read_texts(source / FILE)) if text not in present])


def _read_texts(path: Path) -> list[str]:
    try:
        texts = path.read_bytes().decode("utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return []
    return texts if texts[-1] else texts[:-1]


def _parse(text: str) -> RegistryLine:
    """Read one line.

    Raises:
        ValueError: says what is wrong with it.
    """
    try:
        line = RegistryLine.model_validate_json(text)
    except ValidationError as error:
        first: Any = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"no registration ({f'{key}: ' if key else ''}{first['msg'][:80]}); does not count") from None
    if line.sha256 != line.content_hash() or line.text() != text:
        raise ValueError(f"number {line.number} of chain {line.chain} was changed (checksum mismatch); does not count")
    return line


def _append(path: Path, texts: Iterable[str]) -> None:
    data = "".join(f"{text}\n" for text in texts).encode()
    if not data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        error.filename = error.filename or str(path)  # the error of a full disk has no file name
        raise


def _drop_torn_line(path: Path) -> None:
    """Remove a last line without its end, which a crash left behind; complete it if nothing but its end is missing."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    whole, _, torn = data.rpartition(b"\n")
    if not torn:
        return
    try:
        _parse(torn.decode())
    except ValueError:
        with path.open("r+b") as file:
            file.truncate(len(whole) + 1 if whole else 0)
    else:
        with path.open("ab") as file:
            file.write(b"\n")
