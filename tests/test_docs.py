from __future__ import annotations

import re
from difflib import SequenceMatcher, unified_diff
from typing import NamedTuple

import pytest
from conftest import ROOT
from markdown_it import MarkdownIt

from bench.leaderboard import entries, short_table
from bench.results import read_all
from bench.yamlfile import names

README = (ROOT / "README.md").read_text(encoding="utf-8")
TURKISH = (ROOT / "README.tr.md").read_text(encoding="utf-8")


class Section(NamedTuple):
    """A heading and what follows it up to the next: where it stands, and what a translation leaves as it is."""

    where: str
    kept: dict[str, list[str]]


def sections(file: str, text: str) -> list[Section]:
    found: list[Section] = []
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    for i, token in enumerate(tokens):
        if token.type == "heading_open":
            assert token.map is not None
            where = f"{file}:{token.map[0] + 1} '{token.markup} {tokens[i + 1].content}'"
            kinds = ("heading level", "code block", "table shape", "board", "link", "`code`", "number of paragraphs")
            found.append(Section(where, {kind: [] for kind in kinds}))
            found[-1].kept["heading level"].append(token.markup)
        elif token.type == "paragraph_open":  # of text, or of a list item
            found[-1].kept["number of paragraphs"].append("a paragraph")
        elif token.type == "fence":
            found[-1].kept["code block"] += [f"```{token.info}", *token.content.splitlines(), "```"]
        elif token.type == "table_open":
            assert token.map is not None
            ends = next(j for j in range(i, len(tokens)) if tokens[j].type == "table_close")
            rows, columns = (sum(t.type == kind for t in tokens[i:ends]) for kind in ("tr_open", "th_open"))
            found[-1].kept["table shape"].append(f"{rows} rows x {columns} columns")
            if tokens[i - 1].content.strip() == "<!-- board -->":
                found[-1].kept["board"] += text.splitlines()[slice(*token.map)]
        for child in token.children or []:
            if child.type == "link_open" and child.attrs["href"] not in ("README.md", "README.tr.md"):
                found[-1].kept["link"].append(str(child.attrs["href"]))
            elif child.type == "code_inline":
                found[-1].kept["`code`"] = sorted({*found[-1].kept["`code`"], child.content})
    return found


def differences(ours: list[Section], theirs: list[Section]) -> list[str]:
    """What stands in one text and not in the other, with the section it stands in."""
    said = []
    matcher = SequenceMatcher(None, [str(s.kept) for s in ours], [str(s.kept) for s in theirs], autojunk=False)
    for what, a, b, c, d in matcher.get_opcodes():
        if what == "equal":
            continue
        if b - a != d - c:
            left, right = (", ".join(s.where for s in part) or "nothing" for part in (ours[a:b], theirs[c:d]))
            said.append(f"headings differ: {left} against {right}")
            continue
        for one, other in zip(ours[a:b], theirs[c:d], strict=True):
            for kind, kept in one.kept.items():
                changed = [*unified_diff(kept, other.kept[kind], n=0, lineterm="")][2:]
                lines = [f"    {line}" for line in changed if not line.startswith("@@")]
                if lines:
                    said.append("\n".join([f"{kind} differs: - {one.where}, + {other.where}", *lines]))
    return said


def test_the_readmes_in_english_and_turkish_differ_in_language_alone() -> None:
    assert README.splitlines()[:3] == ["# subliminal-bench", "", "[Türkçe](README.tr.md)"]
    assert TURKISH.splitlines()[:3] == ["# subliminal-bench", "", "[English](README.md)"]
    found = differences(sections("README.md", README), sections("README.tr.md", TURKISH))
    assert not found, "\n".join(["README.md and README.tr.md went apart", *found])


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("\n## The tree\n", "\n## News\n\nNone.\n\n## The tree\n", r"headings differ: nothing against .* '## News'"),
        ("\n### Further controls\n", "\n", r"headings differ: .* '### Further controls' against"),
        ("\n### Further controls\n", "\n#### Further controls\n", r"heading level .* '### Further .*\n    -###\n"),
        (
            "python run_bench.py --list ",
            "python run_bench.py --all ",
            r"code block .* '## The command'.*\n    -.*list ",
        ),
        (
            "\n| `base` |",
            "\n| `base` | | |\n| `base` |",
            r"table shape .* '## Why .*\n    -4 rows .*\n    \+5 rows ",
        ),
        ("<!-- board -->\n| recipe ", "<!-- board -->\n| name   ", r"board .* '## The leaderboard .*\n    -\| recipe "),
        ("abs/2507.14805", "abs/2507.14806", r"link .* '## What is known.*\n    -.*14805\n    \+.*14806"),
        (
            "\nMIT license.",
            "\nAdded.\n\nMIT license.",
            r"number of paragraphs .* '## What is known.*\n    \+a paragraph",
        ),
        ("`--skip-controls`", "`--no-controls`", r"`code` .* '## The command'.*\n    .*-controls"),
    ],
)
def test_what_changes_in_one_readme_is_named(old: str, new: str, named: str) -> None:
    assert old in README
    changed = sections("changed.md", README.replace(old, new, 1))
    (said,) = differences(sections("README.md", README), changed)
    assert re.match(named, said), said


def test_the_readme_shows_the_board_as_it_stands() -> None:
    shown = re.search(r"<!-- board -->\n(.*?)\n<!-- /board -->", README, re.DOTALL)
    assert shown is not None
    assert shown.group(1) == short_table(entries(read_all(ROOT / "results")[0]))


def test_the_committed_results_are_whole_and_give_the_committed_board(tmp_path_factory: pytest.TempPathFactory) -> None:
    rows, refused = read_all(ROOT / "results")
    assert refused == []
    assert rows
    for row in rows:
        recipe = row.experiment["recipe"]
        assert set(row.cells) <= set(range(recipe["seeds"])), f"{row.name}: published seeds are 0..n-1"
        for arms in row.cells.values():
            for cell in arms.values():
                assert not any("dirty" in c or c == "unknown" for c in cell["manifest"]["commits"])


def test_the_tree_in_the_readme_names_every_module() -> None:
    modules = {path.name for path in (ROOT / "bench").glob("*.py")} - {"__init__.py", "errors.py"}
    assert modules <= set(re.findall(r"^  (\w+\.py)", README, re.MULTILINE))


def test_ci_runs_the_commands_of_the_readme() -> None:
    steps = (ROOT / ".ci" / "run").read_text()
    for command in ("pip install --quiet torch==2.13.0", 'pip install --quiet -e ".[test]"', "python -m pytest"):
        assert command in steps
        assert command.replace(" --quiet", "") in README
    assert "python run_bench.py" in steps


def test_every_recipe_named_in_the_readme_exists() -> None:
    named = set(re.findall(r"`((?:tiny|gpt2|gemma|smollm2|distilgpt2)_\w+)`", README))
    assert named
    assert named <= set(names(ROOT / "recipes"))
