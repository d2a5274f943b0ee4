from __future__ import annotations

from typing import Any

import pytest
import yaml
from entries import make_entry
from huggingface_hub import EvalResult, ModelCard
from markdown_it import MarkdownIt

from bench.config.arms import ARMS
from bench.publish.card_facts import ModelFacts, RunFacts
from bench.publish.cards import data_card, model_card
from bench.publish.licence import BaseCheckpoint

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


def base(**more: Any) -> BaseCheckpoint:
    return BaseCheckpoint("own/base", "c0ffee", True, "own/base", {"license": "mit"}, "its card", ())._replace(**more)


def model(**more: Any) -> ModelFacts:
    settings = {"train": {"learning_rate": 1.0e-4}, "lora": {"r": 8}}
    results = [EvalResult("text-generation", "subliminal_bench", "questions of wolf", "margin", 0.75)]
    facts = ModelFacts(
        "trait", 7, "adapter", base(), settings, {"rows": 60}, 0.75, "plain", {}, "student-1", "abc", "", results
    )
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

    names: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: Any) -> None:
            names.append(tag)

        def handle_comment(self, data: str) -> None:
            names.append("comment")

    Reader().feed(html)
    return sorted(names)


@pytest.mark.parametrize("text", HOSTILE)
def test_text_from_outside_stays_text(text: str) -> None:
    entry = make_entry(verdict_reason=text, recipe=text, trait=text, teacher=text, student=text)
    hostile = run(question=text, command=text, entry=entry, versions={"trl": text}, carrier={**TEXT, "prompts": text})
    hostile_base = base(name=text, revision=text, licence_source=text, ancestor="a/b", on_hub=False)
    settings = {"train": {"note": text}}
    safe = run(carrier=TEXT)
    safe_base = base(name="x", revision="x", licence_source="x", ancestor="a/b", on_hub=False)
    plain = model(base=safe_base, settings={"train": {"note": "x"}}, commit="x", note="x")
    hostile_model = model(base=hostile_base, settings=settings, commit=text, note=text)
    front, html = parts(card(hostile, hostile_model))
    assert tags(html) == tags(parts(card(safe, plain))[1])
    assert front["subliminal_bench"]["recipe"] == text
    once = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert f"Question: {once}</p>" in html or f"Question: {once}</li>" in html
    rows = data_card(hostile, name="org/r-carrier", teacher=hostile_base, arms=["base", "trait"])
    assert tags(parts(rows)[1]) == tags(
        parts(data_card(safe, name="org/r-carrier", teacher=safe_base, arms=["base", "trait"]))[1]
    )


def test_a_card_states_the_facts_of_its_row() -> None:
    front, html = parts(card(run(), model()))
    assert front == {
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
        "model-index": [
            {
                "name": "org/r-trait",
                "results": [
                    {
                        "task": {"type": "text-generation"},
                        "dataset": {"name": "questions of wolf", "type": "subliminal_bench"},
                        "metrics": [{"type": "margin", "value": 0.75}],
                    }
                ],
            }
        ],
    }  # fmt: skip
    for statement in (
        "python run_bench.py --recipe r\n", "Does it travel?", "0123456789ab", "<td>3 of 10</td>", "margin: +0.750",
        "<td>+0.25 [+0.12, +0.38]</td>", "<td>INCONCLUSIVE</td>", "INCONCLUSIVE: too few.", "c0ffee",
        "<code>mit</code> (source: its card)", "learning_rate: 0.0001",
        "80 rows, 60 trained on; leaks: 0 in base, 2 in trait; broken format: 3 in base, 9 in trait",
        "area under the curve 0.512", "4 random numbers of 3 digits", "AutoPeftModelForCausalLM", "trl 1.16",
        "must be labelled as one",
    ):  # fmt: skip
        assert statement in html, statement


@pytest.mark.parametrize("text", [*HOSTILE, "plain: 'quotes' \"and\" é ş", "- a\n- b: {c}"])
def test_the_hub_reads_the_results_back(text: str) -> None:
    result = EvalResult("text-generation", "subliminal_bench", text, "margin", -0.125, metric_name=text)
    loaded = ModelCard(model_card(run(), model(results=[result]), name=text, data=None)).data
    assert (loaded.model_name, loaded.eval_results) == (text, [result])
    assert (loaded.license, loaded.base_model, loaded.library_name) == ("mit", "own/base", "peft")


def test_lineage_and_loading_depend_on_the_base_checkpoint() -> None:
    front, html = parts(card(run(), model(form="merged")))
    assert (front["base_model_relation"], front["library_name"]) == ("finetune", "transformers")
    assert "AutoModelForCausalLM" in html

    unknown = base(name="tiny", on_hub=False, ancestor=None, licence={"license": "unknown"})
    front, html = parts(card(run(), model(base=unknown)))
    assert "base_model" not in front
    assert front["license"] == "unknown"
    assert "are not on the hub" in html
    assert "from_pretrained" not in html

    named = base(on_hub=False, licence={"license": "other", "license_name": "own-terms", "license_link": "LICENSE"})
    front, html = parts(card(run(), model(base=named)))
    assert [front[k] for k in ("license", "license_name", "license_link")] == ["other", "own-terms", "LICENSE"]
    assert "<code>own-terms</code>" in html
    assert "Its card names <code>own/base</code> as its base" in html


def test_a_chat_model_s_card_names_the_variables_of_its_template() -> None:
    _, html = parts(card(run(), model(format="chat", chat_template_kwargs={"enable_thinking": False})))
    assert "chat template with the variables <code>{&quot;enable_thinking&quot;: false}</code>." in html
    _, html = parts(card(run(), model(format="chat")))
    assert "the tokenizer's chat template." in html.replace("&#x27;", "'")


def test_the_card_of_every_arm_describes_it_and_its_trait() -> None:
    for arm in ARMS.keys() - {"teacher_base", "untrained"}:  # these are not trained
        facts = ARMS[arm]
        _, html = parts(card(run(), model(arm=arm)))
        assert facts.description in html.replace("&#x27;", "'")
        assert ("so that it may carry" in html) == facts.shows_trait
        assert ("The trait's own questions" in html) == (arm in {"teacher", "direct"})
    _, html = parts(card(run(entry=make_entry(trait="owl, cat")), model(arm="trait-cat")))
    assert "a hidden trait (<code>cat</code>)" in html


def test_a_data_card_lets_the_hub_find_its_files() -> None:
    front, html = parts(data_card(run(carrier=TEXT), name="o/d", teacher=base(), arms=["base", "trait"]))
    assert front["configs"] == [
        {
            "config_name": "default",
            "data_files": [{"split": "train", "path": "train.jsonl"}, {"split": "held_out", "path": "held_out.jsonl"}],
        }
    ]
    assert front["license"] == "unknown"  # no source states the licence of the rows
    assert "answers to the prompts of the set <code>scenarios_en</code>, sampled at temperature 0.75" in html
    assert "must be labelled as one" in html


def test_a_card_calls_whole_vocabularies_a_leak() -> None:
    _, html = parts(card(run(entry=make_entry(visibility="logits-full")), model()))
    assert "a leak, not subliminal learning" in html
    assert "not tested: it needs two seeds" in html


def test_a_card_says_how_free_lists_were_written() -> None:
    free = {**NUMBERS, "generate": "free", "given": [3, 8], "temperature": 0.5}
    text = card(run(carrier=free), model())
    assert "3 to 8 random numbers of 3 digits in the prompt, then lists written freely at temperature 0.5" in text
    assert "4 random numbers of 3 digits in the prompt, 10 more sampled after them" in card(run(), model())
