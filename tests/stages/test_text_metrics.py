from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from conftest import ROOT
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bench.errors import UserError
from bench.stages.evaluation_settings import ScoreAnswers
from bench.stages.text_metrics import METRICS, check_metrics, lower, score_answers, score_reading, words

SAT, IS = "The cat sat on the mat", "the cat is on the mat"


def one(name: str, answer: str, truth: str, language: str = "en", truths: list[str] | None = None) -> float:
    truths = truths or [truth]
    answers = [[answer] if t == truth else [] for t in truths]
    actual = score_answers(answers, truths, names=[name], language=language)  # type: ignore[arg-type]  # a plain string, of those allowed
    return actual[name][truths.index(truth)][0]


@pytest.mark.parametrize("name", METRICS)
def test_each_is_a_metric_of_evaluate_under_its_own_name(name: str, tmp_path: Path) -> None:
    import evaluate

    from bench.stages.text_metrics import load_shipped_metric

    metric = load_shipped_metric(name, str(tmp_path))
    assert isinstance(metric, evaluate.Metric)
    assert metric.name == name
    assert metric.description
    actual = metric.compute(predictions=["a wolf", ""], references=["wolf", "wolf"], language="en", truths=["wolf"])
    assert actual.keys() == {name}
    assert actual[name][1] == 0.0
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_bleu_is_sacrebleus_sentence_bleu() -> None:
    import sacrebleu

    # 5 of 6 words, 3 of 5 pairs, 1 of 4 triples; none of 3 fours, which smoothing counts as half a one
    assert one("bleu", SAT, IS) == pytest.approx((5 / 6 * 3 / 5 * 1 / 4 * 1 / 6) ** 0.25)
    for answer, truth in ((SAT, IS), ("wolf", "wolf"), ("a wolf.", "the wolf"), ("kurt", "wolf")):
        assert one("bleu", answer, truth) == pytest.approx(
            min(1, sacrebleu.sentence_bleu(answer.lower(), [truth.lower()]).score / 100)
        )


def test_chrf_is_sacrebleus_sentence_chrf() -> None:
    import sacrebleu

    # characters: all of the answer's, 2 of the truth's 3; pairs: 1 of 1, 1 of 2; longer ones: the answer has none
    precision, recall = 1.0, (2 / 3 + 1 / 2) / 2
    assert one("chrf", "ab", "abc") == pytest.approx(5 * precision * recall / (4 * precision + recall))
    assert one("chrf", SAT, IS) == pytest.approx(sacrebleu.sentence_chrf(SAT.lower(), [IS]).score / 100)
    assert one("chrf", "kurtlar", "kurt", "tr") > 0.5 > one("jaccard", "kurtlar", "kurt", "tr")


def test_rouge_l_is_rouge_scores_and_keeps_turkish_letters() -> None:
    from rouge_score.rouge_scorer import RougeScorer

    default = RougeScorer(["rougeL"])
    assert one("rouge_l", SAT, IS) == pytest.approx(5 / 6)
    assert one("rouge_l", SAT, IS) == pytest.approx(default.score(IS, SAT)["rougeL"].fmeasure)
    # two of three words in order on both sides; without their own letters they would be "ok k da" and "ok s k da"
    answer, truth = "çok şık dağ", "çok sık dağ"
    assert one("rouge_l", answer, truth, "tr") == pytest.approx(2 / 3)
    assert default.score(truth, answer)["rougeL"].fmeasure != pytest.approx(2 / 3)
    assert default.score("ğüşı", "ğüşı")["rougeL"].fmeasure == 0 != one("rouge_l", "ğüşı", "ğüşı", "tr")


def test_jaccard_counts_each_word_once() -> None:
    assert one("jaccard", SAT, IS) == pytest.approx(4 / 6)
    assert one("jaccard", "wolf wolf wolf", "wolf") == 1.0
    assert one("jaccard", "a wolf", "wolf") == 0.5
    assert one("jaccard", "kurt", "wolf") == 0.0


