"""The peer: the same work by River, one event after the other, in the fastest honest way.

msgspec with types, `river.stats` for what is gathered over time, plain Python for the gates and NumPy for the score.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from river import stats

from anomaly.engine.frame import MOST_AWAY
from anomaly.engine.layout import (
    AHEAD,
    BINS,
    CLOSED,
    MIN_READINGS,
    MIN_VEHICLES,
    MOST_UNCONFIRMED,
    RECENT,
    SHIFTS,
    SIZES,
)
from anomaly.engine.model import Model
from anomaly.fleet import Fleet
from benchmarks.closed_form import score_of
from benchmarks.world import World

FAST, SLOW = 0.3, 0.01
CLIP = 12.0
UNKNOWN, TRACKED, SUSPECT = 0, 1, 2
"""Marks of a signal: nothing is known, its last value was near its evidence, it jumped alone and is not back yet."""


class Decided(NamedTuple):
    """One reading's score, and whether it alarms."""

    score: float
    alarm: bool


class _Calendar:
    """The open period of all cohorts, of `length` ticks: it closes once a tenth of the vehicles that reached it are
    past its end plus `grace`. A stream in order of time is asked for: a gap of several periods is not cut short."""

    __slots__ = ("_grace", "_length", "_passed", "_reached", "opened")

    def __init__(self, length: int, grace: int) -> None:
        self._length, self._grace, self.opened = length, grace, -1
        self._reached: Counter[int] = Counter()
        self._passed: Counter[int] = Counter()

    def next_line(self, ts: int) -> int:
        """The first time after `ts` at which a vehicle reaches a period, or passes the grace of one."""
        length, grace = self._length, self._grace
        return min(ts // length * length + length, (ts - grace) // length * length + length + grace)

    def move(self, before: int, ts: int) -> bool:
        """A vehicle goes on from `before` (-1: it is new) to `ts`; whether that closes the open period."""
        if self.opened < 0:
            self.opened = ts // self._length
        first = self.opened if before < 0 else max(self.opened, before // self._length + 1)
        self._reached.update(range(first, ts // self._length + 1))
        first = self.opened if before < 0 else max(self.opened, (before - self._grace) // self._length)
        self._passed.update(range(first, (ts - self._grace) // self._length))
        reached, passed = self._reached[self.opened], self._passed[self.opened]
        closes = 0 < passed >= min(2, reached) and 10 * passed >= reached
        self.opened += closes
        return closes


class _Cohort:
    """What the vehicles of a cohort did by period, signal and place, how large their evidence was, and the shift and
    scale that each period has of it."""

    __slots__ = ("_signals", "closed", "counts", "scales", "shifts", "sizes", "vehicles")

    def __init__(self, signals: int) -> None:
        self._signals = signals
        self.vehicles: Counter[int] = Counter()
        self.counts: dict[int, list[list[int]]] = {}
        self.closed: dict[int, NDArray[np.int64]] = {}
        self.shifts: dict[int, list[float]] = {}
        self.sizes: dict[int, list[list[float]]] = {}
        self.scales: dict[int, list[float]] = {}

    def enter(self, period: int) -> list[list[int]]:
        """The counts of a period that is not closed, by signal and place."""
        counts = self.counts.get(period)
        if counts is None:
            counts = self.counts[period] = [[0] * BINS for _ in range(self._signals)]
        return counts

    def close(self, period: int) -> None:
        """What is taken off in `period` + 2: medians of the CLOSED periods up to `period`, shrunk by their error."""
        self.closed[period] = np.array(self.enter(period))
        del self.counts[period]
        self.closed.pop(period - CLOSED, None)
        self.shifts.pop(period - CLOSED, None)
        if max(self.vehicles[p] for p in self.closed) < MIN_VEHICLES:
            return
        counts = np.sum(list(self.closed.values()), axis=0)
        total = np.maximum(counts.sum(axis=1), 1)
        low, median, high = (0.1 * _quantiles(counts, share) - 12.05 for share in (0.25, 0.5, 0.75))
        error = 2.5 * (high - low) / 1.349 / np.sqrt(total)
        shrunk = median * np.maximum(0.0, 1.0 - error**2 / np.maximum(median**2, 1e-9))
        self.shifts[period + 2] = np.where(total < MIN_READINGS, 0.0, shrunk).tolist()
        sizes = [size for p in range(period - RECENT + 1, period + 1) for size in self.sizes.get(p, ())]
        self.sizes.pop(period - RECENT, None)
        self.scales.pop(period - CLOSED, None)
        if sizes:
            self.scales[period + 2] = _scale(np.array(sizes)).tolist()


def _quantiles(counts: NDArray[np.int64], share: float) -> NDArray[np.float64]:
    """What a share of what is counted [signals, bins] is below, in bins, those of a bin lying evenly in it."""
    seen, wanted = np.cumsum(counts, axis=1), share * counts.sum(axis=1)
    rows, places = np.arange(len(counts)), np.argmax(seen >= wanted[:, None], axis=1)
    inside = counts[rows, places]
    return np.asarray(places + 1.0 - (seen[rows, places] - wanted) / np.maximum(inside, 1))


def _scale(sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """The size [signals] that a tenth of the vehicles passes and two more, by their `sizes` [n, signals] of RECENT
    periods, 1 at least; those of an eighth lie evenly in it."""
    eighths = np.minimum((8 * sizes).astype(np.int64), SIZES - 1)
    counts = np.stack([np.bincount(column, minlength=SIZES) for column in eighths.T])
    return np.maximum(0.125 * _quantiles(counts, 0.9 - 2 * RECENT / len(sizes)), 1.0)


class _Vehicle:
    """River's statistics of one vehicle."""

    __slots__ = ("baseline", "before", "burned", "count", "equal", "evidence", "ewm", "gap", "gaps", "last",
                 "last_ts", "line", "mark", "open", "q", "raised", "silent", "wide")  # fmt: skip

    def __init__(self, signals: int, q: float) -> None:
        self.count, self.last_ts, self.line, self.q = 0, -1, -1, q
        self.open, self.gap, self.gaps, self.raised = False, 0, False, 1.0
        self.last: list[float] = [math.nan] * signals
        self.equal, self.silent = [0] * signals, [0] * signals
        self.burned = [stats.Mean() for _ in range(signals)]
        self.baseline: list[float] = []

    def forget(self, signals: int, weight: float, wide: bool) -> None:
        """Means over time start at 0, as the engine's do, not at the first value."""
        self.ewm = [_from_zero(stats.EWMean(weight)) for _ in range(signals)]
        self.evidence, self.mark = [0.0] * signals, [UNKNOWN] * signals
        if wide:
            self.wide = [
                (_from_zero(stats.EWMean(FAST)), _from_zero(stats.EWMean(SLOW)), _from_zero(stats.EWVar(weight)))
                for _ in range(signals)
            ]
            self.before: list[float | None] = [None] * signals


def _from_zero(statistic: Any) -> Any:
    statistic.update(0.0)
    return statistic


class RiverPerEvent:
    """Decode, quality, regime, cohort, baseline, features, score, threshold and episode of one message at a time."""

    def __init__(self, world: World) -> None:
        frame, arrays, fleet = world.frame, world.frame.arrays(), world.fleet
        self._d, self._frame, self._fleet = len(frame.signals), frame, fleet
        self._model: Model = world.model
        self._wide = frame.blocks > 1
        self._score = score_of(world.model.scorer.model, frame.blocks * self._d)  # type: ignore[attr-defined]
        self._decode = msgspec.json.Decoder(_reading(fleet)).decode
        self._take = attrgetter(*(f"s{j}" for j in range(len(fleet.columns))))
        self._regimes = [
            [(center, inverse) for center, inverse in zip(row, arrays.inv_scale.tolist(), strict=True)]
            for row in arrays.center.tolist()
        ]
        self._slope, self._step = arrays.slope, arrays.step.tolist()
        self._mean, self._inv_sd = arrays.mean.tolist(), arrays.inv_sd.tolist()
        self._prior, self._gain = arrays.prior.astype(float), arrays.gain.astype(float)
        self._priors = self._prior.tolist()
        self._limits = [(s.min, s.max, s.max_step, s.stuck_after) for s in fleet.signals.values()]
        self._vehicles: dict[str, _Vehicle] = {}
        self._cohorts: dict[tuple[str, str], _Cohort] = {}
        self._calendar = _Calendar(frame.period, fleet.ticks(fleet.quality.grace))
        self._nothing = [0.0] * self._d
        self._usual = np.array(frame.usual) if frame.usual else None
        self._gathered = frame.burn_in + 2 * frame.time_constant

    def run(self, messages: Sequence[bytes]) -> list[Decided | None]:
        """What is decided of each, None where the time of a reading is not later than its vehicle's last."""
        return list(map(self.one, messages))

    def one(self, message: bytes) -> Decided | None:
        """What is decided of one message."""
        reading = self._decode(message)
        vehicle = self._vehicles.get(reading.vehicle)
        if vehicle is None:
            vehicle = self._vehicles[reading.vehicle] = _Vehicle(self._d, self._model.q_fleet)
            vehicle.forget(self._d, 1 / self._frame.time_constant, self._wide)
        if reading.ts <= vehicle.last_ts:
            return None
        cohort = self._cohort((reading.context.type, reading.context.region))
        warm = vehicle.count >= self._frame.burn_in
        period = reading.ts // self._frame.period
        if reading.ts >= vehicle.line:
            self._cross(vehicle, cohort, reading.ts, warm)
        vehicle.last_ts = reading.ts
        row = self._learn(vehicle, cohort, self._take(reading.signals), period, warm)
        score = self._score(row)
        vehicle.count += 1
        if vehicle.count == self._frame.burn_in:
            self._own_baseline(vehicle)
        return Decided(score, warm and self._settle(vehicle, score))

    def _cohort(self, key: tuple[str, str]) -> _Cohort:
        cohort = self._cohorts.get(key)
        if cohort is None:
            cohort = self._cohorts[key] = _Cohort(self._d)
        return cohort

    def _cross(self, vehicle: _Vehicle, cohort: _Cohort, ts: int, warm: bool) -> None:
        """The vehicle goes over a line of the calendar: which may close a period, and be its first reading of one."""
        calendar, period, before = self._calendar, ts // self._frame.period, vehicle.last_ts
        opened = calendar.opened
        if calendar.move(before, ts):
            for each in self._cohorts.values():
                each.close(opened)
        vehicle.line = calendar.next_line(ts)
        if warm and before // self._frame.period < period >= calendar.opened:
            cohort.vehicles[period] += 1
            if self._usual is not None and vehicle.count >= self._gathered:
                cohort.sizes.setdefault(period, []).append(np.abs(vehicle.evidence) / self._usual)

    def _regime(self, place: Sequence[float]) -> int:
        best, found = math.inf, 0
        for number, center in enumerate(self._regimes):
            distance = 0.0
            for value, (middle, inverse) in zip(place, center, strict=True):
                step = (value - middle) * inverse
                distance += step * step
            if distance < best:
                best, found = distance, number
        return found

    def _explained(self, place: Sequence[float], regime: int) -> list[float]:
        """What the regime signals, as far as they are from the middle of their regime, do to each signal."""
        steps = [
            (value - middle) * inverse for value, (middle, inverse) in zip(place, self._regimes[regime], strict=True)
        ]
        away = [MOST_AWAY if x > MOST_AWAY else -MOST_AWAY if x < -MOST_AWAY else x for x in steps]
        explained: list[float] = np.dot(away, self._slope[regime]).tolist()
        return explained

    def _judge(self, vehicle: _Vehicle, values: Any) -> list[float | None]:
        """The place of each value among the healthy of its regime; None where it must not be used."""
        place = values[self._d :]
        regime = self._regime(place)
        last, equal, means, inverses = vehicle.last, vehicle.equal, self._mean[regime], self._inv_sd[regime]
        explained = self._explained(place, regime) if self._slope.size else self._nothing
        places: list[float | None] = [None] * self._d
        for j, (low, high, most, stuck) in enumerate(self._limits):
            value = values[j]
            if value is None or value < low or value > high:
                continue
            before, last[j] = last[j], value
            equal[j] = same = equal[j] + 1 if value == before else 0
            if not (abs(value - before) > most or same >= stuck):
                z = (value - means[j]) * inverses[j] - explained[j]
                places[j] = CLIP if z > CLIP else -CLIP if z < -CLIP else z
        return places

    def _isolate(self, vehicle: _Vehicle, places: list[float | None], usual: list[float], shifts: list[float]) -> None:
        """One signal alone that jumps away from its evidence, or is not back yet from where it jumped, is not used."""
        evidence, mark, far = vehicle.evidence, vehicle.mark, []
        for j, (z, limit) in enumerate(zip(places, self._step, strict=True)):
            if z is None:
                continue
            away = abs(z - usual[j] - shifts[j] - evidence[j])
            if away <= 0.5 * limit:
                mark[j] = TRACKED
                continue
            jumped = mark[j] == TRACKED and abs(evidence[j]) <= 0.25 * limit and away > limit
            held = mark[j] == SUSPECT and vehicle.silent[j] <= self._fleet.quality.silent_after
            if jumped or (held and away > 0.75 * limit):
                far.append(j)
            mark[j] = SUSPECT if held else UNKNOWN
        if len(far) == 1 and self._d >= 3:
            places[far[0]], mark[far[0]] = None, SUSPECT

    def _learn(self, vehicle: _Vehicle, cohort: _Cohort, values: Any, period: int, warm: bool) -> Any:
        """The feature row of one reading, after its values were judged and taken in."""
        d, silent, ewm, wide = self._d, vehicle.silent, vehicle.ewm, self._wide
        opened = self._calendar.opened
        told = min(max(period, opened - SHIFTS // 2), opened + 1)
        shifts = cohort.shifts.get(told, self._nothing)
        usual = vehicle.baseline if warm else self._priors
        counts = cohort.enter(period) if warm and opened <= period <= opened + AHEAD else None
        deviations, changes = ([0.0] * d, [0.0] * d) if wide else ([], [])
        places = self._judge(vehicle, values)
        if warm:
            self._isolate(vehicle, places, usual, shifts)
        for j, z in enumerate(places):
            if z is None:
                silent[j] += 1
                vehicle.gaps = True
                continue
            silent[j] = 0
            own = z - usual[j]
            if counts is not None:
                place = int(own * 10 + 120.5)
                counts[j][0 if place < 0 else 240 if place > 240 else place] += 1
            own -= shifts[j]
            ewm[j].update(own)
            if wide:
                for statistic in vehicle.wide[j]:
                    statistic.update(own)
                earlier, vehicle.before[j] = vehicle.before[j], own
                deviations[j], changes[j] = own, 0.0 if earlier is None else own - earlier
            if not warm:
                vehicle.burned[j].update(z - shifts[j])
        return self._row(vehicle, deviations, changes, cohort.scales.get(told))

    def _row(self, vehicle: _Vehicle, deviations: list[float], changes: list[float], scales: list[float] | None) -> Any:
        evidence = vehicle.evidence = [mean.get() for mean in vehicle.ewm]
        if scales is not None:
            evidence = [value / scale for value, scale in zip(evidence, scales, strict=True)]
        columns = [evidence]
        if self._wide:
            fast, slow, variance = zip(*vehicle.wide, strict=True)
            spread = [math.sqrt(max(each.get(), 0.0)) for each in variance]
            columns = [
                deviations,
                changes,
                evidence,
                [mean.get() for mean in fast],
                [mean.get() for mean in slow],
                spread,
            ]
        if vehicle.gaps:
            columns = self._rescaled(vehicle, columns)
        return np.array([value for column in columns for value in column])

    def _rescaled(self, vehicle: _Vehicle, columns: list[list[float]]) -> list[list[float]]:
        after = self._fleet.quality.silent_after
        heard = [silent <= after for silent in vehicle.silent]
        vehicle.gaps = any(vehicle.silent)
        scale = math.sqrt(self._d / max(sum(heard), 1))
        return [[value * scale if kept else 0.0 for value, kept in zip(c, heard, strict=True)] for c in columns]

    def _own_baseline(self, vehicle: _Vehicle) -> None:
        burn_in = self._frame.burn_in
        trust = [min(1.0, mean.n / burn_in) for mean in vehicle.burned]
        own = [
            (mean.get() - prior) * share if mean.n else 0.0
            for mean, prior, share in zip(vehicle.burned, self._priors, trust, strict=True)
        ]
        vehicle.baseline = (self._prior + self._gain @ np.array(own)).tolist()
        vehicle.forget(self._d, 1 / self._frame.time_constant, self._wide)

    def _settle(self, vehicle: _Vehicle, score: float) -> bool:
        """Threshold, alarm, learning of the threshold, episode."""
        model = self._model
        policy, q = model.policy, vehicle.q
        threshold = model.k * min(max(q / model.q_fleet, policy.low), policy.high) * vehicle.raised
        if score < policy.gate * q:
            q *= math.exp(policy.rate * (policy.quantile if score > q else policy.quantile - 1.0))
            vehicle.q = min(max(q, model.q_fleet * policy.low), model.q_fleet * policy.high)
        if score > threshold:
            vehicle.open, vehicle.gap = True, 0
            return True
        if vehicle.open:
            vehicle.gap += 1
            vehicle.open = vehicle.gap < self._fleet.alerts.gap
            if not vehicle.open:
                vehicle.raised = min(vehicle.raised * policy.raised, policy.raised**MOST_UNCONFIRMED)
        return False


def _reading(fleet: Fleet) -> Any:
    """The type of a message, its signals in the fleet's order."""
    columns = fleet.columns
    signals = msgspec.defstruct(
        "Signals",
        [(f"s{j}", float | None, None) for j in range(len(columns))],
        rename={f"s{j}": name for j, name in enumerate(columns)},
        gc=False,
    )
    context = msgspec.defstruct("Context", [("type", str), ("region", str)], gc=False)
    return msgspec.defstruct(
        "Reading", [("vehicle", str), ("ts", int), ("signals", signals), ("context", context)], gc=False
    )
