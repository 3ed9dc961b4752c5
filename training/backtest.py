"""Score a past as the live scorer would have, and say how good that was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from anomaly.alerts.book import AlertBook
from anomaly.alerts.cohorts import cohort_name
from anomaly.engine.engine import Engine
from anomaly.engine.frame import Frame
from anomaly.engine.model import Arm, Model
from anomaly.engine.outcome import Change, Kind, Outcome
from anomaly.feedback.decisions import decision_table
from anomaly.feedback.silences import silence_table
from anomaly.fleet import Fleet
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.records import Alert
from training.cohort_check import members
from training.figures import CohortAlarm, Decided, Figures, Shift, headline
from training.history import History


class Before(NamedTuple):
    """The `model` that decides what comes before `until`, as the one that a backtest is about was not in charge yet."""

    model: Model
    until: int


class Backtest(NamedTuple):
    """`decisions` is an Arrow table with a row for each reading that was decided, as the live log has them;
    `cohorts` are the alerts about cohorts, each as it stood at last."""

    decisions: Any
    decided: Decided
    figures: Figures
    masked: dict[str, int]
    cohorts: list[Alert]


def backtest(fleet: Fleet, frame: Frame, model: Model, history: History, before: Before | None = None) -> Backtest:
    """The history through the engine with one model, in one process; labels and restarts act as they would live.

    With `before` it takes over from another model: what alarmed before is known, and what is normal has moved.
    """
    import pyarrow as pa

    engine = Engine(fleet, frame)
    takeover = 0 if before is None else int(np.searchsorted(history.batch.ts, before.until))
    arms = [Arm("champion", 1.0, model if before is None else before.model)]
    engine.use(arms, lambda _vehicle: 0)
    engine.add_events(history.events)
    tables, rows, alarms, warm = [], [], [], []
    silent: list[tuple[int, int]] = []
    codes = {name: code for code, name in enumerate(history.names)}
    masked: dict[str, int] = {}
    told, shifts = _Cohorts(fleet), _Shifts(history)
    start = 0
    for chunk in history.chunks(takeover):
        if before is not None and start == takeover:
            arms = [Arm("champion", 1.0, model)]
            engine.use(arms, lambda _vehicle: 0)
        outcome = engine.decide(chunk)
        tables.append(decision_table(outcome, chunk, arms, fleet, None))
        tables.append(silence_table(outcome.silences, arms, fleet, None))
        told.take(outcome, chunk, arms[0])
        silent += [(codes[vehicle], start) for vehicle, start in _silent(outcome)]
        rows.append(outcome.decisions.row + start)
        alarms.append(outcome.decisions.alarm)
        warm.append(outcome.status[outcome.decisions.row] == 0)
        masked = {name: masked.get(name, 0) + count for name, count in outcome.masked.items()}
        shifts.take(outcome, start)
        start += len(chunk)
    row = np.concatenate(rows)
    decided = Decided(
        history.codes[row],
        history.batch.ts[row],
        np.concatenate(alarms),
        np.concatenate(warm),
        history.health[row],
        history.faults,
        shifts.all,
        told.alarms(history, frame.cohort or ()),
    )
    decided = _with_silences(decided, silent)
    return Backtest(pa.concat_tables(tables), decided, headline(decided, fleet), masked, told.alerts)


class _Cohorts:
    """Follows the alerts about cohorts through a past."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet, self._book = fleet, AlertBook()
        self._opened: dict[str, int] = {}
        self._last: dict[str, Alert] = {}

    def take(self, outcome: Outcome, chunk: Batch, arm: Arm) -> None:
        """Compare the periods that were merged within a chunk, by the model of `arm`."""
        for merged in outcome.merged:
            changed = self._book.compare(merged, self._fleet, arm)
            self._last |= {alert.id: alert for alert in [*changed, *self._book.open()]}
            for alert in changed:
                self._opened.setdefault(alert.id, int(chunk.ts[merged.row]))

    @property
    def alerts(self) -> list[Alert]:
        """All of them, each as it stood at last."""
        return list(self._last.values())

    def alarms(self, history: History, fields: Sequence[str]) -> list[CohortAlarm]:
        """The alerts with the vehicles that they are about."""
        own = {cohort_name(key): codes for key, codes in members(history, fields).items()} if self._last else {}
        found = []
        for alert in self._last.values():
            codes, end = own.get(alert.subject["cohort"], np.zeros(0, np.int64)), alert.end
            ill = [fault for fault in history.faults if fault.code in codes and fault.end >= alert.start]
            false = not any(end is None or fault.start <= end for fault in ill)
            if len(codes):
                found.append(CohortAlarm(codes, alert.start, self._opened[alert.id], end, false))
        return found


class _Shifts:
    """Follows the lasting shifts through a past."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._open: dict[int, Shift] = {}
        self._answered: list[Shift] = []

    def take(self, outcome: Outcome, first: int) -> None:
        """What became of them in a chunk that begins at the row `first`."""
        episodes = outcome.episodes
        for place in np.flatnonzero(episodes.kind == Kind.LASTING_SHIFT).tolist():
            row = first + int(episodes.row[place])
            code, ts = int(self._history.codes[row]), int(self._history.batch.ts[row])
            if episodes.change[place] == Change.CLOSED:
                self._answered.append(self._open.pop(code)._replace(answered=ts))
            else:
                self._open.setdefault(code, Shift(code, int(episodes.start[place]), ts, None))

    @property
    def all(self) -> list[Shift]:
        """Those that were answered, then those that were not."""
        return [*self._answered, *self._open.values()]


def _silent(outcome: Outcome) -> Iterator[tuple[str, int]]:
    """Vehicles that fell silent, and when."""
    found = outcome.silences
    for place in np.flatnonzero(found.change == Change.OPEN).tolist():
        yield found.vehicle[place], int(found.start[place])


def _with_silences(decided: Decided, silent: list[tuple[int, int]]) -> Decided:
    """A row more for each silence (vehicle, start): an alarm, as healthy as the vehicle's reading before it. It is none
    of the readings that a healthy day is counted by."""
    if not silent:
        return decided
    codes, ts = (np.array(column, np.int64) for column in zip(*silent, strict=True))
    order = np.lexsort((decided.ts, decided.codes))
    first, last = np.searchsorted(decided.codes[order], [codes, codes + 1])
    before = [
        start + np.searchsorted(decided.ts[order[start:stop]], at, "right") - 1
        for start, stop, at in zip(first.tolist(), last.tolist(), ts.tolist(), strict=True)
    ]
    return decided._replace(
        codes=np.concatenate([decided.codes, codes]),
        ts=np.concatenate([decided.ts, ts]),
        alarm=np.concatenate([decided.alarm, np.ones(len(ts), np.bool_)]),
        warm=np.concatenate([decided.warm, np.zeros(len(ts), np.bool_)]),
        health=np.concatenate([decided.health, decided.health[order[before]]]),
    )
