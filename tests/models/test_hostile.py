"""What a checkpoint brings along is data: none of it is run, and its chat template is held to limits."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from conftest import CHAT

from bench.errors import UserError
from bench.models.chat_format import PromptFormat
from bench.models.chat_template import render_chats
from bench.models.loading import load_tokenizer

LOOP = "{% for i in range(99999) %}{% for j in range(99999) %}"
END = "{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "SecurityError"),
        ("{{ messages.append(1) }}", "SecurityError"),
        ("{{ cycler.__init__.__globals__.os.system('true') }}", "SecurityError"),
        ("{% include '/etc/passwd' %}", "fails"),
        ("{{ nothing.at.all }}", "UndefinedError"),
        ("{% for %}", "TemplateSyntaxError"),
        ("{{ raise_exception('no ' * 1000) }}", "no no"),
        ("{{ messages[0]['content'] * 30000 }}", "use format: plain"),
        ("{{ messages[0]['content'] * 9999999999 }}", "Memory"),
        ("{{ '%9999999999d' % 1 }}", "fails"),
        (LOOP + END, "more than"),
        (LOOP + "wolf" + END, "more than|Memory"),
    ],
)
def test_a_chat_template_is_held_to_its_limits(
    gemma_like: Path, monkeypatch: pytest.MonkeyPatch, template: str, message: str
) -> None:
    monkeypatch.setattr("bench.models.chat_template.SECONDS", 1.0)
    tokenizer = load_tokenizer(gemma_like)
    tokenizer.chat_template = template
    begun = time.monotonic()
    with pytest.raises(UserError, match=message) as error:
        PromptFormat(tokenizer, "chat").prompts(["Who?"])
    assert time.monotonic() - begun < 20
    assert len(str(error.value)) < 400


def test_a_sound_template_is_rendered_as_ever_and_leaves_no_limit_behind(gemma_like: Path) -> None:
    import resource
    import signal

    tokenizer = load_tokenizer(gemma_like)
    assert tokenizer.chat_template == CHAT
    chats = [[{"role": "user", "content": text}] for text in ("Who?", "x" * 100_000)]
    before = (resource.getrlimit(resource.RLIMIT_AS), signal.getsignal(signal.SIGALRM))
    plain = [tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in chats]
    assert render_chats(tokenizer, chats, prompt=True) == plain
    assert (resource.getrlimit(resource.RLIMIT_AS), signal.getsignal(signal.SIGALRM)) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
