from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from conftest import ROOT

# From the bottom up; a module imports from its own package and from those before it.
LAYERS = [
    "errors", "files", "flags", "config", "models", "stages", "pipeline", "analysis", "experiment", "figures",
    "publish", "report", "terminal", "commands", "cli", "api",
]  # fmt: skip
MODULES = sorted(path for path in (ROOT / "bench").rglob("*.py") if path.name != "__init__.py")


@cache
def imported(path: Path) -> set[str]:
    """The modules of this project that a file imports anywhere, also inside functions: `config.recipe`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "bench":
            inner = (node.module or "").removeprefix("bench").lstrip(".")
            for alias in node.names:
                file = ROOT / "bench" / inner.replace(".", "/") / f"{alias.name}.py"
                names.add(f"{inner}.{alias.name}".lstrip(".") if file.is_file() else inner)
    return names


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT / "bench").with_suffix("").parts)


def layer(name: str) -> int:
    return LAYERS.index(name.partition(".")[0])


def test_nothing_imports_upward() -> None:
    upward = [
        f"{name_of(path)} imports {name}"
        for path in MODULES
        for name in imported(path)
        if layer(name) > layer(name_of(path))
    ]
    assert upward == []


def test_no_two_modules_import_each_other_in_a_circle() -> None:
    graph = {name_of(path): imported(path) for path in MODULES}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"circle: {' -> '.join([*trail, name])}"
        if name not in done:
            for other in graph.get(name, ()):
                visit(other, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_every_module_is_imported_by_a_test_named_after_it() -> None:
    assert len(MODULES) > 100
    for path in MODULES:
        inner = path.relative_to(ROOT / "bench")
        test = ROOT / "tests" / inner.parent / f"test_{inner.name}"
        assert test.is_file(), f"write {test.relative_to(ROOT)}"
        assert name_of(path) in imported(test), test
