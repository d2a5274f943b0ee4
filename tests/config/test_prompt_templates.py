from __future__ import annotations

import pytest

from bench.config.prompt_templates import Template, check_lists, draw_combinations

LISTS = {"w": ("a", "b", "c"), "n": ("1", "2")}


def test_numbers_count_the_combinations_in_the_order_of_the_list() -> None:
    template = Template("{w}{n}{w}", LISTS)
    assert [template.build(number) for number in range(template.size)] == list(template.list_all())
    assert template.size == len(set(template.list_all())) == 3 * 2 * 2


def test_a_larger_draw_begins_with_a_smaller_one() -> None:
    drawn = list(draw_combinations([5, 7], 12))
    assert sorted(drawn) == [(0, i) for i in range(5)] + [(1, i) for i in range(7)]
    assert list(draw_combinations([5, 7], 4)) == drawn[:4]


@pytest.mark.parametrize(
    ("template", "message"), [("{x}", "do not exist: x"), ("{n}{n}{n}", "takes 3 of 'n', which has 2")]
)
def test_templates_name_lists_with_enough_entries(template: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_lists([template], LISTS)
    check_lists(["{n}{n}{w}"], LISTS)
