"""What became of alerts and faults: decisions joined with the labels that were known at a cutoff.

pyarrow is imported when tables are made.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from anomaly.engine.events import Event
from anomaly.feedback.archive import write_table
from anomaly.feedback.history import Past, Stretch, stretches
from anomaly.feedback.labels import CONFIRMED, as_of
from anomaly.fleet import Fleet
from anomaly.telemetry.records import Label

CONFIRMED_STATE, FALSE_ALARM, MISSED, UNLABELLED, IMMATURE = (
    "confirmed",
    "false_alarm",
    "missed",
    "unlabelled",
    "immature",
)
NOT_A_FAULT = frozenset({"no_fault", "normal_since"})


class Told(NamedTuple):
    """What is known of a past beside its decisions: the readings' times, labels, restarts of baselines."""

    past: Past
    labels: Sequence[Label]
    restarts: Sequence[Event]


class Moment(NamedTuple):
    """When is asked: nothing after `cutoff` is used, and an alert is mature `label_delay` ticks after its end."""

    cutoff: int
    label_delay: int


class Outcomes(NamedTuple):
    """Two Arrow tables.

    `episodes`, a row an alert: vehicle, episode, kind, start, end, level, count, model, arm, state.
    `faults`, a row a confirmed fault: vehicle, start, end, state, first_alarm (after the healthy part), lead.
    """

    episodes: Any
    faults: Any

    def replacing(self, before: Outcomes, vehicles: Collection[str]) -> Outcomes:
        """These, which are of `vehicles`, and of `before` those of all others."""
        return Outcomes(*(_merged(new, old, vehicles) for new, old in zip(self, before, strict=True)))


def _merged(new: Any, old: Any, vehicles: Collection[str]) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    kept = old.filter(pc.invert(pc.is_in(old["vehicle"], pa.array(sorted(vehicles), pa.string()))))
    order = [(name, "ascending") for name in ("vehicle", "start", "episode") if name in new.column_names]
    return pa.concat_tables([kept, new]).sort_by(order)


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A record of what became of an alert: its new state at time `at`, and the one before, empty where it is new.

    `source` and `label` are who answered and what, where somebody did; `config` is the digest of the fleet file.
    """

    at: int
    alert: str
    vehicle: str
    state: str
    before: str
    model: str
    arm: str
    config: str
    source: str | None = None
    label: str | None = None


def changes(before: Outcomes | None, after: Outcomes, labels: Sequence[Label], at: int, config: str) -> list[Change]:
    """What to write down of the episodes whose state is another one than it was before."""
    known = {} if before is None else _states(before)
    said: dict[str, list[Label]] = defaultdict(list)
    for label in labels:
        said[label.vehicle].append(label)
    found = []
    for row in after.episodes.select(["episode", "vehicle", "start", "end", "state", "model", "arm"]).to_pylist():
        previous = known.get(row["episode"], "")
        if previous == row["state"]:
            continue
        answers = [label for label in said[row["vehicle"]] if _answers(label, row)]
        last = max(answers, key=lambda label: label.reported_at or 0, default=None)
        found.append(
            Change(
                at=at,
                alert=row["episode"],
                vehicle=row["vehicle"],
                state=row["state"],
                before=previous,
                model=row["model"],
                arm=row["arm"],
                config=config,
                source=last.source if last else None,
                label=last.verdict if last else None,
            )
        )
    return found


def _states(found: Outcomes) -> dict[str, str]:
    return dict(zip(found.episodes["episode"].to_pylist(), found.episodes["state"].to_pylist(), strict=True))


def _answers(label: Label, episode: Mapping[str, Any]) -> bool:
    """Whether a label of its vehicle is about an episode: by the alert's id, or by its window."""
    return bool(label.alert == episode["episode"] or (label.start <= episode["end"] and label.end >= episode["start"]))


