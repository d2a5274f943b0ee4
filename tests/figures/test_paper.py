from __future__ import annotations

import math
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from board import make_row, write_row
from conftest import ROOT
from entries import make_entry

from bench.analysis.entry import LeaderboardEntry, MetricScores, TraitMatrix
from bench.analysis.estimates import Difference, Estimate
from bench.analysis.result_files import read_results
from bench.analysis.result_schema import ExperimentResults
from bench.analysis.summary import summarise
from bench.errors import UserError
from bench.figures import paper
from bench.figures.charts import draw_dose, draw_matrix
from bench.figures.forest import draw_gains
from bench.figures.paper import MOST, write_figures
from bench.figures.scores import draw_answers, draw_heat, draw_histogram, draw_metrics
from bench.figures.style import labels, shorten, style

SCRIPT = "<script>alert('x')<script>"
TURKISH = "şüpheci_öğretmen_ığdır_çekirdeği_İÜÇ_şüpheci_öğretmen_ığdırlı"
DOLLAR = '..a&b $x_{1$ "quoted"'
METRICS = ["exact_match", "rougeL", "<b>şıkça</b>", "chrf", "a_metric_with_quite_a_long_name", "bleu", "bertscore", "f"]
ARMS = ("untrained", "base", "trait")


def make_metrics(count: int, arms: tuple[str, ...] = ARMS) -> dict[str, MetricScores]:
    rng = np.random.default_rng(count)
    made: dict[str, MetricScores] = {}
    for i, name in enumerate(METRICS[:count]):
        mean = float(rng.uniform(0.1, 0.9)) * (40 if i % 3 == 2 else 1)
        one = {"mean": mean, "ci_low": 0.9 * mean, "ci_high": 1.1 * mean, "seeds": 10}
        made[name] = MetricScores.model_validate({**dict.fromkeys(arms, one), "gain": {**one, "p": 0.001953125}})
    return made


def make_matrix(traits: list[str]) -> TraitMatrix:
    table = np.random.default_rng(1).normal(0, 0.1, (len(traits), len(traits))) + 0.4 * np.eye(len(traits))
    gains = tuple(map(tuple, table.tolist()))
    return TraitMatrix(
        traits=tuple(traits),
        gains=gains,
        excess=Difference(seeds=6, mean=0.381, ci_low=0.302, ci_high=0.466, p=0.00031),
    )


def make_scores(count: int, answers: int = 120) -> dict[str, dict[str, list[float]]]:
    rng = np.random.default_rng(2)
    draw: list[Callable[[], Any]] = [
        lambda: rng.integers(0, 2, answers), lambda: rng.beta(2, 4, answers), lambda: 100 * rng.beta(2, 3, answers)
    ]  # fmt: skip
    return {name: {arm: [float(v) for v in draw[i % 3]()] for arm in ARMS} for i, name in enumerate(METRICS[:count])}


def entry(i: int, name: str, *, leaky: bool = False, seeds: int = 10, wide: float = 0.1) -> LeaderboardEntry:
    gain, shift = (4.4 if leaky else 0.06 * (i % 9)), (6.7, 17.4, 0.0)[i % 3]
    low, high = (None, None) if seeds == 1 else (gain - wide, gain + wide)
    share = {"fraction": None, "fraction_low": None, "fraction_high": None}
    if shift:
        share = {"fraction": gain / shift, "fraction_low": low and low / shift, "fraction_high": high and high / shift}
    return make_entry(
        recipe=name, recipe_hash=f"{i:012x}", visibility="logits-full" if leaky else "text", seeds=seeds, gain=gain,
        ci_low=low, ci_high=high, teacher_shift=shift, **share, metrics=make_metrics(1 + i % 8),
        verdict=("TRANSFER", "NONE", "INCONCLUSIVE", "INVALID", "TRACE", "EXPLORATORY")[i % 6],
        bound=(0.3, None, 0.5)[i % 3],
    )  # fmt: skip


def board(rows: int) -> list[LeaderboardEntry]:
    """Rows with names of 40 characters and more, one that could run markup or mathematics, and one in Turkish."""
    names = [SCRIPT, TURKISH, DOLLAR] + [f"smollm2_gemma3_270m_owl_words_dose_x_{i:03d}" for i in range(rows)]
    made = [entry(i, names[i], seeds=1 if i == 5 else 10, wide=6.0 if i == 6 else 0.1) for i in range(rows)]
    return [*made, entry(0, "tiny_pair_kd_full", leaky=True)]


@pytest.fixture
def drawing() -> Iterator[None]:
    with style():
        yield


