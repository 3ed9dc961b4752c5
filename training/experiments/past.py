"""What a run has seen of its fleet, by vehicle and day: what plans and simulations of experiments are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.errors import ConfigError, DataError
from anomaly.experiments.compare import Vehicles
from anomaly.experiments.file import Experiment
from anomaly.experiments.metrics import COUNTS
from anomaly.feedback.history import Past
from anomaly.feedback.labels import CONFIRMED
from anomaly.feedback.outcomes import CONFIRMED_STATE, FALSE_ALARM, UNLABELLED, Moment, Told, outcomes
from anomaly.fleet import Fleet
from anomaly.service.look import known
from anomaly.service.rows import LoggedDays

Rows = NDArray[np.int64]
LEAST_DAYS = 3


class Events(NamedTuple):
    """Things that happened, each int64[n]: to which vehicle (a row), on which day (0: the first one)."""

    vehicle: Rows
    day: Rows

    def of(self, chosen: NDArray[np.bool_]) -> Events:
        """Some of them."""
        return Events(self.vehicle[chosen], self.day[chosen])


class Seen(NamedTuple):
    """A fleet's past: `active` bool[vehicles, days] where a vehicle sent a reading; alerts, false alarms, faults.

    `detected` bool and `lead_days` float64 are of the faults.
    """

    names: Any
    active: NDArray[np.bool_]
    alerts: Events
    false_alarms: Events
    faults: Events
    detected: NDArray[np.bool_]
    lead_days: NDArray[np.float64]

    @property
    def days(self) -> int:
        """How many days it has."""
        return int(self.active.shape[1])


def read_past(run: Path, fleet: Fleet, experiment: Experiment) -> Seen:
    """The past of a run, with the alerts whose labels were due by the experiment's delay told apart.

    Vehicles that are not eligible are left out. Raises DataError for a run of fewer than 3 days, ConfigError for a
    shadow: by its alerts alone no past says where two models differ.
    """
    if experiment.treatment.mode == "shadow":
        raise ConfigError(
            f"experiment {experiment.id}: {experiment.treatment.name} is a shadow: what is concluded depends on how "
            "often it differs from what acts, of which the past says nothing; start it, for it acts on no vehicle, "
            "and look at `anomaly experiment status`"
        )
    told, days = known(run, fleet), LoggedDays(run, fleet)
    numbers = days.days()
    if len(numbers) < LEAST_DAYS or numbers[-1] - numbers[0] + 1 < LEAST_DAYS:
        raise DataError(f"{run} holds {len(numbers)} days: a plan needs {LEAST_DAYS} at least; score more of the past")
    tables = {day: _eligible(days.seen(day), experiment) for day in numbers}
    names, active = _active(tables, numbers[0])
    ticks = fleet.ticks_per_day
    ill = {label.vehicle for label in told.labels if label.verdict in CONFIRMED}
    past = days.past(ill) if ill else Past([], np.zeros(0, np.int64), np.zeros(0, np.int64))
    moment = Moment(told.now, int(experiment.label_delay_days * ticks))
    found = outcomes(days.alarms(), Told(past, told.labels, told.restarts), fleet, moment)
    state = np.array(found.episodes["state"].to_pylist(), object)
    wrong = (state == FALSE_ALARM) | (state == UNLABELLED)
    alerts, here = _events(found.episodes, "start", names, numbers[0], ticks)
    faults, own = _events(found.faults, "end", names, numbers[0], ticks)
    detected = np.array(found.faults["state"].to_pylist(), object) == CONFIRMED_STATE
    lead = found.faults["lead"].to_numpy() / ticks
    return Seen(names, active, alerts, alerts.of(wrong[here]), faults, detected[own], lead[own])


def rows_of(experiment: Experiment, seen: Seen, arm: NDArray[np.int8], until: int, mature: int) -> Vehicles:
    """The rows of a comparison after `until` days from the first on, labels being due for `mature` of them."""
    count = len(arm)
    sums: dict[str, NDArray[np.float64]] = {name: np.zeros(count) for name in COUNTS}
    sums["days"] = seen.active[:, :until].sum(axis=1).astype(np.float64)
    sums["mature_days"] = seen.active[:, : max(mature, 0)].sum(axis=1).astype(np.float64)
    sums["alerts"] = _counted(seen.alerts, until, count)
    sums["false_alarms"] = _counted(seen.false_alarms, mature, count)
    due = seen.faults.day < mature
    vehicle, found = seen.faults.vehicle[due], seen.detected[due]
    sums["faults"] = np.bincount(vehicle, minlength=count).astype(np.float64)
    sums["detected"] = np.asarray(np.bincount(vehicle, found, minlength=count), np.float64)
    sums["missed"] = sums["faults"] - sums["detected"]
    sums["lead_days"] = np.asarray(np.bincount(vehicle, seen.lead_days[due], minlength=count), np.float64)
    cost = experiment.cost
    sums["cost"] = cost.false_alarm * sums["false_alarms"] + cost.missed * sums["missed"]
    first, first_detected = np.full(count, np.inf), np.zeros(count)
    for row in np.argsort(-seen.faults.day[due], kind="stable").tolist():
        first[vehicle[row]], first_detected[vehicle[row]] = seen.faults.day[due][row], found[row]
    sums |= {"pre_rate": np.full(count, np.nan), "first_fault": first, "first_detected": first_detected}
    return Vehicles(seen.names, np.where(sums["days"] > 0, arm, np.int8(-1)).astype(np.int8), sums, {})


def _counted(events: Events, until: int, count: int) -> NDArray[np.float64]:
    return np.bincount(events.vehicle[events.day < until], minlength=count).astype(np.float64)


def _eligible(table: Any, experiment: Experiment) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    for field, words in experiment.eligibility.items():
        table = table.filter(pc.is_in(table[field], value_set=pa.array(words)))
    return table


def _active(tables: dict[int, Any], first: int) -> tuple[Any, NDArray[np.bool_]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    names = pc.unique(pa.concat_tables([table.select(["vehicle"]) for table in tables.values()])["vehicle"])
    active = np.zeros((len(names), max(tables) - first + 1), np.bool_)
    for day, table in tables.items():
        active[pc.index_in(table["vehicle"], value_set=names).to_numpy(), day - first] = True
    return names, active


def _events(table: Any, time: str, names: Any, first: int, ticks: int) -> tuple[Events, NDArray[np.bool_]]:
    """The rows of `table` as events, and which of its rows are of vehicles that are here."""
    import pyarrow.compute as pc

    place = pc.index_in(table["vehicle"], value_set=names).fill_null(-1).to_numpy()
    here = place >= 0
    return Events(place[here].astype(np.int64), table[time].to_numpy()[here] // ticks - first), here
