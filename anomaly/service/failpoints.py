"""Named places where a test may kill the process, so that what survives a kill is shown and not hoped for.

`ANOMALY_FAILPOINT=name[:nth]` in the environment kills this process (SIGKILL) when the place is passed for the
nth time (1 if not said). Without the variable a failpoint costs one call.
"""

from __future__ import annotations

import os
import signal
from functools import cache

from anomaly.errors import ConfigError

VARIABLE = "ANOMALY_FAILPOINT"
NAMES = (
    "open.after_epoch",
    "batch.after_decide",
    "checkpoint.before_begin",
    "checkpoint.after_state",
    "checkpoint.before_commit",
    "checkpoint.after_commit",
    "cut.before_write",
    "cut.after_write",
    "cut.before_commit",
    "cut.after_commit",
    "outbox.before_send",
    "outbox.after_send",
    "outbox.after_mark",
    "drain.before_checkpoint",
)


@cache
def _armed() -> _Armed | None:
    """What the environment asked for when the first failpoint was passed."""
    asked = os.environ.get(VARIABLE)
    if not asked:
        return None
    name, _, nth = asked.partition(":")
    if name not in NAMES or not (nth or "1").isdigit():
        raise ConfigError(f"{VARIABLE}: there is no failpoint `{asked}`; known are {', '.join(NAMES)}")
    return _Armed(name, int(nth or 1))


class _Armed:
    """The failpoint that is to kill, and how many passes are left."""

    def __init__(self, name: str, left: int) -> None:
        self.name = name
        self.left = left


def failpoint(name: str) -> None:
    """Die here if the environment asks for it."""
    armed = _armed()
    if armed is not None and armed.name == name:
        armed.left -= 1
        if armed.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
