"""The book of open alerts of one partition: what changed about episodes becomes alerts for people."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from anomaly.alerts import cohorts
from anomaly.alerts.severity import LEAST_SHARE, severity_of
from anomaly.alerts.text import sentence
from anomaly.engine.cohorts import Merged
from anomaly.engine.model import Arm
from anomaly.engine.outcome import Change, Kind, Outcome
from anomaly.errors import StateError
from anomaly.fleet import Fleet
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.records import Alert, SignalShare, alert_id


class AlertBook:
    """Turns outcomes into alerts, and keeps those that are open.

    An alert is written when it opens, when its severity rises, and when it closes; between that it follows
    its episode's peak, so that what is said of signals is said of the peak. What comes out depends on the
    stream alone, not on how it was cut into batches.
    """

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], Alert] = {}
        self._changed: dict[str, Alert | None] = {}

    def __len__(self) -> int:
        return len(self._open)

    def apply(
        self, outcome: Outcome, batch: Batch, fleet: Fleet, arms: Sequence[Arm], quiet: Collection[int] = ()
    ) -> list[Alert]:
        """The alerts that `outcome`, of `batch` scored by `arms`, leads to, in order; those about cohorts that another
        partition tells, with the merged periods `quiet`, are left out."""
        alerts: list[Alert] = []
        steps: list[Merged | _Change] = [*outcome.merged, *_changes(outcome), *_silences(outcome)]
        if steps:
            scene = _Scene(outcome, batch, fleet, arms)
            for step in sorted(steps, key=_turn):
                if isinstance(step, Merged):
                    told = self.compare(step, fleet, arms[0])
                    alerts += [] if step.period in quiet else told
                else:
                    alerts += self._follow(step, scene)
        return alerts

    def compare(self, merged: Merged, fleet: Fleet, arm: Arm) -> list[Alert]:
        """The alerts about cohorts that a merged period leads to, by the model of `arm`, the first one of a rollout. A
        cohort of which too little is known stays as it was."""
        alerts: list[Alert] = []
        for name, alert in cohorts.now(merged, arm, fleet):
            before = self._open.get((name, Kind.COHORT.label))
            if before is not None:
                alert = cohorts.follow(before, alert, merged)
            if alert is not None:
                alerts += self._write(_said(alert, fleet), before)
        return alerts

    def _write(self, alert: Alert, before: Alert | None) -> list[Alert]:
        """Keep the state of an alert about a cohort; answers it where it is to be written."""
        if alert.state == "closed":
            del self._open[_place(alert)]
            self._changed[alert.id] = None
            return [alert]
        self._keep(alert)
        return [alert] if before is None or alert.severity > before.severity else []

    def open(self) -> list[Alert]:
        """All open alerts, as they stand."""
        return list(self._open.values())

    def changed(self) -> list[tuple[str, bytes | None]]:
        """(id, JSON) of the open alerts that changed since the last call; None for those that closed."""
        rows = [(key, msgspec.json.encode(alert) if alert else None) for key, alert in self._changed.items()]
        self._changed = {}
        return rows

    def restore(self, rows: Iterable[tuple[str, bytes]]) -> None:
        """Take the open alerts over that `changed` wrote. Raises StateError for a row that is no alert."""
        self._open, self._changed = {}, {}
        for key, value in rows:
            try:
                alert = msgspec.json.decode(value, type=Alert)
            except msgspec.MsgspecError as error:
                raise StateError(f"the open alert {key} in the partition's store cannot be read: {error}") from error
            self._open[_place(alert)] = alert

    def _follow(self, change: _Change, scene: _Scene) -> list[Alert]:
        vehicle = change.vehicle or scene.batch.vehicles[change.row]
        before = self._open.get((vehicle, change.kind.label))
        if change.change == Change.CLOSED:
            return [] if before is None or before.start != change.start else [self._close(before, change, scene)]
        left = []
        if before is not None and before.start != change.start:
            left = [self._close(before, None, scene)]
            before = None
        alert = _describe(change, scene, before)
        self._keep(alert)
        if before is not None and before.severity == alert.severity:
            return left
        return [*left, alert]

    def _close(self, alert: Alert, change: _Change | None, scene: _Scene) -> Alert:
        """`change` is None where another episode began before this one's end was told."""
        del self._open[_place(alert)]
        self._changed[alert.id] = None
        end, count = (alert.peak, alert.count) if change is None else (change.end, change.alarms)
        return _said(msgspec.structs.replace(alert, state="closed", end=end, count=count), scene.fleet)

    def _keep(self, alert: Alert) -> None:
        self._open[_place(alert)] = alert
        self._changed[alert.id] = alert


