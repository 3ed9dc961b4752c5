"""What labels say about the threshold: the level from which on the false alarms of a log keep the budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from anomaly.feedback.outcomes import CONFIRMED_STATE, FALSE_ALARM, UNLABELLED

LAST = 40
"""So many of the newest alerts are looked at to say what a threshold would have removed."""


class Line(NamedTuple):
    """A level, and what of the last alerts lies below it: how many, and how many of those were confirmed."""

    level: float
    removed: int
    confirmed: int


def line(episodes: Sequence[Mapping[str, Any]], days: int, budget: float) -> Line:
    """The lowest level >= 1 at which the false alarms among `episodes` keep `budget` per 1,000 of `days` vehicle-days.

    `episodes` have `start`, `level` and `state` as outcomes give them; sensor faults are left out. False alarms are
    those answered so, and those that nobody confirmed when labels were due. Below 1 a log of alarms says nothing.
    """
    counted = [row for row in episodes if row["kind"] != "sensor"]
    wrong = sorted((row["level"] for row in counted if row["state"] in (FALSE_ALARM, UNLABELLED)), reverse=True)
    allowed = int(budget * days / 1_000)
    level = 1.0 if len(wrong) <= allowed else float(np.nextafter(wrong[allowed], np.inf))
    last = sorted(counted, key=lambda row: (row["start"], row["episode"]))[-LAST:]
    below = [row for row in last if row["level"] < level]
    return Line(max(1.0, level), len(below), sum(row["state"] == CONFIRMED_STATE for row in below))
