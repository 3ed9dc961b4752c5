"""Times as a person types and reads them."""

from __future__ import annotations

import pytest

from anomaly.alerts.text import when
from anomaly.cli.times import parse_time
from anomaly.errors import UsageError


@pytest.mark.parametrize("text", ["2026-01-31T12:00", "2026-01-31 12:00Z", "2026-01-31 12:00 UTC"])
def test_what_is_printed_can_be_typed(text: str) -> None:
    """A time is understood as it is written in alerts, with or without its zone."""
    assert when(parse_time(text, "ms", "--at", "number"), "ms") == "2026-01-31 12:00 UTC"
    assert parse_time(text, "s", "--at", "number") * 1_000 == parse_time(text, "ms", "--at", "number")


def test_no_time_and_no_clock_are_said() -> None:
    """The option and what it takes are named."""
    with pytest.raises(UsageError, match=r"--at noon is no time such as .*, and no number of ticks"):
        parse_time("noon", "ms", "--at", "number of ticks")
    with pytest.raises(UsageError, match="this one counts cycles: give number of ticks"):
        parse_time("2026-01-31", "cycles", "--at", "number of ticks")
