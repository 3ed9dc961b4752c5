"""Alerts about cohorts: what each merged period says, and what becomes of an alert that is open."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from anomaly.alerts.severity import LEAST_SHARE, severity_of
from anomaly.engine.cohort_check import Unlike, unlike
from anomaly.engine.cohorts import BETWEEN, Merged
from anomaly.engine.model import Arm
from anomaly.engine.outcome import Kind
from anomaly.fleet import Fleet
from anomaly.telemetry.records import Alert, SignalShare, alert_id

UNIT = "healthy spreads"


def cohort_name(key: str) -> str:
    """A cohort's key as people read it: the words of its fields, in their order.

    >>> cohort_name("van" + BETWEEN + "north")
    'van/north'
    """
    return "/".join(word.replace("/", "%2F") for word in key.split(BETWEEN))


def now(merged: Merged, arm: Arm, fleet: Fleet) -> Iterator[tuple[str, Alert | None]]:
    """Each cohort of which enough is known: its name, and the alert that opens with this period (None: it is like the
    others)."""
    found = unlike(merged, arm.model.checks)
    for place, key in enumerate(merged.keys):
        level = float(found.level[place])
        if level > 1.0:
            yield cohort_name(key), _alert(place, merged, found, arm, fleet)
        elif level <= 1.0:
            yield cohort_name(key), None


def follow(before: Alert, alert: Alert | None, merged: Merged) -> Alert:
    """What becomes of the open alert `before` with the next period: it ends, or goes on with its highest level."""
    if alert is None:
        return msgspec.structs.replace(before, state="closed", end=merged.period * merged.ticks - 1)
    told: dict[str, Any] = {"state": "update", "count": before.count + 1}
    if alert.level > before.level:
        told |= {"level": alert.level, "peak": alert.peak, "signals": alert.signals}
    return msgspec.structs.replace(before, **told, severity=max(before.severity, alert.severity))


def _alert(place: int, merged: Merged, found: Unlike, arm: Arm, fleet: Fleet) -> Alert:
    subject, start = {"cohort": cohort_name(merged.keys[place])}, merged.period * merged.ticks
    level = round(float(found.level[place]), 4)
    return Alert(
        id=alert_id(subject, Kind.COHORT.label, start),
        state="open",
        subject=subject,
        kind=Kind.COHORT.label,
        start=start,
        peak=start,
        severity=severity_of(Kind.COHORT, level),
        level=level,
        count=1,
        signals=_signals(merged.medians[place], found.share[place], found.usual, fleet),
        model=arm.model.name,
        arm=arm.name,
        text="",
    )


def _signals(
    median: NDArray[np.float32], share: NDArray[np.float64], usual: NDArray[np.float64], fleet: Fleet
) -> list[SignalShare]:
    """The signals responsible, the largest share first; values are medians beside what is normal for each vehicle."""
    weight = np.where(share < LEAST_SHARE, 0.0, share)
    names = list(fleet.signals)
    return [
        SignalShare(
            name=names[j],
            share=round(float(weight[j] / weight.sum()), 6),
            actual=round(float(median[j]), 2),
            expected=round(float(usual[j]), 2),
            unit=UNIT,
        )
        for j in np.argsort(-weight, kind="stable").tolist()
        if weight[j] > 0.0
    ]
