"""Before a start: can this experiment answer what it asks, on this fleet, in its time?

The fleet's own past gives base rates and the variance between vehicles. Counts grow with the days, and so does what
chance alone makes of them; what vehicles differ by for good does not. Power is that of the last look (z of the
sequence against its boundary), or that of simulated looks for the methods that have no standard error.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from anomaly.experiments import betting, first_event
from anomaly.experiments.compare import Vehicles
from anomaly.experiments.confidence_sequence import MIN_EVENTS, OPTIMUM, critical_z
from anomaly.experiments.file import Experiment, Guardrail, Primary
from anomaly.experiments.metrics import RATIOS, Method, Metric
from training.experiments.past import Seen, rows_of

ENOUGH = 0.8
"""The power that is asked for."""
RUNS = 300


class Power(msgspec.Struct, frozen=True, kw_only=True):
    """One metric: what it is now, the difference that is asked for, and how surely it is found by `max_days`.

    `days` is the shortest time with enough power, the label delay included; None: never within `max_days`.
    """

    metric: Metric
    role: Literal["primary", "guardrail"]
    method: Method
    base: float | None
    difference: float | None
    events: float
    power: float
    days: int | None

    @property
    def enough(self) -> bool:
        """Whether it can answer."""
        return self.power >= ENOUGH


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to know before a start: vehicles that may take part, days of the past, the power of each metric."""

    vehicles: int
    past_days: int
    metrics: list[Power]

    @property
    def underpowered(self) -> list[Power]:
        """Guardrails that could not fire at the harm that they are for."""
        return [one for one in self.metrics if one.role == "guardrail" and not one.enough]


class _Base(NamedTuple):
    """One metric in the past: per vehicle and day of exposure, and how vehicles differ.

    `rate` is over / under, `between` its variance between vehicles that days do not lessen, `chance` the variance of
    one unit of `under`, `under_a_day` a vehicle's units a day, `had` the share of vehicles with an event in the past.
    """

    rate: float
    between: float
    chance: float
    under_a_day: float
    had: float


def plan(experiment: Experiment, seen: Seen) -> Plan:
    """The power of an experiment on a past, with the last step of its ramp."""
    rows = rows_of(experiment, seen, np.zeros(len(seen.names), np.int8), seen.days, seen.days)
    low, high = experiment.layer.range
    part = (high - low) / 10_000 * (1.0 - experiment.holdout_share) * experiment.ramp[-1].share
    vehicles = round(len(seen.names) * part)
    asked: list[Primary | Guardrail] = [experiment.primary, *experiment.guardrails]
    fleet = _Fleet(vehicles, seen.days)
    metrics = [_power(experiment, one, _base(one.metric, rows, seen.days), fleet) for one in asked]
    return Plan(vehicles=vehicles, past_days=seen.days, metrics=metrics)


class _Fleet(NamedTuple):
    """Vehicles that take part, and the days of the past."""

    vehicles: int
    past_days: int


def _base(metric: Metric, rows: Vehicles, days: int) -> _Base:
    ratio = RATIOS[metric]
    over, under = rows.sums[ratio.over], rows.sums[ratio.under]
    had = float((rows.sums[ratio.event or ratio.over] > 0).mean()) if len(over) else 0.0
    if under.sum() <= 0 or len(over) < 2:
        return _Base(math.nan, 0.0, 0.0, 0.0, had)
    rate, mean = float(over.sum() / under.sum()), float(under.mean())
    variance = float(((over - rate * under) / mean).var(ddof=1))
    if ratio.under in ("days", "mature_days"):
        chance = rate if metric != "cost" else variance * mean
        return _Base(rate, max(variance - chance / mean, 0.0), chance, mean / days, had)
    return _Base(rate, 0.0, variance * mean, mean / days, had)


