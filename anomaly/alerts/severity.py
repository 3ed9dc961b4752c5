"""How grave an alert is, and what of it is too small to be told."""

from __future__ import annotations

from anomaly.engine.outcome import Kind

SEVERITY_LEVELS = (1.5, 2.0, 3.0)
"""From these levels on an alert has severity 2, 3 and 4; below the first it has 1."""
LEAST_SHARE = 0.01
"""Signals with a smaller share of an alarm are left out, and the shares of the others made to sum to 1."""


def severity_of(kind: Kind, level: float) -> int:
    """1 to 4: 1 from the line on, 2 from level 1.5, 3 from 2, 4 from 3; a sensor fault is always 1.

    >>> severity_of(Kind.FAULT, 2.4)
    3
    """
    if kind == Kind.SENSOR:
        return 1
    return 1 + sum(level >= line for line in SEVERITY_LEVELS)
