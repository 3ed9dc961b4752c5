"""A look at the arms of an experiment, from what its run has written down, and what it leads to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from anomaly.engine.events import RESTARTS, Event
from anomaly.errors import DataError
from anomaly.experiments.active import entered
from anomaly.experiments.assignment import assign, read_salt
from anomaly.experiments.compare import compare
from anomaly.experiments.controller import Look, act, begin, registry_effects
from anomaly.experiments.file import Experiment
from anomaly.experiments.state import State
from anomaly.feedback.archive import reading_batch
from anomaly.feedback.history import Past
from anomaly.feedback.labels import LabelStore, as_of
from anomaly.feedback.outcomes import Moment, Told, outcomes, vehicle_table, write_outcomes
from anomaly.fleet import Fleet
from anomaly.registry.store import Registry
from anomaly.service.events import read
from anomaly.service.rows import read_archive, read_decisions
from anomaly.service.stored import StoreReader, store_paths
from anomaly.telemetry.records import Label


class Known(NamedTuple):
    """What is known at the time `now`: labels that were reported, restarts of baselines."""

    now: int
    labels: Sequence[Label]
    restarts: Sequence[Event]


def known(run: Path, fleet: Fleet) -> Known:
    """What a run's folder knows at its newest reading. DataError if nothing was scored yet."""
    times = read_archive(run, fleet)["ts"].to_numpy()
    if not len(times):
        raise DataError(f"{run} holds no reading yet: `anomaly score` writes them; or give another --dir")
    now = int(np.max(times))
    return Known(now, as_of(LabelStore(run / "labels").read(), now), restarts_in(run))


def restarts_in(run: Path) -> list[Event]:
    """The restarts of baselines that took effect in a run, by the control logs of its partitions."""
    found: dict[str, Event] = {}
    for path in store_paths(run):
        store = StoreReader(path)
        events = [read(row.payload)[0] for row in store.control() if row.kind == "event"]
        store.close()
        found |= {event.id: event for event in events if event.action in RESTARTS}
    return list(found.values())


def look(run: Path, fleet: Fleet, experiment: Experiment, state: State, known: Known) -> Look:
    """The arms compared by vehicle, from the run's decision log, archive and the labels known by now."""
    past = Past.of(reading_batch(read_archive(run, fleet), fleet))
    moment = Moment(known.now, int(experiment.label_delay_days * fleet.ticks_per_day))
    found = outcomes(read_decisions(run), Told(past, known.labels, known.restarts), fleet, moment)
    write_outcomes(found, run / "outcomes")
    salt = read_salt(experiment)
    table = vehicle_table(found, past, fleet, entered(experiment, state.steps, salt, past.names), moment)
    comparison = compare(experiment, assign(experiment, state.share, salt), table)
    return Look(comparison, known.now, fleet.ticks_per_day)


def conclude(run: Path, fleet: Fleet, experiment: Experiment, registry: Registry, known: Known) -> State:
    """Begin it if it has not, look, and do what the experiment file says: promote, roll back, or hold."""
    folder = run / "experiments"
    state = begin(folder, experiment, known.now, lambda reference: registry.resolve(reference).reference)
    return act(folder, experiment, look(run, fleet, experiment, state, known), registry_effects(registry))
