from __future__ import annotations

import multiprocessing
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.analysis.registry import FILE, Registry, append_entry, merge_registry, read_registry
from bench.analysis.registry_lines import Registration
from bench.errors import UserError
from bench.pipeline.store import Store

ANY_FOLDER = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def entry(number: int, *, family: int = 0, bound: float | None = 0.1) -> Registration:
    return Registration(
        recipe="tiny_çross",
        recipe_hash=f"{number:012x}",
        family=f"{family:012x}",
        level=0.05,
        seeds=10 + number,
        first_seed=0,
        bound=bound,
        bound_source="a reason",
        reference=None,
        commit="abc",
    )


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("chain")
    for number in range(5):
        append_entry(folder, entry(number))
    return (folder / FILE).read_text().splitlines()


@pytest.fixture(scope="module")
def other_chain(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("other")
    for number in range(3, 6):
        append_entry(folder, entry(number))
    return (folder / FILE).read_text().splitlines()


def write(folder: Path, lines: list[str]) -> Registry:
    folder.mkdir(exist_ok=True)
    (folder / FILE).write_text("".join(f"{line}\n" for line in lines))
    return read_registry(folder)


def test_a_whole_chain_is_read_in_its_order(tmp_path: Path, chain: list[str]) -> None:
    registry = write(tmp_path, chain)
    assert registry.problems == ()
    assert registry.entries == tuple(map(entry, range(5)))
    assert [line.number for line in registry.lines] == list(range(5))
    assert len({line.chain for line in registry.lines}) == 1
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", line.time) for line in registry.lines)


def test_the_same_terms_again_add_nothing_and_other_terms_add_a_line(tmp_path: Path) -> None:
    first = append_entry(tmp_path, entry(1))
    later = append_entry(tmp_path, entry(1).model_copy(update={"commit": "def"}))
    assert later == first
    assert len(read_registry(tmp_path).lines) == 1
    append_entry(tmp_path, entry(1, bound=0.2))
    append_entry(tmp_path, entry(2))
    append_entry(tmp_path, entry(1))  # the first terms again, after others
    registry = read_registry(tmp_path)
    assert [e.bound for e in registry.entries] == [0.1, 0.2, 0.1, 0.1]
    assert registry.find(entry(1).recipe_hash) == first
    assert registry.find("f" * 12) is None


@ANY_FOLDER
@given(st.data())
def test_any_edit_of_a_byte_is_noticed(tmp_path: Path, chain: list[str], data: st.DataObject) -> None:
    content = bytearray("".join(f"{line}\n" for line in chain).encode())
    at = data.draw(st.integers(0, len(content) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != content[at]))
    content[at] = byte
    (tmp_path / FILE).write_bytes(content)
    registry = read_registry(tmp_path)
    assert registry.problems
    assert all(
        line.startswith(f"{tmp_path / FILE}: line ") and len(line.splitlines()) == 1 for line in registry.problems
    )
    assert registry.entries == tuple(map(entry, range(len(registry.entries))))  # nothing after the break counts


@ANY_FOLDER
@given(st.integers(0, 3))
def test_a_line_taken_out_of_the_middle_is_noticed(tmp_path: Path, chain: list[str], at: int) -> None:
    registry = write(tmp_path, chain[:at] + chain[at + 1 :])
    (problem,) = registry.problems
    assert f"line {at + 1}: chain " in problem
    assert f"is broken before number {at + 1}" in problem
    assert registry.entries == tuple(map(entry, range(at)))


@ANY_FOLDER
@given(st.permutations(range(5)).filter(lambda order: order != sorted(order)))
def test_another_order_is_noticed_and_the_numbers_decide(tmp_path: Path, chain: list[str], order: list[int]) -> None:
    registry = write(tmp_path, [chain[i] for i in order])
    assert "out of order" in registry.problems[0]
    assert registry.entries == tuple(map(entry, range(5)))


def test_a_doubled_line_counts_once_and_is_named(tmp_path: Path, chain: list[str]) -> None:
    registry = write(tmp_path, [*chain, chain[1]])
    assert registry.problems == (f"{tmp_path / FILE}: line 6: the same as line 2; counted once",)
    assert len(registry.lines) == 5


def test_a_line_whose_hash_was_made_anew_breaks_the_next(tmp_path: Path, chain: list[str]) -> None:
    line = write(tmp_path, chain).lines[1]
    forged = line.model_copy(update={"entry": entry(1, bound=9.0)})
    forged = forged.model_copy(update={"sha256": forged.content_hash()})
    registry = write(tmp_path, [chain[0], forged.text(), *chain[2:]])
    assert "line 3: chain " in registry.problems[0]
    assert len(registry.lines) == 2


@ANY_FOLDER
@given(st.data())
def test_the_union_of_two_copies_is_the_same_set_in_any_order(
    tmp_path: Path, chain: list[str], other_chain: list[str], data: st.DataObject
) -> None:
    copies = []
    for name in "abc":
        lines = chain[: data.draw(st.integers(0, 5))] + other_chain[: data.draw(st.integers(0, 3))]
        write(tmp_path / name, lines)
        copies.append(tmp_path / name)
    unions = []
    for order in (copies, copies[::-1]):
        union = tmp_path / "union"
        write(union, [])
        for copy in order:
            merge_registry(copy, union)
            merge_registry(copy, union)
        unions.append(read_registry(union))
    assert unions[0] == unions[1]
    assert unions[0].problems == ()
    assert len(unions[0].lines) == len({text for copy in copies for text in (copy / FILE).read_text().splitlines()})


@pytest.mark.parametrize("cut", [1, 10, 300])
def test_a_torn_last_line_is_dropped_or_completed_before_the_next(tmp_path: Path, chain: list[str], cut: int) -> None:
    text = "".join(f"{line}\n" for line in chain)
    (tmp_path / FILE).write_text(text[:-cut])
    append_entry(tmp_path, entry(9))
    registry = read_registry(tmp_path)
    assert registry.problems == ()
    assert registry.entries == (*map(entry, range(5 if cut == 1 else 4)), entry(9))


def test_a_fault_in_the_chain_of_a_store_stops_a_registration(tmp_path: Path, chain: list[str]) -> None:
    write(tmp_path, [*chain[:2], *chain[3:]])
    with pytest.raises(UserError, match=r"registry.jsonl: line 3: chain .* Restore the file, or move it away"):
        append_entry(tmp_path, entry(9))


def test_a_merge_brings_back_a_changed_line(tmp_path: Path, chain: list[str]) -> None:
    write(tmp_path / "store", chain)
    write(tmp_path / "results", [*chain[:2], chain[2].replace('"seeds":12', '"seeds":13'), *chain[3:]])
    merge_registry(tmp_path / "store", tmp_path / "results")
    registry = read_registry(tmp_path / "results")
    assert len(registry.lines) == 5
    assert "line 3: number 2 of chain " in registry.problems[0]


@pytest.mark.parametrize("text", ["", "{}", "null", "[" * 100_000, "9" * 5000, '{"chain": 3}', "\x00", "\u2028"])
def test_lines_that_are_no_registrations_are_named(tmp_path: Path, chain: list[str], text: str) -> None:
    registry = write(tmp_path, [*chain, text])
    (problem,) = registry.problems
    assert problem.startswith(f"{tmp_path / FILE}: line 6: no registration")
    assert len(problem) < len(str(tmp_path)) + 250
    assert len(registry.lines) == 5


def test_a_missing_registry_is_empty(tmp_path: Path) -> None:
    assert read_registry(tmp_path) == Registry((), ())


def test_looks_are_other_registrations_of_the_family(tmp_path: Path) -> None:
    for number, family in ((1, 7), (2, 7), (3, 7), (4, 8)):
        append_entry(tmp_path, entry(number, family=family))
    append_entry(tmp_path, entry(2, family=7, bound=0.5))
    append_entry(tmp_path, entry(4, family=8).model_copy(update={"commit": "d"}))  # the same terms
    registry = read_registry(tmp_path)
    assert [registry.looks(entry(number).recipe_hash) for number in (1, 2, 4, 5)] == [3, 3, 0, 0]


def test_registrations_without_results_are_listed_by_time(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        append_entry(tmp_path, entry(number))
    append_entry(tmp_path, entry(1, bound=0.5))
    lines = read_registry(tmp_path).without_results({entry(2).recipe_hash})
    assert [line.entry for line in lines] == [entry(3), entry(1, bound=0.5)]


def _register(folder: Path, first: int) -> None:
    store = Store(folder)
    for number in range(first, first + 10):
        with store.lock("registry"):
            append_entry(folder, entry(number))


@pytest.mark.slow
def test_processes_that_register_at_the_same_time_make_one_chain(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_register, args=(tmp_path, first)) for first in (0, 5)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    registry = read_registry(tmp_path)
    assert registry.problems == ()
    assert sorted(e.recipe_hash for e in registry.entries) == [entry(number).recipe_hash for number in range(15)]