def _power(experiment: Experiment, asked: Primary | Guardrail, base: _Base, fleet: _Fleet) -> Power:
    difference, limit = _difference(asked, base)
    delay = math.ceil(experiment.label_delay_days) if RATIOS[asked.metric].label else 0
    longest = max(int(experiment.max_days) - delay, 1)
    times = sorted({max(longest * part // 12, 1) for part in range(1, 13)})
    powers = {days: _power_after(experiment, asked, base, fleet, days) for days in times}
    found = next((days + delay for days in times if powers[days] >= ENOUGH), None)
    scale = 1.0 if asked.method == "first_event" else RATIOS[asked.metric].scale
    return Power(
        metric=asked.metric,
        role="guardrail" if isinstance(asked, Guardrail) else "primary",
        method=asked.method,
        base=None if math.isnan(base.rate) else base.rate * RATIOS[asked.metric].scale,
        difference=None if math.isnan(difference) else scale * difference + scale * limit,
        events=0.0 if math.isnan(base.rate) else base.rate * base.under_a_day * longest * fleet.vehicles,
        power=round(powers[longest], 3),
        days=found,
    )


def _difference(asked: Primary | Guardrail, base: _Base) -> tuple[float, float]:
    """By how much the true harm is beyond the limit, and the limit; per unit of `under`, for first events relative."""
    scale = RATIOS[asked.metric].scale
    if isinstance(asked, Primary):
        return asked.mde * base.rate + asked.margin / scale, -asked.margin / scale
    if asked.method == "first_event":
        scale = 1.0
    limit = asked.max_harm / scale
    doubled = base.rate if RATIOS[asked.metric].better == "lower" else max(1.0 - base.rate, 0.05)
    doubled = 1.0 if asked.method == "first_event" else doubled
    wanted = asked.harm / scale if asked.harm is not None else (2.0 * limit or doubled)
    return wanted - limit, limit


def _power_after(experiment: Experiment, asked: Primary | Guardrail, base: _Base, fleet: _Fleet, days: int) -> float:
    difference, limit = _difference(asked, base)
    alpha = experiment.alpha_of(asked) if isinstance(asked, Guardrail) else asked.alpha
    if asked.method == "first_event":
        had = 1.0 - (1.0 - min(base.had, 0.999)) ** (days / fleet.past_days)
        return _by_first_events(experiment, had * fleet.vehicles, (limit, difference + limit), alpha)
    if math.isnan(difference) or difference <= 0 or base.rate <= 0:
        return 0.0
    if asked.method == "betting":
        faults = base.under_a_day * days * fleet.vehicles
        return _by_betting(experiment, base.rate, faults, (limit, difference + limit), alpha)
    exposure = base.under_a_day * days
    variance = base.between + base.chance / exposure
    share = experiment.treated_share
    arms = [fleet.vehicles * share, fleet.vehicles * (1.0 - share)]
    count = base.rate * exposure
    kish = count**2 / (count**2 + base.between * exposure**2 + count)
    events = [vehicles * kish for vehicles in arms]
    if min(events) < MIN_EVENTS:
        return 0.0
    error = math.sqrt(variance * sum(1.0 / vehicles for vehicles in arms))
    z = NormalDist().inv_cdf(1.0 - alpha / 2.0)
    if asked.method == "sequence":
        z = critical_z(1.0 / sum(1.0 / each for each in events), OPTIMUM, alpha)
    return NormalDist().cdf(difference / error - z)


def _by_first_events(experiment: Experiment, events: float, harm: tuple[float, float], alpha: float) -> float:
    """The share of simulated series that reach the boundary, with so many vehicles with an event but for the harm."""
    share, (allowed, true) = experiment.treated_share, harm
    treated = share * (1.0 + true) / (1.0 - share + share * (1.0 + true))
    count = round(events * (1.0 + share * true))
    if count < 1:
        return 0.0
    k = (np.random.default_rng(9).random((RUNS, count)) < treated).cumsum(axis=1)
    log_e = first_event.log_e_harm(k, np.arange(1, count + 1), share, 1.0 + allowed)
    return float((log_e >= -math.log(alpha)).any(axis=1).mean())


def _by_betting(experiment: Experiment, rate: float, faults: float, harm: tuple[float, float], alpha: float) -> float:
    """The share of simulated series in which the bets against the limit win, the first fault of each vehicle."""
    share, (allowed, true) = experiment.treated_share, harm
    rng, count = np.random.default_rng(10), max(int(faults), 1)
    null = np.array([0.5 - min(share, 1.0 - share) / 2.0 * allowed])
    won = 0
    for _ in range(RUNS):
        treated = rng.random(count) < share
        outcome = rng.random(count) < np.where(treated, max(rate - true, 0.0), rate)
        w = betting.stakes(outcome.astype(np.float64), treated, share)
        won += bool((betting.log_capital(w, null, alpha)[:, 0] >= -math.log(alpha)).any())
    return won / RUNS