def outcomes(decisions: Any, told: Told, fleet: Fleet, moment: Moment) -> Outcomes:
    """Join `decisions` (all alarm rows, as the log keeps them) with what was known at the moment.

    An episode is `confirmed` if it meets a fault, or the stretch of unknown health before one; `false_alarm` if a
    label `no_fault` or `normal_since` answers it or it lies in the healthy part of a way into a fault;
    `immature` while its labels may still come, or one says `unknown`; else `unlabelled`. A fault is `confirmed`
    if an alarm came inside it, at least `detected_before` readings before its end, else `missed`. `lead` counts
    ticks from the first alarm after the healthy part to the fault's end, 0 for a fault that was missed.
    """
    labels = as_of(told.labels, moment.cutoff)
    seen = told.past.ts <= moment.cutoff
    past = Past(told.past.names, told.past.codes[seen], told.past.ts[seen])
    restarts = [restart for restart in told.restarts if restart.ts <= moment.cutoff]
    faults: dict[str, list[Stretch]] = defaultdict(list)
    for stretch in stretches(past, labels, restarts, fleet.history):
        faults[stretch.vehicle].append(stretch)
    said: dict[str, list[Label]] = defaultdict(list)
    for label in labels:
        said[label.vehicle].append(label)
    alarms = _alarms(decisions, moment.cutoff)
    episodes = _episodes(alarms)
    states = [_state(episode, faults[episode["vehicle"]], said[episode["vehicle"]], moment) for episode in episodes]
    return Outcomes(_episode_table(episodes, states), _fault_table(faults, alarms, episodes))


def write_outcomes(found: Outcomes, folder: Path) -> None:
    """Write `episodes.parquet` and `faults.parquet` into `folder`, each replaced whole."""
    write_table(found.episodes, folder / "episodes.parquet")
    write_table(found.faults, folder / "faults.parquet")


