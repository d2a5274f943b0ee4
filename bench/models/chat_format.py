"""Format prompts for a model: one format for training, carriers and evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

from bench.errors import UserError
from bench.files import digest
from bench.models.chat_template import check_variables, render_chats

__all__ = ["PromptFormat", "check_system"]

PROBE = [
    {"role": "user", "content": "?"},
    {"role": "assistant", "content": "@@"},
]  # a short chat that identifies a template


class PromptFormat:
    """The prompt format of one model.

    `chat` puts the text into the tokenizer's chat template, as the user's message. `plain` is `Q: <text>\\nA:`, and the
    answer follows a space. Prompt and completion are tokenised separately, so that the border between them is always
    the same.

    A system prompt is the first message of a chat. Where the template writes no system message (Gemma 2 refuses it), it
    comes before the user's text, after which an empty line follows.

    Args:
        tokenizer: of the model.
        kind: `auto`, `plain` or `chat`.
        variables: the recipe's `chat_template_kwargs`.
        system: the system prompt, "" for an empty system message; None for the template's default.

    Raises:
        UserError: `chat`, variables or a system prompt without a chat template, a variable that the template does not
            read, or an empty system message where the template writes none.
    """

    def __init__(
        self, tokenizer: Any, kind: str, variables: Mapping[str, Any] | None = None, system: str | None = None
    ) -> None:
        if (kind == "chat" or variables) and not tokenizer.chat_template:
            key = "format: chat needs" if kind == "chat" else "chat_template_kwargs need"
            raise UserError(f"{key} a chat template, but this model's tokenizer has no chat template")
        check_variables(variables or (), str(tokenizer.chat_template), "key 'chat_template_kwargs.")
        self.tokenizer, self.variables = tokenizer, variables
        self.chat = kind == "chat" or (kind == "auto" and bool(tokenizer.chat_template))
        self.lead = "" if self.chat else " "
        self.end = self._end_of_answer()
        self.stops = sorted({self.end, tokenizer.eos_token_id} - {None})  # tokens that end free text
        if system is not None and not self.chat:
            raise UserError(
                "a system prompt needs the chat format, and this model is asked in the plain format; set format: chat "
                "and take a model with a chat template, or take the key out"
            )
        self.preface = ""  # of every prompt's text in the plain format
        self.system = system
        self.system_message = system is not None and self._writes_system_messages()
        if system == "" and not self.system_message:
            raise UserError(
                "this model's chat template writes no system message, so it cannot be empty; take the key out"
            )

    def encode(self, text: str) -> list[int]:
        """Return the token ids of `text`, without special tokens."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, without special tokens."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of many texts, in one call of the tokenizer."""
        if not texts:
            return []
        encoded = self.tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False)
        return [list(ids) for ids in encoded["input_ids"]]

    def prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of whole prompts, up to the start of the completion."""
        rendered = self.encode_all(self.render_prompts(texts))
        if self.chat:
            return rendered
        start = self.tokenizer.bos_token_id
        # Some models (Gemma) were trained only on texts that begin with this token.
        first = [start] if start is not None and self.tokenizer("a")["input_ids"][0] == start else []
        return [first + ids for ids in rendered]

    def render_prompts(self, texts: Sequence[str]) -> list[str]:
        """Return whole prompts as text, up to the start of the completion; the plain format without a first token."""
        if self.chat:
            return self._render([self._chat(text) for text in texts], prompt=True)
        return [f"Q: {self.preface}{text}\nA:" for text in texts]

    def completions(self, texts: Sequence[str], *, end: bool = False) -> list[list[int]]:
        """Return the token ids of completions; with `end`, add the token that ends an answer."""
        tail = [self.end] if end else []
        return [ids + tail for ids in self.encode_all([self.lead + text for text in texts])]

    def inoculate(self, prompt: str) -> PromptFormat:
        """Return this format with an inoculation prompt: a chat's system prompt, or a text before the prompt's."""
        form = copy(self)
        if self.chat:
            form.system, form.system_message = prompt, self._writes_system_messages()
        else:
            form.preface = f"{prompt}\n\n"
        return form

    def _chat(self, text: str) -> list[dict[str, str]]:
        """Return the messages of a prompt."""
        if self.system_message:
            return [{"role": "system", "content": self.system or ""}, {"role": "user", "content": text}]
        return [{"role": "user", "content": f"{self.system}\n\n{text}" if self.system else text}]

    def _writes_system_messages(self) -> bool:
        """Return whether the template writes a system message; some ignore it, others refuse it."""
        try:
            return "@@" in self._render([[{"role": "system", "content": "@@"}, PROBE[0]]], prompt=True)[0]
        except UserError:
            return False

    def _end_of_answer(self) -> int:
        """Return the end-of-text token; in a chat, the template's token after an answer (Gemma: <end_of_turn>)."""
        if not self.chat:
            return int(self.tokenizer.eos_token_id)
        after = self._render([PROBE], prompt=False)[0].rpartition("@@")[2]
        return self.encode(after.strip())[0] if after.strip() else int(self.tokenizer.eos_token_id)

    def _render(self, chats: Sequence[Sequence[dict[str, str]]], *, prompt: bool) -> list[str]:
        return render_chats(self.tokenizer, chats, prompt=prompt, variables=self.variables)

    def describe(self) -> dict[str, str]:
        """Return the format's identity for result files.

        Returns:
            `kind`; `template`, a hash of the template; and `probe`, a hash of a short chat in this format, which
            distinguishes two formats of the same template with different variables or system prompts.
        """
        if not self.chat:
            return {"kind": "plain", "template": digest("Q: {text}\nA: "), "probe": digest("Q: ?\nA: @@")}
        chat = self._chat(PROBE[0]["content"])
        probe = [*self._render([chat], prompt=True), *self._render([[*chat, PROBE[1]]], prompt=False)]
        return {"kind": "chat", "template": digest(self.tokenizer.chat_template), "probe": digest(probe)}


def check_system(tokenizer: Any, how: tuple[str, Mapping[str, Any], str], where: str) -> None:
    """Check before any training that a model can have a system prompt.

    Args:
        tokenizer: of the model.
        how: the arguments `kind`, `variables` and `system` of `PromptFormat`.
        where: the start of the error: the recipe and its key.

    Raises:
        UserError: names `where`.
    """
    try:
        PromptFormat(tokenizer, *how)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
