"""The arms of an experiment, compared by vehicle: plain figures, their difference, and how sure it is.

The interval is made to be read once. Looking every day and stopping at the first good look finds differences that
are not there; the rules of `controller` only soften that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from anomaly.experiments.file import Experiment, Metric

Result = Literal["pass", "fail", "inconclusive"]
DRAWS = 1_000
LEVEL = 0.95


class Ratio(NamedTuple):
    """How a metric is made of a vehicle's sums: `scale * sum(over) / sum(under)`, and which way is better."""

    over: str
    under: str
    scale: float
    better: Literal["lower", "higher"]


RATIOS: dict[Metric, Ratio] = {
    "false_alarms": Ratio("false_alarms", "mature_days", 1_000.0, "lower"),
    "alerts": Ratio("alerts", "days", 1.0, "lower"),
    "detected": Ratio("detected", "faults", 1.0, "higher"),
    "lead": Ratio("lead_days", "faults", 1.0, "higher"),
}


class ArmFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One arm: its vehicles, their days, and each metric; None where there is nothing to divide by.

    `false_alarms` are per 1,000 vehicle-days, `alerts` per vehicle-day, `detected` is the share of confirmed faults
    that were found in time, `lead` their mean lead in vehicle-days.
    """

    arm: str
    role: str
    vehicles: int
    vehicle_days: float
    faults: int
    false_alarms: float | None
    alerts: float | None
    detected: float | None
    lead: float | None


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """How much worse the treatment is than the control, in the metric's unit: below 0 it is better.

    `low` and `high` are the 95 % percentile bootstrap interval over vehicles (Efron 1979), `events` what was counted
    in both arms together. None where an arm has nothing to divide by.
    """

    metric: Metric
    harm: float | None
    low: float | None
    high: float | None
    events: float


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of an experiment's arms at one moment."""

    arms: list[ArmFigures]
    differences: list[Difference]

    def of(self, metric: Metric) -> Difference:
        """The difference in one metric."""
        return next(difference for difference in self.differences if difference.metric == metric)


def compare(experiment: Experiment, position: Callable[[str], int | None], vehicles: Any) -> Comparison:
    """Compare the arms by `vehicles`, an Arrow table with a row a vehicle and the columns that RATIOS name.

    `position` says in which arm a vehicle is (see `assignment.assign`); those in none are left out. The same table
    gives the same comparison: the bootstrap is seeded.
    """
    arms = np.array([-1 if (arm := position(name)) is None else arm for name in vehicles["vehicle"].to_pylist()])
    columns = {name: vehicles[name].to_numpy().astype(np.float64) for name in vehicles.column_names[1:]}
    sums = [{name: column[arms == arm] for name, column in columns.items()} for arm in range(len(experiment.arms))]
    control = experiment.arms.index(experiment.control)
    treatment = experiment.arms.index(experiment.treatment)
    return Comparison(
        arms=[_figures(arm.name, arm.role, sums[place]) for place, arm in enumerate(experiment.arms)],
        differences=[_difference(metric, sums[control], sums[treatment]) for metric in RATIOS],
    )


Sums = dict[str, NDArray[np.float64]]


def _figures(arm: str, role: str, sums: Sums) -> ArmFigures:
    metrics = {metric: _plain(_value(ratio, sums)) for metric, ratio in RATIOS.items()}
    return ArmFigures(
        arm=arm,
        role=role,
        vehicles=len(sums["days"]),
        vehicle_days=float(sums["days"].sum()),
        faults=int(sums["faults"].sum()),
        **metrics,
    )


def _value(ratio: Ratio, sums: Sums) -> float:
    under = float(sums[ratio.under].sum())
    return ratio.scale * float(sums[ratio.over].sum()) / under if under else float("nan")


def _difference(metric: Metric, control: Sums, treatment: Sums) -> Difference:
    ratio = RATIOS[metric]
    sign = 1.0 if ratio.better == "lower" else -1.0
    drawn = sign * (_drawn(ratio, treatment, seed=1) - _drawn(ratio, control, seed=0))
    drawn = drawn[np.isfinite(drawn)]
    harm = _plain(sign * (_value(ratio, treatment) - _value(ratio, control)))
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if len(drawn) else (np.nan, np.nan)
    events = float(control[ratio.over].sum() + treatment[ratio.over].sum())
    return Difference(metric=metric, harm=harm, low=_plain(low), high=_plain(high), events=events)


def _drawn(ratio: Ratio, sums: Sums, seed: int) -> NDArray[np.float64]:
    """The metric in DRAWS samples of the arm's vehicles with replacement; NaN where there is nothing to divide by."""
    rng = np.random.default_rng(seed)
    over, under = sums[ratio.over], sums[ratio.under]
    values = np.full(DRAWS, np.nan)
    for draw in range(DRAWS if len(under) else 0):
        rows = rng.integers(0, len(under), len(under))
        total = under[rows].sum()
        values[draw] = ratio.scale * over[rows].sum() / total if total else np.nan
    return values


def _plain(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None


def lines(comparison: Comparison) -> Sequence[str]:
    """The comparison as a table in words, a line an arm and a difference."""
    rows = [
        f"{arm.arm} ({arm.role}): {arm.vehicles} vehicles, {arm.vehicle_days:.0f} vehicle-days, "
        f"false alarms per 1,000 {_shown(arm.false_alarms)}, alerts a day {_shown(arm.alerts)}, "
        f"detected {_shown(arm.detected)} of {arm.faults} faults, lead {_shown(arm.lead)} days"
        for arm in comparison.arms
    ]
    for difference in comparison.differences:
        if difference.harm is not None:
            side = "worse" if difference.harm > 0 else "better"
            rows.append(
                f"{difference.metric}: treatment {abs(difference.harm):.3g} {side} "
                f"(harm between {_shown(difference.low)} and {_shown(difference.high)})"
            )
    return rows


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"
