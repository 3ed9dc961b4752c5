"""What a run logged of an experiment's shadow: episodes that either side has or would have, figures, examples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.experiments.beside import SHOWN, Beside, Example, Sums, beside
from anomaly.experiments.compare import Vehicles
from anomaly.experiments.state import State
from anomaly.feedback.history import Past
from anomaly.feedback.labels import CONFIRMED
from anomaly.feedback.outcomes import Moment, Outcomes, Told, outcomes
from anomaly.feedback.shadow_log import Side, alarm_table
from anomaly.fleet import Fleet
from anomaly.service.rows import LoggedDays
from anomaly.service.sums import Due
from anomaly.telemetry.records import Label

LOOKED_AT = 10_000
"""So many decisions that differ, those of the highest level, are gone through for examples."""


class Tried(NamedTuple):
    """The log of one shadow: `rows` with an alarm of either side, `days` of sums, since its vehicles take part.

    `past` has the readings of all vehicles with a row, and of those that a label calls ill.
    """

    rows: Any
    days: Any
    past: Past
    labels: Sequence[Label]
    found: dict[Side, Outcomes]


def tried(due: Due, state: State, known: Told, fleet: Fleet, moment: Moment) -> Tried:
    """Read the log of the experiment's shadow, and say what became of the episodes of either side.

    `known` has labels and restarts; its past is not looked at. Of the acting model only what its model alarms for
    counts, as the shadow has nothing else: no sensor, no silence.
    """
    own = f"{state.id}/{state.experiment.treatment.name}"
    first_day = state.steps[0].at // fleet.ticks_per_day
    rows, days = (_of(table, own, due) for table in due.days.shadow(first_day))
    ill = {label.vehicle for label in known.labels if label.verdict in CONFIRMED}
    names = ill | set(rows["vehicle"].unique().to_pylist())
    past = due.days.past(names) if names else Past([], np.zeros(0, np.int64), np.zeros(0, np.int64))
    found: dict[Side, Outcomes] = {}
    sides: tuple[Side, Side] = ("acting", "shadow")
    for side in sides:
        alarms = alarm_table(rows, side, past, fleet.alerts.gap)
        found[side] = outcomes(alarms, known._replace(past=past), fleet, moment)
    return Tried(rows, days, past, known.labels, found)


def _of(table: Any, own: str, due: Due) -> Any:
    """The rows of the experiment's shadow arm since each of its vehicles takes part in this revision."""
    import pyarrow as pa
    import pyarrow.compute as pc

    words = table["arm"].cast(pa.string())
    arms = [word for word in words.unique().to_pylist() if own in word.split("+")]
    place = pc.index_in(table["vehicle"], value_set=due.ledger.names).fill_null(-1).to_numpy()
    took_part = (place >= 0) & (table["ts"].to_numpy() >= due.since[place])
    chosen = pc.and_(pc.is_in(words, value_set=pa.array(arms, pa.string())), pa.array(took_part))
    return table.filter(chosen)


def figures(found: Tried, due: Due, sides: Sequence[Vehicles], treated: int) -> Beside:
    """The shadow beside the acting model, over the vehicles of the arm at position `treated`.

    `sides` are the acting model's and the shadow's vehicles, in the ledger's order.
    """
    import pyarrow as pa

    own = np.flatnonzero(sides[0].arm == treated)
    counts = {name: _added(due, found.days, found.days[name].to_numpy())[own] for name in ("compared", "both")}
    alarms = [_added(due, found.days, found.days[name].to_numpy())[own] for name in ("alarms", "shadow_alarms")]
    alone = _alone(due, found.found["acting"].episodes, found.found["shadow"].episodes)
    both = [
        {name: side.sums[name][own] for name in ("alerts", "false_alarms", "detected", "lead_days", "cost")}
        | {"alarms": alarms[place], "alone": alone[place][own]}
        for place, side in enumerate(sides)
    ]
    sums = Sums(
        names=due.ledger.names.take(pa.array(own)).to_pylist(),
        compared=counts["compared"],
        differing=alarms[0] + alarms[1] - 2.0 * counts["both"],
        acting=both[0],
        shadow=both[1],
        under={name: sides[0].sums[name][own] for name in ("days", "mature_days", "faults")},
    )
    return beside(sums, _examples(found))


