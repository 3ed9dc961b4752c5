"""The headline figures: how often healthy vehicles were alarmed for nothing, and how early faults were found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from anomaly.feedback.history import FAULT, HEALTHY
from anomaly.fleet import Fleet

COST_FALSE_ALARM, COST_MISSED = 10.0, 500.0


class Fault(NamedTuple):
    """A confirmed fault of the vehicle `code`, from `start` to `end`, both included."""

    code: int
    start: int
    end: int


class Shift(NamedTuple):
    """A lasting shift of the vehicle `code`: the time of the first of the alarms that led to it, those at which its
    alert opened and at which it was answered (None: never)."""

    code: int
    start: int
    opened: int
    answered: int | None


class CohortAlarm(NamedTuple):
    """An alert about a cohort: its vehicles, its start, the time at which it opened and that of its end (None: none);
    it is `false` where none of them had a fault while it lasted."""

    codes: NDArray[np.int64]
    start: int
    opened: int
    end: int | None
    false: bool


class Decided(NamedTuple):
    """Readings with what was decided and what is known of them, one row a reading, each vehicle's in order of time.

    `codes` int64[n] says whose it is, `ts` int64[n], `alarm` bool[n], `warm` bool[n] (past burn-in), `health`
    int8[n] as `anomaly.feedback.history` says, `faults` the confirmed ones, `shifts` the lasting shifts,
    `cohorts` the alerts about cohorts.
    """

    codes: NDArray[np.int64]
    ts: NDArray[np.int64]
    alarm: NDArray[np.bool_]
    warm: NDArray[np.bool_]
    health: NDArray[np.int8]
    faults: list[Fault]
    shifts: Sequence[Shift] = ()
    cohorts: Sequence[CohortAlarm] = ()

    def take(self, rows: NDArray[Any]) -> Decided:
        """The readings at `rows` (positions or a mask), in that order; all else stays as it is."""
        columns = (self.codes[rows], self.ts[rows], self.alarm[rows], self.warm[rows], self.health[rows])
        return Decided(*columns, self.faults, self.shifts, self.cohorts)

    def of(self, codes: NDArray[np.int64]) -> Decided:
        """What is of these vehicles; alerts about cohorts stay."""
        chosen = set(codes.tolist())
        return self.take(np.isin(self.codes, codes))._replace(
            faults=[fault for fault in self.faults if fault.code in chosen],
            shifts=[shift for shift in self.shifts if shift.code in chosen],
        )

    def after(self, cuts: NDArray[np.int64]) -> Decided:
        """What comes after each vehicle's cut, int64[codes]."""
        return self.take(self.ts > cuts[self.codes])._replace(
            faults=[fault for fault in self.faults if fault.end > cuts[fault.code]],
            shifts=[shift for shift in self.shifts if shift.opened > cuts[shift.code]],
            cohorts=[alarm for alarm in self.cohorts if alarm.opened > cuts[alarm.codes].max()],
        )


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Headline figures of a past. Leads are in vehicle-days (cycles), 0 for a fault that was not detected.

    `lead` counts from the first alarm after the healthy part, `lead_running` from the start of the episode that
    still runs at the end; a lasting shift that nobody answered runs from the start of its alarms. The interval is the
    95 % bootstrap interval over vehicles of the false-alarm rate.
    """

    vehicles: int
    healthy_days: int
    false_alarm_episodes: int
    false_alarms_per_1000_days: float
    false_alarms_interval: tuple[float, float]
    share_vehicles_ever_alarmed: float
    share_healthy_time_in_alarm: float
    faults: int
    detected: float | None
    lead: float | None
    lead_running: float | None
    cost: float


def headline(past: Decided, fleet: Fleet) -> Figures:
    """The headline figures; `past` may hold any subset of a fleet's vehicles, rows in any order of vehicles."""
    past = _by_vehicle(past)
    rank = _rank(past.codes)
    false = past.alarm & (past.health == HEALTHY)
    starts = episode_starts(past.codes, rank, false, fleet.alerts.gap)
    counted = (past.health == HEALTHY) & past.warm
    days = vehicle_days(past.codes, past.ts, counted, fleet.ticks_per_day)
    size = int(past.codes.max(initial=-1)) + 1
    episodes_of = np.bincount([*past.codes[starts], *_false_cohorts(past)], minlength=size)
    days_of = np.bincount(days, minlength=size)
    rate = _rate(episodes_of.sum(), days_of.sum())
    healthy_vehicles = np.unique(past.codes[past.health == HEALTHY])
    found = [_find(past, rank, fault, fleet) for fault in past.faults]
    missed = sum(not detected for detected, _, _ in found)
    return Figures(
        vehicles=len(np.unique(past.codes)),
        healthy_days=int(days_of.sum()),
        false_alarm_episodes=int(episodes_of.sum()),
        false_alarms_per_1000_days=rate,
        false_alarms_interval=_interval(episodes_of, days_of, np.unique(past.codes)),
        share_vehicles_ever_alarmed=float(np.mean(np.isin(healthy_vehicles, past.codes[false])))
        if len(healthy_vehicles)
        else 0.0,
        share_healthy_time_in_alarm=float(false.sum() / max(counted.sum(), 1)),
        faults=len(found),
        detected=float(np.mean([detected for detected, _, _ in found])) if found else None,
        lead=float(np.mean([lead for _, lead, _ in found])) if found else None,
        lead_running=float(np.mean([running for _, _, running in found])) if found else None,
        cost=COST_FALSE_ALARM * float(episodes_of.sum()) + COST_MISSED * missed,
    )


