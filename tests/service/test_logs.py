"""Log lines: of libraries, and of alerts."""

from __future__ import annotations

import logging

from structlog.testing import capture_logs

from anomaly.service.letters import SAID_A_BATCH, say
from anomaly.service.logs import REPEAT_S, Repeats
from anomaly.telemetry.records import Alert


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


def alert(number: int, **changes: str) -> Alert:
    """An alert that opens."""
    told = {"id": f"a{number}", "state": "open", "kind": "fault", "text": f"vehicle {number} is ill", **changes}
    rest = {"start": 0, "peak": 0, "severity": 2, "level": 1.6, "count": 1, "signals": [], "model": "m", "arm": "c"}
    return Alert(subject={"vehicle": str(number)}, **told, **rest)


def test_an_alert_that_opens_is_a_line_and_a_storm_of_them_is_a_few() -> None:
    """Whoever watches the scorer reads the first alerts of a batch and the number of the others; no sensor faults."""
    with capture_logs() as said:
        say([alert(0, kind="sensor"), alert(1, state="closed"), *(alert(number) for number in range(2, 10))])
    assert [line["text"] for line in said[:-1]] == [f"vehicle {number} is ill" for number in range(2, 2 + SAID_A_BATCH)]
    assert (said[-1]["event"], said[-1]["count"]) == ("more alerts", 8 - SAID_A_BATCH)
