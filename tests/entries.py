"""Leaderboard entries for tests."""

from __future__ import annotations

from typing import Any

from bench.analysis.entry import LeaderboardEntry

DEFAULTS: dict[str, Any] = {
    **{name: None for name, field in LeaderboardEntry.model_fields.items() if field.is_required()},
    "recipe": "r",
    "recipe_hash": "0123456789ab",
    "trait": "wolf",
    "carrier": "numbers",
    "teacher": "t",
    "student": "s",
    "relation": "same-init",
    "method": "sft",
    "visibility": "text",
    "seeds": 10,
    "seeds_registered": 10,
    "verdict": "INCONCLUSIVE",
    "verdict_reason": "too few",
    "level": 0.05,
    "bound_source": "",
    "looks": 0,
    "p_at_floor": False,
    "measurement": "",
    **dict.fromkeys(("gates", "notes"), ()),
    **{
        name: {}
        for name in (
            "contrasts",
            "mitigations",
            "dose",
            "groups",
            "metrics",
            "answers",
            "audits",
            "selection",
            "sensitivity",
        )
    },
}


def make_entry(**fields: Any) -> LeaderboardEntry:
    """An entry with these fields, and without numbers otherwise."""
    return LeaderboardEntry.model_validate({**DEFAULTS, **fields})