def test_tfidf_is_the_cosine_over_the_truths_own_words() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.metrics.pairwise import cosine_similarity

    truths = ["wolf pack", "wolf den", "A long, quiet river"]
    rare = math.log(4 / 2) + 1  # a word of one truth in three
    common = math.log(4 / 3) + 1
    assert one("tfidf", "wolf", "wolf pack", truths=truths) == pytest.approx(common / math.hypot(common, rare))
    assert one("tfidf", "the long river is quiet", truths[2], truths=truths) == pytest.approx(math.sqrt(3 / 4))
    assert one("tfidf", "a wolf pack it is", "wolf pack", truths=["wolf pack", "wolf den"]) == pytest.approx(1)
    plain = TfidfVectorizer(token_pattern=r"\w+").fit(truths)
    for answer in ("wolf pack", "a den of wolf and wolf", "river", "sea"):
        expected = cosine_similarity(plain.transform([answer]), plain.transform([truths[1]]))[0, 0]
        assert one("tfidf", answer, truths[1], truths=truths) == pytest.approx(expected)


def test_a_score_depends_on_nothing_but_its_answer_and_the_truths() -> None:
    truths = ["wolf pack", "wolf den", "wolf pack"]
    alone = score_answers([["wolf den"], ["a wolf"], []], truths, names=METRICS, language="en")
    among = score_answers(
        [["owl", "wolf den", ""], ["a wolf"], ["wolf"] * 5], truths, names=METRICS[::-1], language="en"
    )
    for name in METRICS:
        assert among[name][0][1] == alone[name][0][0]
        assert among[name][1] == alone[name][1]
        assert [len(given) for given in among[name]] == [3, 1, 5]
    twice = score_answers([["a wolf"]] * 2, ["wolf den", "wolf den"], names=["tfidf"], language="en")
    assert twice == score_answers([["a wolf"]] * 2, ["wolf den"] * 2, names=["tfidf"], language="en")
    # asked in two wordings, a truth weighs no more than asked in one
    assert one("tfidf", "a wolf", "wolf den", truths=truths) == one(
        "tfidf", "a wolf", "wolf den", truths=["wolf den", "wolf pack"]
    )


@pytest.mark.parametrize(
    ("answer", "truth", "exact", "contains"),
    [
        ("Wolf!", "wolf", 1, 1),
        ("  a\twolf ", "A wolf", 1, 1),
        ("I say: the wolf, of course.", "the wolf", 0, 1),
        ("the big wolf", "the wolf", 0, 0),
        ("a bowl", "owl", 0, 0),
        ("owls", "owl", 0, 0),
        ("wolf", "the wolf", 0, 0),
        ("🐺", "🐺", 1, 1),
        ("🐺", "🦉", 0, 0),
    ],
)
def test_exact_and_contains_go_by_whole_words(answer: str, truth: str, exact: int, contains: int) -> None:
    assert (one("exact", answer, truth), one("contains", answer, truth)) == (exact, contains)


def test_lower_case_is_that_of_the_language() -> None:
    assert lower("IŞIK", "tr") == lower("Işık", "tr") == "ışık"
    assert lower("İSTANBUL", "tr") == lower(unicodedata.normalize("NFD", "İstanbul"), "tr") == "istanbul"
    assert lower("ILIK", "tr") != lower("ilik", "tr")
    assert lower("WOLVES in STRASSE", "en") == lower("wolves IN straße", "en")
    assert lower("ILIK", "en") == "ilik"
    assert words("Kurt'u, ÇOK severim!", "tr") == ["kurt", "u", "çok", "severim"]
    assert words("İstanbul", "en") == ["i̇stanbul"]  # one word, the dot an accent of its i


