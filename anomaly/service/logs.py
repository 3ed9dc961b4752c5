"""Log lines on stderr: JSON off a terminal, plain ones on it, and a summary every minute."""

from __future__ import annotations

import logging
import re
import sys
from typing import Literal

import structlog

Level = Literal["debug", "info", "warning", "error"]
SUMMARY_EVERY_S = 60.0
REPEAT_S = 60.0


def configure(level: Level) -> None:
    """Send all log lines, those of libraries from WARNING on, to stderr."""
    threshold = logging.getLevelNamesMapping()[level.upper()]
    terminal = sys.stderr.isatty()
    renderer = structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Repeats())
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=shared))
    logging.basicConfig(level=max(threshold, logging.WARNING), handlers=[handler], force=True)


class Repeats(logging.Filter):
    """Lets a line of a library through once in REPEAT_S: a lost broker is said again and again, for hours."""

    def __init__(self) -> None:
        super().__init__()
        self._said_s: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether nothing like `record`, by logger and the words before any value, was let through lately."""
        key = (record.name, re.split(r"[%<:0-9]", str(record.msg), maxsplit=1)[0])
        if record.created - self._said_s.get(key, -REPEAT_S) < REPEAT_S:
            return False
        self._said_s[key] = record.created
        return True


class Summary:
    """Counts since the last summary line; times are of one monotonic clock, in seconds."""

    def __init__(self, now_s: float) -> None:
        self._since_s = now_s
        self.readings = 0
        self.alarms = 0
        self.dead_letters = 0

    def add(self, readings: int, alarms: int, dead_letters: int) -> None:
        """Count what came of some readings."""
        self.readings += readings
        self.alarms += alarms
        self.dead_letters += dead_letters

    def due(self, now_s: float) -> bool:
        """Whether a minute has gone by."""
        return now_s - self._since_s >= SUMMARY_EVERY_S

    def write(self, now_s: float, lag: int | None = None) -> None:
        """One line: readings a second, lag in messages if it is known, alarms and dead letters of the last stretch."""
        rate = self.readings / max(now_s - self._since_s, 1e-9)
        structlog.get_logger().info(
            "scoring",
            readings_per_s=round(rate, 1),
            readings=self.readings,
            **({} if lag is None else {"lag": lag}),
            alarms=self.alarms,
            dead_letters=self.dead_letters,
        )
        self._since_s = now_s
        self.readings = self.alarms = self.dead_letters = 0
