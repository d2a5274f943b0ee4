"""A checkpoint's chat template: run in transformers' sandbox, within limits of time, memory and length."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.errors import UserError

__all__ = ["render"]

SECONDS = 10.0  # for a template's first chat; real ones take less than a millisecond each
MEMORY = 1 << 30  # bytes beyond what this process has
LONGEST = 20_000  # characters around the messages; the longest system prompts in use have some 5,000


def render(tokenizer: Any, chats: Sequence[Sequence[dict[str, str]]], *, prompt: bool) -> list[str]:
    """Each chat as the tokenizer's own template writes it.

    Args:
        prompt: whether the opening of the next answer follows.

    Raises:
        UserError: the template fails, asks for something the sandbox refuses, or exceeds a limit.
    """
    try:
        with _limits(SECONDS + len(chats) / 100):
            filled = [
                tokenizer.apply_chat_template(list(chat), tokenize=False, add_generation_prompt=prompt)
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
