"""People's answers to alerts: found in the run, written into its labels, told to the scorers."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec

from anomaly.errors import DataError, UsageError
from anomaly.feedback.events import event_id
from anomaly.feedback.labels import LabelStore, as_of, label_id
from anomaly.fleet import Fleet
from anomaly.service.outcomes import Log, newest
from anomaly.service.rows import ARCHIVE, DECISIONS
from anomaly.stream.offsets import no_topic
from anomaly.stream.ports import Log as Stream
from anomaly.stream.ports import Record
from anomaly.telemetry.records import Label, VehicleEvent, Verdict

FIND = """
    SELECT episode, any_value(vehicle) AS vehicle, any_value(kind) AS kind, min(ts) AS start, max(ts) AS "end",
        max(level) AS level, arg_max(threshold, level) AS threshold, arg_max(model, level) AS model,
        arg_max(arm, level) AS arm
    FROM log WHERE starts_with(episode, $alert) GROUP BY episode ORDER BY episode LIMIT 3
"""


class Found(NamedTuple):
    """An alert as the decision log has it; `threshold` (nats) and model are those of its highest level."""

    episode: str
    vehicle: str
    kind: str
    start: int
    end: int
    level: float
    threshold: float
    model: str
    arm: str


class Said(NamedTuple):
    """What a person says of an alert; `at` None: at the newest reading of the run, in cycles that of the vehicle."""

    verdict: Verdict
    source: str
    code: str | None = None
    note: str | None = None
    at: int | None = None


def find_alert(run: Path, alert: str) -> Found:
    """The alert whose id is, or alone begins with, `alert`. DataError if there is none, or more than one."""
    table = Log(run, DECISIONS).select(FIND, alert=alert) if len(alert) >= 4 else None
    rows = table.to_pylist() if table is not None else []
    if not rows:
        raise DataError(
            f'{run} has logged no alert {alert}; `anomaly feedback queue` and `anomaly sql "select * from alerts"` '
            "list them, or give another --dir"
        )
    if len(rows) > 1:
        raise DataError(f"several alerts begin with {alert}: {', '.join(row['episode'] for row in rows)}, ...")
    return Found(**rows[0])


def answer(run: Path, fleet: Fleet, alert: str, said: Said) -> Label:
    """Add the label that `said` makes of an alert to the run's; the same person's earlier answer is replaced."""
    found = find_alert(run, alert)
    before = [one for one in _of_alert(run, found.episode) if one.source == said.source]
    start, end = (before[0].start, before[0].end) if before else (found.start, found.end)
    label = Label(
        vehicle=found.vehicle,
        start=start,
        end=end,
        verdict=said.verdict,
        source=said.source,
        code=said.code,
        reported_at=_now(run, fleet, found.vehicle) if said.at is None else said.at,
        alert=found.episode,
        note=said.note,
    )
    LabelStore(run / "labels").add([label])
    return label


def find_label(run: Path, name: str) -> Label:
    """The label that holds under the id `name`, or the last answer to the alert `name`. DataError if there is none."""
    labels = as_of(LabelStore(run / "labels").read())
    own = [label for label in labels if label_id(label) == name]
    own = own or [label for label in labels if label.alert is not None and label.alert.startswith(name)]
    if not own:
        raise DataError(
            f"{run / 'labels'} has no label {name}, and none that answers an alert {name}; "
            '`anomaly sql "select * from labels"` lists them'
        )
    return max(own, key=lambda label: label.reported_at or 0)


def undo(run: Path, fleet: Fleet, name: str, at: int | None = None) -> tuple[Label, VehicleEvent]:
    """Take a label back: a correction that says what was said before it, else `unknown`, and what undoes its restart.

    The history stays: what was known while it held can still be asked.
    """
    label = find_label(run, name)
    key = (label.vehicle, label.start, label.end, label.source)
    same = [one for one in LabelStore(run / "labels").read() if (one.vehicle, one.start, one.end, one.source) == key]
    earlier = sorted((one for one in same if one != label), key=lambda one: one.reported_at or 0)
    verdict = earlier[-1].verdict if earlier else "unknown"
    if verdict == label.verdict:
        raise UsageError(f"label {label_id(label)} says {verdict}, as it did before; there is nothing to take back")
    now = max(_now(run, fleet, label.vehicle) if at is None else at, label.reported_at or 0)
    corrected = msgspec.structs.replace(label, verdict=verdict, reported_at=now, note=f"takes back {label.verdict}")
    event = VehicleEvent(
        id=f"undo:{label_id(label)}:{len(same)}", vehicle=label.vehicle, ts=now, kind="undo", undoes=event_id(label)
    )
    LabelStore(run / "labels").add([corrected])
    return corrected, event


def tell(stream: Stream, fleet: Fleet, label: Label, event: VehicleEvent | None = None) -> None:
    """Put a label, and what undoes another one, onto their topics, where the scorers read them."""
    records: list[tuple[str, Label | VehicleEvent]] = [("labels", label)]
    records += [] if event is None else [("vehicle-events", event)]
    sink = stream.sink()
    try:
        for name, record in records:
            topic = fleet.topic(name)
            if stream.topic(topic) is None:
                raise no_topic(topic, "the log")
            sink.send(topic, [Record(record.vehicle.encode(), msgspec.json.encode(record))])
    finally:
        sink.close()


def known_vehicles(run: Path) -> frozenset[str] | None:
    """All vehicles that a run has logged anything of, None where it has not begun."""
    found: set[str] = set()
    for name in (ARCHIVE, DECISIONS):
        table = Log(run, name).select("SELECT DISTINCT vehicle FROM log")
        found |= set() if table is None else set(table["vehicle"].to_pylist())
    return frozenset(found) or None


def _of_alert(run: Path, alert: str) -> list[Label]:
    return [label for label in as_of(LabelStore(run / "labels").read()) if label.alert == alert]


def _now(run: Path, fleet: Fleet, vehicle: str) -> int:
    """The run's own time: that of its newest reading, in cycles of the vehicle's."""
    if fleet.fleet.time_unit != "cycles":
        return newest(run)
    query = "SELECT max(ts) AS ts FROM log WHERE vehicle = $vehicle"
    tables = [Log(run, name).select(query, vehicle=vehicle) for name in (ARCHIVE, DECISIONS)]
    return max(table["ts"][0].as_py() or 0 for table in tables if table is not None)
