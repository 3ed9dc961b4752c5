"""The decision log: what was decided about each reading, as Arrow; which of it is kept.

The columns are those of `docs/reference/decisions.md`. pyarrow is imported when a table is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.engine.model import Arm
from anomaly.engine.outcome import Decisions, Kind, Outcome
from anomaly.feedback.sampling import LONG_ALARM, SAMPLE, audited, drawn
from anomaly.fleet import Fleet
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.records import alert_id
from anomaly.telemetry.text import Coded, Text

TOP_SIGNALS = 3
LONG_ALARM_ROWS = 100
"""So many rows of an episode are always kept; after that one a minute, in cycles one in ten."""
_LONGEST_SAME = 65_536
_KINDS = tuple(kind.label for kind in Kind)


@cache
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


class Kept(NamedTuple):
    """Decisions that are kept, as columns: m rows, of which `wrong` (ascending) have a kind.

    `decisions` are theirs, `signals` int64 and `share` float32 [len(wrong), top] the largest shares, 0 where none.
    """

    vehicles: Text
    region: Coded
    ts: NDArray[np.int64]
    offsets: NDArray[np.int64]
    decisions: Decisions
    wrong: NDArray[np.int64]
    signals: NDArray[np.int64]
    share: NDArray[np.float32]


def kept(outcome: Outcome, batch: Batch, rows: NDArray[np.int64] | None = None) -> Kept:
    """The decisions of `batch` at `rows`, ascending positions among its decisions as `keep` gives them, None: all."""
    decisions = outcome.decisions if rows is None else outcome.decisions.take(rows)
    place, wrong = decisions.row, decisions.kind.nonzero()[0]
    signals, share = _no_shares(outcome.evidence.share.shape[1])
    if len(wrong):
        shares = outcome.evidence.share[np.searchsorted(outcome.evidence.row, place[wrong])]
        signals = np.argsort(-shares, axis=1, kind="stable")[:, :TOP_SIGNALS]
        share = np.take_along_axis(shares, signals, axis=1)
    region = batch.context.get("region") or Coded.nothing(len(batch))
    if len(place) == len(batch):
        return Kept(batch.vehicles.spelled(), region, batch.ts, batch.offsets, decisions, wrong, signals, share)
    vehicles = batch.vehicles.take(place).spelled()
    return Kept(vehicles, region.take(place), batch.ts[place], batch.offsets[place], decisions, wrong, signals, share)


@cache
def _no_shares(signals: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Those of no row."""
    top = min(TOP_SIGNALS, signals)
    return np.zeros((0, top), np.int64), np.zeros((0, top), np.float32)


def joined(parts: Sequence[Kept]) -> Kept:
    """All rows of `parts`, one after the other."""
    if len(parts) == 1:
        return parts[0]
    first = np.cumsum([0, *(len(part.ts) for part in parts)])
    return Kept(
        Text.concatenated([part.vehicles for part in parts]),
        Coded.concatenated([part.region for part in parts]),
        np.concatenate([part.ts for part in parts]),
        np.concatenate([part.offsets for part in parts]),
        Decisions.concatenated([part.decisions for part in parts]),
        np.concatenate([part.wrong + start for part, start in zip(parts, first.tolist(), strict=False)]),
        np.concatenate([part.signals for part in parts]),
        np.concatenate([part.share for part in parts]),
    )


def table_of(rows: Kept, arms: Sequence[Arm], fleet: Fleet, partition: int | None) -> Any:
    """A table of `schema()` in the order of the rows. `partition` is null, and the offset with it, where it is None.

    `episode` and `top_signals` (at most three) are filled where `kind` is. The columns are the arrays of the rows
    themselves, and pieces of ready ones where a column says the same in every row.
    """
    import pyarrow as pa

    decisions, count = rows.decisions, len(rows.ts)
    arm, any_wrong = decisions.arm, len(rows.wrong) > 0
    audit = audited(fleet, rows.vehicles.crc32(), rows.ts)
    arrays = [
        rows.vehicles.arrow(),
        _plain("ts", rows.ts),
        _plain("score", decisions.score),
        _plain("threshold", decisions.threshold),
        _plain("level", decisions.level),
        _plain("warm", decisions.warm),
        _bits(decisions.alarm),
        _words(decisions.kind, _KINDS) if any_wrong else _same("kind", "", count),
        _plain("kinds", decisions.kinds),
        _episodes(rows) if any_wrong else _same("episode", None, count),
        top_signals(count, rows.wrong, rows.signals, rows.share, list(fleet.signals))
        if any_wrong
        else _same("top_signals", (), count),
        _of_arm("model", [each.model.name for each in arms], arm),
        _of_arm("arm", [each.name for each in arms], arm),
        _of_arm("arm_propensity", [each.propensity for each in arms], arm),
        _bits(audit),
        _same("audit_propensity", fleet.log.audit, count),
        rows.region.arrow(),
        _same("partition", partition, count),
        _same("offset", None, count) if partition is None else _plain("offset", rows.offsets),
    ]
    return pa.Table.from_arrays(arrays, schema=schema())


