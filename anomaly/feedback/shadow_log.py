"""The shadow log: what a model that is tried would have said beside the one that acts, as Arrow.

Two tables. `shadow` has a row for every compared decision in which either model alarms, and for the sampled share of
the rest; `shadow_days` counts all of them by vehicle and day, so that agreement is exact. The columns are those of
`docs/reference/decisions.md`. An alarm is one of kind `fault` on both sides: a shadow raises no other.

pyarrow is imported when a table is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.engine.model import Arm
from anomaly.engine.outcome import Decisions, Kind, Outcome, Shadows
from anomaly.feedback.decisions import TOP_SIGNALS, top_signals
from anomaly.feedback.history import Past
from anomaly.feedback.sampling import SAMPLE, drawn
from anomaly.fleet import Fleet
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.records import alert_id
from anomaly.telemetry.text import Coded, Text

Side = Literal["acting", "shadow"]
_KEYS = ("vehicle", "ts", "region", "arm", "model", "shadow_model", "partition")
_COUNTS = ("compared", "alarms", "shadow_alarms", "both")


@cache
def schema() -> Any:
    """The pyarrow schema of `shadow`; columns of the acting model are named as in the decision log."""
    import pyarrow as pa

    word, number = pa.dictionary(pa.int32(), pa.string()), pa.float32()
    top = pa.list_(pa.struct([("name", pa.string()), ("share", number)]))
    sides = [
        {
            f"{side}model": word,
            f"{side}score": number,
            f"{side}threshold": number,
            f"{side}level": number,
            f"{side}alarm": pa.bool_(),
            f"{side}top_signals": top,
        }
        for side in ("", "shadow_")
    ]
    first = {"vehicle": pa.string(), "ts": pa.int64(), "region": word, "arm": word}
    return pa.schema(first | sides[0] | sides[1] | {"partition": pa.int32(), "offset": pa.int64()})


@cache
def day_schema() -> Any:
    """The pyarrow schema of `shadow_days`: sums, in parts where a day has several rows; `ts` is the day's start."""
    import pyarrow as pa

    word = pa.dictionary(pa.int32(), pa.string())
    keys = {"vehicle": pa.string(), "ts": pa.int64(), "region": word, "arm": word, "model": word, "shadow_model": word}
    return pa.schema(keys | {"partition": pa.int32()} | dict.fromkeys(_COUNTS, pa.int64()))


class Compared(NamedTuple):
    """Decisions of vehicles with a shadow, as columns: m rows, `alarm` being that of kind `fault` of the acting model.

    `signals` int64 and `share` float32, each for the acting and the shadow model, are [alarms of it, top]: the largest
    shares.
    """

    vehicles: Text
    region: Coded
    ts: NDArray[np.int64]
    offsets: NDArray[np.int64]
    decisions: Decisions
    alarm: NDArray[np.bool_]
    shadows: Shadows
    signals: tuple[NDArray[np.int64], NDArray[np.int64]]
    share: tuple[NDArray[np.float32], NDArray[np.float32]]


def compared(outcome: Outcome, batch: Batch) -> Compared:
    """All decisions of `batch` that a shadow model made too, in arrival order."""
    shadows = outcome.shadows
    decisions = outcome.decisions.take(np.searchsorted(outcome.decisions.row, shadows.row))
    alarm = (decisions.kinds >> Kind.FAULT & 1) > 0
    evidence = outcome.evidence
    shares = evidence.share[np.searchsorted(evidence.row, decisions.row[alarm])], shadows.share
    signals = [np.argsort(-share, axis=1, kind="stable")[:, :TOP_SIGNALS] for share in shares]
    largest = [np.take_along_axis(share, top, axis=1) for share, top in zip(shares, signals, strict=True)]
    region = batch.context.get("region") or Coded.nothing(len(batch))
    return Compared(
        batch.vehicles.take(shadows.row).spelled(),
        region.take(shadows.row),
        batch.ts[shadows.row],
        batch.offsets[shadows.row],
        decisions,
        alarm,
        shadows,
        (signals[0], signals[1]),
        (largest[0], largest[1]),
    )


