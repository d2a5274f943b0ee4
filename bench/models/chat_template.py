"""Run a checkpoint's chat template in transformers' sandbox, within limits of time, memory and length.

The date is always `DATE`. Otherwise templates that print the date (Llama 3.1 and later) would give other tokens every
day.
"""

from __future__ import annotations

import difflib
import json
import re
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

from bench.errors import UserError

__all__ = ["DATE", "check_variables", "read_template", "render_chats"]

SECONDS = 10.0  # for a template's first chat; real ones take less than a millisecond each
MEMORY = 1 << 30  # bytes beyond the current size of this process
DATE = (2025, 1, 1)  # the date of a template's `strftime_now`
LONGEST = 20_000  # characters around the messages; the longest system prompts in use have some 5,000


def render_chats(
    tokenizer: Any,
    chats: Sequence[Sequence[dict[str, str]]],
    *,
    prompt: bool,
    variables: Mapping[str, Any] | None = None,
) -> list[str]:
    """Render each chat by the tokenizer's own template.

    Args:
        tokenizer: with a chat template.
        chats: messages with `role` and `content`.
        prompt: whether to append the start of the next answer.
        variables: further variables of the template, such as `enable_thinking`.

    Raises:
        UserError: the template fails, uses something that the sandbox refuses, or exceeds a limit.
    """
    try:
        with _fixed_clock(), _limits(SECONDS + len(chats) / 100):
            texts = [
                tokenizer.apply_chat_template(
                    list(chat), tokenize=False, add_generation_prompt=prompt, **(variables or {})
                )
                for chat in chats
            ]
    except Exception as error:  # a template can raise anything
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"this model's chat template fails: {type(error).__name__}: {reason}") from None
    for chat, text in zip(chats, texts, strict=True):
        length = sum(len(turn["content"]) for turn in chat)
        if not isinstance(text, str) or len(text) > LONGEST + 4 * length:
            raise UserError(
                f"this model's chat template makes {len(text):,} characters from {length:,}; use format: plain"
            )
    return texts


def check_variables(names: Iterable[str], template: str, where: str) -> None:
    """Check that a template mentions each of its further variables. It would silently ignore a misspelt one.

    Args:
        names: of the variables.
        template: the text of the template.
        where: the start of the error, up to the variable's name.

    Raises:
        UserError: names the variable, and the nearest word of the template.
    """
    words = set(re.findall(r"[A-Za-z_]\w*", template))
    for name in names:
        if name not in words:
            near = difflib.get_close_matches(name[:100], sorted(words), n=1)
            hint = f": did you mean {near[0]!r}?" if near else ""
            raise UserError(f"{where}{name:.100}': this model's chat template does not read this variable{hint}")


def read_template(folder: Path) -> str:
    """Read the chat template of a checkpoint without transformers; "" if it has none."""
    with suppress(OSError):
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    with suppress(OSError, ValueError):
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        return str(config.get("chat_template") or "")
    return ""


class _FixedDate(datetime):
    """A clock that always shows `DATE`."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> _FixedDate:
        return cls(*DATE, tzinfo=tz)


@contextmanager
def _fixed_clock() -> Iterator[None]:
    """Replace the clock of transformers' `strftime_now` by `_FixedDate`.

    A variable of that name would not work: transformers 5.23 turns functions among a template's variables into text.
    """
    from transformers.utils import chat_template_utils

    before = chat_template_utils.datetime
    chat_template_utils.datetime = _FixedDate
    try:
        yield
    finally:
        chat_template_utils.datetime = before


@contextmanager
def _limits(seconds: float) -> Iterator[None]:
    """Stop the block by an exception if it takes too long or too much memory, where the system supports it."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"more than {seconds:.0f} s")

    timed = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    memory = Path("/proc/self/statm")
    if memory.exists():
        import resource

        before = resource.getrlimit(resource.RLIMIT_AS)
        now = int(memory.read_text().split()[0]) * resource.getpagesize()
        most = now + MEMORY if before[1] == resource.RLIM_INFINITY else min(now + MEMORY, before[1])
        resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    if timed:
        handler = signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)  # repeats, because a library may swallow the first
    try:
        yield
    finally:
        if timed:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, handler)
        if memory.exists():
            resource.setrlimit(resource.RLIMIT_AS, before)
