"""An alert in one sentence that a reliability engineer understands without a manual."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from anomaly.fleet import TimeUnit
from anomaly.telemetry.records import Alert, SignalShare

MOST_SIGNALS = 3
_STRONG = ("fault", "abrupt", "born_ill", "cohort")
"""Kinds of which an alert says how strong it was at most."""
_OPENING = {
    "born_ill": "unlike others from the first day: ",
    "abrupt": "suddenly: ",
    "cohort": "moved, and the other cohorts did not: ",
}

_INSTANCE = re.compile(r"Left|Right|Front|Rear|Middle|DriverSide|PassengerSide|[A-Za-z]*\d+")
"""Branches by which the Vehicle Signal Specification tells like parts apart."""


def sentence(alert: Alert, unit: TimeUnit) -> str:
    """Who, what, since when and how strong; `unit` is that of the alert's times.

    "vehicle 7: coolant_c 91.5 degC, 3.1 above the expected 88.4 (61 %) since 2025-03-01 06:00 UTC; level 1.8"
    """
    subject = " ".join(f"{kind} {name}" for kind, name in alert.subject.items())
    what, strength = _told(alert, unit)
    if alert.state == "closed" and alert.end is not None:
        span = f"from {when(alert.start, unit)} to {when(alert.end, unit)}"
        times = "periods" if alert.kind == "cohort" else "alarms"
        strength = f"{alert.count} {times}, highest {strength}" if alert.kind in _STRONG else strength
    else:
        span = f"since {when(alert.start, unit)}"
    return "; ".join(filter(None, [f"{subject}: {what} {span}", strength]))


def _told(alert: Alert, unit: TimeUnit) -> tuple[str, str]:
    """What an alert is about, and how strong it is or what is asked."""
    named = alert.signals[:MOST_SIGNALS]
    deviations = "; ".join(map(_deviation, named)) or "unlike what is normal for it"
    if alert.kind == "sensor":
        return f"sensor fault, unusable values of {_listed([short(signal.name) for signal in named])}", (
            f"{alert.count} readings"
        )
    if alert.kind == "silence":
        return "no reading for longer than is usual for it", ""
    if alert.kind == "lasting_shift":
        began = when(alert.start, unit)
        asked = "" if alert.state == "closed" else f"normal since {began}? `anomaly feedback answer {alert.id}` says it"
        return f"changed for good: {deviations}", asked
    opening = _OPENING.get(alert.kind, "")
    rising = ""
    if alert.onset is not None and alert.state != "closed":
        rising = f", above what is usual for it since {when(alert.onset, unit)}"
    return f"{opening}{deviations}", f"level {alert.level:.3g}{rising}"


def when(ts: int, unit: TimeUnit) -> str:
    """A time in words.

    >>> when(1740808800, "s")
    '2025-03-01 06:00 UTC'
    >>> when(120, "cycles")
    'cycle 120'
    """
    if unit == "cycles":
        return f"cycle {ts}"
    try:
        moment = datetime.fromtimestamp(ts / (1 if unit == "s" else 1_000), tz=UTC)
    except (ValueError, OverflowError, OSError):  # a clock may be wrong by more than a calendar holds
        return f"{ts} {unit}"
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def short(name: str) -> str:
    """A signal's name without the branches of its tree that nobody needs to find it; which one of several stays.

    >>> short("Vehicle.Powertrain.CombustionEngine.EngineCoolant.Temperature")
    'EngineCoolant.Temperature'
    >>> short("Vehicle.Chassis.Axle.Row1.Wheel.Left.Tire.Pressure")
    'Row1.Left.Tire.Pressure'
    """
    branches = name.split(".")
    return ".".join([*filter(_INSTANCE.fullmatch, branches[:-2]), *branches[-2:]])


def _deviation(signal: SignalShare) -> str:
    name = short(signal.name)
    unit = f" {signal.unit}" if signal.unit else ""
    share = f"({signal.share:.0%})".replace("%", " %")
    if signal.actual is None:
        return f"{name} missing now, expected {signal.expected:.4g}{unit} {share}"
    difference = signal.actual - signal.expected
    side = "above" if difference >= 0 else "below"
    return f"{name} {signal.actual:.4g}{unit}, {abs(difference):.3g} {side} the expected {signal.expected:.4g} {share}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "a signal"
