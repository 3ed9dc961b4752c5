"""Readings and decisions as Parquet files by region and day, and their way back.

A file appears whole or not at all: it is written aside, synced, and renamed. It counts once its name is recorded
in the partition's store; at a start, files of a partition that are not recorded are deleted.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from anomaly.disk import sync_folder
from anomaly.errors import FULL_DISK, DataError
from anomaly.fleet import Fleet
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.text import Coded

CYCLES_PER_DAY_FOLDER = 1_000
"""In cycles, which have no day, this many of them share a folder."""
ASIDE = ".aside"
MERGE_ROWS = 131_072
"""Rows that are in memory at once where files are made one."""


def reading_schema(fleet: Fleet) -> Any:
    """The pyarrow schema of the archive: who, when, signals, context, and where the reading came from."""
    import pyarrow as pa

    return pa.schema(
        [
            ("vehicle", pa.string()),
            ("ts", pa.int64()),
            *((name, pa.float32()) for name in fleet.columns),
            *((name, pa.dictionary(pa.int32(), pa.string())) for name in fleet.context_fields),
            ("partition", pa.int32()),
            ("offset", pa.int64()),
        ]
    )


def reading_table(batch: Batch, fleet: Fleet, partition: int) -> Any:
    """All readings of a batch, in arrival order; a missing value is NaN."""
    import pyarrow as pa

    nothing = Coded.nothing(len(batch))
    columns = [
        batch.vehicles.arrow(),
        batch.ts,
        *(batch.values[:, column] for column in range(len(fleet.columns))),
        *(batch.context.get(field, nothing).arrow() for field in fleet.context_fields),
        np.full(len(batch), partition, np.int32),
        batch.offsets,
    ]
    return pa.table(columns, schema=reading_schema(fleet))


def reading_batch(table: Any, fleet: Fleet) -> Batch:
    """The readings of an archive table as a batch, in stable order of time; `offsets` are rows of that order."""
    ts = table["ts"].to_numpy()
    order = np.argsort(ts, kind="stable")
    table = table.take(order)
    values = np.column_stack([table[name].to_numpy() for name in fleet.columns])
    context = {field: table[field].to_pylist() for field in fleet.context_fields}
    return Batch.of(table["vehicle"].to_pylist(), ts[order], values.astype(np.float32), context, np.arange(len(order)))


def cut_name(partition: str, first_offset: int, last_offset: int, epoch: int) -> str:
    """The name of one cut's files: no two cuts share it, and it tells which partition of which topic it is of.

    >>> cut_name("turbofan.telemetry-3", 100, 2500, 7)
    'turbofan.telemetry-3@100-2500-7'
    """
    return f"{partition}@{first_offset}-{last_offset}-{epoch}"


def write_cut(table: Any, folder: Path, fleet: Fleet, name: str) -> list[str]:
    """Write `table` (with `ts` and `region`) as `region=R/day=D/NAME.parquet` below `folder`; answers those paths.

    Rows keep their order. R is the row's region, percent-encoded, or `none`; D the UTC day, in cycles ts // 1000.
    Raises DataError if there is no room; nothing that was written so far counts before it is recorded.
    """
    paths = []
    for place, rows in _places(table, fleet):
        path = folder / place / f"{name}.parquet"
        write_table(table if len(rows) == len(table) else table.take(rows), path)
        paths.append(path.relative_to(folder).as_posix())
    return paths


def write_table(table: Any, path: Path) -> None:
    """Write one Parquet file (zstd), whole or not at all. Raises DataError if it cannot be written."""
    import pyarrow.parquet as pq

    aside = path.with_name(path.name + ASIDE)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            pq.write_table(table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        aside.unlink(missing_ok=True)
        full = error.errno in FULL_DISK
        advice = "make room and start again" if full else "give a place that can"
        raise DataError(f"{path} cannot be written: {error.strerror or error}; {advice}") from error


def merge_tables(paths: Sequence[Path], target: Path) -> None:
    """Write the rows of `paths`, one file after the other, as one file `target`, whole or not at all.

    Few rows are in memory at a time. Raises DataError if a file cannot be read, or there is no room.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    aside = target.with_name(target.name + ASIDE)
    try:
        schema = pa.unify_schemas([pq.ParquetFile(path).schema_arrow.remove_metadata() for path in paths])
        with aside.open("wb") as file:
            with pq.ParquetWriter(file, schema, compression="zstd") as writer:
                for path in paths:
                    for batch in pq.ParquetFile(path).iter_batches(MERGE_ROWS):
                        writer.write_table(_fitted(pa.Table.from_batches([batch]), schema))
            file.flush()
            os.fsync(file.fileno())
        aside.replace(target)
        sync_folder(target.parent)
    except (OSError, pa.ArrowException) as error:
        aside.unlink(missing_ok=True)
        raise DataError(f"{target} cannot be written: {error}; make room and start again") from error


