"""A bag-of-words probe that tells trait rows from base rows, and a report for readers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.stages.carriers import read_kept
from bench.stages.settings import AuditLeaks

__all__ = ["audit_leaks", "render_audit"]

SHOWN = 12  # words and example rows in a report
# Maxima that bound the cost of the probe at any number of seeds.
FOLDS = 10
PAIRS = 50_000  # of rows


def audit_leaks(settings: AuditLeaks, inputs: Mapping[str, Path], out: Path) -> None:
    """Stage: run the probe over all seeds of an experiment and write `audit.json`.

    A logistic regression on word counts learns to tell trait rows from base rows. It is cross-validated over seeds:
    leave-one-out up to ten seeds, ten folds beyond. An area under the ROC curve of .5 is chance. For numbers a higher
    value may be the effect itself, as a teacher with a trait prefers other numbers. For text it points to words that
    may leak the trait.

    Args:
        settings: the seeds.
        inputs: per seed `base_<seed>`, `trait_<seed>` (carrier artefacts) and `kept_<seed>`.
    """
    tables = {
        seed: tuple(
            [row["completion"] for row in read_kept(inputs[f"{arm}_{seed}"], inputs[f"kept_{seed}"], "train")]
            for arm in ("base", "trait")
        )
        for seed in settings.seeds
    }
    differing = {
        str(seed): [{"base": b, "trait": t} for b, t in zip(*pair, strict=True) if b != t][:SHOWN]
        for seed, pair in tables.items()
    }
    audit = {"probe": _probe(tables), "differing": differing}
    (out / "audit.json").write_text(json.dumps(audit, ensure_ascii=False, indent=1), encoding="utf-8")


def _probe(tables: Mapping[int, Sequence[Sequence[str]]]) -> dict[str, Any]:
    import numpy as np
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    seeds = sorted(tables)
    if len(seeds) < 2:
        return {"auc": None, "auc_per_seed": {}, "towards_trait": [], "towards_base": []}
    pairs_per_seed = max(1, PAIRS // len(seeds))
    tables = {seed: [texts[:pairs_per_seed] for texts in tables[seed]] for seed in seeds}
    folds = [seeds[i::FOLDS] for i in range(min(FOLDS, len(seeds)))]
    counter = CountVectorizer(token_pattern=r"\w+", min_df=2)
    counts = counter.fit_transform([text for seed in seeds for arm in tables[seed] for text in arm])
    is_trait = np.array([arm for seed in seeds for arm, texts in enumerate(tables[seed]) for _ in texts])
    seed_of = np.array([seed for seed in seeds for texts in tables[seed] for _ in texts])
    weights, scores = np.zeros(counts.shape[1]), {}
    for fold in folds:
        training = ~np.isin(seed_of, fold)
        model = LogisticRegression(C=0.1, max_iter=500).fit(counts[training], is_trait[training])
        for seed in fold:
            test = seed_of == seed
            scores[str(seed)] = float(roc_auc_score(is_trait[test], model.decision_function(counts[test])))
        weights += model.coef_[0] / len(folds)
    words, order = counter.get_feature_names_out(), np.argsort(weights)
    return {
        "auc": sum(scores.values()) / len(scores),
        "auc_per_seed": scores,
        "towards_trait": [str(w) for w in words[order[::-1][:SHOWN]]],
        "towards_base": [str(w) for w in words[order[:SHOWN]]],
    }


def render_audit(name: str, mark: str, audit: Mapping[str, Any], carriers: Mapping[int, Mapping[str, Any]]) -> str:
    """Render the audit of one experiment as markdown.

    Args:
        name: the name of the experiment.
        mark: the hash of its recipe.
        audit: the content of `audit.json`.
        carriers: the report of `filter_rows` for each seed.
    """
    lines = [f"# Leak audit of {name} `{mark}`", "", "## Refused rows", ""]
    lines += [
        "A row refused in one arm is refused in all.",
        "",
        "| seed | rows | trained on | alike in all arms | leaks | broken format |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for seed, carrier in sorted(carriers.items()):
        counts = [carrier["rows"], carrier["train"], carrier["identical_rows"]]
        refused = [_by_arm(carrier["refused"]), _by_arm(carrier["format_refused"])]
        lines.append(f"| {seed} | {' | '.join(map(str, counts + refused))} |")
    probe = audit["probe"]
    lines += ["", "## Can a bag of words tell trait rows from base rows?", ""]
    if probe["auc"] is None:
        lines.append("Not tested: the probe needs two seeds.")
    else:
        each = ", ".join(f"{auc:.3f}" for auc in probe["auc_per_seed"].values())
        lines.append(f"Area under the ROC curve on held-out seeds: {probe['auc']:.3f} (.5 is chance; per seed {each}).")
        lines.append(f"Words towards trait: {', '.join(probe['towards_trait'])}.")
        lines.append(f"Words towards base: {', '.join(probe['towards_base'])}.")
    lines += ["", "## Rows that differ", ""]
    for seed, pairs in audit["differing"].items():
        lines.append(f"Seed {seed}:")
        lines += [
            line
            for p in pairs[:4]
            for line in ("", f"    base  {_one_line(p['base'])}", f"    trait {_one_line(p['trait'])}")
        ]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _by_arm(refused: Mapping[str, Mapping[str, int]]) -> str:
    return "; ".join(
        f"{arm}: " + (", ".join(f"{n} {why}" for why, n in sorted(reasons.items())) or "none")
        for arm, reasons in sorted(refused.items())
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())[:160]
