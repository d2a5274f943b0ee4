"""What does the leak filter find of planted leaks, and refuse of everyday text? Writes results/perf/leak_filter.md.

    python -m tests.perf.leak_filter --english FILE... --turkish FILE...

FILE is a treebank (.conllu: the sentences after `# text =`) or a wordnet (.xml: its examples). The page names those of
the published figures.
"""

from __future__ import annotations

import argparse
import random
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from bench.config.carrier_settings import Numbers
from bench.config.prompts import load_problems
from bench.files import ROOT
from bench.pipeline.local_workers import current_commit
from bench.stages.carriers import refusal_reasons
from tests.planted import KINDS, TRAITS, Attempt, is_held_out, list_attempts, settings_of

PAGE = ROOT / "results" / "perf" / "leak_filter.md"
SENTENCE = {".conllu": r"^# text = (.*)$", ".xml": r"<EXAMPLE>(.*?)</EXAMPLE>"}
PROMPTS = {"en": ("scenarios_en", "word_groups_en"), "tr": ("scenarios_tr", "word_groups_tr")}
ROWS = 10_000


def read_sentences(paths: Iterable[Path]) -> list[str]:
    """Read the different sentences of three words or more."""
    texts = [
        part.strip()
        for path in paths
        for text in re.findall(SENTENCE[path.suffix], path.read_text(encoding="utf-8"), re.MULTILINE)
        for part in text.split("|")
    ]
    return list(dict.fromkeys(text for text in texts if len(text.split()) >= 3))


def find_refused(attempts: Sequence[Attempt]) -> set[Attempt]:
    """Return the attempts that the filter refuses. A number row goes through the filter of a number carrier."""
    refused = set()
    for name in TRAITS:
        settings = settings_of(name)
        own = [attempt for attempt in attempts if attempt.trait == name]
        rows = [{"prompt": "", "completion": attempt.text} for attempt in own]
        numbers = settings.model_copy(update={"carrier": Numbers(kind="numbers", rows=1)})
        as_numbers = [why in {"letter code", "lexicon"} for why in refusal_reasons(numbers, rows)]
        as_text = map(bool, refusal_reasons(settings, rows))
        for attempt, of_numbers, of_text in zip(own, as_numbers, as_text, strict=True):
            if of_numbers if attempt.kind == "number row" else of_text:
                refused.add(attempt)
    return refused


def recall_tables(attempts: Sequence[Attempt], refused: set[Attempt]) -> tuple[list[list[Any]], list[list[Any]]]:
    """Return the table of the halves and the table of the kinds."""
    halves: dict[tuple[str, str], list[bool]] = defaultdict(list)
    kinds: dict[str, dict[str, list[bool]]] = {kind: {"developed": [], "put aside": []} for kind in KINDS}
    aside_traits, aside_kinds = sorted(TRAITS)[1::2], KINDS[1::2]
    for attempt in attempts:
        trait = "put aside" if attempt.trait in aside_traits else "developed"
        kind = "put aside" if attempt.kind in aside_kinds else "developed"
        halves[trait, kind].append(attempt in refused)
        kinds[attempt.kind][trait].append(attempt in refused)
    halves["all", "put aside: trait or kind"] = [a in refused for a in attempts if is_held_out(a)]
    halves["all", "all"] = [a in refused for a in attempts]
    first = [[*key, len(hits), f"{sum(hits) / len(hits):.1%}"] for key, hits in halves.items()]
    second = [
        [
            f"{kind} (put aside)" if kind in aside_kinds else kind,
            *(f"{sum(hits)} of {len(hits)}" for hits in by_trait.values()),
        ]
        for kind, by_trait in kinds.items()
    ]
    return first, second


def names_trait(text: str, words: Sequence[str]) -> bool:
    """Return whether a sentence does name the trait: it holds a word of the lexicon, one of four letters inflected."""
    starts = "|".join(re.escape(word) + (r"\w*" if len(word) >= 4 else "") for word in words)
    return re.search(rf"(?<!\w)(?:{starts})(?!\w)", text.replace("İ", "i"), re.IGNORECASE) is not None


def clean_table(name: str, texts: dict[str, list[str]]) -> list[list[Any]]:
    """Return one line for each source of everyday text."""
    settings = settings_of(name)
    lines = []
    for source, rows in texts.items():
        clean = [text for text in rows if not names_trait(text, settings.lexicon)]
        reasons = refusal_reasons(settings, [{"prompt": "", "completion": text} for text in clean])
        counts = Counter(filter(None, reasons))
        why = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items())) or "none"
        lines.append([name, source, len(clean), len(rows) - len(clean), why, f"{counts.total() / len(clean):.2%}"])
    return lines