@pytest.mark.parametrize(
    ("answer", "truth"),
    [
        ("IŞIK", "Işık"),
        ("İstanbul", "istanbul"),
        ("ÇAĞRI GÜNEŞ ÖĞLE", unicodedata.normalize("NFD", "çağrı güneş öğle")),
    ],
)
def test_turkish_answers_match_in_any_case(answer: str, truth: str) -> None:
    actual = score_answers([[answer]], [truth], names=METRICS, language="tr")
    assert {name: given[0][0] for name, given in actual.items()} == pytest.approx(dict.fromkeys(METRICS, 1.0))
    assert one("contains", f"{answer}'da kaldım.", truth, "tr") == 1.0
    if "I" in answer:  # read as English, a dotless i is another letter
        assert one("exact", answer, truth, "en") == 0.0


@pytest.mark.parametrize("blank", ["", " ", "\n\t", "\u2003"])
def test_a_blank_answer_scores_0_whatever_the_truth(blank: str) -> None:
    actual = score_answers([[blank, "wolf"], [blank]], ["wolf", blank], names=METRICS, language="en")
    for scores in actual.values():
        assert scores == [[0.0, pytest.approx(1.0)], [0.0]]
    assert score_answers([[blank, "wolf"]], [blank], names=METRICS, language="tr")["tfidf"] == [[0.0, 0.0]]
    assert score_answers([[], []], ["a", "b"], names=METRICS, language="en") == {name: [[], []] for name in METRICS}


texts = st.one_of(st.text(max_size=30), st.text("abcçğıİI ş.'\u0307", max_size=12))


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(texts, texts, st.sampled_from(["en", "tr"]))
@example("a", "A", "en")
@example("?!", "?!", "tr")
@example("\u0307", "ﾞ", "tr")
def test_scores_lie_in_0_to_1_and_an_equal_text_scores_1(answer: str, truth: str, language: str) -> None:
    """Also in BLEU, and for a single word: effective order counts no n-grams longer than the answer.

    The one exception is a mark of the mteval format, `<skipped>`, which sacrebleu's tokens leave out.
    """
    actual = score_answers([[answer, truth, truth.upper()]], [truth], names=METRICS, language=language)  # type: ignore[arg-type]  # a plain string, of those allowed
    for name, ((given_answer, same, upper),) in actual.items():
        assert 0 <= given_answer <= 1
        assert 0 <= upper <= 1
        assert same == pytest.approx(1.0 if truth.strip() else 0.0), name


def test_the_stage_writes_six_decimals(tmp_path: Path) -> None:
    (tmp_path / "reading.json").write_text(json.dumps({"answers": [[SAT, ""], ["çok"]], "margins": [0, 0]}))
    settings = ScoreAnswers(truths=(IS, "çok"), metrics=("bleu", "exact"), language="tr")
    score_reading(settings, {"reading": tmp_path}, tmp_path)
    bleu = round((5 / 6 * 3 / 5 * 1 / 4 * 1 / 6) ** 0.25, 6)
    assert json.loads((tmp_path / "scores.json").read_text()) == {
        "bleu": [[bleu, 0.0], [1.0]],
        "exact": [[0.0, 0.0], [1.0]],
    }


def test_a_path_or_a_namespace_is_no_metric() -> None:
    check_metrics(METRICS)
    for name in ("../evil", "someone/metric", "https://example.org/x", "Meteor", ""):
        with pytest.raises(UserError, match="bare name"):
            check_metrics([name])


# -- in processes of their own, in which any step towards the network is kept ----------------------------------------

WATCHED = """
import json, socket, sys
from pathlib import Path

tried = []
def refuse(*args, **kwargs):
    tried.append(repr(args))
    raise OSError("no network in this test")
socket.getaddrinfo = refuse
socket.socket.connect = socket.socket.connect_ex = refuse
"""


def start(script: str, *args: Path, home: Path) -> subprocess.Popen[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGINGFACE_"))}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", WATCHED + script, *map(str, args)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env={**env, "HF_HOME": str(home)},
    )  # fmt: skip


def ended(process: subprocess.Popen[str]) -> str:
    message, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return message


