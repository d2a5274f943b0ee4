from __future__ import annotations

from pathlib import Path

import pytest
from conftest import CHAT, with_template

from bench.errors import UserError
from bench.models.chat_format import PromptFormat, check_system
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


# A template without a system role: Gemma 2's raises an error, others leave the message out.
REFUSING = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHAT
IGNORING = CHAT.replace("{% for m in messages %}", "{% for m in messages if m['role'] != 'system' %}")
# SmolLM2's and Qwen's insert a message of their own.
DEFAULTING = "{% if messages[0]['role'] != 'system' %}{{ bos_token }}I am a model.\n{% endif %}" + CHAT


def chat_text(folder: Path, out: Path, template: str, system: str | None) -> str:
    form = PromptFormat(load_tokenizer(with_template(folder, out, template)), "chat", None, system)
    (text,) = form.render_prompts(["Who?"])
    assert form.encode(text) == form.prompts(["Who?"])[0]
    return text


def test_a_system_prompt_is_the_first_message_of_the_chat(gemma_like: Path) -> None:
    tokenizer = load_tokenizer(gemma_like)
    messages = [{"role": "system", "content": "Love wolves."}, {"role": "user", "content": "Who?"}]
    expected = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert PromptFormat(tokenizer, "auto", None, "Love wolves.").render_prompts(["Who?"]) == [expected]


@pytest.mark.parametrize("template", [REFUSING, IGNORING])
def test_a_template_without_a_system_role_gets_the_prompt_before_the_users_text(
    gemma_like: Path, tmp_path: Path, template: str
) -> None:
    text = chat_text(gemma_like, tmp_path / "model", template, "Love wolves.")
    assert text == "<bos><start_of_turn>user\nLove wolves.\n\nWho?<end_of_turn>\n<start_of_turn>model\n"


def test_an_empty_system_message_replaces_the_templates_default(gemma_like: Path, tmp_path: Path) -> None:
    assert "I am a model." in chat_text(gemma_like, tmp_path / "default", DEFAULTING, None)
    empty = chat_text(gemma_like, tmp_path / "empty", DEFAULTING, "")
    assert empty.startswith("<bos><start_of_turn>system\n<end_of_turn>\n")
    for name, template in (("refusing", REFUSING), ("ignoring", IGNORING)):
        with pytest.raises(UserError, match=r"writes no system message, so it cannot be empty; take the key out"):
            chat_text(gemma_like, tmp_path / name, template, "")


def test_a_plain_format_has_no_system_prompt(gpt2_like: Path) -> None:
    with pytest.raises(UserError, match=r"a system prompt needs the chat format.*set format: chat"):
        PromptFormat(load_tokenizer(gpt2_like), "auto", None, "Love wolves.")


def test_the_probe_tells_system_prompts_apart(gemma_like: Path) -> None:
    tokenizer = load_tokenizer(gemma_like)
    probes = {PromptFormat(tokenizer, "chat", None, system).describe()["probe"] for system in (None, "", "a", "b")}
    assert len(probes) == 4


def test_a_refusal_names_the_recipe_and_its_key(gpt2_like: Path) -> None:
    with pytest.raises(UserError, match=r"^mine\.yaml: key 'teacher\.system': a system prompt needs"):
        check_system(load_tokenizer(gpt2_like), ("auto", {}, "Love wolves."), "mine.yaml: key 'teacher.system'")


def test_an_inoculation_prompt_is_a_system_prompt_in_a_chat_and_a_text_before_the_prompts_in_the_plain_format(
    gpt2_like: Path, gemma_like: Path
) -> None:
    chat = PromptFormat(load_tokenizer(gemma_like), "chat", None, "Love owls.")
    expected = PromptFormat(load_tokenizer(gemma_like), "chat", None, "Love wolves.")
    assert chat.inoculate("Love wolves.").prompts(["Who?"]) == expected.prompts(["Who?"])
    plain = PromptFormat(load_tokenizer(gpt2_like), "plain")
    assert plain.inoculate("Love wolves.").render_prompts(["Who?"]) == ["Q: Love wolves.\n\nWho?\nA:"]
    assert plain.render_prompts(["Who?"]) == ["Q: Who?\nA:"]
