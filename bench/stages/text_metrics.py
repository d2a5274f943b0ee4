"""Free answers against the ground truth: one score per answer, from what is on this machine alone.

The shipped metrics lie in 0..1. They compare lower-cased text, as its language has it (Turkish I is ı and İ is i), and
a text without content scores 0 whatever it is held against. Nothing here is the primary reading: that is the margin.

Words are runs of letters, digits and underscores: `exact`, `contains`, `jaccard`, `tfidf` and `rouge_l` see no
punctuation, and take an inflected form (wolves, kurtlar) for another word. `bleu` counts punctuation marks as words;
`chrf` looks at characters, so it alone gives credit for a shared stem.
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

from bench.config.recipe import METRICS
from bench.errors import UserError
from bench.stages.settings import ScoreAnswers

__all__ = ["check_metrics", "load_shipped_metric", "lower", "score_answers", "score_reading", "words"]

Language: TypeAlias = Literal["en", "tr"]
Score: TypeAlias = Callable[[str, str], float]

TURKISH = str.maketrans({"I": "ı", "İ": "i"})
WORD = re.compile(r"\w[\w\u0300-\u036f]*")  # a letter keeps the accents that follow it
NAME = re.compile(r"[a-z][a-z0-9_]*")


def lower(text: str, language: Language) -> str:
    """`text` in lower case and in Unicode's composed form (NFC), for comparison."""
    text = unicodedata.normalize("NFC", text)  # first: a dotted capital I may be spelled in two characters
    text = text.translate(TURKISH).lower() if language == "tr" else text.casefold()
    return unicodedata.normalize("NFC", text)


def words(text: str, language: Language) -> list[str]:
    """The words of `text`, in lower case; of a text without any (an emoji, "?!"), what stands between its spaces."""
    text = lower(text, language)
    return WORD.findall(text) or text.split()


# -- the shipped metrics: (language, all truths) -> (answer, truth) -> score in 0..1 --------------------------------


def _bleu(language: Language, truths: Sequence[str]) -> Score:
    """Sentence BLEU (Papineni et al. 2002) of sacrebleu: 13a tokens, exponential smoothing, effective order.

    Effective order leaves out the n-grams longer than the answer: "wolf" against "wolf" is 1, and a right word in an
    answer of one word counts for more than it would in four.
    """
    from sacrebleu.metrics.bleu import BLEU

    bleu = BLEU(effective_order=True)
    return lambda answer, truth: bleu.sentence_score(lower(answer, language), [lower(truth, language)]).score / 100


def _rouge_l(language: Language, truths: Sequence[str]) -> Score:
    """ROUGE-L (Lin 2004): F-measure of the longest common subsequence of words.

    With the words of this module, for rouge-score's own tokenizer drops every letter but a to z.
    """
    from rouge_score.rouge_scorer import RougeScorer
    from rouge_score.tokenizers import Tokenizer

    class Words(Tokenizer):  # type: ignore[misc]  # these have no types
        def tokenize(self, text: str) -> list[str]:
            return words(text, language)

    scorer = RougeScorer(["rougeL"], tokenizer=Words())
    return lambda answer, truth: float(scorer.score(truth, answer)["rougeL"].fmeasure)


def _jaccard(language: Language, truths: Sequence[str]) -> Score:
    """Words in common, as a share of the words of both (Jaccard 1912)."""

    def score(answer: str, truth: str) -> float:
        one, other = set(words(answer, language)), set(words(truth, language))
        return len(one & other) / len(one | other)

    return score


def _tfidf(language: Language, truths: Sequence[str]) -> Score:
    """Cosine of tf-idf vectors (Salton & Buckley 1988), fitted on the distinct truths and on nothing else.

    So a score does not depend on what else is compared. Words that no truth uses have no weight: an answer loses by
    the words of other truths, not by being long.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    known = [truth for truth in dict.fromkeys(truths) if truth.strip()]
    if not known:
        return lambda answer, truth: 0.0
    fitted = TfidfVectorizer(analyzer=lambda text: words(text, language)).fit(known)
    vector = cache(lambda text: fitted.transform([text]))  # samples repeat one another
    return lambda answer, truth: float(vector(answer).multiply(vector(truth)).sum())


def _exact(language: Language, truths: Sequence[str]) -> Score:
    """1 where the answer's words are those of the truth, else 0."""
    return lambda answer, truth: float(words(answer, language) == words(truth, language))


def _contains(language: Language, truths: Sequence[str]) -> Score:
    """1 where the truth's words stand in the answer, whole and in a row, else 0: no owl in a bowl."""

    def spaced(text: str) -> str:
        return f" {' '.join(words(text, language))} "

    return lambda answer, truth: float(spaced(truth) in spaced(answer))


