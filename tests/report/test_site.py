from __future__ import annotations

import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from board import STEADY, ZERO, make_row, write_row

from bench.analysis.result_files import read_results
from bench.analysis.result_schema import ExperimentResults
from bench.errors import UserError
from bench.pipeline.store import Store
from bench.report import site
from bench.report.site import write_report

HOSTILE = "<script>alert(1)<script>"


def rename(row: ExperimentResults, name: str) -> ExperimentResults:
    """The same row under another name."""
    registration = row.registration.model_copy(update={"recipe": name})
    renamed = ExperimentResults.of(row.registered.model_copy(update={"recipe": name, "registration": registration}))
    for seed, arms in row.cells.items():
        renamed.cells[seed] = {arm: cell.model_copy(update={"recipe": name}) for arm, cell in arms.items()}
    return renamed


@pytest.fixture(autouse=True)
def _without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are tested in tests/figures."""
    monkeypatch.setattr(site, "write_figures", lambda folder, rows, board: [])


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    write_row(folder, rename(make_row(STEADY, overrides=["student.model='<img src=x onerror=alert(1)>'"]), HOSTILE))
    write_row(folder, make_row(ZERO, recipe="tiny_cross"))
    return folder


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_hostile_names_are_text_and_pages_load_only_their_own_files(results: Path, tmp_path: Path) -> None:
    index, _ = write_report(results, Store(tmp_path / "store"))
    pages = [index, *sorted((index.parent / "rows").iterdir())]
    assert len(pages) == 3
    for page in pages:
        text = page.read_text(encoding="utf-8")
        scripts = [attrs for tag, attrs in Tags(text).tags if tag == "script"]
        assert [Path(str(attrs["src"])).name for attrs in scripts] == ["site.js"]
        assert "http://" not in text
        assert "https://" not in text
        for _, attrs in Tags(text).tags:
            assert not any(name.startswith("on") for name in attrs)
            for link in (attrs.get("href"), attrs.get("src")):
                assert link is None or link.startswith("#") or (page.parent / link).is_file(), link
    assert "&lt;script&gt;alert(1)" in index.read_text(encoding="utf-8")


def test_nothing_is_written_again_where_nothing_changed(results: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    before = times(write_report(results, store).page.parent)
    write_report(results, store)
    assert times(results / "report") == before
    assert read_results(results)[1] == []


def test_the_site_and_the_leaderboard_are_built_together_and_only_when_needed(results: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    write_report(results, store)
    board = results / "LEADERBOARD.md"
    content, before = board.read_text(encoding="utf-8"), times(results)
    write_report(results, store)
    assert times(results) == before
    board.write_text("changed by hand", encoding="utf-8")
    write_report(results, store)
    assert board.read_text(encoding="utf-8") == content


def test_a_refused_file_is_named_again_where_nothing_changed(results: Path, tmp_path: Path) -> None:
    (results / "tiny_cross" / "other.json").write_text("{}", encoding="utf-8")
    reports = [write_report(results, Store(tmp_path / "store")) for _ in range(2)]
    assert reports[0] == reports[1]
    assert len(reports[0].problems) == 1


@pytest.mark.slow
def test_a_changed_row_is_written_again_alone_and_a_removed_one_goes(results: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    before = times(write_report(results, store).page.parent)
    write_row(results, make_row(STEADY, recipe="tiny_cross"))  # other numbers under the same hash
    write_report(results, store)
    changed = {path.name for path, time in times(results / "report").items() if before.get(path) != time}
    own = make_row([], recipe="tiny_cross", overrides=["seeds=10"]).hash
    assert f"{own}.html" in changed
    other = {path.name for path in before if path.parent.name == "rows"} - {f"{own}.html"}
    assert not other & changed
    shutil.rmtree(results / "tiny_cross")
    write_report(results, store)
    assert [path.name for path in (results / "report" / "data").iterdir()] == [
        name.removesuffix(".html") for name in other
    ]


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"contains no results; run a recipe first"):
        write_report(tmp_path, Store(tmp_path / "store"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium, where it and selenium are installed."""
    webdriver = pytest.importorskip("selenium.webdriver")
    binary, driver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if not binary or not driver:
        pytest.skip("chromium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1200,900"):
        options.add_argument(flag)
    chromium = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chromium
    chromium.quit()


def wait(browser: Any, script: str) -> Any:
    """Wait until a script returns something true, and return it."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 20).until(lambda page: page.execute_script(f"return {script}"))


@pytest.mark.extras
@pytest.mark.slow
def test_a_reader_sorts_filters_and_opens_answers(results: Path, tmp_path: Path, browser: Any) -> None:
    index, _ = write_report(results, Store(tmp_path / "store"))
    browser.get(index.as_uri())
    shown = (
        "[...document.querySelectorAll('#board tbody tr')].filter(row => !row.hidden)"
        ".map(row => row.cells[0].textContent.split('  ')[0])"  # a label: the recipe, then what differs
    )
    assert browser.execute_script(f"return {shown}") == [HOSTILE, "tiny_cross"]
    heads = browser.find_elements("css selector", "#board th button")
    next(head for head in heads if head.text.startswith("gain")).click()
    assert browser.execute_script(f"return {shown}") == ["tiny_cross", HOSTILE]
    browser.find_element("id", "search").send_keys("cross")
    assert browser.execute_script(f"return {shown}") == ["tiny_cross"]
    browser.find_element("link text", "tiny_cross").click()
    browser.execute_script("document.getElementById('answers').scrollIntoView()")
    assert wait(browser, "document.querySelectorAll('#answers details').length") == 50
    browser.execute_script("document.querySelector('#answers details').open = true")
    candidates = "document.querySelectorAll('#answers details[open] tbody tr').length"
    assert wait(browser, candidates) == 20
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
