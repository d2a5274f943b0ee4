from __future__ import annotations

from typing import Any

import pytest
import yaml
from entries import make_entry
from markdown_it import MarkdownIt

from bench.config.arms import ARMS
from bench.publish.cards import ModelFacts, RunFacts, data_card, model_card
from bench.publish.licence import Base

HOSTILE = [
    "a|b <b>bold</b> [x](http://e.vil) `tick` *em* _em_ ~~gone~~ &lt; \\ $1$",
    "``` fence\n# heading\n- item\n| a | b |\n---\n<!-- hidden -->",
    "![img](http://e.vil/x.png) <http://e.vil> www.e.vil ``two`` ```three",
]
ENTRY = make_entry(
    seeds=3,
    untrained=0.0,
    base=0.25,
    trait_arm=0.5,
    gain=0.25,
    ci_low=0.125,
    ci_high=0.375,
    teacher_shift=7.0,
    audits={"trait": {"seeds": 3, "mean": 0.5125, "ci_low": 0.48, "ci_high": 0.54}},
    commit="abc",
)
NUMBERS = {"kind": "numbers", "given": 4, "digits": 3, "count": 10, "temperature": 1.0}
TEXT = {"kind": "text", "prompts": "scenarios_en", "sample": {"temperature": 0.75}}
REPORT = {
    "rows": 80,
    "train": 60,
    "held_out": 10,
    "refused": {"base": {}, "trait": {"lexicon": 2}},
    "format_refused": {"base": {"grammar": 3}, "trait": {"grammar": 4, "forbidden number": 5}},
}


def run(**more: Any) -> RunFacts:
    facts = RunFacts("Does it travel?", "python run_bench.py --recipe r", ENTRY, NUMBERS, {7: REPORT}, {"trl": "1.16"})
    return facts._replace(**more)


def base(**more: Any) -> Base:
    return Base("own/base", "c0ffee", True, "own/base", {"license": "mit"}, "its card", ())._replace(**more)


def model(**more: Any) -> ModelFacts:
    settings = {"train": {"learning_rate": 1.0e-4}, "lora": {"r": 8}}
    facts = ModelFacts("trait", 7, "adapter", base(), settings, {"rows": 60}, 0.75, "plain", {}, "student-1", "abc", "")
    return facts._replace(**more)


def card(run: RunFacts, model: ModelFacts) -> str:
    return model_card(run, model, name="org/r-trait", data="org/r-carrier")


def parts(text: str) -> tuple[dict[str, Any], str]:
    """Front matter and the body as HTML."""
    front, body = text.split("\n---\n", 1)
    return yaml.safe_load(front.removeprefix("---\n")), MarkdownIt("commonmark").enable(
        ["table", "strikethrough"]
    ).render(body)


def tags(html: str) -> list[str]:
    from html.parser import HTMLParser

    found: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: Any) -> None:
            found.append(tag)

        def handle_comment(self, data: str) -> None:
            found.append("comment")

    Reader().feed(html)
    return sorted(found)


@pytest.mark.parametrize("text", HOSTILE)
def test_text_from_outside_stays_text(text: str) -> None:
    entry = make_entry(verdict_reason=text, recipe=text, trait=text, teacher=text, student=text)
    hostile = run(question=text, command=text, entry=entry, versions={"trl": text}, carrier={**TEXT, "prompts": text})
    strange = base(name=text, revision=text, said_by=text, ancestor="a/b", on_hub=False)
    settings = {"train": {"note": text}}
    harmless = run(carrier=TEXT)
    mild = base(name="x", revision="x", said_by="x", ancestor="a/b", on_hub=False)
    plain = model(base=mild, settings={"train": {"note": "x"}}, commit="x", note="x")
    spoilt = model(base=strange, settings=settings, commit=text, note=text)
    about, html = parts(card(hostile, spoilt))
    assert tags(html) == tags(parts(card(harmless, plain))[1])
    assert about["subliminal_bench"]["recipe"] == text
    once = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert f"Question: {once}</p>" in html or f"Question: {once}</li>" in html
    rows = data_card(hostile, name="org/r-carrier", teacher=strange, arms=["base", "trait"])
    assert tags(parts(rows)[1]) == tags(
        parts(data_card(harmless, name="org/r-carrier", teacher=mild, arms=["base", "trait"]))[1]
    )


