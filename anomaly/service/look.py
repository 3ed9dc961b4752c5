"""A look at the arms of an experiment, from what its run has written down, and what it leads to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from anomaly.disk import replace_file
from anomaly.engine.events import RESTARTS, Event
from anomaly.errors import ConfigError, DataError
from anomaly.experiments.assignment import key, read_salt
from anomaly.experiments.compare import compare
from anomaly.experiments.controller import Pinned, act, begin, finish, problems, registry_effects
from anomaly.experiments.file import Experiment, load
from anomaly.experiments.ledger import PRE_PERIOD_DAYS, Ledger, read_ledger
from anomaly.experiments.state import State, read_state
from anomaly.experiments.verdict import Look
from anomaly.feedback.history import Past
from anomaly.feedback.labels import CONFIRMED, LabelStore, as_of
from anomaly.feedback.outcomes import CONFIRMED_STATE, FALSE_ALARM, UNLABELLED, Moment, Told, outcomes, write_outcomes
from anomaly.fleet import Fleet
from anomaly.registry.store import Registry
from anomaly.service.events import read
from anomaly.service.rows import LoggedDays
from anomaly.service.stored import StoreReader, store_paths
from anomaly.telemetry.records import Label

OPEN_DAYS = 2
"""So many days, today among them, are counted again at every look."""


class Known(NamedTuple):
    """What is known at the time `now`: labels that were reported, restarts of baselines."""

    now: int
    labels: Sequence[Label]
    restarts: Sequence[Event]


def known(run: Path, fleet: Fleet) -> Known:
    """What a run's folder knows at its newest reading. DataError if nothing was scored yet."""
    now = LoggedDays(run, fleet).newest()
    if now is None:
        raise DataError(f"{run} holds no reading yet: `anomaly score` writes them; or give another --dir")
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


def start(run: Path, fleet: Fleet, experiment: Experiment, registry: Registry, now: int) -> State:
    """Begin the experiment, or find it begun. Raises ConfigError where this fleet cannot carry it."""
    wrong = list(_unfit(fleet, experiment))
    if wrong:
        raise ConfigError(f"experiment {experiment.id}", wrong)
    read_salt(experiment)
    eligible = _eligible(run, fleet, experiment) if experiment.eligibility else None
    return begin(run / "experiments", experiment, now, lambda reference: pin(registry, reference), eligible)


def conclude(run: Path, fleet: Fleet, name: str, registry: Registry, known: Known) -> State:
    """Begin experiment `name` if it has not, look, and do what its file says: go on, promote, roll back, or hold."""
    folder = run / "experiments"
    state, frozen = read_state(folder, name), []
    try:
        experiment = load(folder / f"{name}.toml")
        if state is None or experiment.revision > state.revision:
            state = start(run, fleet, experiment, registry, known.now)
        frozen = problems(experiment, state, lambda reference: pin(registry, reference))
    except (ConfigError, DataError) as error:
        if state is None:
            raise
        frozen = [str(error)]
    if state.status != "running":
        return finish(folder, state, registry_effects(registry))
    return act(folder, look(run, fleet, state, known), name, registry_effects(registry), frozen)