def _added(due: Due, table: Any, values: NDArray[Any]) -> NDArray[np.float64]:
    """Sums by vehicle in the ledger's order."""
    import pyarrow.compute as pc

    place = pc.index_in(table["vehicle"], value_set=due.ledger.names).fill_null(-1).to_numpy()
    known = place >= 0
    sums = np.bincount(place[known], np.asarray(values, np.float64)[known], minlength=len(due.ledger))
    return np.asarray(sums, np.float64)


def _alone(due: Due, acting: Any, shadow: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Episodes of either side during which the other one has none, by vehicle."""
    return (
        _added(due, acting, np.array(_lonely(acting, shadow), np.float64)),
        _added(due, shadow, np.array(_lonely(shadow, acting), np.float64)),
    )


def _lonely(own: Any, others: Any) -> list[bool]:
    """Whether each episode meets none of the others of its vehicle."""
    met: dict[str, list[tuple[int, int]]] = {}
    for vehicle, start, end in _spans(others):
        met.setdefault(vehicle, []).append((start, end))
    return [
        not any(first <= end and start <= last for first, last in met.get(vehicle, ()))
        for vehicle, start, end in _spans(own)
    ]


def _spans(episodes: Any) -> list[tuple[str, int, int]]:
    return list(zip(*(episodes[name].to_pylist() for name in ("vehicle", "start", "end")), strict=True))


def alone_since(run: Path, fleet: Fleet, since: int) -> list[dict[str, Any]]:
    """The episodes that a shadow alone would have raised since then, as rows of outcomes; nobody was told of them."""
    days = LoggedDays(run, fleet)
    rows, _ = days.shadow(since // fleet.ticks_per_day)
    names = set(rows["vehicle"].unique().to_pylist())
    if not names:
        return []
    told, moment = Told(days.past(names), [], []), Moment(2**62, 0)
    sides: tuple[Side, Side] = ("acting", "shadow")
    acting, shadow = (
        outcomes(alarm_table(rows, side, told.past, fleet.alerts.gap), told, fleet, moment).episodes for side in sides
    )
    alone = zip(shadow.to_pylist(), _lonely(shadow, acting), strict=True)
    return [row for row, lonely in alone if lonely and row["end"] >= since]


def _examples(found: Tried) -> list[Example]:
    """Decisions that only one would alarm for: of each side the highest levels, one a vehicle, half of each if there
    are enough."""
    acting, shadow = _highest(found, "acting"), _highest(found, "shadow")
    acting = acting[: max(SHOWN // 2, SHOWN - len(shadow))]
    return [*acting, *shadow[: SHOWN - len(acting)]]


def _highest(found: Tried, side: Side) -> list[Example]:
    import pyarrow.compute as pc

    own, other = ("", "shadow_") if side == "acting" else ("shadow_", "")
    rows = found.rows.filter(pc.and_(found.rows[f"{own}alarm"], pc.invert(found.rows[f"{other}alarm"])))
    rows = rows.sort_by([(f"{own}level", "descending"), ("vehicle", "ascending"), ("ts", "ascending")])
    chosen: dict[str, Example] = {}
    for row in rows.slice(0, LOOKED_AT).to_pylist():
        if row["vehicle"] not in chosen and len(chosen) < SHOWN:
            chosen[row["vehicle"]] = _example(row, side, found.labels)
    return list(chosen.values())


def _example(row: dict[str, Any], side: Side, labels: Sequence[Label]) -> Example:
    top = row["top_signals" if side == "acting" else "shadow_top_signals"] or []
    told = [one for one in labels if one.vehicle == row["vehicle"] and one.start <= row["ts"] <= one.end]
    return Example(
        vehicle=row["vehicle"],
        ts=row["ts"],
        alarms=side,
        level=round(row["level"], 4),
        shadow_level=round(row["shadow_level"], 4),
        signals=[signal["name"] for signal in top],
        label=max(told, key=lambda one: one.reported_at or 0).verdict if told else None,
    )
