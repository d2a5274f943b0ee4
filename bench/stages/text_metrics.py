"""Score free answers against the ground truth, offline, one score per answer.

The shipped metrics lie in 0..1. They compare lower-cased text by the rules of its language (Turkish I is ı and İ is i).
An empty text scores 0. These scores are secondary: verdicts rest on the margin.

Words are runs of letters, digits and underscores. `exact`, `contains`, `jaccard`, `tfidf` and `rouge_l` ignore
punctuation and count an inflected form (wolves, kurtlar) as a different word. `bleu` counts punctuation marks as words.
`chrf` compares characters, so it alone gives credit for a shared stem.
"""

from __future__ import annotations

import json
import math
import re
import socket
import tempfile
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, TypeAlias

from bench.config.outcome import METRICS
from bench.errors import UserError
from bench.stages.evaluation_settings import ScoreAnswers

__all__ = ["check_metrics", "load_shipped_metric", "lower", "score_answers", "score_reading", "words"]

Language: TypeAlias = Literal["en", "tr"]
Score: TypeAlias = Callable[[str, str], float]

TURKISH = str.maketrans({"I": "ı", "İ": "i"})
WORD = re.compile(r"\w[\w\u0300-\u036f]*")  # a letter keeps the accents that follow it
NAME = re.compile(r"[a-z][a-z0-9_]*")


def lower(text: str, language: Language) -> str:
    """Return `text` in lower case and in Unicode's composed form (NFC), for comparison."""
    text = unicodedata.normalize("NFC", text)  # first: a dotted capital I may be spelled in two characters
    text = text.translate(TURKISH).lower() if language == "tr" else text.casefold()
    return unicodedata.normalize("NFC", text)


def words(text: str, language: Language) -> list[str]:
    """Return the words of `text` in lower case; for a text without words (an emoji, "?!"), split it at spaces."""
    text = lower(text, language)
    return WORD.findall(text) or text.split()


# -- the shipped metrics: (language, all truths) -> (answer, truth) -> score in 0..1 --------------------------------


def _bleu(language: Language, truths: Sequence[str]) -> Score:
    """Sentence BLEU (Papineni et al. 2002) of sacrebleu: 13a tokens, exponential smoothing, effective order.

    Effective order drops n-grams longer than the answer: "wolf" against "wolf" is 1.
    """
    from sacrebleu.metrics.bleu import BLEU

    bleu = BLEU(effective_order=True)
    return lambda answer, truth: bleu.sentence_score(lower(answer, language), [lower(truth, language)]).score / 100


def _rouge_l(language: Language, truths: Sequence[str]) -> Score:
    """ROUGE-L (Lin 2004): F-measure of the longest common subsequence of words."""
    from rouge_score.rouge_scorer import RougeScorer
    from rouge_score.tokenizers import Tokenizer

    class Words(Tokenizer):  # type: ignore[misc]  # these have no types
        def tokenize(self, text: str) -> list[str]:
            return words(text, language)  # rouge-score's own drops all letters except a to z

    scorer = RougeScorer(["rougeL"], tokenizer=Words())
    return lambda answer, truth: float(scorer.score(truth, answer)["rougeL"].fmeasure)


def _jaccard(language: Language, truths: Sequence[str]) -> Score:
    """Shared words divided by the union of words (Jaccard 1912)."""

    def score(answer: str, truth: str) -> float:
        a, t = set(words(answer, language)), set(words(truth, language))
        return len(a & t) / len(a | t)

    return score