def look(run: Path, fleet: Fleet, state: State, known: Known) -> Look:
    """The arms compared by vehicle: the ledger brought up to date, alerts and labels as they are known now."""
    folder, ticks = run / "experiments", fleet.ticks_per_day
    days = LoggedDays(run, fleet)
    ledger = _counted(days, folder, state, known.now // ticks, ticks)
    arm, since = ledger.entered(state, folder)
    due_day = int((known.now - state.experiment.label_delay_days * ticks) // ticks) - 1
    told = _told(run, fleet, state, known, _Due(ledger, since, (due_day + 1) * ticks, days))
    vehicles = ledger.vehicles(arm, due_day, told)
    return Look(compare(state.experiment, vehicles), known.now, ticks)


def pin(registry: Registry, reference: str) -> Pinned:
    """A model that stays what it is, its files verified. Raises what the registry does."""
    entry = registry.resolve(reference)
    return Pinned(entry.reference, registry.load(entry).manifest.digest)


def _unfit(fleet: Fleet, experiment: Experiment) -> Iterator[str]:
    if fleet.fleet.time_unit == "cycles":
        yield "the fleet's time is in cycles, a clock of each vehicle's own: an experiment needs one for all"
    if experiment.audit_share > fleet.log.audit:
        yield (
            f"audit_share: {experiment.audit_share:g} is wanted, the fleet file has [log] audit = "
            f"{fleet.log.audit:g}; raise it there"
        )
    if fleet.log.archive != "all":
        yield 'the fleet file keeps no archive, so that exposure is not known; set [log] archive = "all"'
    known = fleet.context_fields
    for where, fields in (("eligibility", experiment.eligibility), ("strata", experiment.strata)):
        for field in fields:
            if field not in known:
                words = ", ".join(known) or "none"
                yield f"{where}: {field} is no context field of the fleet ({words}), so that nobody has it"


def _eligible(run: Path, fleet: Fleet, experiment: Experiment) -> str:
    """Write the list of the vehicles that may take part, by their last context, and answer its name."""
    days = LoggedDays(run, fleet)
    chosen: dict[str, bool] = {}
    for day in days.days():
        seen = days.seen(day).to_pydict()
        words = zip(*(seen[field] for field in experiment.eligibility), strict=True)
        for vehicle, own in zip(seen["vehicle"], words, strict=True):
            allowed = experiment.eligibility.values()
            chosen[vehicle] = all(word in each for word, each in zip(own, allowed, strict=True))
    wanted = np.sort(np.array([key(name) for name, may in chosen.items() if may], np.uint64))
    if not len(wanted):
        raise ConfigError(f"experiment {experiment.id}: no vehicle of {run} is eligible; look at [eligibility]")
    name = f"eligible-{hashlib.sha256(wanted.tobytes()).hexdigest()[:16]}.npy"
    path = run / "experiments" / name
    aside = path.with_suffix(".aside.npy")
    np.save(aside, wanted, allow_pickle=False)
    replace_file(path, aside.read_bytes())
    aside.unlink()
    return name


def _counted(days: LoggedDays, folder: Path, state: State, today: int, ticks: int) -> Ledger:
    """The ledger up to today; written down without the last days, to which partitions that lag still add."""
    path = folder / f"{state.id}.vehicles.parquet"
    first = state.steps[0].at // ticks - PRE_PERIOD_DAYS
    found = read_ledger(path, state.experiment)
    ledger = found if found is not None and found.day <= today - OPEN_DAYS else Ledger(state.experiment, first - 1)
    before = ledger.day
    for day in range(ledger.day + 1, today + 1):
        if day == today - OPEN_DAYS + 1 and ledger.day > before:
            ledger.write(path)
        seen = days.seen(day)
        ledger.welcome(seen)
        ledger.count(day, seen, ledger.entered(state, folder)[1], ticks)
    return ledger


class _Due(NamedTuple):
    """Whose alerts and faults count from when (`since`), and labels were due of what came before `due`."""

    ledger: Ledger
    since: Any
    due: int
    days: LoggedDays


def _told(run: Path, fleet: Fleet, state: State, known: Known, due: _Due) -> dict[str, Any]:
    """Sums of alerts, false alarms and faults in the ledger's order of vehicles."""
    moment = Moment(known.now, int(state.experiment.label_delay_days * fleet.ticks_per_day))
    ill = {label.vehicle for label in known.labels if label.verdict in CONFIRMED}
    past = due.days.past(ill) if ill else Past([], np.zeros(0, np.int64), np.zeros(0, np.int64))
    found = outcomes(due.days.alarms(), Told(past, known.labels, known.restarts), fleet, moment)
    write_outcomes(found, run / "outcomes")
    told = _sums(len(due.ledger))
    _add_episodes(told, found.episodes, due)
    _add_faults(told, found.faults, due, fleet.ticks_per_day)
    cost = state.experiment.cost
    told["cost"] = cost.false_alarm * told["false_alarms"] + cost.missed * told["missed"]
    return told


def _sums(count: int) -> dict[str, Any]:
    names = ("alerts", "pre_alerts", "false_alarms", "faults", "detected", "missed", "lead_days", "first_detected")
    return {name: np.zeros(count) for name in names} | {"first_fault": np.full(count, np.inf)}


def _rows(due: _Due, table: Any) -> tuple[Any, Any]:
    """Rows of the ledger for the vehicles of `table`, and which of them are there."""
    import pyarrow.compute as pc

    place = pc.index_in(table["vehicle"], value_set=due.ledger.names).fill_null(-1).to_numpy()
    return place, place >= 0


def _add_episodes(told: dict[str, Any], episodes: Any, due: _Due) -> None:
    place, here = _rows(due, episodes)
    start = episodes["start"].to_numpy()
    state = np.array(episodes["state"].to_pylist(), object)
    after = here & (start >= due.since[place])
    np.add.at(told["pre_alerts"], place[here & ~after], 1)
    np.add.at(told["alerts"], place[after], 1)
    wrong = after & (start < due.due) & ((state == FALSE_ALARM) | (state == UNLABELLED))
    np.add.at(told["false_alarms"], place[wrong], 1)


def _add_faults(told: dict[str, Any], faults: Any, due: _Due, ticks_per_day: int) -> None:
    place, here = _rows(due, faults)
    end, lead = faults["end"].to_numpy(), faults["lead"].to_numpy()
    detected = np.array(faults["state"].to_pylist(), object) == CONFIRMED_STATE
    counted = np.flatnonzero(here & (end >= due.since[place]) & (end < due.due))
    for row in counted[np.argsort(end[counted], kind="stable")].tolist():
        vehicle = place[row]
        if not told["faults"][vehicle]:
            told["first_fault"][vehicle], told["first_detected"][vehicle] = end[row], detected[row]
        told["faults"][vehicle] += 1
        told["detected"][vehicle] += detected[row]
        told["missed"][vehicle] += not detected[row]
        told["lead_days"][vehicle] += lead[row] / ticks_per_day
