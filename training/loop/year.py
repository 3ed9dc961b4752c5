"""One policy through one year: the live engine day by day, technicians behind it, and what it cost."""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from anomaly.engine.engine import Engine
from anomaly.engine.model import Arm, Model
from anomaly.feedback.events import events_of
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.records import Label
from training.auto import train
from training.fit import Trained
from training.gate import gate
from training.history import acts_of, known_at, split_vehicles
from training.loop.gates import model_of
from training.loop.policies import SPANS, Policy
from training.loop.rollout import MAX_DAYS, Trial
from training.loop.triggers import DRIFT_WINDOW_DAYS, Seen, due, too_many
from training.loop.windows import Windows, windows
from training.loop.world import DAY_MS, Failure, World, inspect

STEP_DAYS = 1
Act = Literal["trained", "refused", "began", "promoted", "rolled_back", "held"]


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """Something the policy did by itself, on which `day` of the year, and why."""

    day: int
    act: Act
    reason: str


class Year(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy's year came to: `cost_by_day` [days], alerts that were for nothing, failures and those missed."""

    policy: str
    seed: int
    cost: float
    false_alarms: int
    failures: int
    missed: int
    retrained: int
    promoted: int
    inspections: int
    cost_by_day: list[float]
    done: list[Done]


def _unknown(vehicle: str, start: int, end: int) -> Label:
    return Label(vehicle=vehicle, start=start, end=end, verdict="unknown", source="alert")


def first_champion(world: World) -> Trained:
    """The model that every policy begins with: trained on the history, with what was reported by then."""
    history = known_at(world.fleet, world.readings, world.events, world.known, world.begin - 1)
    return train(world.fleet, history, split_vehicles(history.names, 0, None), 0)


def run_year(world: World, policy: Policy, champion: Trained) -> Year:
    """The year under one policy. Everything a policy does is known from what was reported by then."""
    course = Course(world, policy, champion)
    for day in range(0, world.file.days, STEP_DAYS):
        course.day(day)
    return course.result()


class Course:
    """The state of a year under way."""

    def __init__(self, world: World, policy: Policy, champion: Trained) -> None:
        self.world, self.policy = world, policy
        self.frame = champion.frame
        self.champion = model_of(champion, "year/1")
        self.engine = Engine(world.fleet, self.frame)
        self.trial: Trial | None = None
        self._use()
        self.labels: list[Label] = list(world.known)
        vehicles = len(world.names)
        self.away = np.zeros(vehicles, np.int64)
        self.seen = np.ones(len(world.readings), np.bool_)
        self.rank = np.zeros(vehicles, np.int64)
        self.alarmed = np.full(vehicles, -(10**9), np.int64)
        self.false_alarms = np.zeros(world.file.days)
        self.alerts: list[tuple[int, int]] = []
        self.found: set[Failure] = set()
        self.done: list[Done] = []
        self.trained_day, self.models, self.promoted = 0, 1, 0
        self.drift_days = 0
        self.audited = 0
        self.engine.add_events(acts_of(world.fleet, world.events, world.known))
        self._warm_up()

    def _use(self) -> None:
        if self.trial is None:
            self.engine.use([Arm("champion", 1.0, self.champion)], lambda _vehicle: 0)
        else:
            self.engine.use(self.trial.arms(self.champion), self.trial.assign)

    def _warm_up(self) -> None:
        """The history through the engine: baselines and evidence are there when the year begins."""
        first = int(np.searchsorted(self.world.readings.ts, self.world.begin))
        self.engine.decide(self.world.readings.rows(0, first))
        np.add.at(self.rank, self.world.codes[:first], 1)

    def day(self, day: int) -> None:
        """A day of readings is decided, its alerts and audit picks inspected; then the policy may act."""
        world = self.world
        since = world.begin + day * DAY_MS
        first, last = np.searchsorted(world.readings.ts, [since, since + STEP_DAYS * DAY_MS])
        rows = np.arange(first, last)
        away = world.readings.ts[rows] < self.away[world.codes[rows]]
        self.seen[rows[away]] = False
        rows = rows[~away]
        outcome = self.engine.decide(world.readings.take(rows))
        decided = rows[outcome.decisions.row]
        self._alerts(decided, outcome.decisions.alarm, day)
        if self.policy.audit:
            self._audit(since)
        if self.policy.rules is not None:
            self._act(day, since + STEP_DAYS * DAY_MS)

    def _alerts(self, rows: NDArray[np.int64], alarm: NDArray[np.bool_], day: int) -> None:
        codes = self.world.codes[rows]
        gap = self.world.fleet.alerts.gap
        for row, code, alarms in zip(rows.tolist(), codes.tolist(), alarm.tolist(), strict=True):
            self.rank[code] += 1
            if not alarms:
                continue
            opens = self.rank[code] - self.alarmed[code] > gap
            self.alarmed[code] = self.rank[code]
            ts = int(self.world.readings.ts[row])
            if opens and ts >= self.away[code]:
                self._inspect(code, ts, day)

    def _inspect(self, code: int, ts: int, day: int) -> None:
        """A technician looks at an alert: what there is to find is repaired at once, what is not was for nothing."""
        world = self.world
        self.alerts.append((code, ts))
        label = inspect(world, code, ts, "workshop")
        self._hear(label)
        fault = world.fault_at(code, ts)
        if fault is None:
            self.false_alarms[day] += 1
        elif label.verdict == "fault" and self._in_time(fault, ts):
            self.found.add(fault)
            self.away[code] = fault.repaired

    def _in_time(self, fault: Failure, ts: int) -> bool:
        step = int(np.median(np.diff(self.world.readings.ts[self.world.codes == fault.code])))
        return ts <= fault.failure - self.world.fleet.history.detected_before * step

    def _hear(self, label: Label) -> None:
        self.labels.append(label)
        if self.policy.told:
            self.engine.add_events(events_of(self.world.fleet, label))

    def _audit(self, since: int) -> None:
        """Picks of the audit: somebody looks whatever the score; what is found is only told."""
        for code, ts in self.world.audited[self.audited :]:
            if ts >= since + STEP_DAYS * DAY_MS:
                break
            self.audited += 1
            if ts >= self.away[code]:
                self._hear(inspect(self.world, code, ts, "audit"))

    def _act(self, day: int, now: int) -> None:
        self._watch_drift(day)
        if self.trial is not None:
            self._look(day, now, self.trial)
            return
        rules = self.policy.rules
        matured = sum(
            self.world.begin + self.trained_day * DAY_MS <= (label.reported_at or 0) < now for label in self.labels
        )
        seen = Seen(day + 1 - self.trained_day, matured, self.drift_days, "the rate of alerts")
        trigger = due(rules, seen) if rules is not None else None
        if trigger is not None:
            self.trained_day, self.drift_days = day + 1, 0
            self._retrain(day, now, f"{trigger.cause}: {trigger.reason}")

    def _watch_drift(self, day: int) -> None:
        """A day drifts if the alerts of the week up to it are too many for the budget, by Poisson's law."""
        first = self.world.begin + (day + 1 - DRIFT_WINDOW_DAYS) * DAY_MS
        count = sum(ts >= first for _, ts in self.alerts)
        budget = len(self.world.names) * self.world.fleet.threshold.false_alarms / 1_000
        self.drift_days = self.drift_days + 1 if too_many(count, budget) else 0

    def _retrain(self, day: int, now: int, why: str) -> None:
        world, policy = self.world, self.policy
        past = windows(world.fleet, self._archive(now), (world.events, self._reported(now)), now - 1, SPANS)
        training = past.training
        if policy.alarmed_only:
            told = {label.vehicle for label in self.labels if (label.reported_at or 0) < now}
            training = training.of(sorted(told & set(training.names)))
        names = [training.names[code] for code in np.unique(training.codes)]
        trained = train(world.fleet, training, split_vehicles(names, day, None), day, self.frame)
        self.models += 1
        challenger = model_of(trained, f"year/{self.models}")
        self._say(day, "trained", why)
        if policy.gate and not self._passes(day, challenger, past):
            return
        if policy.experiment:
            self.trial = Trial(world, challenger, day)
            self._say(day, "began", f"half of the vehicles score with {challenger.name}")
            self._use()
        else:
            self._promote(day, challenger, "nothing stood against it")

    def _archive(self, now: int) -> Batch:
        readings = self.world.readings
        rows = np.flatnonzero(self.seen & (readings.ts < now))
        return readings.take(rows)

    def _reported(self, now: int) -> list[Label]:
        """Labels by now, and the alerts that nobody answered yet, of which nothing is known. What alarmed and was found
        to be nothing stays in: it is what the next model has to learn."""
        told = [label for label in self.labels if (label.reported_at or 0) < now]
        answered = {(label.vehicle, label.end) for label in told}
        waiting = [
            _unknown(self.world.names[code], ts - 5 * DAY_MS, now)
            for code, ts in self.alerts
            if ts < now and (self.world.names[code], ts) not in answered
        ]
        return [*told, *waiting]

    def _passes(self, day: int, challenger: Model, past: Windows) -> bool:
        report = gate(self.world.fleet, self.frame, self.champion, challenger, past.newest, past.since)
        if not report.passed:
            self._say(day, "refused", "; ".join(report.reasons))
        return report.passed

    def _look(self, day: int, now: int, trial: Trial) -> None:
        verdict = trial.look(day, self.alerts, self._reported(now))
        if verdict is None:
            return
        act, reason = verdict
        if act == "held":
            act, reason = self._read_out(now, trial.challenger)
        self.trial = None
        if act == "promoted":
            self._promote(day, trial.challenger, reason)
        else:
            self._say(day, act, reason)
            self._use()

    def _read_out(self, now: int, challenger: Model) -> tuple[Literal["promoted", "held"], str]:
        """Arms too small to tell: both models over all vehicles and the days of the experiment, paired by vehicle. Of
        two that cost the same, the one that knows the newer past is kept."""
        told = self.world.events, self._reported(now)
        past = windows(self.world.fleet, self._archive(now), told, now - 1, SPANS._replace(holdout_days=MAX_DAYS))
        report = gate(self.world.fleet, self.frame, self.champion, challenger, past.newest, past.since)
        said = f"paired replay of the experiment's days: worse in {report.probability_worse:.0%} of samples"
        better = report.passed and report.probability_worse <= 0.5
        return ("promoted" if better else "held"), "; ".join([said, *report.reasons])

    def _promote(self, day: int, challenger: Model, reason: str) -> None:
        self.champion = challenger
        self.promoted += 1
        self._say(day, "promoted", f"{challenger.name}: {reason}")
        self._use()

    def _say(self, day: int, act: Act, reason: str) -> None:
        self.done.append(Done(day=day, act=act, reason=reason))

    def result(self) -> Year:
        """What it came to."""
        world, cost = self.world, self.world.file.cost
        year = [failure for failure in world.failures if world.begin <= failure.failure < world.end]
        missed = [failure for failure in year if failure not in self.found]
        by_day = cost.false_alarm * self.false_alarms
        for failure in missed:
            by_day[(failure.failure - world.begin) // DAY_MS] += cost.missed
        return Year(
            policy=self.policy.name,
            seed=world.seed,
            cost=float(by_day.sum()),
            false_alarms=int(self.false_alarms.sum()),
            failures=len(year),
            missed=len(missed),
            retrained=self.models - 1,
            promoted=self.promoted,
            inspections=len(self.alerts),
            cost_by_day=by_day.tolist(),
            done=self.done,
        )
