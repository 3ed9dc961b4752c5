"""Rows of the decision log and the archive: gathered between checkpoints, kept in the store, cut into files."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from anomaly.engine.model import Arm
from anomaly.engine.outcome import Outcome
from anomaly.errors import DataError
from anomaly.feedback import archive, decisions, features, shadow_log
from anomaly.feedback.history import Past
from anomaly.feedback.silences import silence_table
from anomaly.fleet import Fleet
from anomaly.service.failpoints import failpoint
from anomaly.service.store import LostPartition, PartitionStore
from anomaly.service.stored import Rows, StoreReader, store_paths
from anomaly.telemetry.batch import Batch

DECISIONS, ARCHIVE, FEATURES = "decisions", "archive", "features"
SHADOW, SHADOW_DAYS = "shadow", "shadow_days"
LOGS = (DECISIONS, ARCHIVE, FEATURES, SHADOW, SHADOW_DAYS)


PIECE = 65_536
"""Readings after which what is to be logged of them is packed: a checkpoint then has little left to do."""

PORTION = 1 << 23
"""Bytes of rows after which a cut begins another file: unpacked they are a few times as many, and all in memory."""


class LogRows:
    """What one partition has to log since the last checkpoint: columns that become Arrow, piece by piece.

    `frame` is the digest of the frame that says what features mean.
    """

    def __init__(self, fleet: Fleet, partition: int, frame: str = "") -> None:
        self._frame = frame
        self._features: list[features.Logged] = []
        self._fleet = fleet
        self._partition = partition
        self._count = 0
        self._kept: list[decisions.Kept] = []
        self._readings: list[Batch] = []
        self._compared: list[shadow_log.Compared] = []
        self._arms: Sequence[Arm] = ()
        self._pieces: list[Rows] = []

    def add(self, outcome: Outcome, batch: Batch, arms: Sequence[Arm]) -> None:
        """Log the decisions that the fleet file keeps, and the readings if it keeps them."""
        if arms is not self._arms or self._count >= PIECE:
            self._pack()
            self._arms = arms
        rows = decisions.keep(outcome, batch, self._fleet)
        if len(rows):
            self._kept.append(decisions.kept(outcome, batch, rows))
            self._features.append(features.logged(outcome, batch, rows))
        if len(outcome.silences.row):
            table = silence_table(outcome.silences, arms, self._fleet, self._partition)
            self._pieces += [_packed(DECISIONS, table, int(batch.offsets[-1]))] if len(table) else []
        if len(outcome.shadows.row):
            self._compared.append(shadow_log.compared(outcome, batch))
        if self._fleet.log.archive == "all":
            self._readings.append(batch.spelled())
        self._count += len(batch)

    def _pack(self) -> None:
        """Arrow of what was added; what arms are called may change after it."""
        kept, readings, self._kept, self._readings, self._count = self._kept, self._readings, [], [], 0
        if kept:
            rows = decisions.joined(kept)
            self._pieces.append(_packed(DECISIONS, decisions.table_of(rows, self._arms, self._fleet, self._partition)))
            given, self._features = features.joined(self._features), []
            self._pieces.append(_packed(FEATURES, features.feature_table(given, self._frame, self._partition)))
        if readings:
            batch = Batch.concatenated(readings)
            self._pieces.append(_packed(ARCHIVE, archive.reading_table(batch, self._fleet, self._partition)))
        if self._compared:
            beside, self._compared = shadow_log.joined(self._compared), []
            tried = shadow_log.shadow_table(beside, self._arms, self._fleet, self._partition)
            days = shadow_log.day_table(beside, self._arms, self._fleet, self._partition)
            self._pieces += [_packed(SHADOW, tried)] if len(tried) else []
            self._pieces.append(_packed(SHADOW_DAYS, days, int(beside.offsets[-1])))

    def take(self) -> list[Rows]:
        """All that was added since the last call, in order, some entries for each log that has any."""
        self._pack()
        taken, self._pieces = self._pieces, []
        return taken


def _packed(name: str, table: Any, offset: int | None = None) -> Rows:
    """`offset` is that of the reading after which rows came that have none."""
    import pyarrow as pa

    first, last = (offset, offset) if offset is not None else (table["offset"][place].as_py() for place in (0, -1))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        writer.write_table(table)
    return Rows(name, first, last, sink.getvalue().to_pybytes())


def unpacked(rows: Iterable[Rows]) -> list[Any]:
    """The Arrow tables of `rows`."""
    import pyarrow as pa

    return [pa.ipc.open_stream(part.ipc).read_all() for part in rows]


def cut(store: PartitionStore, folder: Path, fleet: Fleet, partition: str) -> None:
    """Make files of all rows in the store below `folder`, one a portion, record them, and drop the rows.

    Raises LostPartition, and leaves no file, if the partition is somebody else's by now.
    """
    import pyarrow as pa

    failpoint("cut.before_write")
    written: dict[str, list[str]] = {}
    try:
        for name in LOGS:
            for rows in store.portions(name, PORTION):
                file = archive.cut_name(partition, rows[0].first, rows[-1].last, store.epoch)
                table = shadow_log.summed(_joined(rows)) if name == SHADOW_DAYS else _joined(rows)
                written.setdefault(name, []).extend(archive.write_cut(table, folder / name, fleet, file))
                pa.default_memory_pool().release_unused()
        failpoint("cut.after_write")
        store.record_cut(written)
    except DataError as error:
        _remove(folder, written)
        if not isinstance(error, LostPartition):
            store.check_owned()  # a new owner deletes unrecorded files, which looks like a fault of the disk
        raise


def _joined(rows: Iterable[Rows]) -> Any:
    import pyarrow as pa

    return pa.concat_tables(unpacked(rows)).unify_dictionaries()


def _remove(folder: Path, written: Mapping[str, Sequence[str]]) -> None:
    for name, paths in written.items():
        for path in paths:
            (folder / name / path).unlink(missing_ok=True)


def drop_unrecorded(folder: Path, partition: str, store: PartitionStore) -> None:
    """Delete what a cut of this partition left unfinished below `folder`."""
    recorded = store.files()
    for name in LOGS:
        archive.delete_unrecorded(folder / name, partition, recorded.get(name, []))


def read_log(folder: Path, name: str, schema: Any, group: str | None = None) -> Any:
    """All rows of a log of all partitions below `folder`, of one group or all, as one table: files and stores.

    Where a group started over, or several groups wrote here, a reading may be there more than once.
    """
    recorded, tables = log_parts(folder, name, group)
    return archive.read_table(folder / name, schema, recorded, tables)


def log_parts(folder: Path, name: str, group: str | None = None) -> tuple[list[str], list[Any]]:
    """Where the rows of a log are: recorded files, as paths below `folder`/`name`, and tables of what is in no file."""
    recorded: list[str] = []
    tables: list[Any] = []
    for path in store_paths(folder, group):
        store = StoreReader(path)
        with store.still():
            recorded += store.files().get(name, [])
            rows = store.rows(name)
        tables += unpacked(rows)
        store.close()
    return recorded, tables


def read_decisions(folder: Path, group: str | None = None) -> Any:
    """The decision log of a run, as a table of `anomaly.feedback.decisions.schema()`."""
    return read_log(folder, DECISIONS, decisions.schema(), group)


def read_archive(folder: Path, fleet: Fleet, group: str | None = None) -> Any:
    """The archived readings of a run, as a table of `anomaly.feedback.archive.reading_schema(fleet)`."""
    return read_log(folder, ARCHIVE, archive.reading_schema(fleet), group)


class LoggedDays:
    """What a run logged, day by day, for whoever must not read all of it; a fleet with a common clock."""

    def __init__(self, folder: Path, fleet: Fleet, group: str | None = None) -> None:
        self._folder, self._fleet = folder, fleet
        self._files: dict[str, dict[int, list[str]]] = {name: {} for name in LOGS}
        self._rows: dict[str, list[Any]] = {name: [] for name in LOGS}
        for path in store_paths(folder, group):
            store = StoreReader(path)
            with store.still():
                recorded, rows = store.files(), {name: store.rows(name) for name in LOGS}
            store.close()
            for name in LOGS:
                self._rows[name] += unpacked(rows[name])
                for file in recorded.get(name, []):
                    self._files[name].setdefault(_day_of(file), []).append(file)

    def days(self) -> list[int]:
        """The days with a reading, ascending, as numbers since 1970."""
        ticks = self._fleet.ticks_per_day
        held = {int(day) for table in self._rows[ARCHIVE] for day in np.unique(table["ts"].to_numpy() // ticks)}
        return sorted(held | self._files[ARCHIVE].keys())

    def newest(self) -> int | None:
        """The time of the newest reading, None without any."""
        days = self.days()
        times = self._read(ARCHIVE, days[-1], ["ts"])["ts"].to_numpy() if days else ()
        return int(np.max(times)) if len(times) else None

    def seen(self, day: int) -> Any:
        """A row for each vehicle that sent a reading on `day`: `vehicle` and its last context of that day."""
        import pyarrow as pa

        fields = list(self._fleet.context_fields)
        table = self._read(ARCHIVE, day, ["vehicle", *fields])
        for field in fields:
            table = table.set_column(table.column_names.index(field), field, table[field].cast(pa.string()))
        grouped = table.group_by("vehicle", use_threads=False).aggregate([(field, "last") for field in fields])
        return grouped.rename_columns([name.removesuffix("_last") for name in grouped.column_names]).select(
            ["vehicle", *fields]
        )

    def past(self, vehicles: Collection[str]) -> Past:
        """When the readings of `vehicles` were."""
        import pyarrow as pa
        import pyarrow.compute as pc

        wanted = pa.array(sorted(vehicles), pa.string())
        tables = [self._read(ARCHIVE, day, ["vehicle", "ts"]) for day in self.days()]
        own = pa.concat_tables([table.filter(pc.is_in(table["vehicle"], value_set=wanted)) for table in tables])
        codes = pc.index_in(own["vehicle"], value_set=wanted).to_numpy()
        return Past(wanted.to_pylist(), codes.astype(np.int64), own["ts"].to_numpy())

    def alarms(self) -> Any:
        """All rows of the decision log with an alarm."""
        return self._chosen(DECISIONS, decisions.schema(), ("alarm",))

    def shadow(self, first: int) -> tuple[Any, Any]:
        """Rows of the shadow log in which either model alarms, and its sums, of the days from `first` on."""
        rows = self._chosen(SHADOW, shadow_log.schema(), ("alarm", "shadow_alarm"), first)
        return rows, self._chosen(SHADOW_DAYS, shadow_log.day_schema(), (), first)

    def _chosen(self, name: str, schema: Any, alarms: Sequence[str], first: int | None = None) -> Any:
        """The rows of a log in which one of the columns `alarms` holds, all where there is none."""
        import pyarrow as pa

        days = [day for day in sorted(self._files[name]) if first is None or day >= first]
        parts: list[tuple[list[str], list[Any]]] = [(self._files[name][day], []) for day in days]
        parts += [([], [held]) for held in self._rows[name]]
        tables = [schema.empty_table()]
        for files, held in parts:
            table = archive.read_table(self._folder / name, schema, files, held)
            chosen = np.full(len(table), not alarms)
            for column in alarms:
                chosen |= table[column].to_numpy()
            tables.append(table.filter(pa.array(chosen)))
        return pa.concat_tables(tables).unify_dictionaries()

    def _read(self, name: str, day: int, columns: Sequence[str]) -> Any:
        import pyarrow as pa

        full = archive.reading_schema(self._fleet)
        wanted = pa.schema([full.field(column) for column in columns])
        ticks = self._fleet.ticks_per_day
        held = []
        for table in self._rows[name]:
            ts = table["ts"].to_numpy()
            own = np.flatnonzero(ts // ticks == day)
            if len(own):
                held.append(table.take(pa.array(own)))
        return archive.read_table(self._folder / name, wanted, self._files[name].get(day, []), held)


def _day_of(file: str) -> int:
    """The day of a recorded file, as a number since 1970.

    >>> _day_of("region=north/day=1970-01-03/x@0-1-1.parquet")
    2
    """
    return int(np.datetime64(file.split("day=", 1)[1].partition("/")[0], "D").astype(np.int64))


def cuts_of(group: str, topic: str, partition: int) -> str:
    """Whose a cut's files are, as their names begin: several groups may write below one folder.

    >>> cuts_of("night/1", "bus.telemetry", 3)
    'night%2F1~bus.telemetry-3'
    """
    return f"{quote(group, safe='').replace('~', '%7E')}~{topic}-{partition}"
