"""The engine's rules written a second time, one object a vehicle and in float64: what the kernels must agree with."""

from __future__ import annotations

import math

import numpy as np

from anomaly.engine.events import Event
from anomaly.engine.frame import Frame
from anomaly.engine.layout import WATCHED
from anomaly.engine.model import Model, Scorer
from anomaly.engine.outcome import Change, Kind
from anomaly.fleet import Fleet
from anomaly.telemetry.batch import Batch
from tests.engine.records import Cohort, Gathered, Run, Said, Seen, Vehicle

SCORED, BURN_IN, DUPLICATE, LATE, AHEAD = range(5)
Episode = tuple[int, int, int, int, int, int, float, int]
"""Row, kind, change, start, end, peak, level and alarms of a change."""


class Reference:
    """Decides one reading after the other; `statuses`, `features`, `decided`, `changes` are what it said."""

    def __init__(self, fleet: Fleet, frame: Frame, model: Model, events: list[Event]) -> None:
        self.fleet, self.frame, self.model, self.arrays = fleet, frame, model, frame.arrays()
        self.signals, self.events = list(fleet.signals.values()), events
        self.vehicles: dict[str, Vehicle] = {}
        self.cohorts: dict[str, Cohort] = {}
        self.begun, self.opened, self.first = False, 0, 0
        self.now, self.ahead = -math.inf, (None, 0, 0)
        self.statuses: list[int] = []
        self.applied: list[tuple[int, str]] = []
        self.features: list[list[float]] = []
        self.decided: list[Said] = []
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
            own = (event for event in self.events if event.vehicle == name)
            made.waiting = sorted(own, key=lambda event: (event.ts, event.id, event.action))
        vehicle = self.vehicles[name]
        self._open(ts)
        self.statuses.append(self._accept(vehicle, ts))
        if self.statuses[-1]:
            return
        answered = False
        while vehicle.waiting and vehicle.waiting[0].ts <= ts:
            event = vehicle.waiting.pop(0)
            again, answers = vehicle.happen(event, self.frame.burn_in)
            vehicle.in_a_row *= not again
            answered |= answers
            self.applied.append((row, event.id))
        before, vehicle.last_ts = vehicle.last_ts, ts
        known = self.opened + 1
        self._join(vehicle, batch.context["type"][row], ts)
        warm = vehicle.seen >= self.frame.burn_in
        self.statuses[-1] = SCORED if warm else BURN_IN
        vehicle.regime = self._find_regime(vehicle, values[d:])
        period = self._enter(vehicle, before, ts, warm)
        used = min(max(ts // self.frame.period, self.opened - 4), known)
        seen = self._see(vehicle, values, used, warm)
        if not vehicle.maintenance:
            self._learn(vehicle, seen, period, warm)
        self.features.append(self._row(vehicle, seen.told, used))
        ill = 0.0
        if not vehicle.maintenance and (warm or not vehicle.confirmed):
            vehicle.seen += 1
            ill = 0.0 if warm or vehicle.grown else self._birth(vehicle, used)
            if vehicle.seen == self.frame.burn_in:
                vehicle.grown = True
                self._own_baseline(vehicle)
        if answered and vehicle.shifted is not None:
            times = vehicle.shifted, ts, vehicle.shifted
            self._tell(row, Kind.LASTING_SHIFT, Change.CLOSED, vehicle.fault, times)
            vehicle.shifted = None
        wider = 1.5 if self._is_unseen(vehicle.regime, values[d:]) else 1.0
        self._settle(vehicle, row, ts, warm, (ill, seen.refused, wider))

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
            vehicle.cohort = self.cohorts.setdefault(told, Cohort())
        length, grace = self.frame.period, self.fleet.ticks(self.fleet.quality.grace)
        end = (self.opened + 1) * length + grace
        far = end + (WATCHED - 1) * length
        times = [known.last_ts for known in self.vehicles.values()]
        reached, passed, gone = (sum(time >= line for time in times) for line in (self.opened * length, end, far))
        if ts >= end and passed >= min(2, reached) and 10 * passed >= reached:
            if ts >= far and gone >= min(2, reached) and 10 * gone >= reached:
                self._begin(ts // length)
            else:
                self.opened += 1

    def _open(self, ts: int) -> None:
        """The first reading of all opens its period; an earlier one of the next vehicle takes that over."""
        here = ts // self.frame.period
        times = [known.last_ts for known in self.vehicles.values()]
        reached = sum(time >= self.opened * self.frame.period for time in times)
        if not self.begun or (here < self.opened == self.first and reached < 2):
            self._begin(here)

    def _begin(self, period: int) -> None:
        self.begun, self.opened, self.first = True, period, period
        for cohort in self.cohorts.values():
            cohort.begin()

    def _enter(self, vehicle: Vehicle, before: float, ts: int, warm: bool) -> int | None:
        """The period that a reading counts for, None for none."""
        period = ts // self.frame.period
        counts = warm and vehicle.cohort is not None and self.opened <= period <= self.opened + 2
        if counts and before < period * self.frame.period:
            vehicle.cohort.vehicles.setdefault(period, set()).add(vehicle.name)
            gathered = vehicle.seen - self.frame.burn_in >= 2 * self.frame.time_constant
            for j, usual in enumerate(self.frame.usual if gathered else ()):
                vehicle.cohort.count_size(j, period, abs(vehicle.gathered[j].evidence) / usual)
        return period if counts else None

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

    def _is_unseen(self, regime: int, place: list[float]) -> bool:
        spreads = (np.array(place) - self.arrays.center[regime]) * self.arrays.inv_scale
        reach = self.frame.reach[regime] if self.frame.reach else math.inf
        return bool(np.nansum(np.where(np.isfinite(spreads), spreads, 0.0) ** 2) > reach**2)

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

    def _explained(self, regime: int, place: list[float]) -> list[float]:
        away = (np.array(place) - self.arrays.center[regime]) * self.arrays.inv_scale
        away = np.where(np.isfinite(away), np.clip(away, -3.0, 3.0), 0.0)
        return list(away @ self.arrays.slope[regime]) if self.frame.slope else [0.0] * len(self.signals)

    def _see(self, vehicle: Vehicle, values: list[float], period: int, warm: bool) -> Seen:
        d = len(self.signals)
        explained = self._explained(vehicle.regime, values[d:])
        seen = Seen([], [], [], [], [(0.0, 0.0)] * d)
        for j, signal in enumerate(self.signals):
            seen.reasons.append(self._judge(vehicle, j, values[j]))
            value = values[j]
            if seen.reasons[j] == "missing":
                fill = signal.missing
                value = vehicle.last[j] if fill == "previous" else fill if isinstance(fill, float) else math.nan
            z = (value - self.arrays.mean[vehicle.regime, j]) * self.arrays.inv_sd[vehicle.regime, j] - explained[j]
            own = warm and j not in vehicle.learning_again
            usual = vehicle.baseline[j] if own else float(self.arrays.prior[j])
            shift = vehicle.cohort.shift(j, period) if vehicle.cohort else 0.0
            seen.used.append(seen.reasons[j] in ("", "missing") and math.isfinite(value))
            seen.place.append(min(max(z, -12.0), 12.0) - usual if seen.used[j] else 0.0)
            seen.deviation.append(seen.place[j] - shift)
        return seen

    def _learn(self, vehicle: Vehicle, seen: Seen, period: int | None, warm: bool) -> None:
        cohort = vehicle.cohort
        if warm:
            self._isolate(vehicle, seen)
        for j, used in enumerate(seen.used):
            if used and cohort and period is not None:
                cohort.count(j, period, seen.place[j])
            self._take(vehicle, seen, j, warm)
        if not vehicle.confirmed and not (warm and vehicle.in_episode):
            for j in range(len(self.signals)) if not warm else vehicle.learning_again:
                if seen.used[j]:
                    vehicle.sums[j].append(seen.deviation[j] + float(self.arrays.prior[j]))
        for j in sorted(vehicle.learning_again):
            self._learn_again(vehicle, j)

    def _take(self, vehicle: Vehicle, seen: Seen, j: int, warm: bool) -> None:
        if seen.used[j]:
            weights = float(self.arrays.weight), float(self.arrays.quick_weight)
            seen.told[j] = vehicle.gathered[j].take(seen.deviation[j], *weights)
        vehicle.silent[j] = 0 if seen.used[j] else min(vehicle.silent[j] + 1, 254)
        known = warm and j in vehicle.settled and j not in vehicle.learning_again
        if known and vehicle.silent[j] > self.fleet.quality.silent_after and seen.reasons[j] == "missing":
            seen.reasons[j] = "dropout"
        if warm and seen.reasons[j] == "stuck":
            vehicle.gathered[j] = Gathered()

    def _isolate(self, vehicle: Vehicle, seen: Seen) -> None:
        known = [j for j, used in enumerate(seen.used) if used and j not in vehicle.learning_again]
        away = {j: abs(seen.deviation[j] - vehicle.gathered[j].evidence) / self.arrays.step[j] for j in known}
        near = {j for j in known if away[j] <= 0.5}
        tracked = {j for j in known if vehicle.gathered[j].tracked}
        calm = {j for j in known if abs(vehicle.gathered[j].evidence) <= 0.25 * self.arrays.step[j]}
        most = self.fleet.quality.silent_after
        suspect = {j for j in known if vehicle.gathered[j].suspect and vehicle.silent[j] <= most}
        far = {j for j in tracked & calm if away[j] > 1} | {j for j in suspect if away[j] > 0.75}
        alone = far if len(far) == 1 and len(self.signals) > 2 else set()
        for j in alone:
            seen.used[j], seen.reasons[j] = False, "step" if vehicle.silent[j] else "missing"
        for j in known:
            vehicle.gathered[j].tracked = j in near
            vehicle.gathered[j].suspect = j in alone or (j in suspect and j not in near)

    def _learn_again(self, vehicle: Vehicle, j: int) -> None:
        vehicle.gathered[j] = Gathered()
        if len(vehicle.sums[j]) >= self.frame.burn_in:
            prior = float(self.arrays.prior[j])
            vehicle.baseline[j] = prior + float(self.arrays.gain[j, j]) * (float(np.mean(vehicle.sums[j])) - prior)
            vehicle.settled.add(j)
            vehicle.learning_again.discard(j)
            vehicle.silent[j] = 0

    def _row(self, vehicle: Vehicle, told: list[tuple[float, float]], period: int) -> list[float]:
        most = self.fleet.quality.silent_after
        heard = [n <= most and j not in vehicle.learning_again for j, n in enumerate(vehicle.silent)]
        scale = math.sqrt(len(heard) / max(sum(heard), 1))
        gathered = vehicle.gathered
        scales = [vehicle.cohort.scale(j, period) if vehicle.cohort else 1.0 for j in range(len(gathered))]
        evidence = [signal.evidence / scale for signal, scale in zip(gathered, scales, strict=True)]
        blocks = [evidence]
        if self.frame.blocks > 1:
            blocks = [[pair[0] for pair in told], [pair[1] for pair in told], evidence]
            blocks += [[signal.fast for signal in gathered], [signal.slow for signal in gathered]]
            blocks += [[math.sqrt(signal.variance) for signal in gathered]]
        row = [value * scale * kept for block in blocks for value, kept in zip(block, heard, strict=True)]
        if self.frame.abrupt_time_constant:
            row += [0.0] * (self.frame.quick - len(row))
            row += [signal.quick * scale * kept for signal, kept in zip(gathered, heard, strict=True)]
        return row + [0.0] * (self.frame.width - len(row))

    def _birth(self, vehicle: Vehicle, period: int) -> float:
        if not self.frame.between or vehicle.seen < min(10, self.frame.burn_in):
            return 0.0
        prior = self.arrays.prior.astype(float)
        own = [np.mean(sums) - prior[j] if sums else 0.0 for j, sums in enumerate(vehicle.sums)]
        along, doubt = np.array(self.frame.basis) @ own, 0.0
        if vehicle.cohort is not None:
            moved = [vehicle.cohort.shift(j, period) for j in range(len(own))]
            doubt = 4 * (np.array(self.frame.basis) @ moved) ** 2
            if not vehicle.cohort.known(len(own), period):
                return 0.0
        return float(np.sqrt(np.mean(along**2 / (np.array(self.frame.between) + 1 / vehicle.seen + doubt))))

    def _own_baseline(self, vehicle: Vehicle) -> None:
        prior, burn_in = self.arrays.prior.astype(float), self.frame.burn_in
        own = [
            (np.mean(sums) - prior[j]) * min(1.0, len(sums) / burn_in) if sums else 0.0
            for j, sums in enumerate(vehicle.sums)
        ]
        vehicle.baseline = (prior + self.arrays.gain.astype(float) @ own).tolist()
        vehicle.gathered = [Gathered() for _ in own]
        vehicle.settled = {j for j, sums in enumerate(vehicle.sums) if sums}

    def _score(self, scorer: Scorer | None) -> float:
        return float(scorer.score(np.array([self.features[-1]], np.float32))[0]) if scorer else 0.0

    def _settle(self, vehicle: Vehicle, row: int, ts: int, warm: bool, found: tuple[float, bool, float]) -> None:
        model, policy, checks = self.model, self.model.policy, self.model.checks
        score, threshold, quick = self._score(model.scorer), model.k, self._score(model.abrupt)
        ill, refused, wider = found
        born, abrupt = checks.born_ill * wider, checks.abrupt * wider
        if warm:
            threshold *= min(max(vehicle.q / model.q_fleet, policy.low), policy.high)
            threshold *= (1 + 2 * policy.bound) ** vehicle.unconfirmed
        threshold *= wider
        said, judged = Said(score, threshold, 0, set()), not vehicle.maintenance
        above = warm and judged and score > vehicle.q
        if not vehicle.fault.alarms:
            vehicle.risen = (ts if vehicle.risen is None else vehicle.risen) if above else None
        lines = {
            Kind.BORN_ILL: (ill, born, judged and not warm and ill > born),
            Kind.FAULT: (score, threshold, judged and warm and score > threshold),
            Kind.ABRUPT: (quick, abrupt, judged and warm and quick > abrupt),
            Kind.SENSOR: (1.0, 1.0, judged and refused),
        }
        said.kinds = {kind for kind, (_, _, hit) in lines.items() if hit}
        wrong = said.kinds - {Kind.SENSOR}
        if warm and judged and not (vehicle.in_episode or wrong or vehicle.confirmed or wider > 1.0):
            self._adapt(vehicle, score)
        for kind in (Kind.BORN_ILL, Kind.ABRUPT):
            value, line, hit = lines[kind]
            if hit and value / line > said.score / said.threshold:
                said.score, said.threshold = value, line
        if judged:
            self._follow(vehicle, row, ts, lines, said)
        self._shift(vehicle, row, said)
        self.decided.append(said)

    def _adapt(self, vehicle: Vehicle, score: float) -> None:
        model, policy = self.model, self.model.policy
        if score < policy.gate * vehicle.q:
            up = score > vehicle.q
            vehicle.q *= math.exp(policy.rate * (policy.quantile if up else policy.quantile - 1))
            vehicle.q = min(max(vehicle.q, model.q_fleet * policy.low), model.q_fleet * policy.high)

    def _follow(
        self, vehicle: Vehicle, row: int, ts: int, lines: dict[Kind, tuple[float, float, bool]], said: Said
    ) -> None:
        """Every episode one reading on; a fault after a bad birth is another episode, and so the other way round."""
        main, fault = vehicle.fault, Kind.FAULT in said.kinds
        if fault or Kind.BORN_ILL in said.kinds:
            if main.alarms and vehicle.born == fault:
                self._tell(row, Kind.BORN_ILL if vehicle.born else Kind.FAULT, Change.CLOSED, main)
                main.alarms = 0
            vehicle.born = not fault
        running = Kind.BORN_ILL if vehicle.born else Kind.FAULT
        level = Kind.BORN_ILL if Kind.BORN_ILL in said.kinds else Kind.FAULT
        episodes = [(running, main, lines[level]), (Kind.ABRUPT, vehicle.abrupt, lines[Kind.ABRUPT])]
        for kind, run, (value, line, _) in [*episodes, (Kind.SENSOR, vehicle.sensor, lines[Kind.SENSOR])]:
            hit = kind in said.kinds
            change = run.follow(hit, ts, value / line, self.fleet.alerts.gap)
            if change:
                self._tell(row, kind, change, run)
                self._date(vehicle, kind, change)
            if change == Change.CLOSED:
                run.alarms = 0
                vehicle.unconfirmed += kind == Kind.FAULT and not vehicle.confirmed and vehicle.unconfirmed < 5
            if hit and not said.kind:
                said.kind, said.start, said.nth = kind, run.start, run.alarms

    def _date(self, vehicle: Vehicle, kind: Kind, change: int) -> None:
        """Where a fault opens, the change that was told last says since when its score rose."""
        if change == Change.OPEN and kind == Kind.FAULT and vehicle.risen is not None:
            self.changes[-1] = (*self.changes[-1][:-1], vehicle.risen)
        if kind in (Kind.FAULT, Kind.BORN_ILL):
            vehicle.risen = None

    def _shift(self, vehicle: Vehicle, row: int, said: Said) -> None:
        vehicle.in_a_row = vehicle.in_a_row + 1 if Kind.FAULT in said.kinds else 0
        most = self.fleet.alerts.lasting_after
        if not most or vehicle.in_a_row < most or vehicle.confirmed:
            return
        said.kinds.add(Kind.LASTING_SHIFT)
        vehicle.baseline = [a + b.evidence for a, b in zip(vehicle.baseline, vehicle.gathered, strict=True)]
        vehicle.gathered = [Gathered() for _ in vehicle.gathered]
        change = Change.OPEN if vehicle.shifted is None else Change.UPDATE
        vehicle.shifted = vehicle.fault.start if vehicle.shifted is None else vehicle.shifted
        self._tell(row, Kind.FAULT, Change.CLOSED, vehicle.fault)
        run = vehicle.fault
        self._tell(row, Kind.LASTING_SHIFT, change, run, (vehicle.shifted, run.last, run.peak))
        vehicle.fault.alarms = vehicle.in_a_row = 0

    def _tell(self, row: int, kind: Kind, change: int, run: Run, times: tuple[int, int, int] | None = None) -> None:
        """`times`: start, end and peak, where they are not the run's."""
        told = times or (run.start, run.last, run.peak)
        self.changes.append((row, int(kind), int(change), *told, run.top, run.alarms, told[0]))
