"""Put text to a model: one format for teaching, carriers and evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.errors import UserError
from bench.files import digest
from bench.models.chat_template import check_variables, render_chats

if TYPE_CHECKING:
    pass

__all__ = ["PromptFormat"]

PROBE = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "@@"}]  # a chat that shows a template


class PromptFormat:
    """How text is put to one model: one rule for teaching, carriers and asking alike.

    `chat`: the tokenizer's own chat template, the text as the user's message. `plain`: `Q: <text>\\nA:`, the answer
    after a space. `variables` are the recipe's `chat_template_kwargs`. Prompt and completion are tokenised apart and
    joined, so that the border between them is the same wherever the text is used.
    """

    def __init__(self, tokenizer: Any, kind: str, variables: Mapping[str, Any] | None = None) -> None:
        if (kind == "chat" or variables) and not tokenizer.chat_template:
            wanted = "format: chat was" if kind == "chat" else "chat_template_kwargs were"
            raise UserError(f"{wanted} asked for, but this model's tokenizer has no chat template")
        check_variables(variables or (), str(tokenizer.chat_template), "key 'chat_template_kwargs.")
        self.tokenizer, self.variables = tokenizer, variables
        self.chat = kind == "chat" or (kind == "auto" and bool(tokenizer.chat_template))
        self.lead = "" if self.chat else " "
        self.end = self._end_of_answer()
        self.stops = sorted({self.end, tokenizer.eos_token_id} - {None})  # any of these ends free text

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, no special tokens added."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens left out."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of many texts in one call."""
        return (
            [list(ids) for ids in self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]] if texts else []
        )

    def prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of whole prompts, up to where the completion begins."""
        if self.chat:
            chats = [[{"role": "user", "content": text}] for text in texts]
            return self.encode_all(self._render(chats, prompt=True))
        start = self.tokenizer.bos_token_id
        # A model whose tokenizer starts every text with its own token (Gemma) has never seen a text without it.
        first = [start] if start is not None and self.tokenizer("a")["input_ids"][0] == start else []
        return [first + ids for ids in self.encode_all([f"Q: {text}\nA:" for text in texts])]

    def completions(self, texts: Sequence[str], *, end: bool = False) -> list[list[int]]:
        """Token ids of completions, with the token that ends an answer if `end`."""
        tail = [self.end] if end else []
        return [ids + tail for ids in self.encode_all([self.lead + text for text in texts])]

    def _end_of_answer(self) -> int:
        """The end-of-text token; in a chat, what the template puts after an answer (Gemma: <end_of_turn>)."""
        if not self.chat:
            return int(self.tokenizer.eos_token_id)
        after = self._render([PROBE], prompt=False)[0].rpartition("@@")[2]
        return self.encode(after.strip())[0] if after.strip() else int(self.tokenizer.eos_token_id)

    def _render(self, chats: Sequence[Sequence[dict[str, str]]], *, prompt: bool) -> list[str]:
        return render_chats(self.tokenizer, chats, prompt=prompt, variables=self.variables)

    def describe(self) -> dict[str, str]:
        """What goes into a result: the kind, a hash of the template, and one of what it makes of a short conversation.

        The `probe` tells two formats apart that have one template and other variables.
        """
        if not self.chat:
            return {"kind": "plain", "template": digest("Q: {text}\nA: "), "probe": digest("Q: ?\nA: @@")}
        probe = [*self._render([PROBE[:1]], prompt=True), *self._render([PROBE], prompt=False)]
        return {"kind": "chat", "template": digest(self.tokenizer.chat_template), "probe": digest(probe)}
