"""A simulated fleet as a case: what was known up to the end of its history, and how its vehicles went on."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec
import numpy as np
import pyarrow.parquet as pq

from anomaly import fleet as fleets
from anomaly.fleet import Fleet
from anomaly.simulator import SimulationConfig, write
from anomaly.telemetry.files import inspect_history, read_events, read_labels
from anomaly.telemetry.survey import survey
from training.history import Split, known_at, make_history
from training.suites.case import Case
from training.suites.own import Past
from training.suites.rows import Line

TRAIN, VALIDATION = 0.4, 0.6
"""Shares of the vehicles of the history: up to the first to fit on, up to the second to set thresholds with."""


def simulated_past(config: SimulationConfig, seed: int) -> Past:
    """The files of a simulated fleet, read as a user's are, with the stuck limits that `init` finds in its history."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write(config, seed, place)
        fleet = _as_init_would(fleets.load(place / "fleet.toml"), place / "history.parquet")
        batch = inspect_history(place / "readings.parquet", fleet).batch
        events = read_events(place / "events.parquet", fleet) if _rows_of(place / "events.parquet") else []
        labels = read_labels(place / "labels.parquet", fleet) if _rows_of(place / "labels.parquet") else []
    return Past(fleet, batch, events, labels)


def divided(past: Past, config: SimulationConfig, seed: int) -> Case:
    """Training on 40 + 20 % of the vehicles up to the end of the history, beside all others, and all vehicles go on
    afterwards, as they would live (a cohort needs its members). The other 40 %, with those that came later, are judged:
    `judged` takes the part of a row that is theirs."""
    at = config.train_until_ms - 1
    known = known_at(past.fleet, past.batch, past.events, past.labels, at)
    order = np.random.default_rng(seed).permutation(np.array(known.names, dtype=object))
    a, b = int(TRAIN * len(order)), int(VALIDATION * len(order))
    later = past.batch.take(np.flatnonzero(past.batch.ts > at))
    test = make_history(past.fleet, later, past.events, past.labels, [])
    newcomers = sorted(set(test.names) - set(known.names))
    split = Split(order[:a].tolist(), order[a:b].tolist(), [*order[b:].tolist(), *newcomers])
    return Case(past.fleet, known, split, test, seed)


def _as_init_would(fleet: Fleet, history: Path) -> Fleet:
    found = {one.name: one.stuck_after for one in survey(history, fleet.fleet.vehicle, fleet.fleet.time).signals}
    signals = {
        name: msgspec.structs.replace(signal, stuck_after=found.get(name, 0)) for name, signal in fleet.signals.items()
    }
    context = msgspec.structs.replace(fleet.context, cohort=("type", "region"))
    return msgspec.structs.replace(fleet, signals=signals, context=context)


def _rows_of(path: Path) -> int:
    return int(pq.read_metadata(path).num_rows)


def judged(case: Case, line: Line) -> Line:
    """The part of a row that belongs to the judged vehicles."""
    if line.played is None:
        return line
    decided, codes = line.played.decided, case.test.codes_of(case.split.test)
    level = line.played.level[np.isin(decided.codes, codes)]
    return line._replace(played=line.played._replace(decided=decided.of(codes), level=level))