def delete_unrecorded(folder: Path, partition: str, recorded: Collection[str]) -> list[str]:
    """Delete what `partition` left below `folder` that is not among its `recorded` paths; answers which.

    `partition` is what `cut_name` was given; files of others stay, whoever writes them.
    """
    deleted = []
    for path in sorted(folder.rglob("*.parquet*")):
        relative = path.relative_to(folder).as_posix()
        if path.name.startswith(f"{partition}@") and relative not in recorded:
            path.unlink(missing_ok=True)
            deleted.append(relative)
    return deleted


def read_table(folder: Path, schema: Any, recorded: Iterable[str] | None = None, extra: Iterable[Any] = ()) -> Any:
    """All rows below `folder`, of the `recorded` paths or of every finished file, then those of the `extra` tables.

    `extra` are the rows that the partitions' stores still hold. A column that an older file lacks is null, one
    that `schema` lacks is left out. Raises DataError for a file that is missing or cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = recorded if recorded is not None else finished_files(folder)
    tables = []
    for name in sorted(names):
        try:
            file = pq.ParquetFile(folder / name)
            table = file.read(columns=[column for column in schema.names if column in file.schema_arrow.names])
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{folder / name} cannot be read: {error}") from error
        tables.append(_fitted(table, schema))
    tables += [_fitted(table, schema) for table in extra]
    return pa.concat_tables(tables).unify_dictionaries() if tables else schema.empty_table()


def finished_files(folder: Path) -> list[str]:
    """Relative paths of all finished files below `folder`, sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet"))


def _fitted(table: Any, schema: Any) -> Any:
    import pyarrow as pa

    columns = [
        table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def _places(table: Any, fleet: Fleet) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """(folder, its rows in order) for each region and day of the table."""
    import pyarrow as pa

    regions = table["region"].cast(pa.string()).combine_chunks().dictionary_encode()
    if isinstance(regions, pa.ChunkedArray):
        regions = regions.combine_chunks()
    names = [_region(name) for name in [*regions.dictionary.to_pylist(), None]]
    alike = [name.casefold() for name in names]  # on some disks two such names are one folder
    first = np.array([alike.index(name) for name in alike])
    region = first[regions.indices.fill_null(len(names) - 1).to_numpy()]
    length = CYCLES_PER_DAY_FOLDER if fleet.fleet.time_unit == "cycles" else fleet.ticks_per_day
    day = table["ts"].to_numpy() // length
    order = np.lexsort((day, region))
    new = np.ones(len(order), np.bool_)
    new[1:] = (np.diff(region[order]) != 0) | (np.diff(day[order]) != 0)
    for rows in np.split(order, np.flatnonzero(new)[1:]):
        if len(rows):
            yield f"region={names[region[rows[0]]]}/day={_day(int(day[rows[0]]), fleet)}", rows


def _region(name: str | None) -> str:
    """A folder's name: no character of it can lead elsewhere, and a very long one is cut."""
    return quote(name or "none", safe="")[:120]


def _day(day: int, fleet: Fleet) -> str:
    return str(day) if fleet.fleet.time_unit == "cycles" else str(np.datetime64(day, "D"))