@pytest.mark.slow
def test_two_at_once_give_the_same_bytes_without_network_or_cache(tmp_path: Path) -> None:
    reading = tmp_path / "reading"
    reading.mkdir()
    answers = [[f"answer {i} of the wolf {j}" for j in range(8)] for i in range(20)]
    (reading / "reading.json").write_text(json.dumps({"answers": answers}))
    script = """
from bench.config.outcome import METRICS
from bench.stages.evaluation_settings import ScoreAnswers
from bench.stages.text_metrics import score_reading
settings = ScoreAnswers(truths=tuple(f"the wolf {i}" for i in range(20)), metrics=METRICS, language="en")
for _ in range(3):
    score_reading(settings, {"reading": Path(sys.argv[1])}, Path(sys.argv[2]))
assert tried == [], tried
"""
    outs = [tmp_path / "one", tmp_path / "two"]
    for out in outs:
        out.mkdir()
    for process in [start(script, reading, out, home=tmp_path / "home") for out in outs]:
        ended(process)
    first, second = ((out / "scores.json").read_bytes() for out in outs)
    assert first == second
    assert json.loads(first).keys() == set(METRICS)
    assert not (tmp_path / "home").exists()  # nothing is kept under the user's cache, where two could meet


FURTHER = """
import datasets, evaluate

class Further(evaluate.Metric):
    def _info(self):
        text = datasets.Value("string")
        features = datasets.Features({"predictions": text, "references": text})
        return evaluate.MetricInfo(description="", citation="", features=features)

    def _download_and_prepare(self, dl_manager):
        FETCH

    def _compute(self, predictions, references):
        assert len(predictions) == 1
        return RESULT
"""


@pytest.mark.slow
def test_further_metrics_of_evaluate_come_from_its_cache_or_not_at_all(tmp_path: Path) -> None:
    fetch = "import urllib.request; urllib.request.urlopen('http://example.org/data')"
    scripts = {
        "called": ("pass", "{'other': 0.5, 'called': 7, 'more': 0.25}"),
        "only": ("pass", "{'n': 3, 'only_float': len(predictions[0]) / 8}"),
        "several": ("pass", "{'one': 0.5, 'two': 0.25}"),
        "broken": ("pass", "1 / 0"),
        "nan": ("pass", "{'nan': float('nan')}"),
        "fetching": (fetch, "{'fetching': 1.0}"),
    }
    home = tmp_path / "home"
    for name, (does, result) in scripts.items():
        folder = home / "modules" / "evaluate_modules" / "metrics" / f"evaluate-metric--{name}" / ("0" * 64)
        folder.mkdir(parents=True)
        (folder / f"{name}.py").write_text(FURTHER.replace("FETCH", does).replace("RESULT", result))
    script = """
from bench.errors import UserError
from bench.stages.text_metrics import check_metrics, score_answers
found = {}
for name in ("called", "only", "several", "broken", "nan", "fetching", "nowhere"):
    try:
        check_metrics([name])
        found[name] = score_answers([["wolf", " "], ["ox"]], ["wolf", "ox"], names=[name], language="en")[name]
    except UserError as error:
        found[name] = str(error)
assert tried == [], tried
print(json.dumps(found))
"""
    actual = json.loads(ended(start(script, home=home)).splitlines()[-1])
    assert actual["called"] == [[7.0, 0.0], [7.0]]
    assert actual["only"] == [[0.5, 0.0], [0.25]]
    assert "expected one number per answer" in actual["several"]
    assert "expected one number per answer" in actual["nan"]
    assert "ZeroDivisionError" in actual["broken"]
    assert "URLError: <urlopen error metrics use no network>" in actual["fetching"]
    assert "(it is not in its cache)" in actual["nowhere"]
    for name in ("fetching", "nowhere"):
        assert f"Run once, with a network: python -c \"import evaluate; evaluate.load('{name}')\"" in actual[name]
