"""What a label changed: the vehicle's own threshold, its baseline, and the line that keeps the fleet's budget."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from anomaly.engine.events import Action
from anomaly.engine.outcome import Kind
from anomaly.feedback.budget import LAST, line
from anomaly.feedback.events import event_id, events_of
from anomaly.feedback.labels import LabelStore, label_id
from anomaly.feedback.outcomes import Moment, Outcomes, Told, outcomes
from anomaly.fleet import Fleet
from anomaly.service.answers import find_label
from anomaly.service.look import happened, restarts_in
from anomaly.service.outcomes import Log, newest, past_of, update_outcomes
from anomaly.service.rows import ARCHIVE, DECISIONS
from anomaly.telemetry.records import Label

BEFORE = "SELECT threshold, ts FROM log WHERE vehicle = $vehicle AND ts < $at ORDER BY ts DESC LIMIT 1"
AFTER = "SELECT threshold, ts FROM log WHERE vehicle = $vehicle AND ts >= $at ORDER BY ts DESC LIMIT 1"
DAYS = "SELECT count(DISTINCT (vehicle, ts // $day)) AS days FROM log"


Baseline = Literal["starts_again", "moved", "stays", "waits"]


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """What one label changed.

    `own_before` and `own_after` are the vehicle's own threshold in nats at the last decision before the label was
    reported and at its newest one since (None: none was logged). `fleet_before` and `fleet_after` are the threshold
    in nats, at the alert's model, that keeps the budget by what is labelled without and with the label; the latter
    would have removed `removed` of the last `last` alerts, of which `confirmed` were. `baseline` says what becomes of
    the vehicle's baseline: a "no fault" waits for a scorer to hear of it, and moves it if the alarm lasts then.
    """

    label: str
    vehicle: str
    verdict: str
    source: str
    reported_at: int | None
    baseline: Baseline
    own_before: float | None
    own_after: float | None
    fleet_before: float
    fleet_after: float
    last: int
    removed: int
    confirmed: int


def effect(run: Path, fleet: Fleet, name: str) -> Effect:
    """What the label `name`, or the last answer to the alert `name`, changed. DataError if there is none."""
    label = find_label(run, name)
    labels = LabelStore(run / "labels").read()
    others = [one for one in labels if label_id(one) != label_id(label)]
    moment = Moment(newest(run), int(fleet.history.label_delay_days * fleet.ticks_per_day))
    now = update_outcomes(run, fleet)
    then = _of_vehicle(run, fleet, label.vehicle, others, moment).replacing(now, [label.vehicle])
    days, budget = _days(run, fleet), fleet.threshold.false_alarms
    alerts = now.episodes.to_pylist()
    before, after = line(then.episodes.to_pylist(), days, budget), line(alerts, days, budget)
    unit = _unit(run, label)
    return Effect(
        label=label_id(label),
        vehicle=label.vehicle,
        verdict=label.verdict,
        source=label.source,
        reported_at=label.reported_at,
        baseline=_baseline(run, fleet, label),
        own_before=_threshold(run, BEFORE, label),
        own_after=_threshold(run, AFTER, label),
        fleet_before=unit * before.level,
        fleet_after=unit * after.level,
        last=min(LAST, sum(row["kind"] != Kind.SENSOR.label for row in alerts)),
        removed=after.removed,
        confirmed=after.confirmed,
    )


def _baseline(run: Path, fleet: Fleet, label: Label) -> Baseline:
    actions = {event.action for event in events_of(fleet, label)}
    if Action.ACCEPT in actions:
        return "starts_again"
    if Action.DISMISS not in actions:
        return "stays"
    found = happened(run).get(event_id(label))
    if found is None:
        return "waits"
    return "moved" if found[1] is not None else "stays"


def _of_vehicle(run: Path, fleet: Fleet, vehicle: str, labels: list[Label], moment: Moment) -> Outcomes:
    """The outcomes of one vehicle by other labels than the run's."""
    where = "FROM log WHERE vehicle = $vehicle"
    past = Log(run, ARCHIVE).select(f"SELECT vehicle, ts {where}", vehicle=vehicle)
    alarms = Log(run, DECISIONS).select(
        f"SELECT vehicle, ts, alarm, episode, kind, level, model, arm {where} AND alarm", vehicle=vehicle
    )
    own = [label for label in labels if label.vehicle == vehicle]
    return outcomes(alarms, Told(past_of(past), own, restarts_in(run)), fleet, moment)


def _days(run: Path, fleet: Fleet) -> int:
    found = Log(run, ARCHIVE).select(DAYS, day=fleet.ticks_per_day)
    return 0 if found is None else int(found["days"][0].as_py())


def _unit(run: Path, label: Label) -> float:
    """The threshold, in nats, that a level of 1 meant for the vehicle at the label's window."""
    query = "SELECT arg_max(threshold, level) AS threshold FROM log WHERE vehicle = $vehicle AND ts <= $end AND alarm"
    found: Any = Log(run, DECISIONS).select(query, vehicle=label.vehicle, end=label.end)
    value = None if found is None else found["threshold"][0].as_py()
    return float(value) if value is not None else (_threshold(run, BEFORE, label) or 1.0)


def _threshold(run: Path, query: str, label: Label) -> float | None:
    at = -(2**62) if label.reported_at is None else label.reported_at
    found = Log(run, DECISIONS).select(query, vehicle=label.vehicle, at=at)
    return None if found is None or not len(found) else float(found["threshold"][0].as_py())
