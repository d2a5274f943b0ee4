"""Templates with lists: each combination of list entries is a text, and has a number."""

from __future__ import annotations

import bisect
import itertools
import math
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from operator import getitem

__all__ = ["Template", "check_lists", "draw_combinations"]


def check_lists(templates: Sequence[str], lists: Mapping[str, Sequence[str]]) -> None:
    """Check that templates name lists that exist and have enough different entries.

    Raises:
        ValueError: names the list or the template.
    """
    for key, values in lists.items():
        if duplicates := [value for value, count in Counter(values).items() if count > 1]:
            raise ValueError(f"list {key!r} contains an entry twice: {duplicates[0]!r}")
    for template in templates:
        uses = Counter(re.findall(r"{(\w+)}", template))
        if missing := uses.keys() - lists.keys():
            raise ValueError(f"template {template!r} names lists that do not exist: {', '.join(sorted(missing))}")
        for key, count in uses.items():
            if count > len(lists[key]):
                raise ValueError(f"template {template!r} takes {count} of {key!r}, which has {len(lists[key])}")


class Template:
    """The combinations of one template.

    A combination is a number in a mixed radix: one digit for each slot, below the entry of `choices` for that slot.
    """

    def __init__(self, text: str, lists: Mapping[str, Sequence[str]]) -> None:
        self.parts = re.split(r"{(\w+)}", text)  # texts and names of lists, alternating
        keys = self.parts[1::2]
        self.values = [lists[key] for key in keys]
        # Earlier slots of the same list use up one entry each.
        earlier = [[j for j in range(i) if keys[j] == key] for i, key in enumerate(keys)]
        self.choices = [len(entries) - len(slots) for entries, slots in zip(self.values, earlier, strict=True)]
        self.repeats = [(i, slots) for i, slots in enumerate(earlier) if slots]
        self.size = math.prod(self.choices)

    def list_all(self) -> Iterator[str]:
        """Iterate over all prompts; the last slot changes fastest."""
        return map(self._fill, itertools.product(*map(range, self.choices)))

    def build(self, number: int) -> str:
        """Return the prompt with this number, in the order of `list_all`."""
        digits = []
        for choices in reversed(self.choices):
            number, digit = divmod(number, choices)
            digits.append(digit)
        return self._fill(digits[::-1])

    def _fill(self, digits: Sequence[int]) -> str:
        indices = list(digits)
        for slot, earlier in self.repeats:
            # The digit counts only entries that no earlier slot uses.
            for index in sorted([indices[j] for j in earlier]):
                indices[slot] += index <= indices[slot]
        parts = self.parts[:]
        parts[1::2] = map(getitem, self.values, indices)
        return "".join(parts)


def draw_combinations(sizes: Sequence[int], count: int) -> Iterator[tuple[int, int]]:
    """Draw `count` different combinations, uniform over all templates.

    A larger draw starts with the combinations of a smaller one. The draw is equal in every version of Python.

    Args:
        sizes: the number of combinations of each template.
        count: how many to draw.

    Returns:
        (index of the template, number of the combination) of each.
    """
    ends = list(itertools.accumulate(sizes))
    rng = random.Random("prompts")
    drawn: set[int] = set()
    while len(drawn) < count:
        number = rng.randrange(ends[-1])
        if number not in drawn:
            drawn.add(number)
            template = bisect.bisect_right(ends, number)
            yield template, number - ends[template] + sizes[template]
