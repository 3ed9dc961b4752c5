"""Headline figures vehicle by vehicle, so that a sum over drawn vehicles is a bootstrap sample."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from anomaly.feedback.history import HEALTHY
from anomaly.fleet import Fleet
from training.figures import Decided, counted_with, headline

Floats = NDArray[np.float64]
DRAWS = 1_000
COLUMNS = (
    "healthy", "days", "episodes", "ever", "readings", "in_alarm", "faults", "detected", "lead", "running", "late",
)  # fmt: skip
"""Columns of a tally: 1 where the vehicle has healthy readings, healthy days, false-alarm episodes, 1 where there was
any, healthy readings past burn-in, those in alarm, faults, faults detected, sums of the two leads over faults, and
the share of the price of a missed fault that detected ones cost because they came late."""


class Costs(NamedTuple):
    """What errors cost: a false-alarm episode, a missed fault, and a fault detected with less than `lead` vehicle-days,
    which costs the share of `missed` that is lacking of `lead`."""

    false_alarm: float = 10.0
    missed: float = 500.0
    lead: float = 5.0


class Estimate(msgspec.Struct, frozen=True):
    """A figure with its 95 % bootstrap interval over vehicles."""

    value: float
    low: float
    high: float


def tally(past: Decided, fleet: Fleet, costs: Costs) -> Floats:
    """float64[vehicles, COLUMNS] of the vehicles that are there, in order of their code."""
    order = np.lexsort((past.ts, past.codes))
    past = past.take(order)
    edges = np.flatnonzero(np.diff(past.codes, prepend=-1, append=-1)).tolist()
    return np.array([_of_vehicle(_rows(past, start, stop), fleet, costs) for start, stop in pairwise(edges)])


def _rows(past: Decided, start: int, stop: int) -> Decided:
    code = past.codes[start]
    return past.take(np.arange(start, stop))._replace(
        faults=[fault for fault in past.faults if fault.code == code],
        shifts=[shift for shift in past.shifts if shift.code == code],
        cohorts=[alarm for alarm in past.cohorts if not alarm.false or counted_with(alarm, past) == code],
    )


def _of_vehicle(past: Decided, fleet: Fleet, costs: Costs) -> list[float]:
    figures = headline(past, fleet)
    readings = float(np.sum((past.health == HEALTHY) & past.warm))
    late = 0.0
    for fault in past.faults:
        one = headline(past._replace(faults=[fault]), fleet) if len(past.faults) > 1 else figures
        late += (one.detected or 0.0) * max(0.0, 1.0 - (one.lead or 0.0) / costs.lead)
    return [
        float(np.any(past.health == HEALTHY)),
        figures.healthy_days,
        figures.false_alarm_episodes,
        float(figures.false_alarm_episodes > 0),
        readings,
        figures.share_healthy_time_in_alarm * max(readings, 1.0),
        figures.faults,
        (figures.detected or 0.0) * figures.faults,
        (figures.lead or 0.0) * figures.faults,
        (figures.lead_running or 0.0) * figures.faults,
        late,
    ]


def figures_of(sums: Floats, costs: Costs) -> dict[str, Floats]:
    """Figures out of sums over vehicles [..., COLUMNS]; NaN where there is nothing to divide by."""
    at: Mapping[str, Floats] = {name: sums[..., place] for place, name in enumerate(COLUMNS)}

    def share(part: str, whole: str, scale: float = 1.0) -> Floats:
        return np.where(at[whole] > 0, scale * at[part] / np.maximum(at[whole], 1e-9), np.nan)

    missed = at["faults"] - at["detected"] + at["late"]
    return {
        "false_alarms": share("episodes", "days", 1_000.0),
        "vehicles_alarmed": share("ever", "healthy"),
        "time_in_alarm": share("in_alarm", "readings"),
        "detected": share("detected", "faults"),
        "lead": share("lead", "faults"),
        "lead_running": share("running", "faults"),
        "cost": costs.false_alarm * at["episodes"] + costs.missed * missed,
    }


def drawn(tallies: list[Floats]) -> list[Floats]:
    """For each split, sums over DRAWS bootstrap samples of its vehicles [DRAWS, COLUMNS] (Efron 1979).

    The draws depend on the number of vehicles alone, so that two rows of a suite are paired.
    """
    sums = []
    for place, own in enumerate(tallies):
        times = np.random.default_rng(place).multinomial(len(own), np.full(len(own), 1 / len(own)), DRAWS)
        sums.append(times.astype(np.float64) @ own)
    return sums


def estimates(tallies: list[Floats], costs: Costs) -> dict[str, Estimate]:
    """Median over splits of each figure, and the interval of that median."""
    exact = [figures_of(own.sum(axis=0), costs) for own in tallies]
    samples = [figures_of(own, costs) for own in drawn(tallies)]
    return {name: _estimate([e[name] for e in exact], [s[name] for s in samples]) for name in exact[0]}


def difference(one: list[Floats], other: list[Floats], costs: Costs, figure: str) -> tuple[Estimate, int]:
    """Median over splits of the paired difference of a figure, and in how many splits `one` has more."""
    exact = [_minus(a.sum(axis=0), b.sum(axis=0), costs, figure) for a, b in zip(one, other, strict=True)]
    samples = [_minus(a, b, costs, figure) for a, b in zip(drawn(one), drawn(other), strict=True)]
    return _estimate(exact, samples), int(sum(float(value) > 0 for value in exact))


def _minus(one: Floats, other: Floats, costs: Costs, figure: str) -> Floats:
    return np.asarray(figures_of(one, costs)[figure] - figures_of(other, costs)[figure])


def _estimate(exact: list[Floats], samples: list[Floats]) -> Estimate:
    value = float(np.median(np.array(exact, np.float64)))
    middle = np.median(np.array(samples), axis=0)
    middle = middle[np.isfinite(middle)]
    low, high = np.quantile(middle, [0.025, 0.975]) if len(middle) else (np.nan, np.nan)
    return Estimate(value, float(low), float(high))
