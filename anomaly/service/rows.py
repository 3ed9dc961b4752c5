"""Rows of the decision log and the archive: gathered between checkpoints, kept in the store, cut into files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from anomaly.engine.model import Arm
from anomaly.engine.outcome import Outcome
from anomaly.errors import DataError
from anomaly.feedback import archive, decisions
from anomaly.feedback.silences import silence_table
from anomaly.fleet import Fleet
from anomaly.service.failpoints import failpoint
from anomaly.service.store import LostPartition, PartitionStore
from anomaly.service.stored import Rows, StoreReader, store_paths
from anomaly.telemetry.batch import Batch

DECISIONS, ARCHIVE = "decisions", "archive"
LOGS = (DECISIONS, ARCHIVE)


PIECE = 65_536
"""Readings after which what is to be logged of them is packed: a checkpoint then has little left to do."""

PORTION = 1 << 23
"""Bytes of rows after which a cut begins another file: unpacked they are a few times as many, and all in memory."""


class LogRows:
    """What one partition has to log since the last checkpoint: columns that become Arrow, piece by piece."""

    def __init__(self, fleet: Fleet, partition: int) -> None:
        self._fleet = fleet
        self._partition = partition
        self._count = 0
        self._kept: list[decisions.Kept] = []
        self._readings: list[Batch] = []
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
        if len(outcome.silences.row):
            table = silence_table(outcome.silences, arms, self._fleet, self._partition)
            self._pieces += [_packed(DECISIONS, table, int(batch.offsets[-1]))] if len(table) else []
        if self._fleet.log.archive == "all":
            self._readings.append(batch.spelled())
        self._count += len(batch)

    def _pack(self) -> None:
        """Arrow of what was added; what arms are called may change after it."""
        kept, readings, self._kept, self._readings, self._count = self._kept, self._readings, [], [], 0
        if kept:
            rows = decisions.joined(kept)
            self._pieces.append(_packed(DECISIONS, decisions.table_of(rows, self._arms, self._fleet, self._partition)))
        if readings:
            batch = Batch.concatenated(readings)
            self._pieces.append(_packed(ARCHIVE, archive.reading_table(batch, self._fleet, self._partition)))

    def take(self) -> list[Rows]:
        """All that was added since the last call, in order, some entries for each log that has any."""
        self._pack()
        taken, self._pieces = self._pieces, []
        return taken


def _packed(name: str, table: Any, offset: int | None = None) -> Rows:
    """`offset` is that of the reading after which rows came that have none."""
    import pyarrow as pa

    offsets = table["offset"]
    first, last = (offset, offset) if offset is not None else (offsets[0].as_py(), offsets[-1].as_py())
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
                written.setdefault(name, []).extend(archive.write_cut(_joined(rows), folder / name, fleet, file))
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