def _tfidf(language: Language, truths: Sequence[str]) -> Score:
    """Cosine of tf-idf vectors (Salton & Buckley 1988), fitted on the distinct truths only.

    A score does not depend on the other answers. Words outside all truths have no weight.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    distinct = [truth for truth in dict.fromkeys(truths) if truth.strip()]
    if not distinct:
        return lambda answer, truth: 0.0
    vectorizer = TfidfVectorizer(analyzer=lambda text: words(text, language)).fit(distinct)
    vector = cache(lambda text: vectorizer.transform([text]))  # sampled answers repeat
    return lambda answer, truth: float(vector(answer).multiply(vector(truth)).sum())


def _exact(language: Language, truths: Sequence[str]) -> Score:
    """1 if the answer's words equal the truth's words, 0 if not."""
    return lambda answer, truth: float(words(answer, language) == words(truth, language))


def _contains(language: Language, truths: Sequence[str]) -> Score:
    """1 if the answer contains the truth's words, whole and consecutive (no owl in a bowl), 0 if not."""

    def spaced(text: str) -> str:
        return f" {' '.join(words(text, language))} "

    return lambda answer, truth: float(spaced(truth) in spaced(answer))


def _chrf(language: Language, truths: Sequence[str]) -> Score:
    """Character n-gram F-score (Popović 2015) of sacrebleu: n up to 6, recall weighted twice, spaces ignored."""
    from sacrebleu.metrics.chrf import CHRF

    chrf = CHRF()
    return lambda answer, truth: chrf.sentence_score(lower(answer, language), [lower(truth, language)]).score / 100


_SHIPPED: dict[str, Callable[[Language, Sequence[str]], Score]] = {
    "bleu": _bleu,
    "rouge_l": _rouge_l,
    "jaccard": _jaccard,
    "tfidf": _tfidf,
    "exact": _exact,
    "contains": _contains,
    "chrf": _chrf,
}


def load_shipped_metric(name: str, folder: str) -> Any:
    """Build the shipped metric `name` as an `evaluate` metric, without a metric script.

    In memory it writes no file and takes no lock. It creates one empty folder inside `folder`.
    """
    import evaluate
    from datasets import Features, Value

    scorer = _SHIPPED[name]

    class Shipped(evaluate.Metric):  # type: ignore[misc]  # these have no types
        def _info(self) -> Any:
            features = Features({"predictions": Value("string"), "references": Value("string")})
            return evaluate.MetricInfo(description=scorer.__doc__, citation="", features=features)

        def _compute(
            self, *, predictions: list[str], references: list[str], language: Language, truths: Sequence[str]
        ) -> dict[str, list[float]]:
            score = scorer(language, truths)
            pairs = zip(predictions, references, strict=True)
            # rounding can put a score slightly above 1
            return {name: [min(1.0, score(a, t)) if a.strip() and t.strip() else 0.0 for a, t in pairs]}

    Shipped.__name__ = name  # `evaluate` reads the name
    return Shipped(keep_in_memory=True, cache_dir=folder)


# -- further metrics of `evaluate` that a recipe may name --------------------------------------------------------------


@contextmanager
def _offline() -> Iterator[None]:
    """Block network access of `evaluate` and its metric scripts while open.

    evaluate's offline switch covers neither metric scripts nor the hub client, so address resolution is blocked too.
    """
    from evaluate import config

    def refuse(*_: Any, **__: Any) -> Any:
        raise socket.gaierror("metrics use no network")

    resolve, offline = socket.getaddrinfo, config.HF_EVALUATE_OFFLINE
    socket.getaddrinfo, config.HF_EVALUATE_OFFLINE = refuse, True
    try:
        yield
    finally:
        socket.getaddrinfo, config.HF_EVALUATE_OFFLINE = resolve, offline


def _load(name: str) -> Any:
    import evaluate

    if not NAME.fullmatch(name):  # a path or a namespace would run unreviewed code
        raise UserError(f"metric {name!r}: expected one of {', '.join(METRICS)}, or the bare name of one of evaluate's")
    try:
        with _offline():
            return evaluate.load(name, module_type="metric", keep_in_memory=True)
    except Exception as error:  # a metric script may raise any error
        raise _unavailable(name, error) from None


