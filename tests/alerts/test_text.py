"""Alerts in words."""

from __future__ import annotations

from anomaly.alerts.text import when


def test_a_time_beyond_the_calendar_is_still_said() -> None:
    """A wrong clock does not stop an alert from being written."""
    assert when(2**61, "ms") == f"{2**61} ms"
