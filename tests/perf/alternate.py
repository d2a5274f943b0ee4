"""Measure several ways of doing one thing by turns, so that what else the machine does falls on all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Rate = Callable[[], float]  # does a piece of work and returns how many units of it a second


def rate_of(work: Callable[[], float]) -> Rate:
    """The rate of `work`, which returns the units it did."""

    def timed() -> float:
        begun = time.perf_counter()
        units = work()
        return units / (time.perf_counter() - begun)

    return timed


def alternate(
    ways: Mapping[str, Rate], repeats: int, say: Callable[[str], None], *, warm: bool = False
) -> dict[str, list[float]]:
    """Rates of each way, one a round: all once to warm up, unless they are warm, then A B C, A B C, ..."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(int(warm), repeats + 1):
        for name, way in ways.items():
            rate = way()
            if turn:
                rates[name].append(rate)
            say(f"{'warm-up' if not turn else f'round {turn} of {repeats}'}: {name}: {rate:.4g} a second")
    return rates


def line(
    what: str, own: Sequence[float], other: Sequence[float], than: str, target: float | None, note: str = ""
) -> dict[str, Any]:
    """One line of the table: two rates round by round, and the ratio that is aimed at, if any."""
    return {"what": what, "ours": list(own), "other": list(other), "than": than, "target": target, "note": note}


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, lower and upper quartile."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return float(middle), float(low), float(high)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def spread_text(values: Sequence[float]) -> str:
    """`34.1 [33.0, 35.2]`: median and quartiles; a single value alone."""
    middle, low, high = spread(values)
    return _number(middle) + (f" [{_number(low)}, {_number(high)}]" if len(values) > 1 else "")


def shown(of: Mapping[str, Any]) -> dict[str, str]:
    """A line as the table shows it; the ratio is taken round by round."""
    ratios = [a / b for a, b in zip(of["ours"], of["other"], strict=True)]
    met = "" if of["target"] is None else " (met)" if spread(ratios)[0] >= of["target"] else " (not met)"
    return {
        "what, per second": of["what"],
        "ours": spread_text(of["ours"]),
        "against": of["than"],
        "theirs": spread_text(of["other"]),
        "ratio": spread_text(ratios),
        "target": "-" if of["target"] is None else f"{of['target']:g}{met}",
    }
