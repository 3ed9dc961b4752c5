"""Log lines of libraries."""

from __future__ import annotations

import logging

from anomaly.service.logs import REPEAT_S, Repeats


def line(said: str, created_s: float) -> logging.LogRecord:
    """A line as a library writes it."""
    record = logging.LogRecord("kafka.client", logging.ERROR, "client.py", 1, said, None, None)
    record.created = created_s
    return record


def test_what_a_library_repeats_is_shown_once_a_minute() -> None:
    """The same words with other numbers are a repeat; other words are not; after a minute it is said again."""
    repeats = Repeats()
    assert repeats.filter(line("Connection failed: 111 ECONNREFUSED", 0.0))
    assert not repeats.filter(line("Connection failed: 104 ECONNRESET", 1.0))
    assert repeats.filter(line("Login refused", 1.0))
    assert repeats.filter(line("Connection failed: 111 ECONNREFUSED", REPEAT_S + 0.5))
