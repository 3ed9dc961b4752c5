"""One row a vehicle, brought up to date by the day: what exposure there was, so that no look reads all of the past.

Sums are kept by vehicle and never by day: the variance between vehicles, which is most of it, is lost in sums by day
(days taken for units find a difference between equal arms in two experiments of three).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly.disk import replace_file
from anomaly.errors import DataError
from anomaly.experiments.active import read_eligible
from anomaly.experiments.assignment import arms_of, buckets, key, keys, read_salt
from anomaly.experiments.compare import Vehicles
from anomaly.experiments.file import Experiment
from anomaly.experiments.metrics import COUNTS
from anomaly.experiments.state import State

PRE_PERIOD_DAYS = 28
NEVER = np.iinfo(np.int64).max
"""When a vehicle entered that is in no arm."""
MASK_DAYS = 64


class Ledger:
    """The vehicles that sent a reading since the pre-period began; `day` is the last one that was counted.

    `days` and `pre_days` count vehicle-days with a reading after and before the vehicle entered, `recent` has a bit
    for each of the last 64 days, the last one lowest: 1 where it counted.
    """

    def __init__(self, experiment: Experiment, day: int) -> None:
        import pyarrow as pa

        self.experiment, self.day = experiment, day
        self.names: Any = pa.array([], pa.string())
        self.layer, self.own = np.zeros(0, np.int16), np.zeros(0, np.int16)
        self.days, self.pre_days = np.zeros(0, np.int32), np.zeros(0, np.int32)
        self.recent = np.zeros(0, np.uint64)
        self.fields: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self.names)

    def entered(self, state: State, folder: Path) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
        """Each vehicle's arm (-1: none) and the time of the first step of the ramp that it is in (NEVER: none)."""
        arm, since = np.full(len(self), -1, np.int8), np.full(len(self), NEVER)
        hashes: NDArray[np.uint64] | None = None
        for step in state.steps:
            now = arms_of(self.experiment, step.share, self.layer, self.own)
            eligible = read_eligible(folder, step.eligible)
            if eligible is not None:
                if hashes is None:
                    hashes = np.array([key(name) for name in self.names.to_pylist()], np.uint64)
                now = np.where(np.isin(hashes, eligible), now, np.int8(-1))
            new = (arm < 0) & (now >= 0)
            arm[new], since[new] = now[new], step.at
        return arm, since

    def count(self, day: int, seen: Any, since: NDArray[np.int64], ticks_per_day: int) -> None:
        """Count the vehicle-days of `day`, which follows the last one.

        `seen` is an Arrow table with a row a vehicle: `vehicle` and context fields (the last word of the day).
        `since` is what `entered` says of the vehicles that are here; a new one counts once it is asked again.
        A day counts for the experiment if the vehicle was in it from the day's beginning on.
        """
        import pyarrow.compute as pc

        place = pc.index_in(seen["vehicle"], value_set=self.names).fill_null(-1).to_numpy()
        known = place >= 0
        self.recent <<= np.uint64(1)
        rows = place[known]
        took_part = since[rows] <= day * ticks_per_day
        self.days[rows[took_part]] += 1
        self.recent[rows[took_part]] |= np.uint64(1)
        self.pre_days[rows[~took_part]] += 1
        self.day = day
        for name in self.fields:
            self.fields[name] = _updated(self.fields[name], rows, seen[name].filter(known))

    def welcome(self, seen: Any) -> None:
        """Take in the vehicles of `seen` that are not here yet, with nothing counted."""
        import pyarrow as pa
        import pyarrow.compute as pc

        new = seen.filter(pc.invert(pc.is_in(seen["vehicle"], value_set=self.names)))
        if not len(new):
            return
        names = new["vehicle"].combine_chunks() if isinstance(new["vehicle"], pa.ChunkedArray) else new["vehicle"]
        layer, own = buckets(keys(self.experiment, read_salt(self.experiment)), names.to_pylist())
        self.layer, self.own = np.concatenate([self.layer, layer]), np.concatenate([self.own, own])
        self.days, self.pre_days, self.recent = (
            np.concatenate([old, np.zeros(len(new), old.dtype)]) for old in (self.days, self.pre_days, self.recent)
        )
        words = {name: new[name].cast(pa.string()).combine_chunks() for name in new.column_names if name != "vehicle"}
        empty = pa.nulls(len(self), pa.string())
        self.fields = {name: pa.concat_arrays([self.fields.get(name, empty), column]) for name, column in words.items()}
        self.names = pa.concat_arrays([self.names, names])

    def mature_days(self, due_day: int) -> NDArray[np.int64]:
        """The days that counted up to and including `due_day`, at most 64 days ago."""
        young = min(max(self.day - due_day, 0), MASK_DAYS)
        mask = np.uint64((1 << young) - 1)
        return np.asarray(self.days - np.bitwise_count(self.recent & mask), np.int64)

    def vehicles(self, arm: NDArray[np.int8], due_day: int, told: Mapping[str, NDArray[np.float64]]) -> Vehicles:
        """The rows of a comparison: these counts beside `told`, sums of labels and alerts in this order of vehicles.

        `told` has the columns of `metrics.COUNTS` that are not counted here, `pre_alerts`, `first_fault` and
        `first_detected`. Vehicles that sent nothing since they entered are in no arm.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            rate = np.where(self.pre_days > 0, told["pre_alerts"] / self.pre_days, np.nan)
        own = {"days": self.days.astype(np.float64), "mature_days": self.mature_days(due_day).astype(np.float64)}
        sums = {name: own[name] if name in own else told[name] for name in COUNTS}
        sums |= {"pre_rate": rate, "first_fault": told["first_fault"], "first_detected": told["first_detected"]}
        fields = {name: _coded(column) for name, column in self.fields.items()}
        return Vehicles(self.names, np.where(self.days > 0, arm, np.int8(-1)), sums, fields)

    def write(self, path: Path) -> None:
        """Replace the file whole. Raises DataError if it cannot be written."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = {name: getattr(self, name) for name in ("layer", "own", "days", "pre_days", "recent")}
        columns |= {f"field:{name}": column for name, column in self.fields.items()}
        meta = {"day": str(self.day), "digest": self.experiment.digest()}
        table = pa.table({"vehicle": self.names, **columns}).replace_schema_metadata(meta)
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        try:
            replace_file(path, sink.getvalue().to_pybytes())
        except OSError as error:
            raise DataError(f"{path} cannot be written: {error.strerror}") from error


