"""What arms are compared by: each metric a ratio of sums over vehicles, and the methods that can judge it."""

from __future__ import annotations

from typing import Literal, NamedTuple

Metric = Literal["false_alarms", "alerts", "detected", "lead", "cost"]
Method = Literal["sequence", "first_event", "betting", "fixed"]


class Ratio(NamedTuple):
    """How a metric is made of a vehicle's sums: `scale * sum(over) / sum(under)`, and which way is better.

    `event` is the column whose vehicles with more than 0 had the event of the first-event e-process; `label` whether
    labels must have come before anything is known.
    """

    over: str
    under: str
    scale: float
    better: Literal["lower", "higher"]
    unit: str
    event: str | None
    label: bool


RATIOS: dict[Metric, Ratio] = {
    "false_alarms": Ratio(
        "false_alarms", "mature_days", 1_000.0, "lower", "in 1,000 vehicle-days", "false_alarms", True
    ),
    "alerts": Ratio("alerts", "days", 1.0, "lower", "a vehicle-day", "alerts", False),
    "detected": Ratio("detected", "faults", 1.0, "higher", "of the confirmed faults", "missed", True),
    "lead": Ratio("lead_days", "faults", 1.0, "higher", "vehicle-days a fault", None, True),
    "cost": Ratio("cost", "mature_days", 1.0, "lower", "a vehicle-day", None, True),
}
METHODS: dict[Metric, tuple[Method, ...]] = {
    "false_alarms": ("sequence", "first_event", "fixed"),
    "alerts": ("sequence", "first_event", "fixed"),
    "detected": ("sequence", "first_event", "betting", "fixed"),
    "lead": ("sequence", "fixed"),
    "cost": ("sequence", "fixed"),
}
COUNTS = ("days", "mature_days", "alerts", "false_alarms", "faults", "detected", "missed", "lead_days", "cost")
"""The sums of a vehicle that metrics are made of."""
REFUSED = {
    "latency": "the models of one process share its time, so that no vehicle has a latency of its own; "
    "compare `anomaly score`'s metrics",
    "dead_letters": "a message is refused before anybody knows whose arm it is of; `anomaly dlq list` has them",
    "f1": "it changes with the share of faults alone; take detected and false_alarms",
    "accuracy": "a model that never alarms has nearly all of it; take detected and false_alarms",
}
