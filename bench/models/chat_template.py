"""A checkpoint's chat template: run in transformers' sandbox, within limits of time, memory and length.

The date is always `DATE`. Templates that print today's date (Llama 3.1 and later) would otherwise give other
tokens on another day.
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
MEMORY = 1 << 30  # bytes beyond what this process has
DATE = (2025, 1, 1)  # what `strftime_now` of a template reads, on every day
LONGEST = 20_000  # characters around the messages; the longest system prompts in use have some 5,000


def render_chats(
    tokenizer: Any,
    chats: Sequence[Sequence[dict[str, str]]],
    *,
    prompt: bool,
    variables: Mapping[str, Any] | None = None,
) -> list[str]:
    """Each chat as the tokenizer's own template writes it.

    Args:
        prompt: whether the opening of the next answer follows.
        variables: further variables of the template, such as `enable_thinking`.

    Raises:
        UserError: the template fails, asks for something the sandbox refuses, or exceeds a limit.
    """
    try:
        with _stopped_clock(), _limits(SECONDS + len(chats) / 100):
            filled = [
                tokenizer.apply_chat_template(
                    list(chat), tokenize=False, add_generation_prompt=prompt, **(variables or {})
                )
                for chat in chats
            ]
    except Exception as error:  # whatever a template may do
        said = " ".join(str(error).split())[:200]
        raise UserError(f"this model's chat template fails: {type(error).__name__}: {said}") from None
    for chat, text in zip(chats, filled, strict=True):
        held = sum(len(turn["content"]) for turn in chat)
        if not isinstance(text, str) or len(text) > LONGEST + 4 * held:
            raise UserError(f"this model's chat template makes {len(text):,} characters of {held:,}: not a template")
    return filled


def check_variables(names: Iterable[str], template: str, where: str) -> None:
    """Check that a template mentions each of its further variables: a misspelt one would change nothing in silence.

    Args:
        where: the beginning of an error, up to the variable's name.

    Raises:
        UserError: naming the variable, and the nearest word of the template.
    """
    words = set(re.findall(r"[A-Za-z_]\w*", template))
    for name in names:
        if name not in words:
            near = difflib.get_close_matches(name[:100], sorted(words), n=1)
            hint = f": did you mean {near[0]!r}?" if near else ""
            raise UserError(f"{where}{name:.100}': this model's chat template reads no such variable{hint}")


def read_template(folder: Path) -> str:
    """The chat template among the files of a checkpoint, read without transformers; "" where there is none."""
    with suppress(OSError):
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    with suppress(OSError, ValueError):
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        return str(config.get("chat_template") or "")
    return ""


class _Stopped(datetime):
    """A clock that stands at `DATE`."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> _Stopped:
        return cls(*DATE, tzinfo=tz)


@contextmanager
def _stopped_clock() -> Iterator[None]:
    """Give transformers' `strftime_now` a stopped clock.

    A variable of that name cannot be passed: transformers 5.23 turns every function among a template's variables into
    text.
    """
    from transformers.utils import chat_template_utils

    before = chat_template_utils.datetime
    chat_template_utils.datetime = _Stopped
    try:
        yield
    finally:
        chat_template_utils.datetime = before


@contextmanager
def _limits(seconds: float) -> Iterator[None]:
    """Ends the block by an exception when it takes too long or too much memory, where the system can do that."""

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
        signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)  # and again, should a library swallow the first
    try:
        yield
    finally:
        if timed:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, handler)
        if memory.exists():
            resource.setrlimit(resource.RLIMIT_AS, before)
