"""Features as live decisions were made from them, beside those computed again from a past: there is no difference."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from anomaly.engine.outcome import Outcome
from anomaly.errors import DataError
from anomaly.feedback import features
from anomaly.fleet import Fleet
from anomaly.service.replay import Player, Run, by_partition, stores
from anomaly.service.rows import FEATURES, read_archive, read_log
from anomaly.service.stored import partition_of_store
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.files import read_history

SHOWN = 10


class Unequal(msgspec.Struct, frozen=True, kw_only=True):
    """A row whose features came out otherwise; `signals` are those of its columns that differ, none: it is on one
    side only."""

    vehicle: str
    ts: int
    signals: list[str]


class Parity(msgspec.Struct, frozen=True, kw_only=True):
    """How many logged rows were compared, how many differ, how often by signal, and the first of them."""

    compared: int
    differing: int
    signals: dict[str, int]
    first: list[Unequal]


class Recomputed(NamedTuple):
    """Features of kept rows, with where they belong."""

    keys: list[tuple[str, int]]
    values: NDArray[np.float32]


def parity(fleet: Fleet, run: Run, data: Path | None = None) -> Parity:
    """Compute the features of all logged rows again, from the run's archive or the history in `data`, and compare bits.

    A history in which a value is another one than it was live, such as a column that was filled in later, differs.
    DataError if the run logged no features.
    """
    table = read_log(run.folder, FEATURES, features.schema(), run.group)
    if not len(table):
        raise DataError(f"{run.folder / FEATURES} holds no row: `anomaly score` writes them; or give another --dir")
    live = dict(zip(_keys(table), _bits(table), strict=True))
    again: dict[tuple[str, int], NDArray[np.uint32]] = {}
    for part in _recomputed(fleet, run, data):
        again |= dict(zip(part.keys, part.values.view(np.uint32), strict=True))
    names = list(fleet.signals)
    found = []
    for key, bits in live.items():
        other = again.get(key)
        if other is None or len(other) != len(bits):
            found.append(Unequal(vehicle=key[0], ts=key[1], signals=[]))
        elif not np.array_equal(other, bits):
            columns = sorted({int(place) % len(names) for place in np.flatnonzero(other != bits)})
            found.append(Unequal(vehicle=key[0], ts=key[1], signals=[names[place] for place in columns]))
    counts = {name: sum(name in row.signals for row in found) for name in names}
    signals = {name: count for name, count in counts.items() if count}
    return Parity(compared=len(live), differing=len(found), signals=signals, first=found[:SHOWN])


def _keys(table: Any) -> list[tuple[str, int]]:
    return list(zip(table["vehicle"].to_pylist(), table["ts"].to_pylist(), strict=True))


def _bits(table: Any) -> list[NDArray[np.uint32]]:
    lists = table["features"].combine_chunks()
    values = lists.flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False).view(np.uint32)
    return np.split(values, np.cumsum(lists.value_lengths().to_numpy())[:-1])


def _recomputed(fleet: Fleet, run: Run, data: Path | None) -> Iterator[Recomputed]:
    parts: list[Recomputed] = []

    def watch(outcome: Outcome, batch: Batch, rows: NDArray[np.int64]) -> None:
        if outcome.features is not None and len(rows):
            place = outcome.decisions.row[rows]
            keys = list(zip(batch.vehicles.take(place).tolist(), batch.ts[place].tolist(), strict=True))
            parts.append(Recomputed(keys, outcome.features[place]))

    with tempfile.TemporaryDirectory() as scratch:
        players = {partition_of_store(path): Player(fleet, run, path, Path(scratch)) for path in stores(fleet, run)}
        for player in players.values():
            player.watch = watch
        if data is None:
            for partition, batch in by_partition(read_archive(run.folder, fleet, run.group), fleet):
                if partition in players:
                    players[partition].play(batch)
                    yield from parts
                    parts.clear()
            return
        batch = read_history(data, fleet)
        for player in players.values():
            player.play_rows(batch)
            yield from parts
            parts.clear()
