"""What a partition sends: alerts and dead letters as they lie in its outbox, and what is said of them in the log."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import structlog

from anomaly.service.stored import Letter
from anomaly.telemetry.records import Alert, DeadLetter

LETTER_BYTES = 1 << 20
"""A dead letter holds at most so much of a message, so that it always fits its own topic."""
SAID_A_BATCH = 5


def dead_letter(dead: str, place: tuple[str, int, int], reason: str, payload: bytes) -> Letter:
    """A message of `place` (topic, partition, offset) that could not be used, for the topic `dead`."""
    topic, partition, offset = place
    if len(payload) > LETTER_BYTES:
        reason = f"{reason} (the first {LETTER_BYTES} of {len(payload)} bytes)"
        payload = payload[:LETTER_BYTES]
    letter = DeadLetter(reason=reason, topic=topic, partition=partition, offset=offset, payload=payload)
    return Letter(dead, f"{topic}-{partition}-{offset}".encode(), msgspec.json.encode(letter))


def alert_letter(topic: str, alert: Alert) -> Letter:
    """A state of an alert, keyed by its subject."""
    return Letter(topic, "/".join(alert.subject.values()).encode(), msgspec.json.encode(alert))


def say(alerts: Sequence[Alert]) -> None:
    """A line for each of the first alerts that open in a batch, sensor faults left out, and the number of the rest."""
    opened = [alert for alert in alerts if alert.state == "open" and alert.kind != "sensor"]
    for alert in opened[:SAID_A_BATCH]:
        structlog.get_logger().info("alert", id=alert.id, severity=alert.severity, text=alert.text)
    if len(opened) > SAID_A_BATCH:
        structlog.get_logger().info("more alerts", count=len(opened) - SAID_A_BATCH)


def reason_class(reason: str) -> str:
    """One of few words for a dead letter's reason, so that metrics stay few: partition, version or decode.

    >>> reason_class("version 9 is newer than this program reads (1)")
    'version'
    """
    first = reason.partition(" ")[0].rstrip(":")
    return first if first in {"partition", "version"} else "decode"