def decision_table(
    outcome: Outcome,
    batch: Batch,
    arms: Sequence[Arm],
    fleet: Fleet,
    partition: int | None,
    rows: NDArray[np.int64] | None = None,
) -> Any:
    """The decisions of `batch`, of `rows` or all, as a table of `schema()` in arrival order; see `kept`, `table_of`."""
    return table_of(kept(outcome, batch, rows), arms, fleet, partition)


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
    kept |= audited(fleet, hashes, ts)
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


def _plain(name: str, values: NDArray[Any]) -> Any:
    """A column that is the memory of `values`."""
    import pyarrow as pa

    kind = _kind(name)
    data = pa.py_buffer(np.ascontiguousarray(values, kind.to_pandas_dtype()))
    return pa.Array.from_buffers(kind, len(values), [None, data], 0)


def _bits(values: NDArray[np.bool_]) -> Any:
    import pyarrow as pa

    packed = pa.py_buffer(np.packbits(values, bitorder="little"))
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, packed], 0)


@cache
def _kind(name: str) -> Any:
    """The type of a column."""
    return schema().field(name).type


def _same(name: str, value: Any, count: int) -> Any:
    """A column that says `value` in every row."""
    return _filled(name, value, count) if count > _LONGEST_SAME else _piece(name, value, count)


@lru_cache(maxsize=256)
def _piece(name: str, value: Any, count: int) -> Any:
    """The first `count` rows of a longer one: columns of different lengths share it."""
    return _ready(name, value, max(1_024, 1 << (count - 1).bit_length())).slice(0, count)


@lru_cache(maxsize=128)
def _ready(name: str, value: Any, count: int) -> Any:
    return _filled(name, value, count)


def _filled(name: str, value: Any, count: int) -> Any:
    import pyarrow as pa

    kind = _kind(name)
    if not pa.types.is_dictionary(kind):
        return pa.repeat(pa.scalar(value, kind), count)
    return pa.DictionaryArray.from_arrays(np.zeros(count, np.int32), pa.array([value], pa.string()))


def _of_arm(name: str, values: Sequence[Any], arm: NDArray[np.int16]) -> Any:
    """A column that says of each row what its arm has."""
    if len(set(values)) == 1:
        return _same(name, values[0], len(arm))
    if isinstance(values[0], str):
        return _words(arm, values)
    return _plain(name, np.array(values, np.float64)[arm])


def _words(codes: NDArray[Any], words: Sequence[str]) -> Any:
    """A dictionary array; words that are there twice become one."""
    import pyarrow as pa

    place, distinct = _coded(tuple(words))
    return pa.DictionaryArray.from_arrays(place[codes], distinct)


@lru_cache(maxsize=64)
def _coded(words: tuple[str, ...]) -> tuple[NDArray[np.int32], Any]:
    import pyarrow as pa

    distinct = {word: number for number, word in enumerate(dict.fromkeys(words))}
    return np.array([distinct[word] for word in words], np.int32), pa.array(list(distinct), pa.string())


def _episodes(rows: Kept) -> Any:
    import pyarrow as pa

    count, wrong, decisions = len(rows.ts), rows.wrong, rows.decisions
    kinds, starts = decisions.kind[wrong].tolist(), decisions.episode_start[wrong].tolist()
    keys = list(zip(rows.vehicles.take(wrong).tolist(), kinds, starts, strict=True))
    ids = {key: alert_id({"vehicle": key[0]}, Kind(key[1]).label, key[2]) for key in dict.fromkeys(keys)}
    place = np.zeros(count, np.int64)
    place[wrong] = np.arange(1, len(wrong) + 1)
    return pa.array([None, *(ids[key] for key in keys)], pa.string()).take(pa.array(place))


def top_signals(
    count: int, wrong: NDArray[np.int64], signals: NDArray[np.int64], share: NDArray[np.float32], names: Sequence[str]
) -> Any:
    """list<struct<name, share>> of the largest shares above 0, empty but in the rows `wrong` of `count`.

    `signals` and `share` [len(wrong), top] are theirs, the largest first.
    """
    import pyarrow as pa

    named = share > 0
    lengths = np.zeros(count, np.int64)
    lengths[wrong] = named.sum(axis=1)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    values = pa.StructArray.from_arrays(
        [pa.array(names, pa.string()).take(pa.array(signals[named])), pa.array(share[named], pa.float32())],
        ["name", "share"],
    )
    return pa.ListArray.from_arrays(offsets, values)
