"""Which events and labels start a vehicle's baseline again: the one definition of live scoring and training."""

from __future__ import annotations

from anomaly.engine.engine import Restart
from anomaly.fleet import Fleet
from anomaly.telemetry.records import Label, VehicleEvent


def restart_of(fleet: Fleet, record: VehicleEvent | Label) -> Restart | None:
    """What `record` starts again by the fleet file: an event at its `ts`, a "no fault" at its `reported_at`."""
    kinds = fleet.baseline.restart_on
    if isinstance(record, VehicleEvent):
        return Restart(record.id, record.vehicle, record.ts) if record.kind in kinds else None
    if record.verdict != "no_fault" or "no_fault" not in kinds or record.reported_at is None:
        return None
    return Restart(f"no_fault:{record.vehicle}:{record.start}:{record.source}", record.vehicle, record.reported_at)