def found_faults(past: Decided, fleet: Fleet) -> list[bool]:
    """Whether each of the faults was detected, in their order."""
    past = _by_vehicle(past)
    rank = _rank(past.codes)
    return [_find(past, rank, fault, fleet)[0] for fault in past.faults]


def costs_by_vehicle(past: Decided, fleet: Fleet) -> NDArray[np.float64]:
    """What each vehicle that is there cost, float64[vehicles in order of code]: false alarms and missed faults."""
    past = _by_vehicle(past)
    rank = _rank(past.codes)
    costs = np.zeros(int(past.codes.max(initial=-1)) + 1)
    starts = episode_starts(past.codes, rank, past.alarm & (past.health == HEALTHY), fleet.alerts.gap)
    np.add.at(costs, past.codes[starts], COST_FALSE_ALARM)
    np.add.at(costs, _false_cohorts(past), COST_FALSE_ALARM)
    for fault in past.faults:
        costs[fault.code] += 0.0 if _find(past, rank, fault, fleet)[0] else COST_MISSED
    return costs[np.unique(past.codes)]


def counted_with(alarm: CohortAlarm, past: Decided) -> int | None:
    """The vehicle with which an alert about a cohort is counted, as it is one episode: the first of those that are
    there; None where there is none, or it opened at another time."""
    there = np.intersect1d(alarm.codes, past.codes)
    if not len(there) or not past.ts.min() <= alarm.opened <= past.ts.max():
        return None
    return int(there[0])


def _false_cohorts(past: Decided) -> list[int]:
    found = [counted_with(alarm, past) for alarm in past.cohorts if alarm.false]
    return [code for code in found if code is not None]


def episode_starts(
    codes: NDArray[np.int64], rank: NDArray[np.int64], alarm: NDArray[np.bool_], gap: int
) -> NDArray[np.int64]:
    """Rows at which a run of alarms begins: no alarm of the vehicle in the `gap` readings before. Rows by vehicle."""
    rows = np.flatnonzero(alarm)
    if not len(rows):
        return rows
    new = np.ones(len(rows), np.bool_)
    new[1:] = (codes[rows[1:]] != codes[rows[:-1]]) | (rank[rows[1:]] - rank[rows[:-1]] > gap)
    return rows[new]