class _Change(NamedTuple):
    row: int
    kind: Kind
    change: Change
    start: int
    end: int
    peak: int
    level: float
    alarms: int
    arm: int
    onset: int
    vehicle: str = ""
    waited: bool = False


class _Scene(NamedTuple):
    """What an alert is told from."""

    outcome: Outcome
    batch: Batch
    fleet: Fleet
    arms: Sequence[Arm]


def _turn(step: Merged | _Change) -> tuple[int, int]:
    """A period is merged before the reading that needs it, and after what followed the one before it."""
    return (step.row, -1) if isinstance(step, Merged) else (step.row, step.waited)


def _changes(outcome: Outcome) -> list[_Change]:
    episodes = outcome.episodes
    columns = [column.tolist() for column in episodes]
    return [
        _Change(row, Kind(kind), Change(change), start, end, peak, round(level, 4), alarms, arm, onset)
        for row, kind, change, start, end, peak, level, alarms, arm, onset in zip(*columns, strict=True)
    ]


def _silences(outcome: Outcome) -> list[_Change]:
    found = outcome.silences
    told = zip(found.row.tolist(), found.change.tolist(), found.start.tolist(), found.end.tolist(), strict=True)
    return [
        _Change(
            row,
            Kind.SILENCE,
            Change(change),
            start,
            end,
            start,
            1.0,
            1,
            int(found.arm[place]),
            start,
            found.vehicle[place],
            bool(found.waited[place]),
        )
        for place, (row, change, start, end) in enumerate(told)
    ]


def _describe(change: _Change, scene: _Scene, before: Alert | None) -> Alert:
    subject = {"vehicle": change.vehicle or scene.batch.vehicles[change.row]}
    known = change.kind != Kind.SILENCE
    place = int(np.searchsorted(scene.outcome.evidence.row, change.row))
    arm = scene.arms[change.arm]
    severity = max(severity_of(change.kind, change.level), before.severity if before else 1)
    onset = before.onset if before else change.onset
    alert = Alert(
        id=alert_id(subject, change.kind.label, change.start),
        state="open" if before is None else "update",
        subject=subject,
        kind=change.kind.label,
        start=change.start,
        peak=change.peak,
        severity=severity,
        level=change.level,
        count=change.alarms,
        signals=_signals(change, place, scene) if known else [],
        model=arm.model.name,
        arm=arm.name,
        text="",
        onset=None if onset == change.start else onset,
        regime=int(scene.outcome.evidence.regime[place]) if known else None,
    )
    return _said(alert, scene.fleet)


def _said(alert: Alert, fleet: Fleet) -> Alert:
    return msgspec.structs.replace(alert, text=sentence(alert, fleet.fleet.time_unit))


def _signals(change: _Change, place: int, scene: _Scene) -> list[SignalShare]:
    """The signals responsible, the largest share first; those of a sensor fault are the masked ones."""
    evidence = scene.outcome.evidence
    share = evidence.masked[place] if change.kind == Kind.SENSOR else evidence.share[place]
    weight = share.astype(np.float64)
    weight[weight < LEAST_SHARE] = 0.0
    total = float(weight.sum())
    named = list(scene.fleet.signals.items())
    actual = scene.batch.values[change.row]
    return [
        SignalShare(
            name=named[j][0],
            share=round(float(weight[j]) / total, 6),
            actual=_short(actual[j]) if np.isfinite(actual[j]) else None,
            expected=_short(evidence.expected[place, j]),
            unit=named[j][1].unit,
        )
        for j in np.argsort(-weight, kind="stable").tolist()
        if weight[j] > 0.0
    ]


def _short(value: np.float32) -> float:
    """A float32 as the shortest decimal that means it."""
    return float(str(value))


def _place(alert: Alert) -> tuple[str, str]:
    (subject,) = alert.subject.values()
    return subject, alert.kind
