"""Monitoring of a run without labels: windows of what was seen, judged by what quiet history was like."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from anomaly.disk import replace_file
from anomaly.errors import DataError, UsageError
from anomaly.feedback.drift import Finding, Reference, Window, calibrate, judge
from anomaly.feedback.labels import LabelStore
from anomaly.fleet import Fleet
from anomaly.registry.manifest import Manifest
from anomaly.registry.store import Registry
from anomaly.service.outcomes import Log, newest
from anomaly.service.rows import ARCHIVE, DECISIONS, FEATURES

SAMPLE = 100_000
"""Rows of a window that are looked at, drawn at random with a fixed seed."""
WINDOW_DAYS = 7


class Watched(NamedTuple):
    """A run to watch, with its fleet and the registry beside whose models the references are kept."""

    run: Path
    fleet: Fleet
    registry: Registry

    @property
    def champion(self) -> Manifest:
        """The model that is watched."""
        return self.registry.manifest(self.registry.resolve(f"{self.fleet.name}@champion"))

    @property
    def length(self) -> int:
        """Ticks of a window."""
        return round(WINDOW_DAYS * self.fleet.ticks_per_day) if self.fleet.fleet.time_unit != "cycles" else 100


def learn(watched: Watched, start: int, end: int) -> Reference:
    """Calibrate on the quiet history of a run from `start` to `end`; kept beside the model that is champion."""
    manifest = watched.champion
    edges = range(start, end - watched.length + 1, watched.length)
    cohorts = _cohorts(watched)
    windows = [look(watched, cohorts, first, first + watched.length) for first in edges]
    try:
        reference = calibrate(manifest.reference, windows)
    except ValueError as error:
        raise UsageError(f"from {start} to {end}: {error}; a window is {watched.length} ticks long") from error
    path = _path(watched, manifest.digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, msgspec.json.format(msgspec.json.encode(reference)))
    return reference


def reference_of(watched: Watched) -> Reference | None:
    """What is known of quiet times of the champion; None: nothing yet. DataError if the file is none."""
    path = _path(watched, watched.champion.digest)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Reference)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise DataError(f"{path} is no reference: {error}; calibrate again") from error


def monitor(watched: Watched, at: int | None = None) -> list[Finding]:
    """What of the window up to `at` (None: the newest reading) is beyond its limits. DataError if none were learned."""
    reference = reference_of(watched)
    if reference is None:
        raise DataError(
            f"nothing is known of quiet times of {watched.champion.reference}: `anomaly feedback monitor --calibrate "
            "FROM..TO` learns it"
        )
    end = (newest(watched.run) if at is None else at) + 1
    first = min(reference.start, end - reference.length)
    count = max(1, (end - first) // reference.length)
    starts = [end - reference.length * back for back in range(count, 0, -1)]
    cohorts = _cohorts(watched)
    quiet = [look(watched, cohorts, start, start + reference.length, daily_only=True) for start in starts[:-1]]
    return judge(reference, [*quiet, look(watched, cohorts, starts[-1], end)])


def look(watched: Watched, cohorts: dict[str, str], start: int, end: int, daily_only: bool = False) -> Window:
    """What a run holds of the time from `start` to `end` (excluded); of scores those of the champion."""
    scores = _rows(watched.run, DECISIONS, "vehicle, ts, score, warm", start, end, watched.champion.reference)
    daily: dict[str, list[float]] = {}
    values: dict[str, Any] = {}
    scalars: dict[str, float] = {}
    if scores is not None:
        groups = _groups(scores, cohorts)
        days = scores["ts"].to_numpy() // watched.fleet.ticks_per_day
        score = np.log1p(scores["score"].to_numpy().astype(np.float64))
        for cohort, rows in groups.items():
            values[f"score:{cohort}"] = scores["score"].to_numpy()[rows].astype(np.float32)
            order = np.unique(days[rows])
            daily[f"score:{cohort}"] = [float(score[rows][days[rows] == day].mean()) for day in order]
        scalars["share in burn-in"] = float((scores["warm"].to_numpy() < 1).mean())
    if not daily_only:
        values |= _signals(watched, cohorts, start, end) | _features(watched, cohorts, start, end)
        scalars |= _rates(watched, start, end)
    return Window(start=start, end=end, values=values, scalars=scalars, daily=daily)


def _path(watched: Watched, digest: str) -> Path:
    return watched.registry.folder / watched.fleet.name / "monitors" / f"{digest}.json"


def _rows(run: Path, name: str, columns: str, start: int, end: int, model: str | None = None) -> Any:
    """A sample of a log's rows, of one model where it is named, None where there is none; the same each time."""
    own, told = ("", {}) if model is None else (" AND model = $model", {"model": model})
    query = (
        f'SELECT {columns} FROM (SELECT * FROM log WHERE ts >= $start AND ts < $end AND "offset" IS NOT NULL{own})'
        f" ORDER BY hash(vehicle, ts) LIMIT {SAMPLE}"
    )
    table = Log(run, name).select(query, start=start, end=end, **told)
    return table if table is not None and len(table) else None