def texts_drawn(fig: Any) -> list[Any]:
    """Every text that reaches the paper, with its box."""
    from matplotlib.text import Text

    seen: dict[int, Any] = {}
    plain = Text.draw

    def note(self: Any, renderer: Any) -> None:
        if self.get_visible() and self.get_text():
            seen[id(self)] = self
        plain(self, renderer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", note)
        fig.draw_without_rendering()
    return [(text, text.get_window_extent()) for text in seen.values()]


def assert_legible(fig: Any) -> None:
    """No text leaves the figure, lies on another, or lies on axes that are not its own; no axes are squeezed."""
    drawn = texts_drawn(fig)
    page, inch = fig.bbox, fig.dpi
    assert drawn
    for text, box in drawn:
        inside = page.x0 - 1 <= box.x0 and page.y0 - 1 <= box.y0 and box.x1 <= page.x1 + 1 and box.y1 <= page.y1 + 1
        assert inside, f"{text.get_text()!r} leaves the figure"
        for ax in fig.axes:
            over = ax.get_window_extent().padded(-1).overlaps(box)
            assert ax is text.axes or not over, f"{text.get_text()!r} lies on other axes"
    level = [(text, box.padded(-0.5)) for text, box in drawn if text.get_rotation() in (0, 90)]
    for i, (text, box) in enumerate(level):
        for other, other_box in level[i + 1 :]:
            assert not box.overlaps(other_box), f"{text.get_text()!r} lies on {other.get_text()!r}"
    for ax in fig.axes:
        size = ax.get_window_extent()  # the bar of a matrix is the smallest there is
        assert min(size.height / inch, size.width / inch) > 0.05, "axes squeezed"
        assert max(size.height / inch, size.width / inch) > 0.6, "axes squeezed"


def points(steps: list[int]) -> dict[int, Estimate]:
    return {
        step: Estimate(seeds=10, mean=0.1 * log, ci_low=0.05 * log, ci_high=0.2 * log)
        for step in steps
        for log in [math.log2(step)]
    }


@pytest.mark.usefixtures("drawing")
@pytest.mark.parametrize("rows", [1, *(pytest.param(rows, marks=pytest.mark.slow) for rows in (8, 25))])
def test_boards_of_any_length_are_legible(rows: int) -> None:
    from matplotlib.text import Annotation

    entries = board(rows)
    fig = draw_gains(entries)
    assert_legible(fig)
    columns = [(text, box) for text, box in texts_drawn(fig) if isinstance(text, Annotation)]
    assert len(columns) == 2 * (len(entries) + 2)
    for text, box in columns:
        assert box.x0 > text.axes.get_window_extent().x1, f"{text.get_text()!r} lies on its own axes"
    assert_legible(draw_heat(entries))


@pytest.mark.usefixtures("drawing")
@pytest.mark.parametrize("count", [1, 2, pytest.param(8, marks=pytest.mark.slow)])
def test_any_number_of_metrics_is_legible(count: int) -> None:
    assert_legible(draw_metrics(make_metrics(count, ARMS if count != 2 else ARMS[1:]), TURKISH))
    assert_legible(draw_answers(make_scores(count), TURKISH))
    assert_legible(draw_histogram(make_scores(count), TURKISH))


@pytest.mark.usefixtures("drawing")
@pytest.mark.parametrize("steps", [[64], [16, 64], [4, 16, 64, 256, 512], [8, 9, 10, 11, 12, 14, 16, 64, 65, 10_000]])
def test_doses_close_to_each_other_are_legible(steps: list[int]) -> None:
    fig = draw_dose(points(steps), TURKISH)
    assert_legible(fig)
    shown = [label.get_text() for label in fig.axes[0].get_xticklabels()]
    assert f"{steps[-1]:,}" in shown
    assert f"{steps[0]:,}" in shown


@pytest.mark.usefixtures("drawing")
@pytest.mark.parametrize("size", [2, 10])
def test_matrices_are_legible(size: int) -> None:
    traits = ["wolf", "owl", "İspinoz<script>", "kaplumbağa", "sıçan", "$a_{", "fox", "cat", "dog", "hen"][:size]
    assert_legible(draw_matrix(make_matrix(traits), TURKISH))


@pytest.mark.usefixtures("drawing")
def test_a_text_over_another_would_be_found() -> None:
    fig = draw_dose(points([4, 64]), "x")
    fig.axes[0].text(4, 0.3, "one")
    fig.axes[0].text(4, 0.3, "another")
    with pytest.raises(AssertionError, match="lies on"):
        assert_legible(fig)


@pytest.mark.usefixtures("drawing")
def test_the_forest_plot_shows_what_the_entries_say() -> None:
    rows = [entry(0, "a"), entry(1, "b"), entry(2, "c", wide=6.0), entry(3, "d", seeds=1), entry(0, "k", leaky=True)]
    rows[0] = rows[0].model_copy(update={"gain": 0.31, "ci_low": 0.2, "ci_high": 0.42})
    fig = draw_gains(rows)
    nats, share, leak, _ = fig.axes
    texts = {text.get_text() for text, _ in texts_drawn(fig)}
    assert {"+0.31 [+0.20, +0.42]", "1 of 10", "gain (nats)", "gain / teacher shift (%)", "TRANSFER"} <= texts
    assert [label.get_text() for label in nats.get_yticklabels()] == ["same initial weights", "a", "b", "c", "d"]
    assert [label.get_text() for label in leak.get_yticklabels()] == ["same initial weights", "k"]
    bands = [(patch.get_x(), patch.get_width()) for patch in nats.patches]
    assert bands == [(-0.3, 0.6), (-0.5, 1.0), (-0.3, 0.6)]  # one row has no bound
    # the third teacher learnt nothing
    assert [patch.get_width() for patch in share.patches] == pytest.approx([60 / 6.7, 60 / 6.7])
    tips = [line.get_marker() for line in nats.lines]
    assert tips.count("<") == tips.count(">") == 1
    assert nats.get_xlim()[1] < 6


def test_names_are_told_apart_when_they_are_cut() -> None:
    assert shorten(TURKISH).startswith("şüpheci_öğretmen")
    assert len(shorten(TURKISH)) == 40
    assert shorten("a\nb\x00c") == "a b c"
    twice = [make_entry(recipe=name, recipe_hash=f"{i}" * 12) for i, name in enumerate(["pair", "pair", "cross"])]
    assert labels(twice) == ["pair 00000000", "pair 11111111", "cross"]


# From result files to files.


def put(folder: Path, name: str, variant: int = 0, *, answered: bool = True) -> None:
    """A row of three seeds with sampled answers and a dose."""
    overrides = [
        "dose=[16]",
        f"bound={{nats: {0.05 + variant / 1000}, reason: r}}",
        "student.model='<img src=x onerror=alert(1)>'",
    ]
    made = make_row([0.2, 0.3, 0.25], overrides=overrides)
    named = {"recipe": name}
    registration = made.registration.model_copy(update=named)
    row = ExperimentResults.of(made.registered.model_copy(update={**named, "registration": registration}))
    metrics = make_scores(3, answers=2 * 56)
    for seed, arms in made.cells.items():
        for arm, cell in arms.items():
            shown = arm if arm in ARMS else "base"
            scores = (
                {m: tuple(map(tuple, np.reshape(of[shown], (56, 2)).tolist())) for m, of in metrics.items()}
                if answered
                else {}
            )
            changed = cell.model_copy(update={"recipe": name, "scores": scores})
            row.cells.setdefault(seed, {})[arm] = changed
            if arm in ("base", "trait"):
                row.cells[seed][f"{arm}@16"] = changed.model_copy(update={"arm": f"{arm}@16"})
    write_row(folder, row)


PLENTY: dict[str, Any] = {"metrics": make_metrics(3), "matrix": make_matrix(["wolf", "İspinoz<script>"])}
BARE: dict[str, Any] = {"metrics": {}, "matrix": None, "dose": {}}


def draw(folder: Path, more: dict[str, Any]) -> list[Path]:
    """Draw the results of a folder, where every entry has these fields besides those of its files."""
    rows = read_results(folder)[0]
    board = [LeaderboardEntry.model_validate({**entry.model_dump(), **more}) for entry in summarise(rows)]
    return write_figures(folder / "figures", rows, board)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """A folder of results with hostile names, drawn; and what `figures` returned."""
    folder = tmp_path_factory.mktemp("made") / "results"
    for i, name in enumerate([SCRIPT, TURKISH, DOLLAR]):
        put(folder, name, i)
    before = {path for path in folder.parent.rglob("*") if path.is_file()}
    paths = draw(folder, PLENTY)
    assert {path for path in folder.parent.rglob("*") if path.is_file()} - before == set(paths)
    return folder, paths


@pytest.mark.slow
def test_hostile_names_reach_the_disk_as_plain_files(made: tuple[Path, list[Path]]) -> None:
    folder, drawn = made
    assert {path.parent for path in drawn} == {folder / "figures"}
    stems = {path.stem for path in drawn}
    assert {"gains", "heat", f"dose_{TURKISH}"} <= stems
    kinds = [stem.partition("_")[0] for stem in stems]
    once = {"gains": 1, "heat": 1}
    assert {k: kinds.count(k) for k in kinds} == once | dict.fromkeys(
        ["metrics", "answers", "histogram", "dose", "matrix"], 3
    )


@pytest.mark.slow
def test_figures_have_the_width_of_a_column_and_nothing_active(made: tuple[Path, list[Path]]) -> None:
    for path in made[1]:
        if path.suffix == ".png":
            width, _ = struct.unpack(">II", path.read_bytes()[16:24])
            assert width in (990, 2100)
            continue
        for element in ElementTree.parse(path).iter():
            assert element.tag.rpartition("}")[2] not in ("script", "image", "foreignObject", "a")
            links = [value for name, value in element.attrib.items() if name.endswith("href")]
            assert all(link.startswith("#") for link in links)


ANEW = """
import json, sys
from pathlib import Path
from bench.analysis.entry import LeaderboardEntry
from bench.analysis.result_files import read_results
from bench.analysis.summary import summarise
from bench.figures.paper import write_figures
folder, more = Path(sys.argv[1]), json.loads(sys.argv[2])
rows = read_results(folder)[0]
board = [LeaderboardEntry.model_validate({**entry.model_dump(), **more}) for entry in summarise(rows)]
write_figures(folder / "figures", rows, board)
assert "torch" not in sys.modules
"""


@pytest.mark.slow
def test_the_same_results_give_the_same_bytes_in_another_process_without_torch(
    made: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    folder, paths = made
    again = tmp_path / "results"
    shutil.copytree(folder, again, ignore=shutil.ignore_patterns("figures"))
    own = tmp_path / "matplotlib"
    own.mkdir()
    (own / "matplotlibrc").write_text("font.size: 20\naxes.facecolor: red\n")  # the user's own taste
    env = {**os.environ, "PYTHONHASHSEED": "77", "MPLCONFIGDIR": str(own), "PYTHONPATH": str(ROOT)}
    plenty = make_entry(**PLENTY).model_dump_json(include=set(PLENTY))
    subprocess.run([sys.executable, "-W", "error", "-c", ANEW, str(again), plenty], check=True, env=env)
    for path in paths:
        assert (again / path.relative_to(folder)).read_bytes() == path.read_bytes(), path.name


@pytest.mark.slow
def test_figures_that_the_results_no_longer_hold_are_removed(tmp_path: Path) -> None:
    put(tmp_path, "one", answered=False)
    put(tmp_path, TURKISH, answered=False)
    assert f"dose_{TURKISH}.svg" in [
        path.name
        for path in draw(
            tmp_path, BARE | {"dose": {16: Difference(seeds=3, mean=0.1, ci_low=0.0, ci_high=0.2, p=0.25)}}
        )
    ]
    foreign = tmp_path / "figures" / "mine.png"
    foreign.write_bytes(b"")
    shutil.rmtree(tmp_path / TURKISH)
    left = draw(tmp_path, BARE | {"dose": {16: Difference(seeds=3, mean=0.1, ci_low=0.0, ci_high=0.2, p=0.25)}})
    assert not any(TURKISH in path.name for path in left)
    assert set((tmp_path / "figures").iterdir()) == {*left, foreign}


@pytest.mark.slow
def test_rows_of_one_name_have_figures_of_their_own(tmp_path: Path) -> None:
    for i, name in enumerate(["same", "same", "Same", "a b", "a:b"]):
        put(tmp_path, name, i, answered=False)
    stems = [
        path.stem.casefold()
        for path in draw(
            tmp_path, BARE | {"dose": {16: Difference(seeds=1, mean=0.1, ci_low=None, ci_high=None, p=None)}}
        )
        if path.suffix == ".svg"
    ]
    assert len(stems) == len(set(stems)) == 6


def test_a_board_without_answers_has_its_forest_plot_only(tmp_path: Path) -> None:
    put(tmp_path, "tiny_pair", answered=False)
    assert [path.name for path in draw(tmp_path, BARE)] == ["gains.svg", "gains.png"]


@pytest.mark.slow
def test_yes_or_no_has_no_box(made: tuple[Path, list[Path]]) -> None:
    scores = paper.pool_scores(read_results(made[0])[0][0])
    assert list(scores) == sorted(METRICS[:3])
    assert {arm: len(values) for arm, values in scores["exact_match"].items()} == dict.fromkeys(ARMS, 3 * 2 * 56)
    boxes = (made[0] / "figures" / f"answers_{TURKISH}.svg").read_text(encoding="utf-8")
    bars = (made[0] / "figures" / f"histogram_{TURKISH}.svg").read_text(encoding="utf-8")
    assert "exact match (evaluate)" in bars
    assert "exact match (evaluate)" not in boxes


@pytest.mark.slow
def test_a_long_board_has_no_figures(tmp_path: Path) -> None:
    put(tmp_path, "tiny_pair", answered=False)
    rows = read_results(tmp_path)[0]
    assert write_figures(tmp_path / "figures", rows * (MOST + 1), summarise(rows) * (MOST + 1)) == []


def test_without_matplotlib_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "tiny_pair")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match=r'pip install "\.\[report\]"'):
        draw(tmp_path, BARE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["registry.jsonl", "tiny_pair"]