def read_outcomes(folder: Path) -> Outcomes | None:
    """What `write_outcomes` wrote, None if it did not."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        tables = [pq.ParquetFile(folder / f"{name}.parquet").read() for name in Outcomes._fields]
    except (OSError, pa.ArrowException):
        return None
    return Outcomes(*tables)


def vehicle_table(found: Outcomes, past: Past, fleet: Fleet, since: Mapping[str, int], moment: Moment) -> Any:
    """One row a vehicle of `since` that sent a reading, for comparisons that count vehicles; in order of name.

    A vehicle is looked at from its `since` to the cutoff: `days` (vehicle-days with a reading) and `alerts`. What
    needs labels is looked at only as far as they were due: `mature_days`, `false_alarms`, `faults`, `detected`,
    `lead_days` (the sum over its faults). Alerts count by their start, faults by their end. A false alarm is an
    alert that is answered so, or that nobody confirmed.
    """
    import pyarrow as pa

    due = moment.cutoff - moment.label_delay
    first = np.array([since.get(name, moment.cutoff + 1) for name in past.names], np.int64)[past.codes]
    days = _days(past, fleet, (past.ts >= first) & (past.ts <= moment.cutoff))
    mature_days = _days(past, fleet, (past.ts >= first) & (past.ts <= due))
    names = sorted(past.names[code] for code in days)
    counts = {name: dict.fromkeys(names, 0.0) for name in _COUNTS}
    for code, name in enumerate(past.names):
        if name in counts["days"]:
            counts["days"][name], counts["mature_days"][name] = days[code], mature_days.get(code, 0)
    for episode in found.episodes.select(["vehicle", "start", "state"]).to_pylist():
        name = episode["vehicle"]
        if name in counts["days"] and since[name] <= episode["start"]:
            counts["alerts"][name] += 1
            wrong = episode["start"] <= due and episode["state"] in (FALSE_ALARM, UNLABELLED)
            counts["false_alarms"][name] += wrong
    for fault in found.faults.to_pylist():
        name = fault["vehicle"]
        if name in counts["days"] and since[name] <= fault["end"] <= due:
            counts["faults"][name] += 1
            counts["detected"][name] += fault["state"] == CONFIRMED_STATE
            counts["lead_days"][name] += fault["lead"] / fleet.ticks_per_day
    columns = {name: list(column.values()) for name, column in counts.items()}
    return pa.table({"vehicle": pa.array(names, pa.string()), **columns})


_COUNTS = ("days", "mature_days", "alerts", "false_alarms", "faults", "detected", "lead_days")


def _days(past: Past, fleet: Fleet, chosen: NDArray[np.bool_]) -> dict[int, int]:
    """Vehicle-days with a chosen reading, by vehicle code."""
    code, day = past.codes[chosen], past.ts[chosen] // fleet.ticks_per_day
    order = np.lexsort((day, code))
    new = np.ones(len(order), np.bool_)
    new[1:] = (np.diff(code[order]) != 0) | (np.diff(day[order]) != 0)
    codes, days = np.unique(code[order][new], return_counts=True)
    return dict(zip(codes.tolist(), days.tolist(), strict=True))


def _alarms(decisions: Any, cutoff: int) -> Any:
    """The alarm rows up to the cutoff with the columns that an outcome needs, words as text, in order of time."""
    import pyarrow as pa
    import pyarrow.compute as pc

    chosen = pc.and_(decisions["alarm"], pc.less_equal(decisions["ts"], cutoff))
    table = decisions.filter(chosen).select(["vehicle", "ts", "episode", "kind", "level", "model", "arm"])
    for name in ("kind", "model", "arm"):
        table = table.set_column(table.column_names.index(name), name, table[name].cast(pa.string()))
    return table.sort_by([("ts", "ascending"), ("vehicle", "ascending")])


def _episodes(alarms: Any) -> list[dict[str, Any]]:
    """One dict an episode, in order of vehicle and time; model and arm are those of its first alarm."""
    grouped = alarms.group_by("episode", use_threads=False).aggregate(
        [
            *((name, "first") for name in ("vehicle", "kind", "model", "arm")),
            ("ts", "min"),
            ("ts", "max"),
            ("level", "max"),
            ("ts", "count"),
        ]
    )
    names = {"ts_min": "start", "ts_max": "end", "ts_count": "count", "level_max": "level"}
    plain = grouped.rename_columns([names.get(name, name.removesuffix("_first")) for name in grouped.column_names])
    rows: list[dict[str, Any]] = plain.to_pylist()
    return sorted(rows, key=lambda row: (row["vehicle"], row["start"], row["episode"]))


def _state(episode: Mapping[str, Any], faults: Sequence[Stretch], labels: Sequence[Label], moment: Moment) -> str:
    start, end = episode["start"], episode["end"]
    answers = {label.verdict for label in labels if _answers(label, episode)}
    if answers & CONFIRMED or any(fault.unknown <= end and start <= fault.end for fault in faults):
        return CONFIRMED_STATE
    if answers & NOT_A_FAULT or any(fault.begin <= start and end < fault.unknown for fault in faults):
        return FALSE_ALARM
    if "unknown" in answers or moment.cutoff - end < moment.label_delay:
        return IMMATURE
    return UNLABELLED


def _episode_table(episodes: list[dict[str, Any]], states: list[str]) -> Any:
    import pyarrow as pa

    text, whole = pa.string(), pa.int64()
    schema = pa.schema(
        {
            "vehicle": text,
            "episode": text,
            "kind": text,
            "start": whole,
            "end": whole,
            "level": pa.float32(),
            "count": whole,
            "model": text,
            "arm": text,
            "state": text,
        }
    )
    rows = [{**episode, "state": state} for episode, state in zip(episodes, states, strict=True)]
    return pa.Table.from_pylist(rows, schema=schema)


def _fault_table(faults: Mapping[str, list[Stretch]], alarms: Any, episodes: Sequence[Mapping[str, Any]]) -> Any:
    import pyarrow as pa

    times: dict[str, list[int]] = defaultdict(list)
    for vehicle, ts in zip(alarms["vehicle"].to_pylist(), alarms["ts"].to_pylist(), strict=True):
        if vehicle in faults:
            times[vehicle].append(ts)
    spans: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for episode in episodes:
        spans[episode["vehicle"]].append((episode["start"], episode["end"]))
    rows = [
        _fault_row(fault, np.array(times[vehicle], np.int64), spans[vehicle])
        for vehicle in sorted(faults)
        for fault in faults[vehicle]
    ]
    whole = pa.int64()
    schema = pa.schema(
        {
            "vehicle": pa.string(),
            "start": whole,
            "end": whole,
            "state": pa.string(),
            "first_alarm": whole,
            "lead": whole,
        }
    )
    return pa.Table.from_pylist(rows, schema=schema)


def _fault_row(fault: Stretch, alarms: NDArray[np.int64], spans: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """An episode that goes on all through the time that counts is an alarm in it: the log thins a long one."""
    inside = bool(np.any((alarms >= fault.start) & (alarms <= fault.latest)))
    through = any(first < fault.start and last > fault.latest for first, last in spans)
    detected = inside or (through and fault.latest >= fault.start)
    after = alarms[(alarms >= fault.unknown) & (alarms <= fault.end)]
    first = int(after[0]) if len(after) else None
    return {
        "vehicle": fault.vehicle,
        "start": fault.start,
        "end": fault.end,
        "state": CONFIRMED_STATE if detected else MISSED,
        "first_alarm": first,
        "lead": fault.end - first if detected and first is not None else 0,
    }