def read_ledger(path: Path, experiment: Experiment) -> Ledger | None:
    """The ledger of this revision; None if there is none, or only one of another revision or that cannot be read.

    It holds nothing that the run's log does not: one that is lost is counted again.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException):
        return None
    meta = table.schema.metadata or {}
    if meta.get(b"digest", b"").decode() != experiment.digest():
        return None
    ledger = Ledger(experiment, int(meta[b"day"]))
    ledger.names = table["vehicle"].combine_chunks()
    for name in ("layer", "own", "days", "pre_days", "recent"):
        setattr(ledger, name, table[name].to_numpy().copy())
    named = [name for name in table.column_names if name.startswith("field:")]
    ledger.fields = {name.removeprefix("field:"): table[name].combine_chunks() for name in named}
    return ledger


def _updated(column: Any, rows: NDArray[np.int64], words: Any) -> Any:
    """`column` with `words` in `rows`, where there is a word."""
    import pyarrow as pa
    import pyarrow.compute as pc

    words = words.cast(pa.string())
    words = words.combine_chunks() if isinstance(words, pa.ChunkedArray) else words
    known = pc.is_valid(words).to_numpy(zero_copy_only=False)
    changed = np.zeros(len(column), np.bool_)
    changed[rows[known]] = True
    order = np.argsort(rows[known], kind="stable")
    return pc.replace_with_mask(column, pa.array(changed), words.filter(pa.array(known)).take(pa.array(order)))


def _coded(column: Any) -> tuple[NDArray[np.int64], Sequence[str]]:
    coded = column.dictionary_encode()
    words = coded.dictionary.to_pylist()
    codes = coded.indices.fill_null(-1).to_numpy().astype(np.int64)
    order = np.argsort(np.array(words, object).astype(str)) if words else np.zeros(0, np.int64)
    rank = np.append(np.argsort(order), -1)
    return rank[codes], [words[place] for place in order]