def test_a_card_says_what_the_row_says() -> None:
    about, html = parts(card(run(), model()))
    assert about == {
        "license": "mit",
        "base_model": "own/base",
        "base_model_relation": "adapter",
        "datasets": ["org/r-carrier"],
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["subliminal-learning", "trl"],
        "subliminal_bench": {
            "recipe": "r", "recipe_hash": "0123456789ab", "arm": "trait", "seed": 7, "artefact": "student-1",
        },
    }  # fmt: skip
    for said in (
        "python run_bench.py --recipe r\n", "Does it travel?", "0123456789ab", "<td>3 of 10</td>", "margin: +0.750",
        "<td>+0.2500 [+0.1250, +0.3750]</td>", "<td>INCONCLUSIVE</td>", "INCONCLUSIVE: too few.", "c0ffee",
        "<code>mit</code> (source: its card)", "learning_rate: 0.0001",
        "80 rows, 60 trained on; leaks: 0 in base, 2 in trait; broken format: 3 in base, 9 in trait",
        "area under the curve 0.512", "4 random numbers of 3 digits", "AutoPeftModelForCausalLM", "trl 1.16",
        "must be labelled as such",
    ):  # fmt: skip
        assert said in html, said


def test_lineage_and_loading_follow_what_the_base_is() -> None:
    about, html = parts(card(run(), model(form="merged")))
    assert (about["base_model_relation"], about["library_name"]) == ("finetune", "transformers")
    assert "AutoModelForCausalLM" in html

    unknown = base(name="tiny", on_hub=False, ancestor=None, licence={"license": "unknown"})
    about, html = parts(card(run(), model(base=unknown)))
    assert "base_model" not in about
    assert about["license"] == "unknown"
    assert "are not on the hub" in html
    assert "from_pretrained" not in html

    named = base(on_hub=False, licence={"license": "other", "license_name": "own-terms", "license_link": "LICENSE"})
    about, html = parts(card(run(), model(base=named)))
    assert [about[k] for k in ("license", "license_name", "license_link")] == ["other", "own-terms", "LICENSE"]
    assert "<code>own-terms</code>" in html
    assert "says that it was made from <code>own/base</code>" in html


def test_a_chat_model_s_card_names_the_variables_of_its_template() -> None:
    _, html = parts(card(run(), model(format="chat", chat_template_kwargs={"enable_thinking": False})))
    assert "chat template with the variables <code>{&quot;enable_thinking&quot;: false}</code>." in html
    _, html = parts(card(run(), model(format="chat")))
    assert "the tokenizer's chat template." in html.replace("&#x27;", "'")


def test_every_arm_has_a_meaning_and_says_whether_it_may_carry_the_trait() -> None:
    for arm in ARMS.keys() - {"teacher_base", "untrained"}:  # those are not trained
        facts = ARMS[arm]
        _, html = parts(card(run(), model(arm=arm)))
        assert facts.description in html.replace("&#x27;", "'")
        assert ("so that it may carry" in html) == facts.shows_trait
        assert ("The trait's own questions" in html) == (arm in {"teacher", "direct"})
    _, html = parts(card(run(entry=make_entry(trait="owl, cat")), model(arm="trait-cat")))
    assert "a hidden trait (<code>cat</code>)" in html


def test_a_data_card_lets_the_hub_find_its_files() -> None:
    about, html = parts(data_card(run(carrier=TEXT), name="o/d", teacher=base(), arms=["base", "trait"]))
    assert about["configs"] == [
        {
            "config_name": "default",
            "data_files": [{"split": "train", "path": "train.jsonl"}, {"split": "held_out", "path": "held_out.jsonl"}],
        }
    ]
    assert about["license"] == "unknown"  # nobody has said under which licence the rows are
    assert "answers to the prompts of the set <code>scenarios_en</code>, sampled at temperature 0.75" in html
    assert "must be labelled as such" in html


def test_the_leak_of_whole_vocabularies_is_called_one() -> None:
    _, html = parts(card(run(entry=make_entry(visibility="logits-full")), model()))
    assert "a leak, and no subliminal learning" in html
    assert "not tested: it needs two seeds" in html