def joined(parts: Sequence[Compared]) -> Compared:
    """All rows of `parts`, one after the other."""
    return Compared(
        Text.concatenated([part.vehicles for part in parts]),
        Coded.concatenated([part.region for part in parts]),
        np.concatenate([part.ts for part in parts]),
        np.concatenate([part.offsets for part in parts]),
        Decisions.concatenated([part.decisions for part in parts]),
        np.concatenate([part.alarm for part in parts]),
        Shadows(*(np.concatenate(column) for column in zip(*(part.shadows for part in parts), strict=True))),
        _both([part.signals for part in parts]),
        _both([part.share for part in parts]),
    )


def _both(parts: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> tuple[NDArray[Any], NDArray[Any]]:
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def shadow_table(rows: Compared, arms: Sequence[Arm], fleet: Fleet, partition: int) -> Any:
    """A table of `schema()` of those rows that are kept: each is decided from the row alone."""
    import pyarrow as pa

    kept = np.flatnonzero(_kept(rows, fleet))
    decisions, shadows, count = rows.decisions.take(kept), rows.shadows, len(kept)
    alarm, shadow_alarm = rows.alarm[kept], shadows.alarm[kept]
    score, threshold = shadows.score[kept], shadows.threshold[kept]
    names = list(fleet.signals)
    top = [
        top_signals(count, np.flatnonzero(hit), rows.signals[side], rows.share[side], names)
        for side, hit in enumerate((alarm, shadow_alarm))
    ]
    columns = {
        "vehicle": rows.vehicles.take(kept).arrow(),
        "ts": rows.ts[kept],
        "region": rows.region.take(kept).arrow(),
        "arm": _words([arm.name for arm in arms], decisions.arm),
        "model": _words([arm.model.name for arm in arms], decisions.arm),
        "score": decisions.score,
        "threshold": decisions.threshold,
        "level": decisions.level,
        "alarm": alarm,
        "top_signals": top[0],
        "shadow_model": _words(_shadow_names(arms), decisions.arm),
        "shadow_score": score,
        "shadow_threshold": threshold,
        "shadow_level": score / threshold,
        "shadow_alarm": shadow_alarm,
        "shadow_top_signals": top[1],
        "partition": np.full(count, partition, np.int32),
        "offset": rows.offsets[kept],
    }
    return pa.table(columns, schema=schema())


def _kept(rows: Compared, fleet: Fleet) -> NDArray[np.bool_]:
    if fleet.log.decisions == "all":
        return np.ones(len(rows.ts), np.bool_)
    sampled = drawn(rows.vehicles.crc32(), rows.ts, fleet.log.sample, SAMPLE)
    return np.asarray(sampled | rows.alarm | rows.shadows.alarm)


def day_table(rows: Compared, arms: Sequence[Arm], fleet: Fleet, partition: int) -> Any:
    """The sums of all rows, a table of `day_schema()`."""
    import pyarrow as pa

    ticks = fleet.ticks_per_day
    columns = {
        "vehicle": rows.vehicles.arrow(),
        "ts": rows.ts // ticks * ticks,
        "region": rows.region.codes,
        "arm": rows.decisions.arm,
        "compared": np.ones(len(rows.ts), np.int64),
        "alarms": rows.alarm.astype(np.int64),
        "shadow_alarms": rows.shadows.alarm.astype(np.int64),
        "both": (rows.alarm & rows.shadows.alarm).astype(np.int64),
    }
    found = _sums(pa.table(columns), ["vehicle", "ts", "region", "arm"])
    arm = found["arm"].to_numpy()
    words = {
        "region": Coded(found["region"].to_numpy().astype(np.int32), rows.region.words).arrow(),
        "arm": _words([each.name for each in arms], arm),
        "model": _words([each.model.name for each in arms], arm),
        "shadow_model": _words(_shadow_names(arms), arm),
        "partition": np.full(len(found), partition, np.int32),
    }
    sums = {name: found[name].combine_chunks() for name in ("vehicle", "ts", *_COUNTS)}
    return pa.table({name: (words | sums)[name] for name in day_schema().names}, schema=day_schema())


def summed(days: Any) -> Any:
    """The rows of a table of `day_schema()` with those of the same vehicle, day and arm made one."""
    import pyarrow as pa

    words = ("region", "arm", "model", "shadow_model")
    for name in words:
        days = days.set_column(days.column_names.index(name), name, days[name].cast(pa.string()))
    return _sums(days, list(_KEYS)).select(day_schema().names).cast(day_schema())


def _sums(table: Any, keys: list[str]) -> Any:
    grouped = table.group_by(keys, use_threads=False).aggregate([(name, "sum") for name in _COUNTS])
    return grouped.rename_columns([name.removesuffix("_sum") for name in grouped.column_names])


def alarm_table(rows: Any, side: Side, past: Past, gap: int) -> Any:
    """The alarms that one side raised or would have raised, as decisions that `outcomes` takes, episodes made of them.

    `rows` are of `schema()`, `past` has all readings of their vehicles. An episode goes on while fewer than `gap`
    readings without alarm lie between two alarms.
    """
    import pyarrow as pa

    prefix = "" if side == "acting" else "shadow_"
    own = rows.filter(rows[f"{prefix}alarm"]).sort_by([("vehicle", "ascending"), ("ts", "ascending")])
    vehicles, ts = own["vehicle"].to_pylist(), own["ts"].to_numpy()
    starts = _starts(np.array(vehicles, object), ts, past, gap)
    episodes = {
        key: alert_id({"vehicle": key[0]}, Kind.FAULT.label, key[1])
        for key in dict.fromkeys(zip(vehicles, starts.tolist(), strict=True))
    }
    keys = zip(vehicles, starts.tolist(), strict=True)
    columns = {
        "vehicle": own["vehicle"],
        "ts": own["ts"],
        "alarm": own[f"{prefix}alarm"],
        "episode": pa.array([episodes[key] for key in keys], pa.string()),
        "kind": pa.array([Kind.FAULT.label] * len(own), pa.string()),
        "level": own[f"{prefix}level"],
        "model": own[f"{prefix}model"].cast(pa.string()),
        "arm": own["arm"].cast(pa.string()),
    }
    return pa.table(columns)


def _starts(vehicles: NDArray[np.object_], ts: NDArray[np.int64], past: Past, gap: int) -> NDArray[np.int64]:
    """When the episode of each alarm began; alarms in order of vehicle and time."""
    starts = ts.copy()
    code = {name: number for number, name in enumerate(past.names)}
    order = np.lexsort((past.ts, past.codes))
    codes, times = past.codes[order], past.ts[order]
    edges = [0, *(np.flatnonzero(vehicles[1:] != vehicles[:-1]) + 1).tolist(), len(ts)]
    for first, last in pairwise(edges if len(ts) else []):
        number = code.get(vehicles[first], len(code))
        own = np.searchsorted(codes, [number, number + 1])
        readings = np.unique(times[own[0] : own[1]])
        place = np.searchsorted(readings, ts[first:last])
        new = np.append(True, np.diff(place) > gap)
        starts[first:last] = ts[first:last][np.flatnonzero(new)[np.cumsum(new) - 1]]
    return starts


def _shadow_names(arms: Sequence[Arm]) -> list[str]:
    return ["" if arm.shadow is None else arm.shadow.name for arm in arms]


def _words(words: Sequence[str], codes: NDArray[Any]) -> Any:
    """The word of each code, as a dictionary array without a word twice."""
    import pyarrow as pa

    distinct = {word: number for number, word in enumerate(dict.fromkeys(words))}
    place = np.array([distinct[word] for word in words], np.int32)
    return pa.DictionaryArray.from_arrays(place[codes], pa.array(list(distinct), pa.string()))
