"""The decision log: what was decided about each reading, as Arrow; which of it is kept.

The columns are those of `docs/reference/decisions.md`. pyarrow is imported when a table is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly.engine.model import Arm
from anomaly.engine.outcome import Evidence, Kind, Outcome
from anomaly.feedback.sampling import AUDIT, LONG_ALARM, SAMPLE, drawn
from anomaly.fleet import Fleet
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.records import alert_id
from anomaly.telemetry.text import Coded, Text

TOP_SIGNALS = 3
LONG_ALARM_ROWS = 100
"""So many rows of an episode are always kept; after that one a minute, in cycles one in ten."""


def schema() -> Any:
    """The pyarrow schema of decisions."""
    import pyarrow as pa

    word = pa.dictionary(pa.int32(), pa.string())
    top = pa.struct([("name", pa.string()), ("share", pa.float32())])
    return pa.schema(
        {
            "vehicle": pa.string(),
            "ts": pa.int64(),
            "score": pa.float32(),
            "threshold": pa.float32(),
            "level": pa.float32(),
            "warm": pa.float32(),
            "alarm": pa.bool_(),
            "kind": word,
            "kinds": pa.uint16(),
            "episode": pa.string(),
            "top_signals": pa.list_(top),
            "model": word,
            "arm": word,
            "arm_propensity": pa.float64(),
            "audit": pa.bool_(),
            "audit_propensity": pa.float64(),
            "region": word,
            "partition": pa.int32(),
            "offset": pa.int64(),
        }
    )


def decision_table(
    outcome: Outcome,
    batch: Batch,
    arms: Sequence[Arm],
    fleet: Fleet,
    partition: int | None,
    rows: NDArray[np.int64] | None = None,
) -> Any:
    """The decisions of `batch` as a table of `schema()`, in arrival order.

    `rows` int64[m] are positions among the decisions (`keep` gives them), None: all. `partition` is null, and the
    offset with it, where it is None. `episode` and `top_signals` (at most three) are filled where `kind` is.
    """
    import pyarrow as pa

    decisions = outcome.decisions
    rows = np.arange(len(decisions.row)) if rows is None else rows
    place = decisions.row[rows]
    vehicles = batch.vehicles.take(place)
    ts, kind, arm = batch.ts[place], decisions.kind[rows], decisions.arm[rows]
    wrong = np.flatnonzero(kind)
    nothing = pa.nulls(len(rows), pa.int64())
    columns = [
        vehicles.arrow(),
        ts,
        decisions.score[rows],
        decisions.threshold[rows],
        decisions.level[rows],
        decisions.warm[rows],
        decisions.alarm[rows],
        _words(kind, [each.label for each in Kind]),
        decisions.kinds[rows],
        _episodes(vehicles, kind, decisions.episode_start[rows], wrong),
        _top_signals(outcome.evidence, place, wrong, list(fleet.signals)),
        _words(arm, [each.model.name for each in arms]),
        _words(arm, [each.name for each in arms]),
        np.array([each.propensity for each in arms], np.float64)[arm],
        drawn(vehicles.crc32(), ts // fleet.ticks_per_day, fleet.log.audit, AUDIT),
        np.full(len(rows), fleet.log.audit),
        _regions(batch, place),
        nothing.cast(pa.int32()) if partition is None else np.full(len(rows), partition, np.int32),
        nothing if partition is None else batch.offsets[place],
    ]
    return pa.table(columns, schema=schema())


def keep(outcome: Outcome, batch: Batch, fleet: Fleet) -> NDArray[np.int64]:
    """Positions among the decisions of `batch` that the fleet's `[log]` keeps, ascending: int64[m].

    Kept are rows with a kind (of an episode's rows beyond the 100th about one a minute, in cycles one in ten),
    vehicle-days that are audited, and a sample of the rest. Each is decided from the row alone.
    """
    decisions = outcome.decisions
    if fleet.log.decisions == "all":
        return np.arange(len(decisions.row))
    hashes, ts = batch.vehicles.take(decisions.row).crc32(), batch.ts[decisions.row]
    kept = drawn(hashes, ts, fleet.log.sample, SAMPLE)
    kept |= drawn(hashes, ts // fleet.ticks_per_day, fleet.log.audit, AUDIT)
    wrong = np.flatnonzero(decisions.kind)
    if len(wrong):
        kept[wrong] |= _of_episode(outcome, batch, fleet, wrong)
    return np.flatnonzero(kept)


def _of_episode(outcome: Outcome, batch: Batch, fleet: Fleet, wrong: NDArray[np.int64]) -> NDArray[np.bool_]:
    """The first rows of an episode; then with the probability that makes it one a minute, at its own pace."""
    decisions = outcome.decisions
    row, number = decisions.row[wrong], decisions.episode_count[wrong]
    first = number <= LONG_ALARM_ROWS
    if first.all():
        return np.asarray(first)
    if fleet.fleet.time_unit == "cycles":
        return np.asarray(first | (number % 10 == 0))
    elapsed = (batch.ts[row] - decisions.episode_start[wrong]).astype(np.float64)
    minutes = elapsed / (fleet.ticks_per_day / 1_440)
    hashes = batch.vehicles.take(row).crc32()
    return np.asarray(first | drawn(hashes, batch.ts[row], minutes / np.maximum(number - 1, 1), LONG_ALARM))


def _words(codes: NDArray[Any], words: Sequence[str]) -> Any:
    """A dictionary array; words that are there twice become one."""
    import pyarrow as pa

    distinct = list(dict.fromkeys(words))
    place = np.array([distinct.index(word) for word in words], np.int32)
    return pa.DictionaryArray.from_arrays(place[codes], pa.array(distinct, pa.string()))


def _regions(batch: Batch, place: NDArray[np.int64]) -> Any:
    regions = batch.context.get("region", Coded.nothing(len(batch)))
    return regions.take(place).arrow()


def _episodes(
    vehicles: Text, kind: NDArray[np.uint8], start: NDArray[np.int64], wrong: NDArray[np.int64]
) -> Any:
    import pyarrow as pa

    ids: dict[tuple[str, int, int], str] = {}
    keys = list(zip(vehicles.take(wrong).tolist(), kind[wrong].tolist(), start[wrong].tolist(), strict=True))
    for vehicle, code, begin in set(keys):
        ids[vehicle, code, begin] = alert_id({"vehicle": vehicle}, Kind(code).label, begin)
    place = np.zeros(len(vehicles), np.int64)
    place[wrong] = np.arange(1, len(wrong) + 1)
    return pa.array([None, *(ids[key] for key in keys)], pa.string()).take(pa.array(place))


def _top_signals(evidence: Evidence, place: NDArray[np.int64], wrong: NDArray[np.int64], names: Sequence[str]) -> Any:
    """list<struct<name, share>> of the largest shares above 0, empty where there is no alarm."""
    import pyarrow as pa

    share = evidence.share[np.searchsorted(evidence.row, place[wrong])]
    order = np.argsort(-share, axis=1, kind="stable")[:, :TOP_SIGNALS]
    top = np.take_along_axis(share, order, axis=1)
    named = top > 0
    lengths = np.zeros(len(place), np.int64)
    lengths[wrong] = named.sum(axis=1)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    values = pa.StructArray.from_arrays(
        [pa.array(names, pa.string()).take(pa.array(order[named])), pa.array(top[named], pa.float32())],
        ["name", "share"],
    )
    return pa.ListArray.from_arrays(offsets, values)
