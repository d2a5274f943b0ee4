from __future__ import annotations

from typing import Any

import pytest
from board import STEADY, make_row
from entries import make_entry

from bench.analysis.entry import LeaderboardEntry
from bench.analysis.estimates import Difference, Ratio
from bench.analysis.mitigation_effects import MitigationEffect
from bench.analysis.seed_statistics import compute_seed_statistics
from bench.analysis.summary import summarise_row
from bench.figures.forest_lines import MITIGATED, list_panels

EFFECT = MitigationEffect(
    effect=Difference(seeds=10, mean=0.1, ci_low=0.05, ci_high=0.15, p=0.01),
    share=Ratio(seeds=10, mean=0.25, ci_low=0.1, ci_high=0.4),
    data=Ratio(seeds=10, mean=1.0, ci_low=0.9, ci_high=1.1),
)


def entry(name: str, gain: float, **fields: Any) -> LeaderboardEntry:
    ends = {"ci_low": gain - 0.1 * abs(gain), "ci_high": gain + 0.1 * abs(gain)}
    return make_entry(recipe=name, recipe_hash=name * 12, gain=gain, **{**ends, **fields})


def shape(entries: list[LeaderboardEntry]) -> list[tuple[str, dict[str, list[str]]]]:
    return [
        (panel.title, {group.heading: [line.label for line in group.lines] for group in panel.groups})
        for panel in list_panels(entries)
    ]


def test_rows_are_grouped_by_relation_and_leaks_and_rates_stand_apart() -> None:
    rows = [
        entry("a", 0.1, relation="cross-architecture"),
        entry("b", 0.4),
        entry("c", 0.3, relation="lineage"),
        entry("d", 0.4),
        entry("e", 4.0, visibility="logits-full"),
        entry("f", 5.0, outcome="rate"),
    ]
    (first, groups), (_, rates), (leak, leaks) = shape(rows)
    assert first == ""
    assert list(groups) == ["same initial weights", "lineage", "other architecture"]
    assert list(groups.values()) == [["b", "d"], ["c"], ["a"]]
    assert list(rates.values()) == [["f"]]
    assert "a leak" in leak
    assert list(leaks.values()) == [["e"]]
    assert [panel.unit for panel in list_panels(rows)] == ["nats", "points", "nats"]


@pytest.mark.parametrize(("factor", "panels"), [(40, 1), (60, 2), (3000, 2)])
def test_scales_that_differ_by_fifty_have_axes_of_their_own(factor: float, panels: int) -> None:
    made = shape([entry("a", 1 / factor), entry("b", 1.0), entry("z", 0.0)])
    assert len(made) == panels
    assert "z" in made[0][1]["same initial weights"]  # 0 is on every axis
    if panels == 2:
        assert made[1] == ("a smaller scale", {"same initial weights": ["a"]})


def test_a_small_row_with_a_wide_bound_stays_beside_the_large_ones() -> None:
    assert len(shape([entry("a", 0.001, bound=0.1), entry("b", 1.0)])) == 1


def test_mitigations_follow_their_row_without_a_verdict() -> None:
    rows = [entry("b", 0.4), entry("m", 0.4, mitigations={"kl_untrained": EFFECT})]
    first, second = list_panels(rows)
    assert [line.label for group in first.groups for line in group.lines] == ["b", "m"]
    (group,) = second.groups
    assert [line.label for line in group.lines] == ["no mitigation", "kl untrained"]
    assert group.lines[1].verdict == MITIGATED
    assert group.lines[1].share[:3] == pytest.approx((25, 10, 40))
    assert second.share == "effect / gain (%)"


def test_points_are_the_gains_of_the_seeds_and_their_shares_of_the_shift() -> None:
    row = make_row(STEADY, shift=4.0)
    statistics = compute_seed_statistics(row)
    (panel,) = list_panels([summarise_row(row)], {row.hash: statistics})
    (line,) = panel.groups[0].lines
    assert line.gain.seeds == pytest.approx(STEADY)
    assert line.share.seeds == pytest.approx(
        [100 * gain / shift for gain, shift in zip(statistics.gains, statistics.shifts, strict=True)]
    )
