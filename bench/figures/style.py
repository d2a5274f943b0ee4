"""The style of figures: sizes, colours, short labels, numbers.

Every figure is one (3.3 inches) or two (7 inches) columns wide. It can be read in black and white: colours are those of
Okabe and Ito (2008), and a marker, a hatch or a line style repeats the meaning of every colour.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.analysis.number_text import estimate_text
from bench.errors import UserError

if TYPE_CHECKING:
    from bench.analysis.entry import LeaderboardEntry

__all__ = [
    "BLUE", "CHARACTER_WIDTH", "DOUBLE", "GREEN", "GREY", "LOOKS", "ORANGE", "SINGLE", "SMALL",
    "estimate", "labels", "layout", "shorten", "style", "typeset",
]  # fmt: skip

SINGLE, DOUBLE = 3.3, 7.0  # inches
SMALL = 6.0  # points
CHARACTER_WIDTH = 0.056  # inches of a character of a tick label, about
GREEN, BLUE, ORANGE, SKY, GREY = "#009E73", "#0072B2", "#E69F00", "#56B4E9", "#6E6E6E"


class Look(NamedTuple):
    """The look of an arm, as an area and as a line."""

    face: str
    hatch: str
    ink: str
    line: str


LOOKS = {
    "untrained": Look("white", "", "black", ":"),
    "base": Look(ORANGE, "/////", ORANGE, "--"),
    "trait": Look(SKY, "", BLUE, "-"),
}
STYLE: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],  # comes with matplotlib, and has the Turkish letters
    "font.size": 7,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "figure.titlesize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.useoffset": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.0,
    "hatch.linewidth": 0.5,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "text.parse_math": False,  # a dollar in a name begins no formula
    "savefig.dpi": 300,
    "svg.hashsalt": "subliminal-bench",  # otherwise element names are random
    "svg.fonttype": "path",  # looks the same where the font is missing
}


@contextmanager
def style() -> Iterator[None]:
    """Use matplotlib's defaults with this module's settings, and ignore the user's settings.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise UserError('figures need matplotlib: pip install ".[report]"') from error
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def shorten(text: str, limit: int = 40) -> str:
    """Cut the middle of `text` to leave at most `limit` characters: variants of a name differ at either end."""
    text = "".join(c if c.isprintable() else " " for c in text)
    tail = limit * 2 // 5
    return text if len(text) <= limit else f"{text[: limit - tail - 1]}…{text[-tail:]}"


def labels(entries: Sequence[LeaderboardEntry]) -> list[str]:
    """Return a short label for each entry, with its hash if two entries have the same short name."""
    short = [shorten(entry.label) for entry in entries]
    return [
        label if short.count(label) == 1 else f"{shorten(entry.label, 31)} {entry.recipe_hash[:8]}"
        for label, entry in zip(short, entries, strict=True)
    ]


def typeset(text: str) -> str:
    """Return the text of numbers with a true minus."""
    return text.replace("-", "\N{MINUS SIGN}")


def estimate(mean: float | None, low: float | None, high: float | None) -> str:
    """Return a mean with its interval; a dash for None."""
    return "–" if mean is None else typeset(estimate_text(mean, low, high))


def layout() -> Any:
    """Return the layout engine that separates the parts of a figure."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.04)  # inches