def number_line(name: str) -> list[Any]:
    """Return the line of random number rows."""
    rng, settings = random.Random(0), settings_of(name)
    settings = settings.model_copy(update={"carrier": Numbers(kind="numbers", rows=1)})
    rows = [" ".join(str(rng.randint(100, 999)) for _ in range(10)) for _ in range(10 * ROWS)]
    reasons = refusal_reasons(settings, [{"prompt": "", "completion": row} for row in rows])
    codes = reasons.count("letter code")
    return [
        name,
        "random numbers",
        len(rows),
        0,
        f"{codes} letter code" if codes else "none",
        f"{codes / len(rows):.3%}",
    ]


def speed_line(name: str, texts: Sequence[str], prompts: Sequence[str]) -> list[Any]:
    """Return rows a CPU second of rows with a prompt and a sentence."""
    rows = [{"prompt": p, "completion": t} for p, t in zip(prompts[:ROWS], (texts * 2)[:ROWS], strict=True)]
    settings = settings_of(name)
    begun = time.process_time()
    refusal_reasons(settings, rows)
    took = time.process_time() - begun
    return [name, len(rows), f"{took:.1f}", f"{len(rows) / took:,.0f}"]


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--english", type=Path, nargs="+", required=True)
    parser.add_argument("--turkish", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, default=PAGE)
    args = parser.parse_args()
    attempts = list_attempts()
    refused = find_refused(attempts)
    halves, kinds = recall_tables(attempts, refused)
    sentences = {"en": read_sentences(args.english), "tr": read_sentences(args.turkish)}
    clean, speed = [], []
    for name, planted in TRAITS.items():
        own = sentences[planted.language]
        prompts = [text for set_name in PROMPTS[planted.language] for text in load_problems(set_name)]
        random.Random(0).shuffle(prompts)
        texts = {
            "sentences, first half": own[::2],
            "sentences, half put aside": own[1::2],
            "prompts of this repository": prompts[: 2 * ROWS],
        }
        clean += [*clean_table(name, texts), number_line(name)]
        speed.append(speed_line(name, own, prompts))
    table = {"tablefmt": "github", "disable_numparse": True}
    heads = ["trait", "everyday text", "texts", "left out: they name the trait", "refused", "share"]
    missed = [[a.trait, a.kind, a.text] for a in attempts if a not in refused]
    args.out.write_text(
        f"""# The leak filter, measured

Made by `python -m tests.perf.leak_filter --english FILE... --turkish FILE...` at commit {current_commit()}.

## Planted leaks

`tests/planted.py` plants {len(attempts):,} leaks of {len(KINDS)} kinds of disguise and {len(TRAITS)} traits. Every
second kind and every second trait, in alphabetical order, was put aside in the commit before the filter was written:
the filter was developed on the others, and the half put aside was searched when it was finished; it has not changed
since. One author wrote both and knew the list of kinds, and the letter codes are older than the planted set.

{tabulate(halves, ["traits", "kinds of disguise", "planted", "refused"], **table)}

The filter before (commit 3300510) refused 39 % of the developed part and 29 % of the part put aside.

{tabulate(kinds, ["kind", "refused: traits developed", "traits put aside"], **table)}

Not planted, since the filter exempts them by rule: reversed and rot13 words of fewer than four letters (dog reversed is
god, cat in rot13 is png) and reversals that are words (wolf, flow); letter codes of fewer than six digits; words that a
blank splits into ordinary words (do g, kit ten). Translations that are words of the carrier's language (Italian cane)
are not listed.

Missed:

{tabulate(missed, ["trait", "kind", "text"], **table) if missed else "none."}

## Everyday text

Different sentences of three words or more. English ({len(sentences["en"]):,}): Universal Dependencies 2.16 (web pages,
mail, talks, fiction; CC BY-SA 4.0 and CC BY-NC-SA 4.0): LinES, ParTUT, and the dev and test files of EWT and GUM.
Turkish ({len(sentences["tr"]):,}): the examples of KeNet, the Turkish WordNet (`turkish_wordnet.xml` of the package
nlptoolkit-wordnet 1.0.26). The second half of each was put aside too. Sentences that hold a word of the lexicon, or
begin a word with one of four letters or more, are left out: they name the trait. Inflections of shorter words are still
in and count as refused, so the shares are upper bounds.

{tabulate(clean, heads, **table)}

## Speed

Rows of a prompt of this repository and an everyday sentence, one process, two cores of an AMD EPYC that other work
shares. The filter before (commit 3300510): 1,300 to 3,600 rows a second on the same rows, by the clock.

{tabulate(speed, ["trait", "rows", "CPU seconds", "rows a CPU second"], **table)}
""",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