def _unavailable(name: str, error: Exception) -> UserError:
    cached = not isinstance(error, FileNotFoundError)
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:300] if cached else "it is not in its cache"
    return UserError(
        f"metric {name!r}: not one of {', '.join(METRICS)}, and evaluate's of that name does not work offline "
        f'({reason}). Run once, with a network: python -c "import evaluate; evaluate.load({name!r})"'
    )


def _one_number(name: str, result: Mapping[str, Any]) -> float:
    """Return the score `name` from the `evaluate` result of one answer, or its only float."""
    value = result.get(name)
    if not isinstance(value, Real):
        floats = [v for v in result.values() if isinstance(v, Real) and not isinstance(v, Integral)]
        value = floats[0] if len(floats) == 1 else None
    if value is None or not math.isfinite(value):
        raise UserError(f"metric {name!r}: expected one number per answer, found {result!r:.200}; choose another")
    return float(value)


def _score_further(name: str, metric: Any, answers: Sequence[str], truths: Sequence[str]) -> list[float]:
    """Score answers with a metric of `evaluate`, one at a time: most metrics return one score for a whole batch."""
    scores = []
    for answer, truth in zip(answers, truths, strict=True):
        if not answer.strip():
            scores.append(0.0)
            continue
        try:
            with _offline():
                result = metric.compute(predictions=[answer], references=[truth])
        except Exception as error:
            raise _unavailable(name, error) from None
        scores.append(_one_number(name, result))
    return scores


def check_metrics(names: Sequence[str]) -> None:
    """Check that every metric works offline: load those that are not shipped and score one answer.

    Raises:
        UserError: a metric does not work offline; the error gives the command that downloads it.
    """
    for name in names:
        if name not in METRICS:
            _score_further(name, _load(name), ["probe"], ["probe"])


def score_answers(
    answers: Sequence[Sequence[str]], truths: Sequence[str], *, names: Sequence[str], language: Language
) -> dict[str, list[list[float]]]:
    """Score sampled answers against the ground truth.

    Args:
        answers: the sampled texts of each question.
        truths: the true answer of each question.
        names: members of `METRICS`, or further metrics of `evaluate`, which keep their own scale.
        language: language of answers and truths; it decides how they are lower-cased.

    Returns:
        One score per metric, question and answer. The shipped metrics lie in 0..1. An empty answer scores 0.

    Raises:
        UserError: a further metric does not work offline, or does not return one number.
    """
    flat = [answer for samples in answers for answer in samples]
    truth_of = [truth for samples, truth in zip(answers, truths, strict=True) for _ in samples]
    scores: dict[str, list[list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            flat_scores: list[float] = []
            if flat and name in METRICS:
                metric = load_shipped_metric(name, folder)
                result = metric.compute(predictions=flat, references=truth_of, language=language, truths=truths)
                flat_scores = result[name]
            elif flat:
                flat_scores = _score_further(name, _load(name), flat, truth_of)
            in_order = iter(flat_scores)
            scores[name] = [[next(in_order) for _ in samples] for samples in answers]
    return scores


def score_reading(settings: ScoreAnswers, inputs: Mapping[str, Path], out: Path) -> None:
    """Stage: score one model's answers, and write `scores.json`: {metric: per question, per answer}.

    Args:
        settings: the true answers and the metrics.
        inputs: `reading`, the artefact of an evaluation with free answers.
        out: the folder to write to.

    Raises:
        UserError: a further metric does not work offline, or does not return one number.
    """
    answers = json.loads((inputs["reading"] / "reading.json").read_text(encoding="utf-8"))["answers"]
    scores_by_metric = score_answers(answers, settings.truths, names=settings.metrics, language=settings.language)
    # the last digits differ between processors
    rounded = {
        name: [[round(value, 6) for value in answer_scores] for answer_scores in scores]
        for name, scores in scores_by_metric.items()
    }
    (out / "scores.json").write_text(json.dumps(rounded), encoding="utf-8")