def vehicle_days(
    codes: NDArray[np.int64], ts: NDArray[np.int64], chosen: NDArray[np.bool_], ticks_per_day: int
) -> NDArray[np.int64]:
    """One entry, its vehicle, for each vehicle-day with a chosen reading. Rows by vehicle and time."""
    code, day = codes[chosen], ts[chosen] // ticks_per_day
    if not len(code):
        return code
    new = np.ones(len(code), np.bool_)
    new[1:] = (code[1:] != code[:-1]) | (day[1:] != day[:-1])
    return code[new]


def _by_vehicle(past: Decided) -> Decided:
    order = np.lexsort((past.ts, past.codes))
    return Decided(
        past.codes[order],
        past.ts[order],
        past.alarm[order],
        past.warm[order],
        past.health[order],
        past.faults,
        past.shifts,
        past.cohorts,
    )


def _rank(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Position of each row among its vehicle's; rows by vehicle."""
    first = np.searchsorted(codes, codes, side="left")
    return np.arange(len(codes)) - first


def _find(past: Decided, rank: NDArray[np.int64], fault: Fault, fleet: Fleet) -> tuple[bool, float, float]:
    """Whether a fault was detected, and its two leads in vehicle-days."""
    start, stop = np.searchsorted(past.codes, [fault.code, fault.code + 1])
    own = slice(start, stop)
    ts, alarm, health = past.ts[own], past.alarm[own], past.health[own]
    last = int(np.searchsorted(ts, fault.end, side="right"))
    until = last - fleet.history.detected_before
    inside = alarm & (health == FAULT) & (ts >= fault.start)
    before = np.flatnonzero(health[:last] == HEALTHY)
    first = int(before[-1]) + 1 if len(before) else 0
    told = [each for each in past.cohorts if _tells(each, fault, ts[first : max(until, 0)])]
    if not inside[: max(until, 0)].any() and not told:
        return False, 0.0, 0.0
    alarms = np.flatnonzero(alarm[first:last]) + first
    starts = [*ts[alarms[:1]].tolist(), *(max(each.start, int(ts[first])) for each in told)]
    running = 0
    if len(alarms) and last - 1 - alarms[-1] <= fleet.alerts.gap:
        breaks = np.flatnonzero(np.diff(rank[own][alarms]) > fleet.alerts.gap)
        running = fault.end - int(ts[alarms[breaks[-1] + 1 if len(breaks) else 0]])
    lasting = [
        *(s.start for s in past.shifts if s.code == fault.code and s.opened <= fault.end <= (s.answered or fault.end)),
        *(each.start for each in told if each.end is None or each.end >= fault.end),
    ]
    running = max([running, *(fault.end - max(start, int(ts[first])) for start in lasting)])
    return True, (fault.end - min(starts)) / fleet.ticks_per_day, running / fleet.ticks_per_day


def _tells(alarm: CohortAlarm, fault: Fault, ts: NDArray[np.int64]) -> bool:
    """Whether an alert about a cohort is in time for a fault of a vehicle of it; `ts` are the times of its readings
    after the healthy part that are early enough."""
    during = alarm.end is None or alarm.end >= fault.start
    return bool(len(ts) and fault.code in alarm.codes and during and alarm.opened <= ts[-1])


def _rate(episodes: float, days: float) -> float:
    return float(1_000 * episodes / days) if days else 0.0


def _interval(episodes: NDArray[np.int64], days: NDArray[np.int64], vehicles: NDArray[np.int64]) -> tuple[float, float]:
    """95 % percentile interval of the rate, vehicles drawn with replacement 1,000 times (Efron 1979)."""
    if not len(vehicles):
        return 0.0, 0.0
    drawn = np.random.default_rng(0).choice(vehicles, (1_000, len(vehicles)))
    rates = 1_000 * episodes[drawn].sum(axis=1) / np.maximum(days[drawn].sum(axis=1), 1)
    low, high = np.quantile(rates, [0.025, 0.975])
    return float(low), float(high)
