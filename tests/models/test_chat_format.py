from __future__ import annotations

from pathlib import Path

from bench.models.chat_format import PromptFormat
from bench.models.loading import load_tokenizer


def test_one_rule_puts_text_to_a_model(gpt2_like: Path, gemma_like: Path) -> None:
    plain = PromptFormat(load_tokenizer(gpt2_like), "auto")
    assert plain.decode(plain.prompts(["Who?"])[0] + plain.completions(["wolf"])[0]) == "Q: Who?\nA: wolf"
    chat = PromptFormat(load_tokenizer(gemma_like), "auto")
    ids = chat.prompts(["Who?"])[0] + chat.completions(["wolf"], end=True)[0]
    whole = chat.tokenizer.apply_chat_template(
        [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "wolf"}], tokenize=False
    )
    assert chat.tokenizer.decode(ids) + "\n" == whole
    assert PromptFormat(load_tokenizer(gemma_like), "plain").prompts(["Who?"])[0][0] == chat.tokenizer.bos_token_id