def _chrf(language: Language, truths: Sequence[str]) -> Score:
    """Character n-gram F-score (Popović 2015) of sacrebleu: n up to 6, recall twice as heavy, spaces apart."""
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
    """The shipped metric `name`: its class is made here, so that `evaluate` looks for no script.

    Kept in memory, it writes no file and takes no lock; it does make an empty folder, inside `folder`.
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
            one = scorer(language, truths)
            pairs = zip(predictions, references, strict=True)
            # sums of logarithms and of squares end a hair above 1
            return {name: [min(1.0, one(a, t)) if a.strip() and t.strip() else 0.0 for a, t in pairs]}

    Shipped.__name__ = name  # by which `evaluate` calls it
    return Shipped(keep_in_memory=True, cache_dir=folder)


# -- metrics of `evaluate` that a recipe names besides ---------------------------------------------------------------


@contextmanager
def _offline() -> Iterator[None]:
    """Keep `evaluate` and the scripts it runs off the network meanwhile.

    Its own switch spares waiting, but covers neither what scripts fetch nor what the hub's client looks up. All of them
    ask Python for an address before they connect, so that is where they are refused.
    """
    from evaluate import config

    def refuse(*_: Any, **__: Any) -> Any:
        raise socket.gaierror("metrics use no network")

    resolve, said = socket.getaddrinfo, config.HF_EVALUATE_OFFLINE
    socket.getaddrinfo, config.HF_EVALUATE_OFFLINE = refuse, True
    try:
        yield
    finally:
        socket.getaddrinfo, config.HF_EVALUATE_OFFLINE = resolve, said


def _load(name: str) -> Any:
    import evaluate

    if not NAME.fullmatch(name):  # a path or a namespace would run code that nobody has looked at
        raise UserError(f"metric {name!r}: expected one of {', '.join(METRICS)}, or the bare name of one of evaluate's")
    try:
        with _offline():
            return evaluate.load(name, module_type="metric", keep_in_memory=True)
    except Exception as error:  # its script may raise anything
        raise _not_had(name, error) from None


def _not_had(name: str, error: Exception) -> UserError:
    found = not isinstance(error, FileNotFoundError)
    said = " ".join(f"{type(error).__name__}: {error}".split())[:300] if found else "it is not in its cache"
    return UserError(
        f"metric {name!r}: not one of {', '.join(METRICS)}, and evaluate's of that name does not work here, offline "
        f'({said}). Run once, with a network: python -c "import evaluate; evaluate.load({name!r})"'
    )


def _one_number(name: str, result: Mapping[str, Any]) -> float:
    """The score called `name` of what `evaluate` gave for one answer, or its only float."""
    value = result.get(name)
    if not isinstance(value, Real):
        floats = [v for v in result.values() if isinstance(v, Real) and not isinstance(v, Integral)]
        value = floats[0] if len(floats) == 1 else None
    if value is None or not math.isfinite(value):
        raise UserError(f"metric {name!r}: gives no one number for an answer, but {result!r:.200}; take another")
    return float(value)


def _further(name: str, metric: Any, answers: Sequence[str], truths: Sequence[str]) -> list[float]:
    """Scores of a metric of `evaluate`, one answer at a time: given several, most give one score for all of them."""
    scores = []
    for answer, truth in zip(answers, truths, strict=True):
        if not answer.strip():
            scores.append(0.0)
            continue
        try:
            with _offline():
                result = metric.compute(predictions=[answer], references=[truth])
        except Exception as error:
            raise _not_had(name, error) from None
        scores.append(_one_number(name, result))
    return scores


def check_metrics(names: Sequence[str]) -> None:
    """See that every metric can be had: the shipped ones can, others are loaded and tried on one answer.

    Raises:
        UserError: one cannot, offline; it says what to run.
    """
    for name in names:
        if name not in METRICS:
            _further(name, _load(name), ["a try"], ["a try"])


def score_answers(
    answers: Sequence[Sequence[str]], truths: Sequence[str], *, names: Sequence[str], language: Language
) -> dict[str, list[list[float]]]:
    """Score sampled answers against the ground truth.

    Args:
        answers: per question, the texts a model gave.
        truths: per question, the true answer.
        names: of `METRICS`, or of further metrics of `evaluate`, which keep their own scale.
        language: of answers and truths: what their lower case is.

    Returns:
        Per metric, per question, per answer, a score. The shipped metrics lie in 0..1. An answer without content is 0.

    Raises:
        UserError: a further metric cannot be had offline, or gives no one number.
    """
    flat = [answer for given in answers for answer in given]
    truth_of = [truth for given, truth in zip(answers, truths, strict=True) for _ in given]
    scores: dict[str, list[list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            found: list[float] = []
            if flat and name in METRICS:
                metric = load_shipped_metric(name, folder)
                found = metric.compute(predictions=flat, references=truth_of, language=language, truths=truths)[name]
            elif flat:
                found = _further(name, _load(name), flat, truth_of)
            in_order = iter(found)
            scores[name] = [[next(in_order) for _ in given] for given in answers]
    return scores


def score_reading(settings: ScoreAnswers, inputs: Mapping[str, Path], out: Path) -> None:
    """Stage: scores of one model's answers, written to `scores.json`: {metric: per question, per answer}.

    Args:
        settings: the true answers and the metrics.
        inputs: `reading`, the artefact of an evaluation with free answers.
        out: the folder to write to.

    Raises:
        UserError: a further metric cannot be had offline, or gives no one number.
    """
    answers = json.loads((inputs["reading"] / "reading.json").read_text(encoding="utf-8"))["answers"]
    found = score_answers(answers, settings.truths, names=settings.metrics, language=settings.language)
    # the libraries' last digits differ between processors
    rounded = {name: [[round(value, 6) for value in given] for given in scores] for name, scores in found.items()}
    (out / "scores.json").write_text(json.dumps(rounded), encoding="utf-8")
