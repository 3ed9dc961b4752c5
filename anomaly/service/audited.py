"""The audit of a run: which faults its sample met, and what that says of all."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from anomaly.feedback.audit import Estimate, Faults, estimate
from anomaly.feedback.outcomes import CONFIRMED_STATE
from anomaly.feedback.sampling import audited
from anomaly.fleet import Fleet
from anomaly.service.outcomes import Log, update_outcomes
from anomaly.service.rows import ARCHIVE, DECISIONS
from anomaly.telemetry.text import Text

DAYS = "SELECT DISTINCT vehicle, ts // $day AS day FROM log WHERE vehicle IN (SELECT unnest($names::VARCHAR[]))"


def recall(run: Path, fleet: Fleet) -> Estimate:
    """The estimate of recall and missed faults by the audit of a run, with what is labelled by now.

    The days of a fault are those of its window with a reading; which of them were drawn follows from the hash.
    """
    faults = update_outcomes(run, fleet).faults.to_pylist()
    names = sorted({fault["vehicle"] for fault in faults})
    table = Log(run, ARCHIVE).select(DAYS, day=fleet.ticks_per_day, names=names)
    vehicles = [] if table is None else table["vehicle"].to_pylist()
    days = np.zeros(0, np.int64) if table is None else table["day"].to_numpy().astype(np.int64)
    ts = days * fleet.ticks_per_day
    met = audited(fleet, Text.of(vehicles).crc32(), ts) if vehicles else np.zeros(0, np.bool_)
    own: dict[str, list[int]] = {name: [] for name in names}
    for row, vehicle in enumerate(vehicles):
        own[vehicle].append(row)
    counts = np.zeros((len(faults), 2), np.int64)
    for place, fault in enumerate(faults):
        rows = np.array(own[fault["vehicle"]], np.int64)
        first, last = fault["start"] // fleet.ticks_per_day, fault["end"] // fleet.ticks_per_day
        inside = rows[(days[rows] >= first) & (days[rows] <= last)]
        counts[place] = len(inside), int(met[inside].sum())
    detected = np.array([fault["state"] == CONFIRMED_STATE for fault in faults], np.bool_)
    return estimate(Faults(detected, counts[:, 0], counts[:, 1]), fleet.log.audit)


def picks(run: Path, since: int) -> list[tuple[str, int, float]]:
    """(vehicle, newest time, propensity) of vehicles with an audited vehicle-day at or after `since`."""
    query = (
        "SELECT vehicle, max(ts) AS ts, any_value(audit_propensity) AS p FROM log WHERE audit AND ts >= $since"
        " GROUP BY vehicle ORDER BY vehicle"
    )
    table = Log(run, DECISIONS).select(query, since=since)
    return [] if table is None else [(row["vehicle"], row["ts"], row["p"]) for row in table.to_pylist()]
