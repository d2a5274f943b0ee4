from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.report.inline_charts import (
    WIDTH,
    Line,
    Mark,
    draw_candidates,
    draw_curves,
    draw_intervals,
    nice_ticks,
)

HOSTILE = '"><script>alert(1)</script> & İspinoz'
SVG = "{http://www.w3.org/2000/svg}"


def parse(chart: str) -> ElementTree.Element:
    return ElementTree.fromstring(chart.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_round_few_and_inside(low: float, length: float) -> None:
    high = low + length
    ticks = nice_ticks(low, high)
    assert len(ticks) <= 11
    slack = 1e-6 * length + 1e-9
    assert all(low - slack <= tick <= high + slack for tick in ticks)
    assert ticks == sorted(ticks)
    if len(ticks) > 1:
        step = ticks[1] - ticks[0]
        assert f"{step:.0e}"[0] in "125" or step == pytest.approx(float(f"{step:.0e}"), rel=1e-3)


@pytest.mark.parametrize("means", [[0.0], [0.3, -0.1, 12.0], [1e-7, 2e-7], [-5.0]])
def test_dots_and_intervals_stay_between_labels_and_numbers(means: list[float]) -> None:
    marks = [Mark(HOSTILE, mean, mean - 1, mean + 1, "1") for mean in means]
    chart = parse(draw_intervals(marks, unit="nats", about=HOSTILE, bound=0.05))
    places = [float(dot.attrib["cx"]) for dot in chart.iter(f"{SVG}circle")]
    assert len(places) == len(means)
    labels, numbers = (
        [
            text
            for text in chart.iter(f"{SVG}text")
            if text.attrib["text-anchor"] == "end" and ("class" in text.attrib) == own
        ]
        for own in (False, True)
    )
    assert all(max(float(text.attrib["x"]) for text in labels) < x < WIDTH - 10 for x in places)
    assert {text.attrib["x"] for text in numbers if text.attrib["class"] == "number"} == {f"{WIDTH:.1f}"}
    order = sorted(range(len(means)), key=lambda i: means[i])
    assert [places[i] for i in order] == sorted(places)
    assert not list(chart.iter(f"{SVG}script"))


def test_a_mark_without_a_value_has_no_dot() -> None:
    chart = parse(draw_intervals([Mark("a", None, None, None, "-")], unit="", about="x"))
    assert not list(chart.iter(f"{SVG}circle"))


def test_candidates_have_one_marker_for_each_arm() -> None:
    chart = parse(
        draw_candidates({HOSTILE: {"base": 0.1, "trait": 0.4}, "owl": {"base": 0.1, "trait": 0.05}}, about="x")
    )
    heads = [text.text for text in chart.iter(f"{SVG}text") if "series" in text.attrib.get("class", "")]
    assert heads == ["□ base", "● trait"]
    markers = [text for text in chart.iter(f"{SVG}text") if "marker" in text.attrib.get("class", "")]
    assert [text.attrib["class"] for text in markers] == ["marker base", "marker trait"] * 2
    left, right = (float(markers[i].attrib["x"]) for i in (0, 1))
    assert left < right


@pytest.mark.parametrize("logarithmic", [False, True])
def test_curves_rise_where_their_values_do(logarithmic: bool) -> None:
    line = Line("gain", [(1, 0.1, 0.0, 0.2), (16, 0.3, None, None), (64, 0.9, 0.8, 1.0)], "trait")
    chart = parse(draw_curves([line], unit="nats", about="x", logarithmic=logarithmic))
    (path,) = chart.iter(f"{SVG}polyline")
    points = [tuple(map(float, pair.split(","))) for pair in path.attrib["points"].split()]
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    assert [y for _, y in points] == sorted((y for _, y in points), reverse=True)
    middle = (points[1][0] - points[0][0]) / (points[2][0] - points[0][0])
    assert middle == pytest.approx(2 / 3 if logarithmic else 15 / 63, abs=0.01)


def test_a_curve_of_one_point_is_drawn() -> None:
    parse(draw_curves([Line("gain", [(8, 0.0, None, None)], "trait")], unit="nats", about="x"))


def test_seeds_are_small_points_of_their_line_and_of_their_update() -> None:
    chart = parse(draw_intervals([Mark("a", 0.2, 0.1, 0.3, "x", seeds=(0.1, 0.5))], unit="", about="x"))
    points = [dot for dot in chart.iter(f"{SVG}circle") if dot.attrib["class"] == "seed trait"]
    assert len(points) == 2
    assert float(points[0].attrib["cx"]) < float(points[1].attrib["cx"]) < WIDTH
    line = Line("gain", [(1, 0.1, 0.0, 0.2), (16, 0.3, None, None)], "trait", {16: [0.2, 0.9]})
    chart = parse(draw_curves([line], unit="nats", about="x"))
    assert len([dot for dot in chart.iter(f"{SVG}circle") if dot.attrib["class"] == "seed trait"]) == 2


def test_several_curves_are_named() -> None:
    lines = [Line(name, [(1, 0.1, None, None), (2, 0.2, None, None)], name) for name in ("base", "trait")]
    chart = parse(draw_curves(lines, unit="loss", about="x"))
    assert [text.text for text in chart.iter(f"{SVG}text") if "series" in text.attrib.get("class", "")] == [
        "base",
        "trait",
    ]
