from __future__ import annotations

import pytest

from bench.analysis.registry_lines import PinnedReference, Registration, RegistryLine

REFERENCE = PinnedReference(recipe="tiny_pair", recipe_hash="0" * 12, gain_low=0.1 + 0.2, share=0.25)
ENTRY = Registration(
    recipe="tiny_çross", recipe_hash="1" * 12, family="2" * 12, level=0.05, seeds=10, first_seed=0, bound=0.1,
    bound_source="a reason", reference=REFERENCE, commit="abc",
)  # fmt: skip
LINE = RegistryLine(chain="0" * 16, number=0, previous=None, time="2026-01-02T03:04:05Z", entry=ENTRY, sha256="")


def test_the_bound_of_a_reference_is_its_share_of_the_lower_end() -> None:
    assert REFERENCE.bound() == 0.075


def test_the_commit_is_no_term_and_every_other_key_is() -> None:
    assert ENTRY.has_terms_of(ENTRY.model_copy(update={"commit": "def"}))
    for key in Registration.model_fields.keys() - {"commit"}:
        assert not ENTRY.has_terms_of(ENTRY.model_copy(update={key: "other"})), key


def test_only_a_line_of_a_rate_holds_its_outcome() -> None:
    assert '"outcome"' not in LINE.text()
    rate = LINE.model_copy(update={"entry": ENTRY.model_copy(update={"outcome": "rate"})})
    assert RegistryLine.model_validate_json(rate.text()).entry.outcome == "rate"
    assert rate.content_hash() != LINE.content_hash()


def test_a_line_is_one_line_that_reads_back_and_its_hash_covers_all_but_itself() -> None:
    text = LINE.text()
    assert text.splitlines() == [text]
    assert "ç" in text
    assert RegistryLine.model_validate_json(text) == LINE
    assert LINE.model_copy(update={"sha256": "f"}).content_hash() == LINE.content_hash()
    for change in ({"chain": "1" * 16}, {"number": 1}, {"previous": "f"}, {"time": "2026-01-02T03:04:06Z"}):
        assert LINE.model_copy(update=change).content_hash() != LINE.content_hash(), change


@pytest.mark.parametrize("key", ["recipe_hash", "family"])
def test_a_hash_that_is_none_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=key):
        Registration.model_validate({**ENTRY.model_dump(), key: "Z" * 12})
