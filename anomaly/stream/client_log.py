"""Why a client could not connect: some say it in their log and nowhere else."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_TELLING = ("Authentication", "Sasl", "CERTIFICATE", "SSL", "Incompatible", "ECONNREFUSED", "DNS", "failed")
"""Words of a cause, the most telling first."""


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@contextmanager
def capture(name: str) -> Iterator[Sequence[str]]:
    """Collect the warnings of the logger `name` and of those below it, instead of letting them out."""
    logger = logging.getLogger(name)
    before = logger.level, logger.propagate
    handler = _Lines()
    logger.addHandler(handler)
    logger.propagate = False
    if logger.getEffectiveLevel() > logging.WARNING:
        logger.setLevel(logging.WARNING)
    try:
        yield handler.lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]


def likely_cause(lines: Sequence[str]) -> str:
    """The line that says most about why a connection failed.

    >>> likely_cause(["Bootstrap failed", "SaslHandshake: SaslAuthenticationFailedError"])
    'SaslHandshake: SaslAuthenticationFailedError'
    """
    for word in _TELLING:
        for line in reversed(lines):
            if word in line:
                return line
    return lines[-1] if lines else "it did not answer"
