"""The technicians' queue of a run."""

from __future__ import annotations

from pathlib import Path

from anomaly.feedback.labels import LabelStore, as_of
from anomaly.feedback.queue import Task, alert_tasks, audit_tasks, ordered, shadow_tasks
from anomaly.fleet import Fleet
from anomaly.service.answers import known_vehicles
from anomaly.service.audited import picks, recall
from anomaly.service.outcomes import newest, update_outcomes
from anomaly.service.shadow import alone_since

AUDIT_DAYS = 7
"""So many of the last vehicle-days are looked at for what the audit drew."""


def queue(run: Path, fleet: Fleet) -> list[Task]:
    """All that is open: unanswered alerts, and vehicles that nobody judged of late and that the audit drew, or for
    which only a shadow would alarm."""
    episodes = update_outcomes(run, fleet).episodes.to_pylist()
    now = newest(run)
    labels = as_of(LabelStore(run / "labels").read(), now)
    answered = frozenset(label.alert for label in labels if label.alert is not None and label.verdict != "unknown")
    since = now - AUDIT_DAYS * fleet.ticks_per_day
    judged = {label.vehicle for label in labels if label.end >= since and label.verdict != "unknown"}
    drawn = [pick for pick in picks(run, since) if pick[0] not in judged]
    missed = recall(run, fleet).false_negatives.value or 0.0
    unseen = min(1.0, missed / max(1, len(known_vehicles(run) or ())))
    alone = [] if fleet.fleet.time_unit == "cycles" else alone_since(run, fleet, since)
    tried = shadow_tasks(alone, episodes, frozenset(judged))
    return ordered([*alert_tasks(episodes, answered), *audit_tasks(drawn, unseen), *tried])
