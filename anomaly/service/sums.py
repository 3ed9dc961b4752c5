"""Alerts and faults, as sums by vehicle in the order of an experiment's ledger."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from anomaly.experiments.file import Cost
from anomaly.experiments.ledger import Ledger
from anomaly.feedback.outcomes import CONFIRMED_STATE, FALSE_ALARM, UNLABELLED, Outcomes
from anomaly.service.rows import LoggedDays


class Due(NamedTuple):
    """Whose alerts and faults count from when (`since`), and labels were due of what came before `due`."""

    ledger: Ledger
    since: Any
    due: int
    days: LoggedDays
    cost: Cost


def sums_of(found: Outcomes, due: Due, ticks_per_day: int) -> dict[str, Any]:
    """The columns of a comparison that come from alerts and labels, float64[vehicles] each."""
    told = _zeros(len(due.ledger))
    _add_episodes(told, found.episodes, due)
    _add_faults(told, found.faults, due, ticks_per_day)
    told["cost"] = due.cost.false_alarm * told["false_alarms"] + due.cost.missed * told["missed"]
    return told


def _zeros(count: int) -> dict[str, Any]:
    names = ("alerts", "pre_alerts", "false_alarms", "faults", "detected", "missed", "lead_days", "first_detected")
    return {name: np.zeros(count) for name in names} | {"first_fault": np.full(count, np.inf)}


def _rows(due: Due, table: Any) -> tuple[Any, Any]:
    """Rows of the ledger for the vehicles of `table`, and which of them are there."""
    import pyarrow.compute as pc

    place = pc.index_in(table["vehicle"], value_set=due.ledger.names).fill_null(-1).to_numpy()
    return place, place >= 0


def _add_episodes(told: dict[str, Any], episodes: Any, due: Due) -> None:
    place, here = _rows(due, episodes)
    start = episodes["start"].to_numpy()
    state = np.array(episodes["state"].to_pylist(), object)
    after = here & (start >= due.since[place])
    np.add.at(told["pre_alerts"], place[here & ~after], 1)
    np.add.at(told["alerts"], place[after], 1)
    wrong = after & (start < due.due) & ((state == FALSE_ALARM) | (state == UNLABELLED))
    np.add.at(told["false_alarms"], place[wrong], 1)


def _add_faults(told: dict[str, Any], faults: Any, due: Due, ticks_per_day: int) -> None:
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
