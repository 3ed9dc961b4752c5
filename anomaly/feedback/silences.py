"""The rows of the decision log that no reading led to: a vehicle fell silent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from anomaly.engine.model import Arm
from anomaly.engine.outcome import Change, Kind, Silences
from anomaly.feedback.decisions import schema
from anomaly.feedback.sampling import audited
from anomaly.fleet import Fleet
from anomaly.telemetry.records import alert_id
from anomaly.telemetry.text import Text


def silence_table(silences: Silences, arms: Sequence[Arm], fleet: Fleet, partition: int | None) -> Any:
    """A table of `anomaly.feedback.decisions.schema()` with a row for each silence that opened: its `ts` is when it
    began, it has no offset, and its score and threshold are the rhythms that may pass. They are few."""
    import pyarrow as pa

    opened = np.flatnonzero(silences.change == Change.OPEN).tolist()
    hashes = Text.of([silences.vehicle[row] for row in opened]).crc32()
    audit = audited(fleet, hashes, silences.start[opened]).tolist()
    rows = []
    for place, row in enumerate(opened):
        vehicle, start, arm = silences.vehicle[row], int(silences.start[row]), arms[int(silences.arm[row])]
        rows.append(
            {
                "vehicle": vehicle,
                "ts": start,
                "score": silences.limit[row],
                "threshold": silences.limit[row],
                "level": 1.0,
                "warm": 1.0,
                "alarm": True,
                "kind": Kind.SILENCE.label,
                "kinds": 1 << Kind.SILENCE,
                "episode": alert_id({"vehicle": vehicle}, Kind.SILENCE.label, start),
                "top_signals": [],
                "model": arm.model.name,
                "arm": arm.name,
                "arm_propensity": arm.propensity,
                "audit": audit[place],
                "audit_propensity": fleet.log.audit,
                "partition": partition,
            }
        )
    return pa.Table.from_pylist(rows, schema=schema())
