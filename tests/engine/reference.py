"""The engine's rules written a second time, one object a vehicle and in float64: what the kernels must agree with."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from anomaly.engine.events import Event
from anomaly.engine.frame import Frame
from anomaly.engine.layout import BINS, CLOSED, MIN_READINGS, MIN_VEHICLES, PERIODS
from anomaly.engine.model import Model
from anomaly.fleet import Fleet
from anomaly.telemetry.batch import Batch

SCORED, BURN_IN, DUPLICATE, LATE, AHEAD = range(5)
Episode = tuple[int, int, int, int, int, int, float, int]
"""Row, kind, change, start, end, peak, level and alarms of a change."""


@dataclass
class Gathered:
    """What is gathered of one signal over time; `before` is the deviation before, None at first."""

    evidence: float = 0.0
    fast: float = 0.0
    slow: float = 0.0
    variance: float = 0.0
    before: float | None = None

    def take(self, deviation: float, weight: float) -> tuple[float, float]:
        """One more deviation; answers it and its change."""
        change = 0.0 if self.before is None else deviation - self.before
        self.before = deviation
        self.variance = (1 - weight) * (self.variance + weight * (deviation - self.evidence) ** 2)
        self.evidence += weight * (deviation - self.evidence)
        self.fast += 0.3 * (deviation - self.fast)
        self.slow += 0.01 * (deviation - self.slow)
        return deviation, change


@dataclass
class Run:
    """An episode of one kind: `alarms` 0 where none is open."""

    alarms: int = 0
    start: int = 0
    last: int = 0
    peak: int = 0
    top: float = 0.0
    gap: int = 0

    def follow(self, hit: bool, ts: int, level: float, most: int) -> int:
        """One reading more; answers the change, 0 for none: opened, higher, closed."""
        if not hit:
            self.gap += self.alarms > 0
            return 3 if self.alarms and self.gap >= most else 0
        opened = self.alarms == 0
        if opened:
            self.start, self.top = ts, -1.0
        self.last, self.alarms, self.gap = ts, self.alarms + 1, 0
        if level > self.top:
            self.top, self.peak = level, ts
            return 1 if opened else 2
        return int(opened)


@dataclass
class Cohort:
    """A cohort's histograms by period, and the shift that is taken off."""

    signals: int
    period: int | None = None
    vehicles: set[str] = field(default_factory=set)
    counts: dict[tuple[int, int], dict[int, int]] = field(default_factory=dict)
    shift: list[float] = field(default_factory=list)
    ahead: tuple[str, int] | None = None

    def advance(self, vehicle: str, period: int) -> None:
        """A reading of a later period: it begins with its second vehicle, the very first at once."""
        if self.period is None:
            self._begin(period)
        elif self.ahead is None or self.ahead[0] == vehicle:
            self.ahead = (vehicle, period)
        else:
            both, latest = (
                min(period, self.ahead[1]),
                max((period, vehicle), self.ahead[::-1], key=lambda pair: pair[0]),
            )
            self.ahead = None if latest[0] == both else (latest[1], latest[0])
            self._begin(both)

    def _begin(self, period: int) -> None:
        before, self.period = self.period, period
        kept = range(period - 1 - CLOSED, period - 1)
        self.shift = []
        for j in range(self.signals):
            merged: dict[int, int] = {}
            for p in kept if before is not None else ():
                if before - PERIODS < p <= before:
                    for place, count in self.counts.get((p, j), {}).items():
                        merged[place] = merged.get(place, 0) + count
            self.shift.append(self._shrunk(merged))

    def _shrunk(self, merged: dict[int, int]) -> float:
        total = sum(merged.values())
        if total < MIN_READINGS or len(self.vehicles) < MIN_VEHICLES:
            return 0.0
        seen = 0
        for place in range(BINS):
            seen += merged.get(place, 0)
            if 2 * seen >= total:
                break
        median = (place - 120) * 0.1
        return median * max(0.0, 1 - 6.25 / total / median**2) if place != 120 else 0.0

    def count(self, j: int, period: int, place: float) -> None:
        """One more reading of signal j at `place`, in spreads."""
        bins = self.counts.setdefault((period, j), {})
        number = int(min(max(place * 10 + 120.5, 0), BINS - 1))
        bins[number] = bins.get(number, 0) + 1


