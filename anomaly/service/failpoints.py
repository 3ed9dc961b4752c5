"""Named places where a test may kill the process, so that what survives a kill is shown and not hoped for.

`ANOMALY_FAILPOINT=name[:nth]` in the environment kills this process (SIGKILL) when the place is passed for the
nth time (1 if not said). Without the variable a failpoint costs one comparison.
"""

from __future__ import annotations

import os
import signal

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


def _wanted() -> tuple[str, int]:
    """The failpoint that the environment asks for, and at which pass."""
    name, _, nth = os.environ.get(VARIABLE, "").partition(":")
    if name and (name not in NAMES or not (nth or "1").isdigit()):
        raise ConfigError(f"{VARIABLE}: no failpoint `{name}:{nth or 1}`; known are {', '.join(NAMES)}")
    return name, int(nth or 1)


_NAME, _left = _wanted()


def failpoint(name: str) -> None:
    """Die here if the environment asks for it."""
    global _left
    if name != _NAME:
        return
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