def _cohorts(watched: Watched) -> dict[str, str]:
    """The cohort of each vehicle: the fleet's cohort fields, `all` where it has none."""
    fields = watched.fleet.context.cohort or ()
    if not fields:
        return {}
    columns = ", ".join(f'any_value(CAST("{field}" AS VARCHAR))' for field in fields)
    query = f"SELECT vehicle, concat_ws('/', {columns}) AS cohort FROM log GROUP BY vehicle"
    table = Log(watched.run, ARCHIVE).select(query)
    return {} if table is None else dict(zip(table["vehicle"].to_pylist(), table["cohort"].to_pylist(), strict=True))


def _groups(table: Any, cohorts: dict[str, str]) -> dict[str, Any]:
    """The rows of each cohort."""
    if not cohorts:
        return {"all": np.arange(len(table))}
    names = np.array([cohorts.get(vehicle, "unknown") for vehicle in table["vehicle"].to_pylist()])
    return {name: np.flatnonzero(names == name) for name in sorted(set(names.tolist()))}


def _signals(watched: Watched, cohorts: dict[str, str], start: int, end: int) -> dict[str, Any]:
    columns = ", ".join(f'"{name}"' for name in watched.fleet.columns)
    table = _rows(watched.run, ARCHIVE, f"vehicle, {columns}", start, end)
    if table is None:
        return {}
    return {
        f"signal {name}:{cohort}": table[name].to_numpy()[rows]
        for cohort, rows in _groups(table, cohorts).items()
        for name in watched.fleet.columns
    }


def _features(watched: Watched, cohorts: dict[str, str], start: int, end: int) -> dict[str, Any]:
    table = _rows(watched.run, FEATURES, "vehicle, features", start, end)
    if table is None:
        return {}
    rows = table["features"].combine_chunks()
    values = rows.flatten().to_numpy(zero_copy_only=False).astype(np.float32).reshape(len(table), -1)
    names = list(watched.fleet.signals)
    return {
        f"feature {name}:{cohort}": values[own, place]
        for cohort, own in _groups(table, cohorts).items()
        for place, name in enumerate(names)
    }


def _rates(watched: Watched, start: int, end: int) -> dict[str, float]:
    """Alerts per 1,000 vehicle-days, as a multiple of the budget, and the median delay of labels in vehicle-days."""
    run, day = watched.run, watched.fleet.ticks_per_day
    where = "WHERE ts >= $start AND ts < $end"
    days = Log(run, ARCHIVE).select(
        f"SELECT count(DISTINCT (vehicle, ts // $day)) AS n FROM log {where}", start=start, end=end, day=day
    )
    alerts = Log(run, DECISIONS).select(
        "SELECT count(*) AS n FROM (SELECT min(ts) AS first FROM log WHERE alarm GROUP BY episode)"
        " WHERE first >= $start AND first < $end",
        start=start,
        end=end,
    )
    found = {}
    if days is not None and alerts is not None and days["n"][0].as_py():
        rate = 1_000 * alerts["n"][0].as_py() / days["n"][0].as_py()
        found["alerts against the budget"] = max(1.0, rate / watched.fleet.threshold.false_alarms)
    delays = [
        (label.reported_at - label.end) / day
        for label in LabelStore(run / "labels").read()
        if label.reported_at is not None and start <= label.reported_at < end
    ]
    if delays:
        found["median label delay in days"] = float(np.median(delays))
    return found
