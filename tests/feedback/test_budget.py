"""The line that keeps the budget, by what is labelled."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from anomaly.feedback.budget import line

STATES = st.sampled_from(["confirmed", "false_alarm", "unlabelled", "immature"])


def alerts(*rows: tuple[float, str]) -> list[dict[str, Any]]:
    """Rows of outcomes in order of time."""
    return [
        {"episode": str(place), "start": place, "level": level, "state": state, "kind": "fault"}
        for place, (level, state) in enumerate(rows)
    ]


def test_more_false_alarms_than_the_budget_raise_the_line() -> None:
    """With one allowed, the line is just above the second highest; what lies below would have been removed."""
    found = line(
        alerts((1.1, "false_alarm"), (1.4, "false_alarm"), (1.2, "confirmed"), (1.3, "unlabelled")), 1_000, 1.0
    )
    assert 1.3 < found.level < 1.3001
    assert (found.removed, found.confirmed) == (3, 1)


def test_within_the_budget_nothing_moves() -> None:
    """Below the line the log knows nothing, so that it is never lowered."""
    assert line(alerts((1.1, "false_alarm"), (2.0, "immature")), 1_000, 1.0) == (1.0, 0, 0)


@given(
    rows=st.lists(st.tuples(st.floats(1, 9), STATES), max_size=30),
    days=st.integers(0, 9_000),
)
def test_the_line_keeps_the_budget(rows: list[tuple[float, str]], days: int) -> None:
    """At the line no more false alarms are left than are allowed, and one notch lower there would be."""
    found = line(alerts(*rows), days, 1.0)
    wrong = [level for level, state in rows if state in ("false_alarm", "unlabelled")]
    assert sum(level >= found.level for level in wrong) <= days // 1_000
    assert found.level == 1.0 or sum(level >= found.level - 1e-9 for level in wrong) > days // 1_000
