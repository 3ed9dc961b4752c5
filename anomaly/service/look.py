"""A look at the arms of an experiment, from what its run has written down, and what it leads to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from anomaly.disk import replace_file
from anomaly.engine.events import RESTARTS, Event, Kept
from anomaly.errors import ConfigError, DataError
from anomaly.experiments.assignment import key, read_salt
from anomaly.experiments.compare import compare
from anomaly.experiments.controller import Pinned, act, begin, finish, problems, registry_effects
from anomaly.experiments.file import Experiment, load
from anomaly.experiments.ledger import PRE_PERIOD_DAYS, Ledger, read_ledger
from anomaly.experiments.paired import compare_pairs
from anomaly.experiments.state import State, read_state
from anomaly.experiments.verdict import Look
from anomaly.feedback.history import Past
from anomaly.feedback.labels import CONFIRMED, LabelStore, as_of
from anomaly.feedback.outcomes import Moment, Told, outcomes, write_outcomes
from anomaly.fleet import Fleet
from anomaly.registry.store import Registry
from anomaly.service.events import read
from anomaly.service.rows import LoggedDays
from anomaly.service.shadow import figures, tried
from anomaly.service.stored import StoreReader, store_paths
from anomaly.service.sums import Due, sums_of
from anomaly.telemetry.records import Label

OPEN_DAYS = 2
"""So many days, today among them, are counted again at every look."""
NOTHING = Past([], np.zeros(0, np.int64), np.zeros(0, np.int64))


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
    """The events of a run after which a vehicle may have another normal."""
    return [event for event, _ in happened(run).values() if event.action in RESTARTS]


def happened(run: Path) -> dict[str, tuple[Event, Kept | None]]:
    """The events that took effect in a run by their ids, each with the baseline that it ended, by the control logs of
    its partitions."""
    found: dict[str, tuple[Event, Kept | None]] = {}
    for path in store_paths(run):
        store = StoreReader(path)
        events = [read(row.payload) for row in store.control() if row.kind == "event"]
        store.close()
        found |= {event.id: (event, kept) for event, kept in events}
    return found


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
    due = Due(ledger, since, (due_day + 1) * ticks, days, state.experiment.cost)
    moment = Moment(known.now, int(state.experiment.label_delay_days * ticks))
    told = _told(run, fleet, known, due, moment)
    if state.experiment.treatment.mode == "live":
        return Look(compare(state.experiment, ledger.vehicles(arm, due_day, told)), known.now, ticks)
    log = tried(due, state, Told(NOTHING, known.labels, known.restarts), fleet, moment)
    sides = [ledger.vehicles(arm, due_day, sums_of(log.found[side], due, ticks)) for side in ("acting", "shadow")]
    told_of = figures(log, due, sides, state.experiment.arms.index(state.experiment.treatment))
    return Look(compare_pairs(state.experiment, sides[0], sides[1], told_of), known.now, ticks)


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


def _told(run: Path, fleet: Fleet, known: Known, due: Due, moment: Moment) -> dict[str, Any]:
    """Sums of alerts, false alarms and faults in the ledger's order of vehicles."""
    ill = {label.vehicle for label in known.labels if label.verdict in CONFIRMED}
    past = due.days.past(ill) if ill else NOTHING
    found = outcomes(due.days.alarms(), Told(past, known.labels, known.restarts), fleet, moment)
    write_outcomes(found, run / "outcomes")
    return sums_of(found, due, fleet.ticks_per_day)