class Vehicle:
    """All that is known of one vehicle."""

    def __init__(self, name: str, signals: int, q: float) -> None:
        self.name, self.q, self.last_ts = name, q, -math.inf
        self.regime, self.restarted = 0, -math.inf
        self.cohort: Cohort | None = None
        self.waiting: list[Event] = []
        self.runs = Run(), Run()
        self.silent = [0] * signals
        self.restart(signals)

    def restart(self, signals: int) -> None:
        """What is normal for it is not known any more."""
        self.seen, self.baseline = 0, [0.0] * signals
        self.sums: list[list[float]] = [[] for _ in range(signals)]
        self.last: list[float] = [math.nan] * signals
        self.equal = [0] * signals
        self.gathered = [Gathered() for _ in range(signals)]


class Reference:
    """Decides one reading after the other; `statuses`, `features`, `centers`, `decided`, `changes` are what it said."""

    def __init__(self, fleet: Fleet, frame: Frame, model: Model, restarts: list[Event]) -> None:
        self.fleet, self.frame, self.model, self.arrays = fleet, frame, model, frame.arrays()
        self.signals, self.restarts = list(fleet.signals.values()), restarts
        self.vehicles: dict[str, Vehicle] = {}
        self.cohorts: dict[str, Cohort] = {}
        self.now, self.ahead = -math.inf, (None, 0, 0)
        self.statuses: list[int] = []
        self.applied: list[tuple[int, str]] = []
        self.features: list[list[float]] = []
        self.decided: list[tuple[float, float, bool, bool]] = []
        self.changes: list[Episode] = []

    def run(self, batch: Batch) -> None:
        """All readings of `batch`."""
        for row in range(len(batch)):
            self._one(row, batch)

    def _one(self, row: int, batch: Batch) -> None:
        name, ts, values = batch.vehicles[row], int(batch.ts[row]), batch.values[row].astype(float).tolist()
        d = len(self.signals)
        if name not in self.vehicles:
            made = self.vehicles[name] = Vehicle(name, d, float(np.float32(self.model.q_fleet)))
            made.waiting = sorted((r for r in self.restarts if r.vehicle == name), key=lambda r: (r.ts, r.id))
        vehicle = self.vehicles[name]
        self.statuses.append(self._accept(vehicle, ts))
        if self.statuses[-1]:
            return
        while vehicle.waiting and vehicle.waiting[0].ts <= ts:
            event = vehicle.waiting.pop(0)
            if event.ts > vehicle.restarted:
                vehicle.restart(d)
                vehicle.restarted = event.ts
            self.applied.append((row, event.id))
        vehicle.last_ts = ts
        self._join(vehicle, batch.context["type"][row], ts)
        warm = vehicle.seen >= self.frame.burn_in
        refused, feature = self._learn(vehicle, values, ts, warm)
        vehicle.seen += 1
        if vehicle.seen == self.frame.burn_in:
            self._own_baseline(vehicle)
        self.statuses[-1] = SCORED if warm else BURN_IN
        self.features.append(feature)
        self._settle(vehicle, row, ts, warm, refused)

    def _accept(self, vehicle: Vehicle, ts: int) -> int:
        if ts <= vehicle.last_ts:
            return DUPLICATE if ts == vehicle.last_ts else LATE
        most = self.fleet.ticks(self.fleet.quality.max_ahead)
        heard = sum(known.last_ts > -math.inf for known in self.vehicles.values())
        if self.now > -math.inf and ts > self.now + most:
            who, when, times = self.ahead
            near = abs(ts - when) <= most
            times = times + 1 if who == vehicle.name and near else 1
            believed = who is not None and who != vehicle.name and near
            if not believed and times < 10 and heard > 1:
                self.ahead = (vehicle.name, ts, times)
                return AHEAD
        self.ahead, self.now = (None, self.ahead[1], 0), max(self.now, ts)
        return 0

    def _join(self, vehicle: Vehicle, told: str | None, ts: int) -> None:
        if told is not None:
            cohort = self.cohorts.setdefault(told, Cohort(len(self.signals), shift=[0.0] * len(self.signals)))
            if vehicle.cohort is not None:
                vehicle.cohort.vehicles.discard(vehicle.name)
            cohort.vehicles.add(vehicle.name)
            vehicle.cohort = cohort
        cohort = vehicle.cohort
        if cohort is not None and (cohort.period is None or ts // self.frame.period > cohort.period):
            cohort.advance(vehicle.name, ts // self.frame.period)

    def _find_regime(self, vehicle: Vehicle, place: list[float]) -> int:
        if not any(map(math.isfinite, place)):
            return vehicle.regime
        distances = [
            sum(
                ((x - c) * inv) ** 2
                for x, c, inv in zip(place, center, self.arrays.inv_scale, strict=True)
                if math.isfinite(x)
            )
            for center in self.arrays.center
        ]
        return int(np.argmin(distances))

    def _judge(self, vehicle: Vehicle, j: int, value: float) -> str:
        signal, last = self.signals[j], vehicle.last[j]
        if not math.isfinite(value):
            return "missing"
        if (signal.min is not None and value < signal.min) or (signal.max is not None and value > signal.max):
            return "range"
        vehicle.last[j] = value
        vehicle.equal[j] = vehicle.equal[j] + 1 if value == last else 0
        if signal.max_step is not None and abs(value - last) > signal.max_step:
            return "step"
        return "stuck" if signal.stuck_after and vehicle.equal[j] >= signal.stuck_after else ""

    def _learn(self, vehicle: Vehicle, values: list[float], ts: int, warm: bool) -> tuple[bool, list[float]]:
        d, cohort, period = len(self.signals), vehicle.cohort, ts // max(self.frame.period, 1)
        vehicle.regime = self._find_regime(vehicle, values[d:])
        refused, told = False, [(0.0, 0.0)] * d
        for j in range(d):
            reason = self._judge(vehicle, j, values[j])
            value = values[j]
            if reason == "missing":
                fill = self.signals[j].missing
                value = vehicle.last[j] if fill == "previous" else fill if isinstance(fill, float) else math.nan
            refused |= reason not in ("", "missing")
            if reason not in ("", "missing") or not math.isfinite(value):
                vehicle.silent[j] += 1
                continue
            vehicle.silent[j] = 0
            z = (value - self.arrays.mean[vehicle.regime, j]) * self.arrays.inv_sd[vehicle.regime, j]
            z = min(max(z, -12.0), 12.0)
            usual = vehicle.baseline[j] if warm else float(self.arrays.prior[j])
            shift = cohort.shift[j] if cohort else 0.0
            if warm and cohort and cohort.period is not None and cohort.period - 1 <= period <= cohort.period:
                cohort.count(j, period, z - usual)
            told[j] = vehicle.gathered[j].take(z - shift - usual, float(self.arrays.weight))
            if not warm:
                vehicle.sums[j].append(z - shift)
        return refused, self._row(vehicle, told)

    def _row(self, vehicle: Vehicle, told: list[tuple[float, float]]) -> list[float]:
        heard = [silent <= self.fleet.quality.silent_after for silent in vehicle.silent]
        scale = math.sqrt(len(heard) / max(sum(heard), 1))
        evidence = [signal.evidence for signal in vehicle.gathered]
        blocks = [evidence]
        if self.frame.blocks > 1:
            blocks = [[pair[0] for pair in told], [pair[1] for pair in told], evidence]
            blocks += [[signal.fast for signal in vehicle.gathered], [signal.slow for signal in vehicle.gathered]]
            blocks += [[math.sqrt(signal.variance) for signal in vehicle.gathered]]
        return [value * scale * kept for block in blocks for value, kept in zip(block, heard, strict=True)]

    def _own_baseline(self, vehicle: Vehicle) -> None:
        prior, burn_in = self.arrays.prior.astype(float), self.frame.burn_in
        own = [
            (np.mean(sums) - prior[j]) * min(1.0, len(sums) / burn_in) if sums else 0.0
            for j, sums in enumerate(vehicle.sums)
        ]
        vehicle.baseline = (prior + self.arrays.gain.astype(float) @ own).tolist()
        vehicle.gathered = [Gathered() for _ in own]

    def _settle(self, vehicle: Vehicle, row: int, ts: int, warm: bool, refused: bool) -> None:
        model, policy = self.model, self.model.policy
        width = np.zeros((1, self.frame.width), np.float32)
        width[0, : len(self.features[-1])] = self.features[-1]
        score, threshold = float(model.scorer.score(width)[0]), model.k
        if warm:
            threshold *= min(max(vehicle.q / model.q_fleet, policy.low), policy.high)
            if score < policy.gate * vehicle.q:
                up = score > vehicle.q
                vehicle.q *= math.exp(policy.rate * (policy.quantile if up else policy.quantile - 1))
                vehicle.q = min(max(vehicle.q, model.q_fleet * policy.low), model.q_fleet * policy.high)
        fault = warm and score > threshold
        self.decided.append((score, threshold, fault, refused))
        for kind, hit, run in ((4, fault, vehicle.runs[0]), (1, refused, vehicle.runs[1])):
            change = run.follow(hit, ts, score / threshold, self.fleet.alerts.gap)
            if change:
                self.changes.append((row, kind, change, run.start, run.last, run.peak, run.top, run.alarms))
            if change == 3:
                run.alarms = 0
