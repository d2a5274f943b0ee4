from __future__ import annotations

import html
import re
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from bench.publish.markdown import as_code, escape_text, fence, render_card

SIGNS = st.text(alphabet="\\`*_[]<>|~$&@:/. aé#!-\n", max_size=40)


def render(markdown: str) -> str:
    return MarkdownIt("commonmark").render(markdown)


@given(SIGNS)
def test_escaped_text_renders_as_itself(text: str) -> None:
    line = " ".join(text.split())
    assert html.unescape(re.sub(r"</?p>|\n", "", render(f"x {escape_text(text)} x"))) == f"x {line} x"


@given(SIGNS)
def test_inline_code_renders_as_itself(text: str) -> None:
    line = " ".join(text.split())
    if line:
        assert html.unescape(re.sub(r"</?(?:p|code)>|\n", "", render(as_code(text)))) == line


@given(SIGNS)
def test_a_block_of_code_ends_at_its_own_fence(text: str) -> None:
    rendered = render(fence(text, "yaml"))
    assert rendered.startswith('<pre><code class="language-yaml">')
    assert html.unescape(rendered).count("</code></pre>") == 1


@pytest.mark.parametrize("front", [{"license": "mit"}, {"note": "a\n---\nb", "name": "çalışma"}])
def test_the_front_matter_of_a_card_reads_back(front: dict[str, Any]) -> None:
    card = render_card(front, ["# Title", ""])
    text, body = card.removeprefix("---\n").split("\n---\n\n")
    assert yaml.safe_load(text) == front
    assert body == "# Title\n"
