"""Why a client could not connect: some say it in their log, or in passing, and nowhere else."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_HUNG_UP = "the broker hung up: check the login (sasl.*) and whether it wants TLS (security.protocol)"
_TELLING = {
    "Disconnected while": _HUNG_UP,
    "Authentication": "check sasl.username and sasl.password",
    "Sasl": "check security.protocol and sasl.mechanism",
    "Unsupported SASL": "check sasl.mechanism",
    "CERTIFICATE": "check ssl.truststore.location",
    "certificate verify": "check ssl.truststore.location",
    "SSL": "check security.protocol",
    "Incompatible": "this is no Kafka broker",
    "ECONNREFUSED": "nothing listens there",
    "Connection refused": "nothing listens there",
    "resolve": "check the host name",
    "DNS": "check the host name",
    "socket disconnected": _HUNG_UP,
    "failed": "",
}
"""Words of a cause, the most telling first, and what to do about it."""

_FRAME = re.compile(r"^Bootstrap \w+ to \S+ failed: | \(backoff .*\)$")


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
    """The line that says most about why a connection failed, and a hint.

    >>> likely_cause(["Bootstrap failed: timeout", "Bootstrap connection to 0 failed: 111 ECONNREFUSED"])
    '111 ECONNREFUSED; nothing listens there'
    """
    for word, hint in _TELLING.items():
        for line in reversed(lines):
            if word in line:
                return "; ".join(filter(None, (_FRAME.sub("", line), hint)))
    return "no answer"
